-- commit: applies transitions, each whole or not at all: what it was decided on must be unchanged,
-- its guards must hold, and everything that it will write must be what it should be. Then all
-- writes, one entry in the log, and wake-ups. A claim is part of it: the choice of the jobs is made
-- here, and what taking them changes was decided by the caller on a stand-in for the job
-- (`STAND_IN`), whose id is replaced by those of the chosen ones.
--
-- A transition is a list (see plan.rs): 1 reads, 2 looked up, 3 guards, 4 writes, 5 drops, 6 scores,
-- 7 ops, 8 counts, 9 queue, 10 classes, 11 losses, 12 profiles, 13 events, 14 endings, 15 claim,
-- 16 intake, 17 what it is to an import that fills the store: 'moved', 'items' or nothing. Keys in
-- it are whole.

local STAND_IN = '"00000000-0000-0000-0000-000000000000"'

-- Checks -----------------------------------------------------------------------------------------

local function unchanged(S, t)
  local reads = t[1]
  for i = 1, #reads, 2 do
    local key, rev = reads[i], reads[i + 1]
    if rev then
      if call('HGET', key, 'rev') ~= rev then return false end
      S.typed[key] = 'hash'
    elseif call('EXISTS', key) == 1 then
      return false
    end
  end
  for _, look in ipairs(t[2]) do
    local key, found = look[2], nil
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

local GUARDS = {
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

local function guarded(S, t)
  for _, guard in ipairs(t[3]) do
    if not GUARDS[guard[1]](S, guard[2], guard[3]) then return false end
  end
  return true
end

-- Every key that will be written is what it should be; counters are numbers.
local function sound(S, t)
  for _, write in ipairs(t[4]) do must_be(S, write[1], 'hash') end
  for _, op in ipairs(t[6]) do must_be(S, op[1], 'zset') end
  for _, op in ipairs(t[7]) do
    if op[1] ~= '' then must_be(S, op[3], op[1]) end
    if op[2] == 'HINCRBY' then whole(call('HGET', op[3], op[4]) or 0, op[3], op[4]) end
  end
  for _, class in ipairs(t[10]) do
    local known = class_of(S, class[1])
    must_be(S, S.P .. 'heads:' .. class[5], 'zset')
    if known.live and (known.live == 0 or known.live + class[2] <= 0) then
      must_be(S, S.P .. 'resting', 'zset')
      must_be(S, S.P .. 'base:' .. class[6], 'set')
    end
    if not known.exists then
      must_be(S, S.P .. 'resting', 'zset')
      must_be(S, S.P .. 'classes', 'zset')
      must_be(S, S.P .. 'base:' .. class[6], 'set')
      must_be(S, S.P .. 'services', 'set')
    end
    if class[3] ~= 0 then must_be(S, S.P .. 'held', 'set') end
  end
  for _, change in ipairs(t[9]) do must_be(S, S.classes[change[2]].queue, 'zset') end
  if #t[11] > 0 then must_be(S, S.P .. 'losses', 'hash') end
  for _, profile in ipairs(t[12]) do
    local key = S.P .. 'profile:' .. profile[1]
    must_be(S, key, 'hash')
    local users = call('HGET', key, 'users')
    if users then whole(users, key, 'users') end
    must_be(S, S.P .. 'profiles', 'set')
  end
  must_be(S, S.P .. 'log', 'stream')
end

-- A class that would be one too many, with the submission or retry that needs it.
local function has_room(S, t)
  for _, class in ipairs(t[10]) do
    if class[9] and not S.classes[class[1]].exists then
      local live = call('ZCARD', S.P .. 'classes') - call('ZCARD', S.P .. 'resting')
      return live + S.made < MAX_CLASSES
    end
  end
  return true
end

-- What a claim will touch, beside what the transition touches anyway.
local function sound_claim(S, claim, picks)
  must_be(S, S.P .. 'leases', 'zset')
  must_be(S, claim.worker_write[1], 'hash')
  if claim.is_heard then must_be(S, S.P .. 'pulse', 'zset') end
  for _, service in ipairs(claim.services) do must_be(S, service.write[1], 'hash') end
  for _, pick in ipairs(picks) do
    must_be(S, S.P .. 'heads:' .. pick.class.service, 'zset')
    if pick.excludes then must_be(S, S.P .. 'exclusions', 'zset') end
  end
  must_be(S, S.P .. 'log', 'stream')
end

-- Wake-ups ---------------------------------------------------------------------------------------

-- Wakes one waiting worker that is able to run the class: pushes the class's name for its profile,
-- unless a wake-up lies there already. `all`: the class is new, so nobody has worked out yet who is
-- able; each profile looks once. `hops`: how often it was passed on; `not_for`: who had no use for it.
local function wake(S, class, service, all, hops, not_for)
  local waiting = S.P .. 'waiting:' .. service
  local asked = {}
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
          if not all then return end
        end
      end
    end
  end
end

-- At most one wake-up a profile: for the same class more than a few find nobody.
local function wake_all(S)
  local done, waits = {}, {}
  for _, w in ipairs(S.woken) do
    local key, service = w[1], w[2]
    done[key] = (done[key] or 0) + 1
    if waits[service] == nil then waits[service] = call('EXISTS', S.P .. 'waiting:' .. service) == 1 end
    if waits[service] and done[key] <= 8 then wake(S, key, service, w[3]) end
  end
end

-- Writes -----------------------------------------------------------------------------------------

-- A score that only the store knows: the seq, an ending's number, a time.
local function mark(S, value, base)
  if string.byte(value) ~= 64 then return value end
  if value == '@seq' then return S.seq_text end
  if value == '@lease' then return S.lease_text end
  local k = string.match(value, '^@e(%d+)$')
  if k then return text(base + k) end
  return text(S.now * TOLD_BY + tonumber(string.sub(value, 2)))
end

local function put_fields(S, write, base)
  local fields = write[5]
  local n = #fields
  fields[n + 1], fields[n + 2] = 'rev', S.seq_text
  n = n + 2
  if write[2] then fields[n + 1], fields[n + 2] = 'place', S.seq_text n = n + 2 end
  if write[3] then fields[n + 1], fields[n + 2] = 'queued_seq', S.seq_text n = n + 2 end
  if write[4] > 0 then fields[n + 1], fields[n + 2] = 'ended_no', text(base + write[4]) end
  call('HSET', write[1], unpack(fields))
  if #write[6] > 0 then call('HDEL', write[1], unpack(write[6])) end
end

-- What happened to a class: a loss in a row (attempts that ran while another was lost are of the
-- same incident), or a completion that proves it.
local function note_loss(S, note)
  local key = S.P .. 'losses'
  if note[1] == 'proof' then
    if S.losses == 0 then return end
    call('HDEL', key, note[2])
  else
    local n, last = string.match(call('HGET', key, note[2]) or '', '^(%d+) (%d+)$')
    if not last or note[3] >= tonumber(last) then
      call('HSET', key, note[2], text((n or 0) + 1) .. ' ' .. text(note[4]))
    end
  end
  S.losses = call('HLEN', key)
  call('HSET', S.meta, 'losses', text(S.losses))
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

local function substitute(value, ids)
  local from, till = string.find(value, STAND_IN, 1, true)
  if not from then return value end
  return string.sub(value, 1, from - 1) .. ids .. string.sub(value, till + 1)
end

local function put_for(S, write, ids, base)
  local fields = write[5]
  for i = 2, #fields, 2 do fields[i] = substitute(fields[i], ids) end
  put_fields(S, write, base)
end

-- The copy of its connectors' statuses that a worker's hash shows, with those that took jobs.
local function statuses(claim, by_service)
  local parts = {}
  for i, status in ipairs(claim.statuses) do
    parts[i] = '"' .. status[1] .. '":' .. (by_service[status[1]] and status[3] or status[2])
  end
  return '{' .. table.concat(parts, ',') .. '}'
end

-- The writes about the worker and the connectors that took jobs, and their events.
local function take_on(S, claim, picks, events, base)
  local ids, by_service = {}, {}
  for i, pick in ipairs(picks) do
    ids[i] = '"' .. pick.job .. '"'
    local of = by_service[pick.service] or {}
    by_service[pick.service] = of
    of[#of + 1] = ids[i]
  end
  local all = table.concat(ids, ',')
  local fields = claim.worker_write[5]
  fields[#fields + 1], fields[#fields + 2] = 'connector_statuses', statuses(claim, by_service)
  put_for(S, claim.worker_write, all, base)
  local worker_event = { claim.worker_event[1], substitute(claim.worker_event[2], all) }
  if claim.worker_at > 0 then events[claim.worker_at] = worker_event end
  local takers = {}
  for _, service in ipairs(claim.services) do
    local of = by_service[service.name]
    if of then
      local own = table.concat(of, ',')
      takers[service.name] = service
      put_for(S, service.write, own, base)
      if claim.is_heard then
        call('ZADD', S.P .. 'pulse', text(S.now * TOLD_BY + 1), 'c:' .. claim.worker .. ':' .. service.name)
      end
      service.event[2] = substitute(service.event[2], own)
      if service.at > 0 then events[service.at] = service.event end
    end
  end
  return worker_event, takers
end

-- The writes about the chosen jobs; answers what the caller is told.
local function take(S, claim, picks, events, base)
  local told, members, leases, payloads = {}, {}, {}, {}
  local worker_event, takers = take_on(S, claim, picks, events, base)
  for i, pick in ipairs(picks) do
    local class = pick.class
    class.running, class.is_dirty, class.is_requeued = class.running + 1, true, true
    members[class.queue] = members[class.queue] or {}
    table.insert(members[class.queue], pick.member)
    leases[#leases + 1], leases[#leases + 2] = S.lease_text, pick.job
    payloads[i] = S.P .. 'payload:' .. pick.job
    -- Exclusions lapse while a job is pending.
    if pick.excludes then call('ZREM', S.P .. 'exclusions', pick.job) end
    -- What is logged and told is the job before with what changed behind it: the later one counts.
    local attempt, fields, n = text(pick.attempt + 1), pick.fields, #pick.fields
    call('HSET', pick.key, 'attempt', attempt, 'token', claim.tokens[i], 'rev', S.seq_text, unpack(claim.job))
    fields[n + 1], fields[n + 2], fields[n + 3], fields[n + 4] = 'attempt', attempt, 'token', claim.tokens[i]
    fields[n + 5], fields[n + 6] = 'rev', S.seq_text
    for k = 1, #claim.job do fields[n + 6 + k] = claim.job[k] end
    local packed = cmsgpack.pack(fields)
    events[#events + 1] = { 'job_assigned job:' .. pick.job, packed }
    if i == 1 and claim.worker_at == 0 then events[#events + 1] = worker_event end
    local service = takers[pick.service]
    if service.at == 0 then
      events[#events + 1] = service.event
      service.at = #events
    end
    told[i] = { pick.job, pick.service, packed }
  end
  for queue, some in pairs(members) do call('ZREM', queue, unpack(some)) end
  call('ZADD', S.P .. 'leases', unpack(leases))
  -- What is no text is no payload: the caller is told that there is none.
  for i, payload in ipairs(call('MGET', unpack(payloads))) do told[i][4] = payload end
  S.counts.pending = S.counts.pending - #picks
  S.counts.assigned = S.counts.assigned + #picks
  return told
end

local function write_log(S, events, base)
  local entry = { 'at', S.now_text, 'ended_no', text(base) }
  for _, event in ipairs(events) do
    entry[#entry + 1] = event[1]
    entry[#entry + 1] = event[2]
  end
  call('XADD', S.P .. 'log', 'MAXLEN', '~', S.keep, S.seq_text .. '-0', unpack(entry))
end

local function change_classes(S, t)
  for _, change in ipairs(t[10]) do
    local class = class_of(S, change[1])
    if not class.exists and not class.is_new then
      class.live, class.held, class.running, class.is_new = 0, 0, 0, true
      class.service, class.base, class.excluded, class.definition = change[5], change[6], change[7], change[8]
      class.head, class.score = false, false
      S.made = S.made + 1
      S.woken[#S.woken + 1] = { class.key, class.service, true }
    end
    class.live, class.held, class.running = class.live + change[2], class.held + change[3], class.running + change[4]
    class.is_held = class.is_held or change[3] ~= 0
    class.is_dirty = true
  end
  -- { '+'|'-', class, rank, place, queued_seq, job }
  for _, change in ipairs(t[9]) do
    local class = S.classes[change[2]]
    local member = string.format('%012x:', change[5] == 0 and S.seq or change[5]) .. change[6]
    if change[1] == '+' then
      local place = change[4] == 0 and S.seq or change[4]
      call('ZADD', class.queue, text(change[3] * PLACES + place), member)
      if not class.is_new then S.woken[#S.woken + 1] = { class.key, class.service, false } end
    else
      call('ZREM', class.queue, member)
    end
    class.is_requeued, class.is_dirty = true, true
  end
end

-- Writes of what a claim changes differently are left to it.
local function overridden_by(claim, picks)
  local keys = {}
  if not claim or #picks == 0 then return keys end
  keys[claim.worker_write[1]] = true
  for _, service in ipairs(claim.services) do
    for _, pick in ipairs(picks) do
      if pick.service == service.name then keys[service.write[1]] = true end
    end
  end
  return keys
end

local function apply(S, t, picks)
  local base, told, events = S.ended, {}, t[13]
  local claim = t[15]
  local overridden = overridden_by(claim, picks)
  if #events > 0 or #picks > 0 then S.seq = S.seq + 1 end
  S.seq_text = text(S.seq)
  for _, write in ipairs(t[4]) do
    if not overridden[write[1]] then put_fields(S, write, base) end
  end
  for _, key in ipairs(t[5]) do call('DEL', key) end
  for _, op in ipairs(t[6]) do
    local scores = op[3]
    for i = 1, #scores, 2 do scores[i] = mark(S, scores[i], base) end
    if op[2] then call('ZADD', op[1], op[2], unpack(scores)) else call('ZADD', op[1], unpack(scores)) end
  end
  for _, op in ipairs(t[7]) do call(unpack(op, 2)) end
  for i = 1, #t[8], 2 do S.counts[t[8][i]] = math.max(0, S.counts[t[8][i]] + t[8][i + 1]) end
  change_classes(S, t)
  for _, note in ipairs(t[11]) do note_loss(S, note) end
  for _, profile in ipairs(t[12]) do use_profile(S, profile) end
  S.ended = S.ended + t[14]
  if #picks > 0 then told = take(S, claim, picks, events, base) end
  if #events > 0 then write_log(S, events, base) end
  return { 'ok', #events > 0 and S.seq_text or '', text(base), told }
end

local function checked(S, t, claim)
  if S.importing and not t[17] then return 'importing' end
  if t[17] == 'items' and not S.importing then return 'not_importing' end
  if not unchanged(S, t) then return 'conflict' end
  if t[16] and S.closed then return 'closed' end
  if not guarded(S, t) then return 'not_due' end
  sound(S, t)
  if t[17] ~= 'items' and not has_room(S, t) then return 'too_many_classes' end
  if not claim or S.closed or S.now < S.calm then return nil, {} end
  local rev = call('HGET', S.P .. 'profile:' .. claim.digest, 'classes_rev')
  if rev ~= text(S.classes_rev) then return 'classes_changed' end
  local skip = {}
  for _, write in ipairs(t[4]) do skip[write[1]] = true end
  local picks = choose(S, claim, skip)
  if #picks > 0 then sound_claim(S, claim, picks) end
  return nil, picks
end

-- Whoever leaves a job behind that its like can run passes the wake-up on.
local function look_behind(S, claim)
  for _, service in ipairs(claim.services) do
    if call('EXISTS', S.P .. 'waiting:' .. service.name) == 1 then
      local lane = lane_of(S, claim, service.name)
      walk(S, claim, lane, 1)
      local head = lane.found[1]
      if head then S.woken[#S.woken + 1] = { head.class.key, service.name, false } end
    end
  end
end

local function one(S, t)
  local claim = t[15]
  -- A choice is made among the heads as they stand in Redis.
  if claim then flush(S) end
  local fine, why, picks = pcall(checked, S, t, claim)
  if not fine then
    return { 'corrupt', type(why) == 'table' and (why.corrupt or why.err) or tostring(why) }
  end
  if why then return { why } end
  local reply = apply(S, t, picks)
  if claim then
    flush(S)
    if #picks > 0 and #picks == claim.wanted then look_behind(S, claim) end
    for _, class in pairs(S.classes) do class.taken = nil end
  end
  S.bases = {}
  return reply
end

-- ARGV: time or '', epoch, groups kept in the log, then transitions.
local function commit(keys, args)
  local S, epoch = begin(keys, args[1], args[2])
  if not S then return { 'epoch', epoch } end
  S.keep, S.woken = args[3], {}
  local before, replies = S.seq, {}
  for i = 4, #args do replies[#replies + 1] = one(S, cmsgpack.unpack(args[i])) end
  flush(S)
  if S.seq > before or S.importing then
    local fields = { 'seq', text(S.seq), 'ended_no', text(S.ended) }
    for name, count in pairs(S.counts) do
      fields[#fields + 1], fields[#fields + 2] = name, text(count)
    end
    call('HSET', S.meta, unpack(fields))
  end
  if #S.woken > 0 then wake_all(S) end
  return { 'ok', S.now_text, replies }
end
