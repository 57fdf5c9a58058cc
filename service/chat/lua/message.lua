-- What stands, after room.lua, before every script about one message.
--
-- KEYS[8]   what became of it (hash): content (JSON), by, edits (ids of the events)
-- KEYS[9]   its reactions (hash): key to count
-- KEYS[10]  who reacted (set): key, line feed, user
-- KEYS[11]  ids of the events of its reactions that are in the stream (list)
-- ARGV[5]   its id
-- ARGV[6]   seconds that these keys outlive their last change
local id = ARGV[5]

local RESERVED = {_info = true, _tags = true, _drop = true}

local function object(json)
    local fine, value = pcall(cjson.decode, json)
    return fine and json:find('^%s*{') and value or nil
end

-- The author of the message ("": nobody known) and its fields; nil where there is no such message.
-- service/chat/history.py, `decode`, tells the same in Python.
local function find()
    local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
    if not entry then
        return nil
    end
    local fields, flat, info = {}, false, nil
    for at = 1, #entry[2], 2 do
        local name, value = entry[2][at], entry[2][at + 1]
        if name == '_info' then
            info = object(value)
        elseif not RESERVED[name] then
            fields[name] = value
            flat = flat or name ~= 'data'
        end
    end
    local said = flat and fields or fields.data and object(fields.data)
    if not said or said.type ~= nil and said.type ~= 'message' then
        return nil
    end
    local author = (info or said).user
    return type(author) == 'string' and author or '', entry[2]
end

local ABSENT = {'absent', 'there is no message ' .. id}

-- The author of the message; nil and a refusal where it is not there, or not for whoever acts to do this with.
local function own(what)
    local author = find()
    if not author then
        return nil, ABSENT
    end
    if rank == 0 and author ~= user then
        return nil, {'denied', 'only its author or a moderator may ' .. what .. ' a message'}
    end
    return author
end

-- What stands beside a pinned message lasts as long as the pin; the rest must not outlive the stream.
local function keep()
    local pinned = redis.call('HEXISTS', KEYS[6], id) == 1
    for at = 8, 11 do
        if pinned then
            redis.call('PERSIST', KEYS[at])
        else
            redis.call('EXPIRE', KEYS[at], ARGV[6])
        end
    end
end
