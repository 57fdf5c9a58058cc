-- Clients of one node come to a channel and go; subscribers are told.
--
-- KEYS[1]  hash: node -> its clients in the channel, a number
-- KEYS[2]  hash: user -> clients in the channel on all nodes, a number
-- KEYS[3]  hash: the node's clients in the channel -> value (see below)
-- KEYS[4]  hash: at, the ms of the last summary; joined, left: what the next one tells
-- KEYS[5]  the live stream, which tells subscribers
-- ARGV[1]  the node
-- ARGV[2]  seconds that keys are kept
-- ARGV[3]  users above which summaries take the place of joins and leaves
-- ARGV[4]  ms between two summaries
-- ARGV[5]  so many go, whichever they are: the node is dead
-- ARGV[6]  how many come: so many pairs of client and value follow, and then the clients that go
--
-- A value is what presence shows of the client, a NUL, 1 or 0 (whether subscribers are told), the user.
-- Returns how many clients the node has, the ms until a summary is due (0: none is), and the
-- channel's nodes, the latter if nothing was to be done or the node had no client here before.
--
-- Each change counts only where it makes a difference, so what may or may not have been done can be
-- done again. Those who come are counted first: a user who changes clients neither joins nor leaves.
local nodes, users, members, summary, live = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local before = redis.call('HLEN', users)
local is_first = redis.call('EXISTS', members) == 0
local told = {}

local function tell(field, value, nul)
    if value:byte(nul + 1) == 49 then
        told[#told + 1] = {field, value:sub(1, nul - 1)}
    end
end

local function go(client)
    local value = redis.call('HGET', members, client)
    if not value then
        return
    end
    redis.call('HDEL', members, client)
    local nul = value:find('\0', 1, true)
    local user = value:sub(nul + 2)
    if redis.call('HINCRBY', users, user, -1) <= 0 then
        redis.call('HDEL', users, user)
        tell('_leave', value, nul)
    end
end

local last = 6 + 2 * ARGV[6]
for i = 7, last, 2 do
    local value = ARGV[i + 1]
    if redis.call('HSET', members, ARGV[i], value) == 1 then
        local nul = value:find('\0', 1, true)
        if redis.call('HINCRBY', users, value:sub(nul + 2), 1) == 1 then
            tell('_join', value, nul)
        end
    end
end
for i = last + 1, #ARGV do
    go(ARGV[i])
end
if ARGV[5] ~= '0' then
    for _, client in ipairs(redis.call('HRANDFIELD', members, ARGV[5])) do
        go(client)
    end
end

local size = redis.call('HLEN', members)
if size == 0 then
    redis.call('HDEL', nodes, ARGV[1])
else
    redis.call('HSET', nodes, ARGV[1], size)
    redis.call('EXPIRE', members, ARGV[2])
end
redis.call('EXPIRE', nodes, ARGV[2])
redis.call('EXPIRE', users, ARGV[2])

local function publish(field, value)
    redis.call('XADD', live, 'MAXLEN', '~', 100, '*', field, value)
    redis.call('EXPIRE', live, 600)
end

local count = redis.call('HLEN', users)
if math.max(before, count) <= tonumber(ARGV[3]) then
    for _, event in ipairs(told) do
        publish(event[1], event[2])
    end
else
    local joined = 0
    for _, event in ipairs(told) do
        joined = joined + (event[1] == '_join' and 1 or 0)
    end
    if #told > 0 then
        redis.call('HINCRBY', summary, 'joined', joined)
        redis.call('HINCRBY', summary, 'left', #told - joined)
        redis.call('EXPIRE', summary, ARGV[2])
    end
end

local wait = 0
local due = redis.call('HMGET', summary, 'joined', 'left', 'at')
if due[1] and due[1] + due[2] > 0 then
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    wait = (due[3] or 0) + ARGV[4] - now
    if wait <= 0 or wait > tonumber(ARGV[4]) then -- the latter: the clock was set back
        wait = 0
        local clients = 0
        for _, number in ipairs(redis.call('HVALS', nodes)) do
            clients = clients + number
        end
        publish('data', string.format(
            '{"type":"presence","clients":%d,"users":%d,"joined":%d,"left":%d}',
            clients, count, due[1], due[2]))
        redis.call('HSET', summary, 'joined', 0, 'left', 0, 'at', string.format('%.0f', now))
    end
end

local quiet = #ARGV == 6 and ARGV[5] == '0'
return {size, wait, (is_first or quiet) and redis.call('HKEYS', nodes) or {}}
