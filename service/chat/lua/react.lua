-- Add a reaction or take it back.
--
-- ARGV[7]  the key
-- ARGV[8]  "add" or "remove"
-- ARGV[9]  keys that a message may have
-- ARGV[10] ms after which a later event takes the place of one
-- ARGV[11] events that one takes the place of at most
--
-- Answers {"ok", counts: key and number in turn}. What changes nothing tells nobody. The event holds all
-- counts, so that earlier ones are void and need not push messages out of the stream. They go when every
-- node has read them: they name others that are void, which a node must not miss.
local key, action = ARGV[7], ARGV[8]
local refusal = barred(true)
if refusal then
    return refusal
end
if not find() then
    return ABSENT
end
local member = key .. '\n' .. user
local changed
if action == 'add' then
    if redis.call('HEXISTS', KEYS[9], key) == 0 and redis.call('HLEN', KEYS[9]) >= tonumber(ARGV[9]) then
        return {'full', 'a message has at most ' .. ARGV[9] .. ' different reactions'}
    end
    changed = redis.call('SADD', KEYS[10], member) == 1
    if changed then
        redis.call('HINCRBY', KEYS[9], key, 1)
    end
else
    changed = redis.call('SREM', KEYS[10], member) == 1
    if changed and redis.call('HINCRBY', KEYS[9], key, -1) <= 0 then
        redis.call('HDEL', KEYS[9], key)
    end
end
local found = redis.call('HGETALL', KEYS[9])
if changed then
    local counts = {}
    for at = 1, #found, 2 do
        counts[found[at]] = tonumber(found[at + 1])
    end
    -- `type` first, as in all events: so they are told from messages at a glance.
    local event = '{"type":"reaction",' .. cjson.encode({
        id = id, key = key, user = user, action = action, counts = counts,
    }):sub(2)
    local void = {}
    for _, before in ipairs(redis.call('LRANGE', KEYS[11], 0, ARGV[11] - 1)) do
        if tonumber(before:match('%d+')) > now() - ARGV[10] then
            break
        end
        void[#void + 1] = before
    end
    redis.call('LTRIM', KEYS[11], #void, -1)
    redis.call('RPUSH', KEYS[11], emit(event, void))
    keep()
end
return {'ok', found}
