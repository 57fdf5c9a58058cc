/* What a crowd has seen since the last reset, and its report. */
#ifndef LOADTEST_TALLY_H
#define LOADTEST_TALLY_H

#include "histogram.h"

#define CLOSE_CODES 5000

static struct {
    uint64_t publications, frames, bytes, reply_errors, flood_bytes;
    uint64_t returned; /* hostile clients that were closed and came back */
    struct histogram latency, echo;
    long closed[CLOSE_CODES]; /* by code; 0: closed without one */
    char problem[200];        /* the first refusal or error, for people to read */
} tally;

static void tally_problem(const char *text, size_t length) {
    if (tally.problem[0])
        return;
    for (size_t i = 0; i < length && i < sizeof tally.problem - 1; i++)
        tally.problem[i] = text[i] < ' ' || text[i] == '"' || text[i] == '\\' ? ' ' : text[i];
}

static void tally_print(const char *event, long alive, long refused) {
    printf("{\"event\":\"%s\",\"alive\":%ld,\"refused\":%ld,\"returned\":%llu,\"publications\":%llu,"
           "\"frames\":%llu,\"bytes\":%llu,\"flood_bytes\":%llu,\"reply_errors\":%llu,\"problem\":\"%s\",",
           event, alive, refused, (unsigned long long)tally.returned, (unsigned long long)tally.publications,
           (unsigned long long)tally.frames, (unsigned long long)tally.bytes, (unsigned long long)tally.flood_bytes,
           (unsigned long long)tally.reply_errors, tally.problem);
    printf("\"closed\":{");
    for (int code = 0, printed = 0; code < CLOSE_CODES; code++)
        if (tally.closed[code])
            printf("%s\"%d\":%ld", printed++ ? "," : "", code, tally.closed[code]);
    printf("},");
    histogram_print(&tally.latency, "latency_us");
    printf(",");
    histogram_print(&tally.echo, "echo_us");
    printf("}\n");
    fflush(stdout);
}

static void tally_ready(long opened, long refused, double seconds) {
    printf("{\"event\":\"ready\",\"opened\":%ld,\"refused\":%ld,\"seconds\":%.3f,\"problem\":\"%s\"}\n", opened,
           refused, seconds, tally.problem);
    fflush(stdout);
}

#endif
