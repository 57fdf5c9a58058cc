-- Take a token from a bucket (GCRA: one number a bucket, the instant at which it is full again).
--
-- KEYS[1]  the bucket
-- ARGV[1]  microseconds in which one token comes back
-- ARGV[2]  tokens the bucket holds
--
-- Returns 0, or the microseconds until there is a token.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
local wait = full + ARGV[1] - ARGV[1] * ARGV[2] - now
if wait > 0 then
    return wait
end
full = full + ARGV[1]
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000))
return 0
