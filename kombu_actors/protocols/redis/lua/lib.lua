-- Common to all scripts: names, and the steps they share.  KEYS and ARGV are described in scripts.py.
local call, concat = redis.call, table.concat
local NS, UNACKED, INDEX = KEYS[1], KEYS[2], KEYS[3]
local P, SEP, OWNER, BODY_MAX = ARGV[1], ARGV[2], ARGV[4], tonumber(ARGV[5])
local FIRST = 6 -- index of a script's first own argument
local SUFFIXES = {} -- of a queue's lists, in serving order
for step in string.gmatch(ARGV[3], '[^,]+') do
  SUFFIXES[#SUFFIXES + 1] = step == '0' and '' or SEP .. step
end
local QUEUES, EXCHANGES, OWNERS, TIMERS = NS .. 'queues', NS .. 'exchanges', NS .. 'owners', NS .. 'timers'
local PROMISES = NS .. 'promises' -- owners' visibility timeouts, in ms
local TABLE, PERMANENT = P .. '_kombu.binding.', P .. '_kombu.binding_permanent.'
local LATE, LATE_LIFE = NS .. 'late.', 3600 -- s that the name of a queue made for replies is known when it's gone
local OUR_NAMES = '^amq%.gen%-%x+$' -- of queues
local DEAD = '0' -- the channel of claims whose message died and is about to be written as a dead letter
local ZERO_TTL_GRACE = 1000 -- ms that someone who waits gets to fetch a message of time-to-live 0

-- While a script runs, the server serves nobody else; so none does more than a step of work, whatever lies in the server.
-- What is left is done by further calls: whoever must wait for it makes them, or whoever beats.

local STEP = 300 -- pieces of work per call, each of some 10 us, or of half a kilobyte that is copied to and fro
local worked = 0
local function toil(pieces, bytes) worked = worked + pieces + (bytes or 0) / 512 end
local function weary() return worked >= STEP end

-- The caller's lease, and the server's clock.

local function alive()
  return call('ZSCORE', OWNERS, OWNER)
end

local function fenced()
  return redis.error_reply('FENCED ' .. OWNER)
end

-- With its memory full Redis refuses what may need more, unless the script has written before.  Who reconnects then must
-- be able to declare what it consumes from, and to consume, or the memory stays full; so those scripts begin with a write
-- that needs nothing.  Publishing must not.
local function work_when_full()
  call('DEL', NS .. 'nothing')
end

-- Changes nothing, but is refused when memory is full, and the whole call with it, so that it can be made again.
local function refuse_when_full()
  call('SETRANGE', NS .. 'room', 0, '')
end

local clock
local function now() -- ms since the epoch, the same all through a script
  if not clock then
    local time = call('TIME')
    clock = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  end
  return clock
end

local function arm(timer, due) -- no later than before
  call('ZADD', TIMERS, 'LT', due, timer)
end

local function next_timer()
  local first = call('ZRANGE', TIMERS, 0, 0, 'WITHSCORES')
  return first[2] and math.max(0, tonumber(first[2]) - now()) or -1
end

-- Have the caller beat again at once: work is left that anyone may do.
local function leave_work()
  call('PUBLISH', NS .. 'wake.' .. OWNER, 'b')
end

-- Queues.

local function length(queue)
  local count = 0
  for _, suffix in ipairs(SUFFIXES) do
    count = count + call('LLEN', P .. queue .. suffix)
  end
  return count
end

local function has_lists(queue)
  for _, suffix in ipairs(SUFFIXES) do
    if call('EXISTS', P .. queue .. suffix) == 1 then return true end
  end
  return false
end

-- What was declared: {text, recorded, owner, auto_delete, policy}; one without record has neither text nor policy.
-- Decoded only when the flag in front says that the scripts must know something in it.
local PLAIN = {policy = {}, recorded = true}
local UNKNOWN = {policy = {}, recorded = false}
local known = {}
local function queue_of(name)
  local queue = known[name]
  if not queue then
    local text = call('HGET', QUEUES, name)
    if not text then
      queue = UNKNOWN
    elseif string.sub(text, 1, 1) == '0' then
      queue = PLAIN
    else
      queue = cjson.decode(string.sub(text, 2))
      queue.recorded = true
      queue.policy = queue.policy or {}
    end
    known[name] = queue
  end
  return queue
end

local function locked(queue) -- queue: what queue_of returned
  return queue.owner and queue.owner ~= OWNER
end

-- A queue with x-expires ends so many ms after it was last used: by whoever beats then, or, if nobody is left, by the
-- life of its lists, which stock kombu gives them as well.  Consumers keep it, however long they are busy: its lists live
-- longer then, and are seen to in time.
local UNATTENDED = 600000 -- ms that the lists of consumed queues outlive the last process
local SEEN_TO = 5000 -- ms between two looks at a consumed queue, at least

local function keep_lists(name) -- returns when the queue ends, or is to be seen to; nil if it stays
  local limit = queue_of(name).policy.expires
  if not limit then return nil end
  local consumed = call('HLEN', NS .. 'consumers.' .. name) > 0
  for _, suffix in ipairs(SUFFIXES) do
    call('PEXPIRE', P .. name .. suffix, consumed and limit + UNATTENDED or limit)
  end
  return now() + (consumed and math.max(SEEN_TO, math.floor(limit / 2)) or limit)
end

local function used(name)
  local due = keep_lists(name)
  if due then call('ZADD', TIMERS, due, 'idle ' .. name) end
end

-- Metadata: the last key of an envelope, `,"kombu_actors":[count,expires]}`.  Only this text is ever changed: decoding
-- and encoding an envelope would turn its empty lists into objects and its long integers into floats.

local function metadata(raw) -- count, expires, where it begins (nil: it has none)
  local key = string.find(raw, '"kombu_actors"', -64, true) -- mostly there is none, and this is ten times as fast
  if not key then return 0, 0 end
  local start, count, expires = string.match(raw, '(),%s*"kombu_actors":%s*%[%s*(%d+),%s*(%d+)%s*%]%s*}$', -64)
  return tonumber(count) or 0, tonumber(expires) or 0, start
end

local function with_metadata(raw, count, expires)
  local _, _, start = metadata(raw)
  if not start then
    -- Neither an empty object nor what isn't one can take a last key; they will fail to decode as they are.
    if string.sub(raw, -1) ~= '}' or string.sub(raw, -2) == '{}' then return raw end
    start = #raw
  end
  return string.sub(raw, 1, start - 1) .. string.format(',"kombu_actors":[%.0f,%.0f]}', count, expires)
end

local function expired(raw)
  local _, expires = metadata(raw)
  return expires > 0 and expires <= now()
end

local HEAD, AFTER = '{"body": "', '", "content-encoding"' -- around the body, as kombu writes it

-- Where the body's closing quote is; nil of envelopes that aren't written as kombu does.  first: where it begins, or nil.
local function body_end(text, first)
  first = first or 1
  if string.sub(text, first, first + #HEAD - 1) ~= HEAD then return nil end
  return (string.find(text, AFTER, first + #HEAD, true))
end

-- The envelope of a message that goes back to a queue: counted, and marked as redelivered for stock readers; first, last:
-- where it is in a text, if that holds more.  Patterns look at its end only: they take 5 ms for a megabyte, and each copy 1 ms.
local function returned(text, first, last)
  first, last = first or 1, last or #text
  local body = body_end(text, first) or first
  local rest = string.sub(text, body, last)
  local count, expires = metadata(rest)
  rest = with_metadata(rest, count + 1, expires)
  -- Inside a JSON string the quotes would be escaped, so only keys match; greedy, so it's the last one, of `properties`.
  local inside = string.match(rest, '^.*"delivery_info":%s*{()')
  if inside and not string.find(rest, '"redelivered":%s*true', inside) then
    local comma = string.find(rest, '^%s*}', inside) and '' or ', '
    rest = concat{string.sub(rest, 1, inside - 1), '"redelivered": true', comma, string.sub(rest, inside)}
  end
  return string.sub(text, first, body - 1) .. rest, expires
end

-- Claims: messages that an owner has taken, where stock kombu looks for them too.

local function claim(queue, list, raw, channel) -- list: the full key it came from
  local seq = call('HINCRBY', NS .. 'owner.' .. OWNER, 'seq', 1)
  local field = OWNER .. ':' .. seq
  call('HSET', UNACKED, field, concat{'[', raw, ', "", ', cjson.encode(queue), ']'})
  call('ZADD', INDEX, now() / 1000, field)
  -- "r" for a queue on record: what is claimed when its queue is deleted must not revive it.
  local mark = queue_of(queue).recorded and 'r' or 's'
  call('HSET', NS .. 'claims.' .. OWNER, seq, concat{channel, ' ', mark, list})
  return seq
end

-- The queue that a list is of.
local function queue_of_list(list)
  for _, suffix in ipairs(SUFFIXES) do
    if suffix ~= '' and string.sub(list, -#suffix) == suffix then return string.sub(list, #P + 1, -#suffix - 1) end
  end
  return string.sub(list, #P + 1)
end

-- A claim as kept: {channel, recorded, list, queue, value, last}, the envelope being in the value from 2 to last; nil if
-- it's gone.  Takes nothing away.
local function claimed(owner, seq)
  local place = call('HGET', NS .. 'claims.' .. owner, seq)
  local value = place and call('HGET', UNACKED, owner .. ':' .. seq)
  if not value then return nil end
  toil(3, #value)
  local channel, mark, list = string.match(place, '^(%S*) (.)(.*)$')
  local queue = queue_of_list(list)
  local tail = ', "", ' .. cjson.encode(queue) .. ']'
  local found = {channel = channel, recorded = mark == 'r', list = list, queue = queue, value = value}
  if string.sub(value, -#tail) == tail then
    found.last = #value - #tail
  else -- its steps are others than ours
    local after, name = string.match(value, '^%[.*(), "", (".-")%]$')
    found.last, found.queue = after - 1, cjson.decode('[' .. name .. ']')[1]
  end
  return found
end

local function envelope_of(found) return string.sub(found.value, 2, found.last) end

-- Take claims out of all three places; seqs: at most some thousand, as unpack has a limit.
local function unclaim(owner, seqs)
  if #seqs == 0 then return end
  local fields = {}
  for i, seq in ipairs(seqs) do fields[i] = owner .. ':' .. seq end
  call('HDEL', UNACKED, unpack(fields))
  call('ZREM', INDEX, unpack(fields))
  call('HDEL', NS .. 'claims.' .. owner, unpack(seqs))
end

-- Deaths: [seq, queue, reason, dead letter exchange, routing key or false, envelope, cut, bytes of too large a body or 0].
-- A long envelope is reported without its body (cut = 1): `bury` puts that into the dead letter, and nobody need take it.

local BULK_MAX = math.max(2 * BODY_MAX, 1048576) -- what a client takes in one piece (transport/redis/replies.py)
local LONG = 65536

-- The bytes of a body that is too large to be received; nil of others.
local function oversize(raw)
  if #raw <= BODY_MAX then return nil end
  local closing, size = body_end(raw), #raw
  if closing then
    size = closing - #HEAD - 1
    if string.find(raw, '"body_encoding": "base64"', closing, true) then
      size = math.floor(size * 3 / 4) - #string.match(string.sub(raw, closing - 2, closing - 1), '=*$')
      if size > BODY_MAX then return size end
    end
  end
  return #raw > BULK_MAX and size or nil
end

local function report_death(deaths, seq, name, reason, policy, raw, size)
  local closing, cut = #raw > LONG and body_end(raw), 0
  if closing then raw, cut = HEAD .. string.sub(raw, closing), 1 end
  deaths[#deaths + 1] = {seq, name, reason, policy.dlx, policy.dlk or false, raw, cut, size or 0}
end

local function keep_aside(name, raw) -- for people to look at
  call('LPUSH', NS .. 'undecodable', name .. SEP .. raw)
end

-- End a message that is in no list any more.  With a dead letter exchange the caller gets it as a claim, to bury.
-- size: of a body that is too large, or nil.
local function die(deaths, name, list, raw, reason, size)
  toil(1, #raw)
  local policy = queue_of(name).policy
  if not policy.dlx then
    if size then report_death(deaths, 0, name, reason, {dlx = ''}, body_end(raw) and raw or '', size) end
  elseif #raw > BULK_MAX and not body_end(raw) then -- what nobody can take and nobody can cut
    keep_aside(name, raw)
    deaths[#deaths + 1] = {0, name, 'undecodable', '', false, '', 0, #raw}
  else
    report_death(deaths, claim(name, list, raw, DEAD), name, reason, policy, raw, size)
  end
end

-- What dies of `rejected` or `delivery_limit` is a claim already: it changes hands within its owner.
local function condemn(deaths, seq, found, reason) -- found: what claimed(OWNER, seq) returned
  local policy = queue_of(found.queue).policy
  if policy.dlx then
    call('HSET', NS .. 'claims.' .. OWNER, seq, concat{DEAD, ' ', found.recorded and 'r' or 's', found.list})
    report_death(deaths, seq, found.queue, reason, policy, envelope_of(found))
  else
    unclaim(OWNER, {seq})
  end
end

-- Put a message at the head of a list.  If that key holds something else it's kept aside: an error would end the script
-- between two places, and come again with every try.
local function put_back(name, list, raw)
  if type(redis.pcall('RPUSH', list, raw)) == 'table' then keep_aside(name, raw) else keep_lists(name) end
end

-- Give one claim of any owner back to the head of its list.  Give several back by descending seq, and they are in order.
-- False if its queue was deleted meanwhile, and the message with it.
local function give_back(owner, seq, found)
  local deleted = found.recorded and not queue_of(found.queue).recorded
  unclaim(owner, {seq})
  if deleted then return false end
  local raw, expires = returned(found.value, 2, found.last)
  put_back(found.queue, found.list, raw)
  if expires > 0 then arm('ttl ' .. found.queue, expires) end
  return true
end
