-- A node says that it lives, and hears who else does.
--
-- KEYS[1]  sorted set: node -> ms of its last heartbeat
-- ARGV[1]  the node
-- ARGV[2]  1: it is new here; else it is taken in only if nobody has struck it off
-- ARGV[3]  ms: strike off who has been silent for so long; 0: the node has not listened for long enough
-- ARGV[4]  seconds that the set outlives its last node
--
-- Returns the nodes that live. A node that was struck off never comes back under the same name, so
-- that whoever does not find a name here may remove what it left behind.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[3] ~= '0' then
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%.0f', now - ARGV[3]))
end
if ARGV[2] == '1' or redis.call('ZSCORE', KEYS[1], ARGV[1]) then
    redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
end
redis.call('EXPIRE', KEYS[1], ARGV[4])
return redis.call('ZRANGE', KEYS[1], 0, -1)
