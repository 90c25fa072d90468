-- Part for the scripts that publish: the delivery of a message to where it's routed.  Needs: pushing routing.

local ACCEPTED, UNROUTED, MISSING, REFUSED, INTERNAL = 0, 1, 2, 3, 4

-- Fanout subscribers, stock kombu's among them, get it now or never; returns how many there were.
local function broadcast(settings, exchange, message)
  local expires = message.lifetime and now() + message.lifetime or 0
  message.text = message.text or with_metadata(message.envelope, 0, expires) -- tells it from what stock kombu publishes
  local text = message.text
  local topic = P .. settings.fanout_prefix .. exchange
  toil(0.5, #text / 4)
  if not settings.fanout_patterns then return call('PUBLISH', topic, text) end
  local receivers = 0
  for _, key in ipairs(message.keys) do
    receivers = receivers + call('PUBLISH', key == '' and topic or topic .. '/' .. key, text)
  end
  return receivers
end

-- Queues that are gone, but not all of their bindings yet: none of those is to fill a list of their names.
local gone
local function is_gone(queue)
  if not gone then
    gone = {}
    for _, pile in ipairs(call('SMEMBERS', NS .. 'debris')) do
      gone[string.match(pile, '^q:(.-)%z', #NS + #'debris.' + 1) or 0] = true
    end
  end
  return gone[queue] and not queue_of(queue).recorded
end

-- A message for more queues than one call fills: the others' names are in its parcel, and what is known of it so far is
-- its state.  The caller brings both together again.
local PARCEL_LIFE = 600 -- s: a caller that died publishes it anew
local function parcel_of(message) return concat{NS, 'parcel.', OWNER, ':', message.parcel} end

local function pack(parcel, names, from)
  for first = from or 1, #names, 1000 do
    call('SADD', parcel, unpack(names, first, math.min(first + 999, #names)))
  end
end

local function names_of(reached)
  local names = {}
  for name in pairs(reached) do names[#names + 1] = name end
  return names
end

local function may_have(queue, message) return not (message.skip[queue] or is_gone(queue)) end

-- Whether a queue gets what is for its name; an unknown one, too, if it may: a stock consumer leaves no trace while its
-- queue is empty.  Not one that we named (kombu's names have dashes): that has a record, or is gone.
local function goes_by_name(queue, message)
  if message.skip[queue] then return false end
  return queue_of(queue).recorded or not (message.mandatory and not has_lists(queue) or string.find(queue, OUR_NAMES))
end

-- Route a message, and tell those who listen; returns the names of the queues that are to have it, and its state.
local function address(settings, message)
  local route = route_of(message)
  local topics = names_of(route.listened)
  if #topics > 1 and #topics * #message.envelope > WIDE then error(UNFINISHED, 0) end
  local heard, wanted = route.transient, {}
  for _, exchange in ipairs(topics) do
    if broadcast(settings, exchange, message) > 0 then
      heard = true
    else
      for _, queue in ipairs(route.instead[exchange] or {}) do wanted[queue] = true end
    end
  end
  for queue in pairs(route.queues) do wanted[queue] = true end
  for queue in pairs(wanted) do
    if not may_have(queue, message) then wanted[queue] = nil end
  end
  for queue in pairs(route.named) do
    if goes_by_name(queue, message) then wanted[queue] = true end
  end
  return names_of(wanted), {took = false, refused = false, heard = heard}
end

-- A way that is too long for one call is walked: NS"way." has all exchanges that the message has come to, each behind the
-- number of its key among the message's, in the order in which it came there; at: how many of them it has left behind;
-- here: how far it is with the next one.  NS"told." has those on whose topic it was published, and how many heard it.
-- Its queues are in the parcel.  What is bound or unbound meanwhile may count, or not; all else does.

local function way_of(message) return concat{NS, 'way.', OWNER, ':', message.parcel} end
local function told_by(message) return concat{NS, 'told.', OWNER, ':', message.parcel} end

local function come_to(message, number, exchange)
  local way = way_of(message)
  call('ZADD', way, 'NX', call('ZCARD', way), concat({number, exchange}, ' ')) -- behind all others
end

local function set_out(message)
  call('DEL', parcel_of(message), way_of(message), told_by(message))
  for number in ipairs(message.keys) do come_to(message, number, message.exchange) end
  return {at = 0, took = false, refused = false, heard = false}
end

-- How many heard a message that came to this exchange; it's published there once, by however many of its keys it comes.
local function tell_once(settings, exchange, message)
  local told = told_by(message)
  local receivers = call('HGET', told, exchange)
  if not receivers then
    receivers = broadcast(settings, exchange, message)
    call('HSET', told, exchange, receivers)
  end
  return tonumber(receivers)
end

-- Be done with the next exchange of a way, for a step; whether there was none.
local function go_on(settings, message, state)
  local item = call('ZRANGE', way_of(message), state.at, state.at)[1]
  if not item then return true end
  local number, name = string.match(item, '^(%d+) (.*)$')
  local key, parcel = message.keys[tonumber(number)], parcel_of(message)
  if name == '' then
    if key ~= '' and goes_by_name(key, message) then call('SADD', parcel, key) end
  else
    local kind = type_of(name)
    local listened = (kind == 'fanout' or kind == 'stock') and tell_once(settings, name, message) > 0
    state.heard = state.heard or listened
    state.here = state.here or {}
    look_around(name, kind, key, message, state.here, function(binding)
      if binding.kind == 'exchange' then
        come_to(message, number, binding.destination)
      elseif kind == 'fanout' and binding.in_table then
        state.heard = true
      elseif not (kind == 'stock' and listened) and may_have(binding.destination, message) then
        call('SADD', parcel, binding.destination)
      end
    end)
  end
  state.at, state.here = state.at + 1, nil
  toil(1)
  return false
end

-- Walk a message's way, for a step; whether it's at the end.
local function walk(settings, message, state)
  local good, done = true, false
  while good and not done and not weary() do good, done = pcall(go_on, settings, message, state) end
  if not good and done ~= UNFINISHED then
    call('DEL', parcel_of(message), way_of(message), told_by(message))
    error(done, 0)
  end
  if not good or not done then return false end
  call('DEL', way_of(message), told_by(message))
  state.at = nil
  return true
end

-- settings: {fanout_prefix, fanout_patterns, deadletter_queue ("" for none)}
-- message: {exchange, mandatory, suffix, lifetime, keys, skip, envelope, parcel (what tells it from others of the caller),
--   state (of a call before, or nil)}
-- Returns its code, or nil and its state when the call has done enough, and the message is to be sent again with that.
-- Raises an error when all was done that could be, if some queue couldn't store it.
local function deliver(deaths, settings, message)
  local state, parcel, names = message.state, parcel_of(message), nil
  if not state then
    local good
    good, names, state = pcall(address, settings, message)
    if not good then
      if names ~= UNFINISHED then error(names, 0) end
      names, state = nil, set_out(message)
    end
  end
  local parcelled = not names
  if state.at and not walk(settings, message, state) then
    for _, name in ipairs{parcel, way_of(message), told_by(message)} do call('EXPIRE', name, PARCEL_LIFE) end
    return nil, cjson.encode(state)
  end
  local function offer(queue)
    -- A queue that can't store it (a key of its name holds something else) keeps no other queue from it.
    local good, accepted = pcall(push, deaths, queue, message.suffix, message.envelope, message.lifetime)
    toil(0.5, #message.envelope / 4)
    if not good then
      state.failure = type(accepted) == 'table' and accepted.err or tostring(accepted)
    elseif accepted then
      state.took = true
    else
      state.refused = true
    end
  end

  local at = 1
  while true do
    if not names or at > #names then
      names, at = parcelled and call('SPOP', parcel, 100) or {}, 1
      if #names == 0 then break end
    end
    offer(names[at])
    at = at + 1
    if weary() then
      if not parcelled and at <= #names then call('DEL', parcel) end
      pack(parcel, names, at)
      if (parcelled or at <= #names) and call('EXPIRE', parcel, PARCEL_LIFE) == 1 then
        return nil, cjson.encode(state)
      end
      break
    end
  end

  if state.failure then error(state.failure, 0) end
  if not (state.took or state.refused or state.heard) and settings.deadletter_queue ~= ''
    and not message.skip[settings.deadletter_queue] then
    offer(settings.deadletter_queue)
  end
  if state.refused then return REFUSED end
  if state.took or state.heard then return ACCEPTED end
  if message.exchange ~= '' and not exchange_of(message.exchange) then return MISSING end
  return UNROUTED
end

local function reason_of(failure) -- as text; Redis 7 raises tables, and 6.2 says where, too
  return type(failure) == 'table' and failure.err or (string.gsub(tostring(failure), '^@user_script: ?%d+: %-?', ''))
end

-- Read one message's arguments; returns it and the index after it.
local function read_message(at)
  local message = {exchange = ARGV[at], mandatory = ARGV[at + 1] == '1', keys = {}, skip = {}}
  message.parcel = ''
  message.suffix = ARGV[at + 2] == '0' and '' or SEP .. ARGV[at + 2]
  message.lifetime = tonumber(ARGV[at + 3])
  at = at + 4
  local last = at + ARGV[at]
  for i = at + 1, last do message.keys[i - at] = ARGV[i] end
  at = last + 1
  last = at + ARGV[at]
  for i = at + 1, last do message.skip[ARGV[i]] = true end
  message.envelope = ARGV[last + 1]
  return message, last + 2
end
