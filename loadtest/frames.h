/* WebSocket frames as a client sees them: unmasked in, masked out. */
#ifndef LOADTEST_FRAMES_H
#define LOADTEST_FRAMES_H

#include <stdint.h>
#include <string.h>

enum { OP_TEXT = 1, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 };

struct frame {
    int opcode;
    const char *payload;
    size_t length;
};

/* Take one frame from `at`. Returns its whole size, or 0 when `have` bytes do not hold it yet. */
static inline size_t frame_take(const char *at, size_t have, struct frame *out) {
    const unsigned char *b = (const unsigned char *)at;
    size_t head = 2, length;
    if (have < 2)
        return 0;
    length = b[1] & 0x7f;
    if (length == 126)
        head = 4;
    else if (length == 127)
        head = 10;
    if (have < head)
        return 0;
    if (head > 2) {
        length = 0;
        for (size_t i = 2; i < head; i++)
            length = length << 8 | b[i];
    }
    if (have - head < length)
        return 0;
    out->opcode = b[0] & 0x0f;
    out->payload = at + head;
    out->length = length;
    return head + length;
}

/* Write a masked frame to `to`, which has room for length + 8 bytes. Returns its size.
 * One mask for all: it costs a server the same as a random one. */
static inline size_t frame_put(char *to, int opcode, const char *payload, size_t length) {
    static const unsigned char mask[4] = {0x1f, 0x2e, 0x3d, 0x4c};
    size_t head = 2;
    to[0] = (char)(0x80 | opcode);
    if (length < 126) {
        to[1] = (char)(0x80 | length);
    } else { /* no command of ours is longer than 64 KiB */
        to[1] = (char)(0x80 | 126);
        to[2] = (char)(length >> 8);
        to[3] = (char)length;
        head = 4;
    }
    memcpy(to + head, mask, 4);
    head += 4;
    for (size_t i = 0; i < length; i++)
        to[head + i] = (char)(payload[i] ^ mask[i & 3]);
    return head + length;
}

#endif
