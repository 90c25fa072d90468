-- needs: headers ending waiting claims departing
-- leave channel -> [count of claims given back or dead, deaths, 1|0]: ends what one channel of the caller holds; 1: it's
-- done, else it is to be called again.
if not alive() then return fenced() end
work_when_full()
local deaths = {}
local count, done = depart(OWNER, ARGV[FIRST], deaths)
return {count, deaths, done and 1 or 0}
