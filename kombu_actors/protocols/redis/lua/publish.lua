-- needs: routing
-- publish fanout_prefix fanout_patterns deadletter_queue
--   then per message: exchange mandatory step expiration nkeys key.. nskip queue.. envelope
--   -> [[code per message], next_timer, deaths]
local settings = {
  fanout_prefix = ARGV[FIRST], fanout_patterns = ARGV[FIRST + 1] == '1', deadletter_queue = ARGV[FIRST + 2],
}
if not alive() then return fenced() end
-- Changes nothing, but is refused when maxmemory is reached, and with it the whole call.  Otherwise what comes before
-- the first LPUSH (a fanout's PUBLISH) would be done again when the call is.
call('SETRANGE', NS .. 'room', 0, '')
local codes, deaths, at = {}, {}, FIRST + 3
while at <= #ARGV do
  local message
  message, at = read_message(at)
  local exchange = message.exchange ~= '' and exchange_of(message.exchange)
  codes[#codes + 1] = exchange and exchange.internal == true and INTERNAL or deliver(deaths, settings, message)
end
return {codes, next_timer(), deaths}
