-- Needs parked, index, channel, queue, ms. later(set, state, id, due, packed): a job into a set of due times; an earlier due time wakes the promoters.
local heads = {} -- the earliest due time of each set, as far as it was looked at
local function later(set, state, id, due, packed)
  if not heads[set] then
    heads[set] = tonumber(redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')[2]) or math.huge
  end
  redis.call('HSET', parked, id, packed)
  redis.call('ZADD', set, due, id)
  redis.call('HSET', index, id, state)
  if due < heads[set] then
    heads[set] = due
    redis.pcall('PUBLISH', channel, 'due ' .. queue .. ' ' .. ms(due))
  end
end
