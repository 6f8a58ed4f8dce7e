-- One token bucket for each key, shared by all routers. One call serves every tenant that a router needs something of.
--
-- ARGV, eight for each key:
--   rate      tokens per second
--   burst     most that the bucket holds
--   start     what it holds when it does not exist yet
--   ceiling   most that it may hold now; negative: no such word
--   spent     tokens used beyond those granted before; negative: given back
--   exempt    tokens used by what is never refused; they overdraw by one burst at most
--   refused   operations that callers were told to come again with
--   want      tokens asked for
-- Answer, three for each key: tokens granted, thousandths of tokens left, milliseconds until what was refused before
-- will all have been admitted.

local BOOKED_US_MAX = 5000000
local KEEP_MS_MIN = 60000

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local answer = {}

for at, key in ipairs(KEYS) do
  local first = (at - 1) * 8
  local rate = tonumber(ARGV[first + 1])
  local burst = tonumber(ARGV[first + 2])
  local ceiling = tonumber(ARGV[first + 4])
  local state = redis.call('HMGET', key, 'tokens', 'at', 'booked')
  local tokens = tonumber(state[1]) or tonumber(ARGV[first + 3])
  local then_us = tonumber(state[2]) or now
  local booked = tonumber(state[3]) or now

  tokens = math.min(tokens + math.max(now - then_us, 0) * rate / 1000000, burst)
  if ceiling >= 0 then
    tokens = math.min(tokens, ceiling)
  end
  tokens = math.max(tokens - tonumber(ARGV[first + 6]), math.min(tokens, -burst))
  tokens = math.min(tokens - tonumber(ARGV[first + 5]), burst)

  local granted = math.max(math.min(tonumber(ARGV[first + 8]), math.floor(tokens + 0.000001)), 0)
  tokens = tokens - granted

  local free = now + math.max(1 - tokens, 0) * 1000000 / rate
  booked = math.min(math.max(booked, free) + tonumber(ARGV[first + 7]) * 1000000 / rate, free + BOOKED_US_MAX)

  redis.call('HSET', key, 'tokens', string.format('%.6f', tokens), 'at', string.format('%.0f', now),
    'booked', string.format('%.0f', booked))
  redis.call('PEXPIRE', key, math.floor(math.max(2000 * (burst - tokens) / rate, KEEP_MS_MIN)))

  answer[#answer + 1] = granted
  answer[#answer + 1] = math.floor(tokens * 1000)
  answer[#answer + 1] = math.floor((booked - now) / 1000)
end

return answer
