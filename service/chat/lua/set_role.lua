-- Give a user another role.
--
-- ARGV[5]  the user
-- ARGV[6]  "owner", "moderator" or "member"
--
-- Answers {"ok"}. Only owners get here, so nobody gives a role above their own.
local refusal = beneath(2, ARGV[5])
if refusal then
    return refusal
end
if ARGV[6] == 'member' then
    redis.call('HDEL', KEYS[2], 'role:' .. ARGV[5])
else
    redis.call('HSET', KEYS[2], 'role:' .. ARGV[5], ARGV[6])
end
audit('set_role', ARGV[5], '', ARGV[6])
return {'ok'}
