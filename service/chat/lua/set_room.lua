-- Change what the room is called, is about, and how fast it is.
--
-- ARGV[5]   the event
-- ARGV[6]   what has changed: JSON, for the record
-- ARGV[7…]  names and values in turn; "": none
--
-- Answers {"ok"}.
local refusal = beneath(1)
if refusal then
    return refusal
end
for at = 7, #ARGV, 2 do
    if ARGV[at + 1] == '' then
        redis.call('HDEL', KEYS[2], ARGV[at])
    else
        redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1])
    end
end
emit(ARGV[5])
audit('set_room', '', '', '', nil, ARGV[6])
return {'ok'}
