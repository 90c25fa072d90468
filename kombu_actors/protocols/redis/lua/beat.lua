-- needs: headers ending pushing indexing routing waiting claims departing restoring
-- beat lease visibility_timeout renew queue.. -> [deaths, next_timer, [[owner, client, run, silent], ..]]
-- Renews the caller's lease (and with renew = "1" the scores of its claims), and does what is due: ends owners whose
-- lease is over, lets messages and queues expire, restores what stock kombus that died had claimed, all for a step: with
-- next_timer 0 it asks for another beat.  The owners are the others, and for how many ms nothing was heard of each, for
-- the caller to see if they are still connected, when it's its turn to look.  queues: those that the caller consumes from.
local lease, patience, renew = tonumber(ARGV[FIRST]), tonumber(ARGV[FIRST + 1]), ARGV[FIRST + 2] == '1'
local MAX_OWNERS, MAX_TIMERS, MAX_RESTORED = 5, 50, 10 -- per call
local consumed = {unpack(ARGV, FIRST + 3)}
for _, queue in ipairs(consumed) do consumed[queue] = true end
local BURYING, BURYING_MAX = 10, 1000 -- ms until one asks again whether another is done, and that it's waited for
local WATCH = 900 -- ms that pass until the next one may look for dead clients
if not alive() then return fenced() end
work_when_full()
local deaths, again = {}, false

-- What can't be done (a key holds something else than it should) must not keep the rest from being done, beat after beat.
local function attempt(deed, ...)
  local good, why = pcall(deed, ...)
  if not good and why ~= UNFINISHED then
    redis.log(redis.LOG_WARNING, 'kombu_actors: ' .. (type(why) == 'table' and why.err or tostring(why)))
  end
  return good, why
end

-- When nobody has renewed anything for longer than a lease (the server stood still, came back from a restart, or its
-- clock jumped), overdue leases say nothing about their owners: each gets a fresh one.  So when the clock went back, or
-- the dead would have theirs for as long as it went.
local last = tonumber(call('GET', NS .. 'beaten') or nil)
call('SET', NS .. 'beaten', now())
if last and (now() - last > lease or now() < last) then
  for _, owner in ipairs(call('ZRANGE', OWNERS, 0, -1)) do call('ZADD', OWNERS, now() + lease, owner) end
end
call('ZADD', OWNERS, now() + lease, OWNER)
for _, owner in ipairs(call('ZRANGE', OWNERS, '-inf', '(' .. now(), 'BYSCORE', 'LIMIT', 0, MAX_OWNERS)) do
  call('ZREM', OWNERS, owner)
  call('SADD', DEPARTING, owner)
end
for _, owner in ipairs(call('SRANDMEMBER', DEPARTING, MAX_OWNERS)) do
  if not weary() then attempt(depart, owner) end
end
attempt(sweep)

-- Let what has expired at the heads of a queue's lists die, and see when to look again.  A queue's messages stay in order:
-- while one owner is still writing their dead letters, no other takes those behind.
local function expire(name)
  local dying = NS .. 'dying.' .. name
  local other = call('HGET', dying, 'owner')
  if other and other ~= OWNER and call('ZSCORE', OWNERS, other) then return arm('ttl ' .. name, now() + BURYING) end
  local due, before = math.huge, #deaths
  for _, suffix in ipairs(SUFFIXES) do
    local list = P .. name .. suffix
    local raw = call('LINDEX', list, -1)
    while raw do
      local _, expires = metadata(raw)
      if expires == 0 then break end
      if expires > now() or weary() then
        due = math.min(due, expires)
        break
      end
      call('RPOP', list)
      die(deaths, name, list, raw, 'expired')
      raw = call('LINDEX', list, -1)
    end
  end
  if #deaths > before then
    call('HSET', dying, 'owner', OWNER)
    call('HINCRBY', dying, 'left', #deaths - before)
    call('PEXPIRE', dying, BURYING_MAX) -- some can't be written
  end
  if due < math.huge then arm('ttl ' .. name, due) end
end

local function fire(kind, name)
  if kind == 'ttl' then
    expire(name)
  elseif call('HLEN', NS .. 'consumers.' .. name) > 0 then
    used(name)
  elseif queue_of(name).policy.expires then
    end_queue(name)
  end
end
for _, timer in ipairs(call('ZRANGE', TIMERS, '-inf', now(), 'BYSCORE', 'LIMIT', 0, MAX_TIMERS)) do
  if weary() then break end
  call('ZREM', TIMERS, timer)
  attempt(fire, string.match(timer, '^(%a+) (.*)$'))
end

-- The scores of the caller's claims, from where the beat before stopped.
local function renew_claims()
  local progress = NS .. 'owner.' .. OWNER
  local cursor = call('HGET', progress, 'renewed') or renew and '0'
  while cursor and not weary() do
    local page = call('HSCAN', NS .. 'claims.' .. OWNER, cursor, 'COUNT', 200)
    local scores = {}
    for i = 1, #page[2], 2 do
      scores[#scores + 1], scores[#scores + 2] = now() / 1000, OWNER .. ':' .. page[2][i]
      if #scores == 1000 then
        call('ZADD', INDEX, 'XX', unpack(scores))
        scores = {}
      end
    end
    if #scores > 0 then call('ZADD', INDEX, 'XX', unpack(scores)) end
    toil(#page[2] / 20)
    cursor = page[1] ~= '0' and page[1]
  end
  if cursor then call('HSET', progress, 'renewed', cursor) else call('HDEL', progress, 'renewed') end
end

-- Who consumes a queue gives its messages back, when they are older than the longest promise that anyone of us has made:
-- a publisher with a short one knows nothing of the tasks that run.  The youngest first, so that the oldest will be in
-- front; from where the beat before stopped.
local function restore_stock()
  local progress, restored = NS .. 'owner.' .. OWNER, 0
  local skipped = tonumber(call('HGET', progress, 'restoring') or renew and 0 or nil)
  if not skipped or #consumed == 0 then return end
  local before = '(' .. (now() - call('ZRANGE', PROMISES, 0, 0, 'REV', 'WITHSCORES')[2]) / 1000
  while true do
    local field = call('ZRANGE', INDEX, before, '-inf', 'BYSCORE', 'REV', 'LIMIT', skipped, 1)[1]
    if not field then
      call('HDEL', progress, 'restoring')
      return
    end
    if weary() or restored == MAX_RESTORED then break end
    local owner = string.match(field, '^(%x+):%d+$')
    local known = owner and (call('ZSCORE', OWNERS, owner) or call('SISMEMBER', DEPARTING, owner) == 1)
    local value = not known and call('HGET', UNACKED, field)
    local good, outcome = true, 'restored'
    if value then good, outcome = attempt(restore, field, value, consumed) end
    if outcome == UNFINISHED then break end -- it stays where it is, and the next beat goes on
    if known or outcome == 'not ours' then
      skipped = skipped + 1
      toil(1)
    else
      call('ZREM', INDEX, field)
      call('HDEL', UNACKED, field)
      if not good then keep_aside('', value) end
      restored = restored + 1
    end
  end
  call('HSET', progress, 'restoring', skipped)
  again = true
end

if renew then call('ZADD', PROMISES, patience, OWNER) end
renew_claims()
restore_stock()

local others = {}
local watched = tonumber(call('GET', NS .. 'watch') or nil)
if not watched or now() - watched >= WATCH or now() < watched then
  call('SET', NS .. 'watch', now()) -- no expiry: the clock may go back
  local leases = call('ZRANGE', OWNERS, 0, -1, 'WITHSCORES')
  for i = 1, #leases, 2 do
    local owner, ends = leases[i], tonumber(leases[i + 1])
    local client, run, length = unpack(call('HMGET', NS .. 'owner.' .. owner, 'client', 'run', 'lease'))
    local silent = now() - (ends - (tonumber(length or nil) or 0))
    if silent < 0 then silent = lease end -- the clock was put back: who knows
    if owner ~= OWNER then others[#others + 1] = {owner, client or '', run or '', silent} end
  end
end
-- What was a script's argument stays in the server's Lua until that collects, which it does now and then, by calls; and
-- Redis 8 counts it as memory in use.  So one large message that was refused would keep a full server full for a minute.
local LITTER = 8192 -- kB, of which our scripts are some 1500
if not weary() and collectgarbage('count') > LITTER then collectgarbage() end

return {deaths, (again or weary()) and 0 or next_timer(), others}
