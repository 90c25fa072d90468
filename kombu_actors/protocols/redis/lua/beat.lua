-- needs: ending routing waiting claims departing
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

-- When nobody has renewed anything for longer than a lease (the server stood still, came back from a restart, or its
-- clock jumped), overdue leases say nothing about their owners: each gets a fresh one.
local last = tonumber(call('GET', NS .. 'beaten') or nil)
call('SET', NS .. 'beaten', now())
if last and now() - last > lease then
  for _, owner in ipairs(call('ZRANGE', OWNERS, 0, -1)) do call('ZADD', OWNERS, now() + lease, owner) end
end
call('ZADD', OWNERS, now() + lease, OWNER)
for _, owner in ipairs(call('ZRANGE', OWNERS, '-inf', '(' .. now(), 'BYSCORE', 'LIMIT', 0, MAX_OWNERS)) do
  depart(owner)
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
  elseif call('HLEN', NS .. 'consumers.' .. name) > 0 then
    used(name)
  elseif queue_of(name).policy.expires then
    end_queue(name)
  end
end
for _, timer in ipairs(call('ZRANGE', TIMERS, '-inf', now(), 'BYSCORE', 'LIMIT', 0, MAX_TIMERS)) do
  call('ZREM', TIMERS, timer)
  pcall(fire, string.match(timer, '^(%a+) (.*)$')) -- fails if a key of the queue's name holds something else
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

-- Where a JSON string begins whose closing quote is at this index.
local function opening(text, closing)
  local at = closing - 1
  while at > 0 do
    if string.sub(text, at, at) == '"' then
      local slashes = string.match(string.sub(text, 1, at - 1), '\\*$')
      if #slashes % 2 == 0 then return at end
    end
    at = at - 1
  end
end

-- kombu's `[envelope, "exchange", "routing key"]`, without decoding the envelope; nil if it's something else.
local function parse_stock(value)
  local closing = string.match(value, '()"%s*%]%s*$')
  local key_at = closing and opening(value, closing)
  local before = key_at and string.match(string.sub(value, 1, key_at - 1), '()"%s*,%s*$')
  local exchange_at = before and opening(value, before)
  local raw = exchange_at and string.match(string.sub(value, 1, exchange_at - 1), '^%s*%[%s*({.*})%s*,%s*$')
  local good, names = pcall(cjson.decode, raw and '[' .. string.sub(value, exchange_at) or '')
  if good then return raw, names[1], names[2] end
end

-- The list suffix of a message's priority, by kombu's rule.
local function suffix_of(raw)
  local good, message = pcall(cjson.decode, raw) -- only to look
  local priority = good and type(message.properties) == 'table' and tonumber(message.properties.priority) or 0
  local steps = {}
  for step in string.gmatch(ARGV[3], '%d+') do steps[#steps + 1] = tonumber(step) end
  table.sort(steps)
  local reached = steps[#steps]
  for i = #steps, 1, -1 do
    if steps[i] <= math.max(0, math.min(priority, 9)) then
      reached = steps[i]
      break
    end
  end
  return reached == 0 and '' or SEP .. reached
end

-- The queues of a stock message: its exchange's bindings are looked up again, as it doesn't say which queue it was in.
-- Nil for a broadcast: that was for one listener, and it's gone.
local function destinations(exchange, key)
  if exchange == '' then return {key} end
  local declared = exchange_of(exchange)
  local kind = declared and declared.type or 'stock'
  if kind == 'fanout' then return nil end
  local found = {}
  for _, binding in ipairs(bindings_of(exchange)) do
    if binding.kind == 'queue' and AGREES[kind](binding, key, function() return {} end) then
      found[#found + 1] = binding.destination
    end
  end
  return found
end

local function restore(value)
  local raw, exchange, key = parse_stock(value)
  local queues = {}
  if raw then
    queues = destinations(exchange, key)
    if not queues then return end
  end
  for _, name in ipairs(queues) do
    put_back(name, P .. name .. suffix_of(raw), (returned(raw)))
  end
  -- kombu would drop it.
  if #queues == 0 then call('LPUSH', NS .. 'undecodable', (key or '') .. SEP .. (raw or value)) end
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
        restore(value)
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
