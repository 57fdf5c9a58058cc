/* A conversation: clients publish in turn, and every message is counted by those who have read it. */
#ifndef LOADTEST_TALK_H
#define LOADTEST_TALK_H

#include "channels.h"
#include "client.h"
#include "common.h"
#include "frames.h"
#include "tally.h"

#define TALK_MOST 1000000 /* messages of one conversation */
#define TALK_BYTES 130    /* of a message's body, as of other payloads */

static struct {
    long rate, count; /* messages a second, and in all */
    long members;     /* who read each */
    long sent;
    int64_t began_at;
    unsigned char *readers; /* by message: how many have read it */
} talk;

static void talk_begin(long rate, long count, long members) {
    if (rate < 1 || count < 1 || count > TALK_MOST || members < 1 || members > 255)
        die("a talk has up to %d messages and 255 members", TALK_MOST);
    free(talk.readers);
    talk.readers = calloc((size_t)count, 1);
    talk.rate = rate;
    talk.count = count;
    talk.members = members;
    talk.sent = 0;
    talk.began_at = now_us();
}

static bool talk_due(int64_t now) {
    return talk.sent < talk.count && now >= talk.began_at + talk.sent * 1000000 / talk.rate;
}

/* Write the command that publishes the next message. Returns its size. */
static size_t talk_command(char *text, size_t room, const char *prefix, long channel) {
    char body[TALK_BYTES];
    write_payload(body, sizeof body, talk.sent++);
    return (size_t)snprintf(text, room,
                            "{\"id\":%ld,\"publish\":{\"channel\":\"%s%ld\",\"data\":{\"body\":%.*s}}}",
                            1000 + talk.sent, prefix, channel, TALK_BYTES, body);
}

/* Publish what is due, one client after the other, each in its first channel. */
static void talk_on(const struct plan *plan, long clients_in_all, int64_t now) {
    char text[512], frame[sizeof text + 8];
    while (talk_due(now)) {
        struct client *c = &clients[talk.sent % clients_in_all];
        long chosen[plan->each];
        plan_choose(plan, c - clients, chosen);
        size_t length = talk_command(text, sizeof text, plan->prefix, chosen[0]);
        if (c->state == OPEN)
            transmit(c, frame, frame_put(frame, OP_TEXT, text, length));
    }
}

/* Somebody has read a message, `latency` after it was sent; `after` is what follows the stamp in its body. */
static void talk_read(const char *after, int64_t latency) {
    long number = strncmp(after, ",\"n\":", 5) == 0 ? strtol(after + 5, NULL, 10) : -1;
    if (number >= 0 && number < talk.sent && ++talk.readers[number] == talk.members)
        histogram_add(&tally.everyone, latency);
}

#endif
