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

-- Of very many bindings the queues of the next ones, and where those after them begin; nil: there are none.
-- text: what they begin with in the index, after: the last one before them; or false, and where they are in the hash.
local PAGE = 200
local function next_of_range(exchange, text, after)
  local queues = {}
  if text then
    local size = size_of(exchange)
    if size > 0 then ready_index(exchange, size) end
    local members = beginning_with(exchange, text, PAGE, after)
    for i, member in ipairs(members) do queues[i] = select(3, parse_member(member)) or false end
    return queues, members[PAGE]
  end
  local page = call('HSCAN', NS .. 'bindings.' .. exchange, after, 'COUNT', PAGE)
  for i = 1, #page[2], 2 do
    local kind, destination = unpack(cjson.decode(page[2][i]))
    queues[#queues + 1] = kind == 'queue' and destination
  end
  return queues, page[1] ~= '0' and page[1] or nil
end

-- Put the queues of a message's ranges into its parcel, which has each once, for a step; whether those were all.
local function gather_ranges(message, ranges)
  while #ranges > 0 do
    local exchange, text, after = unpack(ranges[1])
    local good, queues, rest = pcall(next_of_range, exchange, text, after)
    if not good and queues == UNFINISHED then break end
    if not good then error(queues, 0) end
    local names = {}
    for _, queue in ipairs(queues) do
      if queue and may_have(queue, message) then names[#names + 1] = queue end
    end
    if #names > 0 then call('SADD', parcel_of(message), unpack(names)) end
    if rest then ranges[1] = {exchange, text, rest} else table.remove(ranges, 1) end
    toil(#queues / 2)
    if weary() then break end
  end
  return #ranges == 0
end

-- Route a message, and tell those who listen; returns the names of the queues that are to have it, and its state, with
-- the ranges in which there are more.
local function address(settings, message)
  local route = route_of(message)
  local heard, wanted, ranges = route.transient, {}, {}
  for exchange in pairs(route.listened) do
    local receivers = broadcast(settings, exchange, message)
    if receivers > 0 then
      heard = true
    else
      for _, place in ipairs(route.instead[exchange] or {}) do
        if type(place) == 'table' then ranges[#ranges + 1] = place else wanted[place] = true end
      end
    end
  end
  for _, range in ipairs(route.ranges) do ranges[#ranges + 1] = range end
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
  return names_of(wanted), {took = false, refused = false, heard = heard, ranges = ranges}
end

-- Take the queues out of what was seen of headers exchanges.
local function queues_seen(message)
  local names = {}
  for _, looked in pairs(message.looked) do
    for queue in pairs(looked.queues) do
      if may_have(queue, message) then names[#names + 1] = queue end
    end
    looked.queues = {}
  end
  return names
end

-- settings: {fanout_prefix, fanout_patterns, deadletter_queue ("" for none)}
-- message: {exchange, mandatory, suffix, lifetime, keys, skip, envelope, parcel (what tells it from others of the caller),
--   state (of a call before, or nil)}
-- Returns its code, or nil and its state when the call has done enough, and the message is to be sent again with that.
-- Raises an error when all was done that could be, if some queue couldn't store it.
local function deliver(deaths, settings, message)
  local state, parcel = message.state, parcel_of(message)
  local names, parcelled = nil, state ~= nil
  if not state or state.looked then -- it isn't addressed yet
    message.looked = state and state.looked or {}
    local good
    good, names, state = pcall(address, settings, message)
    if not good then
      if names ~= UNFINISHED then error(names, 0) end
      names, state = queues_seen(message), {looked = message.looked}
    end
    if not parcelled and (state.looked or #state.ranges > 0) then
      call('DEL', parcel)
      parcelled = true
    end
    if parcelled then
      pack(parcel, names)
      names = nil
    end
  end
  if state.looked or not gather_ranges(message, state.ranges) then
    call('EXPIRE', parcel, PARCEL_LIFE)
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
