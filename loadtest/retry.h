/* When a client that a node refused for want of room comes again. */
#ifndef LOADTEST_RETRY_H
#define LOADTEST_RETRY_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Microseconds that the answer to an upgrade request asks for, and up to a second more at random, as the
 * SDKs do. 0: the answer is no 503 with Retry-After. `length` ends behind the headers. */
static int64_t retry_after(const char *answer, size_t length) {
    static const char status[] = "HTTP/1.1 503", name[] = "\r\nretry-after: ";
    if (length < sizeof status || memcmp(answer, status, sizeof status - 1) != 0)
        return 0;
    for (const char *at = answer; at + sizeof name <= answer + length; at++)
        if (strncasecmp(at, name, sizeof name - 1) == 0)
            return strtoll(at + sizeof name - 1, NULL, 10) * 1000000 + random() % 1000000;
    return 0;
}

#endif
