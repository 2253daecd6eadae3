/* TXN_INIT and TXN_BEGIN: who may open transactions under a transactional id, and opening one.
 *
 * TXN_INIT gives the id its next epoch, so whoever had the last one is fenced from here on. What that one left open is
 * aborted first; what it left prepared is told, to be ended by name. A new id, or one whose epochs are used up, gets a
 * producer id from shard 0.
 *
 * Failure modes: all rows are taken: the id that has been idle longest is forgotten, by a logged entry. */
#include <stdio.h>

#include "base/log.h"
#include "broker/handle_txn.h"
#include "broker/txn_job.h"

static enum handled give_epoch(struct shard *shard, struct request *request, struct slice id,
                               uint32_t row);
static bool ask_producer_id(struct shard *shard, struct request *request);
static int make_room(struct shard *shard);
static void answer_init(struct shard *shard, struct request *request, struct slice id);
static uint16_t check_begin(struct shard *shard, const struct msg_txn_begin *m, uint32_t row,
                            char text[72]);
static void answer_begin(struct shard *shard, struct request *request, uint32_t row);

/* ---- TXN_INIT ---- */

enum handled handle_txn_init(struct shard *shard, struct request *request)
{
    struct frame frame;
    struct msg_txn_init m;
    uint16_t error = frame_decode(request->frames, &frame);
    error = error ? error : read_txn_init(&frame, &m);
    if (!error && shard->state == SHARD_DRAINING)
        error = PE_SHUTTING_DOWN;
    if (error) {
        shard_reply_error(shard, request, error, "%s",
                          error == PE_INVALID_ARGUMENT ? "transactional id: 1..249 bytes of text"
                                                       : "");
        return HANDLED;
    }
    uint32_t row = transactions_find(shard->transactions, m.id);
    if (row == TABLE_ROW_NONE)
        return give_epoch(shard, request, m.id, row);
    struct transaction *memory = transactions_memory(shard->transactions, row);
    switch (transaction_rule(transactions_state(shard->transactions, row), TXN_EVENT_INIT).action) {
    case TXN_DO_EPOCH:
        return give_epoch(shard, request, m.id, row);
    case TXN_DO_ABORT:
        if (txn_jobs_is_full(shard->txn_jobs)) {
            txn_jobs_wait(shard->txn_jobs, request);
            return HANDLED;
        }
        txn_job_begin(shard, row, &(struct txn_wish){.goal = TXN_GOAL_ABORT});
        break;
    default:
        break; // WAIT
    }
    list_push_back(&memory->inits, &request->link);
    return HANDLED;
}

static enum handled give_epoch(struct shard *shard, struct request *request, struct slice id,
                               uint32_t row)
{
    struct disk_producer_open payload = {0};
    uint64_t new_id_plus_1 = request->u.init.producer_id_plus_1;
    bool has_epochs = false;
    if (row != TABLE_ROW_NONE) {
        const struct disk_transaction *disk = transactions_row(shard->transactions, row);
        has_epochs = le16_get(disk->epoch) < EPOCH_MAX;
        payload.producer_id = le64_make(le64_get(disk->producer_id_plus_1) - 1);
        payload.epoch = le16_make((uint16_t)(le16_get(disk->epoch) + 1));
    }
    if (!has_epochs && new_id_plus_1 == 0) {
        if (!ask_producer_id(shard, request))
            shard_reply_error(shard, request, PE_OVERLOADED, "%s", "");
        return HANDLED;
    }
    if (!has_epochs)
        payload = (struct disk_producer_open){.producer_id = le64_make(new_id_plus_1 - 1)};
    if (row == TABLE_ROW_NONE && transactions_is_full(shard->transactions)) {
        int status = make_room(shard);
        if (status == E_NOT_FOUND) {
            shard_reply_error(shard, request, PE_LIMIT_REACHED,
                              "%u transactional ids have a transaction open",
                              TRANSACTIONS_PER_SHARD);
            return HANDLED;
        }
        if (status)
            return shard_not_appended(shard, request, status);
    }
    struct wal_entry entry = {
        .type = ENTRY_PRODUCER_OPEN,
        .pieces = {{&payload, sizeof(payload)}, {id.bytes, (uint32_t)id.len}},
        .piece_count = 2,
    };
    struct wal_view view;
    int status = store_append(shard->store, &entry, &view, NULL);
    if (status)
        return shard_not_appended(shard, request, status);
    answer_init(shard, request, id);
    return HANDLED;
}

/* The request waits for the mail; then it is handled again. */
static bool ask_producer_id(struct shard *shard, struct request *request)
{
    struct request *mail = request_acquire(shard->requests, REQUEST_SHARD, shard->core);
    if (!mail)
        return false;
    mail->mail = MAIL_PRODUCER_ID;
    mail->from_shard = shard->id;
    mail->shard = 0;
    mail->target_core = shard->shard_core[0];
    mail->context = request;
    if (mailbox_send(shard->mailbox, mail) == 0)
        return true;
    request_release(shard->requests, mail);
    return false;
}

void txn_init_on_reply(struct shard *shard, struct request *mail)
{
    struct request *request = mail->context;
    uint16_t error = mail->error;
    request->u.init.producer_id_plus_1 = mail->u.producer.producer_id + 1;
    request_release(shard->requests, mail);
    if (error)
        shard_reply_error(shard, request, error, "%s", "");
    else
        list_push_back(&shard->queue,
                       &request->link); // in order: the later one gets the later epoch
}

static int make_room(struct shard *shard)
{
    uint32_t idle = transactions_idlest(shard->transactions);
    if (idle == TABLE_ROW_NONE)
        return E_NOT_FOUND;
    return transactions_forget(shard, idle);
}

int transactions_forget(struct shard *shard, uint32_t row)
{
    const struct disk_transaction *disk = transactions_row(shard->transactions, row);
    le64 producer_id = le64_make(le64_get(disk->producer_id_plus_1) - 1);
    char id[TRANSACTIONAL_ID_BYTES_MAX + 1];
    struct wal_entry entry = {.type = ENTRY_PRODUCER_EXPIRE,
                              .pieces = {{&producer_id, sizeof(producer_id)}},
                              .piece_count = 1};
    struct wal_view view;
    LOG_DEBUG("txn.id_forgotten", LOG_U64("shard", shard->id),
              LOG_STR("id", transactions_id_text(disk, id)));
    return store_append(shard->store, &entry, &view, NULL);
}

static void answer_init(struct shard *shard, struct request *request, struct slice id)
{
    uint32_t row = transactions_find(shard->transactions, id);
    const struct disk_transaction *disk = transactions_row(shard->transactions, row);
    bool is_prepared = disk->state == TXN_STATE_PREPARED;
    struct msg_txn_init_reply reply = {
        .producer_id = le64_get(disk->producer_id_plus_1) - 1,
        .epoch = le16_get(disk->epoch),
        .state = is_prepared ? TXN_INIT_PREPARED : TXN_INIT_NONE,
        .coordinator = shard->id,
        .open_lsn = is_prepared ? le64_get(disk->open_lsn) : 0,
    };
    struct writer w = shard_reply_writer(request);
    write_txn_init_reply(&w, &reply);
    shard_reply_seal(request, &w);
    shard_reply_when_durable(shard, request, store_reserved_lsn(shard->store));
}

/* ---- TXN_BEGIN ---- */

enum handled handle_txn_begin(struct shard *shard, struct request *request)
{
    struct frame frame;
    struct msg_txn_begin m;
    uint16_t error = frame_decode(request->frames, &frame);
    error = error ? error : read_txn_begin(&frame, &m);
    uint32_t row = error ? TABLE_ROW_NONE : transactions_find(shard->transactions, m.id);
    error = error ? error : check_begin(shard, &m, row, request->text);
    if (error == PE_TRANSACTION_OPEN &&
        le64_get(transactions_row(shard->transactions, row)->shards) == 0) {
        answer_begin(shard, request, row); // asked again: nothing has been staged since
        return HANDLED;
    }
    if (error)
        return shard_refuse(shard, request, error);
    uint32_t timeout_ms = m.timeout_ms ? m.timeout_ms : shard->txn.timeout_ms;
    struct disk_txn_open payload = {
        .producer_id = le64_make(m.producer_id),
        .epoch = le16_make(m.epoch),
        .timeout_ms = le32_make(timeout_ms),
    };
    struct wal_entry entry = {
        .type = ENTRY_TXN_OPEN,
        .pieces = {{&payload, sizeof(payload)}, {m.id.bytes, (uint32_t)m.id.len}},
        .piece_count = 2,
    };
    struct wal_view view;
    int status = store_append(shard->store, &entry, &view, NULL);
    if (status)
        return shard_not_appended(shard, request, status);
    transactions_arm(shard->transactions, row, shard->now_ns + timeout_ms * NS_PER_MS);
    counter_add(&shard->counters.transactions_begun_total, 1);
    answer_begin(shard, request, row);
    return HANDLED;
}

static uint16_t check_begin(struct shard *shard, const struct msg_txn_begin *m, uint32_t row,
                            char text[72])
{
    if (shard->state == SHARD_DRAINING)
        return PE_SHUTTING_DOWN;
    if (row == TABLE_ROW_NONE)
        return PE_UNKNOWN_TRANSACTIONAL_ID;
    uint16_t error =
        transactions_check_producer(shard->transactions, row, m->producer_id, m->epoch, text);
    if (error)
        return error;
    if (m->timeout_ms > shard->txn.timeout_ms_max) {
        snprintf(text, 72, "timeout %u ms, allowed up to %u", m->timeout_ms,
                 shard->txn.timeout_ms_max);
        return PE_INVALID_ARGUMENT;
    }
    return transaction_rule(transactions_state(shard->transactions, row), TXN_EVENT_BEGIN).error;
}

/* When TXN_OPEN is durable: from then on this name means this transaction and no other. */
static void answer_begin(struct shard *shard, struct request *request, uint32_t row)
{
    const struct disk_transaction *disk = transactions_row(shard->transactions, row);
    struct msg_txn_begin_reply reply = {
        .coordinator = shard->id,
        .timeout_ms = le32_get(disk->timeout_ms),
        .open_lsn = le64_get(disk->open_lsn),
    };
    struct writer w = shard_reply_writer(request);
    write_txn_begin_reply(&w, &reply);
    shard_reply_seal(request, &w);
    shard_reply_when_durable(shard, request, store_reserved_lsn(shard->store));
}
