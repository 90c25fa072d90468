-- quarantine seq -> [1|0]: takes a claim whose message nobody can decode out of circulation, but keeps it.
if not alive() then return fenced() end
local found = claimed(OWNER, ARGV[FIRST])
if not found then return {0} end
unclaim(OWNER, {ARGV[FIRST]}) -- first: with its memory full, Redis allows the next one only after it
keep_aside(found.queue, envelope_of(found))
return {1}
