-- Take a message back, with all that became of it.
--
-- ARGV[7]  the event
-- ARGV[8]  the moderator's reason
--
-- Answers {"ok"}.
local refusal = barred()
if refusal then
    return refusal
end
local author = find()
if not author then
    return ABSENT
end
if rank == 0 and author ~= user then
    return {'denied', 'only its author or a moderator may delete a message'}
end
local void = {id}
for _, event in ipairs({'edit', 'reaction'}) do
    void[#void + 1] = redis.call('HGET', KEYS[8], event) or nil
end
emit(ARGV[7], void)
redis.call('DEL', KEYS[8], KEYS[9], KEYS[10])
redis.call('HDEL', KEYS[6], id)
if author ~= user then
    audit('delete', author, id, ARGV[8])
end
return {'ok'}
