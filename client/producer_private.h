/* The producer's own structures: producer, topic, lane.
 *
 * A lane is one partition as one producer sees it: the batch that is being filled, the batches
 * waiting to be sent, the batches waiting for their acks. Its first half belongs to whoever holds
 * its mutex (senders, and the I/O thread when it fetches the next batch), its second half to the
 * I/O thread. */
#ifndef SLUICE_CLIENT_PRODUCER_PRIVATE_H
#define SLUICE_CLIENT_PRODUCER_PRIVATE_H

#include "client/blocks.h"
#include "client/calls.h"
#include "client/client_private.h"
#include "client/parcel.h"
#include "client/reports.h"
#include "client/spinlock.h"
#include "client/txn.h"

#define TOPIC_BUCKET_COUNT 256u
#define RECENT_TOPIC_COUNT 8u // power of two
#define STICKY_COUNT 8u       // sticky partitions per topic, shared out among the sending threads

struct lane {
    /* ---- constant ---- */
    struct sluice_producer *producer;
    struct topic *topic;
    uint32_t partition;

    /* ---- lock ---- */
    struct spinlock lock;
    struct parcel *open; // being filled; NULL: none
    struct list queue;   // closed, oldest first
    uint64_t accepted;   // records ever taken
    uint32_t size_hint;  // block size the last batches needed
    bool signalled;      // the I/O thread knows that there is something
    bool wants_close;    // it lets `open` linger, or waits for a compression: tell when that ends
    bool closed;         // the producer is being freed
    uint8_t pad[CACHE_LINE];

    /* ---- I/O thread ---- */
    struct list active_link; // in producer->active: has records that are not reported
    struct list turn_link;   // in producer->ready or ->delayed; unlinked: waits for acks or records
    struct list unacked;     // sealed, in sequence order
    uint32_t unacked_count;
    uint32_t on_wire_count;   // of those, in a PRODUCE without an answer
    uint32_t next_sequence;   // of the next batch to be sealed
    uint32_t stored_sequence; // behind the last batch surely stored: what the broker expects
    bool recovering;          // something failed: when nothing is on the wire, send all again
    bool backing_off;         // and not before wake_ns
    uint32_t attempt;         // failures in a row, for the backoff
    uint64_t wake_ns;         // in producer->delayed: when to look again

    uint64_t txn_open_lsn;    // transactional: the transaction that the next member is about
    uint32_t txn_batch_count; // staged in it; read by others behind A1 of `reported`

    /* ---- written by the I/O thread, read by any ---- */
    _Atomic uint64_t reported; // every record with a lower index has had its report

    /* ---- the thread that ends a transaction ---- */
    uint64_t committed_open_lsn; // the last one committed that sent something here
    uint64_t committed_offset;   // of its first record
};

/* Replaced as a whole when a topic gets more partitions; the old ones stay for their readers. */
struct lanes {
    struct lanes *older;
    uint32_t count;
    struct lane *lane[];
};

struct topic {
    struct topic *next;  // in the bucket; constant once published
    struct topic *older; // in producer->newest_topic; likewise
    char *name;
    uint32_t topic_id;
    _Atomic(struct lanes *) lanes;
    _Atomic bool stale; // the broker didn't know topic or partition: ask again before the next send
    _Atomic uint32_t sticky[STICKY_COUNT];
};

enum producer_identity {
    IDENTITY_NONE,  // not asked for yet
    IDENTITY_ASKED, // PRODUCER_INIT is on its way
    IDENTITY_VALID,
    IDENTITY_RENEWING,   // a new epoch is needed: first learn the fate of all that may be stored
    IDENTITY_NOT_WANTED, // not idempotent
};

struct sluice_producer {
    /* ---- constant ---- */
    struct sluice_client *client;
    bool idempotent;
    bool opaques; // reports are wanted, so opaque pointers are kept
    enum sluice_compression compression;
    uint64_t buffer_bytes;
    uint32_t batch_bytes;
    uint32_t batch_records; // UINT32_MAX: no limit
    uint64_t linger_ns;
    uint32_t window; // batches in flight per partition
    uint64_t delivery_timeout_ns;
    uint64_t backoff_ns;
    struct producer_txn *txn; // NULL: not transactional
    bool send_waits;
    bool report_poll;
    void (*on_report)(void *context, const struct sluice_report *report);
    void *context;

    /* ---- any thread ---- */
    struct blocks blocks;
    _Atomic(struct topic *) buckets[TOPIC_BUCKET_COUNT];
    _Atomic(struct topic *) newest_topic;               // all of them, by `older`: for walks
    _Atomic(struct topic *) recent[RECENT_TOPIC_COUNT]; // found by earlier sends: topics_recent()
    pthread_mutex_t topics_mutex;                       // for adding topics and lanes
    _Atomic uint32_t flushing;                          // > 0: nothing lingers
    _Atomic bool pressed;                               // a sender found no memory: nothing lingers
    _Atomic uint32_t waiting;                           // threads waiting for memory or reports
    _Atomic uint32_t waiting_reports;                   // of those, the ones waiting for reports
    _Atomic int fatal;                                  // why this producer can't go on; OK
    _Atomic int gate;              // what a send gets: OK, `fatal`, or that no transaction is open
    pthread_mutex_t wait_mutex;    // guards the members up to the next ruler, and `progress`
    pthread_cond_t progress;       // memory or reports
    uint64_t progress_count;       // broadcasts so far
    struct list done;              // report_poll: parcels whose reports are due
    bool polling;                  // a thread runs them now
    bool removed;                  // the I/O thread has let go of it
    _Atomic(uint8_t *) scratch[4]; // for compression, batch_bytes each; NULL: none there
    uint8_t pad[CACHE_LINE];

    /* ---- I/O thread ---- */
    struct list link;          // in client->producers
    uint32_t turn_bytes;       // sent since its turn came
    struct list ready_link;    // in client->ready_producers while `ready` isn't empty
    struct list progress_link; // in client->progressed while waiters may have to be told
    struct list active;        // lanes, by active_link
    struct list ready;         // lanes that may have something to send, by turn_link
    struct list delayed;       // lanes that lingers or backs off, by turn_link
    uint64_t delayed_until_ns; // the earliest wake_ns among them; UINT64_MAX: none
    enum producer_identity identity;
    uint64_t producer_id; // PRODUCER_NONE: none
    uint16_t epoch;
    bool new_id_wanted; // instead of a new epoch
    uint32_t identity_attempt;
    uint64_t identity_wake_ns; // backoff of PRODUCER_INIT
    struct call identity_call;
    uint8_t identity_meta[256];
    uint32_t on_wire_count; // batches
    uint32_t maybe_stored_count;
    struct call refresh_call; // what the topics have become
    uint8_t *refresh_meta;
    uint64_t refresh_at_ns;
    bool removing;
    uint64_t removing_until_ns;
};

/* ---- lane.c: filling ---- */

struct lane *lane_new(struct sluice_producer *producer, struct topic *topic, uint32_t partition);
void lane_free(struct lane *lane);

struct lane_record {
    struct record record;
    void *opaque;
};

/* Takes records until one is refused, a batch is closed, or all are taken; *taken says how many.
 * Returns OK, or for the first that was not taken FULL, TOO_LARGE, CLOSED. *signal: tell the I/O
 * thread (after the call). Thread: any. */
int lane_append(struct lane *lane, const struct lane_record *records, uint32_t count,
                uint32_t *taken, bool *signal);

/* Everything that lies ready but unsealed: the next closed batch, or the open one if it may go.
 * Thread: I/O. */
enum lane_answer { LANE_PARCEL, LANE_EMPTY, LANE_LATER, LANE_COMPRESSING };
enum lane_answer lane_take(struct lane *lane, uint64_t now_ns, struct parcel **parcel,
                           uint64_t *wake_ns);

/* Takes out the oldest batch that no sender is compressing and that was begun at or before
 * before_ns; NULL: none. Thread: I/O. */
struct parcel *lane_take_older(struct lane *lane, uint64_t before_ns);

/* Closes the open batch: whatever is taken from now on begins a new one, and sees the producer's
 * gate. Returns whether to tell the I/O thread. Thread: any. */
bool lane_close(struct lane *lane);

/* The I/O thread no longer looks at the lane: the next record tells it. Thread: I/O. */
void lane_forget_signal(struct lane *lane);

/* Records ever taken. Thread: any. */
uint64_t lane_accepted(struct lane *lane);

/* Gives memory back. Thread: any. */
void lane_release(struct lane *lane, struct parcel *parcel);

/* ---- partitioner.c ---- */

/* The lane for a record. key.bytes NULL: the thread's sticky one. */
uint32_t partitioner_by_key(struct slice key, uint32_t partition_count);
uint32_t partitioner_sticky(struct topic *topic);
void partitioner_init(struct topic *topic, uint32_t partition_count, struct random *random);
/* A batch of this partition was closed: keyless records go elsewhere from now on. */
void partitioner_moved_on(struct topic *topic, uint32_t partition);

/* ---- topics.c ---- */

/* Where topics_recent() looks: most programs keep a topic's name in one place, so its address tells
 * topics apart faster than a hash of its letters. */
static inline _Atomic(struct topic *) *topics_recent_slot(struct sluice_producer *producer,
                                                          const char *name)
{
    uint64_t spread = (uint64_t)(uintptr_t)name * 0x9e3779b97f4a7c15u;
    return &producer->recent[spread >> 61];
}
static_assert(RECENT_TOPIC_COUNT == 8, "three bits of the product");

/* The topic, when a send from the same place has found it before and it needs no asking; else
 * NULL, and topics_of_name() tells. */
static inline struct topic *topics_recent(struct sluice_producer *producer, const char *name)
{
    /* A1: sees the topic's members; pairs with R1 in topics.c. */
    struct topic *topic =
        atomic_load_explicit(topics_recent_slot(producer, name), memory_order_acquire);
    if (UNLIKELY(!topic) || strcmp(topic->name, name) != 0 ||
        UNLIKELY(atomic_load_explicit(&topic->stale, memory_order_relaxed)))
        return NULL;
    return topic;
}

/* The topic, known or asked for. Returns OK; TIMED_OUT, CONNECT, CLOSED, the broker's
 * UNKNOWN_TOPIC; FULL when it is not known and this is the I/O thread, which can't wait. */
int topics_of_name(struct sluice_producer *producer, const char *name, uint32_t partition,
                   struct topic **topic);
/* Without asking; NULL: not known. */
struct lane *topics_known_lane(struct sluice_producer *producer, const char *name,
                               uint32_t partition);
void topics_forget_all(struct sluice_producer *producer);
/* Asks now and then whether topics got more partitions or are gone. Returns when to come back.
 * Thread: I/O. */
uint64_t topics_turn(struct sluice_producer *producer);
void topics_cancel(struct sluice_producer *producer); // no reply will come through
/* All topics: from here by `older`. Thread: any. */
static inline struct topic *topics_newest(struct sluice_producer *producer)
{
    /* A3: sees the topic's members; pairs with R3 in topics.c. */
    return atomic_load_explicit(&producer->newest_topic, memory_order_acquire);
}
typedef void (*topics_visit_fn)(struct lane *lane, void *context);
void topics_each_lane(struct sluice_producer *producer, topics_visit_fn visit, void *context);

/* ---- identity.c: producer id and epoch. Thread: I/O ---- */

void identity_turn(struct sluice_producer *producer);
void identity_renew(struct sluice_producer *producer, bool new_id);
void identity_cancel(struct sluice_producer *producer); // no reply will come through

/* ---- producer.c ---- */

/* What sends get from now on; a producer that can't go on stays shut. Thread: any. */
void producer_set_gate(struct sluice_producer *producer, int status);
void producer_set_fatal(struct sluice_producer *producer, int status); // the first one stays

/* Waiting for memory or reports: what progress was seen, and until more is made. False: the
 * deadline has passed. */
uint64_t producer_progress(struct sluice_producer *producer);
bool producer_wait_progress(struct sluice_producer *producer, uint64_t seen, uint64_t deadline_ns);
void producer_tell_progress(struct sluice_producer *producer);

/* ---- producer.c. Thread: I/O ---- */

void producer_add(struct sluice_producer *producer);
void producer_remove(struct sluice_producer *producer);
uint64_t producer_turn(struct sluice_producer *producer); // returns when to come back

#endif
