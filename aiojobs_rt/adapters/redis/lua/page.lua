-- Page: jobs of a queue in one state, a page at a time. Looks at 500 at most. Writes nothing.
-- KEYS  stream, lanes, workers, scheduled, retries, dead, parked
-- ARGV  state (waiting, running, scheduled, retrying or dead), job name or '' for all, how many, cursor ('' from the start)
-- Returns {now, cursor ('' at the end), then per job: id, job, meta, lane, time, consumer}; time: since when it could run, when it is due, when
-- it died. In the order in which they run; dead jobs, the latest first. An entry that is no job comes with an empty id.
local stream, lanes, workers, parked = KEYS[1], KEYS[2], KEYS[3], KEYS[7]
local state, job, limit, cursor = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local sets = {scheduled = KEYS[4], retrying = KEYS[5], dead = KEYS[6]}
--@include clock
--@include delivered
local BUDGET = 500
local reply, found = {now, ''}, 0
local function add(id, name, meta, lane, at, consumer)
  if job == '' or job == name then
    local n = #reply
    reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4], reply[n + 5], reply[n + 6] = id, name, meta, lane, at, consumer
    found = found + 1
  end
end
if sets[state] then
  local offset = tonumber(cursor) or 0
  local order = state == 'dead' and 'ZREVRANGE' or 'ZRANGE'
  local ids = redis.call(order, sets[state], offset, offset + BUDGET - 1, 'WITHSCORES')
  for i = 1, #ids, 2 do
    local packed = redis.call('HGET', parked, ids[i])
    local message = packed and cmsgpack.unpack(packed) or {'', '', '', ''}
    add(ids[i], message[2], message[4], message[1], tonumber(ids[i + 1]), '')
    offset = offset + 1
    if found == limit then
      break
    end
  end
  if offset < redis.call('ZCARD', sets[state]) then
    reply[2] = ms(offset)
  end
  return reply
end
local order, main = {}, false
local named = redis.call('ZRANGE', lanes, 0, -1, 'WITHSCORES')
for i = 1, #named, 2 do
  if not main and tonumber(named[i + 1]) > 0 then
    order[#order + 1], main = '', true
  end
  order[#order + 1] = named[i]
end
if not main then
  order[#order + 1] = ''
end
local lane_at, entry_at = string.match(cursor, '^(.*)/(%d+%-%d+)$')
local looked, begun = 0, lane_at == nil
for _, lane in ipairs(order) do
  local from = '-'
  if not begun and lane == lane_at then
    begun, from = true, '(' .. entry_at
  end
  local key = lane == '' and stream or stream .. ':' .. lane
  local until_ms, until_seq = delivered_until(key)
  for _, item in ipairs(begun and redis.call('XRANGE', key, from, '+', 'COUNT', BUDGET + 1) or {}) do
    if found == limit or looked == BUDGET then
      return reply
    end
    local entry, f = item[1], item[2]
    local consumer, running = '', false
    if not is_after(entry, until_ms, until_seq) then
      local pending = redis.pcall('XPENDING', key, 'workers', entry, entry, 1)
      consumer = not pending.err and pending[1] and pending[1][2] or ''
      running = consumer ~= '' and tonumber(redis.call('ZSCORE', workers, consumer) or 0) > now
    elseif state == 'running' then
      break
    end
    looked = looked + 1
    if running == (state == 'running') then
      local at = parts(entry)
      if #f == 8 and f[1] == 'id' and f[3] == 'job' and f[5] == 'args' and f[7] == 'meta' then
        add(f[2], f[4], f[8], lane, at, consumer)
      else
        add('', '', '', lane, at, consumer)
      end
    end
    reply[2] = lane .. '/' .. entry
  end
end
reply[2] = ''
return reply
