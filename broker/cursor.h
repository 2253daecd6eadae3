/* Readers of a shard: subscriptions (a stream of DELIVER frames within a byte credit) and fetches (one
 * answer, at once or when something becomes visible). Both are a set of cursors: places in partitions.
 *
 * A cursor is in exactly one place:
 *
 *   PARKED   in its partition's `waiters`: it has reached the visible end
 *   READY    in its subscription's `ready` list: there may be something to read
 *   READING  it is the one cursor of its subscription that a store_read() works for
 *
 * and a subscription with ready cursors is in the shard's ready list, unless it has spent its credit or has
 * DELIVERIES_IN_FLIGHT_MAX buffers on their way. A delivery is a buffer of the shard's core, filled with whole frames,
 * sent as a request to the connection's core; when it comes home, buffer and place in flight are free again.
 *
 * All deliveries together pin at most DELIVERY_PINNED_BYTES_MAX of the core's buffers, so that slow consumers never
 * starve producers. Thread: the shard's core. */
#ifndef SLUICE_BROKER_CURSOR_H
#define SLUICE_BROKER_CURSOR_H

#include "broker/shard.h"

/* Half of what a core's medium buffers hold. */
#define DELIVERY_PINNED_BYTES_MAX ((uint64_t)BUFFER_MEDIUM_BYTES * BUFFER_MEDIUM_COUNT / 2)

struct cursors *cursors_new(void); // NULL: out of memory
void cursors_free(struct cursors *cursors);

/* Starts what a checked SUBSCRIBE or FETCH asks for. PE_NONE, or an error with request->text: then nothing was
 * started. The request is the caller's to answer, at once: what a FETCH brings comes as a delivery, and until then it holds
 * neither request nor buffer. */
uint16_t cursors_begin(struct cursors *cursors, struct shard *shard, struct request *request,
                       const struct msg_fetch *fetch);

/* Adds credit; false: no such subscription. */
bool cursors_credit(struct cursors *cursors, struct conn_id conn, uint64_t subscription,
                    uint64_t bytes);
bool cursors_unsubscribe(struct cursors *cursors, struct shard *shard, struct conn_id conn,
                         uint64_t subscription);
void cursors_conn_closed(struct cursors *cursors, struct shard *shard, struct conn_id conn);

/* The partition's visible end moved. */
void cursors_wake(struct cursors *cursors, struct partition *partition);
void cursors_partition_dropped(struct cursors *cursors, struct shard *shard,
                               struct partition *partition);

/* A delivery came home. */
void cursors_delivered(struct cursors *cursors, struct shard *shard, struct request *delivery);

/* Once per turn: serves ready subscriptions round robin. Returns work done. */
int cursors_turn(struct cursors *cursors, struct shard *shard);
uint64_t cursors_deadline_ns(const struct cursors *cursors); // of the next waiting fetch

void cursors_check(const struct cursors *cursors); // slow assertions

/* Where a start lies now. PE_NONE with *offset; OFFSET_OUT_OF_RANGE. Not for START_TIMESTAMP. */
uint16_t cursor_start(const struct partition *partition, enum start_kind start, uint64_t value,
                      uint64_t *offset);

#endif
