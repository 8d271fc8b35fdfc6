-- Reclaim: a dead worker's jobs go back to the queue, with one crash more; its consumer goes when nothing of it is pending,
-- and with it those that hold nothing and have no lease. (G2, G7, G10)
-- KEYS  stream, index, workers, grace, lanes, cancelled, parked, dead, recent, stats, errors: (prefix), wake: (prefix), call: (prefix),
--       result: (prefix)
-- ARGV  channel, queue, own consumer, limit, recent cap, dead jobs, dead age ms, most crashes
-- Returns {state, victim, more, then per job: id, job, crashes, what became of it}; state: 'none' (nobody is dead), 'grace', 'invalid' (this worker
-- holds no lease itself), 'reclaimed'. The victim is condemned first: its renewals and outcomes are refused from here on. First write: ZREM.
local stream, index, workers, grace, lanes, cancelled, parked = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local dead, recent, stats, errors, wake, call, result = KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12], KEYS[13], KEYS[14]
local channel, queue, me, limit, recent_cap = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local dead_jobs, dead_age, most = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
--@include guard
local wrong = guard(stream, 'stream') or guard(index, 'hash') or guard(workers, 'zset') or guard(lanes, 'zset') or guard(cancelled, 'hash')
  or guard(parked, 'hash') or guard(dead, 'zset') or guard(recent, 'stream') or guard(stats, 'hash')
if wrong then
  return wrong
end
--@include clock
if redis.call('EXISTS', grace) == 1 then
  return {'grace', '', 0}
end
if tonumber(redis.call('ZSCORE', workers, me) or 0) <= now then
  return {'invalid', '', 0}
end
--@include lane
local order = redis.call('ZRANGE', lanes, 0, -1)
table.insert(order, 1, '')
-- A read that reached Redis after its consumer was gone (a connection that hung for long): entries that no lease answers for. (G1)
local function orphan()
  for _, lane in ipairs(order) do
    local found = redis.pcall('XPENDING', lane_key(lane), 'workers')
    for _, line in ipairs(found[4] or {}) do
      if not redis.call('ZSCORE', workers, line[1]) then
        return line[1]
      end
    end
  end
end
local victim = redis.call('ZRANGEBYSCORE', workers, '-inf', ms(now), 'LIMIT', 0, 1)[1] or orphan()
if not victim then
  return {'none', '', 0}
end
--@include body
--@include ending
--@include dead
--@include idle
redis.call('ZREM', workers, victim)
redis.call('ZADD', workers, 0, victim)
local reply, taken, buried = {'reclaimed', victim, 0}, 0, false
for _, lane in ipairs(order) do
  local key = lane_key(lane)
  local pending = redis.pcall('XPENDING', key, 'workers', '-', '+', limit - taken + 1, victim)
  if pending.err then
    pending = {}
  end
  for _, item in ipairs(pending) do
    if taken == limit then
      reply[3] = 1
      break
    end
    taken = taken + 1
    local entry = item[1]
    redis.call('XACK', key, 'workers', entry)
    local id, job, args, meta = body(key, entry)
    if id then
      redis.call('XDEL', key, entry)
      if id == '' then
        id = queue .. '.malformed-' .. entry
      end
      local front, rest = string.match(meta, '^({"v":%d+,"at":%d+)(.*)$')
      local crashes = 1
      if front then
        local before, tail = string.match(rest, '^,"crashes":(%d+)(.*)$')
        if before then
          crashes, rest = tonumber(before) + 1, tail
        end
        meta = front .. ',"crashes":' .. crashes .. rest
      end
      local became
      if redis.call('HDEL', cancelled, id) == 1 then
        redis.call('HDEL', index, id)
        redis.call('DEL', errors .. id)
        became = 'cancelled'
        remember_ended(id, job, became, victim)
        redis.pcall('PUBLISH', result .. id, '1')
      elseif crashes >= most then
        note_error(id, '{"error":"WorkerCrashed","message":"' .. crashes .. ' workers died while they ran this job","traceback":"","at":'
          .. ms(now) .. ',"worker":' .. quoted(victim) .. '}')
        bury(id, job, args, meta, priority_lane(meta))
        buried = true
        became = 'dead'
        remember_ended(id, job, became, victim)
        redis.pcall('PUBLISH', result .. id, '1')
      elseif crashes == most - 1 then
        push('suspects', id, job, args, meta)
        became = 'suspects'
      else
        push('returned', id, job, args, meta)
        became = 'returned'
      end
      local at = #reply
      reply[at + 1], reply[at + 2], reply[at + 3], reply[at + 4] = id, job, crashes, became
    end
  end
  if reply[3] == 1 then
    break
  end
end
if buried then
  trim_dead()
end
add_counts()
if reply[3] == 0 then
  for _, lane in ipairs(order) do
    redis.pcall('XGROUP', 'DELCONSUMER', lane_key(lane), 'workers', victim)
  end
  redis.call('ZREM', workers, victim)
  for _, lane in ipairs(order) do
    forget_idle(lane_key(lane))
  end
  redis.call('DEL', wake .. victim, call .. victim)
end
return reply
