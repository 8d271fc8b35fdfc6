-- Leave: a worker gives up its lease on a queue. With nothing pending its consumer goes; else it is condemned, and reclaimed at once.
-- KEYS  workers, stream, lanes, wake:<consumer>, call:<consumer>
-- ARGV  consumer
-- Returns how many entries are left pending. First write: ZREM.
local workers, stream, lanes, wake, call = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local consumer = ARGV[1]
--@include guard
local wrong = guard(workers, 'zset') or guard(lanes, 'zset')
if wrong then
  return wrong
end
redis.call('ZREM', workers, consumer)
local keys = {stream}
for _, lane in ipairs(redis.call('ZRANGE', lanes, 0, -1)) do
  keys[#keys + 1] = stream .. ':' .. lane
end
local pending = 0
for _, key in ipairs(keys) do
  local found = redis.pcall('XPENDING', key, 'workers', '-', '+', 1, consumer)
  if not found.err then
    pending = pending + #found
  end
end
if pending > 0 then
  redis.call('ZADD', workers, 0, consumer)
  return pending
end
for _, key in ipairs(keys) do
  redis.pcall('XGROUP', 'DELCONSUMER', key, 'workers', consumer)
end
redis.call('DEL', wake, call)
return 0
