/* Ending a transaction over several shards: two-phase commit, as its coordinator runs it.
 *
 *     VOTING     each participant has been asked to prepare
 *     DECIDING   the decision is in the log, not yet durable: from when it is there is no way back
 *     TELLING    each participant is told, and has to answer that it is done, durably
 *     ENDING     TXN_END waits for room in the log; everybody who asked has been answered
 *
 * An abort begins at DECIDING, a decision that a restart found at TELLING. An explicit prepare ends when its decision
 * ("prepared: the client decides") is durable. When the coordinator's own shard is the only participant there is no job: one
 * entry is vote, decision and commit (handle_txn_end.c).
 *
 * A job holds the request that began it, whose frame names what is committed; others that ask for the same end meanwhile
 * wait with it. Jobs are few (TXN_JOBS_MAX): who finds none waits in line. Thread: the coordinator's core. */
#ifndef SLUICE_BROKER_TXN_JOB_H
#define SLUICE_BROKER_TXN_JOB_H

#include "broker/transactions.h"

#define TXN_JOBS_MAX 1024u // ends under way on a shard; 700 bytes each

enum txn_goal { TXN_GOAL_COMMIT, TXN_GOAL_ABORT, TXN_GOAL_PREPARE };

struct txn_jobs;
struct txn_jobs *txn_jobs_new(void); // NULL: out of memory
void txn_jobs_free(struct txn_jobs *jobs);
size_t txn_jobs_bytes(void);

bool txn_jobs_is_full(const struct txn_jobs *jobs);

struct txn_wish {
    enum txn_goal goal;
    struct request *request; // answered at the end; or NULL
    bool is_decided;         // the decision is in the log and durable
    uint16_t error;          // ABORT: what the request is told; 0: success
};
/* Begins to end the transaction of a row that has no job. txn_jobs_is_full() was asked before. */
void txn_job_begin(struct shard *shard, uint32_t row, const struct txn_wish *wish);
/* Another request for the same end. */
void txn_job_attach(struct shard *shard, uint32_t row, struct request *request);
/* The goal of the job that the row has. */
enum txn_goal txn_job_goal(const struct txn_job *job);
/* No job is free: the request is handled again when one is. */
void txn_jobs_wait(struct txn_jobs *jobs, struct request *request);
/* Nothing is being ended, and nobody waits to end something. */
bool txn_jobs_are_idle(const struct txn_jobs *jobs);

/* After recovery: decided transactions go on being told, deadlines run again. */
void txn_jobs_resume(struct shard *shard);
/* Jobs go on; transactions whose deadline has passed are aborted. Returns work done. */
int txn_jobs_turn(struct shard *shard);
uint64_t txn_jobs_deadline_ns(const struct shard *shard);
/* A look at some of the rows for transactional ids that were idle for transactional_id_retention. */
void txn_jobs_forget_idle(struct shard *shard);
/* PREPARE, COMMIT or ABORT came home from a participant. */
void txn_job_on_reply(struct shard *shard, struct request *mail);

#endif
