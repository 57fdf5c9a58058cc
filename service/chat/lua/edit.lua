-- Say something else.
--
-- ARGV[7]  the new content: JSON object of `text` or `body`
-- ARGV[8]  the event
-- ARGV[9]  how often a message may be edited
--
-- Answers {"ok", id of the event}.
local refusal = barred(true)
if refusal then
    return refusal
end
local author, refused = own('edit')
if not author then
    return refused
end
local edits = redis.call('HGET', KEYS[8], 'edits') or ''
local _, number = edits:gsub('%S+', '')
if number >= tonumber(ARGV[9]) then
    return {'full', 'a message is edited at most ' .. ARGV[9] .. ' times'}
end
local event = emit(ARGV[8])
redis.call('HSET', KEYS[8], 'content', ARGV[7], 'by', user, 'edits', edits .. ' ' .. event)
keep()
if author ~= user then
    audit('edit', author, id, '')
end
return {'ok', event}
