-- Orders: of texts, of heads of queues, and heaps of heads.

-- Texts by their bytes, as everybody else compares them: `<` goes by the locale that Redis runs in.
local function less(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

-- The order in which jobs are claimed.
local function before(a, b)
  if a.score ~= b.score then return a.score < b.score end
  return less(a.member, b.member)
end

-- A heap is a list whose first is the best; the second best is among the next two.
local function push(heap, head)
  local at = #heap + 1
  while at > 1 do
    local up = math.floor(at / 2)
    if not before(head, heap[up]) then break end
    heap[at], at = heap[up], up
  end
  heap[at] = head
end

local function pop(heap)
  local best, last = heap[1], table.remove(heap)
  local count, at = #heap, 1
  if count == 0 then return best end
  while at * 2 <= count do
    local down = at * 2
    if down < count and before(heap[down + 1], heap[down]) then down = down + 1 end
    if not before(heap[down], last) then break end
    heap[at], at = heap[down], down
  end
  heap[at] = last
  return best
end
