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

local function add_members_of_hash(found, members)
  for _, member in ipairs(members) do
    local kind, destination, key, arguments = unpack(cjson.decode(member))
    found[#found + 1] = {kind = kind, destination = destination, key = key, arguments = arguments}
  end
end

local function add_hash(found, exchange) add_members_of_hash(found, members_of_hash(exchange)) end

-- The queues in a fanout exchange's hash; of very many, a range, and the exchanges beside them.
local function add_fanout_hash(found, exchange)
  local hash = NS .. 'bindings.' .. exchange
  if call('HLEN', hash) <= MANY then return add_hash(found, exchange) end
  local page = call('HSCAN', hash, '0', 'MATCH', '\\["exchange",*', 'COUNT', 1000000)
  for i = 1, #page[2], 2 do add_members_of_hash(found, {page[2][i]}) end
  found[#found + 1] = {kind = 'range', destination = {exchange, false, '0'}}
end

local hashes, tables = {}, {}
local function bindings_in_hash(exchange)
  local found = hashes[exchange]
  if not found then
    found = {}
    add_hash(found, exchange)
    hashes[exchange] = found
  end
  return found
end

local function bindings_of(exchange)
  local found = tables[exchange]
  if not found then
    found = {}
    add_table(found, call('SMEMBERS', TABLE .. exchange))
    add_hash(found, exchange)
    tables[exchange] = found
  end
  return found
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
-- same keys: its kind is "range", its destination what next_of_range takes.
local function add_beginning_with(found, exchange, text)
  local members = beginning_with(exchange, text, MANY + 1)
  if #members <= MANY then return add_table(found, members) end
  local key, pattern = parse_member(members[1])
  found[#found + 1] = {kind = 'range', destination = {exchange, text}, key = key, pattern = pattern, in_table = true}
end

local function has_many_headers(exchange) return call('HLEN', NS .. 'bindings.' .. exchange) > FEW end

-- What was seen of the many bindings of a headers exchange: whether any agreed, with which exchanges and queues, and where
-- those begin that weren't looked at.
local function nothing_seen() return {matched = false, exchanges = {}, queues = {}, at = 1} end

-- Look for those that agree, for a step, however much was done before; whether there are no more.
local LOOKED_AT = 50
local function look_through(exchange, headers, looked)
  ready_headers_index(exchange, call('HLEN', NS .. 'bindings.' .. exchange))
  local texts = {ANYTHING}
  for name, value in pairs(headers) do
    texts[#texts + 1] = text_of(name, cjson.null)
    if value ~= cjson.null then texts[#texts + 1] = text_of(name, value) end
  end
  table.sort(texts) -- the same order in each call
  toil(#texts / 10)
  while looked.at <= #texts do
    local text = texts[looked.at]
    local entries = beginning_with(exchange, text, LOOKED_AT, looked.after)
    for _, entry in ipairs(entries) do
      local kind, destination, _, arguments = unpack(cjson.decode(string.sub(entry, #text + 1)))
      if headers_agree(cjson.decode(arguments), headers) then
        looked.matched = true
        if kind == 'exchange' then table.insert(looked.exchanges, destination) else looked.queues[destination] = true end
      end
    end
    toil(0.2 + #entries)
    looked.after = entries[LOOKED_AT]
    if not looked.after then looked.at = looked.at + 1 end
    if weary() then break end
  end
  return looked.at > #texts
end

-- The bindings among which all are that agree with a key: of few, all.  Of a headers exchange with many: see look_through.
local function bindings_with(exchange, kind, key)
  if kind == 'headers' then return bindings_in_hash(exchange) end
  local size, found = size_of(exchange), {}
  if kind == 'fanout' then
    if size > 0 then found[1] = {kind = 'queue', destination = '', in_table = true} end -- for all: they have one topic
    add_fanout_hash(found, exchange)
    return found
  end
  if size <= FEW then return bindings_of(exchange) end
  ready_index(exchange, size)
  local literal = key .. SEP
  if kind ~= 'topic' then
    see_to_key(exchange, key)
    add_beginning_with(found, exchange, literal)
  end
  for _, text in ipairs(kind ~= 'direct' and agreeing_patterns(exchange, words(key)) or {}) do
    if kind == 'topic' or text ~= literal then add_beginning_with(found, exchange, text) end
  end
  add_hash(found, exchange)
  return found
end

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

-- Where a message with this key goes from this exchange:
--   queues     set of names that get it into their lists
--   ranges     list of bindings of very many more, as next_of_range takes them
--   named      the same, by way of the default exchange: nothing says that they exist
--   listened   set of exchanges on whose fanout topic it is published
--   instead    exchange -> list of the queues, and ranges, of a stock exchange that get it if nobody listens (it's no
--              fanout then)
--   transient  whether a fanout binding was met whose queue gets it only while somebody listens
--   constant   whether the next message with this key goes the same way
local function follow(route, start, key, message)
  local seen, waiting = {[start] = true}, {start}
  while #waiting > 0 do
    local name = table.remove(waiting)
    local exchange = exchange_of(name)
    if name == '' then
      if key ~= '' then route.named[key] = true end
    else
      local kind = exchange and exchange.type or 'stock'
      local matched, following = false, {}
      if kind == 'fanout' or kind == 'stock' then route.listened[name] = true end
      if kind == 'stock' then route.instead[name] = route.instead[name] or {} end
      if kind == 'headers' then route.constant = false end
      local bindings = {}
      if kind == 'headers' and has_many_headers(name) then
        local looked = message.looked[name] or nothing_seen()
        message.looked[name] = looked
        if not look_through(name, headers_of(message), looked) then error(UNFINISHED, 0) end
        matched = looked.matched
        for i, other in ipairs(looked.exchanges) do following[i] = other end
        for queue in pairs(looked.queues) do route.queues[queue] = true end
      else
        bindings = bindings_with(name, kind, key)
      end
      toil(#bindings / (kind == 'headers' and 4 or 50))
      for _, binding in ipairs(bindings) do
        if AGREES[kind](binding, key, message) then
          matched = true
          if binding.kind == 'exchange' then
            following[#following + 1] = binding.destination
          elseif kind == 'stock' then
            table.insert(route.instead[name], binding.destination)
          elseif kind == 'fanout' and binding.in_table then
            route.transient = true
          elseif binding.kind == 'range' then
            table.insert(route.ranges, binding.destination)
          else
            route.queues[binding.destination] = true
          end
        end
      end
      local alternate = exchange and exchange.arguments and exchange.arguments['alternate-exchange']
      if not matched and alternate then following[1] = alternate end
      for _, other in ipairs(following) do
        if not seen[other] then
          seen[other] = true
          waiting[#waiting + 1] = other
        end
      end
    end
  end
end

local routes = {}
local function route_of(message) -- may raise UNFINISHED: what was seen until then is in message.looked
  local way = message.exchange .. '\0' .. concat(message.keys, '\0')
  local route = routes[way]
  if not route then
    route = {queues = {}, ranges = {}, named = {}, listened = {}, instead = {}, transient = false, constant = true}
    for _, key in ipairs(message.keys) do follow(route, message.exchange, key, message) end
    if route.constant then routes[way] = route end
  end
  return route
end
