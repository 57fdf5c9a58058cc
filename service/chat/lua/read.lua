-- Move a user's marker of what it has read; never back.
--
-- KEYS[8]  the markers (hash): user to id
-- KEYS[9]  there while others were told of this user of late: how often (number)
-- ARGV[5]  the id
-- ARGV[6]  the event
-- ARGV[7]  seconds that markers outlive the last move
-- ARGV[8]  markers in the room up to which others are told
-- ARGV[9]  how often others are told of one user within …
-- ARGV[10] … so many ms: a marker can be moved by as little as one likes, and whoever reads may move it
--
-- Answers {"ok", where the marker is now}.
local function before(one, other)
    local ms, seq = one:match('(%d+)-(%d+)')
    local other_ms, other_seq = other:match('(%d+)-(%d+)')
    ms, other_ms = tonumber(ms), tonumber(other_ms)
    return ms < other_ms or ms == other_ms and tonumber(seq) < tonumber(other_seq)
end

local id = ARGV[5]
local refusal = barred()
if refusal then
    return refusal
end
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if not newest or before(newest[1], id) then
    return {'absent', 'nothing in the room is as new as ' .. id}
end
local marker = redis.call('HGET', KEYS[8], user)
if marker and not before(marker, id) then
    return {'ok', marker}
end
redis.call('HSET', KEYS[8], user, id)
redis.call('EXPIRE', KEYS[8], ARGV[7])
if redis.call('HLEN', KEYS[8]) <= tonumber(ARGV[8]) then
    redis.call('SET', KEYS[9], 0, 'NX', 'PX', ARGV[10])
    if redis.call('INCR', KEYS[9]) <= tonumber(ARGV[9]) then
        whisper(ARGV[6])
    end
end
return {'ok', id}
