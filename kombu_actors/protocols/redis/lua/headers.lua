-- Part for the scripts that bind, unbind and route: what the bindings of headers exchanges ask for.

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

-- Whether all of what a binding asks for must agree, and whether keys that begin with "x-" count.
local function match_of(arguments)
  local match = arguments['x-match'] or 'all'
  return string.sub(match, 1, 3) == 'all', string.sub(match, -7) == '-with-x'
end

local function counts(name, with_x) return name ~= 'x-match' and (with_x or string.sub(name, 1, 2) ~= 'x-') end

-- null asks only for presence.
local function headers_agree(arguments, headers)
  local all, with_x = match_of(arguments)
  for name, wanted in pairs(arguments) do
    if counts(name, with_x) then
      local agrees = headers[name] ~= nil and (wanted == cjson.null or same(wanted, headers[name]))
      if agrees ~= all then return agrees end
    end
  end
  return all
end

-- In the index of an exchange with many bindings (see indexing) an entry is a member of our hash, behind a text that says
-- which header is asked for.  A binding that wants all of several is under the one that fewest others are under; one that
-- wants any is under each.  So whatever agrees with a message is under a header of it, and is still to be compared.

local ANYTHING, NOTHING = '[]\0', '\0' -- of bindings that agree with every message, and with none

-- Presence is a text of its own.  Values that are the same have the same text, and some that differ have, too.
local function text_of(name, value)
  if value == cjson.null then return cjson.encode{name} .. '\0' end
  local text = type(value) == 'table' and '{}' or tostring(type(value) == 'number' and value + 0 or value) -- -0 is 0
  return cjson.encode{name, string.sub(text, 1, 64)} .. '\0'
end

-- The texts that a member of the hash may be under, and whether it is under one of them only.
local function texts_of(member)
  local arguments = cjson.decode(cjson.decode(member)[4])
  local all, with_x = match_of(arguments)
  local texts = {}
  for name, wanted in pairs(arguments) do
    if counts(name, with_x) then texts[#texts + 1] = text_of(name, wanted) end
  end
  if #texts == 0 then texts[1] = all and ANYTHING or NOTHING end
  return texts, all
end

local function enter(exchange, member)
  local texts, one = texts_of(member)
  if one and #texts > 1 then
    local fewest, least = math.huge, nil
    for _, text in ipairs(texts) do
      local others = call('ZLEXCOUNT', index_of(exchange), '[' .. text, '(' .. text .. '\255')
      if others < fewest then fewest, least = others, text end
    end
    texts = {least}
  end
  for _, text in ipairs(texts) do call('ZADD', index_of(exchange), 0, text .. member) end
end

local function strike(exchange, member)
  for _, text in ipairs((texts_of(member))) do call('ZREM', index_of(exchange), text .. member) end
end

-- After a member was put into the hash (change = 1) or taken out (-1): if there is an index it's told, and how many it has.
local function follow_in_index(exchange, member, change)
  local state = call('EXISTS', index_of(exchange)) == 1 and call('HGET', NS .. 'indexes', exchange)
  if not state then return end
  if change > 0 then enter(exchange, member) else strike(exchange, member) end
  if string.sub(state, 1, 1) ~= 'c' then call('HINCRBY', NS .. 'indexes', exchange, change) end
end
