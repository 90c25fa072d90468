-- Part for the scripts after which someone else may have to look: who waits for a queue, and who of them is told.
--
-- The line is NS"waiting."<queue>: a waiter's score is when it came, in us; below zero once it was woken and is on its
-- way.  NS"sentries."<queue> are those whose links hear of arrivals by client tracking.  What holds after every script:
-- while someone waits for an empty queue, a sentry is there or someone is on its way; while messages are left, someone
-- is on its way or is told by its list, and when it claims, as many are sent for as messages are left after it.

local ENOUGH = 2 -- sentries of a queue: one that dies unnoticed doesn't make it deaf, and an arrival wakes few

-- Tell a waiter ("<owner>/<channel>"; the owner is hex and holds no slash) to look at a queue; returns how many links
-- heard it.
local function wake(waiter, queue)
  local owner, channel = string.match(waiter, '^([^/]*)/(.*)$')
  return call('PUBLISH', NS .. 'wake.' .. owner, concat({'w', channel, queue}, ' '))
end

local function line_of(queue) return NS .. 'waiting.' .. queue end
local function sentries_of(queue) return NS .. 'sentries.' .. queue end

-- False, and out of the line, if nobody listens for that waiter any more: its link is dead.
local function rouse(queue, waiter, arrival)
  if wake(waiter, queue) > 0 then
    call('ZADD', line_of(queue), 'XX', '-' .. arrival, waiter)
    return true
  end
  call('ZREM', line_of(queue), waiter)
  call('SREM', sentries_of(queue), waiter)
  return false
end

-- Wake those who are next, so that what the head of this file says holds; left: messages in the queue.
local function attend(queue, left)
  local line, sentries = line_of(queue), sentries_of(queue)
  local woken, armed = call('ZCOUNT', line, '-inf', '(0'), call('SCARD', sentries)
  local most = math.max(left, ENOUGH) - woken
  if most <= 0 or (left <= woken and woken + armed >= ENOUGH) then return end
  local next_ones = call('ZRANGE', line, 0, '+inf', 'BYSCORE', 'LIMIT', 0, most, 'WITHSCORES')
  local gone = false
  for i = 1, #next_ones, 2 do
    local waiter, arrival = next_ones[i], next_ones[i + 1]
    -- To look at what is left, anyone; to become a sentry, who isn't one.
    if woken < left or (woken + armed < ENOUGH and call('SISMEMBER', sentries, waiter) == 0) then
      if rouse(queue, waiter, arrival) then woken = woken + 1 else gone = true end
    end
  end
  if gone then attend(queue, left) end -- ends: each time there is one less
end

local function quit_line(queue, waiter)
  if call('ZREM', line_of(queue), waiter) == 0 then return end
  call('SREM', sentries_of(queue), waiter)
  if call('ZCARD', line_of(queue)) > 0 then attend(queue, length(queue)) end
end

-- Lists to which an owner is giving messages back, in more than one step: nobody is to take the later ones before the
-- earlier ones are there, too.
local function lists_held_back()
  local held = {}
  for _, owner in ipairs(call('SMEMBERS', NS .. 'returners')) do
    for _, list in ipairs(call('SMEMBERS', NS .. 'returns.' .. owner)) do held[list] = true end
  end
  return held
end
