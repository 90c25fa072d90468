-- needs: headers ending
-- exchange_delete name if_unused -> ["ok"] | ["in-use"]
local name, if_unused = ARGV[FIRST], ARGV[FIRST + 1] == '1'
if not alive() then return fenced() end
if if_unused and not is_unused(name) then return {'in-use'} end
uproot(name)
if not sweep() then leave_work() end
return {'ok'}
