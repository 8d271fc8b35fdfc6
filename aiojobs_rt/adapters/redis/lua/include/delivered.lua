-- delivered_until(key): the last entry of a lane that was delivered, as two numbers. is_after(entry, ms, seq): whether an entry came later.
local function parts(entry)
  local at, seq = string.match(entry, '^(%d+)%-(%d+)$')
  return tonumber(at), tonumber(seq)
end
local function delivered_until(key)
  local groups = redis.pcall('XINFO', 'GROUPS', key)
  for _, group in ipairs(groups.err and {} or groups) do
    local named = {}
    for i = 1, #group, 2 do
      named[group[i]] = group[i + 1]
    end
    if named.name == 'workers' then
      return parts(named['last-delivered-id'])
    end
  end
  return 0, 0
end
local function is_after(entry, ms_part, seq_part)
  local at, seq = parts(entry)
  return at > ms_part or (at == ms_part and seq > seq_part)
end
