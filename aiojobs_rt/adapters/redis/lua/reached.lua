-- Reached: how far the steps of a job have got. Writes nothing.
-- KEYS  index, stream, parked, moved:<id>, outgoing, progress:<id>
-- ARGV  id
-- Returns {'known', meta, saved}: its message's meta, and what is saved of its progress since, '<moves> <json>' or ''; {'moved', queue};
--         {'unknown', ''}, also of one that has ended. A user who may not read what holds arguments (a producer) gets '' as meta.
local index, stream, parked, moved, outgoing, progress = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local id = ARGV[1]
-- of(packed): the meta of a parked message.
local function of(packed)
  return type(packed) == 'string' and cmsgpack.unpack(packed)[4] or ''
end
local place = redis.call('HGET', index, id)
if not place then
  local target = redis.call('GET', moved)
  if not target then
    return {'unknown', ''}
  end
  for _, item in ipairs(redis.pcall('XREVRANGE', outgoing, '+', '-', 'COUNT', 1000)) do
    local f = item[2]
    if f[4] == id then
      return {'known', of(f[8]), ''}
    end
  end
  return {'moved', target}
end
local saved = redis.call('GET', progress) or ''
local entry, lane = string.match(place, '^(%d+%-%d+)/?(.*)$')
if not entry then
  return {'known', of(redis.pcall('HGET', parked, id)), saved}
end
local found = redis.pcall('XRANGE', lane == '' and stream or stream .. ':' .. lane, entry, entry)
local f = found[1] and found[1][2] or {}
return {'known', f[7] == 'meta' and f[8] or '', saved}
