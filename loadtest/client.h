/* A client of the crowd: its state, and its socket. */
#ifndef LOADTEST_CLIENT_H
#define LOADTEST_CLIENT_H

#include "common.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum state { CLOSED, AWAY, CONNECTING, HANDSHAKE, JOINING, OPEN };

struct client {
    int fd;
    enum state state;
    int replies_due;
    bool stuck, flooding;
    int64_t back_at;  /* when AWAY */
    int64_t asked_at; /* when it sent the upgrade request */
    size_t flooded;   /* bytes sent of the flood, modulo one frame: a frame may be cut by a full buffer */
    char *rest;       /* an incomplete frame; most clients have none, most of the time */
    size_t rest_size;
};

static struct client *clients;
static int poller;

static void watch(struct client *c, int operation) {
    uint32_t events = EPOLLRDHUP;
    if (c->state == CONNECTING)
        events |= EPOLLOUT;
    else if (!(c->stuck && c->state == OPEN))
        events |= EPOLLIN;
    if (c->flooding && c->state == OPEN)
        events |= EPOLLOUT;
    struct epoll_event event = {.events = events, .data.u64 = (uint64_t)(c - clients)};
    epoll_ctl(poller, operation, c->fd, &event);
}

static void transmit(struct client *c, const char *data, size_t length) {
    if (send(c->fd, data, length, MSG_NOSIGNAL) != (ssize_t)length && errno != EPIPE && errno != ECONNRESET)
        die("client %ld: cannot send: %s", (long)(c - clients), strerror(errno));
}

/* Leave the socket, and what has come of it. */
static void hang_up(struct client *c) {
    close(c->fd);
    free(c->rest);
    c->rest = NULL;
    c->rest_size = c->flooded = 0;
}

#endif
