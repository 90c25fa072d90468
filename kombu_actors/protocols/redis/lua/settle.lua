-- needs: waiting claims
-- settle na seq.. nr seq.. nd seq.. -> [[seqs of stale ones], deaths, 1|0, [seqs of discards that were not reached]]:
-- acks, requeues, discards; 0: not all is back yet, which `unload` goes on with.
-- Stale is what isn't claimed any more: it was given to someone else, or is about to be.
if not alive() then return fenced() end
local position = FIRST
local function block()
  local seqs, first = {}, position + 1
  position = first + tonumber(ARGV[position])
  for i = first, position - 1 do seqs[#seqs + 1] = ARGV[i] end
  return seqs
end
local acks, requeues, discards = block(), block(), block()
local stale, deaths, unreached = {}, {}, {}
if #requeues + #discards > 0 then work_when_full() end

for first = 1, #acks, 1000 do
  local seqs, fields = {unpack(acks, first, math.min(first + 999, #acks))}, {}
  for i, seq in ipairs(seqs) do fields[i] = OWNER .. ':' .. seq end
  for i, score in ipairs(call('ZMSCORE', INDEX, unpack(fields))) do
    if not score then stale[#stale + 1] = tonumber(seqs[i]) end
  end
  unclaim(OWNER, seqs)
end

for first = 1, #requeues, 500 do
  local seqs, places = {unpack(requeues, first, math.min(first + 499, #requeues))}, {}
  local found = call('HMGET', NS .. 'claims.' .. OWNER, unpack(seqs))
  for i, seq in ipairs(seqs) do
    if found[i] and call('HEXISTS', UNACKED, OWNER .. ':' .. seq) == 1 then
      places[#places + 1], places[#places + 2] = seq, found[i]
    else
      stale[#stale + 1] = tonumber(seq)
      if found[i] then call('HDEL', NS .. 'claims.' .. OWNER, seq) end
    end
  end
  send_back(OWNER, places)
end
local done = 1
if #requeues > 0 then
  local _, all = go_back(OWNER, deaths)
  done = all and 1 or 0
end
for _, seq in ipairs(discards) do
  local found = not weary() and claimed(OWNER, seq)
  if found then
    condemn(deaths, tonumber(seq), found, 'rejected')
  elseif weary() then
    unreached[#unreached + 1] = tonumber(seq)
  else
    stale[#stale + 1] = tonumber(seq)
    call('HDEL', NS .. 'claims.' .. OWNER, seq)
  end
end
return {stale, deaths, done, unreached}
