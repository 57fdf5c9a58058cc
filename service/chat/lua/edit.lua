-- Say something else.
--
-- ARGV[7]  the new content: JSON object of `text` or `body`
-- ARGV[8]  the event
--
-- Answers {"ok", id of the event}. A later edit takes the place of the one before, in the stream, too.
local refusal = barred(true)
if refusal then
    return refusal
end
local author = find()
if not author then
    return ABSENT
end
if rank == 0 and author ~= user then
    return {'denied', 'only its author or a moderator may edit a message'}
end
local event = emit(ARGV[8], {redis.call('HGET', KEYS[8], 'edit') or nil})
redis.call('HSET', KEYS[8], 'content', ARGV[7], 'by', user, 'edit', event)
keep()
if author ~= user then
    audit('edit', author, id, '')
end
return {'ok', event}
