-- Writes whole rows, one key each, unless a newer row stands there.
--
-- KEYS: one per row. ARGV: for each row its expiry and its bytes. The expiry is milliseconds since 1970, "0" for a
--       key that does not expire.
--
-- Event time and ingestion time are compared as numbers, each in two halves of 32 bits: a number of Lua holds those
-- exactly, and text with such bytes would compare by the server's locale. Equal times write again: a repeated write
-- changes nothing. Returns the number of rows written.
local written = 0
for row = 1, #KEYS do
  local value = ARGV[2 * row]
  local stored = redis.call('GETRANGE', KEYS[row], 0, 25)
  local newest = true
  if stored ~= '' then
    if #stored < 26 or string.byte(stored, 1) ~= 245 or string.byte(stored, 2) ~= 1 then
      return redis.error_reply('FOREIGN ' .. KEYS[row])
    end
    local el, eh, il, ih = struct.unpack('<I4i4I4i4', stored, 11)
    local vel, veh, vil, vih = struct.unpack('<I4i4I4i4', value, 11)
    if veh ~= eh then
      newest = veh > eh
    elseif vel ~= el then
      newest = vel > el
    elseif vih ~= ih then
      newest = vih > ih
    else
      newest = vil >= il
    end
  end
  if newest then
    if ARGV[2 * row - 1] == '0' then
      redis.call('SET', KEYS[row], value)
    else
      redis.call('SET', KEYS[row], value, 'PXAT', ARGV[2 * row - 1])
    end
    written = written + 1
  end
end
return written
