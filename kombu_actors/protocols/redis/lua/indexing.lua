-- Part for the scripts that route: the bindings of an exchange that has many, found by key.
--
-- kombu's table of an exchange is a set, and remains the truth.  NS"index."<exchange> is a sorted copy of it, whose members
-- (all of score 0) begin with the binding's key.  NS"indexes" has, per exchange, when the copy was last compared, in ms, or
-- "c<cursor>" while it's made.  Our scripts change both.  What stock kombu did shows in their sizes; only a binding that
-- it made while it removed another doesn't, and for that the two are compared now and then, the larger the rarer.

local FEW = 200 -- bindings that are read as they are
local UNFINISHED = {} -- raised by who can't go on in this call: nothing is undone, and the next one goes on

local function index_of(exchange) return NS .. 'index.' .. exchange end

local function note_compared(exchange) call('HSET', NS .. 'indexes', exchange, now()) end

-- Make an index, for a step; what happens to the table meanwhile is seen when they are compared.
local function make_index(exchange, cursor)
  if weary() then error(UNFINISHED, 0) end
  repeat
    local page = call('SSCAN', TABLE .. exchange, cursor, 'COUNT', 500)
    local members = {}
    for _, member in ipairs(page[2]) do
      members[#members + 1], members[#members + 2] = 0, member
      if #members == 2000 then
        call('ZADD', index_of(exchange), unpack(members))
        members = {}
      end
    end
    if #members > 0 then call('ZADD', index_of(exchange), unpack(members)) end
    toil(#page[2] / 10)
    cursor = page[1]
  until cursor == '0' or weary()
  call('HSET', NS .. 'indexes', exchange, cursor == '0' and 0 or 'c' .. cursor)
end

local function compare_index(exchange, size)
  if weary() then error(UNFINISHED, 0) end
  local table, index = TABLE .. exchange, index_of(exchange)
  for _, member in ipairs(call('ZDIFF', 2, table, index)) do call('ZADD', index, 0, member) end
  for _, member in ipairs(call('ZDIFF', 2, index, table)) do call('ZREM', index, member) end
  note_compared(exchange)
  toil(size / 50)
end

-- See that the index of an exchange with many bindings is right.
local function ready_index(exchange, size)
  local copied = call('ZCARD', index_of(exchange))
  local state = copied > 0 and call('HGET', NS .. 'indexes', exchange)
  if not state or math.abs(copied - size) > size / 2 and string.sub(state, 1, 1) ~= 'c' then
    call('UNLINK', index_of(exchange))
    make_index(exchange, '0')
  elseif string.sub(state, 1, 1) == 'c' then
    make_index(exchange, string.sub(state, 2))
  else
    local age = now() - tonumber(state)
    if copied ~= size or age < 0 or age > math.max(100, size / 50) then compare_index(exchange, size) end
    return
  end
  return ready_index(exchange, size) -- ends: each time more of it is made, until there is no more time
end

-- All members that begin with a text, or whether there are any.
local function beginning_with(exchange, text)
  return call('ZRANGE', index_of(exchange), '[' .. text, '(' .. text .. '\255', 'BYLEX')
end

local under = {}
local function any_beginning_with(exchange, text)
  local asked = exchange .. '\0' .. text
  if under[asked] == nil then
    local first = call('ZRANGE', index_of(exchange), '[' .. text, '(' .. text .. '\255', 'BYLEX', 'LIMIT', 0, 1)
    under[asked] = #first > 0
    toil(0.5)
  end
  return under[asked]
end

-- Members whose key is this one.  Where there are none the table itself is asked: see the head of this file.
local function indexed_by_key(exchange, key)
  local found = beginning_with(exchange, key .. SEP)
  if #found > 0 then return found end
  if weary() then error(UNFINISHED, 0) end
  local pattern = string.gsub(key .. SEP, '[%*%?%[%]\\]', '\\%0') .. '*'
  local cursor = '0'
  repeat
    local page = call('SSCAN', TABLE .. exchange, cursor, 'MATCH', pattern, 'COUNT', 100000)
    cursor = page[1]
    for _, member in ipairs(page[2]) do
      found[#found + 1] = member
      call('ZADD', index_of(exchange), 0, member)
    end
  until cursor == '0'
  toil(call('SCARD', TABLE .. exchange) / 100)
  return found
end

-- Members whose pattern agrees with the words of a key: word by word along what there is.
local function indexed_by_pattern(exchange, words)
  local found, seen = {}, {}
  local function follow(pattern, depth, at)
    local state = pattern .. '\0' .. at
    if seen[state] then return end
    seen[state] = true
    if at > #words and (pattern ~= '' or depth == 0) then
      for _, member in ipairs(beginning_with(exchange, pattern .. SEP)) do found[#found + 1] = member end
    end
    for _, word in ipairs{'#', '*', words[at]} do
      local longer = depth == 0 and word or pattern .. '.' .. word
      if any_beginning_with(exchange, longer .. SEP) or any_beginning_with(exchange, longer .. '.') then
        if word == '#' then
          for rest = at, #words + 1 do follow(longer, depth + 1, rest) end
        elseif at <= #words then
          follow(longer, depth + 1, at + 1)
        end
      end
    end
  end
  follow('', 0, 1)
  return found
end
