-- needs: routing
-- bury seq fanout_prefix fanout_patterns deadletter_queue <one message as for publish>
--   -> [[code], next_timer, deaths] | ["stale"]
-- The claim on a dead message is exchanged for its dead letter.  Works with maxmemory reached (the claim goes first),
-- and to internal exchanges, which refuse only clients.
local seq = ARGV[FIRST]
local settings = {
  fanout_prefix = ARGV[FIRST + 1], fanout_patterns = ARGV[FIRST + 2] == '1', deadletter_queue = ARGV[FIRST + 3],
}
if not alive() then return fenced() end
if not claimed(OWNER, seq) then return {'stale'} end
unclaim(OWNER, {seq})
local deaths = {}
local code = deliver(deaths, settings, (read_message(FIRST + 4)))
return {{code}, next_timer(), deaths}
