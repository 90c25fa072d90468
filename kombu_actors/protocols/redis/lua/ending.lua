-- Part for the scripts that end queues, exchanges and bindings: each takes what depends on it along.  Needs: headers.

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
  call('ZREM', index_of(exchange), member)
  return call('SREM', TABLE .. exchange, member) == 1
end

local function remove_from_hash(exchange, member)
  local kind, destination, key = unpack(cjson.decode(member))
  call('SREM', bound_key(kind, destination), cjson.encode{exchange, 'h', member})
  if kind == 'queue' then forget_topic(exchange, true, key, destination) end
  local was_kept = call('SREM', kept_key(exchange), member) == 1
  local was_there = call('HDEL', NS .. 'bindings.' .. exchange, member) == 1
  if was_there and (exchange_of(exchange) or {}).type == 'headers' then follow_in_index(exchange, member, -1) end
  return was_kept or was_there
end

local function is_unused(exchange)
  return call('EXISTS', TABLE .. exchange, PERMANENT .. exchange, NS .. 'bindings.' .. exchange, kept_key(exchange)) == 0
end

-- What ends may have had more bindings than one call can take out.  They are set aside under names of their own, NS"debris."
-- and the kind of what is gone: "q:" and "x:" have entries of a reverse index, "t:" and "h:" members of an exchange's table
-- and hash.  `sweep` takes them out, a step at a time; what has been bound again meanwhile stays.
local DEBRIS = NS .. 'debris'

local function set_aside(kind, name, key)
  if call('EXISTS', key) == 0 then return end
  local pile = concat({NS .. 'debris.' .. kind .. name, OWNER, unpack(call('TIME'))}, '\0') -- no other has that name
  call('RENAME', key, pile)
  call('SADD', DEBRIS, pile)
end

-- End an exchange; its bindings are set aside.
local function uproot(exchange)
  set_aside('t:', exchange, TABLE .. exchange)
  set_aside('h:', exchange, kept_key(exchange))
  call('UNLINK', PERMANENT .. exchange, NS .. 'bindings.' .. exchange, index_of(exchange))
  call('HDEL', EXCHANGES, exchange)
  call('HDEL', NS .. 'indexes', exchange)
  call('HDEL', NS .. 'refilling', exchange)
  met[exchange] = nil
  set_aside('x:', exchange, bound_key('exchange', exchange))
end

-- End those of the exchanges that were declared auto-delete and lost their last binding; `sweep` goes on upwards.
local function end_unused(exchanges)
  for exchange in pairs(exchanges) do
    local text = call('HGET', EXCHANGES, exchange)
    if text and cjson.decode(text).auto_delete == true and is_unused(exchange) then
      uproot(exchange)
    end
  end
end

-- Take one binding out that was set aside; returns the exchange that has one less.
local function clear(kind, name, member)
  if kind == 't' then
    if call('SISMEMBER', TABLE .. name, member) == 0 then remove_from_table(name, member) end
  elseif kind == 'h' then
    if call('SISMEMBER', kept_key(name), member) == 0 then remove_from_hash(name, member) end
  elseif call('SISMEMBER', bound_key(kind == 'q' and 'queue' or 'exchange', name), member) == 0 then
    local exchange, where, binding = unpack(cjson.decode(member))
    if where == 't' then remove_from_table(exchange, binding) else remove_from_hash(exchange, binding) end
    return exchange
  end
end

-- Take bindings out that were set aside, for a step; returns whether all are out.
local function sweep()
  while not weary() do
    local pile = call('SRANDMEMBER', DEBRIS)
    if not pile then return true end
    local kind, name = string.match(pile, '^(.):(.-)%z', #NS + #'debris.' + 1)
    local exchanges, members = {}, call('SPOP', pile, 50)
    for _, member in ipairs(members) do
      local exchange = clear(kind, name, member)
      if exchange then exchanges[exchange] = true end
      toil(3)
    end
    if #members == 0 then call('SREM', DEBRIS, pile) end
    end_unused(exchanges)
  end
  return call('EXISTS', DEBRIS) == 0
end

-- End a queue with everything that belongs to it, its bindings set aside; returns how many messages waited in it.
local function end_queue(name)
  local count = length(name)
  tell_consumers(name, 'x')
  for _, consumer in ipairs(call('HKEYS', NS .. 'consumers.' .. name)) do
    local owner, channel, tag = string.match(consumer, '^([^/]*)/([^/]*)/(.*)$')
    call('SREM', NS .. 'held.' .. owner, concat({'c:' .. name, channel, tag}, '\0'))
  end
  for _, waiter in ipairs(call('ZRANGE', NS .. 'waiting.' .. name, 0, -1)) do
    local owner, channel = string.match(waiter, '^([^/]*)/(.*)$')
    call('SREM', NS .. 'held.' .. owner, concat({'w:' .. name, channel}, '\0'))
  end
  local queue = queue_of(name)
  if queue.owner then call('SREM', NS .. 'held.' .. queue.owner, 'q:' .. name) end
  call('DEL', NS .. 'consumers.' .. name, NS .. 'waiting.' .. name, NS .. 'sentries.' .. name)
  call('ZREM', TIMERS, 'ttl ' .. name, 'idle ' .. name)
  call('HDEL', QUEUES, name)
  known[name] = nil
  for _, suffix in ipairs(SUFFIXES) do call('UNLINK', P .. name .. suffix) end
  set_aside('q:', name, bound_key('queue', name))
  call('DEL', NS .. 'fanout.' .. name)
  if queue.owner or queue.auto_delete or queue.policy.expires then
    call('SET', LATE .. name, '', 'EX', LATE_LIFE) -- what is published to it from now on nobody will fetch, most likely
  end
  return count
end
