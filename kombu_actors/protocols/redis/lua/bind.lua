-- needs: headers ending
-- bind kind exchange destination key pattern arguments durable
--   -> ["ok"] | ["no-exchange"] | ["no-queue"] | ["no-destination"] | ["locked"] | ["bad-match"] | ["inseparable"]
-- pattern: the key as kombu's regular expression; durable: how a fanout exchange's queue gets its messages: "1" into
-- its list, consumers or not, "0" as in kombu, while somebody listens.
local kind, name, destination, key = ARGV[FIRST], ARGV[FIRST + 1], ARGV[FIRST + 2], ARGV[FIRST + 3]
local pattern, arguments, durable = ARGV[FIRST + 4], ARGV[FIRST + 5], ARGV[FIRST + 6] == '1'
local X_MATCH = {all = true, any = true, ['all-with-x'] = true, ['any-with-x'] = true}
if not alive() then return fenced() end
work_when_full()
local exchange = exchange_of(name)
if not exchange then return {'no-exchange'} end
if kind == 'exchange' then
  if not exchange_of(destination) then return {'no-destination'} end
else
  local queue = queue_of(destination)
  if locked(queue) then return {'locked'} end
  if not queue.recorded and not has_lists(destination) then return {'no-queue'} end
end
-- Stock kombu breaks on a member that it takes for more than three fields, for good and for all of the exchange.
if string.find(concat({name, destination, key}, '\0'), SEP, 1, true) then return {'inseparable'} end
if exchange.type == 'headers' then
  local match = cjson.decode(arguments)['x-match']
  if match ~= nil and not X_MATCH[match] then return {'bad-match'} end
end

local fanout = exchange.type == 'fanout' and kind == 'queue'
if exchange.type == 'stock' then
  -- Of one type are all of its bindings: as the others, so this.
  local other = call('SRANDMEMBER', TABLE .. name)
  local _, others = parse_member(other or '')
  if not others or others == '' then pattern = '' end
elseif exchange.type ~= 'topic' then
  pattern = ''
end
local in_table = concat({key, pattern, destination}, SEP)
local in_hash = cjson.encode{kind, destination, key, arguments}
if kind == 'exchange' or exchange.type == 'headers' or (fanout and durable) then
  local is_new = call('HSET', NS .. 'bindings.' .. name, in_hash, '') == 1
  if is_new and exchange.type == 'headers' then follow_in_index(name, in_hash, 1) end
  call('SADD', kept_key(name), in_hash)
  call('SADD', bound_key(kind, destination), cjson.encode{name, 'h', in_hash})
  -- The last word counts: with both kinds of binding the queue would get everything twice.
  if fanout then remove_from_table(name, in_table) end
else
  call('SADD', TABLE .. name, in_table)
  call('SADD', PERMANENT .. name, in_table)
  if call('EXISTS', index_of(name)) == 1 then call('ZADD', index_of(name), 0, in_table) end
  call('SADD', bound_key(kind, destination), cjson.encode{name, 't', in_table})
  if fanout then remove_from_hash(name, in_hash) end
end
if fanout and call('SADD', NS .. 'fanout.' .. destination, topic_entry(name, durable, key)) == 1 then
  tell_consumers(destination, 'f')
end
return {'ok'}
