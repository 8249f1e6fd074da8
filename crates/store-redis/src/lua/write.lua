-- The writes of a transition, after every check. The log is written first: whether it takes an entry
-- only Redis knows, and until then nothing is changed.

-- A value that only the store knows: the seq, an ending's number, a time.
local function mark(S, value, base)
  local at, kind = string.byte(value, 1, 2)
  if at ~= 64 then return value end
  if value == '@seq' then return S.seq_text end
  if value == '@lease' then return S.lease_text end
  if kind == 101 then return text(base + tonumber(string.sub(value, 3))) end
  return text(S.now * TOLD_BY + tonumber(string.sub(value, 2)))
end

-- Writes a record's fields; see `write_at`.
local function put_fields(S, v, i, base)
  local stamps, key, last = v[i], i + 2, i + 1 + v[i + 1]
  v[key + 2] = S.seq_text
  for k = key + 4, key + 2 + stamps * 2, 2 do v[k] = mark(S, v[k], base) end
  call('HSET', unpack(v, key, last))
  local gone = v[last + 1]
  if gone > 0 then call('HDEL', v[key], unpack(v, last + 2, last + 1 + gone)) end
end

-- Writes of records; those of `overridden` keys are left to the claim.
local function put_records(S, v, overridden, base)
  local i = v[WRITES]
  while i < v[DROPS] do
    local here, key, after = write_at(v, i)
    if not overridden[key] then
      if here then
        put_fields(S, v, i, base)
      else
        put_fields(S, flat(v[i + 2]), 2, base)
      end
    end
    i = after
  end
  for k = v[DROPS], v[SCORES] - 1 do call('DEL', v[k]) end
end

-- Scores are `flag, values, key, score, member, ...`.
local function put_scores(S, v, base)
  local i = v[SCORES]
  while i < v[OPS] do
    local flag, key, last = v[i], i + 2, i + 2 + v[i + 1]
    for k = key + 1, last, 2 do v[k] = mark(S, v[k], base) end
    if flag then call('ZADD', v[key], flag, unpack(v, key + 1, last)) else call('ZADD', unpack(v, key, last)) end
    i = last + 1
  end
end

-- Everything else is `type, values, command, key, ...`.
local function put_indexes(S, v, base)
  put_scores(S, v, base)
  local i = v[OPS]
  while i < v[COUNTS] do
    local last = i + 1 + v[i + 1]
    call(unpack(v, i + 2, last))
    i = last + 1
  end
  for k = i, v[QUEUE] - 1, 2 do
    local name = v[k]
    S.counts[name] = math.max(0, S.counts[name] + v[k + 1])
  end
end

local function change_classes(S, v)
  -- class, live, held, running, service, base, excluded, definition, whether it is asked for
  for i = v[CLASSES], v[LOSSES] - 1, 9 do
    local class = class_of(S, v[i])
    if not class.exists and not class.is_new then
      class.live, class.held, class.running, class.is_new = 0, 0, 0, true
      class.service, class.base, class.excluded, class.definition = v[i + 4], v[i + 5], v[i + 6], v[i + 7]
      class.head, class.score = false, false
      S.made = S.made + 1
      S.woken[#S.woken + 1] = { class.key, class.service, true }
    end
    class.live, class.held, class.running = class.live + v[i + 1], class.held + v[i + 2], class.running + v[i + 3]
    class.is_held = class.is_held or v[i + 2] ~= 0
    class.is_dirty = true
  end
  -- '+' or '-', class, rank, place, queued_seq, job
  for i = v[QUEUE], v[CLASSES] - 1, 6 do
    local class, place, queued = S.classes[v[i + 1]], v[i + 3], v[i + 4]
    local member = string.format('%012x:', queued == 0 and S.seq or queued) .. v[i + 5]
    local first
    if v[i] == '+' then
      if place == 0 then place = S.seq end
      local score = text(v[i + 2] * PLACES + place)
      call('ZADD', class.queue, score, member)
      -- Nothing was queued before it.
      if not class.head and not class.is_requeued then first = { member, score } end
      if not class.is_new then S.woken[#S.woken + 1] = { class.key, class.service, false } end
    else
      call('ZREM', class.queue, member)
    end
    class.is_requeued, class.is_dirty, class.following = true, true, first
  end
end

-- Losses of classes that nobody needs any more are remembered of so many, the latest.
local IDLE_BASES = _IDLE_BASES

local function forget_losses(S, key)
  local idle, found = {}, call('HGETALL', key)
  for i = 1, #found, 2 do
    if redis.pcall('SCARD', S.P .. 'base:' .. found[i]) == 0 then
      idle[#idle + 1] = { base = found[i], at = tonumber(string.match(found[i + 1], '%d+$') or 0) }
    end
  end
  table.sort(idle, function(a, b) return a.at < b.at end)
  for i = 1, #idle - IDLE_BASES do call('HDEL', key, idle[i].base) end
end

-- What happened to a class: a loss in a row (attempts that ran while another was lost are of the
-- same incident), or a completion that proves it.
local function note_losses(S, v)
  for i = v[LOSSES], v[PROFILES] - 1, 4 do
    local kind, base, from, till = v[i], v[i + 1], v[i + 2], v[i + 3]
    local key, before = S.P .. 'losses', S.losses
    if kind == 'proof' then
      if before > 0 then call('HDEL', key, base) end
    else
      local n, last = string.match(call('HGET', key, base) or '', '^(%d+) (%d+)$')
      if not last or from >= tonumber(last) then
        call('HSET', key, base, text((n or 0) + 1) .. ' ' .. text(till))
      end
    end
    if before > 0 or kind ~= 'proof' then
      S.losses = call('HLEN', key)
      -- To look at all of them is worth it now and then.
      if S.losses > 2 * IDLE_BASES and S.losses % 100 == 0 then
        forget_losses(S, key)
        S.losses = call('HLEN', key)
      end
      call('HSET', S.meta, 'losses', text(S.losses))
    end
  end
end

-- What a profile can serve is worked out anew when somebody with it is there again. One that is damaged
-- keeps nobody from going.
local function forget_served(S, digest)
  local key = S.P .. 'profile:' .. digest
  local services = redis.pcall('HGET', key, 'services')
  if type(services) ~= 'string' then return end
  for service in string.gmatch(services, '%S+') do call('DEL', S.P .. 'serves:' .. digest .. ':' .. service) end
  call('HSET', key, 'classes_rev', '0')
end

local function count_present(S, digest, by)
  local key = S.P .. 'present'
  if call('HINCRBY', key, digest, by) <= 0 then
    call('HDEL', key, digest)
    forget_served(S, digest)
  end
end

local function use_profiles(S, v)
  -- digest, users, of these there, capabilities, their services
  for i = v[PROFILES], v[PAYLOADS] - 1, 5 do
    local digest, by, there, capabilities = v[i], v[i + 1], v[i + 2], v[i + 3]
    local key = S.P .. 'profile:' .. digest
    if capabilities then
      call('HSETNX', key, 'classes_rev', '0')
      call('HSET', key, 'capabilities', capabilities, 'services', v[i + 4])
    end
    if there ~= 0 then count_present(S, digest, there) end
    if (by ~= 0 or capabilities) and call('HINCRBY', key, 'users', by) <= 0 and by < 0 then
      forget_served(S, digest)
      call('DEL', key)
      call('SREM', S.P .. 'profiles', digest)
    elseif by ~= 0 or capabilities then
      call('SADD', S.P .. 'profiles', digest)
    end
  end
end

-- Payloads come as arguments behind the plan: they may be large.
local function put_payloads(v, args, n)
  for i = v[PAYLOADS], v[CLAIM] - 1 do
    n = n + 1
    call('SET', v[i], args[n])
  end
end

-- More values than this do not fit into one call, with what else is on Lua's stack.
local LOG_VALUES = 7000

-- Events that are too many stand packed in one value, names and records in turn.
local function fold_events(v, from, last)
  local parts = {}
  for i = from, last, VALUES do
    parts[#parts + 1] = cmsgpack.pack(unpack(v, i, math.min(i + VALUES - 1, last)))
  end
  v[from], v[from + 1] = 'events', table.concat(parts)
  return from + 1
end

local function write_log(S, v, base)
  local at, last = v[LOG], v[END] - 1
  v[at + 4], v[at + 6], v[at + 8] = S.seq_text .. '-0', S.now_text, text(base)
  if last - at > LOG_VALUES then last = fold_events(v, at + LOG_HEAD, last) end
  local entry = redis.pcall('XADD', unpack(v, at, last))
  if type(entry) == 'string' then return end
  make_log_follow(S, S.seq - 1)
  call('XADD', unpack(v, at, last))
end
