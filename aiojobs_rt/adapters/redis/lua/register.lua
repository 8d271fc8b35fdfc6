-- Register: a worker takes a lease on a queue; the groups are made at id 0, so that nothing enqueued before is skipped. (G1, G11)
-- KEYS  workers, grace, stream, lanes, wake:<consumer>, stats
-- ARGV  consumer, lease ms, grace ms
-- Returns {now, 1 when it was Redis that was away (-1: this consumer is condemned, nothing was done), when this queue's data began}. First write: ZADD.
local workers, grace, stream, lanes, wake, stats = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local consumer, lease, grace_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
--@include guard
local wrong = guard(workers, 'zset') or guard(stream, 'stream') or guard(lanes, 'zset') or guard(wake, 'stream')
  or guard(stats, 'hash')
for _, lane in ipairs(wrong and {} or redis.call('ZRANGE', lanes, 0, -1)) do
  wrong = wrong or guard(stream .. ':' .. lane, 'stream')
end
if wrong then
  return wrong
end
--@include clock
if tonumber(redis.call('ZSCORE', workers, consumer) or 1) == 0 then
  return {now, -1, ''}
end
local outage = 0
if redis.call('ZCARD', workers) > 0 and redis.call('ZCOUNT', workers, '(' .. ms(now), '+inf') == 0 then
  outage = 1
end
redis.call('ZADD', workers, now + lease, consumer)
if outage == 1 then
  redis.call('SET', grace, '1', 'PX', grace_ms)
end
local function group(key)
  local made = redis.pcall('XGROUP', 'CREATE', key, 'workers', '0', 'MKSTREAM')
  if type(made) == 'table' and made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then
    return made
  end
end
wrong = group(stream) or group(wake)
if wrong then
  return wrong
end
for _, lane in ipairs(redis.call('ZRANGE', lanes, 0, -1)) do
  group(stream .. ':' .. lane)
end
redis.call('PEXPIRE', wake, lease * 4)
redis.call('HSETNX', stats, 'born', ms(now))
return {now, outage, redis.call('HGET', stats, 'born')}
