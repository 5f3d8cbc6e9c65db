-- Keeps the rows that a stream has brought online for one entity, until they are in the offline store.
--
-- KEYS: the key, a hash of event times. ARGV: up to when rows are drained (microseconds since 1970; empty for never);
--       the key's expiry (milliseconds since 1970, "0" for none); `1` if the rows are asked for; then pairs of event
--       time and row. A row begins with the time at which it was ingested, as text, and a colon.
--
-- Rows that are drained go when the drain is first seen. Returns the rows that are left, if they are asked for.
local key, drained, expiry = KEYS[1], ARGV[1], ARGV[2]
for place = 4, #ARGV, 2 do
  redis.call('HSET', key, ARGV[place], ARGV[place + 1])
end
if drained ~= '' and redis.call('EXISTS', key) == 1 and redis.call('HGET', key, 'drained') ~= drained then
  local rows = redis.call('HGETALL', key)
  for place = 1, #rows, 2 do
    local ingested = tonumber(string.match(rows[place + 1], '^(-?%d+):'))
    if rows[place] ~= 'drained' and ingested and ingested <= tonumber(drained) then
      redis.call('HDEL', key, rows[place])
    end
  end
  redis.call('HSET', key, 'drained', drained)
end
if #ARGV > 3 and expiry ~= '0' then
  redis.call('PEXPIREAT', key, expiry)
end
if ARGV[3] ~= '1' then
  return {}
end
local found = {}
local rows = redis.call('HGETALL', key)
for place = 1, #rows, 2 do
  if rows[place] ~= 'drained' then
    found[#found + 1] = rows[place + 1]
  end
end
return found
