-- What must hold before the first write of a transition: what it was decided on is unchanged, its
-- guards hold, and everything that it will write is what it should be.

local function unchanged(S, v)
  for i = v[READS], v[LOOKED_UP] - 1, 2 do
    local key, rev = v[i], v[i + 1]
    if rev then
      if call('HGET', key, 'rev') ~= rev then return false end
    elseif call('EXISTS', key) == 1 then
      return false
    end
    S.typed[key] = 'hash'
  end
  for i = v[LOOKED_UP], v[GUARDS] - 1, 3 do
    local key, found = v[i + 1], nil
    if v[i] == 'kept' then
      local what, till = string.match(call('GET', key) or '', '^(%S+ %S+) (%d+)$')
      found = what and tonumber(till) > S.now and what or false
    elseif v[i] == 'first' then
      found = call('ZRANGE', key, '0', '0', 'WITHSCORES')[2] or false
    else
      local members = call('SMEMBERS', key)
      table.sort(members, less)
      found = table.concat(members, ' ')
    end
    if found ~= v[i + 2] then return false end
  end
  return true
end

local function score(S, key, member)
  return tonumber(call('ZSCORE', S.P .. key, member) or '')
end

local function heard_of(S, member)
  local at = score(S, 'pulse', member)
  return at and math.floor(at / TOLD_BY)
end

-- How long since something was heard, counted from the start of unbroken contact at most.
local function silent(S, heard)
  return math.max(0, S.now - math.max(heard or S.contact, S.contact))
end

local function machine_heard(S, machine)
  local heard = heard_of(S, 'm:' .. machine)
  for _, worker in ipairs(call('SMEMBERS', S.P .. 'machine:' .. machine .. ':workers')) do
    local beat = heard_of(S, 'w:' .. worker)
    if beat and (not heard or beat > heard) then heard = beat end
  end
  return heard
end

local GUARD_OF = {
  lease = function(S, job)
    local till = score(S, 'leases', job)
    return till and math.max(till, S.contact + LEASE_MS) <= S.now
  end,
  worker = function(S, worker, after) return silent(S, heard_of(S, 'w:' .. worker)) >= after end,
  machine = function(S, machine, after) return silent(S, machine_heard(S, machine)) >= after end,
  heard = function(S, machine, within)
    local heard = machine_heard(S, machine)
    return heard and S.now - heard < within
  end,
  connector = function(S, connector, after) return silent(S, heard_of(S, 'c:' .. connector)) >= after end,
}

local function guarded(S, v)
  for i = v[GUARDS], v[WRITES] - 1, 3 do
    if not GUARD_OF[v[i]](S, v[i + 1], v[i + 2]) then return false end
  end
  return true
end

-- Makes the log take the next entry, or tells why it does not. What others put between ours is passed
-- over; an entry ahead that was deleted again has left its id behind, and Redis takes none before it.
local function make_log_follow(S, seq)
  local log, last = S.P .. 'log', text(seq)
  must_be(S, log, 'stream')
  local ahead = call('XRANGE', log, text(seq + 1) .. '-0', '+', 'COUNT', '1')
  if ahead[1] then refuse('meta seq is ' .. last .. ', and the log has an entry ' .. ahead[1][1]) end
  if call('EXISTS', log) == 0 then return end
  local set = redis.pcall('XSETID', log, last .. '-0')
  if set.err then
    -- From 7.2 on it does not go back before what was deleted, but it lets that be forgotten on its way
    -- ahead. The entry ahead is none, so the way back is free then.
    local behind, greatest = last .. '-1', '18446744073709551615-0'
    set = redis.pcall('XSETID', log, greatest, 'MAXDELETEDID', behind)
    if not set.err then set = redis.pcall('XSETID', log, behind) end
  end
  if set.err then
    refuse(log .. ' takes no entry behind ' .. last .. '-0 (' .. set.err .. '): rename it to ' .. S.P
      .. 'quarantine:log, and a new one begins')
  end
end

-- A count of jobs that will change is a number.
local function sound_count(S, name)
  if not S.counts[name] then S.counts[name] = whole(S.found[COUNT_AT[name]] or 0, 'meta', name) end
end

local function sound_classes(S, v)
  for i = v[CLASSES], v[LOSSES] - 1, 9 do
    local known = class_of(S, v[i])
    if v[QUEUE] < v[CLASSES] then must_be(S, S.P .. 'heads:' .. v[i + 4], 'zset') end
    if known.live and (known.live == 0 or known.live + v[i + 1] <= 0) then
      must_be(S, S.P .. 'resting', 'zset')
      must_be(S, S.P .. 'base:' .. v[i + 5], 'set')
    end
    if not known.exists then
      must_be(S, S.P .. 'resting', 'zset')
      must_be(S, S.P .. 'classes', 'zset')
      must_be(S, S.P .. 'base:' .. v[i + 5], 'set')
      must_be(S, S.P .. 'services', 'set')
    end
    if v[i + 2] ~= 0 then must_be(S, S.P .. 'held', 'set') end
  end
  for i = v[QUEUE], v[CLASSES] - 1, 6 do must_be(S, S.classes[v[i + 1]].queue, 'zset') end
end

local function sound_scores(S, v)
  local i = v[SCORES]
  while i < v[OPS] do
    must_be(S, v[i + 2], 'zset')
    i = i + 3 + v[i + 1]
  end
end

-- Every key that will be written is what it should be; counters are numbers.
local function sound(S, v)
  local i = v[WRITES]
  while i < v[DROPS] do
    local _, key, after = write_at(v, i)
    must_be(S, key, 'hash')
    i = after
  end
  sound_scores(S, v)
  i = v[OPS]
  while i < v[COUNTS] do
    if v[i] ~= '' then must_be(S, v[i + 3], v[i]) end
    i = i + 2 + v[i + 1]
  end
  for k = v[COUNTS], v[QUEUE] - 1, 2 do sound_count(S, v[k]) end
  sound_classes(S, v)
  for k = v[LOSSES], v[PROFILES] - 1, 4 do
    -- A proof against nothing writes nothing.
    if S.losses > 0 or v[k] ~= 'proof' then must_be(S, S.P .. 'losses', 'hash') end
  end
  for k = v[PROFILES], v[PAYLOADS] - 1, 5 do
    local key, present = S.P .. 'profile:' .. v[k], S.P .. 'present'
    if v[k + 1] ~= 0 or v[k + 3] then
      must_be(S, key, 'hash')
      local users = call('HGET', key, 'users')
      if users then whole(users, key, 'users') end
      must_be(S, S.P .. 'profiles', 'set')
    end
    if v[k + 2] ~= 0 then
      must_be(S, present, 'hash')
      whole(call('HGET', present, v[k]) or 0, present, v[k])
    end
  end
end

-- A class that would be one too many, with the submission or retry that needs it.
local function has_room(S, v)
  for i = v[CLASSES], v[LOSSES] - 1, 9 do
    if v[i + 8] and not S.classes[v[i]].exists then
      local live = call('ZCARD', S.P .. 'classes') - call('ZCARD', S.P .. 'resting')
      return live + S.made < MAX_CLASSES
    end
  end
  return true
end

-- What a claim will touch, beside what the transition touches anyway: that is also `pulse`, which it
-- sets only beside operations.
local function sound_claim(S, claim, picks)
  must_be(S, S.P .. 'leases', 'zset')
  must_be(S, S.P .. 'worker:' .. claim.worker, 'hash')
  for _, service in ipairs(claim.services) do
    must_be(S, S.P .. 'connector:' .. claim.worker .. ':' .. service.name, 'hash')
  end
  for _, pick in ipairs(picks) do
    must_be(S, S.P .. 'heads:' .. pick.class.service, 'zset')
    if pick.excludes then must_be(S, S.P .. 'exclusions', 'zset') end
  end
  sound_count(S, 'pending')
  sound_count(S, 'assigned')
end
