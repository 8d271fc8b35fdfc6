-- Needs dead, parked, index, errors, dead_jobs, dead_age, now, and `ending`. bury(id, job, args, meta, lane): a job into the dead set.
-- A history whose key is no list is not kept: by then it is too late to refuse.
local function note_error(id, record)
  local key = errors .. id
  local noted = redis.pcall('LPUSH', key, record)
  if type(noted) == 'number' then
    redis.call('LTRIM', key, 0, 24)
    redis.call('PEXPIRE', key, dead_age + 86400000)
  end
end
local function bury(id, job, args, meta, lane)
  redis.call('HSET', parked, id, cmsgpack.pack({lane, job, args, meta}))
  redis.call('ZADD', dead, now, id)
  redis.call('HSET', index, id, 'dead')
end
-- Oldest out first, by count and by age, at most 100 a call.
local function trim_dead()
  local function forget(ids)
    for _, id in ipairs(ids) do
      redis.call('ZREM', dead, id)
      redis.call('HDEL', parked, id)
      redis.call('HDEL', index, id)
      redis.call('DEL', errors .. id)
    end
  end
  local excess = redis.call('ZCARD', dead) - dead_jobs
  if excess > 0 then
    forget(redis.call('ZRANGE', dead, 0, math.min(excess, 100) - 1))
  end
  forget(redis.call('ZRANGEBYSCORE', dead, '-inf', now - dead_age, 'LIMIT', 0, 100))
end
