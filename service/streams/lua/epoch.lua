-- Return the epoch of a channel's stream; make one where there is none.
--
-- KEYS[1]  the stream
-- KEYS[2]  the epoch, in the same slot
-- ARGV[1]  the value to use where there is none
-- ARGV[2]  seconds that an epoch outlives a stream which does not exist; 0: such a stream gets none,
--          and '' is returned
-- ARGV[3]  1: the stream is one of those that expire by themselves, and its epoch does, too
--
-- The value is kept for as long as the stream lives. While the stream does not exist the epoch
-- expires, so that channels nobody writes to leave nothing behind. Nothing is written that need not
-- be: an existing stream can be joined where Redis takes no writes.
local epoch = redis.pcall('GET', KEYS[2])
if type(epoch) == 'table' then
    return epoch -- the error: a key of another type
end
local exists = ARGV[3] ~= '1' and redis.call('EXISTS', KEYS[1]) == 1
local seconds = tonumber(ARGV[2])
if not epoch then
    if exists then
        redis.call('SET', KEYS[2], ARGV[1])
    elseif seconds > 0 then
        redis.call('SET', KEYS[2], ARGV[1], 'EX', seconds)
    else
        return ''
    end
    return ARGV[1]
end
local left = redis.call('TTL', KEYS[2])
if exists and left ~= -1 then
    redis.call('PERSIST', KEYS[2])
elseif not exists and left < seconds / 2 then
    redis.call('EXPIRE', KEYS[2], seconds)
end
return epoch
