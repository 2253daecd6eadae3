/* TXN_PREPARE, TXN_COMMIT, TXN_ABORT: how a client, or an operator by name, ends a transaction.
 *
 * What happens depends on the transaction's state alone (transaction_rules.def). When this shard is the only
 * participant, one entry in one group decides and carries out; otherwise a job does it (txn_job.h). Asking again is
 * answered by how the transaction ended: the last outcome of each transactional id is remembered. */
#include <stdio.h>

#include "base/fault.h"
#include "broker/handle_txn.h"
#include "broker/participants.h"
#include "broker/txn_job.h"

struct ask { // a request as it was read
    struct msg_txn_end m;
    enum txn_event event;
    enum txn_goal goal;
    bool by_name;
};

static uint16_t read_ask(struct request *request, struct ask *ask);
static uint16_t check_ask(struct shard *shard, const struct ask *ask, uint32_t row, char text[72]);
static enum handled act(struct shard *shard, struct request *request, const struct ask *ask,
                        uint32_t row);
static enum handled answer_last(struct shard *shard, struct request *request, const struct ask *ask,
                                uint32_t row);
static enum handled begin_end(struct shard *shard, struct request *request, const struct ask *ask,
                              uint32_t row, enum txn_goal goal);
static enum handled end_here(struct shard *shard, struct request *request, const struct ask *ask,
                             uint32_t row, enum txn_goal goal);
static bool names_others(const struct shard *shard, const struct ask *ask, uint64_t shards);
static uint16_t refuse_others(struct request *request);

enum handled handle_txn_end(struct shard *shard, struct request *request)
{
    struct ask ask;
    uint16_t error = read_ask(request, &ask);
    if (error) {
        shard_reply_error(shard, request, error, "%s",
                          error == PE_INVALID_ARGUMENT ? "a field is not allowed" : "");
        return HANDLED;
    }
    uint32_t row = transactions_find(shard->transactions, ask.m.txn.id);
    error = check_ask(shard, &ask, row, request->text);
    if (error) {
        txn_request_answer_when_durable(shard, request, error, false);
        return HANDLED;
    }
    return act(shard, request, &ask, row);
}

static uint16_t read_ask(struct request *request, struct ask *ask)
{
    struct frame frame;
    uint16_t error = frame_decode(request->frames, &frame);
    *ask = (struct ask){.event = TXN_EVENT_ABORT, .goal = TXN_GOAL_ABORT};
    if (!error && request->op == OP_TXN_ABORT) {
        error = read_txn_abort(&frame, &ask->m.txn);
    } else if (!error) {
        bool commits = request->op == OP_TXN_COMMIT;
        ask->event = commits ? TXN_EVENT_COMMIT : TXN_EVENT_PREPARE;
        ask->goal = commits ? TXN_GOAL_COMMIT : TXN_GOAL_PREPARE;
        error = read_txn_end(&frame, &ask->m);
    }
    ask->by_name = !error && ask->m.txn.producer_id == TXN_BY_NAME;
    return error;
}

/* Who asks, and for which transaction. The last one that ended goes on to answer_last(). */
static uint16_t check_ask(struct shard *shard, const struct ask *ask, uint32_t row, char text[72])
{
    const struct msg_txn *txn = &ask->m.txn;
    if (row == TABLE_ROW_NONE)
        return PE_UNKNOWN_TRANSACTIONAL_ID;
    const struct disk_transaction *disk = transactions_row(shard->transactions, row);
    if (!ask->by_name) {
        uint16_t error = transactions_check_producer(shard->transactions, row, txn->producer_id,
                                                     txn->epoch, text);
        if (error)
            return error;
    }
    bool is_open = txn->open_lsn != 0 && txn->open_lsn == le64_get(disk->open_lsn);
    bool is_last = disk->state == TXN_STATE_EMPTY && txn->open_lsn != 0 &&
                   txn->open_lsn == le64_get(disk->last_open_lsn);
    if (txn->coordinator != shard->id || (!is_open && !is_last))
        return PE_UNKNOWN_TRANSACTION;
    if (ask->by_name && is_open && ask->goal != TXN_GOAL_ABORT && disk->state == TXN_STATE_OPEN) {
        snprintf(text, 72, "not prepared: only its producer can commit it");
        return PE_INVALID_ARGUMENT;
    }
    return PE_NONE;
}

static enum handled act(struct shard *shard, struct request *request, const struct ask *ask,
                        uint32_t row)
{
    struct transaction *memory = transactions_memory(shard->transactions, row);
    struct txn_rule rule =
        transaction_rule(transactions_state(shard->transactions, row), ask->event);
    switch ((enum txn_action)rule.action) {
    case TXN_DO_LAST:
        return answer_last(shard, request, ask, row);
    case TXN_DO_VOTE:
    case TXN_DO_COMMIT:
        return begin_end(shard, request, ask, row, ask->goal);
    case TXN_DO_ABORT:
        return begin_end(shard, request, ask, row, TXN_GOAL_ABORT);
    case TXN_DO_ATTACH:
        if (memory->job && txn_job_goal(memory->job) == ask->goal)
            txn_job_attach(shard, row, request);
        else
            txn_request_answer(shard, request, PE_TRANSACTION_BUSY, "", false);
        return HANDLED;
    default:
        ASSERT(rule.error != PE_NONE);
        txn_request_answer_when_durable(shard, request, rule.error, false);
        return HANDLED;
    }
}

static enum handled answer_last(struct shard *shard, struct request *request, const struct ask *ask,
                                uint32_t row)
{
    const struct disk_transaction *disk = transactions_row(shard->transactions, row);
    uint16_t error = PE_NONE;
    if (disk->state == TXN_STATE_PREPARED)
        error = PE_NONE; // prepared again
    else if (disk->last_outcome == TXN_COMMITTED)
        error = ask->goal == TXN_GOAL_COMMIT ? PE_NONE : PE_TRANSACTION_COMMITTED;
    else
        error = ask->goal == TXN_GOAL_ABORT ? PE_NONE : PE_TRANSACTION_ABORTED;
    struct msg_txn_end end;
    struct txn_result_item *results = NULL;
    bool has_end =
        !error && ask->goal == TXN_GOAL_COMMIT && txn_request_end(request, &end, &results);
    txn_request_answer_when_durable(shard, request, error, has_end);
    return HANDLED;
}

/* ---- ending ---- */

static enum handled begin_end(struct shard *shard, struct request *request, const struct ask *ask,
                              uint32_t row, enum txn_goal goal)
{
    const struct disk_transaction *disk = transactions_row(shard->transactions, row);
    uint64_t here = (uint64_t)1 << shard->id, shards = le64_get(disk->shards);
    if (disk->state == TXN_STATE_OPEN && goal != TXN_GOAL_PREPARE && (shards & ~here) == 0)
        return end_here(shard, request, ask, row, goal);
    if (txn_jobs_is_full(shard->txn_jobs)) {
        txn_jobs_wait(shard->txn_jobs, request);
        return HANDLED;
    }
    struct txn_wish wish = {.goal = goal, .request = request};
    if (disk->state == TXN_STATE_OPEN && goal != TXN_GOAL_ABORT && names_others(shard, ask, shards))
        wish = (struct txn_wish){TXN_GOAL_ABORT, request, false, refuse_others(request)};
    txn_job_begin(shard, row, &wish);
    return HANDLED;
}

/* One entry holds all of it: one group, one fdatasync. */
static enum handled end_here(struct shard *shard, struct request *request, const struct ask *ask,
                             uint32_t row, enum txn_goal goal)
{
    const struct disk_transaction *disk = transactions_row(shard->transactions, row);
    struct disk_txn_name name = {.coordinator = le32_make(shard->id), .open_lsn = disk->open_lsn};
    struct msg_txn_end end;
    struct txn_result_item *results = NULL;
    struct wal_view view;
    uint16_t error = PE_NONE;
    bool has_end = goal == TXN_GOAL_COMMIT && txn_request_end(request, &end, &results);
    if (has_end && names_others(shard, ask, (uint64_t)1 << shard->id)) {
        error = refuse_others(request);
    } else if (goal == TXN_GOAL_COMMIT) {
        error = participants_vote(shard, &name, has_end ? &end : NULL, request->text);
    }
    int status;
    if (error || goal == TXN_GOAL_ABORT) {
        status = store_append_abort(shard->store, &name, TXN_END_DECIDES, &view);
    } else {
        if (results)
            participants_fill_results(shard, &name, &end, results);
        status = store_append_commit(shard->store, &name, TXN_END_DECIDES, &view);
    }
    if (status)
        return shard_not_appended(shard, request, status);
    if (error || goal == TXN_GOAL_ABORT)
        counter_add(&shard->counters.transactions_aborted_total, 1);
    else
        counter_add(&shard->counters.transactions_committed_total, 1);
    (void)fault_check(FAULT_TXN_CRASH_ONE_PHASE);
    txn_request_answer_when_durable(shard, request, error, results != NULL);
    return HANDLED;
}

/* Does it name something on a shard that has nothing? Who has something is asked to vote, and counts. */
static bool names_others(const struct shard *shard, const struct ask *ask, uint64_t shards)
{
    struct reader groups = ask->m.groups;
    for (uint32_t i = 0; i < ask->m.item_count; i++) {
        const struct txn_item *item = &ask->m.items[i];
        uint16_t owner = shard_of_partition(shard->slot_shard, le32_get(item->topic_id),
                                            le32_get(item->partition));
        if (!(shards >> owner & 1) && le32_get(item->batch_count) > 0)
            return true;
    }
    for (uint16_t i = 0; i < ask->m.group_count; i++) {
        struct slice group = read_string(&groups);
        if (!(shards >> shard_of_name(shard->slot_shard, group) & 1))
            return true;
    }
    return false;
}

static uint16_t refuse_others(struct request *request)
{
    snprintf(request->text, sizeof(request->text),
             "names a partition or group of a shard where nothing is staged");
    return PE_STAGED_MISMATCH;
}

/* ---- answers ---- */

bool txn_request_end(struct request *request, struct msg_txn_end *end,
                     struct txn_result_item **results)
{
    struct frame frame;
    ASSERT(frame_decode(request->frames, &frame) == PE_NONE);
    ASSERT(read_txn_end(&frame, end) == PE_NONE); // as before
    *results = NULL;
    if (request->op == OP_TXN_COMMIT) {
        uint8_t *items = request->reply->bytes + FRAME_HEADER_SIZE + TXN_COMMIT_REPLY_FIXED;
        *results = (struct txn_result_item *)items;
        for (uint32_t i = 0; i < end->item_count; i++)
            (*results)[i] = (struct txn_result_item){.topic_id = end->items[i].topic_id,
                                                     .partition = end->items[i].partition,
                                                     .base_offset = le64_make(UINT64_MAX)};
    }
    return end->txn.producer_id != TXN_BY_NAME;
}

static void seal(struct request *request, uint16_t error, const char *text, bool has_results)
{
    request->error = error;
    request->reply_bytes = 0;
    if (error) {
        if (text)
            snprintf(request->text, sizeof(request->text), "%s", text);
        return;
    }
    struct writer w = shard_reply_writer(request);
    uint32_t extra = 0;
    if (request->op == OP_TXN_COMMIT) {
        struct msg_txn_end end;
        struct frame frame;
        ASSERT(frame_decode(request->frames, &frame) == PE_NONE);
        ASSERT(read_txn_end(&frame, &end) == PE_NONE);
        uint32_t count = has_results ? end.item_count : 0;
        write_txn_commit_reply_begin(&w, count);
        extra = count * (uint32_t)sizeof(struct txn_result_item);
    }
    request->reply_bytes = frame_seal(request->reply->bytes, request->op, FRAME_REPLY,
                                      request->correlation, writer_length(&w) + extra, 0);
}

void txn_request_answer(struct shard *shard, struct request *request, uint16_t error,
                        const char *text, bool has_results)
{
    seal(request, error, text, has_results);
    shard_reply(shard, request);
}

void txn_request_answer_when_durable(struct shard *shard, struct request *request, uint16_t error,
                                     bool has_results)
{
    seal(request, error, NULL, has_results);
    shard_reply_when_durable(shard, request, store_reserved_lsn(shard->store));
}
