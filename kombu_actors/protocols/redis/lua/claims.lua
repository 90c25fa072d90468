-- Part for the scripts that hand out claims and take them back.  Needs: waiting.

-- Why a message at the head of a queue is not to be handed out, and of how many bytes its body is if that is why; nil if
-- it is.
local function cause_of_death(raw, policy)
  local count, expires = metadata(raw)
  if expires > 0 and expires <= now() then return 'expired' end
  if policy.delivery_limit and count > policy.delivery_limit then return 'delivery_limit' end
  local size = oversize(raw)
  if size then return 'rejected', size end
end

-- Give one of the caller's claims back, or let it die if that happened too often.
local function requeue(deaths, seq, found)
  local limit = queue_of(found.queue).policy.delivery_limit
  local count = metadata(string.sub(found.value, math.max(2, found.last - 99), found.last))
  if limit and count + 1 > limit then
    condemn(deaths, seq, found, 'delivery_limit')
  else
    give_back(OWNER, seq, found)
  end
end

local function has_queue(name)
  return queue_of(name).recorded or has_lists(name)
end

-- Claims on their way back to their queues: NS"back."<owner> has their numbers, NS"returns."<owner> the lists that they
-- go to.  The latest go first, each to the head of its list, so that in the end all lists are as they were.

local function returns_of(owner) return NS .. 'returns.' .. owner end

-- Note that claims go back; places: as they are in NS"claims.", [seq, place, ..].
local function send_back(owner, places)
  local seqs, lists = {}, {}
  for i = 1, #places, 2 do
    seqs[#seqs + 1], seqs[#seqs + 2] = places[i], places[i]
    lists[string.match(places[i + 1], '^%S* .(.*)$')] = true
  end
  if #seqs == 0 then return end
  call('ZADD', NS .. 'back.' .. owner, unpack(seqs))
  for list in pairs(lists) do call('SADD', returns_of(owner), list) end
  toil(#places / 20)
end

-- Give back what was noted, for a step; returns how many claims that were, and whether it's done.
-- deaths: nil if nobody is there to bury them; then a message that came back too often dies when it's claimed next.
local function go_back(owner, deaths)
  local back, count = NS .. 'back.' .. owner, 0
  while not weary() do
    local seq = tonumber(call('ZRANGE', back, 0, 0, 'REV')[1]) -- whoever buries it is told a number
    if not seq then break end
    local found = claimed(owner, seq)
    if found then
      if deaths then requeue(deaths, seq, found) else give_back(owner, seq, found) end
      count = count + 1
    else
      call('HDEL', NS .. 'claims.' .. owner, seq) -- a stock kombu restored it
    end
    call('ZREM', back, seq)
  end
  if call('EXISTS', back) == 1 then
    call('SADD', NS .. 'returners', owner)
    return count, false
  end
  -- Who waits for these lists was kept from looking.
  if call('SREM', NS .. 'returners', owner) == 1 then
    local queues = {}
    for _, list in ipairs(call('SMEMBERS', returns_of(owner))) do queues[queue_of_list(list)] = true end
    call('DEL', returns_of(owner))
    for name in pairs(queues) do attend(name, length(name)) end
  else
    call('DEL', returns_of(owner))
  end
  return count, true
end
