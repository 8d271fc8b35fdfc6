-- Needs recent, recent_cap, stats, now, ms. What is noted of a job that has ended.
local counts = {}
local function count(job, verb)
  local key = job .. ':' .. verb
  counts[key] = (counts[key] or 0) + 1
end
local function remember(record)
  if recent_cap ~= '0' then
    redis.call('XADD', recent, 'MAXLEN', '~', recent_cap, '*', 'r', record)
  end
end
local function quoted(text)
  return '"' .. string.gsub(text, '[%c"\\\127-\255]', '?') .. '"'
end
local function remember_ended(id, job, verb, by)
  remember('[' .. quoted(id) .. ',' .. quoted(job) .. ',"' .. verb .. '",0,' .. ms(now) .. ',0,' .. quoted(by) .. ']')
  count(job, verb)
end
-- Counters are kept in all, and per day and job class for 60 days, from when a day's counter is new.
local function add_counts()
  local day = stats .. ':' .. ms(math.floor(now / 86400000))
  local totals, new = {}, false
  for key, amount in pairs(counts) do
    local verb = string.match(key, '[a-z]+$')
    totals[verb] = (totals[verb] or 0) + amount
    new = redis.pcall('HINCRBY', day, key, amount) == amount or new
  end
  for verb, amount in pairs(totals) do
    redis.pcall('HINCRBY', stats, verb, amount)
  end
  if new then
    redis.call('PEXPIRE', day, 5184000000)
  end
end
