/* What a run costs: processor time and memory of both sides, and what the disk did meanwhile. All are totals, to be taken before and
 * after; what can't be had is UNKNOWN. */
#ifndef SLUICE_BENCH_ENGINE_RESOURCES_H
#define SLUICE_BENCH_ENGINE_RESOURCES_H

#include <stdint.h>
#include <sys/types.h>

#include "bench/driver/driver.h"

#define UNKNOWN UINT64_MAX

struct resources {
    uint64_t client_cpu_us; // of this process
    uint64_t client_rss_bytes;
    struct driver_figures
        server; // as it tells; where it does not, as the kernel counts --server-pid

    /* ---- the disk that --limits-dir or --data-dir lies on; others may use it, too ---- */
    uint64_t disk_writes, disk_write_bytes, disk_flushes;
};

/* Thread: main. */
void resources_take(struct driver_session *session, struct resources *now);

/* The directory of /sys/block of the disk that holds `path`, in `name`; empty: none (a file system in memory, an overlay). */
void resources_disk_of(const char *path, char name[64]);

/* Difference of two totals; UNKNOWN when either is. */
static inline uint64_t resources_between(uint64_t before, uint64_t after)
{
    return before == UNKNOWN || after == UNKNOWN ? UNKNOWN : after - before;
}

#endif
