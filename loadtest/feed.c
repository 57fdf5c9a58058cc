/* A producer: plain XADD at an even pace, as any feed would write.
 *
 *   feed --port REDIS --prefix bench:c --channels C --rate R --count M --bytes B [--from F]
 *
 * Entry i goes to channel prefix + (i mod C), has one field `data` of B bytes of JSON, which begins
 * with the instant at which it was written to the socket. Prints {"event":"done",…} when Redis has
 * answered everything. */
#define _GNU_SOURCE
#include "common.h"
#include "net.h"

#include <poll.h>
#include <unistd.h>

static long port, channels = 1, rate = 200, count = 200, bytes = 130, maxlen = 1000, from;
static const char *prefix = "bench:c";

static const struct option_of options[] = {
    {"--port", &port, NULL},   {"--channels", &channels, NULL}, {"--rate", &rate, NULL},
    {"--count", &count, NULL}, {"--bytes", &bytes, NULL},       {"--maxlen", &maxlen, NULL},
    {"--from", &from, NULL},   {"--prefix", NULL, &prefix},     {NULL, NULL, NULL},
};

static int redis;
static long answered;

/* Count the answers that are there: "$15\r\n1700000000000-0\r\n" each. Any error ends the run. */
static void read_answers(bool wait) {
    static char buffer[65536];
    static bool at_line = true, error;
    static char text[200];
    static size_t text_length;
    ssize_t n = recv(redis, buffer, sizeof buffer, wait ? 0 : MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN))
        die("Redis closed the connection");
    for (ssize_t i = 0; i < n; i++) {
        if (at_line && buffer[i] == '$')
            answered++;
        if (at_line && buffer[i] == '-')
            error = true;
        at_line = buffer[i] == '\n';
        if (error && at_line)
            die("Redis answered: %.*s", (int)text_length, text);
        if (error && text_length < sizeof text && buffer[i] != '\r')
            text[text_length++] = buffer[i];
    }
}

int main(int argc, char **argv) {
    read_options(argc, argv, options);
    redis = dial(port, 0, true);

    char key[256], limit[32], *command = malloc((size_t)bytes + 512);
    int limit_length = snprintf(limit, sizeof limit, "%ld", maxlen);
    int64_t begin = now_us(), worst = 0;
    for (long i = 0; i < count; i++) {
        int64_t due = begin + i * 1000000 / rate;
        sleep_until(due);
        int key_length = snprintf(key, sizeof key, "%s%ld", prefix, (from + i) % channels);
        int length = sprintf(command,
                             "*8\r\n$4\r\nXADD\r\n$%d\r\n%s\r\n$6\r\nMAXLEN\r\n$1\r\n~\r\n$%d\r\n%s\r\n"
                             "$1\r\n*\r\n$4\r\ndata\r\n$%ld\r\n",
                             key_length, key, limit_length, limit, bytes);
        write_payload(command + length, (size_t)bytes, from + i);
        memcpy(command + length + bytes, "\r\n", 2);
        if (send(redis, command, (size_t)(length + bytes + 2), MSG_NOSIGNAL) != length + bytes + 2)
            die("Redis: %s", strerror(errno));
        if (now_us() - due > worst)
            worst = now_us() - due;
        read_answers(false);
        struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
        if (i % 64 == 0 && poll(&input, 1, 0) > 0)
            return 1; /* the benchmark went away */
    }
    double seconds = (double)(now_us() - begin) / 1e6;
    while (answered < count)
        read_answers(true);
    printf("{\"event\":\"done\",\"sent\":%ld,\"seconds\":%.3f,\"worst_late_us\":%lld}\n", count, seconds,
           (long long)worst);
    return 0;
}
