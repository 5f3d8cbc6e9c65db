-- The clock of a group's ingestion times: each that it gives is later than all before, whatever the machines' clocks say.
--
-- KEYS: the clock, a hash. Times are microseconds since 1970.
-- ARGV: `claim`, the present, and who claims (empty for all but streamers): returns the time that was given.
--       `committed`, who: what was claimed is in the topic now.
--       `mark`, how many seconds a claim may be under way: returns a time up to which all that was claimed is in the topic.
--       `drained`, a mark: all rows up to it are in the offline store.
--       `withdrawn`, a time: rows were withdrawn then by others than streams.
local verb = ARGV[1]
local last = tonumber(redis.call('HGET', KEYS[1], 'last') or '-inf')
local function text(number)
  return string.format('%.0f', number)
end
if verb == 'claim' then
  local given = math.max(tonumber(ARGV[2]), last + 1)
  -- Streamers get odd times, all others even ones: so a row tells by itself whether it may be in no other store yet.
  if (given % 2 == 1) ~= (ARGV[3] ~= '') then
    given = given + 1
  end
  redis.call('HSET', KEYS[1], 'last', text(given))
  if ARGV[3] ~= '' then
    -- When it was claimed by the server's own clock: the writers' clocks may be far apart.
    redis.call('HSET', KEYS[1], 'claimed:' .. ARGV[3], text(given), 'at:' .. ARGV[3], redis.call('TIME')[1])
  end
  return text(given)
elseif verb == 'committed' then
  local claimed = redis.call('HGET', KEYS[1], 'claimed:' .. ARGV[2])
  if claimed then
    redis.call('HSET', KEYS[1], 'committed:' .. ARGV[2], claimed)
  end
  return '0'
elseif verb == 'mark' then
  local fields = redis.call('HGETALL', KEYS[1])
  local all = {}
  for position = 1, #fields, 2 do
    all[fields[position]] = fields[position + 1]
  end
  local mark = last
  for field, claimed in pairs(all) do
    if string.sub(field, 1, 8) == 'claimed:' and all['committed:' .. string.sub(field, 9)] ~= claimed then
      local age = redis.call('TIME')[1] - (all['at:' .. string.sub(field, 9)] or 0)
      if age < tonumber(ARGV[2]) then
        mark = math.min(mark, tonumber(claimed) - 1)
      end
    end
  end
  return mark == -math.huge and '' or text(mark)
elseif verb == 'drained' or verb == 'withdrawn' then
  local before = tonumber(redis.call('HGET', KEYS[1], verb) or '-inf')
  redis.call('HSET', KEYS[1], verb, text(math.max(before, tonumber(ARGV[2]))))
  return '0'
end
return redis.error_reply('unknown verb ' .. verb)
