-- Part for the scripts that publish: where a message goes.  Needs: indexing.

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

local function same(wanted, found)
  if type(wanted) ~= 'table' or type(found) ~= 'table' then return wanted == found end
  for key, value in pairs(wanted) do
    if not same(value, found[key]) then return false end
  end
  for key in pairs(found) do
    if wanted[key] == nil then return false end
  end
  return true
end

-- null asks only for presence; keys that begin with "x-" count with all-with-x and any-with-x alone.
local function headers_agree(arguments, headers)
  local match = arguments['x-match'] or 'all'
  local all, with_x = string.sub(match, 1, 3) == 'all', string.sub(match, -7) == '-with-x'
  for name, wanted in pairs(arguments) do
    if name ~= 'x-match' and (with_x or string.sub(name, 1, 2) ~= 'x-') then
      local agrees = headers[name] ~= nil and (wanted == cjson.null or same(wanted, headers[name]))
      if agrees ~= all then return agrees end
    end
  end
  return all
end

-- Only to compare: nothing of what is decoded is ever written.
local function headers_in(envelope)
  local good, message = pcall(cjson.decode, envelope)
  local headers = good and type(message) == 'table' and message.headers
  return type(headers) == 'table' and headers or {}
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

local function add_hash(found, exchange)
  for _, member in ipairs(members_of_hash(exchange)) do
    local kind, destination, key, arguments = unpack(cjson.decode(member))
    found[#found + 1] = {kind = kind, destination = destination, key = key, arguments = arguments}
  end
end

local tables = {}
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

-- The bindings among which all are that agree with a key: of few, all.
local function bindings_with(exchange, kind, key)
  local size = size_of(exchange)
  if size <= FEW or kind == 'fanout' or kind == 'headers' then return bindings_of(exchange) end
  ready_index(exchange, size)
  local found = {}
  if kind ~= 'topic' then add_table(found, indexed_by_key(exchange, key)) end
  if kind ~= 'direct' then add_table(found, indexed_by_pattern(exchange, words(key))) end
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
  headers = function(binding, _, headers)
    return not binding.in_table and headers_agree(cjson.decode(binding.arguments), headers())
  end,
  -- The type of an exchange that only stock kombu knows shows in its bindings: those of topics have a pattern.
  stock = function(binding, key)
    if binding.pattern and binding.pattern ~= '' then return topic_agrees(binding, key) end
    return binding.key == key
  end,
}

-- Where a message with this key goes from this exchange:
--   queues     set of names that get it into their lists
--   named      the same, by way of the default exchange: nothing says that they exist
--   listened   set of exchanges on whose fanout topic it is published
--   instead    exchange -> list of the queues of a stock exchange that get it if nobody listens (it's no fanout then)
--   transient  whether a fanout binding was met whose queue gets it only while somebody listens
--   constant   whether the next message with this key goes the same way
local function follow(route, start, key, headers)
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
      for _, binding in ipairs(bindings_with(name, kind, key)) do
        if AGREES[kind](binding, key, headers) then
          matched = true
          if binding.kind == 'exchange' then
            following[#following + 1] = binding.destination
          elseif kind == 'stock' then
            table.insert(route.instead[name], binding.destination)
          elseif kind == 'fanout' and binding.in_table then
            route.transient = true
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
local function route_of(message)
  local way = message.exchange .. '\0' .. concat(message.keys, '\0')
  local route = routes[way]
  if not route then
    route = {queues = {}, named = {}, listened = {}, instead = {}, transient = false, constant = true}
    local decoded
    local function headers()
      decoded = decoded or headers_in(message.envelope)
      return decoded
    end
    for _, key in ipairs(message.keys) do follow(route, message.exchange, key, headers) end
    if route.constant then routes[way] = route end
  end
  return route
end
