-- Everything else that must be one step: opening, contact, reading together, profiles, wake-ups.

local CALM_MS = _CALM_MS
local NO_PREVIEWS_AT = _NO_PREVIEWS_AT

-- What these functions, and the processes beside them, write and publish with; and the question whose
-- refusal says that the slot moves.
local COMMANDS = {
  'DEL', 'HDEL', 'HINCRBY', 'HSET', 'HSETNX', 'LPUSH', 'LSET', 'PEXPIRE', 'RPUSH', 'SADD', 'SET', 'SREM', 'UNLINK',
  'XADD', 'XSETID', 'XTRIM', 'ZADD', 'ZREM', 'ZREMRANGEBYSCORE', 'PUBLISH', 'SUBSCRIBE',
  'EXISTS',
}

-- ARGV: fleet, replication id, epoch if a new one is needed, time or '', 'import' or 'visit' or ''. Who
-- visits leaves the format to those who serve.
local function open(keys, args)
  -- A right that is missing would else be noticed in the midst of writes.
  for _, command in ipairs(COMMANDS) do
    if not redis.acl_check_cmd(command, keys[1], keys[1], keys[1]) then return { 'denied', command } end
  end
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
  if tonumber(f[1]) < FORMAT and args[5] ~= 'visit' then call('HSET', keys[1], 'format', FORMAT) end
  if not f[6] then call('HSET', keys[1], 'created_at', text(now)) end
  if f[3] == args[2] then return { 'ok', f[4], text(now), 'known' } end
  -- Another replication id: a restart, a fail-over, a restored copy. The end of the log may be gone.
  -- `contact_at` stays: by it the next look sees that the clock of this one is behind.
  call('HSET', keys[1], 'replid', args[2], 'epoch', args[3], 'contact_since', text(now),
    'calm_until', text(now + CALM_MS))
  return { 'ok', args[3], text(now), 'new_epoch' }
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

-- Reads hashes, texts, firsts and members together. ARGV: time or '', epoch, then kind and key.
local function load(keys, args)
  local P = prefix_of(keys[1])
  local f = call('HMGET', keys[1], 'epoch', 'format')
  if f[1] ~= args[2] then return { 'epoch', f[1] or '' } end
  if is_newer(f[2]) then return { 'newer', f[2] or '' } end
  local found = {}
  for i = 3, #args, 2 do
    local kind, key = args[i], P .. args[i + 1]
    if kind == 'hash' then
      found[#found + 1] = call('HGETALL', key)
    elseif kind == 'text' then
      found[#found + 1] = { call('GET', key) or nil }
    elseif kind == 'first' then
      found[#found + 1] = { call('ZRANGE', key, 0, 0, 'WITHSCORES')[2] }
    else
      found[#found + 1] = call('SMEMBERS', key)
    end
  end
  return { 'ok', text(clock(args[1])), found }
end

-- Notes which classes a profile can serve. ARGV: epoch, digest, the revs after which and up to which
-- that was worked out, then of each service its name, how many classes, and these. Where somebody
-- began anew meanwhile, what lies before is still to be worked out. In another epoch the same revs
-- may be of other classes.
local function serve(keys, args)
  local f = call('HMGET', keys[1], 'epoch', 'classes_rev')
  if f[1] ~= args[1] then return { 'epoch', f[1] or '' } end
  local P, digest = prefix_of(keys[1]), args[2]
  local profile = P .. 'profile:' .. digest
  local before = call('HGET', profile, 'classes_rev')
  if not before then return 'gone' end
  must_be({ typed = {} }, P .. 'classes', 'zset')
  local newest, from, till = tonumber(f[2] or '') or 0, tonumber(args[3]), tonumber(args[4])
  before = tonumber(before) or 0
  -- Classes that there are not yet were looked at by nobody.
  if till > newest then return 'ahead' end
  if before > newest then
    call('HSET', profile, 'classes_rev', 0)
    return 'ahead'
  end
  local services, i = {}, 5
  while i < #args do
    local last = i + 1 + tonumber(args[i + 1])
    call('SADD', P .. 'serves:' .. digest .. ':' .. args[i], unpack(args, i + 2, last))
    services[args[i]] = true
    i = last + 1
  end
  if before >= from and till > before then call('HSET', profile, 'classes_rev', args[4]) end
  -- Classes that vanished stay in the set: when most of it is old, it is worked out anew.
  for service in pairs(services) do
    local key = P .. 'serves:' .. digest .. ':' .. service
    if call('SCARD', key) > 2 * call('ZCARD', P .. 'classes') + 1000 then
      call('DEL', key)
      call('HSET', profile, 'classes_rev', 0)
    end
  end
  return 'ok'
end

-- A small write, also where memory is short: `WAIT` is about what its connection wrote last.
-- ARGV: time or '', epoch.
local function ask_replicas(keys, args)
  if call('HGET', keys[1], 'epoch') ~= args[2] then return 'epoch' end
  call('SET', prefix_of(keys[1]) .. 'acks_at', text(clock(args[1])), 'PX', 60000)
  return 'ok'
end

-- Notes processes that wait for work. ARGV: time or '', process, then service, profile, ms; '' ms: no
-- longer.
local function wait(keys, args)
  local f = call('HMGET', keys[1], 'format')
  if not f[1] then return 'gone' end
  local S = { P = prefix_of(keys[1]), now = clock(args[1]) }
  for i = 3, #args, 3 do
    local service, digest = args[i], args[i + 1]
    local profiles, processes = S.P .. 'waiting:' .. service, waiting_key(S, service, digest)
    if args[i + 2] == '' then
      call('ZREM', processes, args[2])
      local last = call('ZRANGE', processes, -1, -1, 'WITHSCORES')
      if last[1] then call('ZADD', profiles, last[2], digest) else call('ZREM', profiles, digest) end
    else
      local till = text(S.now + tonumber(args[i + 2]))
      call('ZREMRANGEBYSCORE', processes, '-inf', '(' .. text(S.now))
      call('ZADD', processes, till, args[2])
      call('PEXPIRE', processes, args[i + 2])
      call('ZREMRANGEBYSCORE', profiles, '-inf', '(' .. text(S.now))
      call('ZADD', profiles, 'GT', till, digest)
      call('PEXPIRE', profiles, args[i + 2])
    end
  end
  return 'ok'
end

-- A wake-up that its taker has no use for goes to somebody else, some few times.
-- ARGV: time or '', class, service, hops so far, the process that had no use for it and its profile,
-- '1' where that is able.
local function pass_on(keys, args)
  local S = { P = prefix_of(keys[1]), now = clock(args[1]) }
  S.now_text = text(S.now)
  local hops = tonumber(args[4]) + 1
  if args[2] == ANYTHING then
    local is_for_others = hops <= 4 and others_wait(S, args[3], args[6], args[5])
    if is_for_others then lay(S.P .. 'wake:' .. args[6] .. ':' .. args[3], ANYTHING, hops) end
  elseif hops <= 4 and call('EXISTS', S.P .. 'class:' .. args[2]) == 1 then
    wake(S, args[2], args[3], false, hops, { process = args[5], digest = args[6], is_able = args[7] == '1' })
  end
  return 'ok'
end

-- Whether so much memory is used that pictures must leave the rest to jobs.
local function is_short_of_memory()
  local info = call('INFO', 'memory')
  local used, most = string.match(info, '\nused_memory:(%d+)'), string.match(info, '\nmaxmemory:(%d+)')
  used, most = tonumber(used), tonumber(most)
  return used and most and most > 0 and used >= NO_PREVIEWS_AT * most
end

-- Keeps a picture, unless a newer one stands there; while memory is short none, nor the older one. ARGV: job, attempt, its number, what is kept of
-- it, for how many seconds.
local function keep_preview(keys, args)
  local key, attempt, n = prefix_of(keys[1]) .. 'preview:' .. args[1], tonumber(args[2]), tonumber(args[3])
  -- Whatever else stands there is written over.
  local found = redis.pcall('GETRANGE', key, 0, 21)
  local was, number = string.match(type(found) == 'string' and found or '', '^(%d+) (%d+) ')
  was, number = tonumber(was), tonumber(number)
  if was and (was > attempt or was == attempt and number > n) then return 'old' end
  if is_short_of_memory() then
    call('UNLINK', key)
    return 'full'
  end
  call('SET', key, args[4], 'EX', args[5])
  return 'ok'
end

-- The first waiting jobs over all classes, in the order of claims. ARGV: limit, then services.
local function first_waiting(keys, args)
  local P = prefix_of(keys[1])
  local limit, jobs, heads, rest = tonumber(args[1]), {}, {}, {}
  for i = 2, #args do
    -- A key that is none of ours is passed over: the doctor tells of it.
    local some = redis.pcall('ZRANGE', P .. 'heads:' .. args[i], 0, limit - 1, 'WITHSCORES')
    for n = 1, #some, 2 do
      heads[#heads + 1] = { score = tonumber(some[n + 1]), member = some[n], class = string.sub(some[n], 14), at = 0 }
    end
  end
  table.sort(heads, before)
  local next = 1
  while #jobs < limit do
    local head = heads[next]
    if rest[1] and (not head or before(rest[1], head)) then
      head = pop(rest)
    elseif head then
      next = next + 1
    else
      break
    end
    local two = redis.pcall('ZRANGE', P .. 'queue:' .. head.class, head.at, head.at + 1, 'WITHSCORES')
    if two[1] then jobs[#jobs + 1] = string.sub(two[1], 14) end
    if two[3] then
      head.score, head.member, head.at = tonumber(two[4]), string.sub(two[3], 1, 13) .. head.class, head.at + 1
      push(rest, head)
    end
  end
  return jobs
end
