-- Moving house: the intake, filling a fleet that never had a record, and what an export lists.
-- What an import puts in is written by `commit`. Each import has an epoch of its own from its
-- first step on: when another one takes its place, or Redis another history, it is refused.

-- ARGV: epoch, '1' to open the intake or '0' to close it.
local function set_intake(keys, args)
  local f = call('HMGET', keys[1], 'epoch', 'importing')
  if f[1] ~= args[1] then return { 'epoch', f[1] or '' } end
  if f[2] then return { 'importing' } end
  if args[2] == '1' then
    call('HDEL', keys[1], 'closed')
  else
    call('HSET', keys[1], 'closed', 1)
  end
  return { 'ok' }
end

-- ARGV: epoch, the import's epoch, where its log begins: seq and ended_no.
local function begin_import(keys, args)
  local S, why_not = begin(keys, '', args[1])
  if not S then return why_not end
  if S.importing then return { 'importing' } end
  for _, records in ipairs({ 'jobs', 'workers', 'machines', 'connectors', 'alerts' }) do
    if S.seq > 0 or call('EXISTS', S.P .. records) == 1 then return { 'not_empty', text(S.seq) } end
  end
  call('HSET', S.meta, 'format', FORMAT, 'importing', 1, 'epoch', args[2], 'seq', args[3], 'ended_no', args[4])
  call('HDEL', S.meta, 'closed')
  return { 'ok' }
end

-- ARGV: the import's epoch, the one of the log from now on, time or ''.
local function finish_import(keys, args)
  local f = call('HMGET', keys[1], 'epoch', 'importing')
  if not f[2] then return { 'not_importing' } end
  if f[1] ~= args[1] then return { 'epoch', f[1] or '' } end
  local now = text(clock(args[3]))
  call('HSET', keys[1], 'epoch', args[2], 'contact_since', now, 'contact_at', now)
  call('HDEL', keys[1], 'importing')
  return { 'ok' }
end

-- Takes an import over from whoever began it, to clear it. ARGV: the import's epoch, or '' for
-- whichever it is; the new one.
local function seize_import(keys, args)
  local f = call('HMGET', keys[1], 'epoch', 'importing')
  if not f[2] then return { 'not_importing' } end
  if args[1] ~= '' and f[1] ~= args[1] then return { 'epoch', f[1] or '' } end
  call('HSET', keys[1], 'epoch', args[2])
  return { 'ok' }
end

-- Takes away what an import put in. ARGV: the import's epoch, whole keys, none of them `meta`.
local function clear_import(keys, args)
  local f = call('HMGET', keys[1], 'epoch', 'importing')
  if not f[2] then return { 'not_importing' } end
  if f[1] ~= args[1] then return { 'epoch', f[1] or '' } end
  call('UNLINK', unpack(args, 2))
  return { 'ok' }
end

-- Makes the fleet anew, once all its other keys are gone. ARGV: the import's epoch, then as `open`.
local function reset(keys, args)
  local f = call('HMGET', keys[1], 'epoch', 'importing')
  if not f[2] then return { 'not_importing' } end
  if f[1] ~= args[1] then return { 'epoch', f[1] or '' } end
  call('DEL', keys[1])
  return open(keys, { args[2], args[3], args[4], args[5] })
end

-- Idempotency keys in the order in which their time ends. ARGV: after which one, or '', how many.
-- Only the first ones are ever taken out: where that one is gone, so are those before it.
local function idempotency(keys, args)
  local key = prefix_of(keys[1]) .. 'idempotency'
  local rank = args[1] ~= '' and call('ZRANK', key, args[1])
  local from = rank and rank + 1 or 0
  return call('ZRANGE', key, from, from + tonumber(args[2]) - 1)
end
