-- needs: waiting claims
-- unload -> [deaths, 1|0]: goes on with the return of what `settle` requeued; 1: it's done.
if not alive() then return fenced() end
work_when_full()
local deaths = {}
local _, done = go_back(OWNER, deaths)
return {deaths, done and 1 or 0}
