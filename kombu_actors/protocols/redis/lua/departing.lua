-- Part for the scripts with which an owner, or one channel of it, goes.  Needs: ending waiting claims.

local DEPARTING = NS .. 'departing' -- owners that are gone, and hold something still: whoever beats goes on with them

-- Note all claims of an owner that go back, a step of them; only one channel's if it's named.  Returns whether it's done.
local function gather(owner, channel)
  local progress, mine = NS .. 'progress.' .. owner, channel or ''
  local cursor = call('HGET', progress, mine)
  if cursor == 'done' then return true end
  cursor = cursor or '0'
  repeat
    local page = call('HSCAN', NS .. 'claims.' .. owner, cursor, 'COUNT', 200)
    local places = {}
    for i = 1, #page[2], 2 do
      if not channel or string.match(page[2][i + 1], '^%S*') == channel then
        places[#places + 1], places[#places + 2] = page[2][i], page[2][i + 1]
        if #places == 1000 then
          send_back(owner, places)
          places = {}
        end
      end
    end
    send_back(owner, places)
    toil(#page[2] / 20)
    cursor = page[1]
  until cursor == '0' or weary()
  local done = cursor == '0'
  call('HSET', progress, mine, done and 'done' or cursor)
  if not done then call('SADD', NS .. 'returners', owner) end
  return done
end

-- End one subscription; its queue ends with the last one if it's auto-delete.
local function unsubscribe(owner, channel, tag, queue)
  call('SREM', NS .. 'held.' .. owner, concat({'c:' .. queue, channel, tag}, '\0'))
  if call('HDEL', NS .. 'consumers.' .. queue, concat({owner, channel, tag}, '/')) == 0 then return end
  used(queue)
  if queue_of(queue).auto_delete and call('HLEN', NS .. 'consumers.' .. queue) == 0 then end_queue(queue) end
end

-- All that an owner, or one channel of it, holds.  Claims go first: queues that end take them along.  Returns how many
-- claims went back, and whether it holds nothing any more; if not, this is to be called again.
local function depart(owner, channel, deaths)
  if not channel then -- fenced from now on
    call('ZREM', OWNERS, owner)
    call('SADD', DEPARTING, owner)
  end
  local count, done = 0, gather(owner, channel)
  if done then count, done = go_back(owner, deaths) end
  if not done then return count, false end
  local held = NS .. 'held.' .. owner
  for _, entry in ipairs(call('SMEMBERS', held)) do
    if weary() then return count, false end
    local kind, rest = string.sub(entry, 1, 2), string.sub(entry, 3)
    if kind == 'c:' then
      local queue, number, tag = string.match(rest, '^(.-)%z(.-)%z(.*)$')
      if not channel or channel == number then
        unsubscribe(owner, number, tag, queue)
        toil(2)
      end
    elseif kind == 'w:' then
      local queue, number = string.match(rest, '^(.-)%z(.*)$')
      if not channel or channel == number then
        quit_line(queue, owner .. '/' .. number)
        call('SREM', held, entry)
        toil(2)
      end
    elseif not channel then
      if queue_of(rest).owner == owner then end_queue(rest) end
      call('SREM', held, entry)
      toil(2)
    end
  end
  if not sweep() then leave_work() end
  if channel then
    call('HDEL', NS .. 'progress.' .. owner, channel)
  else
    call('DEL', held, NS .. 'claims.' .. owner, NS .. 'owner.' .. owner, NS .. 'progress.' .. owner)
    call('SREM', DEPARTING, owner)
    call('ZREM', PROMISES, owner)
  end
  return count, true
end
