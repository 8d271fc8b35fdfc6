-- Needs stream, lanes, index, channel, queue. push(lane, id, job, args, meta): a job onto a lane; the first job of a lane makes it known.
local known_lanes = {[''] = true}
local lane_orders = {returned = -2000000, suspects = -1999999}
local function lane_key(lane)
  return lane == '' and stream or stream .. ':' .. lane
end
local function open_lane(lane)
  if not redis.call('ZSCORE', lanes, lane) then
    redis.call('ZADD', lanes, lane_orders[lane] or tonumber(string.sub(lane, 2)), lane)
    redis.pcall('XGROUP', 'CREATE', lane_key(lane), 'workers', '0', 'MKSTREAM')
    redis.call('PUBLISH', channel, 'lane ' .. queue)
  end
  known_lanes[lane] = true
end
local function push(lane, id, job, args, meta)
  if not known_lanes[lane] then
    open_lane(lane)
  end
  local entry = redis.call('XADD', lane_key(lane), '*', 'id', id, 'job', job, 'args', args, 'meta', meta)
  redis.call('HSET', index, id, lane == '' and entry or entry .. '/' .. lane)
end
