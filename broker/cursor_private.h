/* Inside of cursor.c (life, lists), cursor_read.c (reading into deliveries), cursor_fetch.c (one answer). */
#ifndef SLUICE_BROKER_CURSOR_PRIVATE_H
#define SLUICE_BROKER_CURSOR_PRIVATE_H

#include "broker/cursor.h"
#include "storage/index.h"

#define SUBSCRIPTION_BUCKETS 4096u
#define DELIVER_META (DELIVER_META_FIXED + (uint32_t)sizeof(struct deliver_item))
#define DELIVER_HEAD                                                                               \
    (FRAME_HEADER_SIZE + DELIVER_META) // before a DELIVER frame's data: one item each

struct cursor {
    struct list all_link;   // of its subscription, in order of the request
    struct list place_link; // PARKED: partition->waiters; READY: subscription->ready
    struct subscription *subscription;
    struct partition *partition; // NULL: dropped meanwhile
    uint32_t topic_id;
    uint32_t number;   // of the partition
    uint64_t offset;   // next to read
    int64_t timestamp; // START_TIMESTAMP: to be searched first
    bool is_searching;
    uint32_t hint;      // store_read's
    uint32_t bytes_max; // FETCH: of this partition
};

struct subscription {
    struct list hash_link;
    struct list ready_link; // cursors->ready
    struct list wait_link;  // FETCH: cursors->waiting, by deadline
    struct cursors *owner;
    struct conn_id conn;
    uint64_t id;     // correlation of the SUBSCRIBE or FETCH
    struct list all; // its cursors
    struct list ready;
    uint32_t cursor_count;
    uint64_t credit;    // bytes of frames it may still send
    uint64_t window;    // the credit it began with: what a client can ever have out
    uint32_t in_flight; // deliveries not yet home
    bool is_dead;       // freed as soon as nothing is in flight
    uint32_t size_wish; // of the next delivery's buffer

    struct request *delivery; // being filled, or NULL
    uint32_t fill;            // bytes of complete frames in it
    struct cursor *reading;   // READING, or NULL
    struct store_read read;
    int64_t found_timestamp;

    bool is_fetch; // one answer, then it ends
    uint64_t deadline_ns;
    uint32_t bytes_max;
    struct cursor *fetch_next; // FETCH: the pass goes on here; NULL: at the end
    uint32_t fetch_index;      // of that cursor's item
    uint32_t fetch_bytes;      // data in this pass
    bool fetch_failed;         // an item has an error: answer at once
    bool fetch_pass;           // a pass has begun: the delivery's head is laid out
};

struct cursors {
    struct pool cursor_pool;
    struct pool subscription_pool;
    struct list buckets[SUBSCRIPTION_BUCKETS];
    struct list ready;   // subscriptions to serve, round robin
    struct list waiting; // fetches by deadline
    struct list unsent;  // deliveries that found their mailbox full
    uint64_t pinned_bytes;
    bool buffers_missed; // in this round, by who wanted to deliver
    uint32_t searches;   // by timestamp, in this round
    uint32_t subscription_count;
    struct shard *shard; // for completions of reads, which come outside a turn
};

/* ---- cursor.c ---- */
void cursor_park(struct cursor *cursor);  // in its partition's waiters
void cursor_ready(struct cursor *cursor); // in its subscription's ready list
void cursor_free(struct cursors *cursors, struct cursor *cursor);
void subscription_ready(struct cursors *cursors, struct subscription *subscription);
void cursors_end(struct cursors *cursors, struct shard *shard, struct subscription *subscription);
void subscription_free_when_quiet(struct cursors *cursors, struct shard *shard,
                                  struct subscription *subscription);

/* ---- cursor_read.c ---- */

/* Makes subscription->delivery with a buffer of `wish` bytes, or else of `least`. False: no request, buffer, or room
 * among the pinned bytes now. */
bool delivery_begin(struct cursors *cursors, struct shard *shard, struct subscription *subscription,
                    uint32_t wish, uint32_t least);
void delivery_drop(struct cursors *cursors, struct shard *shard, struct subscription *subscription);
void delivery_send(struct cursors *cursors, struct shard *shard, struct subscription *subscription,
                   bool last);
uint32_t delivery_capacity(const struct subscription *subscription);

/* Starts the store's read for one cursor: 1 finished, 0 will call on_read_done, FULL. */
int cursor_read(struct shard *shard, struct cursor *cursor, uint8_t *place, uint32_t capacity);
void on_read_done(struct store_read *read);

/* Serves one subscription as far as credit, buffers and data go. False: something ran out, try next turn. */
bool subscription_serve(struct cursors *cursors, struct shard *shard,
                        struct subscription *subscription);
void subscription_read_done(struct cursors *cursors, struct shard *shard,
                            struct subscription *subscription);

/* ---- cursor_fetch.c ---- */
bool fetch_serve(struct cursors *cursors, struct shard *shard, struct subscription *subscription);
void fetch_read_done(struct cursors *cursors, struct shard *shard,
                     struct subscription *subscription);
void fetch_expire(struct cursors *cursors, struct shard *shard);

uint16_t error_of_read(int status);

#endif
