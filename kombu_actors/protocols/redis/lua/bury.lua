-- needs: routing
-- bury seq cut fanout_prefix fanout_patterns deadletter_queue <one message as for publish>
--   -> [[code, or why it couldn't be stored], next_timer, deaths] | ["stale"]
-- The claim on a dead message is exchanged for its dead letter; if that can't be stored, the claim stays.  Works with
-- memory full, as it gives back what it takes, and to internal exchanges, which refuse only clients.
-- cut = "1": the letter comes without a body, and gets that of the dead message.
local seq, cut = ARGV[FIRST], ARGV[FIRST + 1] == '1'
local settings = {
  fanout_prefix = ARGV[FIRST + 2], fanout_patterns = ARGV[FIRST + 3] == '1', deadletter_queue = ARGV[FIRST + 4],
}
if not alive() then return fenced() end
local found = claimed(OWNER, seq)
if not found then return {'stale'} end
work_when_full()
local deaths, letter = {}, (read_message(FIRST + 5))
if cut then
  letter.envelope = string.sub(found.raw, 1, body_end(found.raw) - 1) .. string.sub(letter.envelope, #HEAD + 1)
end
local good, code = pcall(deliver, deaths, settings, letter)
if good then unclaim(OWNER, {seq}) end
return {{good and code or reason_of(code)}, next_timer(), deaths}
