-- needs: headers ending
-- queue_delete name if_unused if_empty -> ["ok", count] | ["in-use"] | ["not-empty"] | ["locked"]
local name, if_unused, if_empty = ARGV[FIRST], ARGV[FIRST + 1] == '1', ARGV[FIRST + 2] == '1'
if not alive() then return fenced() end
if locked(queue_of(name)) then return {'locked'} end
if if_unused and call('HLEN', NS .. 'consumers.' .. name) > 0 then return {'in-use'} end
if if_empty and length(name) > 0 then return {'not-empty'} end
local count = end_queue(name)
if not sweep() then leave_work() end
return {'ok', count}
