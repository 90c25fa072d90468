-- Part for the scripts that publish: where a message goes.  Needs: headers indexing.

-- Topic patterns.

local split = {}
local function words(key) -- the words between dots; the empty key has none
  local found = split[key]
  if not found then
    found = {}
    if key ~= '' then
      for word in string.gmatch(key .. '.', '([^.]*)%.') do found[#found + 1] = word end
    end
    split[key] = found
  end
  return found
end

-- "*" is one word, "#" any number.  Only the last "#" is ever lengthened: what an earlier one could take, it can as
-- well.  So a hostile pattern costs its length times the key's, no more.
local function topic_matches(pattern, key)
  local at, word, loop, resume = 1, 1, nil, nil
  while word <= #key do
    if pattern[at] == '#' then
      loop, resume = at, word
      at = at + 1
    elseif pattern[at] == '*' or pattern[at] == key[word] then
      at, word = at + 1, word + 1
    elseif loop then
      resume = resume + 1
      at, word = loop + 1, resume
    else
      return false
    end
  end
  while pattern[at] == '#' do at = at + 1 end
  return at > #pattern
end

-- Headers.

-- Only to compare: nothing of what is decoded is ever written.
local function headers_in(envelope)
  local closing = body_end(envelope)
  local rest = closing and '{' .. string.sub(envelope, closing + 3) or envelope -- a megabyte takes 5 ms
  toil(0.5, #rest)
  local good, message = pcall(cjson.decode, rest)
  local headers = good and type(message) == 'table' and message.headers
  return type(headers) == 'table' and headers or {}
end

local function headers_of(message)
  message.headers = message.headers or headers_in(message.envelope)
  return message.headers
end

-- Bindings.

local function add_table(found, members)
  for _, member in ipairs(members) do
    local key, pattern, queue = parse_member(member)
    if queue then
      found[#found + 1] = {kind = 'queue', destination = queue, key = key, pattern = pattern, in_table = true}
    end
  end
end

local function add_member_of_hash(found, member)
  local kind, destination, key, arguments = unpack(cjson.decode(member))
  found[#found + 1] = {kind = kind, destination = destination, key = key, arguments = arguments}
end

local sizes = {}
local function size_of(exchange)
  local size = sizes[exchange]
  if not size then
    size = call('SCARD', TABLE .. exchange)
    if size == 0 and call('EXISTS', PERMANENT .. exchange) == 1 then
      -- Evicted, or deleted by somebody: kombu 5.7 and we keep the same members there.
      size = call('SUNIONSTORE', TABLE .. exchange, PERMANENT .. exchange)
    end
    sizes[exchange] = size
  end
  return size
end

-- What begins with a text in an exchange's index.  Of very many members the first stands for all, as they agree with the
-- same keys: it has the range that they are in.
local function add_beginning_with(found, exchange, text)
  local members = beginning_with(exchange, text, MANY + 1)
  if #members <= MANY then return add_table(found, members) end
  local key, pattern = parse_member(members[1])
  found[#found + 1] = {kind = 'queue', range = {'index', text}, key = key, pattern = pattern, in_table = true}
end

-- The few bindings that an exchange's table and hash have.
local tables, hashes = {}, {}
local function bindings_in_table(exchange)
  local found = tables[exchange]
  if not found then
    found = {}
    add_table(found, call('SMEMBERS', TABLE .. exchange))
    tables[exchange] = found
    toil(0.5 + #found / 10)
  end
  return found
end

local function bindings_in_hash(exchange)
  local found = hashes[exchange]
  if not found then
    found = {}
    for _, member in ipairs(call('HKEYS', NS .. 'bindings.' .. exchange)) do add_member_of_hash(found, member) end
    hashes[exchange] = found
    toil(0.5 + #found / 5)
  end
  return found
end

-- Of very many bindings a page is looked at at a time.  Where the next page begins is a range:
--   {"index", text, after}   members of an exchange's index that begin with a text, after one of them (nil: from the first)
--   {"hash", cursor}         of its hash
--   {"headers", at, after}   of a headers exchange's index, from one of the texts of the message's headers on
-- Each of PAGES returns the bindings of a page that agree with a message, and the next range; nil: that was all.

local PAGE = 200
local PAGES = {}
local WIDE = 4 * 512 * STEP -- bytes of a message, as often as it is copied in one call

local function topic_agrees(binding, key)
  local literal = binding.literal
  if not literal then
    -- What a key must begin with: most bindings fail on that.  The last dot may go with a "#" that takes no word.
    literal = string.gsub(string.match(binding.key, '^[^*#]*'), '%.$', '')
    binding.literal = literal
  end
  if string.sub(key, 1, #literal) ~= literal then return false end
  return topic_matches(words(binding.key), words(key))
end

local AGREES = {
  direct = function(binding, key) return binding.key == key end,
  topic = topic_agrees,
  fanout = function() return true end,
  headers = function(binding, _, message)
    binding.wanted = binding.wanted or cjson.decode(binding.arguments)
    return headers_agree(binding.wanted, headers_of(message))
  end,
  -- The type of an exchange that only stock kombu knows shows in its bindings: those of topics have a pattern.
  stock = function(binding, key)
    if binding.pattern and binding.pattern ~= '' then return topic_agrees(binding, key) end
    return binding.key == key
  end,
}

-- All of them agree with the same keys; the first one did.
function PAGES.index(exchange, _, _, _, text, after)
  local size = size_of(exchange)
  if size > 0 then ready_index(exchange, size) end
  local members, found = beginning_with(exchange, text, PAGE, after), {}
  add_table(found, members)
  toil(#members / 2)
  return found, members[PAGE] and {'index', text, members[PAGE]}
end

function PAGES.hash(exchange, kind, key, message, cursor)
  hash_size(exchange)
  -- The server finds a key faster than we do.
  local direct = kind == 'direct'
  local pattern = direct and concat{'*,', literally(cjson.encode(key)), ',*'} or '*'
  local count = direct and 2000 or 100
  local page, found = call('HSCAN', NS .. 'bindings.' .. exchange, cursor, 'MATCH', pattern, 'COUNT', count), {}
  for i = 1, #page[2], 2 do add_member_of_hash(found, page[2][i]) end
  local agreeing = {}
  for _, binding in ipairs(found) do
    if AGREES[kind](binding, key, message) then agreeing[#agreeing + 1] = binding end
  end
  toil(count / 50 + #found / 2)
  return agreeing, page[1] ~= '0' and {'hash', page[1]} or nil
end

-- What is asked for by bindings that a message may agree with, in the same order in each call.
local function texts_in(message)
  if not message.texts then
    local texts = {ANYTHING}
    for name, value in pairs(headers_of(message)) do
      texts[#texts + 1] = text_of(name, cjson.null)
      if value ~= cjson.null then texts[#texts + 1] = text_of(name, value) end
    end
    table.sort(texts)
    toil(#texts / 10)
    message.texts = texts
  end
  return message.texts
end

local LOOKED_AT = 50
function PAGES.headers(exchange, _, _, message, at, after)
  ready_headers_index(exchange, hash_size(exchange))
  local texts, found, seen = texts_in(message), {}, 0
  repeat
    local text = texts[at]
    local entries = beginning_with(exchange, text, LOOKED_AT, after)
    for _, entry in ipairs(entries) do
      local kind, destination, _, arguments = unpack(cjson.decode(string.sub(entry, #text + 1)))
      if headers_agree(cjson.decode(arguments), headers_of(message)) then
        found[#found + 1] = {kind = kind, destination = destination}
      end
    end
    toil(0.2 + #entries)
    seen, after = seen + #entries, entries[LOOKED_AT]
    if not after then at = at + 1 end
  until at > #texts or seen >= LOOKED_AT or weary()
  return found, at <= #texts and {'headers', at, after} or nil
end

-- The bindings among which all are that agree with a key: of few, all; and ranges, in which there are more.
local function bindings_with(exchange, kind, key)
  local in_hash, found, ranges = hash_size(exchange), {}, {}
  if kind == 'headers' then
    if in_hash > FEW then return {}, {{'headers', 1}} end
    return in_hash > 0 and bindings_in_hash(exchange) or {}, ranges
  end
  local size = size_of(exchange)
  if kind == 'fanout' then
    if size > 0 then found[1] = {kind = 'queue', destination = '', in_table = true} end -- for all: they have one topic
  elseif size > FEW then
    ready_index(exchange, size)
    local literal = key .. SEP
    if kind ~= 'topic' then
      see_to_key(exchange, key)
      add_beginning_with(found, exchange, literal)
    end
    for _, text in ipairs(kind ~= 'direct' and agreeing_patterns(exchange, words(key)) or {}) do
      if kind == 'topic' or text ~= literal then add_beginning_with(found, exchange, text) end
    end
  elseif size > 0 then
    found = bindings_in_table(exchange)
  end
  if in_hash > MANY then
    ranges[1] = {'hash', '0'}
  elseif in_hash > 0 then
    local all = {unpack(found)}
    for _, binding in ipairs(bindings_in_hash(exchange)) do all[#all + 1] = binding end
    found = all
  end
  return found, ranges
end

-- Go through an exchange's bindings, and have `take` each that agrees with a message of this key; if none does, one to the
-- alternate exchange.  place: how far that has come; when UNFINISHED is raised, to be called with again.
local function look_around(exchange, kind, key, message, place, take)
  if not place.ranges then
    local bindings, ranges = bindings_with(exchange, kind, key)
    toil(#bindings / (kind == 'headers' and 4 or 50))
    place.ranges, place.matched = ranges, false
    for _, binding in ipairs(bindings) do
      if AGREES[kind](binding, key, message) then
        place.matched = true
        if binding.range then table.insert(ranges, binding.range) else take(binding) end
      end
    end
  end
  local ranges = place.ranges
  while ranges[1] do
    local range = ranges[1]
    local bindings, rest = PAGES[range[1]](exchange, kind, key, message, unpack(range, 2))
    for _, binding in ipairs(bindings) do
      place.matched = true
      take(binding)
    end
    if rest then ranges[1] = rest else table.remove(ranges, 1) end
    if ranges[1] and weary() then error(UNFINISHED, 0) end -- with a page at least in each call it ends
  end
  local declared = exchange_of(exchange)
  local alternate = declared and declared.arguments and declared.arguments['alternate-exchange']
  if alternate and not place.matched then take{kind = 'exchange', destination = alternate} end
end

local function type_of(exchange)
  local declared = exchange_of(exchange)
  return declared and declared.type or 'stock'
end

-- Where a message with this key goes from this exchange:
--   queues     set of names that get it into their lists
--   named      the same, by way of the default exchange: nothing says that they exist
--   listened   set of exchanges on whose fanout topic it is published
--   instead    exchange -> list of the queues of a stock exchange that get it if nobody listens (it's no fanout then)
--   transient  whether a fanout binding was met whose queue gets it only while somebody listens
--   constant   whether the next message with this key goes the same way
--   begun      whether it has been anywhere yet
-- Raises UNFINISHED when the way is too long for one call: then it's walked, see delivering.
local function follow(route, start, key, message)
  local seen, waiting = {[start] = true}, {start}
  while #waiting > 0 do
    if route.begun and weary() then error(UNFINISHED, 0) end
    route.begun = true
    local name = table.remove(waiting)
    if name == '' then
      if key ~= '' then route.named[key] = true end
    else
      local kind = type_of(name)
      if kind == 'fanout' or kind == 'stock' then route.listened[name] = true end
      if kind == 'stock' then route.instead[name] = route.instead[name] or {} end
      if kind == 'headers' then route.constant = false end
      look_around(name, kind, key, message, {}, function(binding)
        local destination = binding.destination
        if binding.kind == 'exchange' then
          if not seen[destination] then
            seen[destination] = true
            waiting[#waiting + 1] = destination
          end
        elseif kind == 'stock' then
          table.insert(route.instead[name], destination)
        elseif kind == 'fanout' and binding.in_table then
          route.transient = true
        else
          route.queues[destination] = true
        end
      end)
    end
  end
end

local routes = {}
local function route_of(message)
  local way = message.exchange .. '\0' .. concat(message.keys, '\0')
  local route = routes[way]
  if not route then
    route = {queues = {}, named = {}, listened = {}, instead = {}, transient = false, constant = true, begun = false}
    for _, key in ipairs(message.keys) do follow(route, message.exchange, key, message) end
    if route.constant then routes[way] = route end
  end
  return route
end
