-- Part for the scripts that end queues, exchanges and bindings: each takes what depends on it along.

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

-- A fanout binding also says which topic the queue's consumers listen to ("#" is spelled "*" there, as in kombu).
local function topic_entry(exchange, durable, key)
  return concat{durable and 'd' or 't', exchange, SEP, (string.gsub(key, '#', '*'))}
end

local function forget_topic(exchange, durable, key, queue)
  if call('SREM', NS .. 'fanout.' .. queue, topic_entry(exchange, durable, key)) == 1 then tell_consumers(queue, 'f') end
end

-- Both return whether there was such a binding.
local function remove_from_table(exchange, member)
  local key, _, queue = parse_member(member)
  if queue then
    call('SREM', bound_key('queue', queue), cjson.encode{exchange, 't', member})
    forget_topic(exchange, false, key, queue)
  end
  call('SREM', PERMANENT .. exchange, member)
  return call('SREM', TABLE .. exchange, member) == 1
end

local function remove_from_hash(exchange, member)
  local kind, destination, key = unpack(cjson.decode(member))
  call('SREM', bound_key(kind, destination), cjson.encode{exchange, 'h', member})
  if kind == 'queue' then forget_topic(exchange, true, key, destination) end
  return call('SREM', kept_key(exchange), member) + call('HDEL', NS .. 'bindings.' .. exchange, member) > 0
end

local function is_unused(exchange)
  return call('EXISTS', TABLE .. exchange, PERMANENT .. exchange, NS .. 'bindings.' .. exchange, kept_key(exchange)) == 0
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
  for _, member in ipairs(members_of_hash(exchange)) do remove_from_hash(exchange, member) end
  call('DEL', PERMANENT .. exchange)
  call('HDEL', EXCHANGES, exchange)
  met[exchange] = nil
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
