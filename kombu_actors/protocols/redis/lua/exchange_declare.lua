-- exchange_declare name spec passive -> ["created"|"exists", spec] | ["missing"] | ["reserved"]
local name, spec, passive = ARGV[FIRST], ARGV[FIRST + 1], ARGV[FIRST + 2] == '1'
if not alive() then return fenced() end
work_when_full()
local exchange = exchange_of(name)
if exchange and exchange.type ~= 'stock' then
  -- A built-in one has no record; its fields are the defaults.
  return {'exists', call('HGET', EXCHANGES, name) or cjson.encode{type = exchange.type, durable = true}}
end
if passive then return exchange and {'exists', ''} or {'missing'} end
if string.sub(name, 1, 4) == 'amq.' then return {'reserved'} end
call('HSET', EXCHANGES, name, spec)
return {'created', spec}
