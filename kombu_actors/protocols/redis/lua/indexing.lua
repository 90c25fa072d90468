-- Part for the scripts that route: the bindings of an exchange that has many, found by key.
--
-- kombu's table of an exchange is a set, and remains the truth.  NS"index."<exchange> is a sorted copy of it, whose members
-- (all of score 0) begin with the binding's key.  NS"indexes" has, per exchange, when the copy was last compared, in ms (of
-- a headers exchange: how many bindings it has), or "c<cursor>" while it's made.  Our scripts change both.  What stock kombu
-- did shows in their sizes; only a binding that it made while it removed another doesn't, and for that the two are compared
-- now and then, the larger the rarer.

local FEW = 200 -- bindings that are read as they are
local MANY = 500 -- bindings that agree with a key, of which the first only is read, and the others a page at a time
local UNFINISHED = {} -- raised by who can't go on in this call: nothing is undone, and the next one goes on

local function note_compared(exchange) call('HSET', NS .. 'indexes', exchange, now()) end

-- How many bindings an exchange's hash has.  One that lacks some of those that are kept beside it was lost, and is filled
-- from them, for a step; nobody goes by it until it's whole, and who binds and unbinds meanwhile changes both.
local hash_sizes = {}
local function hash_size(exchange)
  if hash_sizes[exchange] then return hash_sizes[exchange] end
  local hash, kept = NS .. 'bindings.' .. exchange, kept_key(exchange)
  local size = call('HLEN', hash)
  if size >= call('SCARD', kept) then
    hash_sizes[exchange] = size
    return size
  end
  local cursor = call('HGET', NS .. 'refilling', exchange) or '0'
  repeat
    if weary() then error(UNFINISHED, 0) end
    local page = call('SSCAN', kept, cursor, 'COUNT', 200)
    cursor = page[1]
    for first = 1, #page[2], 500 do
      local fields = {}
      for i = first, math.min(first + 499, #page[2]) do fields[#fields + 1], fields[#fields + 2] = page[2][i], '' end
      call('HSET', hash, unpack(fields))
    end
    call('HSET', NS .. 'refilling', exchange, cursor)
    toil(#page[2] / 5)
  until cursor == '0'
  call('HDEL', NS .. 'refilling', exchange)
  return hash_size(exchange) -- ends: all is there, unless it was lost once more
end

-- Make an index, for a step: copy enters a page of bindings, and returns where the next one begins; made: its state then.
local function make_index(exchange, cursor, copy, made)
  if weary() then error(UNFINISHED, 0) end
  repeat cursor = copy(exchange, cursor) until cursor == '0' or weary()
  call('HSET', NS .. 'indexes', exchange, cursor == '0' and made or 'c' .. cursor)
end

local function copy_table(exchange, cursor)
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
  return page[1]
end

local function copy_hash(exchange, cursor)
  local page = call('HSCAN', NS .. 'bindings.' .. exchange, cursor, 'COUNT', 50)
  for i = 1, #page[2], 2 do enter(exchange, page[2][i]) end
  toil(#page[2])
  return page[1]
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
    make_index(exchange, '0', copy_table, 0) -- what happens to the table meanwhile is seen when they are compared
  elseif string.sub(state, 1, 1) == 'c' then
    make_index(exchange, string.sub(state, 2), copy_table, 0)
  else
    local age = now() - tonumber(state)
    if copied ~= size or age < 0 or age > math.max(100, size / 50) then compare_index(exchange, size) end
    return
  end
  return ready_index(exchange, size) -- ends: each time more of it is made, until there is no more time
end

-- The same for a headers exchange, whose bindings are in our hash: only processes of ours that know of no index change one
-- without the other, which shows in how many they are.
local function ready_headers_index(exchange, size)
  local state = call('EXISTS', index_of(exchange)) == 1 and call('HGET', NS .. 'indexes', exchange) or ''
  if state == tostring(size) then return end
  local cursor = string.match(state, '^c(%d+)$')
  if not cursor then call('UNLINK', index_of(exchange)) end
  make_index(exchange, cursor or '0', copy_hash, size)
  return ready_headers_index(exchange, size)
end

-- The members that begin with a text, in order: at most so many (-1: all), after one of them (nil: from the first); or
-- whether there are any.
local function beginning_with(exchange, text, most, after)
  local first = after and '(' .. after or '[' .. text
  return call('ZRANGE', index_of(exchange), first, '(' .. text .. '\255', 'BYLEX', 'LIMIT', 0, most)
end

local under = {}
local function any_beginning_with(exchange, text)
  local asked = exchange .. '\0' .. text
  if under[asked] == nil then
    under[asked] = #beginning_with(exchange, text, 1) > 0
    toil(0.5)
  end
  return under[asked]
end

-- A text as a pattern of the server's that it alone agrees with.
local function literally(text) return (string.gsub(text, '[%*%?%[%]\\]', '\\%0')) end

-- Before a key is looked for that isn't in the index, the table itself is asked: see the head of this file.
local function see_to_key(exchange, key)
  if #beginning_with(exchange, key .. SEP, 1) > 0 then return end
  if weary() then error(UNFINISHED, 0) end
  local pattern = literally(key .. SEP) .. '*'
  local cursor = '0'
  repeat
    local page = call('SSCAN', TABLE .. exchange, cursor, 'MATCH', pattern, 'COUNT', 100000)
    cursor = page[1]
    for _, member in ipairs(page[2]) do call('ZADD', index_of(exchange), 0, member) end
  until cursor == '0'
  toil(call('SCARD', TABLE .. exchange) / 100)
end

-- What the members begin with whose pattern agrees with the words of a key: word by word along what there is.
local function agreeing_patterns(exchange, words)
  local found, seen = {}, {}
  local function follow(pattern, depth, at)
    local state = pattern .. '\0' .. at
    if seen[state] then return end
    seen[state] = true
    if at > #words and (pattern ~= '' or depth == 0) then found[#found + 1] = pattern .. SEP end
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
