-- The choice of the jobs of one claim: the best heads among the classes that the worker can serve.
-- Reads only. A claim walks whichever is shorter, the heads in order or the worker's own classes.

local POISONOUS_AFTER = _POISONOUS_AFTER
local CLAIM_BYTES = _CLAIM_BYTES

local function base_of(S, base)
  local known = S.bases[base]
  if known then return known end
  known = { poisonous = false, probing = false }
  if S.losses > 0 then
    local n = string.match(call('HGET', S.P .. 'losses', base) or '', '^%d+')
    known.poisonous = n and tonumber(n) >= POISONOUS_AFTER
  end
  if known.poisonous then
    for _, key in ipairs(call('SMEMBERS', S.P .. 'base:' .. base)) do
      local class = class_of(S, key)
      if class.exists and class.running > 0 then known.probing = true end
    end
  end
  S.bases[base] = known
  return known
end

-- Whether the worker may take from the class now.
local function is_open(S, worker, class)
  if not class.exists then return false end
  if class.excluded ~= '' and string.find(class.excluded, ' ' .. worker .. ' ', 1, true) then
    return false
  end
  return not base_of(S, class.base).probing
end

-- The heads of one service that the worker can serve, best first, as they were before this claim.
local function heads_of(S, claim, service)
  local key, serves = S.P .. 'heads:' .. service, S.P .. 'serves:' .. claim.digest .. ':' .. service
  return { service = service, key = key, serves = serves, at = 0, size = 2, found = {}, seen = {} }
end

local function add_head(S, claim, heads, key, member, score)
  heads.seen[key] = true
  -- One that is damaged is passed over: the doctor tells of it, and the others are served.
  local fine, class = pcall(class_of, S, key)
  if fine and is_open(S, claim.worker, class) then
    heads.found[#heads.found + 1] = { score = tonumber(score), member = member, class = class, service = heads.service }
  end
end

-- Whether few classes are its own, so that looking at each of them costs less than walking on.
local function has_few(heads)
  if heads.at == 0 then return false end
  if not heads.own then heads.own, heads.all = call('SCARD', heads.serves), call('ZCARD', heads.key) end
  -- Of evenly spread heads one in all / own is its own; to look at a class costs about six of them.
  return heads.own * heads.own * 3 < heads.all or heads.at > heads.own * 6 + 16
end

-- The heads of its own classes that were not walked over, best first. What is no head is passed over.
local function own_heads(S, heads)
  local own = {}
  for _, key in ipairs(call('SMEMBERS', heads.serves)) do
    if not heads.seen[key] then
      local head = call('HMGET', S.P .. 'class:' .. key, 'head', 'head_score')
      local score = tonumber(head[2] or '')
      if head[1] and score then own[#own + 1] = { key = key, member = head[1], score = score } end
    end
  end
  table.sort(own, before)
  return own
end

-- Walks on until `count` heads are known, or all are.
local function walk(S, claim, heads, count)
  while #heads.found < count and not heads.is_over do
    if not heads.few and has_few(heads) then heads.few, heads.at = own_heads(S, heads), 0 end
    if heads.few then
      heads.at = heads.at + 1
      local head = heads.few[heads.at]
      if head then add_head(S, claim, heads, head.key, head.member, head.score) else heads.is_over = true end
    else
      local some = call('ZRANGE', heads.key, small(heads.at), small(heads.at + heads.size - 1), 'WITHSCORES')
      S.typed[heads.key] = 'zset'
      local keys = {}
      for i = 1, #some, 2 do keys[#keys + 1] = string.sub(some[i], 14) end
      if #keys > 0 then
        for n, is_own in ipairs(call('SMISMEMBER', heads.serves, unpack(keys))) do
          if is_own == 1 then add_head(S, claim, heads, keys[n], some[n * 2 - 1], some[n * 2]) end
        end
      end
      heads.is_over = #keys < heads.size
      heads.at, heads.size = heads.at + heads.size, math.min(heads.size * 2, 256)
    end
  end
end

-- A job's fields and attempt, if it waits as its index says; whether workers are excluded; and the
-- bytes of its payload.
local function waiting_job(key)
  local fields = redis.pcall('HGETALL', key)
  if fields.err then return {}, nil end
  local attempt, waits, excludes, bytes = nil, false, false, 0
  for i = 1, #fields, 2 do
    local field = fields[i]
    if field == 'attempt' then
      attempt = tonumber(fields[i + 1])
    elseif field == 'status' then
      waits = fields[i + 1] == 'pending'
    elseif field == 'exclusions' then
      excludes = true
    elseif field == 'payload_bytes' then
      bytes = tonumber(fields[i + 1]) or 0
    elseif field == 'hold' then
      return fields, nil
    end
  end
  return fields, waits and attempt, excludes, bytes
end

-- Takes jobs of one class while they come before the second best head, and their payloads have room
-- in one answer; answers how many, and the class's next head. What the same call changes otherwise
-- (`skip`), and what contradicts its own index, is passed over.
local function take_run(S, claim, best, second, wanted, skip, picks)
  local class = best.class
  local taken, passed = 0, 0
  while passed < 100 do
    local from, most = class.taken or 0, wanted - taken
    local some = redis.pcall('ZRANGE', class.queue, small(from), small(from + most), 'WITHSCORES')
    if some.err then
      class.is_odd = true
      return taken
    end
    S.typed[class.queue] = 'zset'
    for i = 1, #some, 2 do
      if taken == wanted or second then
        -- A head carries its class where an entry carries its job; the seq before it decides first.
        local head = {
          score = tonumber(some[i + 1]), member = string.sub(some[i], 1, 13) .. class.key,
          class = class, service = best.service,
        }
        if taken == wanted or not before(head, second) then
          if not class.is_odd then class.following = { some[i], some[i + 1] } end
          return taken, head
        end
      end
      local job = string.sub(some[i], 14)
      local key = S.P .. 'job:' .. job
      local fields, attempt, excludes, bytes = waiting_job(key)
      if attempt and not skip[key] then
        picks[#picks + 1] = {
          job = job, key = key, member = some[i], class = class, service = best.service, attempt = attempt, fields = fields, excludes = excludes,
        }
        taken, claim.bytes = taken + 1, claim.bytes + bytes
        if claim.bytes >= CLAIM_BYTES then wanted, claim.wanted = taken, #picks end
      else
        passed, class.is_odd, class.following = passed + 1, true, nil
      end
      class.taken = (class.taken or 0) + 1
    end
    if #some <= most * 2 then
      if not class.is_odd then class.following = {} end
      return taken
    end
  end
  return taken
end

-- All that may come next: of each service with room the first two of its classes that were not taken
-- from yet, and of those that were.
local function next_heads(S, claim, of_services)
  local next = {}
  for _, heads in ipairs(of_services) do
    if heads.free > 0 then
      walk(S, claim, heads, 2)
      for i = 1, 2 do next[#next + 1] = heads.found[i] end
      for i = 1, 3 do next[#next + 1] = heads.rest[i] end
    end
  end
  table.sort(next, before)
  return next[1], next[2]
end

local function take_out(heads, head)
  if heads.rest[1] == head then return pop(heads.rest) end
  return table.remove(heads.found, heads.found[1] == head and 1 or 2)
end

-- The jobs that a claim gets, in order. `claim`: worker, digest, wanted, bytes of the payloads that it
-- brings anyway, services { name, free }.
local function choose(S, claim, skip)
  local picks, of_services, by_name = {}, {}, {}
  for i, service in ipairs(claim.services) do
    local heads = heads_of(S, claim, service.name)
    heads.free, heads.rest = service.free, {}
    of_services[i], by_name[service.name] = heads, heads
  end
  while #picks < claim.wanted do
    local best, second = next_heads(S, claim, of_services)
    if not best then break end
    local heads, base = by_name[best.service], base_of(S, best.class.base)
    take_out(heads, best)
    if not base.probing then
      local most = math.min(claim.wanted - #picks, heads.free)
      if base.poisonous then most = 1 end
      local taken, following = take_run(S, claim, best, second, most, skip, picks)
      heads.free = heads.free - taken
      if base.poisonous and taken > 0 then base.probing = true end
      if following and not base.probing then push(heads.rest, following) end
    end
  end
  return picks
end
