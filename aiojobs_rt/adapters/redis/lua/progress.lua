-- Progress: how far the steps of a job have got. A worker that comes back from the dead does not overwrite what its successor has reached.
-- KEYS  progress:<id>
-- ARGV  moves, value, keep ms
-- Returns 1, or 0 when a later one is there. First write: SET.
local key = KEYS[1]
local moves, value, keep = tonumber(ARGV[1]), ARGV[2], ARGV[3]
--@include guard
local wrong = guard(key, 'string')
if wrong then
  return wrong
end
local known = tonumber(string.match(redis.call('GET', key) or '', '^%d+'))
if known and known > moves then
  return 0
end
redis.call('SET', key, moves .. ' ' .. value, 'PX', keep)
return 1
