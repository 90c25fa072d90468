-- Part for the scripts with which an owner, or one channel of it, goes.  Needs: ending waiting claims.

-- Give an owner's claims back, the latest first, so that all lists are as they were; only one channel's if it's named.
-- deaths: nil if nobody is there to bury them; then a message that came back too often dies when it's claimed next.
local function return_claims(owner, channel, deaths)
  local entries, seqs, count = call('HGETALL', NS .. 'claims.' .. owner), {}, 0
  for i = 1, #entries, 2 do
    if not channel or string.match(entries[i + 1], '^%S*') == channel then seqs[#seqs + 1] = tonumber(entries[i]) end
  end
  table.sort(seqs, function(a, b) return a > b end)
  for _, seq in ipairs(seqs) do
    local found = claimed(owner, seq)
    if not found then
      call('HDEL', NS .. 'claims.' .. owner, seq) -- a stock kombu restored it
    else
      if deaths then requeue(deaths, seq, found) else give_back(owner, seq, found) end
      count = count + 1
    end
  end
  return count
end

-- End one subscription; its queue ends with the last one if it's auto-delete.
local function unsubscribe(owner, channel, tag, queue)
  call('SREM', NS .. 'held.' .. owner, concat({'c:' .. queue, channel, tag}, '\0'))
  if call('HDEL', NS .. 'consumers.' .. queue, concat({owner, channel, tag}, '/')) == 0 then return end
  used(queue)
  if queue_of(queue).auto_delete and call('HLEN', NS .. 'consumers.' .. queue) == 0 then end_queue(queue) end
end

-- All that an owner, or one channel of it, holds.  Claims go first: queues that end take them along.
local function depart(owner, channel, deaths)
  local count = return_claims(owner, channel, deaths)
  local held = NS .. 'held.' .. owner
  for _, entry in ipairs(call('SMEMBERS', held)) do
    local kind, rest = string.sub(entry, 1, 2), string.sub(entry, 3)
    if kind == 'c:' then
      local queue, number, tag = string.match(rest, '^(.-)%z(.-)%z(.*)$')
      if not channel or channel == number then unsubscribe(owner, number, tag, queue) end
    elseif kind == 'w:' and channel then
      quit_line(rest, owner .. '/' .. channel)
    elseif kind == 'w:' then
      for _, waiter in ipairs(call('ZRANGE', line_of(rest), 0, -1)) do
        if string.match(waiter, '^[^/]*') == owner then quit_line(rest, waiter) end
      end
    elseif not channel and queue_of(rest).owner == owner then
      end_queue(rest)
    end
  end
  if not channel then
    call('DEL', held, NS .. 'claims.' .. owner, NS .. 'owner.' .. owner)
    call('ZREM', OWNERS, owner)
  end
  return count
end
