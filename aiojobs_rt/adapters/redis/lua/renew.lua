-- Renew: a worker's lease on a queue, also an expired one that nobody reclaimed. Goes on at maxmemory. (G7, G11)
-- KEYS  workers, grace, wake:<consumer>, stats
-- ARGV  consumer, lease ms, grace ms, when this queue's data began
-- Returns {state, now}: 'held'; 'lost' (it was reclaimed); 'forgotten' (the data is not what it was: flushed, or an older copy). First write: ZREM.
local workers, grace, wake, stats = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local consumer, lease, grace_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
--@include guard
local wrong = guard(workers, 'zset') or guard(stats, 'hash')
if wrong then
  return wrong
end
--@include clock
local expiry = redis.call('ZSCORE', workers, consumer)
if not expiry or tonumber(expiry) == 0 then
  return {redis.call('HGET', stats, 'born') == ARGV[4] and 'lost' or 'forgotten', now}
end
local outage = tonumber(expiry) < now and redis.call('ZCOUNT', workers, '(' .. ms(now), '+inf') == 0
redis.call('ZREM', workers, consumer)
redis.call('ZADD', workers, now + lease, consumer)
if outage then
  redis.call('SET', grace, '1', 'PX', grace_ms)
end
redis.call('PEXPIRE', wake, lease * 4)
return {'held', now}
