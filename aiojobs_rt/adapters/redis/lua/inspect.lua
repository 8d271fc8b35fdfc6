-- Inspect: all that is known of one job. Writes nothing.
-- KEYS  index, stream, workers, scheduled, retries, dead, parked, cancelled, recent, errors:<id>, result:<id>, moved:<id>,
--       outgoing, progress:<id>
-- ARGV  id
-- Returns {state, now, time, lane, job, args, meta, consumer, marked as cancelled, errors}, of an entry of the stream also what is saved of its
--         progress ('<moves> <json>' or ''); state: waiting, running, scheduled, retrying (also on its way to another queue), dead.
--         {'ended', now, its line in recent or '', the result's record or ''}; {'moved', now, queue}; {'unknown', now}.
local index, stream, workers, parked, cancelled, recent = KEYS[1], KEYS[2], KEYS[3], KEYS[7], KEYS[8], KEYS[9]
local errors, result, moved, outgoing, progress = KEYS[10], KEYS[11], KEYS[12], KEYS[13], KEYS[14]
local sets = {scheduled = KEYS[4], retries = KEYS[5], dead = KEYS[6]}
local id = ARGV[1]
--@include clock
--@include body
local place = redis.call('HGET', index, id)
if not place then
  local record = redis.call('GET', result) or ''
  local target = record == '' and redis.call('GET', moved)
  if target then
    for _, item in ipairs(redis.call('XREVRANGE', outgoing, '+', '-', 'COUNT', 1000)) do
      local f = item[2]
      if f[4] == id then
        local message = cmsgpack.unpack(f[8])
        return {'retrying', now, tonumber(string.match(item[1], '^%d+')) + (tonumber(f[6]) or 0), message[1], message[2], message[3], message[4], '', 0,
          cmsgpack.unpack(f[10])}
      end
    end
    return {'moved', now, target}
  end
  local mark, line = '["' .. id .. '",', ''
  for _, item in ipairs(redis.call('XREVRANGE', recent, '+', '-', 'COUNT', 20000)) do
    if string.sub(item[2][2], 1, #mark) == mark then
      line = item[2][2]
      break
    end
  end
  if line == '' and record == '' then
    return {'unknown', now}
  end
  return {'ended', now, line, record}
end
local history = redis.call('LRANGE', errors, 0, -1)
local entry, lane = string.match(place, '^(%d+%-%d+)/?(.*)$')
if entry then
  local key = lane == '' and stream or stream .. ':' .. lane
  local _, job, args, meta = body(key, entry)
  if not job then
    return {'unknown', now}
  end
  local pending = redis.pcall('XPENDING', key, 'workers', entry, entry, 1)
  local consumer = not pending.err and pending[1] and pending[1][2] or ''
  local running = consumer ~= '' and tonumber(redis.call('ZSCORE', workers, consumer) or 0) > now
  return {running and 'running' or 'waiting', now, tonumber(string.match(entry, '^%d+')), lane, job, args, meta, consumer,
    redis.call('HEXISTS', cancelled, id), history, redis.call('GET', progress) or ''}
end
local packed = redis.call('HGET', parked, id)
if not packed then
  return {'unknown', now}
end
local message = cmsgpack.unpack(packed)
return {place == 'retries' and 'retrying' or place, now, tonumber(redis.call('ZSCORE', sets[place], id) or 0), message[1], message[2], message[3],
  message[4], '', 0, history}
