-- Needs scheduled, now, push, later. route_to(route, id, job, args, meta): a new job onto its lane, or among the scheduled until it is due.
-- route: [priority][+delay ms | @due ms][#wire version]; meta begins with version 1
local function route_to(route, id, job, args, meta)
  local priority, mode, instant, version = string.match(route, '^(-?%d*)([+@]?)(%d*)#?(%d*)$')
  if version ~= '' then
    meta = '{"v":' .. version .. string.sub(meta, 7)
  end
  local lane = (priority == '' or priority == '0') and '' or 'p' .. priority
  local due = mode == '' and 0 or tonumber(instant) + (mode == '+' and now or 0)
  if due <= now then
    push(lane, id, job, args, meta)
  else
    later(scheduled, 'scheduled', id, due, cmsgpack.pack({lane, job, args, meta}))
  end
end
