-- Tell that somebody types, or has stopped to.
--
-- KEYS[8]  there while it was told of late: "1" that they type, "0" that they have stopped
-- ARGV[5]  "1" or "0", likewise
-- ARGV[6]  the event
-- ARGV[7]  ms within which it is told once
--
-- Answers {"ok"}.
local refusal = barred(true)
if refusal then
    return refusal
end
if ARGV[5] == '1' then
    if redis.call('SET', KEYS[8], '1', 'NX', 'PX', ARGV[7]) then
        whisper(ARGV[6])
    end
elseif redis.call('GET', KEYS[8]) == '1' then
    -- Still there, so that on and off in turn is held back as well.
    redis.call('SET', KEYS[8], '0', 'KEEPTTL')
    whisper(ARGV[6])
end
return {'ok'}
