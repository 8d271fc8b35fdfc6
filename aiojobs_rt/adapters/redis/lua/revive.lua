-- Revive: parked jobs (dead, retrying, scheduled) go onto their lanes now. (G1)
-- KEYS  stream, index, scheduled, retries, dead, parked, lanes, result: (prefix)
-- ARGV  channel, queue, then per job: id, its meta as it was read, its meta from now on
-- Returns per job 'revived', 'queued' (it is on a lane already), 'changed' (its meta is another by now) or 'unknown'. Only the meta that was read
-- is replaced, so that a call that is sent again does nothing to a job that has run and died meanwhile. First write: ZREM.
local stream, index, scheduled, retries, dead, parked, lanes = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local result, channel, queue = KEYS[8], ARGV[1], ARGV[2]
--@include guard
local wrong = guard(stream, 'stream') or guard(index, 'hash') or guard(scheduled, 'zset') or guard(retries, 'zset') or guard(dead, 'zset')
  or guard(parked, 'hash') or guard(lanes, 'zset')
if wrong then
  return wrong
end
--@include clock
--@include lane
local sets = {scheduled = scheduled, retries = retries, dead = dead}
local reply = {}
for i = 3, #ARGV, 3 do
  local id, expected, meta = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local place = redis.call('HGET', index, id)
  local packed = place and sets[place] and redis.call('HGET', parked, id)
  local answer = (place and not sets[place]) and 'queued' or 'unknown'
  if packed then
    local message = cmsgpack.unpack(packed)
    if message[4] == expected then
      redis.call('ZREM', sets[place], id)
      redis.call('HDEL', parked, id)
      redis.call('DEL', result .. id)
      push(message[1], id, message[2], message[3], meta)
      answer = 'revived'
    else
      answer = 'changed'
    end
  end
  reply[#reply + 1] = answer
end
return reply
