"""Pure fan-out: channels, subscriptions, windows, outboxes. No Redis, no sockets."""
