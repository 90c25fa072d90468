-- needs: ending routing waiting claims departing restoring
-- beat lease visibility_timeout renew -> [deaths, next_timer, [[owner, client, run], ..]]
-- Renews the caller's lease (and with renew = "1" the scores of its claims), and does what is due: ends owners whose
-- lease is over, lets messages and queues expire, restores what stock kombus that died had claimed.  The owners are
-- the others, for the caller to see if they are still connected, when it's its turn to look.
local lease, patience, renew = tonumber(ARGV[FIRST]), tonumber(ARGV[FIRST + 1]), ARGV[FIRST + 2] == '1'
local MAX_OWNERS, MAX_TIMERS, MAX_EXPIRED, MAX_RESTORED = 5, 50, 200, 10 -- per call: a script must end
local WATCH = 900 -- ms that pass until the next one may look for dead clients
if not alive() then return fenced() end
work_when_full()
local deaths = {}

-- What can't be done (a key holds something else than it should) must not keep the rest from being done, beat after beat.
local function attempt(deed, ...)
  local good, why = pcall(deed, ...)
  if not good then
    redis.log(redis.LOG_WARNING, 'kombu_actors: ' .. (type(why) == 'table' and why.err or tostring(why)))
  end
  return good
end

-- When nobody has renewed anything for longer than a lease (the server stood still, came back from a restart, or its
-- clock jumped), overdue leases say nothing about their owners: each gets a fresh one.
local last = tonumber(call('GET', NS .. 'beaten') or nil)
call('SET', NS .. 'beaten', now())
if last and now() - last > lease then
  for _, owner in ipairs(call('ZRANGE', OWNERS, 0, -1)) do call('ZADD', OWNERS, now() + lease, owner) end
end
call('ZADD', OWNERS, now() + lease, OWNER)
for _, owner in ipairs(call('ZRANGE', OWNERS, '-inf', '(' .. now(), 'BYSCORE', 'LIMIT', 0, MAX_OWNERS)) do
  attempt(depart, owner)
end

-- Let what has expired at the heads of a queue's lists die, and see when to look again.
local function expire(name)
  local most, due = MAX_EXPIRED, math.huge
  for _, suffix in ipairs(SUFFIXES) do
    local list = P .. name .. suffix
    local raw = call('LINDEX', list, -1)
    while raw do
      local _, expires = metadata(raw)
      if expires == 0 then break end
      if expires > now() or most == 0 then
        due = math.min(due, expires)
        break
      end
      most = most - 1
      call('RPOP', list)
      die(deaths, name, list, raw, 'expired')
      raw = call('LINDEX', list, -1)
    end
  end
  if due < math.huge then arm('ttl ' .. name, due) end
end

local function fire(kind, name)
  if kind == 'ttl' then
    expire(name)
  elseif call('HLEN', NS .. 'consumers.' .. name) == 0 and queue_of(name).policy.expires then
    end_queue(name) -- otherwise its time begins again when its last consumer goes
  end
end
for _, timer in ipairs(call('ZRANGE', TIMERS, '-inf', now(), 'BYSCORE', 'LIMIT', 0, MAX_TIMERS)) do
  call('ZREM', TIMERS, timer)
  attempt(fire, string.match(timer, '^(%a+) (.*)$'))
end

local function renew_claims()
  local seqs = call('HKEYS', NS .. 'claims.' .. OWNER)
  for first = 1, #seqs, 500 do
    local scores = {}
    for i = first, math.min(first + 499, #seqs) do
      scores[#scores + 1], scores[#scores + 2] = now() / 1000, OWNER .. ':' .. seqs[i]
    end
    call('ZADD', INDEX, 'XX', unpack(scores))
  end
end

-- The youngest first, so that the oldest will be in front.
local function restore_stock()
  local restored = 0
  local overdue = {'(' .. (now() - patience) / 1000, '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, 100}
  for _, field in ipairs(call('ZRANGE', INDEX, unpack(overdue))) do
    local owner = string.match(field, '^(%x+):%d+$')
    if not (owner and call('ZSCORE', OWNERS, owner)) and restored < MAX_RESTORED then
      local value = call('HGET', UNACKED, field)
      call('ZREM', INDEX, field)
      call('HDEL', UNACKED, field)
      if value then
        if not attempt(restore, value) then keep_aside('', value) end
        restored = restored + 1
      end
    end
  end
end

if renew then
  renew_claims()
  restore_stock()
end

local others = {}
if call('SET', NS .. 'watch', OWNER, 'NX', 'PX', WATCH) then
  for _, owner in ipairs(call('ZRANGE', OWNERS, 0, -1)) do
    local known_as = call('HMGET', NS .. 'owner.' .. owner, 'client', 'run')
    if owner ~= OWNER then others[#others + 1] = {owner, known_as[1] or '', known_as[2] or ''} end
  end
end
return {deaths, next_timer(), others}
