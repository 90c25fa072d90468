-- Part for the scripts that publish: the delivery of a message to where it's routed.  Needs: pushing routing.

local ACCEPTED, UNROUTED, MISSING, REFUSED, INTERNAL = 0, 1, 2, 3, 4

-- Fanout subscribers, stock kombu's among them, get it now or never; returns how many there were.
local function broadcast(settings, exchange, message)
  local expires = message.lifetime and now() + message.lifetime or 0
  local text = with_metadata(message.envelope, 0, expires) -- tells it from what stock kombu publishes
  local topic = P .. settings.fanout_prefix .. exchange
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

local function names_of(reached)
  local names = {}
  for name in pairs(reached) do names[#names + 1] = name end
  return names
end

-- Route a message, and tell those who listen; returns the names of the queues that are to have it, and its state.
local function address(settings, message)
  local route = route_of(message)
  local heard, wanted = route.transient, {}
  for exchange in pairs(route.listened) do
    local receivers = broadcast(settings, exchange, message)
    if receivers > 0 then
      heard = true
    else
      for _, queue in ipairs(route.instead[exchange] or {}) do wanted[queue] = true end
    end
  end
  for queue in pairs(route.queues) do wanted[queue] = true end
  for queue in pairs(wanted) do
    if is_gone(queue) then wanted[queue] = nil end
  end
  for queue in pairs(route.named) do
    -- An unknown queue gets it all the same, if it may: a stock consumer leaves no trace while its queue is empty.
    -- Not one that we named (kombu's names have dashes): that has a record, or is gone.
    local recorded = queue_of(queue).recorded
    if recorded or not (message.mandatory and not has_lists(queue) or string.find(queue, OUR_NAMES)) then
      wanted[queue] = true
    end
  end
  for queue in pairs(message.skip) do wanted[queue] = nil end
  return names_of(wanted), {took = false, refused = false, heard = heard}
end

-- settings: {fanout_prefix, fanout_patterns, deadletter_queue ("" for none)}
-- message: {exchange, mandatory, suffix, lifetime, keys, skip, envelope, parcel (what tells it from others of the caller),
--   state (of a call before, or nil)}
-- Returns its code, or nil and its state when the call has done enough, and the message is to be sent again with that.
-- Raises an error when all was done that could be, if some queue couldn't store it; or UNFINISHED, with nothing done.
local function deliver(deaths, settings, message)
  local state, names = message.state, nil
  if not state then names, state = address(settings, message) end
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
      names, at = message.state and call('SPOP', parcel_of(message), 100) or {}, 1
      if #names == 0 then break end
    end
    offer(names[at])
    at = at + 1
    if weary() then
      local parcel = parcel_of(message)
      if not message.state and at <= #names then call('DEL', parcel) end
      for first = at, #names, 1000 do
        call('SADD', parcel, unpack(names, first, math.min(first + 999, #names)))
      end
      if (message.state or at <= #names) and call('EXPIRE', parcel, PARCEL_LIFE) == 1 then
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
