-- What a repair does. Each step looks first whether what it was decided on is still so.

-- Whether a hash has this value in a field, or where that is '' none.
local function has(key, field, value)
  return (redis.pcall('HGET', key, field) or '') == value
end

local function has_rev(key, rev)
  return has(key, 'rev', rev)
end

-- Gives a key another name, which `quarantined` has, with how the key is called there. What was set
-- aside before stays what it is.
local function lay_aside(P, name, called)
  local aside, n = name, 1
  while call('EXISTS', P .. 'quarantine:' .. aside) == 1 do
    n = n + 1
    aside = name .. ':' .. small(n)
  end
  call('RENAME', P .. name, P .. 'quarantine:' .. aside)
  -- A look at all keys finds it, too.
  redis.pcall('HSET', P .. 'quarantined', aside, called)
end

-- Whether a key is of a wrong type, this one; then it makes room under another name for its record,
-- which is made anew and does not come back as missing when it goes (doctor/aside.rs).
local function makes_room(P, name, kind)
  if call('TYPE', P .. name).ok ~= kind then return false end
  lay_aside(P, name, name .. ' anew')
  return true
end

-- What the next entry of the log will be: its seq, and the number of the last ending. Refuses, before
-- anything is written, where there can be none.
local function next_entry(keys)
  local f = call('HMGET', keys[1], 'seq', 'ended_no')
  local S, seq = { P = prefix_of(keys[1]), typed = {} }, whole(f[1], 'meta', 'seq')
  whole(f[2], 'meta', 'ended_no')
  make_log_follow(S, seq)
  return { seq = text(seq + 1), ended_no = f[2], log = S.P .. 'log' }
end

local function write_entry(keys, entry, time, event, record)
  call('HSET', keys[1], 'seq', entry.seq)
  call('XADD', entry.log, entry.seq .. '-0', 'at', text(clock(time)), 'ended_no', entry.ended_no, event, record)
end

-- Makes a hash what the log says, as a change like any other: a view that began while it was broken
-- lacks the record. ARGV: time or '', key, the `rev` that it has ('' for none), the wrong type that
-- stands in its place (or ''), event for the log, number of fields to set, fields and values, fields to
-- take away.
local function rewrite(keys, args)
  local P = prefix_of(keys[1])
  local key, kind = P .. args[2], args[4]
  local entry = next_entry(keys)
  if kind ~= '' and not makes_room(P, args[2], kind) then return 'changed' end
  if kind == '' and not has_rev(key, args[3]) then return 'changed' end
  local count = tonumber(args[6])
  if count > 0 then call('HSET', key, unpack(args, 7, 6 + count * 2)) end
  if #args > 6 + count * 2 then call('HDEL', key, unpack(args, 7 + count * 2)) end
  call('HSET', key, 'rev', entry.seq)
  local fields = call('HGETALL', key)
  local record = BETWEEN .. small(#fields) .. BETWEEN .. table.concat(fields, BETWEEN)
  write_entry(keys, entry, args[1], args[5], record)
  return 'ok'
end

-- Sets a key aside under another name, and takes its id out of an index. The log says that the
-- record is gone: every view drops it, and whom it belongs to registers anew. ARGV: time or '', key,
-- event for the log ('' when it is no record), index, id, the type that it has or '' ('none' is a
-- record that is lost: only the log is told), the `rev` that it has ('' for none), which counts for a
-- record that cannot be read.
local function set_aside(keys, args)
  local P = prefix_of(keys[1])
  local kind, is_record = call('TYPE', P .. args[2]).ok, args[3] ~= ''
  local wanted = args[6] ~= '' and args[6] or kind
  if kind ~= wanted or (kind == 'none' and args[6] ~= 'none') then return 'changed' end
  if args[6] == '' and is_record and not has_rev(P .. args[2], args[7]) then return 'changed' end
  local entry = is_record and next_entry(keys)
  if kind ~= 'none' then lay_aside(P, args[2], args[2]) end
  -- Who was heard is not known any more, or was refused when it said so: every deadline begins anew.
  if args[2] == 'pulse' or args[2] == 'leases' then
    local now = text(clock(args[1]))
    call('HSET', keys[1], 'contact_since', now, 'contact_at', now)
  end
  if is_record then
    redis.pcall('SREM', P .. args[4], args[5])
    write_entry(keys, entry, args[1], args[3], '')
  end
  return 'ok'
end

-- Deletes what was set aside. Of a record it may be the only copy: then a hash stands in its place, or
-- all of it was made anew, as it is noted now. ARGV: the record's key, or '' where it was none, and
-- what follows `quarantine:` in the names.
local function delete_asides(keys, args)
  local P, name = prefix_of(keys[1]), args[1]
  local noted = P .. 'quarantined'
  if name ~= '' and call('TYPE', P .. name).ok ~= 'hash' then
    for i = 2, #args do
      if redis.pcall('HGET', noted, args[i]) ~= name .. ' anew' then return 'changed' end
    end
  end
  for i = 2, #args do
    call('UNLINK', P .. 'quarantine:' .. args[i])
    redis.pcall('HDEL', noted, args[i])
  end
  return 'ok'
end

-- Forgets what somebody else has deleted, unless something was set aside under that name since.
-- ARGV: what follows `quarantine:` in the names.
local function forget_asides(keys, args)
  local P = prefix_of(keys[1])
  for _, aside in ipairs(args) do
    if call('EXISTS', P .. 'quarantine:' .. aside) == 0 then redis.pcall('HDEL', P .. 'quarantined', aside) end
  end
  return 'ok'
end

-- Tells the log of a record as it is, at this `rev`. Answers why not, if so.
local function tell(keys, time, of, event)
  local fine, told = pcall(rewrite, keys, { time, of[1], of[3], '', event, '0' })
  if not fine then return reason(told) end
  return told ~= 'ok' and told
end

-- Makes indexes what the records say. ARGV: time or '', then for each command the seq at which it was
-- worked out, what it was worked out of (packed: key, field and value; of a record its `rev`), or ''
-- where it was of several, the command, packed, and the record's event for the log where views lack it
-- that began while it was not named (or ''); keys are without their prefix. What it was worked out of
-- must be as it was. Answers which of them were not carried out, from 0, and why.
local function reindex(keys, args)
  local P, seq, failed = prefix_of(keys[1]), call('HGET', keys[1], 'seq'), {}
  for i = 2, #args, 4 do
    local of = args[i + 1] ~= '' and cmsgpack.unpack(args[i + 1])
    local why
    if seq == args[i] or (of and has(P .. of[1], of[2], of[3])) then
      why = args[i + 3] ~= '' and tell(keys, args[1], of, args[i + 3])
    else
      why = 'changed'
    end
    if not why then
      local command = cmsgpack.unpack(args[i + 2])
      command[2] = P .. command[2]
      local done = redis.pcall(unpack(command))
      why = type(done) == 'table' and done.err
    end
    if why then failed[#failed + 1], failed[#failed + 2] = (i - 2) / 4, why end
  end
  return failed
end
