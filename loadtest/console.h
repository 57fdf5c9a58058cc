/* Commands from stdin, a line each. */
#ifndef LOADTEST_CONSOLE_H
#define LOADTEST_CONSOLE_H

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Read what there is; hand over each whole line, without its end. The end of stdin ends the program. */
static void console_read(void (*on_line)(const char *line)) {
    static char buffer[4096];
    static size_t length;
    ssize_t n = read(STDIN_FILENO, buffer + length, sizeof buffer - length - 1);
    if (n <= 0)
        exit(0);
    length += (size_t)n;
    char *end;
    while ((end = memchr(buffer, '\n', length))) {
        *end = 0;
        on_line(buffer);
        length -= (size_t)(end + 1 - buffer);
        memmove(buffer, end + 1, length);
    }
}

#endif
