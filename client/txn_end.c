/* Ending a transaction: commit, prepare, abort, and what was found prepared after a restart.
 *
 * The happy path of a commit: shut the gate, close the open batches; when all that was taken is
 * reported the I/O thread names every partition with its count of acked batches and asks; keep the
 * offsets that the answer tells. The question may be asked again, on any connection: the broker
 * remembers how the last transaction of an id ended. So a deadline that passes leaves the
 * transaction as it is, and the caller may ask again. Everything that says "this can't be
 * committed" is followed by an abort. */
#include "client/txn.h"

#include <stdlib.h>

#include "client/producer_private.h"
#include "client/txn_private.h"

#define ABANDON_MS 1000u

struct lanes_walk {
    uint64_t open_lsn;
    uint32_t count;
    struct writer *meta;                 // items are written to; NULL: they are counted
    const struct txn_result_item *items; // of the answer, in the same order; NULL
};

static int end(struct sluice_producer *producer, enum op op, uint64_t deadline_ns);
static void shut(struct sluice_producer *producer);
static int ask_when_reported(struct sluice_producer *producer, enum op op, uint64_t deadline_ns,
                             bool *asked);
static void close_lane(struct lane *lane, void *none);
static int flush(struct sluice_producer *producer, uint64_t deadline_ns);
static int why_not(struct sluice_producer *producer);
static void visit_staged(struct lane *lane, void *walk);
static int ask_until(struct sluice_producer *producer, enum op op, uint64_t deadline_ns);
static int or_undecided(int status);
static int ask_end(struct sluice_producer *producer, enum op op, uint64_t deadline_ns);
static int take_offsets(struct sluice_producer *producer, const struct frame *reply);
static int conclude(struct sluice_producer *producer, enum op op, int status, uint64_t deadline_ns);
static bool is_gone(int status);
static bool is_open_question(int status);
static int end_waiting(struct sluice_producer *producer, bool commit, uint64_t deadline_ns);
static int drop_pending(struct sluice_producer *producer, uint64_t deadline_ns);
static bool identity_is_new(struct sluice_producer *producer);

int sluice_txn_commit(struct sluice_producer *producer, uint32_t timeout_ms)
{
    int status = txn_enter(producer);
    if (status != SLUICE_OK)
        return status;
    status = end(producer, OP_TXN_COMMIT, client_deadline(producer->client, timeout_ms));
    txn_leave(producer);
    return status;
}

int sluice_txn_prepare(struct sluice_producer *producer, uint32_t timeout_ms,
                       struct sluice_txn_name *name)
{
    int status = txn_enter(producer);
    if (status != SLUICE_OK)
        return status;
    status = end(producer, OP_TXN_PREPARE, client_deadline(producer->client, timeout_ms));
    if (status == SLUICE_OK && name)
        txn_write_name(name, producer->txn->id, producer->txn->coordinator,
                       producer->txn->open_lsn);
    txn_leave(producer);
    return status;
}

int sluice_txn_abort(struct sluice_producer *producer, uint32_t timeout_ms)
{
    int status = txn_enter(producer);
    if (status != SLUICE_OK)
        return status;
    uint64_t deadline_ns = client_deadline(producer->client, timeout_ms);
    if (producer->txn->phase == TXN_NONE)
        status = end_waiting(producer, false, deadline_ns);
    else
        status = txn_abort_now(producer, deadline_ns);
    txn_leave(producer);
    return status;
}

int sluice_txn_recover(struct sluice_producer *producer, uint32_t timeout_ms,
                       struct sluice_txn_name *name)
{
    struct txn_identity identity;
    int status = txn_enter(producer);
    if (status != SLUICE_OK)
        return status;
    status = txn_wait_identity(producer, client_deadline(producer->client, timeout_ms), &identity);
    if (status == SLUICE_OK && identity.waits && name)
        txn_write_name(name, producer->txn->id, identity.waiting_coordinator, identity.waiting_lsn);
    txn_leave(producer);
    return status == SLUICE_OK ? identity.waits : status;
}

int sluice_txn_offset(struct sluice_producer *producer, const char *topic, uint32_t partition,
                      uint64_t *offset)
{
    if (!producer->txn || !topic || !offset)
        return SLUICE_E_INVALID;
    struct lane *lane = topics_known_lane(producer, topic, partition);
    if (!lane || lane->committed_open_lsn == 0 ||
        lane->committed_open_lsn != producer->txn->open_lsn) {
        error_set("%s, partition %u: the last transaction has no records there", topic, partition);
        return SLUICE_E_INVALID;
    }
    *offset = lane->committed_offset;
    return SLUICE_OK;
}

void txn_write_name(struct sluice_txn_name *name, const char *id, uint32_t coordinator,
                    uint64_t open_lsn)
{
    *name = (struct sluice_txn_name){.coordinator = coordinator, .open_lsn = open_lsn};
    memcpy(name->id, id, strlen(id));
}

/* ---- commit and prepare ---- */

static int end(struct sluice_producer *producer, enum op op, uint64_t deadline_ns)
{
    struct producer_txn *txn = producer->txn;
    bool prepared = txn->phase == TXN_PREPARED && op == OP_TXN_PREPARE;
    if (txn->phase == TXN_NONE && op == OP_TXN_COMMIT)
        return end_waiting(producer, true, deadline_ns);
    if (txn->phase == TXN_NONE || prepared) {
        error_set(prepared ? "the transaction is prepared already" : "no transaction is open");
        return SLUICE_E_INVALID;
    }
    int status = SLUICE_OK;
    bool asked = false;
    if (txn->phase != TXN_PREPARED) {
        shut(producer);
        status = producer->report_poll ? flush(producer, deadline_ns)
                                       : ask_when_reported(producer, op, deadline_ns, &asked);
        if (producer->report_poll && status == SLUICE_OK)
            status = txn_make_meta(producer);
        if (status == SLUICE_E_TIMED_OUT && !asked)
            return status;
    }
    bool again = asked && SLUICE_BROKER_ERROR(status) != 0 && sluice_is_retriable(status);
    if (again || (!asked && status == SLUICE_OK))
        status = ask_until(producer, op, deadline_ns);
    return conclude(producer, op, status, deadline_ns);
}

/* Behind this nothing more gets into the transaction: a batch that is begun looks at the gate. */
static void shut(struct sluice_producer *producer)
{
    producer->txn->phase = TXN_ENDING;
    producer_set_gate(producer, SLUICE_E_INVALID);
    topics_each_lane(producer, close_lane, NULL);
}

/* The I/O thread asks as soon as the last report has run, so the caller sleeps once, not twice. */
static int ask_when_reported(struct sluice_producer *producer, enum op op, uint64_t deadline_ns,
                             bool *asked)
{
    struct producer_txn *txn = producer->txn;
    struct request request;
    int status = request_begin(&request, producer->client, op, 0);
    uint8_t *own = request.call.meta;
    request.deadline_ns = deadline_ns;
    if (status == SLUICE_OK)
        status = request_ready(&request);
    if (status == SLUICE_OK) {
        txn->was_asked = false;
        txn->to_end = &request;
        client_command(producer->client, COMMAND_TXN_END, producer);
        status = request_finish(&request);
        *asked = txn->was_asked;
    }
    if (status == SLUICE_OK && op == OP_TXN_COMMIT)
        status = take_offsets(producer, &request.reply);
    request.call.meta = own;
    request_end(&request);
    return status;
}

static void close_lane(struct lane *lane, void *none)
{
    (void)none;
    if (lane_close(lane))
        client_command(lane->producer->client, COMMAND_LANE_READY, lane);
}

static int flush(struct sluice_producer *producer, uint64_t deadline_ns)
{
    uint64_t now_ns = clock_mono_ns(producer->client->clock);
    uint64_t left_ms = deadline_ns > now_ns ? (deadline_ns - now_ns) / NS_PER_MS : 0;
    return sluice_producer_flush(producer, (uint32_t)min_u64(left_ms, UINT32_MAX));
}

static int why_not(struct sluice_producer *producer)
{
    int status = atomic_load(&producer->fatal);
    if (status == SLUICE_OK)
        status = atomic_load(&producer->txn->doom);
    if (status == SLUICE_OK && identity_is_new(producer))
        status = SLUICE_E_TRANSACTION_ABORTED;
    return status;
}

int txn_make_meta(struct sluice_producer *producer)
{
    struct producer_txn *txn = producer->txn;
    int status = why_not(producer);
    if (status != SLUICE_OK)
        return status;
    struct msg_txn name = txn_name(producer);
    struct lanes_walk walk = {.open_lsn = txn->open_lsn};
    topics_each_lane(producer, visit_staged, &walk);
    if (walk.count > TXN_ITEM_COUNT_MAX) {
        error_set("a transaction with %u partitions, allowed %u", walk.count, TXN_ITEM_COUNT_MAX);
        return SLUICE_E_INVALID;
    }
    uint32_t room = 64 + name.id.len + walk.count * (uint32_t)sizeof(struct txn_item);
    for (uint32_t i = 0; i < txn->group_count; i++)
        room += 2 + txn->groups[i].len;
    free(txn->end_meta);
    txn->end_meta = malloc(room);
    if (!txn->end_meta)
        return SLUICE_E_NO_MEMORY;
    struct writer w = writer_make(txn->end_meta, room);
    write_txn_end_begin(&w, &name, walk.count, (uint16_t)txn->group_count);
    walk.meta = &w;
    topics_each_lane(producer, visit_staged, &walk);
    for (uint32_t i = 0; i < txn->group_count; i++)
        write_string(&w, txn->groups[i]);
    ASSERT(!w.failed);
    txn->end_meta_bytes = writer_length(&w);
    return SLUICE_OK;
}

/* Lanes are only ever added, and each walk meets those with something staged in the same order. */
static void visit_staged(struct lane *lane, void *context)
{
    struct lanes_walk *walk = context;
    /* A1: sees the count; pairs with R1 in reports.c. */
    atomic_load_explicit(&lane->reported, memory_order_acquire);
    if (lane->txn_open_lsn != walk->open_lsn || lane->txn_batch_count == 0)
        return;
    if (walk->items) {
        lane->committed_open_lsn = walk->open_lsn;
        lane->committed_offset = le64_get(walk->items[walk->count].base_offset);
        walk->count++;
    } else if (walk->meta) {
        write_txn_item(walk->meta, lane->topic->topic_id, lane->partition, lane->txn_batch_count);
    } else {
        walk->count++;
    }
}

/* ---- asking ---- */

static int ask_until(struct sluice_producer *producer, enum op op, uint64_t deadline_ns)
{
    uint32_t attempt = 0;
    for (;;) {
        int status = ask_end(producer, op, deadline_ns);
        bool again = SLUICE_BROKER_ERROR(status) != 0 && sluice_is_retriable(status);
        if (!again || !txn_pause(producer, &attempt, deadline_ns))
            return or_undecided(status);
    }
}

/* "Not now" answers the last try; an earlier one may have been carried out, and its answer lost. */
static int or_undecided(int status)
{
    bool not_now = SLUICE_BROKER_ERROR(status) != 0 && sluice_is_retriable(status);
    return not_now ? SLUICE_E_TIMED_OUT : status;
}

static int ask_end(struct sluice_producer *producer, enum op op, uint64_t deadline_ns)
{
    struct producer_txn *txn = producer->txn;
    struct msg_txn name = txn_name(producer);
    struct request request;
    int status = request_begin(&request, producer->client, op,
                               (uint32_t)max_u64(txn->end_meta_bytes, 64 + name.id.len));
    if (status == SLUICE_OK) {
        if (op == OP_TXN_ABORT)
            write_txn_abort(&request.meta, &name);
        else
            write_bytes(&request.meta, txn->end_meta, txn->end_meta_bytes);
        request.deadline_ns = deadline_ns;
        status = request_wait(&request);
    }
    if (status == SLUICE_OK && op == OP_TXN_COMMIT)
        status = take_offsets(producer, &request.reply);
    request_end(&request);
    return status;
}

static int take_offsets(struct sluice_producer *producer, const struct frame *frame)
{
    struct msg_txn_commit_reply reply;
    struct lanes_walk counted = {.open_lsn = producer->txn->open_lsn};
    topics_each_lane(producer, visit_staged, &counted);
    if (read_txn_commit_reply(frame, &reply) != PE_NONE || reply.item_count != counted.count)
        return SLUICE_E_PROTOCOL;
    struct lanes_walk walk = {.open_lsn = producer->txn->open_lsn, .items = reply.items};
    topics_each_lane(producer, visit_staged, &walk);
    return SLUICE_OK;
}

/* What an answer means for the transaction. A prepared one is aborted by nobody but its client. */
static int conclude(struct sluice_producer *producer, enum op op, int status, uint64_t deadline_ns)
{
    struct producer_txn *txn = producer->txn;
    if (is_open_question(status))
        return status;
    if (status == SLUICE_OK && op == OP_TXN_PREPARE) {
        txn->phase = TXN_PREPARED;
        return status;
    }
    bool is_over = status == SLUICE_OK || is_gone(status) ||
                   (status == SLUICE_E_TRANSACTION_COMMITTED && op == OP_TXN_PREPARE);
    if (status == SLUICE_E_FENCED_PRODUCER)
        producer_set_fatal(producer, status);
    else if (!is_over && txn->phase == TXN_PREPARED)
        return status;
    if (is_gone(status))
        status = SLUICE_E_TRANSACTION_ABORTED;
    if (status == SLUICE_OK || sluice_is_fatal(status)) {
        txn_forget(txn);
        return status;
    }
    int aborted = txn_abort_now(producer, deadline_ns); // whose words would be about another thing
    return aborted == SLUICE_E_TRANSACTION_COMMITTED ? aborted : status;
}

/* Aborted, and maybe so long ago that the broker has forgotten it. */
static bool is_gone(int status)
{
    return status == SLUICE_E_TRANSACTION_ABORTED || status == SLUICE_E_UNKNOWN_TRANSACTION ||
           SLUICE_BROKER_ERROR(status) == PE_UNKNOWN_TRANSACTIONAL_ID;
}

static bool is_open_question(int status)
{
    return status == SLUICE_E_TIMED_OUT || status == SLUICE_E_CONNECT ||
           status == SLUICE_E_CLOSED || status == SLUICE_E_NO_MEMORY ||
           (SLUICE_BROKER_ERROR(status) != 0 && sluice_is_retriable(status));
}

/* ---- abort ---- */

int txn_abort_now(struct sluice_producer *producer, uint64_t deadline_ns)
{
    struct producer_txn *txn = producer->txn;
    struct txn_identity identity;
    bool was_prepared = txn->phase == TXN_PREPARED;
    int status = SLUICE_OK;
    if (!was_prepared) {
        txn->phase = TXN_ENDING;
        status = drop_pending(producer, deadline_ns);
    }
    if (status != SLUICE_OK)
        return status;
    if (!was_prepared && identity_is_new(producer))
        status = or_undecided(txn_wait_identity(producer, deadline_ns, &identity)); // aborts it
    else
        status = ask_until(producer, OP_TXN_ABORT, deadline_ns);
    if (is_open_question(status))
        return status;
    if (is_gone(status))
        status = SLUICE_OK;
    if (status == SLUICE_E_FENCED_PRODUCER)
        producer_set_fatal(producer, status);
    bool decided = status == SLUICE_OK || status == SLUICE_E_TRANSACTION_COMMITTED;
    if (!decided && !sluice_is_fatal(status) && !was_prepared) { // whatever it is: TXN_INIT ends it
        txn_renew(producer);
        status = or_undecided(txn_wait_identity(producer, deadline_ns, &identity));
    }
    if (status == SLUICE_OK || status == SLUICE_E_TRANSACTION_COMMITTED || sluice_is_fatal(status))
        txn_forget(txn);
    return status;
}

static int drop_pending(struct sluice_producer *producer, uint64_t deadline_ns)
{
    shut(producer);
    txn_command(producer, COMMAND_TXN_DROP);
    return flush(producer, deadline_ns);
}

/* Since the begin: then the transaction is aborted, or will be by the TXN_INIT under way. */
static bool identity_is_new(struct sluice_producer *producer)
{
    struct producer_txn *txn = producer->txn;
    pthread_mutex_lock(&producer->wait_mutex);
    bool is_new = !txn->identity.known || txn->identity.count != txn->identity_count;
    pthread_mutex_unlock(&producer->wait_mutex);
    return is_new;
}

void txn_abandon(struct sluice_producer *producer)
{
    struct producer_txn *txn = producer->txn;
    bool open = txn->phase == TXN_OPEN || txn->phase == TXN_ENDING;
    if (!open || atomic_load(&producer->fatal) != SLUICE_OK ||
        sluice_client_wait(producer->client, 0) != SLUICE_OK)
        return;
    ask_end(producer, OP_TXN_ABORT, client_deadline(producer->client, ABANDON_MS));
}

/* ---- prepared by an earlier life of this program ---- */

static int end_waiting(struct sluice_producer *producer, bool commit, uint64_t deadline_ns)
{
    struct txn_identity identity;
    struct sluice_txn_name name;
    int status = or_undecided(txn_wait_identity(producer, deadline_ns, &identity));
    if (status == SLUICE_OK && !identity.waits) {
        error_set("no transaction is open");
        status = SLUICE_E_INVALID;
    }
    if (status != SLUICE_OK)
        return status;
    txn_write_name(&name, producer->txn->id, identity.waiting_coordinator, identity.waiting_lsn);
    uint32_t attempt = 0;
    do {
        status = txn_end_by_name(producer->client, &name, commit, deadline_ns);
    } while (SLUICE_BROKER_ERROR(status) != 0 && sluice_is_retriable(status) &&
             txn_pause(producer, &attempt, deadline_ns));
    status = or_undecided(status);
    if (!is_open_question(status)) {
        pthread_mutex_lock(&producer->wait_mutex);
        producer->txn->identity.waits = false;
        pthread_mutex_unlock(&producer->wait_mutex);
    }
    return status;
}
