-- Sets whole values, each only if nobody has set it since it was read.
--
-- KEYS: the keys. ARGV: for each key the version that was read (8 bytes; empty where there was no value), its expiry
--       and the new value. The expiry is milliseconds since 1970, "0" for a key that does not expire; an empty value
--       removes the key. The version of a value is its bytes 11 to 18.
--
-- Returns one character for each key: 1 if the value stands there now, 0 if somebody else has set another one. A call
-- whose answer was lost may be sent again: it finds its own version.
local answers = {}
for number = 1, #KEYS do
  local key = KEYS[number]
  local read, expiry, value = ARGV[3 * number - 2], ARGV[3 * number - 1], ARGV[3 * number]
  local version = redis.call('GETRANGE', key, 10, 17)
  if version == read then
    if value == '' then
      redis.call('DEL', key)
    elseif expiry == '0' then
      redis.call('SET', key, value)
    else
      redis.call('SET', key, value, 'PXAT', expiry)
    end
    answers[number] = '1'
  elseif version == string.sub(value, 11, 18) then
    answers[number] = '1'
  else
    answers[number] = '0'
  end
end
return table.concat(answers)
