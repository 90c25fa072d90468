-- needs: pushing headers indexing routing delivering
-- bury seq cut fanout_prefix fanout_patterns deadletter_queue state <one message as for publish>
--   -> [[code, or why it couldn't be stored; nothing if it's to be called again], next_timer, deaths, state] | ["stale"]
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
local deaths, letter = {}, (read_message(FIRST + 6))
if cut then
  local raw = envelope_of(found)
  letter.envelope = string.sub(raw, 1, body_end(raw) - 1) .. string.sub(letter.envelope, #HEAD + 1)
end
local state = ARGV[FIRST + 5]
letter.parcel = seq
if state ~= '' then letter.state = cjson.decode(state) end
local good, code, rest = pcall(deliver, deaths, settings, letter)
if good and rest then return {{}, next_timer(), deaths, rest} end
if good then unclaim(OWNER, {seq}) end
local dying = NS .. 'dying.' .. found.queue
if call('HGET', dying, 'owner') == OWNER and call('HINCRBY', dying, 'left', -1) <= 0 then call('DEL', dying) end
return {{good and code or reason_of(code)}, next_timer(), deaths, ''}
