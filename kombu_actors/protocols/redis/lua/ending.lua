-- Part for the scripts that end queues, exchanges and bindings: each takes what depends on it along.

local TABLE, PERMANENT = P .. '_kombu.binding.', P .. '_kombu.binding_permanent.'

-- Tell every owner that consumes from a queue: "x <queue>" it was deleted, "f <queue>" its fanout topics changed.
local function tell_consumers(name, what)
  local told = {}
  for _, consumer in ipairs(call('HKEYS', NS .. 'consumers.' .. name)) do
    local owner = string.match(consumer, '^[^/]*')
    if not told[owner] then
      told[owner] = true
      call('PUBLISH', NS .. 'wake.' .. owner, what .. ' ' .. name)
    end
  end
end

-- Bindings are taken out by the entries of the reverse index NS"bound.": [exchange, where, member] as JSON, where "t" is
-- kombu's table and "h" our hash.
local function bound_key(kind, name)
  return NS .. 'bound.' .. (kind == 'queue' and 'q:' or 'x:') .. name
end

-- "key SEP pattern SEP queue"; a queue's name may hold SEP, as kombu would not.
local function parse_member(member)
  local first, after = string.find(member, SEP, 1, true)
  local second, rest = string.find(member, SEP, (after or 0) + 1, true)
  if not second then return nil end
  return string.sub(member, 1, first - 1), string.sub(member, after + 1, second - 1), string.sub(member, rest + 1)
end

local function without_hash(key)
  return (string.gsub(key, '#', '*'))
end

-- A fanout binding also says which topic the queue's consumers listen to.
local function forget_topic(exchange, durable, key, queue)
  local entry = (durable and 'd' or 't') .. exchange .. SEP .. without_hash(key)
  if call('SREM', NS .. 'fanout.' .. queue, entry) == 1 then tell_consumers(queue, 'f') end
end

local function remove_from_table(exchange, member)
  local key, _, queue = parse_member(member)
  call('SREM', TABLE .. exchange, member)
  call('SREM', PERMANENT .. exchange, member)
  if queue then
    call('SREM', bound_key('queue', queue), cjson.encode{exchange, 't', member})
    forget_topic(exchange, false, key, queue)
  end
end

local function remove_from_hash(exchange, member)
  local kind, destination, key = unpack(cjson.decode(member))
  call('HDEL', NS .. 'bindings.' .. exchange, member)
  call('SREM', bound_key(kind, destination), cjson.encode{exchange, 'h', member})
  if kind == 'queue' then forget_topic(exchange, true, key, destination) end
end

local function is_unused(exchange)
  return call('EXISTS', TABLE .. exchange, NS .. 'bindings.' .. exchange) == 0
end

-- Take the bindings out that lead to a destination; returns the exchanges they came from.
local function remove_arriving(kind, name)
  local sources = {}
  for _, entry in ipairs(call('SMEMBERS', bound_key(kind, name))) do
    local exchange, where, member = unpack(cjson.decode(entry))
    sources[#sources + 1] = exchange
    if where == 't' then remove_from_table(exchange, member) else remove_from_hash(exchange, member) end
  end
  return sources
end

-- End an exchange; returns the exchanges that were bound to it.
local function uproot(exchange)
  for _, member in ipairs(call('SMEMBERS', TABLE .. exchange)) do remove_from_table(exchange, member) end
  for _, member in ipairs(call('HKEYS', NS .. 'bindings.' .. exchange)) do remove_from_hash(exchange, member) end
  call('DEL', PERMANENT .. exchange)
  call('HDEL', EXCHANGES, exchange)
  return remove_arriving('exchange', exchange)
end

-- End those of the exchanges that were declared auto-delete and lost their last binding, and so on upwards: each ends
-- once, so this does too.
local function end_unused(exchanges)
  while #exchanges > 0 do
    local exchange = table.remove(exchanges)
    local text = call('HGET', EXCHANGES, exchange)
    if text and cjson.decode(text).auto_delete == true and is_unused(exchange) then
      for _, source in ipairs(uproot(exchange)) do exchanges[#exchanges + 1] = source end
    end
  end
end

-- End a queue with everything that belongs to it; returns how many messages waited in it.
local function end_queue(name)
  local count = length(name)
  tell_consumers(name, 'x')
  for _, consumer in ipairs(call('HKEYS', NS .. 'consumers.' .. name)) do
    local owner, channel, tag = string.match(consumer, '^([^/]*)/([^/]*)/(.*)$')
    call('SREM', NS .. 'held.' .. owner, concat({'c:' .. name, channel, tag}, '\0'))
  end
  for _, waiter in ipairs(call('ZRANGE', NS .. 'waiting.' .. name, 0, -1)) do
    call('SREM', NS .. 'held.' .. string.match(waiter, '^[^/]*'), 'w:' .. name)
  end
  local queue = queue_of(name)
  if queue.owner then call('SREM', NS .. 'held.' .. queue.owner, 'q:' .. name) end
  call('DEL', NS .. 'consumers.' .. name, NS .. 'waiting.' .. name, NS .. 'sentries.' .. name)
  call('ZREM', TIMERS, 'ttl ' .. name, 'idle ' .. name)
  call('HDEL', QUEUES, name)
  known[name] = nil
  for _, suffix in ipairs(SUFFIXES) do call('DEL', P .. name .. suffix) end
  end_unused(remove_arriving('queue', name))
  call('DEL', NS .. 'fanout.' .. name)
  return count
end
