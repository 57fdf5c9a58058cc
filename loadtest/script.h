/* What clients say first, where it is told by a file: `lines` commands of each client, a line each. */
#ifndef LOADTEST_SCRIPT_H
#define LOADTEST_SCRIPT_H

#include "common.h"

static char **script; /* by client; the last is where the file ends */

static void script_read(const char *path, long clients, long lines) {
    char *text = NULL;
    size_t room = 0;
    FILE *file = fopen(path, "r");
    if (!file || getdelim(&text, &room, 0, file) < 0) /* there is no NUL, so that is the whole file */
        die("%s: cannot be read: %s", path, strerror(errno));
    fclose(file);
    script = malloc((size_t)(clients + 1) * sizeof *script);
    for (long i = 0; i < clients * lines; i++) {
        if (i % lines == 0)
            script[i / lines] = text;
        text = strchr(text, '\n');
        if (!text++)
            die("%s: %ld lines instead of %ld", path, i, clients * lines);
    }
    script[clients] = text;
}

/* The commands of client `who`, without the last line's end. */
static const char *script_of(long who, size_t *length) {
    *length = (size_t)(script[who + 1] - script[who]) - 1;
    return script[who];
}

#endif
