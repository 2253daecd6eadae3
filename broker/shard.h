/* A shard: a single-threaded state machine that owns partitions and exactly one log.
 *
 * shard_step(shard, now) is a turn: drain the queue (bounded), run handlers, let storage submit and sync, complete
 * what became durable, serve readers. It makes no I/O calls of its own, asks no clock, takes no lock.
 *
 * Invariants: offsets are dense; a record is visible only below the committed mark; each waiting cursor is parked
 * at an offset >= its partition's visible end; requests waiting for the disk are in LSN order. */
#ifndef SLUICE_BROKER_SHARD_H
#define SLUICE_BROKER_SHARD_H

#include <stdatomic.h>

#include "base/clock.h"
#include "base/counters.h"
#include "broker/buffer.h"
#include "broker/mailbox.h"
#include "broker/producers.h"
#include "broker/topics.h"
#include "storage/store.h"

struct cursors;      // broker/cursor.h: subscriptions and fetches
struct topic_jobs;   // broker/topic_job.h: changes of topics under way (shard 0)
struct offsets_jobs; // broker/handle_offsets.c: searches by timestamp under way
struct transactions; // broker/transactions.h: coordinated here
struct participants; // broker/participants.h: with something staged here
struct txn_jobs;     // broker/txn_job.h: being ended
struct groups;       // broker/groups.h

struct shard_txn_options { // limits of transactions, from the configuration
    uint32_t timeout_ms;   // when TXN_BEGIN says nothing
    uint32_t timeout_ms_max;
    uint64_t staged_bytes_max; // of one transaction on this shard
    uint64_t id_retention_ms;  // an idle transactional id is forgotten; UINT64_MAX: never
};

enum shard_state { SHARD_OPENING, SHARD_SERVING, SHARD_DRAINING, SHARD_FAILED, SHARD_CLOSED };

struct shard_counters { // written by the owner, read by HTTP and STATUS
#define SHARD_COUNTER(name, help) counter name;
#include "broker/shard_counters.def"
#undef SHARD_COUNTER
};

struct shard {
    uint16_t id;
    uint16_t core;
    enum shard_state state;
    struct store *store;
    struct producers *producers;
    struct topics *topics;         // shard 0 only
    struct table *scalars;         // TABLE_SCALARS: enum scalar
    struct table *slots;           // TABLE_SLOTS, shard 0 only
    struct topic_jobs *topic_jobs; // shard 0 only
    struct offsets_jobs *offsets_jobs;
    struct transactions *transactions;
    struct participants *participants;
    struct txn_jobs *txn_jobs;
    struct groups *groups;
    struct shard_txn_options txn;
    uint32_t group_session_timeout_ms;   // of members that wish for none
    uint64_t group_offsets_retention_ms; // of groups without members; UINT64_MAX: for ever
    uint64_t producer_retention_ms;      // UINT64_MAX: for ever
    uint64_t idle_look_ns;               // when to look next who is idle
    uint64_t prepare_proof[SHARDS_MAX];  // highest PREPARE of each shard that a decision here names
    uint8_t *scratch; // SHARD_SCRATCH_BYTES: decompressed records under validation
    uint64_t
        producer_id_next; // shard 0: next to give out, below the block in SCALAR_PRODUCER_ID_END
    struct cursors *cursors;
    struct mailbox *mailbox;    // of its core
    struct random *random;      // of its core: for names, never for state
    struct buffers *buffers;    // of its core
    struct pool *requests;      // of its core: for deliveries and shard mails
    const uint16_t *slot_shard; // SLOT_COUNT entries, constant
    const uint16_t *shard_core; // which core hosts each shard, constant
    uint16_t shard_count;
    struct batch_limits limits;
    struct disk_partition_open topic_defaults; // of new topics, from the configuration
    uint64_t now_ns;                           // of this turn
    uint64_t now_wall_ms;
    struct list queue;   // requests not yet handled, in order of arrival
    struct list waiting; // requests that wait for the committed mark, by LSN
    bool blocked;        // the head of `queue` got FULL; on_room clears it
    _Atomic bool
        readers_wait; // for buffers to deliver in. Read by other cores: theirs may hold them
    struct shard_counters counters;
};

/* Single numbers of a shard's state: rows of TABLE_SCALARS, one per number, in this order. */
enum scalar { SCALAR_TOPIC_ID_NEXT, SCALAR_PRODUCER_ID_END, SCALAR_COUNT };
struct disk_scalar {
    le64 used; // 1
    le64 value;
};
static_assert(sizeof(struct disk_scalar) == 16, "disk");
struct disk_slot { // row i: slot i
    le64 used;     // 1
    le64 shard;
};

/* The largest batch may decompress to this much when its topic asks for validation of records. Untouched, and so
 * not resident, until a topic does. */
#define SHARD_SCRATCH_BYTES ((uint32_t)(16 * MIB))

struct shard_options {
    uint16_t id;
    uint16_t core;
    struct mailbox *mailbox;
    struct buffers *buffers;
    struct pool *requests;
    const uint16_t
        *slot_shard; // filled by shard_slot_table() of shard 0 before anything is dispatched
    const uint16_t *shard_core;
    uint16_t shard_count;
    struct batch_limits limits;
    struct disk_partition_open topic_defaults; // of new topics
    struct shard_txn_options txn;
    uint64_t producer_retention_ms;
    uint32_t group_session_timeout_ms;
    uint64_t group_offsets_retention_ms;
    struct store_options
        store; // io, dir, identity, budgets; callbacks and tables are filled in by shard_open()
};

/* Opens storage and recovers; blocking. As store_open() for result and text. Thread: its core (io owner). */
MUST_USE int shard_open(struct shard *shard, const struct shard_options *options,
                        struct recover_result *result, char text[512]);

/* Takes a request over (phase 3). Thread: its core. */
void shard_enqueue(struct shard *shard, struct request *request);

/* One turn. Returns work done (0: may sleep until shard_deadline_ns()). */
int shard_step(struct shard *shard, uint64_t now_ns, uint64_t now_wall_ms);
uint64_t shard_deadline_ns(const struct shard *shard);

/* A delivery came home: its buffer and credit are free again. */
void shard_on_delivered(struct shard *shard, struct request *request);

/* A REQUEST_SHARD of ours came home. */
void shard_on_mail_reply(struct shard *shard, struct request *mail);

/* Refuses new batches with SHUTTING_DOWN from now on. */
void shard_drain(struct shard *shard);
bool shard_is_drained(const struct shard *shard); // nothing waits for the disk
/* Writes the clean end (blocking, until deadline). Then free. */
int shard_close(struct shard *shard, uint64_t deadline_ns);

/* Shard 0, after shard_open(): where each slot lives. SLOT_COUNT numbers. Read before the cores dispatch. */
void shard_slot_table(const struct shard *shard, uint16_t slot_shard[]);
/* After all shards are open: every partition of `shard` must be known to shard 0, else CORRUPT with text. */
MUST_USE int shard_check_partitions(struct shard *shard, const struct shard *shard_0,
                                    char text[512]);

/* The same for what its decisions say about the logs of all shards. */
MUST_USE int shard_check_decisions(const struct shard *shard, const struct shard *shards,
                                   char text[512]);

uint64_t shard_scalar(const struct shard *shard, enum scalar scalar);

/* Which shard owns a partition: by slot, never by modulo of the count. */
uint16_t shard_of_partition(const uint16_t *slot_shard, uint32_t topic_id, uint32_t partition);
/* Which shard a consumer group, or a transactional id, lives on. */
uint16_t shard_of_name(const uint16_t *slot_shard, struct slice name);

void shard_check(struct shard *shard);      // slow assertions over everything
uint64_t shard_digest(struct shard *shard); // equal logs, equal digest
bool shard_can_produce(const struct shard *shard, const char **why);

/* ---- handlers: one file per request type; return HANDLED (request moved on), or BLOCKED (FULL: call again) ---- */
enum handled { HANDLED, BLOCKED };
typedef enum handled (*shard_handler_fn)(struct shard *shard, struct request *request);

enum handled handle_produce(struct shard *shard, struct request *request);
enum handled handle_fetch(struct shard *shard, struct request *request);  // FETCH, SUBSCRIBE
enum handled handle_credit(struct shard *shard, struct request *request); // CREDIT, UNSUBSCRIBE
enum handled handle_offsets(struct shard *shard, struct request *request);
enum handled handle_topic(struct shard *shard,
                          struct request *request); // CREATE, ALTER, DELETE (shard 0)
enum handled handle_metadata(struct shard *shard, struct request *request);      // shard 0
enum handled handle_producer_init(struct shard *shard, struct request *request); // shard 0
enum handled handle_partition_mail(struct shard *shard, struct request *request);
enum handled handle_txn_init(struct shard *shard, struct request *request);
enum handled handle_txn_begin(struct shard *shard, struct request *request);
enum handled handle_txn_offsets(struct shard *shard, struct request *request); // the group's shard
enum handled handle_txn_end(struct shard *shard, struct request *request); // PREPARE, COMMIT, ABORT
enum handled handle_txn_list(struct shard *shard, struct request *request);
enum handled handle_txn_describe(struct shard *shard, struct request *request);

/* Writes `error` over what this shard took of a publish that is staged: its transaction is gone. */
void produce_refuse(const struct shard *shard, struct request *request, uint16_t error);
/* Forgets producers that were idle for producer_retention. Once per turn that has something to do. */
void produce_expire_idle(struct shard *shard);
/* Shard 0: a producer id that was never given; durable with everything below store_reserved_lsn(). 0, FULL, ... */
MUST_USE int shard_producer_id(struct shard *shard, uint64_t *producer_id);

/* The tools of handlers: answers at once, with an error, or when the disk has everything up to lsn. */
void shard_reply(struct shard *shard, struct request *request);
void shard_reply_error(struct shard *shard, struct request *request, uint16_t error,
                       const char *format, ...) PRINTF_LIKE(4, 5);
void shard_reply_when_durable(struct shard *shard, struct request *request, uint64_t lsn);
/* HANDLED: with an error, whose words, if any, are in request->text already. */
enum handled shard_refuse(struct shard *shard, struct request *request, uint16_t error);
/* For a handler whose append gave another status than 0: BLOCKED when the log is full, else refused. */
enum handled shard_not_appended(struct shard *shard, struct request *request, int status);
/* The meta of the answer, in the reply buffer that came with the request; then seal, then reply. */
struct writer shard_reply_writer(struct request *request);
void shard_reply_seal(struct request *request, const struct writer *w);

#endif
