-- Wake-ups of waiting workers: hints, at most one for a profile and service.

-- Wakes one waiting worker that is able to run the class: pushes the class's name for its profile,
-- unless a wake-up lies there already. `all`: the class is new, so nobody has worked out yet who is
-- able; each profile looks once. `hops`: how often it was passed on; `not_for`: who had no use for it.
-- Answers whether anybody waits.
local function wake(S, class, service, all, hops, not_for)
  local waiting = S.P .. 'waiting:' .. service
  local asked = {}
  local members = call('ZRANGE', waiting, 0, 255, 'WITHSCORES')
  for i = 1, #members, 2 do
    local member = members[i]
    local digest = string.sub(member, 1, 32)
    if not asked[digest] and member ~= not_for then
      asked[digest] = true
      if tonumber(members[i + 1]) < S.now then
        call('ZREM', waiting, member)
        asked[digest] = nil
      elseif all or call('SISMEMBER', S.P .. 'serves:' .. digest .. ':' .. service, class) == 1 then
        local key = S.P .. 'wake:' .. digest .. ':' .. service
        if call('LLEN', key) == 0 then
          call('LPUSH', key, class .. ' ' .. (hops or 0))
          call('PEXPIRE', key, WAKE_MS)
          if not all then return true end
        end
      end
    end
  end
  return #members > 0
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
      local lane = lane_of(S, claim, service.name)
      walk(S, claim, lane, 1)
      local head = lane.found[1]
      if head then S.woken[#S.woken + 1] = { head.class.key, service.name, false } end
    end
  end
end
