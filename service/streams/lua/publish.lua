-- Append a publication, once for each idempotency key, and tell where it is.
--
-- KEYS[1]  the stream
-- KEYS[2]  its epoch, in the same slot
-- KEYS[3]  what the publication with this idempotency key was answered with; without one there is no such key
-- ARGV[1]  the epoch to use where there is none
-- ARGV[2]  entries that the stream keeps, about; "0": any number
-- ARGV[3]  ms that an idempotency key is remembered
-- ARGV[4]… names and values of the entry's fields
--
-- Answers {id, epoch, 1 if it was there already, else 0}.
if KEYS[3] then
    local known = redis.call('HMGET', KEYS[3], 'id', 'epoch')
    if known[1] then
        return {known[1], known[2], 1}
    end
end

-- Before anything is written: a key of another type is an error.
local epoch = redis.call('GET', KEYS[2])
local command = {'XADD', KEYS[1]}
if ARGV[2] ~= '0' then
    command[3], command[4], command[5] = 'MAXLEN', '~', ARGV[2]
end
command[#command + 1] = '*'
for at = 4, #ARGV do
    command[#command + 1] = ARGV[at]
end
local id = redis.call(unpack(command))
if not epoch then
    epoch = ARGV[1]
    redis.call('SET', KEYS[2], epoch)
elseif redis.call('TTL', KEYS[2]) ~= -1 then
    redis.call('PERSIST', KEYS[2]) -- made for a stream that did not exist
end
if KEYS[3] then
    redis.call('HSET', KEYS[3], 'id', id, 'epoch', epoch)
    redis.call('PEXPIRE', KEYS[3], ARGV[3])
end
return {id, epoch, 0}
