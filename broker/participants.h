/* The participant's side of transactions: what this shard holds of each, and how far it is.
 *
 *     (nothing) --STAGED, staged offsets--> STAGING --PREPARE--> PREPARED --COMMIT or ABORT--> (nothing)
 *                                              '----------- ABORT, COMMIT of one phase --------^
 *
 * A participant that has voted yes can only do as it is told. One that has not may be aborted at any time, and says so
 * when it is asked to vote.
 *
 * What is staged is acked only when the coordinator knows of it (TXN_JOIN durable there): requests for which that is
 * outstanding wait in the participant. A coordinator that refuses the JOIN (the transaction has ended, or its producer was
 * fenced) makes the participant drop what it holds. After a restart each participant asks its coordinator once.
 *
 * Durable: a row for each transaction, from the log; the staged batches are storage's (storage/staged.h), staged offsets the
 * groups' (groups.h). Thread: the shard's core. */
#ifndef SLUICE_BROKER_PARTICIPANTS_H
#define SLUICE_BROKER_PARTICIPANTS_H

#include "broker/shard.h"
#include "proto/messages_txn.h"

#define PARTICIPANTS_PER_SHARD 16384u // a row of 48 bytes and 56 in memory

struct disk_participant { // row of TABLE_PARTICIPANTS
    le64 open_lsn;        // never 0
    le32 coordinator;
    uint8_t state;       // enum txn_part_state
    uint8_t is_explicit; // PREPARED because the client asked for it
    le16 epoch;
    le64 producer_id_plus_1; // of its batches; 0: none is staged yet
    le64 prepare_lsn;
    le64 first_ms; // the log's clock at the first entry
    le64 reserved;
};
static_assert(sizeof(struct disk_participant) == 48, "disk");

struct disk_prepare { // ENTRY_PREPARE
    struct disk_txn_name name;
    le32 is_explicit;
    le32 reserved;
};
static_assert(sizeof(struct disk_prepare) == 24, "disk");

enum join_state { // in memory
    JOIN_NONE,    // not asked yet in this life of the process
    JOIN_ASKED,
    JOIN_DONE,    // the coordinator knows of us, durably
    JOIN_REFUSED, // what is staged shall be dropped
};
struct participant {       // memory side of a row
    struct list todo_link; // of what participants_turn() has to do something about
    struct list waiters;   // requests that wait for the join
    enum join_state join;
    bool must_ask;               // after a restart: how did it end?
    uint16_t error;              // JOIN_REFUSED: what the waiters are told
    uint16_t epoch;              // of the next
    uint64_t producer_id_plus_1; // that the coordinator was, or will be, asked about; 0: none yet
};

struct participants;
struct participants *participants_new(uint32_t row_count_max); // NULL: out of memory
void participants_free(struct participants *participants);
struct table *participants_table(struct participants *participants);
MUST_USE int participants_rebuild(struct participants *participants, const char **why);

uint32_t participants_find(const struct participants *participants,
                           const struct disk_txn_name *name); // TABLE_ROW_NONE
const struct disk_participant *participants_row(const struct participants *participants,
                                                uint32_t row);
uint32_t participants_count(const struct participants *participants);
uint32_t participants_prepared_count(const struct participants *participants);
bool participants_is_full(const struct participants *participants);

/* ---- staging: for handle_produce.c and handle_txn_offsets.c ---- */

/* May this producer stage something under this name? Asks the coordinator's table when that is here. PE_NONE, or an error
 * with text. */
uint16_t participants_check(struct shard *shard, const struct disk_txn_name *name,
                            uint64_t producer_id, uint16_t epoch, char text[72]);
/* The request staged something: answers it when that is durable here and the coordinator knows of this participant. */
void participants_answer(struct shard *shard, struct request *request,
                         const struct disk_txn_name *name, uint64_t producer_id, uint16_t epoch);

/* ---- voting and ending ---- */

/* Does the participant have exactly what `end` names of this shard (NULL: whatever it has)? PE_NONE, or why not. */
uint16_t participants_vote(struct shard *shard, const struct disk_txn_name *name,
                           const struct msg_txn_end *end, char text[72]);
/* Where the batches of each of end's items will begin when the transaction is committed now. Only items of this shard. */
void participants_fill_results(struct shard *shard, const struct disk_txn_name *name,
                               const struct msg_txn_end *end, struct txn_result_item *results);

/* PREPARE was logged: the coordinator, who asked for it, knows of us, whatever becomes of a JOIN that is under way. */
void participants_prepared(struct shard *shard, uint32_t row);
/* Its JOIN was refused, and what is staged will be dropped as soon as the log has room. */
bool participants_is_refused(const struct participants *participants, uint32_t row);
/* Logs ABORT; who waits for the join is told `error`. 0, or FULL: nothing happened. */
MUST_USE int participants_abort(struct shard *shard, uint32_t row, uint16_t error,
                                struct wal_view *view);
/* After recovery: each has to ask its coordinator, which may have forgotten it or was about to decide. */
void participants_resume(struct participants *participants);

/* Mails from coordinators: PREPARE, COMMIT, ABORT. */
enum handled participants_on_mail(struct shard *shard, struct request *mail);
/* A JOIN or ASK of ours came home. */
void participants_on_reply(struct shard *shard, struct request *mail);
/* Sends JOINs and ASKs, drops what was refused. Returns work done. */
int participants_turn(struct shard *shard);

/* ---- apply: at append and replay ---- */
/* Something was staged: ENTRY_STAGED (info set) or staged offsets (info NULL). FULL: more than the limit, which a handler
 * checks first. */
MUST_USE int participants_apply_staged(struct participants *participants,
                                       const struct disk_txn_name *name,
                                       const struct batch_info *info, uint64_t append_time_ms);
MUST_USE int participants_apply_prepare(struct participants *participants,
                                        const struct wal_view *view);
void participants_apply_end(struct participants *participants, const struct disk_txn_name *name);

#endif
