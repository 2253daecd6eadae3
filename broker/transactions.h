/* The coordinator's side of transactions: transactional ids, their producers, and the one transaction each may have open.
 *
 * A transactional id lives on the shard of its slot (shard_of_name()); that shard coordinates its transactions. A
 * transaction is named by coordinator and LSN of its TXN_OPEN, which is durable before the name is given out, so a name
 * never comes twice. States and what each event does in them: transaction_rules.def.
 *
 *     TXN_OPEN ..... TXN_JOIN ..... (votes) ..... DECIDE ..... (told) ..... TXN_END
 *       OPEN .................. | PREPARING | COMMITTING or ABORTING ...... | EMPTY
 *
 * Durable: a row for each id, from the log. In memory: deadlines, and the job that ends a transaction (txn_job.h).
 * After Gray and Lamport, "Consensus on Transaction Commit" (2006), section 3; presumed abort as in Mohan et al., "Transaction
 * Management in the R* Distributed Database Management System" (1986). Thread: the shard's core. */
#ifndef SLUICE_BROKER_TRANSACTIONS_H
#define SLUICE_BROKER_TRANSACTIONS_H

#include "base/list.h"
#include "broker/producers.h"
#include "broker/shard.h"
#include "proto/messages_txn.h"

#define TRANSACTIONS_PER_SHARD 16384u // transactional ids: a row of 320 bytes and 56 in memory

enum txn_outcome { TXN_UNKNOWN = 0, TXN_COMMITTED = 1, TXN_ABORTED = 2 };
enum txn_decision { TXN_DECIDE_COMMIT = 1, TXN_DECIDE_ABORT = 2, TXN_DECIDE_PREPARED = 3 };

struct disk_transaction {    // row of TABLE_TRANSACTIONS: a transactional id
    le64 producer_id_plus_1; // never 0
    le64 open_lsn;           // of what is open; 0: nothing
    le64 opened_ms;          // the log's clock then
    le64 shards;             // that take part, a bit each
    le64 last_open_lsn;      // of what ended last
    le64 used_ms; // the log's clock at the last change: who is idle longest is forgotten first
    le32 timeout_ms;
    le16 epoch;
    uint8_t state;        // enum txn_state, never PREPARING
    uint8_t last_outcome; // enum txn_outcome
    uint8_t id_length;
    uint8_t id[TRANSACTIONAL_ID_BYTES_MAX];
    uint8_t zero[6];
};
static_assert(sizeof(struct disk_transaction) == 312, "disk");

/* ---- entries ---- */
struct
    disk_txn_open { // ENTRY_TXN_OPEN; the transactional id follows. ENTRY_PRODUCER_OPEN: struct disk_producer_open, then the id
    le64 producer_id;
    le16 epoch;
    le16 reserved;
    le32 timeout_ms;
};
static_assert(sizeof(struct disk_txn_open) == 16, "disk");
struct disk_txn_join { // ENTRY_TXN_JOIN
    struct disk_txn_name name;
    le32 shard;
    le32 reserved;
};
static_assert(sizeof(struct disk_txn_join) == 24, "disk");
struct disk_txn_decide { // ENTRY_DECIDE; participants follow
    struct disk_txn_name name;
    le32 decision; // enum txn_decision
    le32 participant_count;
};
static_assert(sizeof(struct disk_txn_decide) == 24, "disk");
struct disk_txn_participant {
    le32 shard;
    le32 reserved;
    le64 prepare_lsn; // of its PREPARE, which was durable there; 0: of an abort
};
static_assert(sizeof(struct disk_txn_participant) == 16, "disk");

/* ---- in memory, beside a row ---- */
struct txn_job;
struct transaction {
    struct list open_link; // of those that have a deadline
    uint64_t deadline_ns;
    struct txn_job *job; // ends it; NULL: nothing is under way
    struct list inits;   // TXN_INIT requests that wait for the end
    bool alarm_given;
};

struct transactions;
struct transactions *transactions_new(uint32_t row_count_max); // NULL: out of memory
void transactions_free(struct transactions *transactions);
struct table *transactions_table(struct transactions *transactions);
MUST_USE int transactions_rebuild(struct transactions *transactions, const char **why);

/* Rows; TABLE_ROW_NONE: there is none. */
uint32_t transactions_find(const struct transactions *transactions, struct slice id);
uint32_t transactions_find_open(const struct transactions *transactions, uint64_t open_lsn);
const struct disk_transaction *transactions_row(const struct transactions *transactions,
                                                uint32_t row);
/* The transactional id for a log line. */
const char *transactions_id_text(const struct disk_transaction *row,
                                 char text[TRANSACTIONAL_ID_BYTES_MAX + 1]);
struct transaction *transactions_memory(struct transactions *transactions, uint32_t row);
uint32_t transactions_row_count(const struct transactions *transactions);
uint32_t transactions_open_count(const struct transactions *transactions);
bool transactions_is_full(const struct transactions *transactions);
/* The id that has been idle longest, to be forgotten; TABLE_ROW_NONE: all have something open. */
uint32_t transactions_idlest(const struct transactions *transactions);
/* The rows of the ids that follow `after` in the order of their bytes, at most `max`. Returns how many. A walk over all. */
uint32_t transactions_next_many(const struct transactions *transactions, struct slice after,
                                uint32_t *rows, uint32_t max);

/* As shown and as looked up in the rules: the row's, or where the job that ends it is going. */
enum txn_state transactions_state(const struct transactions *transactions, uint32_t row);

enum txn_event {
    TXN_EVENT_INIT,
    TXN_EVENT_BEGIN,
    TXN_EVENT_JOIN,
    TXN_EVENT_PREPARE,
    TXN_EVENT_COMMIT,
    TXN_EVENT_ABORT,
    TXN_EVENT_DEADLINE,
    TXN_EVENT_ASK,
    TXN_EVENT_COUNT,
};
enum txn_action {
    TXN_DO_NONE,
    TXN_DO_EPOCH,
    TXN_DO_OPEN,
    TXN_DO_JOIN,
    TXN_DO_VOTE,
    TXN_DO_COMMIT,
    TXN_DO_ABORT,
    TXN_DO_ATTACH,
    TXN_DO_LAST,
    TXN_DO_WAIT,
    TXN_DO_TELL,
    TXN_DO_ALARM,
    TXN_DO_SAY,
};
struct txn_rule {
    uint8_t action; // enum txn_action
    uint16_t error; // SAY
};
struct txn_rule transaction_rule(enum txn_state state, enum txn_event event);

/* May whoever says to be this producer speak for this id? PE_NONE; FENCED_PRODUCER, UNKNOWN_PRODUCER, INVALID_ARGUMENT with
 * words in text. */
uint16_t transactions_check_producer(const struct transactions *transactions, uint32_t row,
                                     uint64_t producer_id, uint16_t epoch, char text[72]);

/* ---- deadlines: of what is OPEN or PREPARED ---- */
void transactions_arm(struct transactions *transactions, uint32_t row, uint64_t deadline_ns);
/* A row whose deadline has passed, and whose deadline is disarmed by this; TABLE_ROW_NONE: none is due. */
uint32_t transactions_due(struct transactions *transactions, uint64_t now_ns);
uint64_t transactions_deadline_ns(const struct transactions *transactions);

/* ---- apply: at append and replay. Negative: damage ---- */
MUST_USE int transactions_apply_producer(struct transactions *transactions,
                                         const struct wal_view *view);
MUST_USE int transactions_apply_open(struct transactions *transactions,
                                     const struct wal_view *view);
MUST_USE int transactions_apply_join(struct transactions *transactions,
                                     const struct wal_view *view);
MUST_USE int transactions_apply_decide(struct transactions *transactions,
                                       const struct wal_view *view);
MUST_USE int transactions_apply_end(struct transactions *transactions, const struct wal_view *view);
/* Something of a transaction that this shard coordinates was staged on this very shard. */
void transactions_apply_staged_here(struct transactions *transactions, uint64_t open_lsn,
                                    uint16_t shard);
/* COMMIT or ABORT with TXN_END_DECIDES. */
void transactions_apply_decided_here(struct transactions *transactions, uint64_t open_lsn,
                                     enum txn_outcome outcome, uint64_t append_time_ms);
void transactions_apply_forget(struct transactions *transactions, uint64_t producer_id);

#endif
