-- Needs stream, lanes, index, channel, queue. push(lane, id, job, args, meta): a job onto a lane; the first job of a lane makes it known.
-- A lane whose key is no stream can't be checked before the first write by all scripts: its jobs go onto the main lane, and none is lost.
local known_lanes = {[''] = ''}
local lane_orders = {returned = -2000000, suspects = -1999999}
local function lane_key(lane)
  return lane == '' and stream or stream .. ':' .. lane
end
local function open_lane(lane)
  local kind = redis.call('TYPE', lane_key(lane)).ok
  local order = lane_orders[lane] or tonumber(string.sub(lane, 2))
  if not order or kind ~= 'none' and kind ~= 'stream' then
    known_lanes[lane] = ''
    return
  end
  if not redis.call('ZSCORE', lanes, lane) then
    redis.call('ZADD', lanes, order, lane)
    redis.pcall('XGROUP', 'CREATE', lane_key(lane), 'workers', '0', 'MKSTREAM')
    redis.pcall('PUBLISH', channel, 'lane ' .. queue)
  end
  known_lanes[lane] = lane
end
local function push(lane, id, job, args, meta)
  if not known_lanes[lane] then
    open_lane(lane)
  end
  lane = known_lanes[lane]
  local entry = redis.call('XADD', lane_key(lane), '*', 'id', id, 'job', job, 'args', args, 'meta', meta)
  redis.call('HSET', index, id, lane == '' and entry or entry .. '/' .. lane)
end
