-- Take a message back, with what it was edited to. Events of reactions stay: they say nothing of it.
--
-- ARGV[7]  the event
-- ARGV[8]  the moderator's reason
--
-- Answers {"ok"}.
local refusal = barred()
if refusal then
    return refusal
end
local author, refused = own('delete')
if not author then
    return refused
end
local void = {id}
for event in (redis.call('HGET', KEYS[8], 'edits') or ''):gmatch('%S+') do
    void[#void + 1] = event
end
emit(ARGV[7], void)
redis.call('DEL', KEYS[8], KEYS[9], KEYS[10], KEYS[11])
redis.call('HDEL', KEYS[6], id)
if author ~= user then
    audit('delete', author, id, ARGV[8])
end
return {'ok'}
