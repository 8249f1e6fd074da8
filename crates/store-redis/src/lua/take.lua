-- What taking the chosen jobs changes: it was decided by the caller on a stand-in for a job, and
-- stays packed until jobs are chosen. In a text that names jobs, what stands before and after them
-- is given, and the ids are put between.
--
-- The packed list: how many tokens, the tokens; how many values the fields of a job are, the fields;
-- how many values the statuses are, the statuses; then the worker and its connectors, in the order
-- of the claim's services (see `put_taker`).

-- Payloads are told with so few jobs, and of so many bytes (see `REMEMBERED_PAYLOAD`); for others
-- the caller asks: texts are slow in Lua, and a long answer is waited for by all that share its line.
local PAYLOADS_TOLD = 8
local PAYLOAD_TOLD = _PAYLOAD_TOLD

-- A taker is: where its event is among those of the transition (0: nowhere), the event's name, the
-- record before and after the jobs, the field of the jobs before and after them, whether its pulse
-- is to be set; then its write, with places for the fields that are put in here. Answers its record,
-- and where the next one begins.
local function record_of(t, i, ids)
  local last = i + 8 + t[i + 8]
  return t[i + 2] .. ids .. t[i + 3], last + 2 + t[last + 1]
end

local function put_taker(S, t, i, ids, more, base)
  local key = i + 9
  t[key + 4] = t[i + 4] .. ids .. t[i + 5]
  if more then t[key + 6] = more end
  put_fields(S, t, i + 7, base)
end

-- Puts an event in the place of the one that the transition has without the claim, or behind all.
local function log_event(v, at, name, record)
  if at > 0 then
    v[v[LOG] + LOG_HEAD + at * 2 - 1] = record
  else
    local last = v[END]
    v[last], v[last + 1], v[END] = name, record, last + 2
  end
end

-- The ids of the chosen jobs, as JSON: all, and by service.
local function ids_of(picks)
  local all, by_service = {}, {}
  for i, pick in ipairs(picks) do
    local own = by_service[pick.service] or {}
    by_service[pick.service] = own
    all[i] = '"' .. pick.job .. '"'
    own[#own + 1] = all[i]
  end
  for service, own in pairs(by_service) do by_service[service] = table.concat(own, ',') end
  return table.concat(all, ','), by_service
end

-- The copy of its connectors' statuses that a worker's hash shows: service, without and with a job.
local function statuses(t, from, till, by_service)
  local parts = {}
  for i = from, till, 3 do
    parts[#parts + 1] = by_service[t[i]] and t[i + 2] or t[i + 1]
  end
  return '{' .. table.concat(parts, ',') .. '}'
end

-- Between the texts of a record that is logged: no UTF-8 has this byte. See `fields/joined.rs`.
local BETWEEN = '\255'

-- What is logged and told is the job before, with what changed behind it: the later one counts.
-- `changed`: how many texts that is, those that all the claim's jobs have joined already.
local function joined(S, pick, attempt, token, changed, count)
  local texts = table.concat(pick.fields, BETWEEN)
  return BETWEEN .. small(#pick.fields + count) .. BETWEEN .. texts .. BETWEEN .. 'rev' .. BETWEEN .. S.seq_text
    .. BETWEEN .. 'attempt' .. BETWEEN .. attempt .. BETWEEN .. 'token' .. BETWEEN .. token .. changed
end

local function put_job(S, pick, token, fields)
  local class = pick.class
  class.running, class.is_dirty, class.is_requeued = class.running + 1, true, true
  -- Exclusions lapse while a job is pending.
  if pick.excludes then call('ZREM', S.P .. 'exclusions', pick.job) end
  call('HSET', pick.key, 'rev', S.seq_text, 'attempt', small(pick.attempt + 1), 'token', token, unpack(fields))
end

-- Leases of the same time stand in the order of the jobs' ids, and Redis looks for the place of each
-- from the front: the last one goes first.
local function lease(S, jobs)
  local args, n = {}, 0
  for i = #jobs, 1, -1 do
    args[n + 1], args[n + 2] = S.lease_text, jobs[i]
    n = n + 2
  end
  call('ZADD', S.P .. 'leases', unpack(args))
end

-- Puts the events of the taking among those of the transition, and what the caller is told of the jobs
-- into the reply. Answers what `take` writes.
local function log_taking(S, v, claim, picks, reply)
  local t = flat(claim.taking)
  local tokens, at = 2, t[2] + 3
  local last = at + t[at]
  local fields = { unpack(t, at + 1, last) }
  local changed = BETWEEN .. table.concat(fields, BETWEEN)
  local ids, by_service = ids_of(picks)
  -- statuses, worker, connectors
  local count = t[last + 1]
  local shown = statuses(t, last + 2, last + 1 + count, by_service)
  local worker = last + 2 + count
  local worker_at, worker_name = t[worker], t[worker + 1]
  local worker_record, i = record_of(t, worker, ids)
  if worker_at > 0 then log_event(v, worker_at, worker_name, worker_record) end
  local takers, events = {}, {}
  for _, service in ipairs(claim.services) do
    local here, own = i, by_service[service.name]
    local record
    record, i = record_of(t, here, own or '')
    if own then
      takers[#takers + 1] = { at = here, service = service.name, ids = own }
      if t[here] > 0 then
        log_event(v, t[here], t[here + 1], record)
      else
        events[service.name] = { t[here + 1], record }
      end
    end
  end
  for n, pick in ipairs(picks) do
    local attempt = small(pick.attempt + 1)
    local record, at = joined(S, pick, attempt, t[tokens + n], changed, #fields + 6), #reply
    reply[at + 1], reply[at + 2], reply[at + 3], reply[at + 4] = pick.job, pick.service, record, false
    log_event(v, 0, 'job_assigned job:' .. pick.job, record)
    if n == 1 and worker_at == 0 then log_event(v, 0, worker_name, worker_record) end
    local event = events[pick.service]
    if event then log_event(v, 0, event[1], event[2]) end
    events[pick.service] = nil
  end
  return { list = t, tokens = tokens, fields = fields, worker = worker, ids = ids, shown = shown, takers = takers }
end

-- The writes about the chosen jobs. Payloads go into the reply.
local function take(S, taking, claim, picks, base, reply)
  local t = taking.list
  put_taker(S, t, taking.worker, taking.ids, taking.shown, base)
  for _, taker in ipairs(taking.takers) do
    -- Whether its pulse is to be set.
    if t[taker.at + 6] then
      call('ZADD', S.P .. 'pulse', text(S.now * TOLD_BY + 1), 'c:' .. claim.worker .. ':' .. taker.service)
    end
    put_taker(S, t, taker.at, taker.ids, nil, base)
  end
  local members, leases = {}, {}
  for n, pick in ipairs(picks) do
    put_job(S, pick, t[taking.tokens + n], taking.fields)
    local queue = pick.class.queue
    local some = members[queue] or { queue }
    members[queue] = some
    some[#some + 1] = pick.member
    leases[n] = pick.job
  end
  for _, some in pairs(members) do call('ZREM', unpack(some)) end
  lease(S, leases)
  if #picks <= PAYLOADS_TOLD then
    for n, pick in ipairs(picks) do
      -- Another type of value is no payload.
      local payload = redis.pcall('GETRANGE', S.P .. 'payload:' .. pick.job, '0', small(PAYLOAD_TOLD))
      local is_told = type(payload) == 'string' and payload ~= '' and #payload <= PAYLOAD_TOLD
      reply[3 + n * 4] = is_told and payload
    end
  end
  S.counts.pending = math.max(0, S.counts.pending - #picks)
  S.counts.assigned = S.counts.assigned + #picks
end
