-- needs: ending waiting claims departing
-- release owner -> [count of claims given back]: ends an owner, of whom the caller knows that it's dead, or itself.
local owner = ARGV[FIRST]
if owner ~= OWNER and not alive() then return fenced() end
return {depart(owner)}
