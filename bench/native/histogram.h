/* Counts of nanoseconds in buckets 1/64 wide: quantiles of any number of values, right to 1.6 %. */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_FINE = 64, HISTOGRAM_BUCKETS = 59 * HISTOGRAM_FINE };

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t total;
    uint64_t most; /* the largest value, exactly */
};

void histogram_add(struct histogram *histogram, uint64_t value);

/* The q-quantile (0 to 1) by nearest rank, as the middle of its bucket; 0 of no values. */
uint64_t histogram_quantile(const struct histogram *histogram, double q);

#endif
