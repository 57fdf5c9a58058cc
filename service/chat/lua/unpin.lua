-- Unpin a message, which may be gone from the stream.
--
-- ARGV[7]  the event
--
-- Answers {"ok"}.
local refusal = beneath(1)
if refusal then
    return refusal
end
if redis.call('HDEL', KEYS[6], id) == 0 then
    return {'absent', 'message ' .. id .. ' is not pinned'}
end
keep()
emit(ARGV[7])
audit('unpin', find() or '', id, '')
return {'ok'}
