/* See txn_job.h for the steps. A job is advanced by mails that come home and by the committed mark, which is looked at
 * once per turn.
 *
 * Failure modes: no request or mailbox place, or a full log: the step is tried again in the next turn. A participant
 * votes no: the goal becomes to abort. The process dies: what was decided is told again (txn_jobs_resume()), what was not is open
 * again, and aborted when a participant asks that had voted, when its deadline passes, or when its client says so. */
#include "broker/txn_job.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/plant.h"
#include "broker/handle_txn.h"

enum job_step { STEP_VOTING, STEP_DECIDING, STEP_TELLING, STEP_ENDING };

struct txn_job {
    struct list link; // jobs->active or jobs->free
    uint32_t row;
    enum job_step step;
    enum txn_goal goal;
    struct disk_txn_name name;
    uint64_t shards, sent, answered; // a bit each
    uint64_t lsn;                    // DECIDING: goes on when committed; 0: not logged yet
    struct request *request;
    struct list waiters;
    struct msg_txn_end end; // of the request; slices point into its frame
    bool has_end;
    struct txn_result_item *results; // in the request's reply buffer
    uint16_t error;                  // what the requests are told in place of success
    char text[72];
    uint64_t prepare_lsn[SHARDS_MAX];
};

struct txn_jobs {
    struct txn_job *all;
    struct list free;
    struct list active;
    struct list waiting; // requests that found no job free
    uint32_t active_count;
    uint32_t resume_row; // rows from here on may still have to be told; UINT32_MAX: none
    uint32_t forget_row; // where the next look for idle transactional ids begins
};

#define FORGET_LOOK_ROWS 256u // of one look for ids that have been idle too long

static int advance(struct shard *shard, struct txn_job *job);
static int send_to_all(struct shard *shard, struct txn_job *job);
static bool send_mail(struct shard *shard, struct txn_job *job, uint16_t target);
static int decide(struct shard *shard, struct txn_job *job);
static void decided(struct shard *shard, struct txn_job *job);
static void answer_all(struct shard *shard, struct txn_job *job);
static int end_append(struct shard *shard, struct txn_job *job);
static int end(struct shard *shard, struct txn_job *job);
static void finish(struct shard *shard, struct txn_job *job);
static int resume_more(struct shard *shard);
static int expire(struct shard *shard);
static int wake_waiting(struct shard *shard);

struct txn_jobs *txn_jobs_new(void)
{
    struct txn_jobs *jobs = calloc(1, sizeof(*jobs));
    if (!jobs)
        return NULL;
    list_init(&jobs->free);
    list_init(&jobs->active);
    list_init(&jobs->waiting);
    jobs->resume_row = UINT32_MAX;
    jobs->all = calloc(TXN_JOBS_MAX, sizeof(*jobs->all));
    if (!jobs->all) {
        free(jobs);
        return NULL;
    }
    for (uint32_t i = 0; i < TXN_JOBS_MAX; i++)
        list_push_back(&jobs->free, &jobs->all[i].link);
    return jobs;
}

void txn_jobs_free(struct txn_jobs *jobs)
{
    if (!jobs)
        return;
    free(jobs->all);
    free(jobs);
}

size_t txn_jobs_bytes(void)
{
    return sizeof(struct txn_jobs) + TXN_JOBS_MAX * sizeof(struct txn_job);
}

bool txn_jobs_is_full(const struct txn_jobs *jobs)
{
    return list_is_empty(&jobs->free);
}

enum txn_goal txn_job_goal(const struct txn_job *job)
{
    return job->goal;
}

bool txn_jobs_are_idle(const struct txn_jobs *jobs)
{
    return jobs->active_count == 0 && list_is_empty(&jobs->waiting);
}

void txn_jobs_wait(struct txn_jobs *jobs, struct request *request)
{
    list_push_back(&jobs->waiting, &request->link);
}

/* ---- beginning ---- */

void txn_job_begin(struct shard *shard, uint32_t row, const struct txn_wish *wish)
{
    struct txn_jobs *jobs = shard->txn_jobs;
    struct transaction *memory = transactions_memory(shard->transactions, row);
    const struct disk_transaction *disk = transactions_row(shard->transactions, row);
    struct list *link = list_pop_front(&jobs->free);
    ASSERT(link && !memory->job);
    struct txn_job *job = CONTAINER_OF(link, struct txn_job, link);
    *job = (struct txn_job){
        .row = row,
        .goal = wish->goal,
        .error = wish->error,
        .name = {.coordinator = le32_make(shard->id), .open_lsn = disk->open_lsn},
        .shards = le64_get(disk->shards),
        .request = wish->request,
        .step = STEP_VOTING,
    };
    if (wish->is_decided)
        job->step = STEP_TELLING;
    else if (wish->goal == TXN_GOAL_ABORT || disk->state == TXN_STATE_PREPARED)
        job->step = STEP_DECIDING;
    list_init(&job->link);
    list_init(&job->waiters);
    if (job->request && wish->error)
        memcpy(job->text, job->request->text, sizeof(job->text));
    if (job->request && wish->goal != TXN_GOAL_ABORT)
        job->has_end = txn_request_end(job->request, &job->end, &job->results);
    memory->job = job;
    list_push_back(&jobs->active, &job->link);
    jobs->active_count++;
}

void txn_job_attach(struct shard *shard, uint32_t row, struct request *request)
{
    struct transaction *memory = transactions_memory(shard->transactions, row);
    list_push_back(&memory->job->waiters, &request->link);
}

void txn_jobs_resume(struct shard *shard)
{
    shard->txn_jobs->resume_row = 0; // the first turn, which has a clock, goes on
}

/* The log's clock said when it began; how long ago that is can only be asked of the wall clock. */
static void arm_again(struct shard *shard, uint32_t row)
{
    const struct disk_transaction *disk = transactions_row(shard->transactions, row);
    uint64_t timeout_ms = le32_get(disk->timeout_ms), opened_ms = le64_get(disk->opened_ms);
    uint64_t age_ms = shard->now_wall_ms > opened_ms ? shard->now_wall_ms - opened_ms : 0;
    uint64_t left_ms = age_ms < timeout_ms ? timeout_ms - age_ms : 0;
    transactions_arm(shard->transactions, row, shard->now_ns + left_ms * NS_PER_MS);
}

static int resume_more(struct shard *shard)
{
    struct txn_jobs *jobs = shard->txn_jobs;
    struct transactions *transactions = shard->transactions;
    int begun = 0;
    while (jobs->resume_row != UINT32_MAX && !txn_jobs_is_full(jobs)) {
        uint32_t row = jobs->resume_row++;
        if (row >= transactions_row_count(transactions)) {
            jobs->resume_row = UINT32_MAX;
            break;
        }
        if (!table_row_is_used(transactions_table(transactions), row))
            continue;
        const struct disk_transaction *disk = transactions_row(transactions, row);
        bool commits = disk->state == TXN_STATE_COMMITTING;
        if (disk->state == TXN_STATE_OPEN || disk->state == TXN_STATE_PREPARED)
            arm_again(shard, row);
        if ((!commits && disk->state != TXN_STATE_ABORTING) ||
            transactions_memory(transactions, row)->job)
            continue;
        struct txn_wish wish = {.goal = commits ? TXN_GOAL_COMMIT : TXN_GOAL_ABORT,
                                .is_decided = true};
        txn_job_begin(shard, row, &wish);
        begun++;
    }
    return begun;
}

/* ---- the turn ---- */

int txn_jobs_turn(struct shard *shard)
{
    struct txn_jobs *jobs = shard->txn_jobs;
    int work = 0;
    if (UNLIKELY(jobs->resume_row != UINT32_MAX))
        work += resume_more(shard);
    LIST_EACH(link, &jobs->active)
    work += advance(shard, CONTAINER_OF(link, struct txn_job, link));
    work += expire(shard);
    return work + wake_waiting(shard);
}

uint64_t txn_jobs_deadline_ns(const struct shard *shard)
{
    if (txn_jobs_is_full(shard->txn_jobs)) // one that ends makes a turn anyway
        return UINT64_MAX;
    return transactions_deadline_ns(shard->transactions);
}

static int advance(struct shard *shard, struct txn_job *job)
{
    switch (job->step) {
    case STEP_VOTING:
        if (job->sent != job->shards)
            return send_to_all(shard, job);
        if (job->answered != job->shards)
            return 0;
        if (job->error)
            job->goal = TXN_GOAL_ABORT;
        job->step = STEP_DECIDING;
        return 1 + decide(shard, job);
    case STEP_DECIDING:
        if (job->lsn == 0)
            return decide(shard, job);
        if (store_committed_lsn(shard->store) < job->lsn)
            return 0;
        decided(shard, job);
        return 1;
    case STEP_TELLING:
        if (job->sent != job->shards)
            return send_to_all(shard, job);
        if (job->answered != job->shards)
            return 0;
        (void)fault_check(FAULT_TXN_CRASH_BEFORE_ANSWER);
        answer_all(shard, job);
        job->step = STEP_ENDING;
        return 1 + end(shard, job);
    case STEP_ENDING:
        answer_all(shard, job); // who has come while the log was full
        return end(shard, job);
    }
    return 0;
}

/* ---- mails ---- */

static int send_to_all(struct shard *shard, struct txn_job *job)
{
    int sent = 0;
    for (uint16_t target = 0; target < shard->shard_count; target++) {
        uint64_t bit = (uint64_t)1 << target;
        if (!(job->shards & bit) || (job->sent & bit))
            continue;
        if (!send_mail(shard, job, target))
            break;
        job->sent |= bit;
        sent++;
    }
    return sent;
}

static bool send_mail(struct shard *shard, struct txn_job *job, uint16_t target)
{
    struct request *mail = request_acquire(shard->requests, REQUEST_SHARD, shard->core);
    if (!mail)
        return false;
    bool asks = job->step == STEP_VOTING;
    mail->mail = asks                           ? MAIL_TXN_PREPARE
                 : job->goal == TXN_GOAL_COMMIT ? MAIL_TXN_COMMIT
                                                : MAIL_TXN_ABORT;
    mail->from_shard = shard->id;
    mail->shard = target;
    mail->target_core = shard->shard_core[target];
    mail->context = job;
    mail->u.txn.name = job->name;
    mail->u.txn.is_explicit = job->goal == TXN_GOAL_PREPARE;
    mail->u.txn.end = job->has_end ? &job->end : NULL;
    mail->u.txn.results = job->results;
    if (mailbox_send(shard->mailbox, mail) == 0)
        return true;
    request_release(shard->requests, mail);
    return false;
}

void txn_job_on_reply(struct shard *shard, struct request *mail)
{
    struct txn_job *job = mail->context;
    uint64_t bit = (uint64_t)1 << mail->shard;
    ASSERT(job->sent & bit && !(job->answered & bit));
    if (mail->error && mail->mail != MAIL_TXN_PREPARE) {
        job->sent &= ~bit; // it is decided: told again until it is done
    } else {
        job->answered |= bit;
        job->prepare_lsn[mail->shard] = mail->u.txn.lsn;
        if (mail->error && !job->error) {
            job->error = mail->error;
            memcpy(job->text, mail->text, sizeof(job->text));
        }
        if (mail->mail == MAIL_TXN_PREPARE)
            (void)fault_check(FAULT_TXN_CRASH_AFTER_VOTE);
        if (mail->mail == MAIL_TXN_COMMIT)
            (void)fault_check(FAULT_TXN_CRASH_BETWEEN_COMMITS);
    }
    request_release(shard->requests, mail);
}

/* ---- the decision ---- */

static int decide(struct shard *shard, struct txn_job *job)
{
    static const uint8_t decisions[] = {
        [TXN_GOAL_COMMIT] = TXN_DECIDE_COMMIT,
        [TXN_GOAL_ABORT] = TXN_DECIDE_ABORT,
        [TXN_GOAL_PREPARE] = TXN_DECIDE_PREPARED,
    };
    struct disk_txn_participant participants[SHARDS_MAX] = {0};
    uint32_t count = 0;
    for (uint32_t i = 0; i < shard->shard_count; i++) {
        if (!(job->shards >> i & 1))
            continue;
        participants[count].shard = le32_make(i);
        participants[count++].prepare_lsn = le64_make(job->prepare_lsn[i]);
    }
    struct disk_txn_decide payload = {
        .name = job->name,
        .decision = le32_make(decisions[job->goal]),
        .participant_count = le32_make(count),
    };
    struct wal_entry entry = {
        .type = ENTRY_DECIDE,
        .pieces = {{&payload, sizeof(payload)},
                   {participants, count * (uint32_t)sizeof(participants[0])}},
        .piece_count = 2,
    };
    struct wal_view view;
    (void)fault_check(FAULT_TXN_CRASH_BEFORE_DECIDE);
    if (store_append(shard->store, &entry, &view, NULL) != 0)
        return 0; // full: next turn
    job->lsn = store_reserved_lsn(shard->store);
    (void)fault_check(FAULT_TXN_CRASH_DECIDE_APPENDED);
    return 1;
}

static void decided(struct shard *shard, struct txn_job *job)
{
    (void)fault_check(FAULT_TXN_CRASH_AFTER_DECIDE);
    if (job->goal == TXN_GOAL_PREPARE) {
        if (transactions_memory(shard->transactions, job->row)->deadline_ns == UINT64_MAX)
            transactions_arm(shard->transactions, job->row, shard->now_ns); // passed meanwhile
        answer_all(shard, job);
        finish(shard, job);
        return;
    }
    job->step = STEP_TELLING;
    job->sent = job->answered = 0;
    if (PLANTED(DECISION_TRIMMED))
        (void)end_append(shard, job);
    (void)send_to_all(shard, job);
}

/* ---- the end ---- */

/* An ABORT has succeeded whatever made the transaction abort. */
static void answer(struct shard *shard, struct txn_job *job, struct request *request,
                   bool has_results)
{
    uint16_t error = request->op == OP_TXN_ABORT ? PE_NONE : job->error;
    txn_request_answer(shard, request, error, job->text, has_results);
}

static void answer_all(struct shard *shard, struct txn_job *job)
{
    struct request *request = TAKE(job->request);
    if (request)
        answer(shard, job, request, job->results != NULL);
    for (struct list *link; (link = list_pop_front(&job->waiters));) {
        struct msg_txn_end end;
        struct txn_result_item *results = NULL; // offsets that are not known here
        struct request *waiter = CONTAINER_OF(link, struct request, link);
        if (waiter->op == OP_TXN_COMMIT)
            (void)txn_request_end(waiter, &end, &results);
        answer(shard, job, waiter, results != NULL);
    }
}

static int end_append(struct shard *shard, struct txn_job *job)
{
    struct wal_entry entry = {
        .type = ENTRY_TXN_END, .pieces = {{&job->name, sizeof(job->name)}}, .piece_count = 1};
    struct wal_view view;
    return store_append(shard->store, &entry, &view, NULL);
}

static int end(struct shard *shard, struct txn_job *job)
{
    (void)fault_check(FAULT_TXN_CRASH_BEFORE_END);
    if (!PLANTED(DECISION_TRIMMED) && end_append(shard, job) != 0)
        return 0;
    if (job->goal == TXN_GOAL_COMMIT)
        counter_add(&shard->counters.transactions_committed_total, 1);
    else
        counter_add(&shard->counters.transactions_aborted_total, 1);
    finish(shard, job);
    return 1;
}

/* The row is free for who waits for it: a TXN_INIT, which goes through its handler again. */
static void finish(struct shard *shard, struct txn_job *job)
{
    struct txn_jobs *jobs = shard->txn_jobs;
    struct transaction *memory = transactions_memory(shard->transactions, job->row);
    ASSERT(!job->request && list_is_empty(&job->waiters)); // nobody would ever answer them
    memory->job = NULL;
    list_remove(&job->link);
    list_push_front(&jobs->free, &job->link);
    jobs->active_count--;
    list_splice_front(&shard->queue, &memory->inits); // before who would open the next one
}

/* As many as there are jobs free now. Who is handled again may find that it needs none, or that another one was faster: so
 * none of them counts on the one before it. */
static int wake_waiting(struct shard *shard)
{
    struct txn_jobs *jobs = shard->txn_jobs;
    int woken = 0;
    for (uint32_t i = jobs->active_count; i < TXN_JOBS_MAX; i++, woken++) {
        struct list *link = list_pop_front(&jobs->waiting);
        if (!link)
            break;
        list_push_back(&shard->queue, link);
    }
    return woken;
}

/* ---- deadlines ---- */

void txn_jobs_forget_idle(struct shard *shard)
{
    struct txn_jobs *jobs = shard->txn_jobs;
    struct transactions *transactions = shard->transactions;
    uint32_t count = transactions_row_count(transactions);
    if (shard->txn.id_retention_ms == UINT64_MAX)
        return;
    for (uint32_t i = 0; i < FORGET_LOOK_ROWS && i < count; i++) {
        uint32_t row = jobs->forget_row++ % count;
        if (!table_row_is_used(transactions_table(transactions), row))
            continue;
        const struct disk_transaction *disk = transactions_row(transactions, row);
        const struct transaction *memory = transactions_memory(transactions, row);
        bool is_idle =
            disk->state == TXN_STATE_EMPTY && !memory->job && list_is_empty(&memory->inits);
        uint64_t used_ms = le64_get(disk->used_ms);
        if (is_idle && shard->now_wall_ms > used_ms &&
            shard->now_wall_ms - used_ms >= shard->txn.id_retention_ms &&
            transactions_forget(shard, row) != 0)
            return; // a full log: later
    }
}

static int expire(struct shard *shard)
{
    struct transactions *transactions = shard->transactions;
    char id[TRANSACTIONAL_ID_BYTES_MAX + 1];
    int work = 0;
    while (!txn_jobs_is_full(shard->txn_jobs)) {
        uint32_t row = transactions_due(transactions, shard->now_ns);
        if (row == TABLE_ROW_NONE)
            return work;
        const struct disk_transaction *disk = transactions_row(transactions, row);
        work++;
        switch (
            transaction_rule(transactions_state(transactions, row), TXN_EVENT_DEADLINE).action) {
        case TXN_DO_ABORT:
            LOG_INFO("txn.timed_out", LOG_U64("shard", shard->id),
                     LOG_STR("id", transactions_id_text(disk, id)),
                     LOG_U64("open_lsn", le64_get(disk->open_lsn)),
                     LOG_U64("timeout_ms", le32_get(disk->timeout_ms)));
            counter_add(&shard->counters.transactions_timed_out_total, 1);
            txn_job_begin(shard, row, &(struct txn_wish){.goal = TXN_GOAL_ABORT});
            break;
        case TXN_DO_ALARM:
            transactions_memory(transactions, row)->alarm_given = true;
            counter_add(&shard->counters.transactions_overdue_total, 1);
            LOG_WARN("txn.prepared_overdue", LOG_U64("shard", shard->id),
                     LOG_STR("id", transactions_id_text(disk, id)),
                     LOG_U64("open_lsn", le64_get(disk->open_lsn)),
                     LOG_STR("remedy", "its client, or sluicectl txn commit|abort, has to end it"));
            break;
        default:
            break; // it is being ended
        }
    }
    return work;
}
