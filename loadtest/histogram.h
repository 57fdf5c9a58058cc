/* Latencies in microseconds, counted in buckets of at most 1.6 % width: constant memory, no sorting. */
#ifndef LOADTEST_HISTOGRAM_H
#define LOADTEST_HISTOGRAM_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define SUB_BITS 6 /* 64 buckets for each power of two */
#define BUCKETS (40 << SUB_BITS)

struct histogram {
    uint64_t bucket[BUCKETS];
    uint64_t count;
    int64_t max, sum;
};

static inline void histogram_add(struct histogram *h, int64_t value) {
    if (value < 0)
        value = 0;
    unsigned index;
    if (value < 1 << SUB_BITS) {
        index = (unsigned)value;
    } else {
        unsigned shift = 63 - (unsigned)__builtin_clzll((uint64_t)value) - SUB_BITS;
        index = ((shift + 1) << SUB_BITS) + (unsigned)(value >> shift) - (1 << SUB_BITS);
    }
    h->bucket[index < BUCKETS ? index : BUCKETS - 1]++;
    h->count++;
    h->sum += value;
    if (value > h->max)
        h->max = value;
}

/* The upper edge of the bucket that holds the given share of all values: never better than the truth. */
static inline int64_t histogram_at(const struct histogram *h, double share) {
    uint64_t rank = (uint64_t)(share * (double)h->count), seen = 0;
    for (unsigned i = 0; i < BUCKETS; i++) {
        seen += h->bucket[i];
        if (seen > rank) {
            unsigned shift = i >> SUB_BITS ? (i >> SUB_BITS) - 1 : 0;
            int64_t base = i >> SUB_BITS ? (int64_t)(i & ((1 << SUB_BITS) - 1)) + (1 << SUB_BITS) : (int64_t)i;
            int64_t edge = ((base + 1) << shift) - 1;
            return edge < h->max ? edge : h->max;
        }
    }
    return h->max;
}

static inline void histogram_print(const struct histogram *h, const char *name) {
    printf("\"%s\":{\"count\":%llu,\"mean\":%.1f,\"p50\":%lld,\"p90\":%lld,\"p99\":%lld,\"p999\":%lld,\"max\":%lld}",
           name, (unsigned long long)h->count, h->count ? (double)h->sum / (double)h->count : 0.0,
           (long long)histogram_at(h, 0.5), (long long)histogram_at(h, 0.9), (long long)histogram_at(h, 0.99),
           (long long)histogram_at(h, 0.999), (long long)h->max);
}

#endif
