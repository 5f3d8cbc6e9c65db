-- Writes rows of one feature group, one key per feature, unless a newer row stands there.
--
-- KEYS: for each row its stamp key, then its feature keys, class by class.
-- ARGV: the number of classes and the number of features in each, then for each row its stamp, one expiry per
--       class, and one value per feature.
--
-- A class is the features that share a time to live. Its expiry is milliseconds since 1970, "0" for a key that
-- does not expire, "-1" for values that are over already: what stands there is older still and goes. The first
-- class lives longest and is never over, and the stamp lives as long.
--
-- The first 37 characters of a stamp are digits of one width, so that comparing them as text compares
-- (event_timestamp, ingested_at). Equal times write again: a repeated write changes nothing. The stamp is set first,
-- so that a server without memory refuses the row before any of its values changed. Returns the number of rows
-- written.
local classes = tonumber(ARGV[1])
local sizes = {}
local argument = 1
for class = 1, classes do
  argument = argument + 1
  sizes[class] = tonumber(ARGV[argument])
end

local function put(key, value, expiry)
  if expiry == '0' then
    redis.call('SET', key, value)
  else
    redis.call('SET', key, value, 'PXAT', expiry)
  end
end

local features = 0
for class = 1, classes do
  features = features + sizes[class]
end

local written = 0
for first = 1, #KEYS, features + 1 do
  local stamp = ARGV[argument + 1]
  local stored = redis.call('GET', KEYS[first])
  if not stored or string.sub(stored, 1, 37) <= string.sub(stamp, 1, 37) then
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
  end
  argument = argument + 1 + classes + features
end
return written
