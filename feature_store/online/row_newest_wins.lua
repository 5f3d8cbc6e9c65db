-- Writes whole rows, one key each, unless a newer row stands there; or takes rows back.
--
-- KEYS: one per row. ARGV: the mode, `put` or `withdraw`; `recent`, the event time from on which replaced rows are kept
--       for readers whose clocks stand behind the writer's (8 bytes); then for each row (mode `withdraw`: the times of
--       the row that is withdrawn, 16 bytes) its expiry and its bytes. The expiry is milliseconds since 1970, "0" for
--       a key that does not expire.
--
-- Event time and ingestion time are compared as numbers, each in two halves of 32 bits: a number of Lua holds those
-- exactly, and text with such bytes would compare by the server's locale. Equal times write again: a repeated write
-- changes nothing.
--
-- To withdraw is to put another row in the place of one of that event time which is not newer than said: the row of
-- the entity that is newest then, or, where its bytes are empty, nothing.
--
-- Returns the number of rows written, or taken back.
local withdrawing = ARGV[1] == 'withdraw'
local MOST_NEARBY = 16
local NEARBY_MILLISECONDS = 600000

-- Returns -1, 0 or 1: how two times, of 8 bytes each at some positions, compare.
local function compared(one, at, other, there)
  local low, high = struct.unpack('<I4i4', one, at)
  local other_low, other_high = struct.unpack('<I4i4', other, there)
  if high ~= other_high then
    return high > other_high and 1 or -1
  elseif low ~= other_low then
    return low > other_low and 1 or -1
  end
  return 0
end

local EVENT, INGESTED = 11, 19

local function nearby_key(key)
  return (string.gsub(key, 'feature_row:', 'feature_nearby:', 1))
end

-- Rows in one value: each behind its length, 4 bytes.
local function nearby_rows(key)
  local packed = redis.call('GET', key) or ''
  local rows = {}
  local at = 1
  while at < #packed do
    local size = struct.unpack('<I4', packed, at)
    rows[#rows + 1] = string.sub(packed, at + 4, at + 3 + size)
    at = at + 4 + size
  end
  return rows
end

local function packed(rows)
  local parts = {}
  for _, row in ipairs(rows) do
    parts[#parts + 1] = struct.pack('<I4', #row) .. row
  end
  return table.concat(parts)
end

-- Keeps a row for readers whose present lies between it and the row that stands.
local function remember(row_key, row)
  local key = nearby_key(row_key)
  local kept = {}
  local placed = false
  for _, other in ipairs(nearby_rows(key)) do
    local order = compared(other, EVENT, row, EVENT)
    if not placed and order >= 0 then
      placed = true
      if order == 0 and compared(other, INGESTED, row, INGESTED) > 0 then
        kept[#kept + 1] = other
      else
        kept[#kept + 1] = row
        if order > 0 then
          kept[#kept + 1] = other
        end
      end
    else
      kept[#kept + 1] = other
    end
  end
  if not placed then
    kept[#kept + 1] = row
  end
  -- The newest of those that every reader has reached, and the latest of the others.
  while #kept > 1 and compared(kept[2], EVENT, ARGV[2], 1) <= 0 do
    table.remove(kept, 1)
  end
  while #kept > MOST_NEARBY do
    table.remove(kept, 2)
  end
  redis.call('SET', key, packed(kept), 'PX', NEARBY_MILLISECONDS)
end

local function forget(row_key, limit)
  local key = nearby_key(row_key)
  local rows = nearby_rows(key)
  local kept = {}
  for _, row in ipairs(rows) do
    if compared(row, EVENT, limit, 1) ~= 0 then
      kept[#kept + 1] = row
    end
  end
  if #kept == 0 then
    redis.call('DEL', key)
  elseif #kept < #rows then
    redis.call('SET', key, packed(kept), 'KEEPTTL')
  end
end

local written = 0
local argument = 2
for row = 1, #KEYS do
  local limit = nil
  if withdrawing then
    argument = argument + 1
    limit = ARGV[argument]
  end
  local expiry, value = ARGV[argument + 1], ARGV[argument + 2]
  argument = argument + 2
  local stored = redis.call('GETRANGE', KEYS[row], 0, 25)
  local present = stored ~= ''
  if present and (#stored < 26 or string.byte(stored, 1) ~= 245 or string.byte(stored, 2) ~= 1) then
    return redis.error_reply('FOREIGN ' .. KEYS[row])
  end
  local withdrawn = false
  if withdrawing then
    forget(KEYS[row], limit)
    withdrawn = present and compared(stored, EVENT, limit, 1) == 0 and compared(stored, INGESTED, limit, 9) <= 0
  end
  if withdrawing and not withdrawn then
    -- Another row stands there.
  elseif value == '' then
    redis.call('DEL', KEYS[row])
    written = written + 1
  else
    local order = present and compared(value, EVENT, stored, EVENT) or 1
    local newest = withdrawn or order > 0 or (order == 0 and compared(value, INGESTED, stored, INGESTED) >= 0)
    if newest then
      if present and not withdrawn and order > 0 and compared(value, EVENT, ARGV[2], 1) > 0 then
        remember(KEYS[row], redis.call('GET', KEYS[row]))
      end
      if expiry == '0' then
        redis.call('SET', KEYS[row], value)
      else
        redis.call('SET', KEYS[row], value, 'PXAT', expiry)
      end
      written = written + 1
    elseif order < 0 and compared(stored, EVENT, ARGV[2], 1) > 0 then
      remember(KEYS[row], value)
    end
  end
end
return written
