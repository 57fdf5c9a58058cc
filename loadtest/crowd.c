/* A crowd of WebSocket clients in one thread: connects, subscribes, reads, counts, measures.
 *
 *   crowd --port P --connections N --prefix bench:c --channels C --each E …
 *
 * Every client connects and subscribes in its first frame, as the official JavaScript SDK does, and
 * answers pings. Delivery latency is the present instant minus the one in the payload ("t", see
 * common.h). Events are lines of JSON on stdout: {"event":"ready"} once all clients are subscribed
 * (or refused), then one line for each command read from stdin:
 *
 *   expect N SECONDS   reports when N publications have arrived since the last reset, or it is late
 *   report             reports at once
 *   reset              starts counting afresh
 *   stick K            the first K clients stop reading; a stuck client that is closed comes back after
 *                      0.5 to 1 s, as the SDKs do
 *   flood K            the first K clients send tiny frames at full speed; they come back at once
 *   talk R N M         publish N messages, R a second, from one client after the other, each in its (first)
 *                      channel, which has M readers
 *   quit               so does the end of stdin */
#define _GNU_SOURCE
#include "channels.h"
#include "client.h"
#include "common.h"
#include "console.h"
#include "flood.h"
#include "frames.h"
#include "net.h"
#include "retry.h"
#include "script.h"
#include "talk.h"
#include "tally.h"

static long port, connections = 1, concurrency = 100, raw, patient, probe_ms, rest_us, sources = 1;
static struct plan plan = {.prefix = "bench:c", .count = 1, .each = 1};
static const char *path = "/connection/websocket", *commands;

static const struct option_of options[] = {
    {"--port", &port, NULL},
    {"--connections", &connections, NULL},
    {"--concurrency", &concurrency, NULL}, /* clients that connect at a time */
    {"--prefix", NULL, &plan.prefix},
    {"--channels", &plan.count, NULL},  /* prefix0 … prefix<C-1> */
    {"--each", &plan.each, NULL},       /* subscriptions of one client; 0: it only connects */
    {"--scatter", &plan.scatter, NULL}, /* 0: client i takes the next `each`; 1: any, the same in every run */
    {"--commands", NULL, &commands},    /* a file with 1 + `each` commands a client, instead of those made here */
    {"--patient", &patient, NULL},      /* 1: who is refused with 503 comes again when it was told to */
    {"--raw", &raw, NULL},              /* 1: no handshake, for bare_send */
    {"--rest-us", &rest_us, NULL},      /* look at the sockets no more often; else whenever one has something */
    {"--probe-ms", &probe_ms, NULL},    /* client 0 sends a WebSocket ping so often, and times the pong */
    {"--sources", &sources, NULL},      /* local addresses, as one has ports for about 28,000 connections */
    {"--path", NULL, &path},
    {NULL, NULL, NULL},
};

static long started, pending, opened, refused, away;
static int64_t started_at;
static bool ready_told;

/* The one `expect` under way; 0: none. */
static uint64_t expected;
static int64_t expect_until;

static char *buffer;
#define BUFFER_SIZE (1 << 20) /* an incomplete frame, and what is read behind it */
#define READ_SIZE (1 << 16)

/* Begin to connect; the rest happens in the loop. */
static void start(struct client *c) {
    c->fd = dial(port, (uint32_t)((c - clients) % sources), false);
    c->state = CONNECTING;
    watch(c, EPOLL_CTL_ADD);
    pending++;
}

/* Connect again after so many microseconds. */
static void rest(struct client *c, int64_t wait) {
    c->state = AWAY;
    c->back_at = now_us() + wait;
    away++;
}

static void return_all(int64_t now) {
    static int64_t looked_at; /* all are looked through, so not in every round */
    if (now < looked_at + 5000)
        return;
    looked_at = now;
    for (long i = 0; away && i < connections; i++) {
        if (clients[i].state == AWAY && clients[i].back_at <= now)
            away--, start(&clients[i]);
    }
}

/* Keep `concurrency` clients connecting; tell once, when all are through. */
static void start_more(void) {
    while (pending < concurrency && started < connections)
        start(&clients[started++]);
    if (!ready_told && opened + refused == connections) {
        ready_told = true;
        tally_ready(opened, refused, (double)(now_us() - started_at) / 1e6);
    }
}

static void report(const char *event) {
    long alive = 0;
    for (long i = 0; i < connections; i++)
        alive += clients[i].state == OPEN;
    tally_print(event, alive, refused);
}

static void settle(struct client *c, bool good) {
    pending--;
    if (good) {
        opened++;
        c->state = OPEN;
        watch(c, EPOLL_CTL_MOD);
    } else {
        refused++;
    }
    start_more();
}

static void closed(struct client *c, int code) {
    enum state before = c->state;
    hang_up(c);
    c->state = CLOSED;
    tally.closed[code > 0 && code < CLOSE_CODES ? code : 0]++;
    if (before != OPEN) {
        settle(c, false);
        return;
    }
    opened--;
    if (c->stuck || c->flooding) {
        tally.returned++;
        c->flooding ? start(c) : rest(c, 500000 + random() % 500000); /* as SDKs do */
    } else if (!ready_told) { /* or all would wait for it */
        refused++;
        start_more();
    }
}

static void join(struct client *c) {
    static char text[65535], frame[sizeof text + 8];
    const char *said = text;
    size_t length;
    if (commands)
        said = script_of(c - clients, &length);
    else
        length = plan_commands(&plan, c - clients, text, sizeof text);
    if (length > sizeof text)
        die("the commands of client %ld do not fit in one message of %zu bytes", (long)(c - clients), sizeof text);
    c->replies_due = (int)plan.each + 1;
    c->state = JOINING;
    transmit(c, frame, frame_put(frame, OP_TEXT, said, length));
}

/* One JSON object of a text frame. */
static void on_object(struct client *c, const char *at, size_t length, int64_t now) {
    const char *found = memmem(at, length, "\"pub\":", 6);
    if (found) {
        if (c->stuck || c->flooding) /* hostile clients are not part of the measurement */
            return;
        const char *stamp = memmem(found, length - (size_t)(found - at), "\"t\":", 4);
        tally.publications++;
        if (stamp) {
            char *after;
            int64_t latency = now - strtoll(stamp + 4, &after, 10);
            histogram_add(&tally.latency, latency);
            if (talk.sent)
                talk_read(after, latency);
        }
    } else if (length == 2) {
        char pong[16];
        transmit(c, pong, frame_put(pong, OP_TEXT, "{}", 2));
    } else if (length > 6 && memcmp(at, "{\"id\":", 6) == 0) {
        if (memmem(at, length, "\"error\":", 8)) {
            tally.reply_errors++;
            tally_problem(at, length);
        }
        if (c->state == JOINING && memcmp(at, "{\"id\":1,", 8) == 0)
            histogram_add(&tally.connect, now - c->asked_at);
        if (--c->replies_due == 0 && c->state == JOINING) {
            histogram_add(&tally.joined, now - c->asked_at);
            histogram_add(&tally.in, now - started_at);
            settle(c, true);
        }
    }
}

/* Returns false where the frame closed the client. */
static bool on_frame(struct client *c, const struct frame *f, int64_t now) {
    if (f->opcode == OP_CLOSE) {
        const unsigned char *code = (const unsigned char *)f->payload;
        if (f->length > 2)
            tally_problem(f->payload + 2, f->length - 2);
        closed(c, f->length >= 2 ? code[0] << 8 | code[1] : 0);
        return false;
    }
    if (f->opcode == OP_PONG && f->length == 8) {
        int64_t sent;
        memcpy(&sent, f->payload, 8);
        histogram_add(&tally.echo, now - sent);
    } else if (f->opcode == OP_PING) {
        char pong[256];
        transmit(c, pong, frame_put(pong, OP_PONG, f->payload, f->length));
    } else if (f->opcode <= OP_TEXT) {
        const char *at = f->payload, *end = at + f->length;
        tally.frames++;
        while (at < end) {
            const char *line_end = memchr(at, '\n', (size_t)(end - at));
            if (!line_end)
                line_end = end;
            on_object(c, at, (size_t)(line_end - at), now);
            at = line_end + 1;
        }
    }
    return true;
}

/* The answer to the upgrade request. Returns its size, 0 for more to come; a refusal closes the client, or
 * sends it away for a while. */
static size_t on_handshake(struct client *c, const char *at, size_t length) {
    const char *end = memmem(at, length, "\r\n\r\n", 4);
    if (!end)
        return 0;
    int64_t wait = patient ? retry_after(at, (size_t)(end - at) + 4) : 0;
    if (wait) {
        tally.turned_away++;
        pending--;
        hang_up(c);
        rest(c, wait);
        return 0;
    }
    if (memcmp(at, "HTTP/1.1 101", 12) != 0) {
        tally_problem(at, (size_t)((const char *)memchr(at, '\r', length) - at));
        closed(c, 0);
        return 0;
    }
    join(c);
    return (size_t)(end - at) + 4;
}

static void on_readable(struct client *c) {
    size_t have = c->rest_size, used = 0;
    if (have)
        memcpy(buffer, c->rest, have);
    if (have + READ_SIZE > BUFFER_SIZE)
        die("a frame of more than %d bytes", BUFFER_SIZE - READ_SIZE);
    ssize_t n = recv(c->fd, buffer + have, READ_SIZE, 0);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN)
            closed(c, 0);
        return;
    }
    int64_t now = now_us();
    tally.bytes += (uint64_t)n;
    have += (size_t)n;
    if (c->state == HANDSHAKE) {
        used = on_handshake(c, buffer, have);
        if (c->state != HANDSHAKE && c->state != JOINING)
            return;
    }
    struct frame f;
    size_t size;
    while (c->state != HANDSHAKE && (size = frame_take(buffer + used, have - used, &f))) {
        used += size;
        if (!on_frame(c, &f, now))
            return;
    }
    size_t left = have - used;
    if (left != c->rest_size || left == 0) {
        free(c->rest);
        c->rest = left ? malloc(left) : NULL;
    }
    if (left)
        memcpy(c->rest, buffer + used, left);
    c->rest_size = left;
}

static void on_connected(struct client *c) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        tally_problem(strerror(error), strlen(strerror(error)));
        closed(c, 0);
    } else if (raw) {
        settle(c, true);
    } else {
        char request[512];
        int length = snprintf(request, sizeof request,
                              "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%ld\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                              "Sec-WebSocket-Key: c3RyZWFtZ2F0ZSBjcm93ZA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                              path, port);
        c->state = HANDSHAKE;
        c->asked_at = now_us();
        transmit(c, request, (size_t)length);
        watch(c, EPOLL_CTL_MOD);
    }
}

static void on_command(const char *line) {
    long number;
    long count, members;
    double seconds;
    if (sscanf(line, "expect %ld %lf", &number, &seconds) == 2) {
        expected = (uint64_t)number;
        expect_until = now_us() + (int64_t)(seconds * 1e6);
    } else if (strcmp(line, "reset") == 0) {
        memset(&tally, 0, sizeof tally);
        report("reset");
    } else if (strcmp(line, "report") == 0) {
        report("report");
    } else if (sscanf(line, "stick %ld", &number) == 1 || sscanf(line, "flood %ld", &number) == 1) {
        for (long i = 0; i < connections; i++) {
            *(line[0] == 's' ? &clients[i].stuck : &clients[i].flooding) = i < number;
            if (clients[i].state == OPEN)
                watch(&clients[i], EPOLL_CTL_MOD);
        }
        report("done");
    } else if (sscanf(line, "talk %ld %ld %ld", &number, &count, &members) == 3 && plan.each) {
        talk_begin(number, count, members);
    } else if (strcmp(line, "quit") == 0) {
        exit(0);
    } else {
        die("unknown command: %s", line);
    }
}

static void on_event(struct client *c, uint32_t events) {
    if (c->state == CLOSED || c->state == AWAY)
        return;
    if (c->state == CONNECTING) {
        on_connected(c);
        return;
    }
    if (c->stuck && c->state == OPEN) {
        if (events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP))
            closed(c, 0);
        return;
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP))
        on_readable(c);
    if (events & EPOLLOUT && c->flooding && c->state == OPEN)
        flood(c);
}

int main(int argc, char **argv) {
    read_options(argc, argv, options);
    if (plan.each > plan.count || port <= 0 || sources < 1)
        die("--each is at most --channels, --sources at least 1, and --port is needed");
    raise_open_files();
    if (commands)
        script_read(commands, connections, plan.each + 1);
    clients = calloc((size_t)connections, sizeof *clients);
    buffer = malloc(BUFFER_SIZE);
    poller = epoll_create1(0);
    const uint64_t console = (uint64_t)-1;
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = console}, events[256];
    epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &event);
    started_at = now_us();
    int64_t probe_at = started_at;
    start_more();
    for (;;) {
        int64_t now = now_us(), wait = 1000;
        if (probe_ms) {
            if (now >= probe_at && clients[0].state == OPEN) {
                char ping[32];
                transmit(&clients[0], ping, frame_put(ping, OP_PING, (const char *)&now, 8));
                probe_at += probe_ms * 1000;
                if (probe_at < now) /* the first ping, or this process was held up */
                    probe_at = now + probe_ms * 1000;
            }
            wait = clients[0].state == OPEN ? (probe_at - now + 999) / 1000 : probe_ms;
        }
        if (expected && (tally.publications >= expected || now > expect_until)) {
            report("counted");
            expected = 0;
        } else if (expected && wait > 100) {
            wait = 100;
        }
        if (away) {
            return_all(now);
            wait = wait < 10 ? wait : 10;
        }
        if (talk.sent < talk.count) {
            talk_on(&plan, connections, now);
            wait = wait < 1 ? wait : 1;
        }
        if (rest_us) /* asleep, but not on the sockets: who writes to them need not wake us */
            usleep((useconds_t)rest_us);
        int n = epoll_wait(poller, events, 256, wait > 0 ? (int)wait : 0);
        for (int i = 0; i < n; i++) {
            if (events[i].data.u64 == console)
                console_read(on_command);
            else
                on_event(&clients[events[i].data.u64], events[i].events);
        }
    }
}
