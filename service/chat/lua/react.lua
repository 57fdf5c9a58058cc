-- Add a reaction or take it back.
--
-- ARGV[7]  the key
-- ARGV[8]  "add" or "remove"
-- ARGV[9]  keys that a message may have
--
-- Answers {"ok", counts: key and number in turn}. What changes nothing tells nobody. The event holds all
-- counts and takes the place of the one before, so that reactions do not push messages out of the stream.
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
    redis.call('HSET', KEYS[8], 'reaction', emit(event, {redis.call('HGET', KEYS[8], 'reaction') or nil}))
    keep()
end
return {'ok', found}
