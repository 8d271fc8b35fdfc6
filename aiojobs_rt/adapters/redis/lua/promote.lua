-- Promote: jobs that are due go onto their lanes, in order of their due times, at most `limit`. (G8)
-- KEYS  stream, index, scheduled, retries, parked, lanes
-- ARGV  channel, queue, limit
-- Returns {moved, now, next due time or -1}. First write: ZREM.
local stream, index, scheduled, retries, parked, lanes = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local channel, queue, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
--@include guard
local wrong = guard(stream, 'stream') or guard(index, 'hash') or guard(scheduled, 'zset') or guard(retries, 'zset')
  or guard(parked, 'hash') or guard(lanes, 'zset')
if wrong then
  return wrong
end
--@include clock
--@include lane
local moved = 0
for _, set in ipairs({retries, scheduled}) do
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', set, '-inf', ms(now), 'LIMIT', 0, limit - moved)) do
    redis.call('ZREM', set, id)
    local packed = redis.call('HGET', parked, id)
    if packed then
      redis.call('HDEL', parked, id)
      local readable, message = pcall(cmsgpack.unpack, packed)
      if readable and type(message) == 'table' and #message == 4 then
        push(message[1], id, message[2], message[3], message[4])
      else
        push('', id, '', packed, '') -- its reader buries it with its payload (G10)
      end
    else
      redis.call('HDEL', index, id)
    end
    moved = moved + 1
  end
end
local soonest = -1
for _, set in ipairs({retries, scheduled}) do
  local head = redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')
  if head[2] and (soonest < 0 or tonumber(head[2]) < soonest) then
    soonest = tonumber(head[2])
  end
end
return {moved, now, soonest}
