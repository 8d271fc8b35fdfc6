-- Settle: what became of delivered jobs, each fenced by its own XACK. (G2, G3, G10)
-- KEYS  stream, index, call:<consumer>, recent, stats, retries, parked, dead, cancelled, lanes, outgoing, scheduled,
--       result: (prefix), errors: (prefix), moved: (prefix)
-- ARGV  number, channel, queue, recent cap, dead jobs, dead age ms, kinds, then per kind: lane, job, verb,
--       then per job: kind (from 1), entry, id, record; and, but for the verb `succeeded`, four more:
--         kept       keep ms, value, history?, ''             succeeded, its result kept or an error history to drop
--         retried    delay ms, meta, error, target queue or ''
--         snoozed    delay ms, meta, '', ''
--         released   '' or meta, '', '', ''
--         dead       meta, error, keep ms, value
--         discarded, cancelled   keep ms, value, '', ''
-- Returns '' when all were settled, else a string of 1 and 0, one per job (0: lost, its outcome is dropped).
-- First write: XACK.
local stream, index, call, recent, stats, retries, parked, dead = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local cancelled, lanes, outgoing, scheduled, result, errors, moved = KEYS[9], KEYS[10], KEYS[11], KEYS[12], KEYS[13], KEYS[14], KEYS[15]
local number, channel, queue, recent_cap = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local dead_jobs, dead_age, kinds = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
--@include numbered
--@include guard
local wrong = guard(index, 'hash') or guard(recent, 'stream')
if wrong then
  return wrong
end
local marks = redis.call('HLEN', cancelled) > 0
--@include clock
--@include lane
--@include later
--@include body
--@include ending
--@include dead
local kind_key, kind_lane, kind_job, kind_verb, kind_plain = {}, {}, {}, {}, {}
local ends = {succeeded = true, kept = true, discarded = true, cancelled = true}
local only_ends = true
local at = 8
for k = 1, kinds do
  kind_lane[k], kind_job[k], kind_verb[k] = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  kind_key[k] = lane_key(ARGV[at])
  kind_plain[k] = kind_verb[k] == 'succeeded' and kind_job[k] .. ':succeeded'
  only_ends = only_ends and ends[kind_verb[k]]
  at = at + 3
  wrong = guard(kind_key[k], 'stream')
  if wrong then
    return wrong
  end
end
if not only_ends then
  wrong = guard(stream, 'stream') or guard(retries, 'zset') or guard(parked, 'hash') or guard(dead, 'zset') or guard(lanes, 'zset')
    or guard(outgoing, 'stream') or guard(scheduled, 'zset')
  if wrong then
    return wrong
  end
end
local buried = false
local answers, n, lost = {}, 0, false

local further_runs = 2592000000 -- ms for which a job that has moved may run on before it is dead: the default retries take 17 days
local told_whole = 65536 -- bytes: a longer result is fetched by those who wait, not sent to them

local function keep(id, ttl, value)
  local kept = ttl ~= '' and ttl ~= '0'
  if kept then
    redis.call('SET', result .. id, value, 'PX', ttl)
  end
  redis.pcall('PUBLISH', result .. id, kept and #value <= told_whole and value or '1')
end

-- The lane on which a job runs again: that of its priority, which a policy may have changed. A suspect stays one, lest it take neighbours with it.
local function lane_again(lane, meta)
  return lane == 'suspects' and lane or priority_lane(meta)
end

local function forget(id)
  redis.call('HDEL', index, id)
  redis.call('DEL', errors .. id)
end

-- The verbs but `succeeded`: each gets its key, lane, entry, id and four arguments, before the entry is deleted.
local verbs = {}

function verbs.kept(key, lane, entry, id, job, ttl, value, history)
  if history == '1' then
    forget(id)
  else
    redis.call('HDEL', index, id)
  end
  if ttl ~= '0' then
    keep(id, ttl, value)
  end
  return 'succeeded'
end

local function history(id)
  local records = redis.pcall('LRANGE', errors .. id, 0, -1)
  return records.err and {} or records
end

function verbs.retried(key, lane, entry, id, job, delay, meta, record, target)
  local _, name, args = body(key, entry)
  if record ~= '' then
    note_error(id, record)
  end
  lane = lane_again(lane, meta)
  local packed = cmsgpack.pack({lane, name, args, meta})
  if target ~= '' then
    redis.call('XADD', outgoing, '*', 'queue', target, 'id', id, 'delay', delay, 'message', packed,
      'errors', cmsgpack.pack(history(id)))
    redis.call('SET', moved .. id, target, 'PX', tonumber(delay) + further_runs + dead_age)
    forget(id)
  elseif delay == '0' then
    push(lane, id, name, args, meta)
  else
    later(retries, 'retries', id, now + tonumber(delay), packed)
  end
  return 'retried'
end

function verbs.snoozed(key, lane, entry, id, job, delay, meta)
  local _, name, args = body(key, entry)
  later(scheduled, 'scheduled', id, now + tonumber(delay), cmsgpack.pack({lane_again(lane, meta), name, args, meta}))
  return 'snoozed'
end

function verbs.released(key, lane, entry, id, job, meta)
  local _, name, args, old = body(key, entry)
  push(lane == 'suspects' and 'suspects' or 'returned', id, name, args, meta ~= '' and meta or old)
  return 'released'
end

function verbs.dead(key, lane, entry, id, job, meta, record, ttl, value)
  local _, name, args, old = body(key, entry)
  note_error(id, record)
  meta = meta ~= '' and meta or old
  bury(id, name, args, meta, (lane == 'returned' or lane == 'suspects') and priority_lane(meta) or lane)
  keep(id, ttl, value)
  buried = true
  return 'dead'
end

function verbs.discarded(key, lane, entry, id, job, ttl, value)
  forget(id)
  keep(id, ttl, value)
  return 'discarded'
end

function verbs.cancelled(key, lane, entry, id, job, ttl, value)
  forget(id)
  keep(id, ttl, value)
  return 'cancelled'
end

-- Entries of jobs that have succeeded, in a row, go together: with a command for each, the call takes a third longer.
local done_key, done_ids, done_entries, done = '', {}, {}, 0
local function delete_done()
  if done > 0 then
    redis.call('HDEL', index, unpack(done_ids, 1, done))
    redis.call('XDEL', done_key, unpack(done_entries, 1, done))
    done = 0
  end
end

local again = {retried = true, snoozed = true, released = true}
local needs_body = {retried = true, snoozed = true, released = true, dead = true}

while at <= #ARGV do
  local kind, entry, id, record = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local key, lane, job, verb, plain = kind_key[kind], kind_lane[kind], kind_job[kind], kind_verb[kind], kind_plain[kind]
  n = n + 1
  if done == 500 or key ~= done_key or not plain then
    delete_done()
    done_key = key
  end
  if redis.call('XACK', key, 'workers', entry) == 1 then
    answers[n] = '1'
    local marked = marks and redis.call('HDEL', cancelled, id) == 1
    if plain then
      done = done + 1
      done_ids[done], done_entries[done] = id, entry
      counts[plain] = (counts[plain] or 0) + 1
    elseif needs_body[verb] and not body(key, entry) then
      forget(id) -- somebody deleted the entry: there is nothing to put anywhere
      verb, record = 'lost', ''
      answers[n] = '0'
      lost = true
    elseif marked and again[verb] then
      forget(id)
      remember_ended(id, job, 'cancelled', '')
      keep(id, '', '')
      verb, record = 'cancelled', ''
    else
      verb = verbs[verb](key, lane, entry, id, job, ARGV[at + 4], ARGV[at + 5], ARGV[at + 6], ARGV[at + 7])
      count(job, verb)
    end
    if not plain then
      redis.call('XDEL', key, entry)
    end
    if record ~= '' then
      remember(record)
    end
  else
    answers[n] = '0'
    lost = true
  end
  at = at + (plain and 4 or 8)
end
delete_done()
if buried then
  trim_dead()
end
add_counts()
local answer = lost and table.concat(answers) or ''
redis.call('SET', call, number .. ' ' .. answer, 'PX', 600000)
return answer
