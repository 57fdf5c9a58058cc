-- A node goes: it is dead a given time from now, not a whole period of silence after its last heartbeat.
--
-- KEYS[1]  sorted set: node -> ms of its last heartbeat
-- ARGV[1]  the node
-- ARGV[2]  ms after which it is dead
-- ARGV[3]  ms of silence that make a node dead
local time = redis.call('TIME')
local heard = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2] - ARGV[3]
redis.call('ZADD', KEYS[1], 'XX', string.format('%.0f', heard), ARGV[1])
