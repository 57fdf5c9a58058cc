-- What stands before every script of a room but send.lua: who acts, and what they may.
--
-- KEYS[1]  the stream
-- KEYS[2]  the room (hash): title, topic, slow (seconds), role:<user>
-- KEYS[3]  bans (sorted set): user to the ms at which it ends
-- KEYS[4]  mutes (the same)
-- KEYS[5]  what moderators have done (stream)
-- KEYS[6]  pinned messages (hash): id to fields, a JSON list
-- KEYS[7]  the stream of what is over at once
-- ARGV[1]  the user; "": anonymous
-- ARGV[2]  `_info`
-- ARGV[3]  "1": above all roles
-- ARGV[4]  entries that the stream keeps, about; "0": any number
--
-- Scripts answer a list that begins with "ok", or with a refusal: "denied", "absent" or "full" and a text;
-- "banned" or "muted" and when that ends.
local user = ARGV[1]
local RANKS = {moderator = 1, owner = 2}

local function rank_of(who)
    return RANKS[redis.call('HGET', KEYS[2], 'role:' .. who)] or 0
end

local rank = ARGV[3] == '1' and 3 or rank_of(user)

local function now()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A refusal for the banned, and where it matters for the muted; nil: neither.
local function barred(muted_too)
    if rank == 3 then
        return nil
    end
    local banned = tonumber(redis.call('ZSCORE', KEYS[3], user) or 0)
    if banned > now() then
        return {'banned', banned}
    end
    local muted = muted_too and tonumber(redis.call('ZSCORE', KEYS[4], user) or 0) or 0
    if muted > now() then
        return {'muted', muted}
    end
end

-- A refusal for who is not as high as `least`, or, if there is a target, not above it; nil: go on.
local function beneath(least, target)
    local refusal = barred()
    if refusal then
        return refusal
    elseif rank < least then
        return {'denied', 'only ' .. (least == 1 and 'moderators' or 'owners') .. ' of the room may do this'}
    elseif target and target == user then
        return {'denied', 'nobody does this to themselves'}
    elseif target and rank_of(target) >= rank then
        return {'denied', 'only somebody of a higher role may do this to a moderator or owner'}
    end
end

-- Append an event, and delete the entries that it makes void; returns its id.
local function emit(data, void)
    local command = {'XADD', KEYS[1]}
    local function add(...)
        for _, word in ipairs({...}) do
            command[#command + 1] = word
        end
    end
    if ARGV[4] ~= '0' then
        add('MAXLEN', '~', ARGV[4])
    end
    add('*', 'data', data, '_info', ARGV[2])
    if void and #void > 0 then
        add('_drop', table.concat(void, ' '))
        redis.call('XDEL', KEYS[1], unpack(void))
    end
    return redis.call(unpack(command))
end

-- Tell those who are there now.
local function whisper(data)
    redis.call('XADD', KEYS[7], 'MAXLEN', '~', 100, '*', 'data', data, '_info', ARGV[2])
    redis.call('EXPIRE', KEYS[7], 600)
end

-- Write down what a moderator has done; `till`: the ms at which it ends, `change`: JSON, where there is such.
local function audit(what, whom, id, reason, till, change)
    redis.call('XADD', KEYS[5], 'MAXLEN', '~', 10000, '*',
        'who', user, 'what', what, 'whom', whom, 'id', id, 'reason', reason,
        'until', till or '', 'change', change or '')
end
