-- Enqueue: new jobs onto the queue's stream or into its scheduled set. Exact under retries. (G1, G4)
-- KEYS  stream, index, call:<client>, scheduled, parked, lanes
-- ARGV  number, channel, queue, then per job: id, job, args, meta's tail, route
--       route: '' = now on the main lane; else [priority][+delay ms | @due ms][#wire version]
-- Returns '': every job was enqueued.
-- First write: XADD, ZADD or HSET. At maxmemory it is refused and nothing is done.
local stream, index, call, scheduled, parked, lanes = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local number, channel, queue = tonumber(ARGV[1]), ARGV[2], ARGV[3]
--@include numbered
-- One job on the main lane is most calls: its writes are tried, where looking at the keys before would cost as much again; an entry that
-- finds no place in the index is taken back. (G1)
local function try_one(id, job, args, tail)
  local time = redis.call('TIME')
  local meta = '{"v":1,"at":' .. time[1] .. string.sub(1000000 + time[2], 2, 4) .. tail
  local entry = redis.pcall('XADD', stream, '*', 'id', id, 'job', job, 'args', args, 'meta', meta)
  if type(entry) == 'table' then
    return entry
  end
  local indexed = redis.pcall('HSET', index, id, entry)
  if type(indexed) == 'table' then
    redis.call('XDEL', stream, entry)
    local groups = redis.pcall('XINFO', 'GROUPS', stream)
    if not groups.err and #groups == 0 and redis.call('XLEN', stream) == 0 then
      redis.pcall('DEL', stream)
    end
    return indexed
  end
  redis.call('SET', call, ARGV[1] .. ' ', 'PX', 600000)
  return ''
end
if #ARGV == 8 and ARGV[8] == '' then
  return try_one(ARGV[4], ARGV[5], ARGV[6], ARGV[7])
end
--@include guard
local wrong = guard(stream, 'stream') or guard(index, 'hash')
if wrong then
  return wrong
end
local fresh, fresh_count, routed = {}, 0, false
for i = 8, #ARGV, 5 do
  if ARGV[i] ~= '' and not routed then
    routed = true
    wrong = guard(scheduled, 'zset') or guard(parked, 'hash') or guard(lanes, 'zset')
    if wrong then
      return wrong
    end
  end
  local priority = routed and string.match(ARGV[i], '^(-?%d+)')
  if priority and priority ~= '0' and not fresh[priority] then
    wrong = guard(stream .. ':p' .. priority, 'stream')
    if wrong then
      return wrong
    end
    fresh[priority] = true
    fresh_count = fresh_count + (redis.call('ZSCORE', lanes, 'p' .. priority) and 0 or 1)
  end
end
if fresh_count > 0 and redis.call('ZCARD', lanes) + fresh_count > 66 then
  return redis.error_reply('LANES queue ' .. queue .. ' has 64 priorities in use, and can have no more')
end
--@include clock
--@include lane
--@include later
--@include route
local head = '{"v":1,"at":' .. ms(now)
-- The index learns of many at once: a command for each takes a tenth longer.
local fields, done = {}, 0
local function index_done()
  if done > 0 then
    redis.call('HSET', index, unpack(fields, 1, done))
    done = 0
  end
end
for i = 4, #ARGV, 5 do
  local id, job, args, meta, route = ARGV[i], ARGV[i + 1], ARGV[i + 2], head .. ARGV[i + 3], ARGV[i + 4]
  if route == '' then
    fields[done + 1] = id
    fields[done + 2] = redis.call('XADD', stream, '*', 'id', id, 'job', job, 'args', args, 'meta', meta)
    done = done + 2
    if done == 1000 then
      index_done()
    end
  else
    route_to(route, id, job, args, meta)
  end
end
index_done()
redis.call('SET', call, number .. ' ', 'PX', 600000)
return ''
