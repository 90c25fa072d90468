-- Part for `hello`: which of the commands that the scripts use are not to be had here, for want of a permission or because
-- the server knows them by another name.  A script that fails is not undone, so this must be known before there is any.

local function refused_commands()
  local key, refused = NS .. 'nothing', {}
  local function try(command, ...)
    local reply = redis.pcall(command, ...)
    local why = type(reply) == 'table' and reply.err
    if why and (string.find(why, "can't run this command", 1, true) or string.find(why, 'permissions to run', 1, true)
      or string.find(why, '^%S* ?.*Unknown .*command')) then refused[#refused + 1] = string.lower(command) end
  end
  local function try_all(commands)
    for _, command in ipairs(commands) do try(command[1], key, unpack(command, 2)) end
    redis.pcall('DEL', key) -- what comes next is of another type
  end
  try('TIME')
  try('PUBLISH', NS .. 'wake.', '')
  try('SUNIONSTORE', key, key)
  try('ZDIFF', 1, key)
  try_all{
    {'DEL'}, {'SET', ''}, {'GET'}, {'SETRANGE', 0, ''}, {'EXISTS'}, {'EXPIRE', 9}, {'PEXPIRE', 9000}, {'PERSIST'},
    {'RENAME', key}, {'UNLINK'},
  }
  try_all{{'LPUSH', ''}, {'RPUSH', ''}, {'LLEN'}, {'LINDEX', 0}, {'RPOP'}}
  try_all{
    {'HSET', 'a', 0}, {'HINCRBY', 'a', 1}, {'HGET', 'a'}, {'HMGET', 'a'}, {'HEXISTS', 'a'}, {'HKEYS'}, {'HVALS'}, {'HLEN'},
    {'HSCAN', 0}, {'HDEL', 'a'},
  }
  try_all{
    {'SADD', 'a'}, {'SCARD'}, {'SMEMBERS'}, {'SISMEMBER', 'a'}, {'SSCAN', 0}, {'SRANDMEMBER'}, {'SREM', 'a'}, {'SPOP'},
  }
  try_all{
    {'ZADD', 0, 'a'}, {'ZCARD'}, {'ZCOUNT', 0, 1}, {'ZSCORE', 'a'}, {'ZMSCORE', 'a'}, {'ZLEXCOUNT', '-', '+'}, {'ZRANGE', 0, 0},
    {'ZREM', 'a'},
  }
  return refused
end
