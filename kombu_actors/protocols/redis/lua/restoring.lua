-- Part for `beat`: where a message goes back to that a stock kombu claimed.  Needs: routing.

local restore
do -- a script has room for 200 names

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

-- Of kombu's `[envelope, "exchange", "routing key"]` where the envelope begins and ends, and the names; nil if it's something
-- else.  Only the end of a long one is searched, where the names are, mostly: a pattern takes 10 ms for a megabyte.
local NAMES = 4096
local function parse_stock(value, from)
  from = from or math.max(1, #value - NAMES)
  local text = string.sub(value, from)
  local closing = string.match(text, '()"%s*%]%s*$')
  local key_at = closing and opening(text, closing)
  local before = key_at and string.match(string.sub(text, 1, key_at - 1), '()"%s*,%s*$')
  local exchange_at = before and opening(text, before)
  local last = exchange_at and string.match(string.sub(text, 1, exchange_at - 1), '()}%s*,%s*$')
  local first = string.match(value, '^%s*%[%s*(){')
  local good, names = pcall(cjson.decode, first and last and '[' .. string.sub(text, exchange_at) or '')
  if good then return first, from + last - 1, names[1], names[2] end
  if from > 1 then return parse_stock(value, 1) end
end

-- The list suffix of a message's priority, by kombu's rule.
local function suffix_of(value, first, last)
  local closing = body_end(value, first)
  local rest = closing and '{' .. string.sub(value, closing + 3, last) or string.sub(value, first, last)
  local good, message = pcall(cjson.decode, rest) -- only to look
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

-- A stock message doesn't say which queue it was in: its exchange's bindings are looked up again.  What leads to more queues
-- than one call fills is searched for and put back in steps, by whoever beats: NS"restored." has the names of the queues
-- that are to have it, NS"restoring." how far the search is, then "all", then "putting".
local RESTORING_LIFE = 600 -- s: if nobody goes on, it's begun anew

local function names_for(field) return NS .. 'restored.' .. field end
local function progress_of(field) return NS .. 'restoring.' .. field end
local function note_progress(field, what)
  call('SET', progress_of(field), what, 'EX', RESTORING_LIFE)
  call('EXPIRE', names_for(field), RESTORING_LIFE)
end

-- The queues of a message if they are few, or nil, and how far it is with many; nothing for a broadcast: that was for one
-- listener, and it's gone.
local function destinations(field, size, exchange, key)
  if exchange == '' then return {key} end
  local kind = type_of(exchange)
  if kind == 'fanout' then return nil end
  local progress = call('GET', progress_of(field))
  if progress == 'all' or progress == 'putting' then return nil, progress end
  local found, place = {}, progress and cjson.decode(progress) or {}
  local good, why = pcall(look_around, exchange, kind, key, {headers = {}}, place, function(binding)
    if binding.kind ~= 'exchange' then found[binding.destination] = true end
  end)
  if not good and why ~= UNFINISHED then error(why, 0) end
  if progress then
    for _, queue in ipairs(call('SRANDMEMBER', names_for(field), PAGE)) do found[queue] = true end
  end
  local queues = {}
  for queue in pairs(found) do queues[#queues + 1] = queue end
  if good and #queues < PAGE and (#queues < 2 or #queues * size <= WIDE) then return queues end
  for first = 1, #queues, PAGE do
    call('SADD', names_for(field), unpack(queues, first, math.min(first + PAGE - 1, #queues)))
  end
  note_progress(field, good and 'all' or cjson.encode(place))
  if not good then error(UNFINISHED, 0) end
  return nil, 'all'
end

-- Put a message back into many queues, for a step; raises UNFINISHED when there may be more.
local function put_back_to_many(field, raw, suffix)
  note_progress(field, 'putting')
  for name in function() return call('SPOP', names_for(field)) or nil end do
    put_back(name, P .. name .. suffix, raw)
    toil(0.5, #raw / 4)
    if weary() then error(UNFINISHED, 0) end
  end
end

-- Put a message back that a stock kombu claimed; returns 'not ours' when it's for queues of which the caller consumes none.
-- It stays where it is until its queues have it: what can't be done raises an error before anything is.
function restore(field, value, consumed)
  local first, last, exchange, key = parse_stock(value)
  if not first then return keep_aside('', value) end
  local queues, progress = destinations(field, #value, exchange, key)
  toil(3, 2 * #value) -- only now: however large it is, in each beat it's searched for its queues, or put into one
  local ours = progress == 'putting' or not (queues and queues[1] or progress)
  for _, name in ipairs(queues or {}) do ours = ours or consumed[name] end
  for _, name in ipairs(progress and consumed or {}) do ours = ours or call('SISMEMBER', names_for(field), name) == 1 end
  if not ours then return 'not ours' end
  if queues and #queues == 0 then
    keep_aside(key, string.sub(value, first, last)) -- kombu would drop it
  elseif queues or progress then
    local suffix, raw = suffix_of(value, first, last), returned(value, first, last)
    if progress then put_back_to_many(field, raw, suffix) end
    for _, name in ipairs(queues or {}) do put_back(name, P .. name .. suffix, raw) end
  end
  call('DEL', names_for(field), progress_of(field))
end

end
