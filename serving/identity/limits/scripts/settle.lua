-- End requests: many at once, added up by account.
-- KEYS: rate accounts, then budgets. ARGV: worker, number of rate accounts,
--       of each: requests a minute, tokens a minute, tokens to add, change of open requests;
--       of each budget: window, nanos spent, change of nanos reserved.
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
local own, num_rates = 'h:' .. ARGV[1], tonumber(ARGV[2])

-- What the server no longer knows (a lease ran out in between) must not become negative.
local function change_held(key, change)
  if tonumber(change) > 0 or redis.call('HEXISTS', key, own) == 1 then
    if redis.call('HINCRBY', key, own, change) <= 0 then redis.call('HDEL', key, own) end
  end
end

for i = 1, num_rates do
  local key, a = KEYS[i], 2 + 4 * (i - 1)
  local f = redis.call('HMGET', key, 'r', 't', 'u')
  if f[3] then
    local elapsed = math.max(0, now - tonumber(f[3]))
    local r = math.max(0, tonumber(f[1]) - elapsed * tonumber(ARGV[a + 1]) / 60)
    local t = math.max(0, tonumber(f[2]) - elapsed * tonumber(ARGV[a + 2]) / 60)
    t = math.max(0, t + tonumber(ARGV[a + 3]))
    redis.call('HSET', key, 'r', string.format('%.6f', r), 't', string.format('%.6f', t),
      'u', string.format('%.6f', now))
  end
  change_held(key, ARGV[a + 4])
end
for i = 1, #KEYS - num_rates do
  local key, a = KEYS[num_rates + i], 2 + 4 * num_rates + 3 * (i - 1)
  local f = redis.call('HMGET', key, 'w', 's')
  -- Unseeded: the ledger will say. A window that is over: the ledger alone keeps it.
  if f[2] and tonumber(f[1]) == tonumber(ARGV[a + 1]) then redis.call('HINCRBY', key, 's', ARGV[a + 2]) end
  change_held(key, ARGV[a + 3])
  redis.call('HSET', key, 'u', string.format('%.6f', now))
end
return 1
