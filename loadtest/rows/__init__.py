"""The rows of the benchmark, in the order in which they are run and printed."""

from loadtest.bench import Row
from loadtest.rows import chat, cost, fanout, identity, stall

ROWS = (
    Row("delivery", "one channel, 1,000 subscribers, 130 B: CPU per delivery", fanout.delivery),
    Row("batch", "1,000 subscribers of 20 of 100 channels: CPU per message, gathered", fanout.batch),
    Row("loop", "10,000 subscribers: the longest delay of the event loop", stall.loop),
    Row("flood", "one flooding client among 1,000: the same delay", stall.flood),
    Row("slow", "100 of 1,000 do not read: latency of the others, memory", stall.slow),
    Row("memory", "5,000 idle connections: memory of each", cost.memory),
    Row("redis", "10,000 followed channels against 100: CPU of Redis", cost.redis),
    Row("latency", "200 messages/s, 10 subscribers: XADD to client", cost.latency),
    Row("connect", "100 clients connect at a time: CPU of connect and subscribe", cost.connect),
    Row("chat", "5,000 clients in rooms of 10: messages/s, latency to everyone", chat.chat),
    Row("token", "CPU of checking a token", identity.token),
    Row("storm", "10,000 clients with tokens reconnect at once: until all are in", identity.storm),
)
