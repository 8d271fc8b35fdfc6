-- Pause: a queue is not read any more, or is again; its workers are told.
-- KEYS  paused
-- ARGV  'pause' or 'resume', channel, queue
-- Returns 1, or 0 when it was so already. First write: HDEL.
local paused = KEYS[1]
local action, channel, queue = ARGV[1], ARGV[2], ARGV[3]
--@include guard
local wrong = guard(paused, 'hash')
if wrong then
  return wrong
end
--@include clock
local before = redis.call('HDEL', paused, 'queue')
if action == 'pause' then
  redis.call('HSET', paused, 'queue', ms(now))
end
redis.pcall('PUBLISH', channel, action .. ' ' .. queue)
return action == 'pause' and 1 - before or before
