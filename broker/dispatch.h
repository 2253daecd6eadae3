/* From a frame to the shards that serve it.
 *
 *   PRODUCE                          by partition; consecutive ones travel as one request
 *   METADATA, TOPIC_*, PRODUCER_INIT shard 0
 *   OFFSETS, SUBSCRIBE               by partition; over several shards: a request to each
 *   FETCH                            by partition; all in one shard
 *   CREDIT, UNSUBSCRIBE              the shards of the subscription
 *
 * Everything a request needs (the request itself, reply buffer, mailbox places) is taken first; if
 * anything is missing nothing happens and the frame waits (CONN_WAITS). Thread: the connection's
 * core. */
#ifndef SLUICE_BROKER_DISPATCH_H
#define SLUICE_BROKER_DISPATCH_H

#include "broker/conn.h"

/* `bytes` is the frame as it lies in the receive buffer, `frame` its view. PRODUCE's items are
 * rewritten. */
enum conn_step dispatch(struct conn *conn, uint8_t *bytes, const struct frame *frame);

/* Which subscription an UNSUBSCRIBE request names. */
uint64_t dispatch_subscription_of(const struct request *request);

/* Sends the gathered publishes, if any: before any other request, and at the end of the bytes. */
void dispatch_run(struct conn *conn);

/* ---- dispatch_produce.c ---- */
enum conn_step dispatch_produce(struct conn *conn, uint8_t *bytes, const struct frame *frame);

/* ---- dispatch_split.c: requests over several shards ---- */

/* A parent stays here; each shard of the mask gets a child. SUBSCRIBE and OFFSETS: with a frame of
 * its own that names its partitions; PRODUCE and UNSUBSCRIBE: with the same frame. */
enum conn_step dispatch_split(struct conn *conn, uint8_t *bytes, const struct frame *frame,
                              uint64_t shards);
/* True when everything is free that a split of PRODUCE or UNSUBSCRIBE over these shards takes. */
bool dispatch_can_split(const struct conn *conn, uint64_t shards);
/* CREDIT over several shards: independent requests, shares by what each delivered. */
enum conn_step dispatch_credit_split(struct conn *conn, struct conn_subscription *subscription,
                                     const struct msg_credit *m);
/* A child came home. Returns its parent when that was the last, else NULL. */
struct request *dispatch_merge(struct core *core, struct request *child);

/* ---- shared ---- */

/* A request for this frame to one shard, not yet sent; the buffer is pinned. NULL: used up. */
struct request *dispatch_request(struct conn *conn, uint8_t *bytes, const struct frame *frame,
                                 uint16_t shard);
/* A buffer for the answer: until conn_finish() it counts as the connection's own. NULL: none. */
void dispatch_lend(struct conn *conn, struct request *request, struct buffer *reply);
void dispatch_send(struct conn *conn, struct request *request); // its mailbox has room
uint16_t dispatch_core_of(const struct conn *conn, uint16_t shard);

#endif
