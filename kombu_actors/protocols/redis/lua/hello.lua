-- needs: headers ending waiting claims departing rights
-- hello client run lease predecessor-or-"" -> ["ok", next_timer] | ["refused", [command ..]]: registers the owner.
-- predecessor: the former link of the same program, whose claims need not wait until its lease ends.
local client, run, lease, predecessor = ARGV[FIRST], ARGV[FIRST + 1], ARGV[FIRST + 2], ARGV[FIRST + 3]
local refused = refused_commands()
if #refused > 0 then return {'refused', refused} end
work_when_full()
if predecessor ~= '' then depart(predecessor) end -- for a step; beats go on with it

-- A script that fails is not undone: where a claim is recorded must not turn out to be forbidden, or of another type,
-- when its message has left the queue.  So that is tried here, before there is any.
local field = OWNER .. ':0'
call('HSET', UNACKED, field, '')
call('ZADD', INDEX, 0, field)
call('HSET', NS .. 'claims.' .. OWNER, '0', '')
unclaim(OWNER, {'0'})

call('ZADD', OWNERS, now() + lease, OWNER)
call('HSET', NS .. 'owner.' .. OWNER, 'client', client, 'run', run, 'lease', lease)
return {'ok', call('EXISTS', DEPARTING) == 1 and 0 or next_timer()}
