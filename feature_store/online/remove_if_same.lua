-- Removes what one entity has of one group, unless somebody has written it since it was looked at.
--
-- KEYS: the keys of the entity's row; the first one holds what tells rows apart, the stamp or the row itself.
-- ARGV: what the first key held. Returns 1 if the row is removed, 0 if it is another one by now.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('DEL', unpack(KEYS))
return 1
