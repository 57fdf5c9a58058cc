/* Which channels a client subscribes to, and how it says so. */
#ifndef LOADTEST_CHANNELS_H
#define LOADTEST_CHANNELS_H

#include "common.h"

struct plan {
    const char *prefix; /* channels are prefix0 … prefix<count - 1> */
    long count, each;
    long scatter; /* 1: any channels, by a shuffle that is the same in every run; 0: the next `each` */
};

/* Take `each` different channels for client `who`. */
static inline void plan_choose(const struct plan *plan, long who, long *chosen) {
    if (!plan->scatter) {
        for (long k = 0; k < plan->each; k++)
            chosen[k] = (who * plan->each + k) % plan->count;
        return;
    }
    static long *deck;
    if (!deck)
        deck = malloc((size_t)plan->count * sizeof *deck);
    uint64_t random = (uint64_t)who * 0x9e3779b97f4a7c15u + 1;
    for (long k = 0; k < plan->count; k++)
        deck[k] = k;
    for (long k = 0; k < plan->each; k++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        long other = k + (long)((random >> 33) % (uint64_t)(plan->count - k));
        chosen[k] = deck[other];
        deck[other] = deck[k];
    }
}

/* Write the connect and all subscribe commands of a client, one a line. Returns their size. */
static inline size_t plan_commands(const struct plan *plan, long who, char *text, size_t room) {
    long chosen[plan->each + 1];
    size_t length = (size_t)snprintf(text, room, "{\"id\":1,\"connect\":{}}");
    plan_choose(plan, who, chosen);
    for (long k = 0; k < plan->each; k++) {
        if (length + strlen(plan->prefix) + 80 > room)
            die("%ld subscribe commands do not fit in one message of %zu bytes", plan->each, room);
        length += (size_t)snprintf(text + length, room - length, "\n{\"id\":%ld,\"subscribe\":{\"channel\":\"%s%ld\"}}",
                                   k + 2, plan->prefix, chosen[k]);
    }
    return length;
}

#endif
