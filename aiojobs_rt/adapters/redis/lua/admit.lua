-- Admit: jobs whose ids were decided elsewhere (an outbox), each once, however often it is sent within a day, and whoever sends it. (G4)
-- KEYS  stream, index, scheduled, parked, lanes, arrived: (prefix)
-- ARGV  channel, queue, remember ms, then per job: id, job, args, meta's tail, route ([priority][+delay ms | @due ms][#wire version])
-- Returns a string of 1 and 0, one per job (0: it was there already).
-- First write: SET. At maxmemory it is refused and nothing is done.
local stream, index, scheduled, parked, lanes, arrived = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local channel, queue, remember = ARGV[1], ARGV[2], ARGV[3]
--@include guard
local wrong = guard(stream, 'stream') or guard(index, 'hash') or guard(scheduled, 'zset') or guard(parked, 'hash') or guard(lanes, 'zset')
if wrong then
  return wrong
end
--@include clock
--@include lane
--@include later
--@include route
local head = '{"v":1,"at":' .. ms(now)
local answers = {}
for i = 4, #ARGV, 5 do
  local id, job, args, meta, route = ARGV[i], ARGV[i + 1], ARGV[i + 2], head .. ARGV[i + 3], ARGV[i + 4]
  local new = redis.call('HEXISTS', index, id) == 0 and redis.call('SET', arrived .. id, '1', 'NX', 'PX', remember)
  if new then
    route_to(route, id, job, args, meta)
  end
  answers[#answers + 1] = new and '1' or '0'
end
return table.concat(answers)
