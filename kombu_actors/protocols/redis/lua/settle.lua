-- needs: claims
-- settle na seq.. nr seq.. nd seq.. -> [[seqs of stale ones], deaths]: acks, requeues, discards.
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
local stale, deaths = {}, {}
if #requeues + #discards > 0 then work_when_full() end

for first = 1, #acks, 1000 do
  local seqs, fields = {unpack(acks, first, math.min(first + 999, #acks))}, {}
  for i, seq in ipairs(seqs) do fields[i] = OWNER .. ':' .. seq end
  for i, score in ipairs(call('ZMSCORE', INDEX, unpack(fields))) do
    if not score then stale[#stale + 1] = tonumber(seqs[i]) end
  end
  unclaim(OWNER, seqs)
end

local function each_claimed(seqs, settle)
  for _, seq in ipairs(seqs) do
    local found = claimed(OWNER, seq)
    if found then
      settle(tonumber(seq), found)
    else
      stale[#stale + 1] = tonumber(seq)
      call('HDEL', NS .. 'claims.' .. OWNER, seq)
    end
  end
end
-- The latest first: each goes to the head of its list, so the earliest will be in front.
table.sort(requeues, function(a, b) return tonumber(a) > tonumber(b) end)
each_claimed(requeues, function(seq, found) requeue(deaths, seq, found) end)
each_claimed(discards, function(seq, found) condemn(deaths, seq, found, 'rejected') end)
return {stale, deaths}
