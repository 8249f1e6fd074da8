-- What lies beside the records and decides nothing: which classes profiles can serve, the question to
-- replicas, pictures.

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

local NO_PREVIEWS_AT = _NO_PREVIEWS_AT

-- Whether so much memory is used that pictures must leave the rest to jobs.
local function is_short_of_memory()
  local info = call('INFO', 'memory')
  local used, most = string.match(info, '\nused_memory:(%d+)'), string.match(info, '\nmaxmemory:(%d+)')
  used, most = tonumber(used), tonumber(most)
  return used and most and most > 0 and used >= NO_PREVIEWS_AT * most
end

-- Keeps a picture, unless a newer one stands there; while memory is short none, nor the older one.
-- ARGV: job, attempt, its number, what is kept of it, for how many seconds.
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
