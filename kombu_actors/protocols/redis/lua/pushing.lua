-- Part for the scripts that put messages into queues.

local function drop_surplus(deaths, name, limit)
  for _ = 1, length(name) - limit do
    if weary() then return end -- stock publishers know no limit; the next push goes on
    for _, suffix in ipairs(SUFFIXES) do
      local raw = call('RPOP', P .. name .. suffix)
      if raw then
        die(deaths, name, P .. name .. suffix, raw, 'maxlen')
        break
      end
    end
  end
end

-- Put a message at the end of a queue; suffix is of the list, lifetime in ms or nil.  False if the queue refuses it.
local function push(deaths, name, suffix, raw, lifetime)
  local policy = queue_of(name).policy
  local list = P .. name .. suffix
  local limit = policy.max_length
  if limit and policy.overflow and policy.overflow ~= 'drop-head' and length(name) >= limit then
    if policy.overflow == 'reject-publish-dlx' then die(deaths, name, list, raw, 'maxlen') end
    return false
  end
  lifetime = math.min(lifetime or math.huge, policy.ttl or math.huge)
  if lifetime < math.huge then
    if lifetime == 0 then
      if call('ZCARD', NS .. 'waiting.' .. name) == 0 then
        -- It never lies in the queue, but takes its place there for a moment: at the other's cost.
        if limit then drop_surplus(deaths, name, math.max(0, limit - 1)) end
        die(deaths, name, list, raw, 'expired')
        return true
      end
      lifetime = ZERO_TTL_GRACE
    end
    raw = with_metadata(raw, 0, now() + lifetime)
    arm('ttl ' .. name, now() + lifetime)
  end
  call('LPUSH', list, raw)
  used(name) -- RabbitMQ doesn't count a publish as use, but kombu does
  if not queue_of(name).recorded and call('EXISTS', LATE .. name) == 1 then call('EXPIRE', list, LATE_LIFE) end
  if limit and (policy.overflow or 'drop-head') == 'drop-head' then drop_surplus(deaths, name, limit) end
  return true
end
