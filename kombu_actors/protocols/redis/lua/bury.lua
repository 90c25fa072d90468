-- needs: routing
-- bury seq fanout_prefix fanout_patterns deadletter_queue <one message as for publish>
--   -> [[code, or why it couldn't be stored], next_timer, deaths] | ["stale"]
-- The claim on a dead message is exchanged for its dead letter; if that can't be stored, the claim stays.  Works with
-- memory full, as it gives back what it takes, and to internal exchanges, which refuse only clients.
local seq = ARGV[FIRST]
local settings = {
  fanout_prefix = ARGV[FIRST + 1], fanout_patterns = ARGV[FIRST + 2] == '1', deadletter_queue = ARGV[FIRST + 3],
}
if not alive() then return fenced() end
if not claimed(OWNER, seq) then return {'stale'} end
work_when_full()
local deaths = {}
local good, code = pcall(deliver, deaths, settings, (read_message(FIRST + 4)))
if good then unclaim(OWNER, {seq}) end
return {{good and code or reason_of(code)}, next_timer(), deaths}
