-- Delete messages of a user.
--
-- KEYS[8…]  four keys for each message, as in message.lua
-- ARGV[5]   the user
-- ARGV[6]   the reason
-- ARGV[7]   the event
-- ARGV[8…]  ids; none: the first of several calls, which goes on record
--
-- Answers {"ok", messages that were there}.
local refusal = beneath(1, ARGV[5])
if refusal then
    return refusal
end
if #ARGV == 7 then
    audit('purge', ARGV[5], '', ARGV[6])
    return {'ok', 0}
end
local ids = {unpack(ARGV, 8)}
local deleted = redis.call('XDEL', KEYS[1], unpack(ids))
local void = {unpack(ids)}
for at = 8, #KEYS, 4 do
    for event in (redis.call('HGET', KEYS[at], 'edits') or ''):gmatch('%S+') do
        void[#void + 1] = event
    end
end
emit(ARGV[7], void)
redis.call('DEL', unpack(KEYS, 8))
redis.call('HDEL', KEYS[6], unpack(ids))
return {'ok', deleted}
