-- needs: waiting claims
-- consume channel tag queue exclusive -> ["ok", flagged-spec or "", [fanout topics]] | ["missing"] | ["locked"] | ["refused"]
local channel, tag, queue, exclusive = ARGV[FIRST], ARGV[FIRST + 1], ARGV[FIRST + 2], ARGV[FIRST + 3]
if not alive() then return fenced() end
work_when_full()
if not has_queue(queue) then return {'missing'} end
length(queue) -- an error if one of its keys holds something else
if locked(queue_of(queue)) then return {'locked'} end
local consumers = NS .. 'consumers.' .. queue
local others = call('HLEN', consumers)
-- An exclusive consumer is alone, so the only one needs to be looked at.
if others > 0 and exclusive == '1' or others == 1 and call('HVALS', consumers)[1] == '1' then return {'refused'} end
call('HSET', consumers, concat({OWNER, channel, tag}, '/'), exclusive)
call('SADD', NS .. 'held.' .. OWNER, concat({'c:' .. queue, channel, tag}, '\0'))
used(queue)
return {'ok', call('HGET', QUEUES, queue) or '', call('SMEMBERS', NS .. 'fanout.' .. queue)}
