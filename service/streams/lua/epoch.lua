-- Make sure that a channel's stream has an epoch, and return it.
--
-- KEYS[1]  the stream
-- KEYS[2]  the epoch, in the same slot
-- ARGV[1]  the value to use where there is none
-- ARGV[2]  seconds that an epoch outlives a stream which does not exist
--
-- The value is kept for as long as the stream lives. While the stream does not exist the epoch
-- expires, so that channels nobody writes to leave nothing behind.
local epoch = redis.call('GET', KEYS[2])
if not epoch then
    epoch = ARGV[1]
    redis.call('SET', KEYS[2], epoch)
end
if redis.call('EXISTS', KEYS[1]) == 1 then
    redis.call('PERSIST', KEYS[2])
else
    redis.call('EXPIRE', KEYS[2], ARGV[2])
end
return epoch
