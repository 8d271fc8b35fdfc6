-- guard(key, type): an error reply when a key is of another type. Called before the first write.
local function guard(key, expected)
  local found = redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= expected then
    return redis.error_reply('WRONGTYPE ' .. key .. ' is a ' .. found .. ', not a ' .. expected .. '; nothing was done')
  end
end
