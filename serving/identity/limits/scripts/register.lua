-- Join, or join again after an absence, with all that this worker holds now.
-- KEYS: live workers, then accounts. ARGV: old name, new name, seconds of lease, what is held of each account.
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.6f', now))
redis.call('ZADD', KEYS[1], string.format('%.6f', now + tonumber(ARGV[3])), ARGV[2])
for i = 2, #KEYS do
  redis.call('HSET', KEYS[i], 'h:' .. ARGV[2], ARGV[i + 2])
end
return 1
