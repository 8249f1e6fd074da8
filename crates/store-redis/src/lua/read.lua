-- What is read in one step.

-- Reads hashes, texts, firsts and members together. ARGV: time or '', epoch, then kind and key.
local function load(keys, args)
  local P = prefix_of(keys[1])
  local f = call('HMGET', keys[1], 'epoch', 'format')
  if f[1] ~= args[2] then return { 'epoch', f[1] or '' } end
  if is_newer(f[2]) then return { 'newer', f[2] or '' } end
  must_stay(P)
  local found = {}
  for i = 3, #args, 2 do
    local kind, key = args[i], P .. args[i + 1]
    if kind == 'hash' then
      found[#found + 1] = call('HGETALL', key)
    elseif kind == 'text' then
      found[#found + 1] = { call('GET', key) or nil }
    elseif kind == 'first' then
      found[#found + 1] = { call('ZRANGE', key, 0, 0, 'WITHSCORES')[2] }
    else
      found[#found + 1] = call('SMEMBERS', key)
    end
  end
  return { 'ok', text(clock(args[1])), found }
end

-- The first waiting jobs over all classes, in the order of claims. ARGV: limit, then services.
local function first_waiting(keys, args)
  local P = prefix_of(keys[1])
  must_stay(P)
  local limit, jobs, heads, rest = tonumber(args[1]), {}, {}, {}
  for i = 2, #args do
    -- A key that is none of ours is passed over: the doctor tells of it.
    local some = redis.pcall('ZRANGE', P .. 'heads:' .. args[i], 0, limit - 1, 'WITHSCORES')
    for n = 1, #some, 2 do
      heads[#heads + 1] = { score = tonumber(some[n + 1]), member = some[n], class = string.sub(some[n], 14), at = 0 }
    end
  end
  table.sort(heads, before)
  local next = 1
  while #jobs < limit do
    local head = heads[next]
    if rest[1] and (not head or before(rest[1], head)) then
      head = pop(rest)
    elseif head then
      next = next + 1
    else
      break
    end
    local two = redis.pcall('ZRANGE', P .. 'queue:' .. head.class, head.at, head.at + 1, 'WITHSCORES')
    if two[1] then jobs[#jobs + 1] = string.sub(two[1], 14) end
    if two[3] then
      head.score, head.member, head.at = tonumber(two[4]), string.sub(two[3], 1, 13) .. head.class, head.at + 1
      push(rest, head)
    end
  end
  return jobs
end
