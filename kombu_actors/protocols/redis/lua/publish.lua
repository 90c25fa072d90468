-- needs: pushing headers indexing routing delivering
-- publish fanout_prefix fanout_patterns deadletter_queue state
--   then per message: exchange mandatory step expiration nkeys key.. nskip queue.. envelope
--   -> [[code per message, or why it couldn't be stored], next_timer, deaths, state]
-- Fewer codes than messages: it was work enough for one call.  The others are to be sent again, with the state, which is
-- the first one's of them ("": nothing is done for that one yet).
local settings = {
  fanout_prefix = ARGV[FIRST], fanout_patterns = ARGV[FIRST + 1] == '1', deadletter_queue = ARGV[FIRST + 2],
}
if not alive() then return fenced() end
refuse_when_full()
local codes, deaths, at, state = {}, {}, FIRST + 4, ARGV[FIRST + 3]

local function attempt(message)
  local exchange = message.exchange ~= '' and exchange_of(message.exchange)
  if exchange and exchange.internal == true then return INTERNAL end
  return deliver(deaths, settings, message)
end

while at <= #ARGV and not weary() do
  local message
  message, at = read_message(at)
  if state ~= '' then message.state = cjson.decode(state) end
  -- One message that can't be stored (a key of the queue's name holds something else) must not keep the others from it.
  local good, code, rest = pcall(attempt, message)
  state = good and rest or ''
  if state ~= '' then break end
  codes[#codes + 1] = good and code or reason_of(code)
end
return {codes, next_timer(), deaths, state}
