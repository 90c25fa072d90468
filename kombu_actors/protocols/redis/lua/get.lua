-- needs: claims
-- get channel queue no_ack -> ["ok", seq or 0, raw, remaining, deaths] | ["empty", deaths] | ["missing"] | ["locked"]
local channel, queue, no_ack = ARGV[FIRST], ARGV[FIRST + 1], ARGV[FIRST + 2] == '1'
if not alive() then return fenced() end
work_when_full()
if not has_queue(queue) then return {'missing'} end
if locked(queue_of(queue)) then return {'locked'} end
used(queue)
local deaths, died = {}, 0
local MAX_DEATHS = 500 -- a script must end; the next one goes on
for _, suffix in ipairs(SUFFIXES) do
  local list = P .. queue .. suffix
  while died < MAX_DEATHS do
    local raw = call('RPOP', list)
    if not raw then break end
    local cause = cause_of_death(raw, queue_of(queue).policy)
    if not cause then
      return {'ok', no_ack and 0 or claim(queue, list, raw, channel), raw, length(queue), deaths}
    end
    die(deaths, queue, list, raw, cause)
    died = died + 1
  end
end
return {'empty', deaths}
