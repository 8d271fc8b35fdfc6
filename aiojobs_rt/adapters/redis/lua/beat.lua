-- Beat: what a worker looks at once in a while, in one round trip.
-- KEYS  workers, stream, lanes, cancelled, scheduled, retries, paused, outgoing
-- ARGV  consumer
-- Returns {now, expiry of its lease or -1, dead workers (also consumers that have entries and no lease), next due or -1, queue paused, lanes in order, pending per lane (main first), cancelled ids, outgoing}.
--         Writes nothing.
local workers, stream, lanes, cancelled = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local scheduled, retries, paused, outgoing = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local consumer = ARGV[1]
--@include clock
local order = redis.call('ZRANGE', lanes, 0, -1)
local pending, orphans, orphan_count = {}, {}, 0
local function count(key)
  local found = redis.pcall('XPENDING', key, 'workers')
  local own = -1
  if not found.err then
    own = 0
    for _, line in ipairs(found[4] or {}) do
      if line[1] == consumer then
        own = tonumber(line[2])
      elseif not orphans[line[1]] and not redis.call('ZSCORE', workers, line[1]) then
        orphans[line[1]] = true
        orphan_count = orphan_count + 1
      end
    end
  end
  pending[#pending + 1] = own
end
count(stream)
for _, lane in ipairs(order) do
  count(stream .. ':' .. lane)
end
local soonest = -1
for _, set in ipairs({retries, scheduled}) do
  local head = redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')
  if head[2] and (soonest < 0 or tonumber(head[2]) < soonest) then
    soonest = tonumber(head[2])
  end
end
return {
  now,
  tonumber(redis.call('ZSCORE', workers, consumer) or -1),
  redis.call('ZCOUNT', workers, '-inf', ms(now)) + orphan_count,
  soonest,
  redis.call('HEXISTS', paused, 'queue'),
  order,
  pending,
  redis.call('HKEYS', cancelled),
  redis.call('XLEN', outgoing),
}
