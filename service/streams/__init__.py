"""All that talks to Redis: connections, the tail, publishing, history, trimming."""
