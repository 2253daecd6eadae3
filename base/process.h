/* What this process uses of the machine, as the kernel counts it: for metrics, not for decisions. */
#ifndef SLUICE_BASE_PROCESS_H
#define SLUICE_BASE_PROCESS_H

#include <stdint.h>

struct process_usage {
    uint64_t cpu_us;         // user and system time of all threads, also of those that have ended
    uint64_t rss_bytes;      // resident now; 0 when /proc is not mounted
    uint64_t rss_peak_bytes; // the most that was ever resident
};

/* Asks the kernel (getrusage(2), /proc/self/statm): some microseconds, never waits for a device. Thread: any. */
struct process_usage process_usage(void);

#endif
