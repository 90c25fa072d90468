-- queue_purge name -> ["ok", count] | ["missing"] | ["locked"]
local name = ARGV[FIRST]
if not alive() then return fenced() end
local queue = queue_of(name)
if locked(queue) then return {'locked'} end
if not queue.recorded and not has_lists(name) then return {'missing'} end
local count = length(name)
for _, suffix in ipairs(SUFFIXES) do call('UNLINK', P .. name .. suffix) end
call('ZREM', TIMERS, 'ttl ' .. name)
return {'ok', count}
