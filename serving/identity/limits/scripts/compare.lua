-- Take over the ledger's sum for a budget's window; as BudgetAccount.compare.
-- KEYS: live workers, the budget. ARGV: window, nanos in the ledger, seconds of quiet.
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
local f = redis.call('HMGET', KEYS[2], 'w', 's', 'u')
local window, in_ledger = tonumber(ARGV[1]), tonumber(ARGV[2])
if f[1] and tonumber(f[1]) > window then return 0 end
local spent = f[2] and tonumber(f[1]) == window and tonumber(f[2]) or 0
local quiet = f[2] and now - tonumber(f[3] or 0) >= tonumber(ARGV[3])
if quiet then
  local raw = redis.call('HGETALL', KEYS[2])
  for i = 1, #raw, 2 do
    local holder = string.sub(raw[i], 1, 2) == 'h:' and redis.call('ZSCORE', KEYS[1], string.sub(raw[i], 3))
    if holder and tonumber(holder) > now then quiet = false end
  end
end
spent = quiet and in_ledger or math.max(spent, in_ledger)
redis.call('HSET', KEYS[2], 'w', ARGV[1], 's', string.format('%.0f', spent))
return 1
