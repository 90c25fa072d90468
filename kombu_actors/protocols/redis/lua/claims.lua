-- Part for the scripts that hand out claims and take them back.

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
  local count = metadata(found.raw)
  if limit and count + 1 > limit then
    condemn(deaths, seq, found, 'delivery_limit')
  else
    give_back(OWNER, seq, found)
  end
end

local function has_queue(name)
  return queue_of(name).recorded or has_lists(name)
end
