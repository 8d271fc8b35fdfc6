-- Arrive: a job that another queue sent. A second carrier of the same one does nothing. (G2)
-- KEYS  stream, index, retries, parked, lanes, arrived:<id>:<hop>, errors:<id>, moved:<id>, dead
-- ARGV  channel, queue, id, delay ms, message, errors, keep errors ms, error of a delay that is none
-- Returns 1; 0 when it had arrived; 2 when it is dead, as its delay is none (settle.lua writes no such). First write: SET. (G10)
local stream, index, retries, parked, lanes, arrived = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local errors, moved, dead = KEYS[7], KEYS[8], KEYS[9]
local channel, queue, id, delay, packed, history, keep = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6], ARGV[7]
local fault = ARGV[8]
--@include guard
local wrong = guard(stream, 'stream') or guard(index, 'hash') or guard(retries, 'zset') or guard(parked, 'hash') or guard(lanes, 'zset')
  or guard(errors, 'list') or guard(dead, 'zset')
if wrong then
  return wrong
end
--@include clock
--@include lane
--@include later
local message, records = cmsgpack.unpack(packed), cmsgpack.unpack(history)
if not redis.call('SET', arrived, '1', 'NX', 'PX', 86400000) then
  return 0
end
for _, record in ipairs(records) do
  redis.call('RPUSH', errors, record)
end
local sound = delay and delay >= 0 and delay < 1e15 -- not so for nan
if not sound then
  redis.call('LPUSH', errors, fault)
end
redis.call('PEXPIRE', errors, keep)
redis.call('DEL', moved)
if not sound then
  redis.call('HSET', parked, id, packed)
  redis.call('ZADD', dead, now, id)
  redis.call('HSET', index, id, 'dead')
  return 2
end
if delay == 0 then
  push(message[1], id, message[2], message[3], message[4])
else
  later(retries, 'retries', id, now + delay, packed)
end
return 1
