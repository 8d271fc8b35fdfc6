-- body(lane's key, entry): id, job, args, meta of a stream entry, whatever wrote it; nil when it is gone.
-- An entry of other fields becomes a job of an empty name with the raw fields as its arguments: it dies with its payload. (G10)
local function body(key, entry)
  local found = redis.call('XRANGE', key, entry, entry)[1]
  if not found then
    return nil
  end
  local f = found[2]
  if #f == 8 and f[1] == 'id' and f[3] == 'job' and f[5] == 'args' and f[7] == 'meta' then
    return f[2], f[4], f[6], f[8]
  end
  return '', '', cmsgpack.pack(f), ''
end
-- priority_lane(meta): the lane of a job's own priority, for one that is on `returned` or `suspects`.
local function priority_lane(meta)
  local rest = string.match(meta, '^{"v":%d+,"at":%d+(.*)$') or ''
  rest = string.match(rest, '^,"crashes":%d+(.*)$') or rest
  rest = string.match(rest, '^,"unread":%d+(.*)$') or rest
  local priority = string.match(rest, '^,"priority":(-?%d+)')
  return priority and priority ~= '0' and 'p' .. priority or ''
end
