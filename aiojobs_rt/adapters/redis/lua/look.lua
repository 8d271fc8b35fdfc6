-- Look: where a job is.
-- KEYS  index, stream, workers, recent, result:<id>, moved:<id>, outgoing
-- ARGV  id
-- Returns {state, detail}: 'scheduled', 'retries', 'dead', 'queued' or 'running' (detail: the consumer); 'moved' (detail: the queue),
--         'crossing' (it is on its way there); 'kept' (detail: the result's record), 'ended' (detail: its line in recent), or 'unknown'.
--         Writes nothing. A user who may not read what holds arguments (a producer) is told the same, but for a job that is crossing: then any
--         that crosses here counts as it.
local index, stream, workers, recent, result, moved, outgoing = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local id = ARGV[1]
--@include clock
local place = redis.call('HGET', index, id)
if not place then
  local kept = redis.call('GET', result)
  if kept then
    return {'kept', kept}
  end
  local target = redis.call('GET', moved)
  if target then
    local lines = redis.pcall('XREVRANGE', outgoing, '+', '-', 'COUNT', 1000)
    for _, line in ipairs(lines) do
      if line[2][4] == id then
        return {'crossing', target}
      end
    end
    if lines.err and redis.call('XLEN', outgoing) > 0 then
      return {'crossing', target}
    end
    return {'moved', target}
  end
  local mark = '["' .. id .. '",'
  for _, line in ipairs(redis.call('XREVRANGE', recent, '+', '-', 'COUNT', 20000)) do
    if string.sub(line[2][2], 1, #mark) == mark then
      return {'ended', line[2][2]}
    end
  end
  return {'unknown', ''}
end
local entry, lane = string.match(place, '^(%d+%-%d+)/?(.*)$')
if not entry then
  return {place, ''}
end
local key = lane == '' and stream or stream .. ':' .. lane
local pending = redis.pcall('XPENDING', key, 'workers', entry, entry, 1)
if not pending.err and pending[1] then
  local consumer = pending[1][2]
  if tonumber(redis.call('ZSCORE', workers, consumer) or 0) > now then
    return {'running', consumer}
  end
else
  local found = redis.pcall('XRANGE', key, entry, entry)
  if not found.err and #found == 0 then
    return {'unknown', ''}
  end
end
return {'queued', ''}
