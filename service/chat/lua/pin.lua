-- Pin a message: a copy of it stays when the stream is trimmed.
--
-- ARGV[7]  the event
-- ARGV[8]  messages that may be pinned
--
-- Answers {"ok"}. What is pinned already tells nobody.
local refusal = beneath(1)
if refusal then
    return refusal
end
local author, fields = find()
if not author then
    return ABSENT
end
if redis.call('HEXISTS', KEYS[6], id) == 0 then
    if redis.call('HLEN', KEYS[6]) >= tonumber(ARGV[8]) then
        return {'full', 'at most ' .. ARGV[8] .. ' messages are pinned'}
    end
    redis.call('HSET', KEYS[6], id, cjson.encode(fields))
    keep()
    emit(ARGV[7])
    audit('pin', author, id, '')
end
return {'ok'}
