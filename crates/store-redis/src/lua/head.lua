-- What every function below uses. All keys of a fleet begin with one prefix with a hash tag, so
-- they share one slot; KEYS[1] is always the fleet's `meta` hash, and names the prefix.
--
-- Rules of this file:
--   * every check comes before the first write (a script that fails is not rolled back);
--   * JSON is passed through and put together, never read and written again;
--   * whole numbers travel as text: a Lua number is exact up to 2^53 only.

-- Not there yet while the library is loaded: each function sets it first (register.lua).
local call

-- Milliseconds: the same limits as in the rules (`decide::limits`), given with each call.
local LEASE_MS = 10000
-- Lists pushed for waiting workers vanish by themselves.
local WAKE_MS = 60000
-- The order of a queue is (priority, place, seq): score = (100 - priority) * 2^46 + place.
local PLACES = 70368744177664

local function prefix_of(meta)
  return string.sub(meta, 1, -5)
end

-- Redis' own clock, or the one that a test hands in.
local function clock(given)
  if given ~= '' then return tonumber(given) end
  local t = call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function text(n)
  return string.format('%.0f', n)
end

-- A whole number as it must stand in a key; anything else is corruption, found before a write.
local function whole(value, where)
  local n = tonumber(value)
  if not n or n ~= math.floor(n) or n < 0 or n >= 9007199254740992 then
    error({ corrupt = where .. ' is not a whole number: ' .. tostring(value) })
  end
  return n
end

-- Checks a key's type once in a call; absent is fine.
local function must_be(S, key, kind)
  if S.typed[key] == kind then return end
  local found = call('TYPE', key).ok
  if found ~= 'none' and found ~= kind then
    error({ corrupt = key .. ' is a ' .. found .. ', not a ' .. kind })
  end
  S.typed[key] = kind
end

local function member_of(seq, id)
  return string.format('%012x:', seq) .. id
end

-- The state of one call: what stands in `meta`, and what was looked at already.
local function begin(keys, now, epoch)
  local meta = call('HMGET', keys[1], 'epoch', 'seq', 'ended_no', 'classes_rev', 'contact_since', 'closed')
  if meta[1] ~= epoch then return nil, meta[1] or '' end
  return {
    P = prefix_of(keys[1]),
    meta = keys[1],
    now = clock(now),
    seq = whole(meta[2], 'meta seq'),
    ended = whole(meta[3], 'meta ended_no'),
    classes_rev = whole(meta[4], 'meta classes_rev'),
    contact = whole(meta[5], 'meta contact_since'),
    closed = meta[6],
    typed = {},
    classes = {},
    bases = {},
  }
end
