-- needs: waiting claims
-- get channel queue no_ack -> ["ok", seq or 0, raw, remaining, deaths] | ["empty", deaths] | ["more", deaths]
--   | ["missing"] | ["locked"]; more: ask again, this was work enough for one call
local channel, queue, no_ack = ARGV[FIRST], ARGV[FIRST + 1], ARGV[FIRST + 2] == '1'
if not alive() then return fenced() end
work_when_full()
if not has_queue(queue) then return {'missing'} end
if locked(queue_of(queue)) then return {'locked'} end
used(queue)
local deaths = {}
for _, suffix in ipairs(SUFFIXES) do
  local list = P .. queue .. suffix
  while true do
    local raw = call('RPOP', list)
    if not raw then break end
    local cause, large = cause_of_death(raw, queue_of(queue).policy)
    if not cause then
      return {'ok', no_ack and 0 or claim(queue, list, raw, channel), raw, length(queue), deaths}
    end
    die(deaths, queue, list, raw, cause, large)
    if large or weary() then return {'more', deaths} end
  end
end
return {'empty', deaths}
