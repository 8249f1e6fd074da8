-- Who waits, and wake-ups: hints, at most one for a profile and service.

-- Who waits for a service: `waiting:SERVICE` has the profiles of which somebody waits, and
-- `waiting:SERVICE:PROFILE` the processes that said so, both by the end of their word.
local function waiting_key(S, service, digest)
  return S.P .. 'waiting:' .. service .. ':' .. digest
end

-- Whether another process than this one waits.
local function others_wait(S, service, digest, process)
  local some = call('ZRANGEBYSCORE', waiting_key(S, service, digest), S.now_text, '+inf', 'LIMIT', 0, 2)
  return some[2] or (some[1] and some[1] ~= process)
end

-- Lays a wake-up down, unless one lies there; answers whether it did. It says the class of the job,
-- and how often it was passed on. One that lies there for another class becomes one for anything:
-- whoever takes it may be able to run only the new job.
local ANYTHING = '*'
local function lay(key, class, hops)
  if call('LLEN', key) == 0 then
    call('LPUSH', key, class .. ' ' .. hops)
    call('PEXPIRE', key, WAKE_MS)
    return true
  end
  local lies = string.match(call('LINDEX', key, '0'), '^(%S+)')
  if lies ~= class and lies ~= ANYTHING then call('LSET', key, '0', ANYTHING .. ' 0') end
end

-- Profiles looked at for one job: more are left to the slow looks.
local MAX_ASKED = 2048
local ASKED_AT_ONCE = 256

-- Wakes one waiting worker that is able to run the class: pushes the class's name for its profile,
-- unless a wake-up lies there already. `all`: the class is new, so nobody has worked out yet who is
-- able; each profile looks once. `hops`: how often it was passed on; `not_for`: the process, and its
-- profile, that had no use for it, and whether the profile is able. Answers whether anybody waits.
local function wake(S, class, service, all, hops, not_for)
  local waiting, waits = S.P .. 'waiting:' .. service, false
  for from = 0, MAX_ASKED - 1, ASKED_AT_ONCE do
    local digests = call('ZRANGEBYSCORE', waiting, S.now_text, '+inf', 'LIMIT', from, ASKED_AT_ONCE)
    for _, digest in ipairs(digests) do
      waits = true
      local is_its_own = not_for and digest == not_for.digest
      local is_asked = not is_its_own or others_wait(S, service, digest, not_for.process)
      local is_known_able = all or is_its_own and not_for.is_able
      if is_asked and (is_known_able or call('SISMEMBER', S.P .. 'serves:' .. digest .. ':' .. service, class) == 1) then
        local laid = lay(S.P .. 'wake:' .. digest .. ':' .. service, class, hops or 0)
        if laid and not all then return true end
      end
    end
    if #digests < ASKED_AT_ONCE then break end
  end
  return waits
end

-- At most one wake-up a profile: for the same class more than a few find nobody.
local function wake_all(S)
  local done, nobody = {}, {}
  for _, w in ipairs(S.woken) do
    local key, service = w[1], w[2]
    done[key] = (done[key] or 0) + 1
    if not nobody[service] and done[key] <= 8 then nobody[service] = not wake(S, key, service, w[3]) end
  end
end

-- Whoever leaves a job behind that its like can run passes the wake-up on.
local function look_behind(S, claim)
  for _, service in ipairs(claim.services) do
    if call('EXISTS', S.P .. 'waiting:' .. service.name) == 1 then
      local heads = heads_of(S, claim, service.name)
      walk(S, claim, heads, 1)
      local head = heads.found[1]
      if head then S.woken[#S.woken + 1] = { head.class.key, service.name, false } end
    end
  end
end

-- Notes processes that wait for work. ARGV: time or '', process, then service, profile, ms; '' ms: no
-- longer.
local function wait(keys, args)
  local f = call('HMGET', keys[1], 'format')
  if not f[1] then return 'gone' end
  local S = { P = prefix_of(keys[1]), now = clock(args[1]) }
  for i = 3, #args, 3 do
    local service, digest = args[i], args[i + 1]
    local profiles, processes = S.P .. 'waiting:' .. service, waiting_key(S, service, digest)
    if args[i + 2] == '' then
      call('ZREM', processes, args[2])
      local last = call('ZRANGE', processes, -1, -1, 'WITHSCORES')
      if last[1] then call('ZADD', profiles, last[2], digest) else call('ZREM', profiles, digest) end
    else
      local till = text(S.now + tonumber(args[i + 2]))
      call('ZREMRANGEBYSCORE', processes, '-inf', '(' .. text(S.now))
      call('ZADD', processes, till, args[2])
      call('PEXPIRE', processes, args[i + 2])
      call('ZREMRANGEBYSCORE', profiles, '-inf', '(' .. text(S.now))
      call('ZADD', profiles, 'GT', till, digest)
      call('PEXPIRE', profiles, args[i + 2])
    end
  end
  return 'ok'
end

-- A wake-up that its taker has no use for goes to somebody else, some few times.
-- ARGV: time or '', class, service, hops so far, the process that had no use for it and its profile,
-- '1' where that is able.
local function pass_on(keys, args)
  local S = { P = prefix_of(keys[1]), now = clock(args[1]) }
  S.now_text = text(S.now)
  local hops = tonumber(args[4]) + 1
  if args[2] == ANYTHING then
    local is_for_others = hops <= 4 and others_wait(S, args[3], args[6], args[5])
    if is_for_others then lay(S.P .. 'wake:' .. args[6] .. ':' .. args[3], ANYTHING, hops) end
  elseif hops <= 4 and call('EXISTS', S.P .. 'class:' .. args[2]) == 1 then
    wake(S, args[2], args[3], false, hops, { process = args[5], digest = args[6], is_able = args[7] == '1' })
  end
  return 'ok'
end
