#include "histogram.h"

/* Below 128 a value is its own bucket; above, its 7 highest bits are. */
static unsigned bucket_of(uint64_t value)
{
    if (value < 2 * HISTOGRAM_FINE)
        return (unsigned)value;
    unsigned shift = 63U - (unsigned)__builtin_clzll(value) - 6U;
    return shift * HISTOGRAM_FINE + (unsigned)(value >> shift);
}

static uint64_t middle_of(unsigned bucket)
{
    if (bucket < 2 * HISTOGRAM_FINE)
        return bucket;
    unsigned shift = bucket / HISTOGRAM_FINE - 1;
    uint64_t low = (uint64_t)(bucket - shift * HISTOGRAM_FINE) << shift;
    return low + ((uint64_t)1 << shift) / 2;
}

void histogram_add(struct histogram *histogram, uint64_t value)
{
    histogram->counts[bucket_of(value)]++;
    histogram->total++;
    if (value > histogram->most)
        histogram->most = value;
}

uint64_t histogram_quantile(const struct histogram *histogram, double q)
{
    uint64_t rank = (uint64_t)(q * (double)histogram->total), seen = 0;
    for (unsigned bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
        seen += histogram->counts[bucket];
        if (seen > rank) {
            uint64_t value = middle_of(bucket);
            return value < histogram->most ? value : histogram->most;
        }
    }
    return histogram->most;
}
