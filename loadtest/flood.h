/* A hostile client: tiny frames, as many as its socket takes. */
#ifndef LOADTEST_FLOOD_H
#define LOADTEST_FLOOD_H

#include "client.h"
#include "frames.h"
#include "tally.h"

/* As much as the socket takes of `{}`, the smallest message that means something: 33,000 in 256 KiB. */
static void flood(struct client *c) {
    static char tiny[1 << 16];
    if (!tiny[0])
        for (size_t at = 0; at + 8 <= sizeof tiny; at += 8)
            frame_put(tiny + at, OP_TEXT, "{}", 2);
    ssize_t n = send(c->fd, tiny + c->flooded, sizeof tiny - c->flooded, MSG_NOSIGNAL);
    if (n > 0) {
        tally.flood_bytes += (uint64_t)n;
        c->flooded = (c->flooded + (size_t)n) % 8;
    }
}

#endif
