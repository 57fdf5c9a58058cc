-- Mute or ban a user, or end that.
--
-- ARGV[5]  "mute", "unmute", "ban" or "unban"
-- ARGV[6]  the user
-- ARGV[7]  ms for which it lasts; "0": for ever
-- ARGV[8]  the reason
-- ARGV[9]  the ms that stand for ever
--
-- Answers {"ok", the ms at which it ends}; 0: it has ended.
local what, target = ARGV[5], ARGV[6]
local refusal = beneath(1, target)
if refusal then
    return refusal
end
local key = what:find('ban') and KEYS[3] or KEYS[4]
local time = now()
redis.call('ZREMRANGEBYSCORE', key, '-inf', time) -- what has ended leaves nothing behind
local till = 0
if what:find('^un') then
    redis.call('ZREM', key, target)
else
    till = ARGV[7] == '0' and tonumber(ARGV[9]) or time + ARGV[7]
    redis.call('ZADD', key, till, target)
end
audit(what, target, '', ARGV[8], till > 0 and string.format('%.0f', till))
return {'ok', till}
