-- needs: headers ending waiting claims departing
-- release owner -> [count of claims given back, 1|0]: ends an owner, of whom the caller knows that it's dead, or itself;
-- 1: it's done, else it is to be called again, if only by those who beat.
local owner = ARGV[FIRST]
if owner ~= OWNER and not alive() then return fenced() end
work_when_full()
local count, done = depart(owner)
return {count, done and 1 or 0}
