-- needs: ending waiting claims departing
-- cancel channel tag queue -> ["ok"]: what it has claimed stays the channel's.
local channel, tag, queue = ARGV[FIRST], ARGV[FIRST + 1], ARGV[FIRST + 2]
if not alive() then return fenced() end
unsubscribe(OWNER, channel, tag, queue)
if not sweep() then leave_work() end
local waiter = OWNER .. '/' .. channel
for _, consumer in ipairs(call('HKEYS', NS .. 'consumers.' .. queue)) do
  if string.sub(consumer, 1, #waiter + 1) == waiter .. '/' then return {'ok'} end -- it has another one there
end
quit_line(queue, waiter)
return {'ok'}
