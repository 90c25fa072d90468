-- queue_declare name flagged-spec passive exclusive fresh
--   -> ["created"|"exists", flagged-spec, messages, consumers] | ["missing"] | ["locked"] | ["reserved"] | ["inseparable"]
-- fresh: whether a new queue may have a name that begins with "amq."
local name, spec, passive = ARGV[FIRST], ARGV[FIRST + 1], ARGV[FIRST + 2] == '1'
local exclusive, fresh = ARGV[FIRST + 3] == '1', ARGV[FIRST + 4] == '1'
if not alive() then return fenced() end
work_when_full()
local text = call('HGET', QUEUES, name)
local function answer(word, spec)
  return {word, spec, length(name), call('HLEN', NS .. 'consumers.' .. name)}
end
if passive then
  if locked(queue_of(name)) then return {'locked'} end
  -- A queue that only stock kombu knows is there as long as it has messages.  One that we named (kombu's names have
  -- dashes) has a record or is gone, whatever was published to its name since.
  if not text and (string.find(name, OUR_NAMES) or not has_lists(name)) then return {'missing'} end
  return answer('exists', text or '')
end
if text then
  if queue_of(name).owner ~= (exclusive and OWNER or nil) then return {'locked'} end
  used(name)
  return answer('exists', text)
end
if not fresh and string.sub(name, 1, 4) == 'amq.' then return {'reserved'} end
-- Its list could be another queue's for a priority step.
if string.find(name, SEP, 1, true) then return {'inseparable'} end
if exclusive then spec = concat{'1{"owner":"', OWNER, '",', string.sub(spec, 3)} end
call('HSET', QUEUES, name, spec)
if exclusive then call('SADD', NS .. 'held.' .. OWNER, 'q:' .. name) end
known[name] = nil
if call('DEL', LATE .. name) == 1 then
  for _, suffix in ipairs(SUFFIXES) do call('PERSIST', P .. name .. suffix) end
end
used(name)
return answer('created', spec)
