-- Needs parked, index, channel, queue, ms. later(set, state, id, due, packed): a job into a set of due times; an earlier due time wakes the promoters.
local function later(set, state, id, due, packed)
  redis.call('HSET', parked, id, packed)
  redis.call('ZADD', set, due, id)
  redis.call('HSET', index, id, state)
  if redis.call('ZRANGE', set, 0, 0)[1] == id then
    redis.pcall('PUBLISH', channel, 'due ' .. queue .. ' ' .. ms(due))
  end
end
