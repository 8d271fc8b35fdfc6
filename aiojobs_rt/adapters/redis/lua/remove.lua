-- Remove: jobs that wait, are scheduled, retrying or dead go for good, as discarded.
-- KEYS  index, stream, scheduled, retries, dead, parked, recent, stats, errors: (prefix), result: (prefix)
-- ARGV  recent cap, 'dead' (only dead jobs) or '', then ids
-- Returns per job 'removed', 'running' (it is delivered: cancel it), 'kept' (it is not dead) or 'unknown'. First write: ZREM, XDEL or HDEL.
local index, stream, scheduled, retries, dead, parked = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local recent, stats, errors, result = KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local recent_cap, only = ARGV[1], ARGV[2]
--@include guard
local wrong = guard(index, 'hash') or guard(stream, 'stream') or guard(scheduled, 'zset') or guard(retries, 'zset') or guard(dead, 'zset')
  or guard(parked, 'hash') or guard(recent, 'stream') or guard(stats, 'hash')
if wrong then
  return wrong
end
--@include clock
--@include ending
--@include body
local sets = {scheduled = scheduled, retries = retries, dead = dead}
local function take(id, place)
  if sets[place] then
    redis.call('ZREM', sets[place], id)
    local packed = redis.call('HGET', parked, id)
    redis.call('HDEL', parked, id)
    return packed and cmsgpack.unpack(packed)[2] or ''
  end
  local entry, lane = string.match(place, '^(%d+%-%d+)/?(.*)$')
  local key = lane == '' and stream or stream .. ':' .. lane
  local pending = redis.pcall('XPENDING', key, 'workers', entry, entry, 1)
  if not pending.err and pending[1] then
    return nil
  end
  local _, job = body(key, entry)
  redis.call('XDEL', key, entry)
  return job or ''
end
local reply = {}
for i = 3, #ARGV do
  local id, answer = ARGV[i], 'unknown'
  local place = redis.call('HGET', index, id)
  if place and only ~= '' and place ~= only then
    answer = 'kept'
  elseif place then
    local job = take(id, place)
    if job then
      redis.call('HDEL', index, id)
      redis.call('DEL', errors .. id, result .. id)
      remember_ended(id, job, 'discarded', '')
      redis.pcall('PUBLISH', result .. id, '1')
      answer = 'removed'
    else
      answer = 'running'
    end
  end
  reply[#reply + 1] = answer
end
add_counts()
return reply
