-- Survey: one queue in numbers. Writes nothing.
-- KEYS  stream, lanes, scheduled, retries, dead, workers, paused
-- Returns {now, waiting, running, scheduled, retrying, dead, when the oldest waiting job could first have run or -1, queue paused,
--          then per worker: consumer, lease expiry (0: condemned), pending}.
-- Running: delivered to a worker that holds its lease; what a dead worker holds counts as waiting.
local stream, lanes, scheduled, retries, dead, workers, paused = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
--@include clock
--@include delivered
local held, oldest, total = {}, -1, 0
local function add(key)
  total = total + redis.call('XLEN', key)
  local pending = redis.pcall('XPENDING', key, 'workers')
  if not pending.err then
    for _, line in ipairs(pending[4] or {}) do
      held[line[1]] = (held[line[1]] or 0) + tonumber(line[2])
    end
  end
  local at, seq = delivered_until(key)
  local first = redis.call('XRANGE', key, '(' .. ms(at) .. '-' .. ms(seq), '+', 'COUNT', 1)[1]
  if first then
    local since = parts(first[1])
    if oldest < 0 or since < oldest then
      oldest = since
    end
  end
end
add(stream)
for _, lane in ipairs(redis.call('ZRANGE', lanes, 0, -1)) do
  add(stream .. ':' .. lane)
end
local running = 0
local reply = {now, 0, 0, redis.call('ZCARD', scheduled), redis.call('ZCARD', retries), redis.call('ZCARD', dead), oldest,
  redis.call('HEXISTS', paused, 'queue')}
local leases = redis.call('ZRANGE', workers, 0, -1, 'WITHSCORES')
for i = 1, #leases, 2 do
  local consumer, expiry = leases[i], tonumber(leases[i + 1])
  local count = held[consumer] or 0
  if expiry > now then
    running = running + count
  end
  local at = #reply
  reply[at + 1], reply[at + 2], reply[at + 3] = consumer, expiry, count
end
reply[2], reply[3] = total - running, running
return reply
