/* What a producer sends, in which order, and what becomes of it: inflight.c (sending) and answers.c
 * (answers, retries, deadlines). Thread: I/O, all of it. */
#ifndef SLUICE_CLIENT_INFLIGHT_H
#define SLUICE_CLIENT_INFLIGHT_H

#include <stdbool.h>
#include <stdint.h>

struct lane;
struct parcel;
struct sluice_producer;

/* ---- inflight.c ---- */

/* The next batch of this producer to go on the wire, sealed, or NULL: its lanes wait for something
 * else. */
struct parcel *inflight_next(struct sluice_producer *producer);

/* It could not be sent after all: inflight_next() gives it again. */
void inflight_put_back(struct parcel *parcel);

/* The lane has records, or an answer came. */
void inflight_lane_ready(struct lane *lane);

/* A connection is up, or the producer has an identity: everything that waits may go. */
void inflight_connected(struct sluice_producer *producer);

/* Time passes: backoffs and lingering end. Returns when to come back. */
uint64_t inflight_turn(struct sluice_producer *producer);

/* Nothing lingers any longer: somebody flushes, or memory is short. */
void inflight_hurry(struct sluice_producer *producer);

/* ---- answers.c ---- */

/* The answer to a batch on the wire: PE_NONE with its offset, or the broker's error. The parcel may
 * be gone afterwards. */
void inflight_answer(struct parcel *parcel, uint16_t error, uint64_t offset);

/* The connection broke: the answer will not come. */
void inflight_lost(struct parcel *parcel);

/* io_send() no longer reads from the parcel. */
void inflight_sent(struct parcel *parcel);

/* Gives up what is older than the delivery timeout. */
void inflight_expire(struct sluice_producer *producer);

/* The producer can't go on. The first status stays. What is pending fails in the next turn. */
void inflight_set_fatal(struct sluice_producer *producer, int status);
void inflight_fail_all(struct sluice_producer *producer);
void inflight_drop_all(struct sluice_producer *producer, int status);

/* ---- between the two ---- */

void inflight_make_ready(struct lane *lane);
void inflight_leave(struct lane *lane);
void inflight_take_off_wire(struct parcel *parcel);
void inflight_set_maybe_stored(struct parcel *parcel, bool maybe);

#endif
