-- needs: pushing
-- adopt queue delivery_tag step expiration envelope -> [1|0, next_timer, deaths]
-- What a stock publisher only PUBLISHed goes into the list of a durable fanout queue, once, however many links heard it.
local name, tag, step, lifetime, envelope = unpack(ARGV, FIRST, FIRST + 4)
if not alive() then return fenced() end
refuse_when_full()
local deaths, adopted = {}, NS .. 'adopted.' .. name .. ':' .. tag
if not queue_of(name).recorded or call('EXISTS', adopted) == 1 then return {0, next_timer(), deaths} end
push(deaths, name, step == '0' and '' or SEP .. step, envelope, tonumber(lifetime))
call('SET', adopted, '', 'EX', 300) -- s: far longer than links differ in hearing the same broadcast
return {1, next_timer(), deaths}
