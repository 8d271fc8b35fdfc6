-- Needs call, number. A repeated number gets its first answer, a lower one is refused. (G4)
do
  local last = redis.call('GET', call)
  if last then
    local known, answer = string.match(last, '^(%d+) (.*)$')
    known = tonumber(known)
    if known == number then
      return answer
    elseif known > number then
      return redis.error_reply('STALE call ' .. number .. ' after ' .. known)
    end
  end
end
