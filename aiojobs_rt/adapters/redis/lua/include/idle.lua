-- Needs workers. forget_idle(key): deletes the consumers of a lane that have no lease and hold nothing: a read that came late has made them,
-- after they had been reclaimed.
local function forget_idle(key)
  local consumers = redis.pcall('XINFO', 'CONSUMERS', key, 'workers')
  for _, consumer in ipairs(consumers.err and {} or consumers) do
    local named = {}
    for i = 1, #consumer, 2 do
      named[consumer[i]] = consumer[i + 1]
    end
    if named.pending == 0 and not redis.call('ZSCORE', workers, named.name) then
      redis.call('XGROUP', 'DELCONSUMER', key, 'workers', named.name)
    end
  end
end
