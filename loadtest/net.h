/* Connections to loopback. */
#ifndef LOADTEST_NET_H
#define LOADTEST_NET_H

#include "common.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

/* Connect to a port of 127.0.0.1, from 127.0.0.<1 + source>. A non-blocking one is still connecting
 * when this returns. */
static inline int dial(long port, uint32_t source, bool blocking) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | (blocking ? 0 : SOCK_NONBLOCK), 0);
    struct sockaddr_in address = {.sin_family = AF_INET};
    if (fd < 0)
        die("socket: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (source) {
        /* The port is chosen by connect(), so that it may be in use towards other addresses. */
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + source);
        if (bind(fd, (struct sockaddr *)&address, sizeof address))
            die("cannot bind 127.0.0.%u: %s", 1 + source, strerror(errno));
    }
    address.sin_port = htons((uint16_t)port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        die("cannot connect to port %ld: %s", port, strerror(errno));
    return fd;
}

#endif
