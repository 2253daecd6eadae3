/* Transactions of a producer.
 *
 * The thread that calls a sluice_txn_ function drives a transaction step by step, with one request
 * after the other (txn.c, txn_end.c); the I/O thread sends what is staged, counts its acks, and
 * notices when a transaction can't be committed any more (txn_io.c):
 *
 *     NONE --begin--> OPEN --any end--> ENDING --commit, abort--> NONE
 *                                         '--prepare--> PREPARED --commit, abort--> NONE
 *
 * Sends are taken while the transaction is OPEN and nothing of it has failed: the producer's gate.
 * What was taken is all of it reported before the end is asked for, so at any time a producer has
 * batches of one transaction at most, and need not keep with them which one that is.
 *
 * A batch that fails, or a new epoch, dooms the transaction: what is pending is dropped and
 * reported as TRANSACTION_ABORTED, sends are refused with it, and the commit aborts. When a dropped
 * batch may still be on its way, the producer takes a new epoch (TXN_INIT), which aborts whatever
 * is open and fences what comes late; so an abort never waits for answers to batches. */
#ifndef SLUICE_CLIENT_TXN_H
#define SLUICE_CLIENT_TXN_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "client/include/sluice.h"
#include "proto/messages_txn.h"

struct lane;
struct request;

enum txn_phase { TXN_NONE, TXN_OPEN, TXN_ENDING, TXN_PREPARED };

struct producer_txn {
    /* ---- constant ---- */
    char id[TRANSACTIONAL_ID_BYTES_MAX + 1];
    uint32_t timeout_ms; // 0: the broker's default

    /* ---- whoever is in a sluice_txn_ function ---- */
    _Atomic bool busy; // somebody is
    enum txn_phase phase;
    uint64_t identity_count; // of the identity it was begun with
    uint64_t producer_id;
    uint16_t epoch;
    uint8_t *end_meta; // of PREPARE, for the COMMIT to say the same; NULL: none
    uint32_t end_meta_bytes;
    struct slice *groups; // whose offsets are in the transaction; bytes are malloc's
    uint32_t group_count;

    /* ---- written there before sends are taken, read by the I/O thread for what was taken ---- */
    uint32_t coordinator;
    uint64_t open_lsn;

    /* ---- the caller of a commit, then the I/O thread until that is answered ---- */
    struct request *to_end; // handed over with COMMAND_TXN_END
    struct request *ending; // the same, the I/O thread's: asked when all is reported; NULL: none
    struct lane *waits_for; // one that has records without; NULL: not looked yet
    bool was_asked;         // else the answer is this side's

    /* ---- any thread ---- */
    _Atomic int doom; // why it can't be committed; OK

    /* ---- producer->wait_mutex; producer->progress tells of changes ---- */
    struct txn_identity {
        bool known;
        uint64_t count; // of identities so far: each ended what was open under the one before
        uint64_t producer_id;
        uint16_t epoch;
        bool waits; // a prepared transaction of an earlier life waits for its end
        uint32_t waiting_coordinator;
        uint64_t waiting_lsn;
        int refused; // why there is none yet; OK
    } identity;
    uint64_t command_count; // COMMAND_TXN_DROPs and _CLEARs carried out
};

/* ---- txn.c ---- */

/* Returns OK, INVALID (the options), NO_MEMORY. */
int txn_new(struct sluice_producer *producer, const struct sluice_producer_options *options);
void txn_free(struct producer_txn *txn); // NULL: nothing
struct slice txn_id(const struct sluice_producer *producer);
/* The producer is being freed: aborts what is open, if the broker answers at once. */
void txn_abandon(struct sluice_producer *producer);
/* What a send returns for a shut gate, with words. */
int txn_explain_gate(int gate);

/* For the functions of a transaction. Returns OK, or INVALID: not transactional, another thread is
 * in one, or this is the I/O thread. */
int txn_enter(struct sluice_producer *producer);
void txn_leave(struct sluice_producer *producer);
/* Waits until the producer has an identity. Returns OK with a copy; CONNECT, TIMED_OUT, why the
 * broker refuses one, or why the producer can't go on. */
int txn_wait_identity(struct sluice_producer *producer, uint64_t deadline_ns,
                      struct txn_identity *identity);
/* The transaction as the broker knows it. */
struct msg_txn txn_name(const struct sluice_producer *producer);
/* Sleeps before a retry. False: the deadline would pass. */
bool txn_pause(struct sluice_producer *producer, uint32_t *attempt, uint64_t deadline_ns);

/* A COMMAND_TXN_DROP or _CLEAR, and waits until it is carried out. */
void txn_command(struct sluice_producer *producer, int command);

/* ---- txn_end.c ---- */

/* Drops what is pending and aborts. Returns OK, or why it is not known to be aborted. */
int txn_abort_now(struct sluice_producer *producer, uint64_t deadline_ns);

/* Can it be committed, now that all is reported? OK with end_meta, or why not. */
int txn_make_meta(struct sluice_producer *producer);

/* ---- txn_io.c. Thread: I/O ---- */

/* Asks what `ending` wants, when it is time. */
void txn_end_begin(struct sluice_producer *producer); // COMMAND_TXN_END
void txn_end_turn(struct sluice_producer *producer);

bool txn_is_doomed(const struct sluice_producer *producer);
void txn_doom(struct sluice_producer *producer, int status); // the first status stays
/* The same from any thread, which then sends COMMAND_TXN_DROP. False: it was doomed before. */
bool txn_ruin(struct sluice_producer *producer, int status);
void txn_turn(struct sluice_producer *producer);
void txn_drop(struct sluice_producer *producer);
void txn_clear(struct sluice_producer *producer); // nothing is pending, the next one may begin
/* A batch is acked. Returns the offset to be reported. */
uint64_t txn_staged(struct lane *lane);
void txn_identity_lost(struct sluice_producer *producer);
void txn_identity_found(struct sluice_producer *producer, const struct msg_txn_init_reply *reply);
void txn_identity_refused(struct sluice_producer *producer, int status);

#endif
