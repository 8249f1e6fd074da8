-- What a repair does. Each step looks first whether what it was decided on is still so.

-- Makes a hash what the log says: ARGV: key, rev that it must have, number of fields to set, fields
-- and values, fields to take away.
local function rewrite(keys, args)
  local key = prefix_of(keys[1]) .. args[1]
  if redis.pcall('HGET', key, 'rev') ~= args[2] then return 'changed' end
  local count = tonumber(args[3])
  if count > 0 then call('HSET', key, unpack(args, 4, 3 + count * 2)) end
  if #args > 3 + count * 2 then call('HDEL', key, unpack(args, 4 + count * 2)) end
  return 'ok'
end

-- Sets a key aside under another name, and takes its id out of an index. The log says that the
-- record is gone: every view drops it, and whom it belongs to registers anew. ARGV: time or '', key,
-- event for the log ('' when it is no record), index, id, the type that it has or ''.
local function set_aside(keys, args)
  local P = prefix_of(keys[1])
  local kind = call('TYPE', P .. args[2]).ok
  if kind == 'none' or (args[6] ~= '' and kind ~= args[6]) then return 'changed' end
  local f = call('HMGET', keys[1], 'seq', 'ended_no')
  local is_record = args[3] ~= ''
  local seq = is_record and text(whole(f[1], 'meta', 'seq') + 1)
  if is_record then
    whole(f[2], 'meta', 'ended_no')
    must_be({ typed = {} }, P .. 'log', 'stream')
  end
  call('RENAME', P .. args[2], P .. 'quarantine:' .. args[2])
  if is_record then
    redis.pcall('SREM', P .. args[4], args[5])
    call('HSET', keys[1], 'seq', seq)
    call('XADD', P .. 'log', seq .. '-0', 'at', text(clock(args[1])), 'ended_no', f[2], args[3], '')
  end
  return 'ok'
end

-- Makes indexes what the records say. ARGV: the seq at which that was worked out, then packed
-- commands (with keys without their prefix). Answers which of them failed, from 0, and why.
local function reindex(keys, args)
  if call('HGET', keys[1], 'seq') ~= args[1] then return 'changed' end
  local P, failed = prefix_of(keys[1]), {}
  for i = 2, #args do
    local command = cmsgpack.unpack(args[i])
    command[2] = P .. command[2]
    local done = redis.pcall(unpack(command))
    if type(done) == 'table' and done.err then
      failed[#failed + 1], failed[#failed + 2] = i - 2, done.err
    end
  end
  return failed
end
