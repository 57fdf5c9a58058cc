/* What a crowd has seen since the last reset, and its report. */
#ifndef LOADTEST_TALLY_H
#define LOADTEST_TALLY_H

#include "histogram.h"

#define CLOSE_CODES 5000

static struct {
    uint64_t publications, frames, bytes, reply_errors, flood_bytes;
    uint64_t returned;    /* hostile clients that were closed and came back */
    uint64_t turned_away; /* answers to wait and try again */
    struct histogram latency, echo;
    struct histogram everyone;        /* of a talk: until the last of its readers has a message */
    struct histogram connect, joined; /* from the upgrade request to the answer, and to the last one */
    struct histogram in;              /* from the crowd's start until a client is subscribed */
    long closed[CLOSE_CODES]; /* by code; 0: closed without one */
    char problem[200];        /* the first refusal or error, for people to read */
} tally;

static void tally_problem(const char *text, size_t length) {
    if (tally.problem[0])
        return;
    for (size_t i = 0; i < length && i < sizeof tally.problem - 1; i++)
        tally.problem[i] = text[i] < ' ' || text[i] == '"' || text[i] == '\\' ? ' ' : text[i];
}

static void tally_count(const char *name, uint64_t count) {
    printf(",\"%s\":%llu", name, (unsigned long long)count);
}

static void tally_times(const char *name, const struct histogram *times) {
    printf(",");
    histogram_print(times, name);
}

static void tally_print(const char *event, long alive, long refused) {
    printf("{\"event\":\"%s\",\"alive\":%ld,\"refused\":%ld,\"problem\":\"%s\"", event, alive, refused,
           tally.problem);
    tally_count("returned", tally.returned);
    tally_count("turned_away", tally.turned_away);
    tally_count("publications", tally.publications);
    tally_count("frames", tally.frames);
    tally_count("bytes", tally.bytes);
    tally_count("flood_bytes", tally.flood_bytes);
    tally_count("reply_errors", tally.reply_errors);
    printf(",\"closed\":{");
    for (int code = 0, printed = 0; code < CLOSE_CODES; code++)
        if (tally.closed[code])
            printf("%s\"%d\":%ld", printed++ ? "," : "", code, tally.closed[code]);
    printf("}");
    tally_times("latency_us", &tally.latency);
    tally_times("echo_us", &tally.echo);
    tally_times("everyone_us", &tally.everyone);
    tally_times("connect_us", &tally.connect);
    tally_times("joined_us", &tally.joined);
    tally_times("in_us", &tally.in);
    printf("}\n");
    fflush(stdout);
}

static void tally_ready(long opened, long refused, double seconds) {
    printf("{\"event\":\"ready\",\"opened\":%ld,\"refused\":%ld,\"seconds\":%.3f,\"problem\":\"%s\"}\n", opened,
           refused, seconds, tally.problem);
    fflush(stdout);
}

#endif
