-- Part for all scripts: what exchanges are, and how their bindings are kept.

local BUILT_IN = {
  ['amq.direct'] = 'direct', ['amq.fanout'] = 'fanout', ['amq.topic'] = 'topic',
  ['amq.headers'] = 'headers', ['amq.match'] = 'headers',
}
local met = {}
-- What was declared: {type, auto_delete, internal, arguments}; type "stock" for one that only stock kombu knows, by its
-- table of bindings, which doesn't tell the type; false when there is none.
local function exchange_of(name)
  local exchange = met[name]
  if exchange == nil then
    local text = call('HGET', EXCHANGES, name)
    if text then
      exchange = cjson.decode(text)
    elseif BUILT_IN[name] then
      exchange = {type = BUILT_IN[name], arguments = {}}
    else
      exchange = call('EXISTS', TABLE .. name, PERMANENT .. name) > 0 and {type = 'stock', arguments = {}}
    end
    met[name] = exchange
  end
  return exchange
end

-- A member of kombu's table: "key SEP pattern SEP queue", the pattern only for topic exchanges; nil if it's none.
local function parse_member(member)
  local first, after = string.find(member, SEP, 1, true)
  local second, rest = string.find(member, SEP, (after or 0) + 1, true)
  if not second then return nil end
  return string.sub(member, 1, first - 1), string.sub(member, after + 1, second - 1), string.sub(member, rest + 1)
end

-- The bindings that kombu's table has no place for are in a hash, and once more in a set: as kombu 5.7 does with its own,
-- so that one of them may be evicted, or deleted by somebody.
local function kept_key(exchange) return NS .. 'bindings_permanent.' .. exchange end

local function index_of(exchange) return NS .. 'index.' .. exchange end -- see indexing
