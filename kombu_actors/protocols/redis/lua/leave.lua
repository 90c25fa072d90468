-- needs: ending waiting claims departing
-- leave channel -> [count of claims given back or dead, deaths]: ends what one channel of the caller holds.
if not alive() then return fenced() end
work_when_full()
local deaths = {}
return {depart(OWNER, ARGV[FIRST], deaths), deaths}
