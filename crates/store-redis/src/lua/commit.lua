-- commit: applies transitions, each whole or not at all: what it was decided on must be unchanged,
-- its guards must hold, and everything that it will write must be what it should be. Then one entry in
-- the log, all other writes, and wake-ups. A claim is part of it: the choice of the jobs is made here,
-- and what taking them changes was decided by the caller.

-- What a check stumbled over, as text.
local function reason(why)
  local said = type(why) == 'table' and (why.corrupt or why.err) or tostring(why)
  -- Redis 7.0 hands on `err` alone.
  if string.sub(said, 1, #DAMAGED) == DAMAGED then return string.sub(said, #DAMAGED + 1) end
  return said
end

-- Why a transition is not applied, or else the jobs that its claim gets. What may have been decided on
-- what is out of date is a conflict before it is anything else, so a refusal stands.
local function checked(S, v, claim)
  if S.importing and not v[DURING_IMPORT] then return 'importing' end
  if v[DURING_IMPORT] == 'items' and not S.importing then return 'not_importing' end
  if not unchanged(S, v) then return 'conflict' end
  if v[IS_INTAKE] and S.closed then return 'closed' end
  if not guarded(S, v) then return 'not_due' end
  sound(S, v)
  if v[DURING_IMPORT] ~= 'items' and not has_room(S, v) then return 'too_many_classes' end
  if not claim or S.closed or S.now < S.calm then return nil, {} end
  local rev = call('HGET', S.P .. 'profile:' .. claim.digest, 'classes_rev')
  if rev ~= S.classes_rev_text then return 'classes_changed' end
  -- What the same call changes otherwise is not chosen.
  local skip, i = {}, v[WRITES]
  while i < v[DROPS] do
    local _, key, after = write_at(v, i)
    skip[key] = true
    i = after
  end
  local picks = choose(S, claim, skip)
  if #picks > 0 then sound_claim(S, claim, picks) end
  return nil, picks
end

-- Writes of what a claim changes differently are left to it.
local function overridden_by(S, claim, picks)
  local keys = {}
  if #picks == 0 then return keys end
  keys[S.P .. 'worker:' .. claim.worker] = true
  for _, pick in ipairs(picks) do
    keys[S.P .. 'connector:' .. claim.worker .. ':' .. pick.service] = true
  end
  return keys
end

local function apply(S, v, claim, picks, args, n)
  local base, is_event = S.ended, #picks > 0 or v[END] - v[LOG] > LOG_HEAD
  if is_event then S.seq = S.seq + 1 end
  S.seq_text = text(S.seq)
  local reply = { 'ok', is_event and S.seq_text or '', text(base) }
  local taking = #picks > 0 and log_taking(S, v, claim, picks, reply)
  if is_event then
    local fine, why = pcall(write_log, S, v, base)
    if not fine then
      S.seq = S.seq - 1
      return { 'corrupt', reason(why) }
    end
  end
  put_records(S, v, overridden_by(S, claim, picks), base)
  put_indexes(S, v, base)
  put_payloads(v, args, n)
  change_classes(S, v)
  note_losses(S, v)
  use_profiles(S, v)
  S.ended = S.ended + v[ENDINGS]
  if taking then take(S, taking, claim, picks, base, reply) end
  return reply
end

-- `n`: the last argument before the plan's payloads.
local function one(S, v, args, n)
  local claim = claim_of(v, args[n + 1 + v[CLAIM] - v[PAYLOADS]])
  -- A choice is made among the heads as they stand in Redis.
  if claim then flush(S) end
  local fine, why, picks = pcall(checked, S, v, claim)
  if not fine then
    return { 'corrupt', reason(why) }
  end
  if why then return { why } end
  local reply = apply(S, v, claim, picks, args, n)
  if claim then
    flush(S)
    -- A hint, after everything was written: what it stumbles over is for others to find.
    if reply[1] == 'ok' and #picks > 0 and #picks == claim.wanted then pcall(look_behind, S, claim) end
    -- What the choice noted of queues is over.
    for _, class in pairs(S.classes) do class.taken, class.following, class.is_odd = nil, nil, nil end
  end
  S.bases = {}
  return reply
end

local SCORES_WITH = { 'ZADD' }

-- A transition that only sets scores: of most renewals no more is left, and with thousands of workers
-- most calls are renewals. Checked as `commit` checks it, without what writes of records need.
-- ARGV: time or '', epoch, plan, then keys of which is told how many are there.
local function hear(keys, args)
  local P, f = prefix_of(keys[1]), call('HMGET', keys[1], 'epoch', 'format', 'importing')
  if f[1] ~= args[2] then return { 'epoch', f[1] or '' } end
  if is_newer(f[2]) then return { 'newer', f[2] or '' } end
  local there = must_stay(P, unpack(args, 4))
  must_be_able(SCORES_WITH, keys[1])
  local S, v = { P = P, now = clock(args[1]), typed = {} }, flat(args[3])
  S.lease_text = text(S.now + LEASE_MS)
  local function told(...) return { 'ok', text(S.now), { { ... } } } end
  if f[3] then return told('importing') end
  -- A command that is refused changes nothing: only several need each other's checks.
  local is_one = v[SCORES] < v[OPS] and v[SCORES] + 3 + v[v[SCORES] + 1] == v[OPS]
  local fine, why = pcall(function()
    if not unchanged(S, v) then return 'conflict' end
    if is_one then put_scores(S, v, 0) else sound_scores(S, v) end
  end)
  if not fine then return told('corrupt', reason(why)) end
  if why then return told(why) end
  if not is_one then put_scores(S, v, 0) end
  local answer = told('ok', '', '0')
  if args[4] then answer[4] = there end
  return answer
end

-- ARGV: time or '', epoch, then plans of transitions, each with what belongs to it behind it. With
-- 'in order' in front of them, those behind a conflict are not applied either: they are decided anew
-- after it.
local function commit(keys, args)
  local S, why_not = begin(keys, args[1], args[2])
  if not S then return why_not end
  S.woken = {}
  local before, replies, n, is_ordered, is_stopped = S.seq, {}, 3, args[3] == 'in order', false
  if is_ordered then n = 4 end
  while n <= #args do
    local v = flat(args[n])
    n = put_in_records(v, args, n)
    local reply = is_stopped and { 'conflict' } or one(S, v, args, n)
    replies[#replies + 1] = reply
    is_stopped = is_stopped or (is_ordered and reply[1] == 'conflict')
    n = n + 1 + v[CLAIM] - v[PAYLOADS]
    if v[LOG] > v[CLAIM] then n = n + 1 end
  end
  flush(S)
  if S.seq > before or S.importing then
    local fields = { S.meta, 'seq', text(S.seq), 'ended_no', text(S.ended) }
    for name, count in pairs(S.counts) do
      local n = #fields
      fields[n + 1], fields[n + 2] = name, text(count)
    end
    call('HSET', unpack(fields))
  end
  if #S.woken > 0 then pcall(wake_all, S) end
  return { 'ok', S.now_text, replies }
end
