-- Writes rows of one feature group, one key per feature, unless a newer row stands there; or takes rows back.
--
-- KEYS: for each row its stamp key, then its feature keys, class by class.
-- ARGV: the mode, `put` or `withdraw`; `recent`, the event time from on which replaced rows are kept for readers whose
--       clocks stand behind the writer's; the number of classes and the number of features in each; then for each row
--       (mode `withdraw`: the times of the row that is withdrawn) its stamp, one expiry per class, and one value per
--       feature.
--
-- A class is the features that share a time to live. Its expiry is milliseconds since 1970, "0" for a key that
-- does not expire, "-1" for values that are over already: what stands there is older still and goes. The first
-- class lives longest and is never over, and the stamp lives as long.
--
-- The first 37 characters of a stamp are digits of one width, so that comparing them as text compares
-- (event_timestamp, ingested_at). Equal times write again: a repeated write changes nothing. The stamp is set first,
-- so that a server without memory refuses the row before any of its values changed.
--
-- To withdraw is to put another row in the place of one of that event time which is not newer than said: the row of
-- the entity that is newest then, or, where its stamp is empty, nothing.
--
-- Returns the number of rows written, or taken back.
local withdrawing = ARGV[1] == 'withdraw'
local recent = ARGV[2]
local classes = tonumber(ARGV[3])
local sizes = {}
local argument = 3
local features = 0
for class = 1, classes do
  argument = argument + 1
  sizes[class] = tonumber(ARGV[argument])
  features = features + sizes[class]
end
local MOST_NEARBY = 16
local NEARBY_MILLISECONDS = 600000

local function put(key, value, expiry)
  if expiry == '0' then
    redis.call('SET', key, value)
  else
    redis.call('SET', key, value, 'PXAT', expiry)
  end
end

local function nearby_key(stamp_key)
  return (string.gsub(stamp_key, 'feature_stamp:', 'feature_nearby:', 1))
end

local function nearby_rows(key)
  local packed = redis.call('GET', key)
  return packed and cmsgpack.unpack(packed) or {}
end

-- Keeps a row for readers whose present lies between it and the row that stands.
local function remember(stamp_key, stamp, values)
  local key = nearby_key(stamp_key)
  local event = string.sub(stamp, 1, 18)
  local kept = {}
  local placed = false
  for _, row in ipairs(nearby_rows(key)) do
    local other = string.sub(row[1], 1, 18)
    if not placed and other >= event then
      kept[#kept + 1] = {stamp, values}
      placed = true
      if other == event and string.sub(row[1], 1, 37) > string.sub(stamp, 1, 37) then
        kept[#kept] = row
      elseif other ~= event then
        kept[#kept + 1] = row
      end
    else
      kept[#kept + 1] = row
    end
  end
  if not placed then
    kept[#kept + 1] = {stamp, values}
  end
  -- The newest of those that every reader has reached, and the latest of the others.
  while #kept > 1 and string.sub(kept[2][1], 1, 18) <= recent do
    table.remove(kept, 1)
  end
  while #kept > MOST_NEARBY do
    table.remove(kept, 2)
  end
  redis.call('SET', key, cmsgpack.pack(kept), 'PX', NEARBY_MILLISECONDS)
end

local function forget(stamp_key, event)
  local key = nearby_key(stamp_key)
  local rows = nearby_rows(key)
  local kept = {}
  for _, row in ipairs(rows) do
    if string.sub(row[1], 1, 18) ~= event then
      kept[#kept + 1] = row
    end
  end
  if #kept == 0 then
    redis.call('DEL', key)
  elseif #kept < #rows then
    redis.call('SET', key, cmsgpack.pack(kept), 'KEEPTTL')
  end
end

local function stored_values(first)
  local values = {}
  for key = first + 1, first + features do
    local value = redis.call('GET', KEYS[key])
    if value then
      values[KEYS[key]] = value
    end
  end
  return values
end

local written = 0
for first = 1, #KEYS, features + 1 do
  local limit = nil
  if withdrawing then
    argument = argument + 1
    limit = ARGV[argument]
  end
  local stamp = ARGV[argument + 1]
  local event = string.sub(stamp, 1, 18)
  local stored = redis.call('GET', KEYS[first])
  local withdrawn = false
  if withdrawing then
    forget(KEYS[first], string.sub(limit, 1, 18))
    withdrawn = stored and string.sub(stored, 1, 18) == string.sub(limit, 1, 18) and string.sub(stored, 1, 37) <= limit
  end
  if withdrawing and not withdrawn then
    -- Another row stands there.
  elseif stamp == '' then
    for key = first, first + features do
      redis.call('DEL', KEYS[key])
    end
    written = written + 1
  elseif withdrawn or not stored or string.sub(stored, 1, 37) <= string.sub(stamp, 1, 37) then
    if stored and not withdrawn and event > recent and string.sub(stored, 1, 18) ~= event then
      remember(KEYS[first], stored, stored_values(first))
    end
    put(KEYS[first], stamp, ARGV[argument + 2])
    local key = first
    local value = argument + 1 + classes
    for class = 1, classes do
      local expiry = ARGV[argument + 1 + class]
      for _ = 1, sizes[class] do
        key = key + 1
        value = value + 1
        if expiry == '-1' then
          redis.call('DEL', KEYS[key])
        else
          put(KEYS[key], ARGV[value], expiry)
        end
      end
    end
    written = written + 1
  elseif string.sub(stored, 1, 18) > recent and string.sub(stored, 1, 18) ~= event then
    local values = {}
    for key = 1, features do
      values[KEYS[first + key]] = ARGV[argument + 1 + classes + key]
    end
    remember(KEYS[first], stamp, values)
  end
  argument = argument + 1 + classes + features
end
return written
