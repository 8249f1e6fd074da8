-- A plan: what `commit` gets for each transition. It is one flat list, read without a table for
-- each part: its head says where each part begins, a part reaches to the beginning of the next.
-- Keys in it are whole. Values that only the store knows are places to fill in (see `mark`).
--
-- What is large is an argument behind the plan, as Lua hashes every text that it takes out of
-- another: the records of the events, the payloads, and what taking jobs changes if it claims.

local READS, LOOKED_UP, GUARDS, WRITES, DROPS, SCORES, OPS = 2, 3, 4, 5, 6, 7, 8
local COUNTS, QUEUE, CLASSES, LOSSES, PROFILES, PAYLOADS, CLAIM, LOG, END = 9, 10, 11, 12, 13, 14, 15, 16, 17
-- How many jobs it ends; whether it takes new work in; what it is to an import that fills the
-- store: 'moved', 'items' or nothing.
local ENDINGS, IS_INTAKE, DURING_IMPORT = 18, 19, 20
-- In front of the events: the arguments of the command that writes them.
local LOG_HEAD = 9

-- So many values fit on Lua's stack at once.
local VALUES = 4000

-- A packed list; its first place says where the next values begin, and is of no use any more.
local function flat(packed)
  local v = { cmsgpack.unpack_limit(packed, VALUES) }
  local n = #v
  while v[1] ~= -1 do
    local more = { cmsgpack.unpack_limit(packed, VALUES, v[1]) }
    v[1] = more[1]
    for i = 2, #more do
      n = n + 1
      v[n] = more[i]
    end
  end
  return v
end

-- Puts the records of the events, which stand behind argument `n`, in their places; answers the
-- last one's place.
local function put_in_records(v, args, n)
  for i = v[LOG] + LOG_HEAD + 1, v[END] - 1, 2 do
    n = n + 1
    v[i] = args[n]
  end
  return n
end

-- The claim of an exchange, as far as the choice needs it: worker, profile, how many, the bytes that it
-- brings without them, and how many of each service. What taking the jobs changes stays packed until some are chosen.
local function claim_of(v, taking)
  local at = v[CLAIM]
  if at == v[LOG] then return nil end
  local claim = {
    worker = v[at], digest = v[at + 1], wanted = v[at + 2], bytes = v[at + 3], taking = taking, services = {},
  }
  for i = at + 4, v[LOG] - 1, 2 do
    claim.services[#claim.services + 1] = { name = v[i], free = v[i + 1] }
  end
  return claim
end

-- Writes of records are `stamps, values, key, 'rev', place, fields...`, then how many fields go and
-- which; or -1, key and the same packed, where a claim that finds a job writes something else.
-- Answers what stands at `i`: the list that it is in and where it begins there, its key, what follows.
local function write_at(v, i)
  if v[i] == -1 then return nil, v[i + 1], i + 3 end
  local last = i + 1 + v[i + 1]
  return v, v[i + 2], last + 2 + v[last + 1]
end
