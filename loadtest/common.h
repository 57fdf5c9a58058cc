/* What the three programs of the benchmark share: clock, errors, limits, options, reporting.
 *
 * They are written in C because the machine that runs the node also runs its load: whatever the
 * load side spends, the node cannot have. All of them exit when their stdin ends, so none of them
 * outlives the benchmark. */
#ifndef LOADTEST_COMMON_H
#define LOADTEST_COMMON_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

/* One clock for all processes of the machine: a producer stamps with it, a reader subtracts. */
static inline int64_t now_us(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* CPU time of this process: user and system, in nanoseconds. */
static inline int64_t cpu_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

__attribute__((noreturn, format(printf, 1, 2))) static inline void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

/* As many open files as the hard limit allows. */
static inline void raise_open_files(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* Sleep until an instant of now_us(): absolute, so that a late round does not delay the next ones. */
static inline void sleep_until(int64_t us) {
    struct timespec ts = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR) {
    }
}

/* Options are `--name value` pairs. Each program lists its own; a name that is not listed is an error. */
struct option_of {
    const char *name;
    long *number; /* one of the two is set */
    const char **text;
};

static inline void read_options(int argc, char **argv, const struct option_of *options) {
    for (int i = 1; i < argc; i += 2) {
        const struct option_of *o = options;
        while (o->name && strcmp(argv[i], o->name) != 0)
            o++;
        if (!o->name || i + 1 == argc)
            die("%s: unknown option, or one without a value: %s", argv[0], argv[i]);
        if (o->number) {
            char *end;
            *o->number = strtol(argv[i + 1], &end, 10);
            if (*end || end == argv[i + 1])
                die("%s: %s: not a whole number: %s", argv[0], argv[i], argv[i + 1]);
        } else {
            *o->text = argv[i + 1];
        }
    }
}

/* Write the payload that producers send: `bytes` of JSON that begins with the instant of sending. */
static inline void write_payload(char *to, size_t bytes, int64_t number) {
    int head = snprintf(to, bytes, "{\"t\":%lld,\"n\":%lld,\"x\":\"", (long long)now_us(), (long long)number);
    if (head < 0 || (size_t)head + 2 > bytes)
        die("a payload needs at least 64 bytes, not %zu", bytes);
    memset(to + head, 'x', bytes - (size_t)head - 2);
    memcpy(to + bytes - 2, "\"}", 2);
}

#endif
