-- needs: headers ending
-- unbind kind exchange destination key pattern arguments -> ["ok"] | ["locked"]
local kind, name, destination, key = ARGV[FIRST], ARGV[FIRST + 1], ARGV[FIRST + 2], ARGV[FIRST + 3]
local pattern, arguments = ARGV[FIRST + 4], ARGV[FIRST + 5]
if not alive() then return fenced() end
local removed = false
if kind == 'queue' then
  if locked(queue_of(destination)) then return {'locked'} end
  -- Wherever it may be kept: who unbinds need not know how it was bound.
  removed = remove_from_table(name, concat({key, pattern, destination}, SEP))
  removed = remove_from_table(name, concat({key, '', destination}, SEP)) or removed
end
removed = remove_from_hash(name, cjson.encode{kind, destination, key, arguments}) or removed
if removed then
  end_unused{[name] = true}
  if not sweep() then leave_work() end
end
return {'ok'}
