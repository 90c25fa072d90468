-- needs: waiting claims
-- claim channel count bytes no_ack share nqueues queue.. -> [state, [queue index, seq or 0, raw, ..], deaths, next_timer,
--   [queue index ..], [queue index ..]]; the first queue's index is 1
-- state 0: not in line, claim again when there is room; 1: a sentry of the queues listed next; 2: in line.
-- Takes at most `count` messages, and stops after the one that exceeds `bytes`.  Listed last are queues that can't be
-- read.  With count 0 a channel that has no room leaves the lines of queues, but for those (listed next) where it's
-- the only one, and the sentry: it will hear of arrivals, and its place is nobody else's.
local channel, room, bytes = ARGV[FIRST], tonumber(ARGV[FIRST + 1]), tonumber(ARGV[FIRST + 2])
local no_ack, share = ARGV[FIRST + 3] == '1', ARGV[FIRST + 4] == '1'
local queues = {unpack(ARGV, FIRST + 6, FIRST + 5 + ARGV[FIRST + 5])}
local MAX_POP = 500 -- what unpack takes in one go, twice
if not alive() then return fenced() end
-- It begins with an RPOP, or a ZREM: see work_when_full.

local me = OWNER .. '/' .. channel
local taken, deaths, served = {}, {}, {}
local held = lists_held_back()

-- How much of a queue is for the caller when others wait as well.
local in_line = {} -- per queue, at the beginning
local function fair_share(index, name)
  local line = line_of(name)
  local others = call('ZCARD', line)
  in_line[index] = others
  if others == 0 then return room end
  if call('ZSCORE', line, me) then others = others - 1 end
  if others == 0 then return room end
  return math.max(1, math.ceil(length(name) / (1 + others)))
end

-- Take up to `most` messages from one list; returns how many it were.
local function take(index, name, list, most)
  local wanted, chunk, policy = most, 1, queue_of(name).policy
  while wanted > 0 and bytes > 0 and not weary() do
    local popped = call('RPOP', list, chunk)
    if not popped then break end
    local size = 0
    for i, raw in ipairs(popped) do
      if bytes <= 0 or weary() then
        -- Larger ones than those before: the rest goes back as it was, the last popped first.
        for j = #popped, i, -1 do call('RPUSH', list, popped[j]) end
        break
      end
      local cause, large = cause_of_death(raw, policy)
      if cause then
        die(deaths, name, list, raw, cause, large)
      else
        taken[#taken + 1], served[index] = {index, list, raw}, true
        wanted, room, bytes = wanted - 1, room - 1, bytes - #raw
      end
      size = size + #raw
    end
    if #popped < chunk then break end
    chunk = math.max(1, math.min(wanted, MAX_POP, math.ceil(bytes * #popped / size)))
  end
  return most - wanted
end

local quota, failure, broken = {}, nil, {}
local function serve(index, suffix, most) -- returns whether that list is empty now
  local name = queues[index]
  quota[index] = quota[index] or fair_share(index, name)
  local wanted, list = math.min(most, quota[index], room), P .. name .. suffix
  if held[list] then return true end
  local got = take(index, name, list, wanted)
  quota[index] = quota[index] - got
  return got < wanted
end

-- As in kombu, what is most urgent in any queue goes before what is less urgent in another.
local function serve_all(suffix)
  local done = {}
  local function each(most)
    for index = 1, #queues do
      if not (done[index] or broken[index]) then
        -- An error (a key of the queue's name holds something else) must not end the script before what was taken is
        -- recorded.
        local good, result = pcall(serve, index, suffix, most)
        if good then done[index] = result else failure, broken[index] = result, true end
      end
    end
  end
  if share and #queues > 1 then each(math.max(1, math.floor(room / #queues))) end
  each(math.huge)
end
for _, suffix in ipairs(SUFFIXES) do
  if room > 0 then serve_all(suffix) end
end
if failure and #taken + #deaths == 0 then
  return type(failure) == 'table' and failure or redis.error_reply(failure)
end

-- Record them all at once, as `claim` does one.
local messages = {}
local function record()
  local last = call('HINCRBY', NS .. 'owner.' .. OWNER, 'seq', #taken)
  local score, tails, marks = now() / 1000, {}, {}
  for index in pairs(served) do
    local name = queues[index]
    tails[index] = ', "", ' .. cjson.encode(name) .. ']'
    marks[index] = channel .. (queue_of(name).recorded and ' r' or ' s')
  end
  for first = 1, #taken, MAX_POP do
    local values, scores, places = {}, {}, {}
    for i = first, math.min(first + MAX_POP - 1, #taken) do
      local index, list, raw = unpack(taken[i])
      local seq, at = last - #taken + i, #values
      local field = OWNER .. ':' .. seq
      values[at + 1], values[at + 2] = field, '[' .. raw .. tails[index]
      scores[at + 1], scores[at + 2] = score, field
      places[at + 1], places[at + 2] = seq, marks[index] .. list
      messages[#messages + 1], messages[#messages + 2], messages[#messages + 3] = index, seq, raw
    end
    call('HSET', UNACKED, unpack(values))
    call('ZADD', INDEX, unpack(scores))
    call('HSET', NS .. 'claims.' .. OWNER, unpack(places))
  end
end
if no_ack then
  for i, message in ipairs(taken) do
    messages[i * 3 - 2], messages[i * 3 - 1], messages[i * 3] = message[1], 0, message[3]
  end
elseif #taken > 0 then
  record()
end

-- Who got less than it has room for waits for more.
local waits = room > 0 and bytes > 0 and not weary()
local sentry_for = {}

local function wait_in_line(index, name)
  local line, sentries = line_of(name), sentries_of(name)
  local time = call('TIME')
  local arrival = string.format('%d%06d', time[1], time[2])
  local before = call('ZSCORE', line, me)
  if not before then call('SADD', NS .. 'held.' .. OWNER, concat({'w:' .. name, channel}, '\0')) end
  -- Who was served goes to the end of the line; who came in vain keeps its place.
  call('ZADD', line, (before and not served[index]) and string.gsub(before, '-', '') or arrival, me)
  local left, coming = length(name), false
  for _, suffix in ipairs(SUFFIXES) do coming = coming or held[P .. name .. suffix] end
  local armed, mine = call('SCARD', sentries), call('SISMEMBER', sentries, me)
  local others = call('ZCARD', line) - 1 - (armed - mine) -- who wait and aren't sentries
  -- A sentry hears of the next arrival first, so who was served lets others; and an arrival is no news while some is left.
  local fit = left == 0 and not coming and not (served[index] and others > 0) and armed - mine < ENOUGH
  if fit then
    if mine == 0 then call('SADD', sentries, me) end
    sentry_for[#sentry_for + 1] = index
  elseif mine == 1 then
    call('SREM', sentries, me)
  end
  if not coming then attend(name, left) end -- else who completes the return does
end

-- Whether nobody would be any better off if the caller left the line.
local function alone_in_line(name)
  local line = line_of(name)
  return call('ZCARD', line) == 1 and tonumber(call('ZSCORE', line, me) or -1) >= 0
    and call('SISMEMBER', sentries_of(name), me) == 1
end

local unreadable, away = {}, room == 0 and #taken == 0
for index, name in ipairs(queues) do
  if broken[index] then
    unreadable[#unreadable + 1] = index -- nobody can wait for that
  elseif away and alone_in_line(name) then
    sentry_for[#sentry_for + 1] = index
  elseif waits then
    wait_in_line(index, name)
  elseif in_line[index] ~= 0 then
    quit_line(name, me)
  end
  if not broken[index] then used(name) end
end
local state = waits and (#sentry_for > 0 and 1 or 2) or 0
return {state, messages, deaths, next_timer(), sentry_for, unreadable}
