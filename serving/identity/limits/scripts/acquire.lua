-- Start a request on all its accounts, or on none.
-- KEYS: live workers, then the rate accounts, then the budgets.
-- ARGV: worker, tokens, nanos, least nanos, sequences, number of rate accounts,
--       of each: requests a minute, tokens a minute, concurrency (0: no limit); of each budget: window, amount.
-- Returns {what, index, granted, of each rate: requests used, tokens used, open; of each budget: spent, reserved}.
-- what: granted | unknown (worker) | unseeded | requests | tokens | concurrency | reserved | used_up
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
local worker, tokens, nanos, least = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local sequences, num_rates = tonumber(ARGV[5]), tonumber(ARGV[6])
local num_budgets = #KEYS - 1 - num_rates

local alive = {}
local function is_alive(name)
  if alive[name] == nil then
    local until_ = redis.call('ZSCORE', KEYS[1], name)
    alive[name] = until_ and tonumber(until_) > now or false
  end
  return alive[name]
end
if not is_alive(worker) then return {'unknown', 0, '0'} end

-- An account's own fields, and what all live workers hold of it; what dead ones held is dropped.
local function read(key)
  local fields, held = {}, 0
  local raw = redis.call('HGETALL', key)
  for i = 1, #raw, 2 do
    local name, value = raw[i], tonumber(raw[i + 1])
    if string.sub(name, 1, 2) == 'h:' then
      if is_alive(string.sub(name, 3)) then held = held + value else redis.call('HDEL', key, name) end
    else
      fields[name] = value
    end
  end
  return fields, held
end

local refused, at = nil, 0
local rates, reply = {}, {}
for i = 1, num_rates do
  local f, open = read(KEYS[1 + i])
  local a = 6 + 3 * (i - 1)
  local rpm, tpm, most = tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
  local elapsed = math.max(0, now - (f.u or now))
  local r, t = math.max(0, (f.r or 0) - elapsed * rpm / 60), math.max(0, (f.t or 0) - elapsed * tpm / 60)
  rates[i] = {r, t, open}
  if not refused then
    if most > 0 and open + sequences > most then refused, at = 'concurrency', i
    elseif rpm > 0 and rpm - r < sequences then refused, at = 'requests', i
    elseif tpm > 0 and tpm - t < tokens then refused, at = 'tokens', i end
  end
end
local granted, budgets = nanos, {}
for i = 1, num_budgets do
  local key = KEYS[1 + num_rates + i]
  local a = 6 + 3 * num_rates + 2 * (i - 1)
  local window, amount = tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])
  local f, reserved = read(key)
  if not f.s then return {'unseeded', i, '0'} end
  if f.w < window then
    redis.call('HSET', key, 'w', ARGV[a + 1], 's', '0')
    f.s = 0
  end
  budgets[i] = {f.s, reserved}
  local left = amount - f.s
  local free = left - reserved
  if nanos > free then
    if nanos > left and least <= free then
      granted = math.min(granted, free)
    elseif not refused then
      refused, at = (least > left) and 'used_up' or 'reserved', i
    end
  end
end

local own = 'h:' .. worker
if not refused then
  for i = 1, num_rates do
    local rate = rates[i]
    rate[1], rate[2], rate[3] = rate[1] + sequences, rate[2] + tokens, rate[3] + sequences
    redis.call('HSET', KEYS[1 + i], 'r', string.format('%.6f', rate[1]), 't', string.format('%.6f', rate[2]),
      'u', string.format('%.6f', now))
    redis.call('HINCRBY', KEYS[1 + i], own, sequences)
    redis.call('EXPIRE', KEYS[1 + i], 86400)
  end
  for i = 1, num_budgets do
    redis.call('HINCRBY', KEYS[1 + num_rates + i], own, string.format('%.0f', granted))
  end
end
reply = {refused or 'granted', at, string.format('%.0f', granted)}
for i = 1, num_rates do
  reply[#reply + 1] = string.format('%.6f', rates[i][1])
  reply[#reply + 1] = string.format('%.6f', rates[i][2])
  reply[#reply + 1] = tostring(rates[i][3])
end
for i = 1, num_budgets do
  reply[#reply + 1] = string.format('%.0f', budgets[i][1])
  reply[#reply + 1] = string.format('%.0f', budgets[i][2])
end
return reply
