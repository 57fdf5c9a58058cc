/* The reference: a loop of send() of ready-made bytes on many sockets, and nothing else.
 *
 * No server that writes to each of its sockets can be cheaper than this, so the benchmark gives a
 * node's CPU per delivery as a multiple of it. The readers are the same crowd that reads from the
 * node (`crowd --raw 1`), since waking a reader is part of what a send() costs.
 *
 *   bare_send --connections N --bytes B --rate R --rounds M --warm W
 *
 * prints {"event":"listening","port":P}, and {"event":"ready"} once N connections are there; on a
 * line on stdin it sends one frame of B bytes to every socket, W + M times, R times a second, and
 * prints what the last M rounds cost. */
#define _GNU_SOURCE
#include "common.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

static long connections = 1000, bytes = 200, rate = 50, rounds = 200, warm = 20;

static const struct option_of options[] = {
    {"--connections", &connections, NULL}, {"--bytes", &bytes, NULL}, {"--rate", &rate, NULL},
    {"--rounds", &rounds, NULL},           {"--warm", &warm, NULL},   {NULL, NULL, NULL},
};

/* A WebSocket frame of `bytes` bytes in all, that holds a publication stamped with the present instant. */
static void write_frame(char *to, int64_t number) {
    static const char before[] = "{\"push\":{\"channel\":\"bare:0\",\"pub\":{\"data\":", after[] = "}}}";
    size_t length = (size_t)bytes - 4, head = sizeof before - 1, tail = sizeof after - 1;
    to[0] = (char)0x81;
    to[1] = 126;
    to[2] = (char)(length >> 8);
    to[3] = (char)length;
    memcpy(to + 4, before, head);
    write_payload(to + 4 + head, length - head - tail, number);
    memcpy(to + 4 + length - tail, after, tail);
}

int main(int argc, char **argv) {
    read_options(argc, argv, options);
    if (bytes < 150 || bytes > 65000)
        die("--bytes: 150 to 65000, not %ld", bytes);
    raise_open_files();

    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096) ||
        getsockname(listener, (struct sockaddr *)&address, &size))
        die("cannot listen: %s", strerror(errno));
    printf("{\"event\":\"listening\",\"port\":%d}\n", ntohs(address.sin_port));
    fflush(stdout);

    int *sockets = calloc((size_t)connections, sizeof *sockets);
    for (long i = 0; i < connections; i++) {
        sockets[i] = accept(listener, NULL, NULL);
        if (sockets[i] < 0)
            die("accept: %s", strerror(errno));
        setsockopt(sockets[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* as the node does */
    }
    printf("{\"event\":\"ready\"}\n");
    fflush(stdout);
    char line[64];
    if (!fgets(line, sizeof line, stdin))
        return 0;

    char *frame = malloc((size_t)bytes);
    int64_t begin = now_us(), started = begin, cpu = cpu_ns();
    for (long round = 0; round < warm + rounds; round++) {
        sleep_until(begin + round * 1000000 / rate);
        if (round == warm) {
            started = now_us();
            cpu = cpu_ns();
        }
        write_frame(frame, round);
        for (long i = 0; i < connections; i++)
            if (send(sockets[i], frame, (size_t)bytes, MSG_NOSIGNAL | MSG_DONTWAIT) != bytes)
                die("send: %s: the readers are too slow for %ld rounds a second", strerror(errno), rate);
    }
    cpu = cpu_ns() - cpu;
    printf("{\"event\":\"done\",\"sends\":%ld,\"cpu_ns\":%lld,\"seconds\":%.3f}\n", rounds * connections,
           (long long)cpu, (double)(now_us() - started) / 1e6);
    fflush(stdout);
    (void)!fgets(line, sizeof line, stdin); /* stay until the readers have read */
    return 0;
}
