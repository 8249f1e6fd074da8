-- What every function below uses. All keys of a fleet begin with one prefix with a hash tag, so
-- they share one slot; KEYS[1] is always the fleet's `meta` hash, and names the prefix.
--
-- Rules of this file:
--   * every check comes before the first write (a script that fails is not rolled back);
--   * JSON is passed through and put together, never read and written again;
--   * whole numbers travel as text: a Lua number is exact up to 2^53 only.
-- Each call into Redis costs about a microsecond, so what is needed twice is read once.

-- Not there yet while the library is loaded: each function sets it first (register.lua).
local call

-- What begins with an underscore is a limit of the rules or how keys are laid out (keys.rs), filled in
-- by library.rs.
local LEASE_MS = _LEASE_MS
local SILENT_MS = _SILENT_MS
-- Lists pushed for waiting workers vanish by themselves.
local WAKE_MS = 60000
-- The order of a queue is (priority, place, seq): score = (100 - priority) * PLACES + place.
local PLACES = _PLACES
-- In `pulse` a score is ms * TOLD_BY + what told it: 0 a report, 1 a job, 2 a registration.
local TOLD_BY = _TOLD_BY
local MAX_CLASSES = _MAX_CLASSES

local function prefix_of(meta)
  return string.sub(meta, 1, -5)
end

-- Redis' own clock, or the one that a test hands in.
local function clock(given)
  if given ~= '' then return tonumber(given) end
  local t = call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- A number that a command gets as it is would be written with 17 digits, which takes long; so does
-- `%.0f`, but where a C long is 32 bits `%d` cuts numbers off.
local WHOLE
local function text(n)
  WHOLE = WHOLE or (string.format('%d', 4294967296) == '4294967296' and '%d' or '%.0f')
  return string.format(WHOLE, n)
end

-- The same of numbers that are mostly small, which are remembered.
local SMALL = {}
local function small(n)
  local known = SMALL[n]
  if not known then
    known = text(n)
    if n < 1000 then SMALL[n] = known end
  end
  return known
end

-- Refuses what the store holds and cannot be, before anything is written. Redis tells `err`, and
-- crashes on an error that is a table without it.
local DAMAGED = 'ERR what is stored is damaged, nothing was changed: '
local function refuse(why)
  error({ err = DAMAGED .. why, corrupt = why })
end

-- A whole number as it must stand in a field of a key: digits alone, as Redis itself adds to no other.
-- Anything else is corruption, found before a write. Small ones are remembered.
local WHOLES = { ['0'] = 0, [0] = 0 }
local function whole(value, key, field)
  local known = WHOLES[value]
  if known then return known end
  local n = tonumber(value)
  if not n or n >= 9007199254740992 or string.find(value, '^0') or string.find(value, '%D') then
    refuse(key .. ' ' .. field .. ' is not a whole number: ' .. tostring(value))
  end
  if n < 1000 then WHOLES[value] = n end
  return n
end

-- The cheapest question that only a key of that type, or none, answers.
local PROBES = { zset = 'ZCARD', hash = 'HLEN', set = 'SCARD', list = 'LLEN', stream = 'XLEN' }

-- Checks a key's type once in a call; absent is fine.
local function must_be(S, key, kind)
  local known = S.typed[key]
  if known == kind then return end
  if known or type(redis.pcall(PROBES[kind], key)) ~= 'number' then
    refuse(key .. ' is a ' .. call('TYPE', key).ok .. ', not a ' .. kind)
  end
  S.typed[key] = kind
end

local FORMAT = _FORMAT

-- A newer version has taken the store over: this one would misread it.
local function is_newer(format)
  return (tonumber(format) or FORMAT + 1) > FORMAT
end

local META = {
  'epoch', 'seq', 'ended_no', 'classes_rev', 'contact_since', 'closed', 'losses', 'calm_until', 'importing', 'format',
  -- Jobs by status, and the bytes that ended ones keep.
  'pending', 'held', 'assigned', 'in_progress', 'completed', 'failed', 'cancelled', 'ended_bytes',
}
local FIRST_COUNT = 11
local COUNT_AT = {}
for i = FIRST_COUNT, #META do COUNT_AT[META[i]] = i end

-- What a commit writes with.
local WRITTEN_WITH = {
  'DEL', 'HDEL', 'HINCRBY', 'HSET', 'HSETNX', 'RPUSH', 'SADD', 'SET', 'SREM', 'XADD', 'ZADD', 'ZREM',
}

-- The first of the commands that whoever calls may not use. What a function wrote before it came upon a
-- right that was taken away is not taken back, so it asks before.
local function denied(commands, key)
  for _, command in ipairs(commands) do
    if not redis.acl_check_cmd(command, key, key, key) then return command end
  end
end

local function must_be_able(commands, key)
  local command = denied(commands, key)
  if command then
    error({ err = 'NOPERM this user may not use ' .. command .. ', nothing was changed: it needs all that deploy/users.acl gives' })
  end
end

-- While a cluster moves the slot to another node, a key that is not there may be there already:
-- Redis then refuses whatever asks for one, which must not be in the midst of the writes. Until it
-- has moved the store is away, which is what this code of Redis' own says. Answers how many of the
-- keys named behind are there.
local function must_stay(P, ...)
  local found = redis.pcall('EXISTS', P .. 'nothing', ...)
  if type(found) == 'number' then return found end
  must_be_able({ 'EXISTS' }, P .. 'nothing')
  error({ err = 'TRYAGAIN the cluster moves this fleet to another node, nothing was changed: repeat it when it has moved' })
end

-- The state of one call: what stands in `meta`, and what was looked at already. Or nothing, and why.
local function begin(keys, now, epoch)
  local f = call('HMGET', keys[1], unpack(META))
  if f[1] ~= epoch then return nil, { 'epoch', f[1] or '' } end
  if is_newer(f[10]) then return nil, { 'newer', f[10] or '' } end
  must_stay(prefix_of(keys[1]))
  must_be_able(WRITTEN_WITH, keys[1])
  local S = {
    P = prefix_of(keys[1]),
    meta = keys[1],
    now = clock(now),
    seq = whole(f[2], 'meta', 'seq'),
    seq_text = f[2],
    ended = whole(f[3], 'meta', 'ended_no'),
    classes_rev = whole(f[4], 'meta', 'classes_rev'),
    classes_rev_text = f[4],
    contact = whole(f[5], 'meta', 'contact_since'),
    closed = f[6],
    -- Bases with losses in a row: mostly none, and then nobody needs to look.
    losses = whole(f[7], 'meta', 'losses'),
    -- After a fail-over workers first take back what they run: until then nobody claims.
    calm = whole(f[8] or 0, 'meta', 'calm_until'),
    importing = f[9],
    typed = {},
    classes = {},
    bases = {},
    -- What was found in `meta`; the counts in it are read where they change.
    found = f,
    counts = {},
    -- New classes that are not written yet.
    made = 0,
  }
  S.now_text, S.lease_text = text(S.now), text(S.now + LEASE_MS)
  return S
end

-- Classes ----------------------------------------------------------------------------------------

local CLASS_COUNTS = { 'live', 'held', 'running' }
local CLASS = { 'live', 'held', 'running', 'service', 'base', 'excluded', 'head', 'head_score' }

-- What is known of a class; changed here and written by `flush`.
local function class_of(S, key)
  local class = S.classes[key]
  if class then return class end
  local name = S.P .. 'class:' .. key
  local f = call('HMGET', name, unpack(CLASS))
  class = { key = key, name = name, queue = S.P .. 'queue:' .. key, exists = f[1] and true or false, was = {} }
  if class.exists then
    class.live = whole(f[1], name, 'live')
    class.rests = class.live == 0
    class.held = whole(f[2], name, 'held')
    class.running = whole(f[3], name, 'running')
    class.was.live, class.was.held, class.was.running = class.live, class.held, class.running
    class.service, class.base, class.excluded = f[4], f[5], f[6] or ''
    class.head, class.score = f[7], f[8]
    if not class.service or not class.base then refuse(name .. ' has no service or base') end
  elseif f[4] or f[5] then
    refuse(name .. ' has no count of its jobs')
  end
  S.classes[key] = class
  return class
end

-- Classes whose last job has gone rest for a while: who can serve them stays worked out, for the
-- next job of the like. They go when they are old, or when new ones need their places.
local RESTS_MS = 600000

local function drop_class(S, key)
  call('ZREM', S.P .. 'resting', key)
  call('ZREM', S.P .. 'classes', key)
  call('DEL', S.P .. 'class:' .. key)
end

local function make_room(S)
  local resting = S.P .. 'resting'
  if call('ZCARD', resting) == 0 then return end
  local needed = call('ZCARD', S.P .. 'classes') + 1 - MAX_CLASSES
  local oldest = call('ZRANGE', resting, '0', '3', 'WITHSCORES')
  for i = 1, #oldest, 2 do
    local known = S.classes[oldest[i]]
    if not known or known.live <= 0 then
      if needed <= 0 and tonumber(oldest[i + 1]) + RESTS_MS > S.now then return end
      drop_class(S, oldest[i])
      -- A key that is not there would make `flush`, which is under way, pass over others.
      if known then S.classes[oldest[i]] = nil end
      needed = needed - 1
    end
  end
end

local function make_class(S, class)
  make_room(S)
  S.made = S.made - 1
  S.classes_rev = S.classes_rev + 1
  S.classes_rev_text = text(S.classes_rev)
  call('HSET', class.name, 'service', class.service, 'base', class.base, 'excluded', class.excluded,
    'definition', class.definition)
  call('ZADD', S.P .. 'classes', S.classes_rev_text, class.key)
  call('SADD', S.P .. 'base:' .. class.base, class.key)
  call('SADD', S.P .. 'services', class.service)
  call('HSET', S.meta, 'classes_rev', S.classes_rev_text)
  call('ZREM', S.P .. 'resting', class.key)
  class.is_new = nil
end

-- Its last job has gone, or its first one is there again.
local function rest(S, class)
  call('ZADD', S.P .. 'resting', S.now_text, class.key)
  call('SREM', S.P .. 'base:' .. class.base, class.key)
end

local function rouse(S, class)
  call('ZREM', S.P .. 'resting', class.key)
  call('SADD', S.P .. 'base:' .. class.base, class.key)
end

-- Keeps the order of heads true to a class's queue.
local function rehead(S, class)
  local first = class.following or call('ZRANGE', class.queue, '0', '0', 'WITHSCORES')
  class.following = nil
  local member = first[1] and string.sub(first[1], 1, 13) .. class.key or false
  local score = first[2] or false
  if member == class.head and score == class.score then return end
  local heads = S.P .. 'heads:' .. class.service
  if class.head and class.head ~= member then call('ZREM', heads, class.head) end
  if member then call('ZADD', heads, score, member) end
  class.moved_head, class.lost_head = member, class.head and not member
  class.head, class.score = member, score
end

-- Writes what changed of a class.
local function put_class(class)
  local put, was = { class.name }, class.was
  local function set(field, value)
    local n = #put
    put[n + 1], put[n + 2] = field, value
  end
  for _, count in ipairs(CLASS_COUNTS) do
    if was[count] ~= class[count] then set(count, small(class[count])) end
    was[count] = class[count]
  end
  if class.moved_head then
    set('head', class.head)
    set('head_score', class.score)
  end
  if #put > 1 then call('HSET', unpack(put)) end
  if class.lost_head then call('HDEL', class.name, 'head', 'head_score') end
  class.moved_head, class.lost_head = nil, nil
end

-- Writes the classes that changed.
local function flush(S)
  for key, class in pairs(S.classes) do
    if class.is_dirty and not class.exists and class.live <= 0 then
      S.classes[key] = nil
    elseif class.is_dirty then
      class.is_dirty = nil
      local rests = class.live <= 0
      if class.is_new then make_class(S, class) elseif class.rests and not rests then rouse(S, class) end
      if rests and not class.rests then rest(S, class) end
      if class.is_requeued then rehead(S, class) end
      if class.is_held then
        call(class.held > 0 and 'SADD' or 'SREM', S.P .. 'held', class.key)
      end
      class.exists, class.rests, class.is_requeued, class.is_held = true, rests, nil, nil
      put_class(class)
    end
  end
end
