-- adopt queue delivery_tag step expiration envelope -> [1|0, next_timer, deaths]
-- What a stock publisher only PUBLISHed goes into the list of a durable fanout queue, once, however many links heard it.
local name, tag, step, lifetime, envelope = unpack(ARGV, FIRST, FIRST + 4)
if not alive() then return fenced() end
local deaths = {}
if not queue_of(name).recorded or not call('SET', NS .. 'adopted.' .. name .. ':' .. tag, '', 'NX', 'EX', 300) then
  return {0, next_timer(), deaths}
end
push(deaths, name, step == '0' and '' or SEP .. step, envelope, tonumber(lifetime))
return {1, next_timer(), deaths}
