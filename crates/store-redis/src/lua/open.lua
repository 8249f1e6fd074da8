-- Opening a store, and the contact with it.

local CALM_MS = _CALM_MS

-- What these functions, and the processes beside them, write and publish with elsewhere; and the question
-- whose refusal says that the slot moves.
local ELSEWHERE_WITH = {
  'LPUSH', 'LSET', 'PEXPIRE', 'UNLINK', 'XSETID', 'XTRIM', 'ZREMRANGEBYSCORE', 'PUBLISH', 'SUBSCRIBE', 'EXISTS',
}

-- ARGV: fleet, replication id, epoch if a new one is needed, time or '', 'import' or 'visit' or ''. Who
-- visits leaves the format to those who serve, and an import to `begin_import`. Told at the end: the format that it was raised from, or ''.
local function open(keys, args)
  local command = denied(WRITTEN_WITH, keys[1]) or denied(ELSEWHERE_WITH, keys[1])
  if command then return { 'denied', command } end
  must_stay(prefix_of(keys[1]))
  local now = clock(args[4])
  local f = call('HMGET', keys[1], 'format', 'fleet', 'replid', 'epoch', 'importing', 'created_at')
  if not f[1] then
    call('HSET', keys[1], 'format', FORMAT, 'fleet', args[1], 'replid', args[2], 'epoch', args[3],
      'seq', 0, 'ended_no', 0, 'classes_rev', 0, 'losses', 0, 'contact_since', text(now), 'contact_at', text(now),
      'created_at', text(now))
    return { 'ok', args[3], text(now), 'made' }
  end
  if is_newer(f[1]) then return { 'newer', f[1] } end
  if f[2] ~= args[1] then return { 'fleet', f[2] or '' } end
  if f[5] and args[5] ~= 'import' then return { 'importing' } end
  -- One that had begun is under way already.
  local raises = args[5] == '' or (args[5] == 'import' and f[5])
  local raised = raises and tonumber(f[1]) < FORMAT
  if raised then call('HSET', keys[1], 'format', FORMAT) end
  if not f[6] then call('HSET', keys[1], 'created_at', text(now)) end
  if f[3] == args[2] then return { 'ok', f[4], text(now), 'known', raised and f[1] or '' } end
  -- Another replication id: a restart, a fail-over, a restored copy. The end of the log may be gone.
  -- `contact_at` stays: by it the next look sees that the clock of this one is behind.
  call('HSET', keys[1], 'replid', args[2], 'epoch', args[3], 'contact_since', text(now),
    'calm_until', text(now + CALM_MS))
  return { 'ok', args[3], text(now), 'new_epoch', raised and f[1] or '' }
end

-- The store's own absence is not the workers' silence: after a gap in which no server looked, and
-- after the clock was set back, every deadline starts anew, and no time without claims is longer than
-- it may be. An index that is none of ours is passed over: the doctor tells of it, and silence is
-- looked for without it. ARGV: time or '', gap in ms, force.
local function contact(keys, args)
  local now, gap = clock(args[1]), tonumber(args[2])
  local f = call('HMGET', keys[1], 'contact_at', 'contact_since', 'format', 'calm_until')
  if is_newer(f[3]) then return { 'newer', f[3] or '' } end
  -- While a cluster moves the fleet nobody can be heard: that is a gap, too.
  must_stay(prefix_of(keys[1]))
  must_be_able(WRITTEN_WITH, keys[1])
  local last = tonumber(f[1] or '') or 0
  local back = last > now + 1000
  -- While `pulse` is none, nobody can be heard: that is no silence of theirs.
  local pulse = prefix_of(keys[1]) .. 'pulse'
  local is_deaf = type(redis.pcall('ZCARD', pulse)) ~= 'number'
  if args[3] == '1' or back or is_deaf or (gap > 0 and now - last > gap) then
    -- When those were heard that were heard later than now is not known: long enough ago that nobody
    -- comes back by it, and whoever is there has the whole of the time from here on.
    local later, heard = '(' .. text((now + 1) * TOLD_BY), text((now - SILENT_MS) * TOLD_BY)
    for _, member in ipairs(redis.pcall('ZRANGEBYSCORE', pulse, later, '+inf')) do
      call('ZADD', pulse, heard, member)
    end
    call('HSET', keys[1], 'contact_since', text(now))
    f[2] = text(now)
  end
  call('HSET', keys[1], 'contact_at', text(now))
  if (tonumber(f[4] or '') or 0) > now + CALM_MS then call('HSET', keys[1], 'calm_until', text(now + CALM_MS)) end
  -- A lease end further off than one lease length is cut to it.
  local leases = prefix_of(keys[1]) .. 'leases'
  local far = redis.pcall('ZRANGEBYSCORE', leases, '(' .. text(now + LEASE_MS), '+inf', 'LIMIT', 0, 1000)
  for _, job in ipairs(far) do
    call('ZADD', leases, text(now + LEASE_MS), job)
  end
  return { text(now), f[2] }
end
