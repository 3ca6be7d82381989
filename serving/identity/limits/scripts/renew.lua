-- Renew a worker's lease. Returns 0 when it had run out: what the worker holds is gone, it must register again.
-- KEYS: live workers. ARGV: worker, seconds of lease.
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
local until_ = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not until_ or tonumber(until_) <= now then return 0 end
redis.call('ZADD', KEYS[1], string.format('%.6f', now + tonumber(ARGV[2])), ARGV[1])
return 1
