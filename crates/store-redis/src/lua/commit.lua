-- commit: applies transitions, each whole or not at all: what it was decided on must be unchanged,
-- its guards must hold, and everything that it will write must be what it should be. Then all
-- writes, one entry in the log, and wake-ups. A claim is part of it: the choice of the jobs is made
-- here, and what taking them changes was decided by the caller on a stand-in for the job
-- (`STAND_IN`), whose id is replaced by those of the chosen ones.
--
-- A transition is a list (see plan.rs): 1 reads, 2 looked up, 3 guards, 4 writes, 5 drops, 6 ops,
-- 7 queue, 8 classes, 9 losses, 10 profiles, 11 events, 12 endings, 13 briefs, 14 claim, 15 intake.

local STAND_IN = '"00000000-0000-0000-0000-000000000000"'
local MAX_CLASSES = 10000

local KINDS = {
  ZADD = 'zset', ZREM = 'zset', SADD = 'set', SREM = 'set', HINCRBY = 'hash', HSET = 'hash',
  HDEL = 'hash', SET = nil, DEL = nil,
}

-- Checks -----------------------------------------------------------------------------------------

local function unchanged(S, t)
  for _, read in ipairs(t[1]) do
    local key = S.P .. read[1]
    local rev = call('HGET', key, 'rev')
    if read[2] then
      if rev ~= read[2] then return false end
    elseif rev or call('EXISTS', key) == 1 then
      return false
    end
    S.typed[key] = 'hash'
  end
  for _, look in ipairs(t[2]) do
    local key, found = S.P .. look[2], nil
    if look[1] == 'kept' then
      local what, till = string.match(call('GET', key) or '', '^(%S+ %S+) (%d+)$')
      found = what and tonumber(till) > S.now and what or false
    elseif look[1] == 'first' then
      found = call('ZRANGE', key, 0, 0, 'WITHSCORES')[2] or false
    else
      local members = call('SMEMBERS', key)
      table.sort(members)
      found = table.concat(members, ' ')
    end
    if found ~= look[3] then return false end
  end
  return true
end

local function score(S, key, member)
  return tonumber(call('ZSCORE', S.P .. key, member) or '')
end

-- How long since something was heard, counted from the start of unbroken contact at most.
local function silent(S, heard)
  return math.max(0, S.now - math.max(heard or S.contact, S.contact))
end

local function machine_heard(S, machine)
  local heard = score(S, 'machine_beats', machine)
  for _, worker in ipairs(call('SMEMBERS', S.P .. 'machine:' .. machine .. ':workers')) do
    local beat = score(S, 'heartbeats', worker)
    if beat and (not heard or beat > heard) then heard = beat end
  end
  return heard
end

local GUARDS = {
  lease = function(S, job)
    local till = score(S, 'leases', job)
    return till and math.max(till, S.contact + LEASE_MS) <= S.now
  end,
  worker = function(S, worker, after) return silent(S, score(S, 'heartbeats', worker)) >= after end,
  machine = function(S, machine, after) return silent(S, machine_heard(S, machine)) >= after end,
  heard = function(S, machine, within)
    local heard = machine_heard(S, machine)
    return heard and S.now - heard < within
  end,
  connector = function(S, connector, after) return silent(S, score(S, 'confirmed', connector)) >= after end,
}

local function guarded(S, t)
  for _, guard in ipairs(t[3]) do
    if not GUARDS[guard[1]](S, guard[2], guard[3]) then return false end
  end
  return true
end

-- Every key that will be written is what it should be; counters are numbers.
local function sound(S, t)
  for _, write in ipairs(t[4]) do must_be(S, S.P .. write[1], 'hash') end
  for _, op in ipairs(t[6]) do
    local kind = KINDS[op[1]]
    if kind then must_be(S, S.P .. op[2], kind) end
    if op[1] == 'HINCRBY' then
      local n = call('HGET', S.P .. op[2], op[3])
      if n and not tonumber(n) then error({ corrupt = op[2] .. ' ' .. op[3] .. ' is not a number: ' .. n }) end
    end
  end
  for _, change in ipairs(t[7]) do
    must_be(S, S.P .. 'queue:' .. change[2], 'zset')
    must_be(S, S.P .. 'heads:' .. change[6], 'zset')
  end
  for _, key in ipairs({ 'ages', 'classes' }) do
    if #t[7] > 0 or #t[8] > 0 then must_be(S, S.P .. key, 'zset') end
  end
  for _, class in ipairs(t[8]) do
    local key = S.P .. 'class:' .. class[1]
    must_be(S, key, 'hash')
    local f = call('HMGET', key, 'live', 'held')
    if f[1] then whole(f[1], key .. ' live') whole(f[2], key .. ' held') end
    must_be(S, S.P .. 'bases', 'hash')
  end
  if #t[9] > 0 then must_be(S, S.P .. 'losses', 'hash') end
  for _, profile in ipairs(t[10]) do
    must_be(S, S.P .. 'profile:' .. profile[1], 'hash')
    local users = call('HGET', S.P .. 'profile:' .. profile[1], 'users')
    if users then whole(users, 'profile users') end
  end
  must_be(S, S.P .. 'log', 'stream')
end

-- A class that would be one too many, with the submission or retry that needs it.
local function has_room(S, t)
  local new = false
  for _, class in ipairs(t[8]) do
    if class[8] and call('EXISTS', S.P .. 'class:' .. class[1]) == 0 then new = true end
  end
  return not new or call('ZCARD', S.P .. 'classes') < MAX_CLASSES
end

-- What a claim will touch, beside what the transition touches anyway.
local function sound_claim(S, claim, picks)
  for _, key in ipairs({ 'leases', 'ages' }) do must_be(S, S.P .. key, 'zset') end
  for _, key in ipairs({ 'counts', 'running' }) do must_be(S, S.P .. key, 'hash') end
  for _, pick in ipairs(picks) do
    must_be(S, S.P .. 'queue:' .. pick.class.key, 'zset')
    local payload = S.P .. 'payload:' .. pick.job
    must_be(S, payload, 'string')
  end
  must_be(S, S.P .. 'log', 'stream')
end

-- Wake-ups ---------------------------------------------------------------------------------------

-- Wakes one waiting worker that is able to run the class: pushes the class's name for its profile,
-- unless a wake-up lies there already. `all`: the class is new, so nobody has worked out yet who is
-- able; each profile looks once. `hops`: how often it was passed on; `not_for`: who had no use for it.
local function wake(S, class, service, all, hops, not_for)
  local waiting = S.P .. 'waiting:' .. service
  local woken, asked = false, {}
  for _, member in ipairs(call('ZRANGE', waiting, 0, 255)) do
    local digest = string.sub(member, 1, 32)
    if not asked[digest] and member ~= not_for then
      asked[digest] = true
      local till = tonumber(call('ZSCORE', waiting, member))
      if till < S.now then
        call('ZREM', waiting, member)
        asked[digest] = nil
      elseif all or call('SISMEMBER', S.P .. 'serves:' .. digest .. ':' .. service, class) == 1 then
        local key = S.P .. 'wake:' .. digest .. ':' .. service
        if call('LLEN', key) == 0 then
          call('LPUSH', key, class .. ' ' .. (hops or 0))
          call('PEXPIRE', key, WAKE_MS)
          woken = true
          if not all then return true end
        end
      end
    end
  end
  return woken
end

-- Writes -----------------------------------------------------------------------------------------

local function mark(S, value, base)
  if value == '@seq' then return text(S.seq) end
  if value == '@now' then return text(S.now) end
  if value == '@lease' then return text(S.now + LEASE_MS) end
  local k = string.match(value, '^@e(%d+)$')
  if k then return text(base + k) end
  return value
end

local function put_fields(S, write, base)
  local fields = write[3]
  local stamp = write[2]
  local n = #fields
  fields[n + 1], fields[n + 2] = 'rev', text(S.seq)
  n = n + 2
  if stamp[1] then fields[n + 1], fields[n + 2] = 'place', text(S.seq) n = n + 2 end
  if stamp[2] then fields[n + 1], fields[n + 2] = 'queued_seq', text(S.seq) n = n + 2 end
  if stamp[3] > 0 then fields[n + 1], fields[n + 2] = 'ended_no', text(base + stamp[3]) end
  call('HSET', S.P .. write[1], unpack(fields))
  if #write[4] > 0 then call('HDEL', S.P .. write[1], unpack(write[4])) end
end

local function add_class(S, class)
  S.classes_rev = S.classes_rev + 1
  call('HSET', S.P .. 'class:' .. class[1], 'service', class[4], 'base', class[5], 'excluded', class[6],
    'definition', class[7], 'live', 0, 'held', 0)
  call('ZADD', S.P .. 'classes', text(S.classes_rev), class[1])
  call('HINCRBY', S.P .. 'bases', class[5], 1)
  call('SADD', S.P .. 'services', class[4])
  call('HSET', S.meta, 'classes_rev', text(S.classes_rev))
end

local function drop_class(S, key, base)
  local class = S.P .. 'class:' .. key
  local f = call('HMGET', class, 'head', 'service')
  if f[1] and f[2] then call('ZREM', S.P .. 'heads:' .. f[2], f[1]) end
  call('ZREM', S.P .. 'ages', key)
  call('ZREM', S.P .. 'classes', key)
  call('DEL', class)
  if call('HINCRBY', S.P .. 'bases', base, -1) <= 0 then call('HDEL', S.P .. 'bases', base) end
end

-- Keeps the order of heads true to a class's queue.
local function rehead(S, key)
  local class = S.P .. 'class:' .. key
  local f = call('HMGET', class, 'head', 'head_score', 'service', 'held')
  if not f[3] then return end
  local first = call('ZRANGE', S.P .. 'queue:' .. key, 0, 0, 'WITHSCORES')
  local seq = first[1] and string.sub(first[1], 1, 13)
  local member = seq and seq .. key
  if member ~= (f[1] or nil) or first[2] ~= (f[2] or nil) then
    local heads = S.P .. 'heads:' .. f[3]
    if f[1] then call('ZREM', heads, f[1]) end
    if member then
      call('ZADD', heads, first[2], member)
      call('HSET', class, 'head', member, 'head_score', first[2])
    else
      call('HDEL', class, 'head', 'head_score')
    end
  end
  if member then
    call('ZADD', S.P .. 'ages', tonumber(string.sub(seq, 1, 12), 16), key)
  elseif tonumber(f[4]) > 0 then
    call('ZADD', S.P .. 'ages', '9007199254740991', key)
  else
    call('ZREM', S.P .. 'ages', key)
  end
end

-- What happened to a class: a loss in a row (attempts that ran while another was lost are of the
-- same incident), or a completion that proves it.
local function note_loss(S, note)
  local key = S.P .. 'losses'
  if note[1] == 'proof' then
    call('HDEL', key, note[2])
    return
  end
  local n, last = string.match(call('HGET', key, note[2]) or '', '^(%d+) (%d+)$')
  if not last or note[3] >= tonumber(last) then
    call('HSET', key, note[2], text((n or 0) + 1) .. ' ' .. text(note[4]))
  end
end

local function use_profile(S, profile)
  local key = S.P .. 'profile:' .. profile[1]
  if profile[3] then
    call('HSETNX', key, 'classes_rev', '0')
    call('HSET', key, 'capabilities', profile[3], 'services', profile[4])
  end
  local users = call('HINCRBY', key, 'users', profile[2])
  if users <= 0 and profile[2] < 0 then
    for service in string.gmatch(call('HGET', key, 'services') or '', '%S+') do
      call('DEL', S.P .. 'serves:' .. profile[1] .. ':' .. service)
    end
    call('DEL', key)
    call('SREM', S.P .. 'profiles', profile[1])
  else
    call('SADD', S.P .. 'profiles', profile[1])
  end
end

-- The copy of its connectors' statuses that a worker's hash shows.
local function copy_statuses(S, worker, services)
  if call('EXISTS', S.P .. 'worker:' .. worker) == 0 then return end
  local parts = {}
  for _, service in ipairs(services) do
    local brief = call('HGET', S.P .. 'connector:' .. worker .. ':' .. service, 'brief')
    if brief then parts[#parts + 1] = '"' .. service .. '":' .. brief end
  end
  call('HSET', S.P .. 'worker:' .. worker, 'connector_statuses', '{' .. table.concat(parts, ',') .. '}')
end

local function substitute(value, ids)
  local from, till = string.find(value, STAND_IN, 1, true)
  if not from then return value end
  return string.sub(value, 1, from - 1) .. ids .. string.sub(value, till + 1)
end

local function put_for(S, write, ids, base)
  for i = 2, #write[3], 2 do write[3][i] = substitute(write[3][i], ids) end
  put_fields(S, write, base)
end

-- The writes about the chosen jobs; answers the events, and what the caller is told.
local function take(S, claim, picks, events, base)
  local ids, by_service, told = {}, {}, {}
  for i, pick in ipairs(picks) do
    ids[i] = '"' .. pick.job .. '"'
    by_service[pick.service] = by_service[pick.service] or {}
    table.insert(by_service[pick.service], ids[i])
  end
  put_for(S, claim.worker_write, table.concat(ids, ','), base)
  local connectors = {}
  for _, service in ipairs(claim.services) do
    local of = by_service[service.name]
    connectors[service.name] = service
    if of then
      service.ids = table.concat(of, ',')
      put_for(S, service.write, service.ids, base)
      if claim.is_heard then
        call('ZADD', S.P .. 'confirmed', text(S.now), claim.worker .. ':' .. service.name)
        call('HSET', S.P .. 'confirmed_by', claim.worker .. ':' .. service.name, 'job')
      end
      if service.at > 0 then events[service.at][2] = substitute(service.event[2], service.ids) end
    end
  end
  local worker_event = { claim.worker_event[1], substitute(claim.worker_event[2], table.concat(ids, ',')) }
  local worker_at = claim.worker_at
  if worker_at > 0 then events[worker_at][2] = worker_event[2] end
  local dirty, running = {}, {}
  for i, pick in ipairs(picks) do
    local key = S.P .. 'job:' .. pick.job
    call('HSET', key, 'attempt', text(pick.attempt + 1), 'token', claim.tokens[i], 'rev', text(S.seq), unpack(claim.job))
    call('ZREM', S.P .. 'queue:' .. pick.class.key, pick.member)
    call('ZADD', S.P .. 'leases', text(S.now + LEASE_MS), pick.job)
    dirty[pick.class.key] = true
    running[pick.class.base] = (running[pick.class.base] or 0) + 1
    local packed = cmsgpack.pack(call('HGETALL', key))
    events[#events + 1] = { 'job_assigned job:' .. pick.job, packed }
    if i == 1 and worker_at == 0 then events[#events + 1] = worker_event end
    local service = connectors[pick.service]
    if service.at == 0 then
      events[#events + 1] = { service.event[1], substitute(service.event[2], service.ids) }
      service.at = #events
    end
    told[i] = { pick.job, pick.service, packed, call('GET', S.P .. 'payload:' .. pick.job) }
  end
  for class in pairs(dirty) do rehead(S, class) end
  for of, n in pairs(running) do call('HINCRBY', S.P .. 'running', of, n) end
  copy_statuses(S, claim.worker, claim.names)
  call('HINCRBY', S.P .. 'counts', 'pending', -#picks)
  call('HINCRBY', S.P .. 'counts', 'assigned', #picks)
  return told
end

local function write_log(S, events, base)
  local entry = { 'at', text(S.now), 'ended_no', text(base) }
  for _, event in ipairs(events) do
    entry[#entry + 1] = event[1]
    entry[#entry + 1] = event[2]
  end
  -- Lua's unpack takes some thousands of values; a longer entry would not fit a transition's limits.
  call('XADD', S.P .. 'log', 'MAXLEN', '~', S.keep, text(S.seq) .. '-0', unpack(entry))
end

local function apply(S, t, picks)
  local base, told = S.ended, {}
  local claim = t[14]
  local claimed = claim and #picks > 0
  local overridden = {}
  if claimed then
    overridden[claim.worker_write[1]] = true
    for _, service in ipairs(claim.services) do
      for _, pick in ipairs(picks) do
        if pick.service == service.name then overridden[service.write[1]] = true end
      end
    end
  end
  if #t[11] > 0 or claimed then S.seq = S.seq + 1 end
  for _, class in ipairs(t[8]) do
    if class[2] > 0 and call('EXISTS', S.P .. 'class:' .. class[1]) == 0 then
      add_class(S, class)
      S.woken[#S.woken + 1] = { class[1], class[4], true }
    end
  end
  for _, write in ipairs(t[4]) do
    if not overridden[write[1]] then put_fields(S, write, base) end
  end
  for _, key in ipairs(t[5]) do call('DEL', S.P .. key) end
  for _, op in ipairs(t[6]) do
    if op[1] == 'ZADD' then
      if op[5] then
        call('ZADD', S.P .. op[2], op[5], mark(S, op[3], base), op[4])
      else
        call('ZADD', S.P .. op[2], mark(S, op[3], base), op[4])
      end
    elseif op[1] == 'SET' then
      call('SET', S.P .. op[2], op[3])
      if op[4] then call('PEXPIRE', S.P .. op[2], op[4]) end
    elseif op[4] then
      call(op[1], S.P .. op[2], op[3], op[4])
    elseif op[3] then
      call(op[1], S.P .. op[2], op[3])
    else
      call(op[1], S.P .. op[2])
    end
  end
  local dirty = {}
  -- { '+'|'-', class, rank, place, queued_seq, service, job }
  for _, change in ipairs(t[7]) do
    local queue = S.P .. 'queue:' .. change[2]
    local seq = change[5] == 0 and S.seq or change[5]
    local member = member_of(seq, change[7])
    if change[1] == '+' then
      local place = change[4] == 0 and S.seq or change[4]
      call('ZADD', queue, text(change[3] * PLACES + place), member)
      S.woken[#S.woken + 1] = { change[2], change[6], false }
    else
      call('ZREM', queue, member)
    end
    dirty[change[2]] = true
  end
  for _, note in ipairs(t[9]) do note_loss(S, note) end
  for _, class in ipairs(t[8]) do
    local key = S.P .. 'class:' .. class[1]
    if class[3] ~= 0 then call('HINCRBY', key, 'held', class[3]) dirty[class[1]] = true end
    if class[2] ~= 0 and call('HINCRBY', key, 'live', class[2]) <= 0 then
      drop_class(S, class[1], class[5])
      dirty[class[1]] = nil
    end
  end
  for class in pairs(dirty) do rehead(S, class) end
  for _, profile in ipairs(t[10]) do use_profile(S, profile) end
  local events = t[11]
  S.ended = S.ended + t[12]
  if claimed then told = take(S, claim, picks, events, base) end
  for _, brief in ipairs(t[13]) do copy_statuses(S, brief[1], brief[2]) end
  if #events > 0 then
    call('HSET', S.meta, 'seq', text(S.seq), 'ended_no', text(S.ended))
    write_log(S, events, base)
  end
  return { 'ok', #events > 0 and text(S.seq) or '', text(base), told }
end

local function one(S, t)
  local claim, picks = t[14], {}
  local fine, why = pcall(function()
    if not unchanged(S, t) then return 'conflict' end
    if not guarded(S, t) then return 'not_due' end
    if t[15] and S.closed then return 'closed' end
    if not has_room(S, t) then return 'too_many_classes' end
    sound(S, t)
    if claim then
      if claim.wanted > 0 and not S.closed then
        local rev = call('HGET', S.P .. 'profile:' .. claim.digest, 'classes_rev')
        if rev ~= text(S.classes_rev) then return 'classes_changed' end
        local skip = {}
        for _, write in ipairs(t[4]) do skip[write[1]] = true end
        picks = choose(S, claim, skip)
        if #picks > 0 then sound_claim(S, claim, picks) end
      end
    end
  end)
  -- What was found of classes belongs to this transition alone.
  S.classes, S.bases = {}, {}
  if not fine then
    return { 'corrupt', type(why) == 'table' and (why.corrupt or why.err) or tostring(why) }
  end
  if why then return { why } end
  local reply = apply(S, t, picks)
  if claim then
    if #picks > 0 and #picks == claim.wanted then
      -- Whoever leaves a job behind that its like can run passes the wake-up on.
      for _, service in ipairs(claim.services) do
        if call('EXISTS', S.P .. 'waiting:' .. service.name) == 1 then
          local lane = lane_of(S, claim, service.name)
          walk(S, claim, lane, 1)
          local head = lane.found[1]
          if head then S.woken[#S.woken + 1] = { head.class.key, service.name, false } end
        end
      end
      S.classes, S.bases = {}, {}
    end
  end
  return reply
end

local function wake_all(S)
  local done = {}
  for _, w in ipairs(S.woken) do
    local key = w[1] .. w[2]
    -- At most one wake-up a profile: for the same class more than a few find nobody.
    done[key] = (done[key] or 0) + 1
    if done[key] <= 8 and call('EXISTS', S.P .. 'waiting:' .. w[2]) == 1 then wake(S, w[1], w[2], w[3]) end
  end
end

-- ARGV: time or '', epoch, groups kept in the log, then transitions.
local function commit(keys, args)
  local S, epoch = begin(keys, args[1], args[2])
  if not S then return { 'epoch', epoch } end
  S.keep, S.woken = args[3], {}
  local replies = {}
  for i = 4, #args do replies[#replies + 1] = one(S, cmsgpack.unpack(args[i])) end
  wake_all(S)
  return { 'ok', text(S.now), replies }
end
