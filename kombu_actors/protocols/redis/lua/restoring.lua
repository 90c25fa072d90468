-- Part for `beat`: where a message goes back to that a stock kombu claimed.  Needs: routing.

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
  if kind == 'headers' and has_many_headers(exchange) then
    local looked = nothing_seen()
    repeat local all = look_through(exchange, {}, looked) until all
    for queue in pairs(looked.queues) do found[#found + 1] = queue end
    return found
  end
  for _, binding in ipairs(bindings_with(exchange, kind, key)) do
    local agrees = binding.kind ~= 'exchange' and AGREES[kind](binding, key, {headers = {}})
    if agrees and binding.kind == 'range' then
      for _, member in ipairs(beginning_with(exchange, binding.destination[2], -1)) do
        found[#found + 1] = select(3, parse_member(member))
      end
    elseif agrees then
      found[#found + 1] = binding.destination
    end
  end
  return found
end

-- Put a message back that a stock kombu claimed; returns 'not ours' when it's for queues of which the caller consumes none.
-- It is in one of the two places at any time: what can't be done raises an error before anything is.
local function restore(value, consumed)
  toil(3, 2 * #value)
  local raw, exchange, key = parse_stock(value)
  if not raw then return keep_aside('', value) end
  local queues = destinations(exchange, key)
  if not queues then return end
  local ours = #queues == 0
  for _, name in ipairs(queues) do ours = ours or consumed[name] end
  if not ours then return 'not ours' end
  for _, name in ipairs(queues) do
    put_back(name, P .. name .. suffix_of(raw), (returned(raw)))
  end
  if #queues == 0 then keep_aside(key, raw) end -- kombu would drop it
end
