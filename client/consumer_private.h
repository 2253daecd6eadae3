/* The consumer's own structures: consumer, feed, delivery, item.
 *
 * A feed is one partition as one consumer reads it. A delivery is one received DELIVER frame, in
 * memory of its own; an item is the part of it that belongs to one feed. Items wait in the
 * consumer's `ready` list, or with their feed while that is paused, until a poll has returned all
 * their records; when the last item of a delivery is through, its bytes go back to the broker as
 * credit:
 *
 *     outstanding credit + held_bytes + credit_due == buffer_bytes
 *
 * What is kept for a paused feed is copied out of its frame and bounded by itself (kept_bytes).
 *
 * The I/O thread puts items in, the polling thread takes them out, both under the mutex and never
 * per record. */
#ifndef SLUICE_CLIENT_CONSUMER_PRIVATE_H
#define SLUICE_CLIENT_CONSUMER_PRIVATE_H

#include "client/blocks.h"
#include "client/calls.h"
#include "client/client_private.h"
#include "client/group.h"
#include "proto/batch.h"
#include "proto/messages.h"

struct feed {
    /* ---- constant ---- */
    char *topic;
    uint32_t topic_id;
    uint32_t partition;

    /* ---- mutex ---- */
    uint32_t refs;          // the table's, one for each item, and a poll's own
    uint64_t position;      // behind the last record returned
    uint64_t received;      // where the broker goes on: behind the last item
    uint64_t visible_end;   // as last heard of
    int64_t skip_before_ms; // records older than this are passed over; INT64_MIN: none are
    uint32_t generation;    // a seek makes what was received before void
    uint64_t subscription;  // whose items are taken; 0: none
    bool paused;
    bool left_out; // of the subscription: paused, and what was kept is enough
    bool stopped;  // an error was reported: a seek goes on
    bool removed;
    uint64_t committed; // by the group, as last heard of; UINT64_MAX: nothing
    struct list kept;   // items received while paused
    uint64_t kept_bytes;
};

struct delivery {
    struct sluice_consumer *consumer;
    bool on_heap; // the consumer's blocks had no room
    uint32_t frame_bytes;
    uint32_t items_left;
    struct item *items;
    uint8_t *bytes; // the frame, behind this struct
};

struct item {
    struct list link; // in consumer->ready or feed->kept
    struct delivery *delivery;
    struct feed *feed;
    uint32_t generation; // of the feed, when it came
    int error;           // then there are no bytes
    const uint8_t *batches;
    uint32_t bytes;
    uint64_t next_offset; // behind its last record
};

enum subscription_state {
    SUBSCRIPTION_NONE,
    SUBSCRIPTION_OPEN,
    SUBSCRIPTION_CLOSING, // UNSUBSCRIBE is out: what still comes is valid
};

struct sluice_consumer {
    /* ---- constant ---- */
    struct sluice_client *client;
    uint64_t buffer_bytes;
    struct blocks blocks;
    struct group *group; // NULL: none

    /* ---- mutex ---- */
    pthread_mutex_t mutex;
    pthread_cond_t arrived; // items, or the end
    struct feed **feeds;    // by topic id, then partition
    uint32_t feed_count;
    struct list ready;
    uint64_t held_bytes; // of received frames that are not used up
    uint64_t kept_bytes; // copies for paused feeds: at most a quarter of the buffer
    uint64_t credit_due; // to be given back
    bool set_changed;    // the subscription is not what the feeds want
    int failure;         // of the whole subscription, for the next poll
    bool removed;        // the I/O thread has let go of it

    /* ---- polling thread ---- */
    struct item *current; // being decoded
    uint32_t current_at;  // of its bytes: the next batch
    uint64_t position;    // of its feed: records below are passed over
    bool batch_open;
    struct batch_iterator iterator;
    uint8_t *scratch; // decompressed records of the open batch
    uint32_t scratch_bytes;
    bool scratch_used;       // messages of this poll point into it
    struct list used;        // items whose records were all returned: let go at the next poll
    struct feed *error_feed; // what the last error was about; with a reference

    /* ---- I/O thread ---- */
    struct list link; // in client->consumers
    enum subscription_state state;
    uint64_t subscription;      // correlation id of the SUBSCRIBE; 0: none
    uint64_t next_subscription; // the one it is about to get
    struct call subscribe_call;
    struct call unsubscribe_call;
    uint8_t *subscribe_meta;
    uint8_t unsubscribe_meta[32];
    bool removing;    // waits for the rest of a frame that lies in its memory
    uint64_t wake_ns; // backoff after an error; 0: none
    uint32_t attempt;
};

/* ---- feeds.c: under the mutex ---- */

struct feed *feeds_find(struct sluice_consumer *consumer, uint32_t topic_id, uint32_t partition);
struct feed *feeds_find_by_name(struct sluice_consumer *consumer, const char *topic,
                                uint32_t partition);
/* Returns OK or NO_MEMORY. */
int feeds_add(struct sluice_consumer *consumer, const char *topic, uint32_t topic_id,
              uint32_t partition, uint64_t position, int64_t skip_before_ms);
void feeds_remove(struct sluice_consumer *consumer, struct feed *feed);
void feeds_release(struct feed *feed);
/* Goes on elsewhere: what was received is void. */
void feeds_move(struct sluice_consumer *consumer, struct feed *feed, uint64_t position,
                int64_t skip_before_ms);
void feeds_pause(struct sluice_consumer *consumer, struct feed *feed, bool paused);
/* A paused feed's item is set aside; when there is no room for it, everything received of the feed
 * is void, and it is left out of the subscription until it is resumed. `first`: before those kept
 * already. */
void feeds_keep(struct sluice_consumer *consumer, struct item *item, bool first);
bool feeds_has_room(const struct sluice_consumer *consumer, uint64_t bytes);
void feeds_leave_out(struct sluice_consumer *consumer, struct feed *feed);
/* An item is through, read or void; gives its delivery back with the last one. */
void feeds_item_done(struct sluice_consumer *consumer, struct item *item);
/* True when the I/O thread should send a CREDIT now. */
bool feeds_credit_is_worth_it(const struct sluice_consumer *consumer);

/* ---- consumer.c ---- */

/* Offsets of `count` partitions from `first` on. Returns as sluice_consumer_subscribe(). */
int consumer_resolve(struct sluice_client *client, uint32_t topic_id, uint32_t first,
                     uint32_t count, enum sluice_start start, uint64_t value, uint64_t *offsets);

/* ---- consumer_poll.c ---- */

/* Lets go of all a poll holds. Under the mutex, when no poll runs. */
void consumer_poll_reset(struct sluice_consumer *consumer);

/* ---- consumer_wire.c. Thread: I/O ---- */

/* Memory for a DELIVER frame of `length` bytes, or NULL (no such subscription, no memory). */
struct delivery *consumer_claim(struct sluice_client *client, uint64_t correlation,
                                uint32_t length);
void consumer_unclaim(struct delivery *delivery);

/* A whole DELIVER frame; `delivery` holds its bytes, or NULL: they lie elsewhere and are copied.
 * Returns NULL, or why it breaks the protocol. */
const char *consumer_deliver(struct sluice_client *client, const struct frame *frame,
                             struct delivery *delivery);

void consumer_add(struct sluice_consumer *consumer);
void consumer_remove(struct sluice_consumer *consumer);
void consumer_connected(struct sluice_consumer *consumer);
void consumer_lost(struct sluice_consumer *consumer);
/* Brings the subscription in line with the feeds and gives credit. Returns when to come back. */
uint64_t consumer_turn(struct sluice_consumer *consumer);

#endif
