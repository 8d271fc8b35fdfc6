-- Cancel: a waiting job goes; a delivered one is marked, and its worker told.
-- KEYS  index, stream, cancelled, scheduled, retries, parked, recent, stats, errors:<id>, result:<id>
-- ARGV  id, channel, queue, recent cap
-- A user who may not read what holds arguments (a producer) notes '?' as the name of the job that goes.
-- Returns 'gone', 'marked', 'ended' or 'unknown'. First write: ZREM, XDEL or HDEL.
local index, stream, cancelled, scheduled, retries = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local parked, recent, stats, errors, result = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local id, channel, queue, recent_cap = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
--@include guard
local wrong = guard(stream, 'stream') or guard(index, 'hash') or guard(cancelled, 'hash') or guard(scheduled, 'zset') or guard(retries, 'zset')
  or guard(parked, 'hash') or guard(recent, 'stream') or guard(stats, 'hash')
if wrong then
  return wrong
end
--@include clock
--@include ending
local place = redis.call('HGET', index, id)
if not place then
  return 'unknown'
end
if place == 'dead' then
  return 'ended'
end
local job = ''
local entry, lane = string.match(place, '^(%d+%-%d+)/?(.*)$')
if entry then
  local key = lane == '' and stream or stream .. ':' .. lane
  local pending = redis.pcall('XPENDING', key, 'workers', entry, entry, 1)
  if not pending.err and pending[1] then
    redis.call('HDEL', cancelled, id)
    redis.call('HSET', cancelled, id, ms(now))
    redis.pcall('PUBLISH', channel, 'cancel ' .. queue .. ' ' .. id)
    return 'marked'
  end
  local found = redis.pcall('XRANGE', key, entry, entry)
  job = found.err and '?' or found[1] and found[1][2][4] or ''
  if redis.call('XDEL', key, entry) == 0 then
    redis.call('HDEL', index, id)
    return 'unknown'
  end
else
  redis.call('ZREM', place == 'retries' and retries or scheduled, id)
  local packed = redis.pcall('HGET', parked, id)
  job = type(packed) == 'table' and '?' or packed and cmsgpack.unpack(packed)[2] or ''
  redis.call('HDEL', parked, id)
end
redis.call('HDEL', index, id)
redis.call('DEL', errors)
remember_ended(id, job, 'cancelled', '')
add_counts()
redis.pcall('PUBLISH', result, '1')
return 'gone'
