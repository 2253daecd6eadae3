/* One bare flow of bytes: from a loopback socket, into a recycled log, from the one into the other, or out of the log's files.
 *
 *     socket only     sender thread -> TCP loopback -> receive into buffers, which are then free
 *     log only        buffers -> O_DIRECT writes -> fdatasync
 *     pipeline        sender thread -> TCP loopback -> buffer -> the same buffer written -> fdatasync
 *     reading         O_DIRECT reads of the log's files -> buffers, which nobody looks at
 *
 * No framing, no checksum, no ack, no copy: what a broker does on top costs something, and the share
 * that is left is what a result is quoted as. The receiving side is one thread with one io_uring, the
 * fastest arrangement known for this: up to 16 writes (or reads) of 256 KiB in flight, one round of fdatasync in
 * flight, each covering the writes that had completed when it started. */
#ifndef SLUICE_BENCH_BARE_FLOW_H
#define SLUICE_BENCH_BARE_FLOW_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/bare/wal_set.h"

#define FLOW_BLOCK_BYTES (256 * KIB)

struct flow_options {
    bool from_socket;        // else the buffers are full at once
    struct wal_set *wal_set; // NULL: no log
    bool is_reading;         // the log's files, instead of writing them
    uint32_t connection_count;
    uint64_t warm_up_ns;
    uint64_t duration_ns;
    int cpu_receive;
    int cpu_send;
};

/* Runs for warm-up + duration; *bytes_per_s: received, or with a log durable or read, during the latter.
 * Returns 0, or -1 after a message on standard error. */
MUST_USE int flow_measure(const struct flow_options *options, double *bytes_per_s);

#endif
