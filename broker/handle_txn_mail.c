/* What participants ask their coordinator, and coordinators shard 0.
 *
 * JOIN: a shard has staged something. It is noted once, and answered when the note is durable: only then does the
 * participant ack what it staged, so no acked batch is ever missing from the list of those who have to vote.
 *
 * ASK: a participant that was restarted wants to know how its transaction ended. About one that is open or decided it
 * is told to wait: it will hear. One that has voted, while no decision was logged, was cut short by the restart:
 * it is aborted. One that is not known here is aborted by a logged decision, and only then is that answered. */
#include "base/log.h"
#include "broker/handle_txn.h"
#include "broker/txn_job.h"

static int log_join(struct shard *shard, const struct txn_mail *m, uint16_t participant);
static enum handled note_late(struct shard *shard, struct request *mail, uint32_t row);
static int log_unknown(struct shard *shard, const struct disk_txn_name *name);

static void answer(struct shard *shard, struct request *mail, uint16_t error)
{
    mail->error = error;
    shard_reply_when_durable(shard, mail, store_reserved_lsn(shard->store));
}

enum handled handle_txn_join(struct shard *shard, struct request *mail)
{
    const struct txn_mail *m = &mail->u.txn;
    uint32_t row = transactions_find_open(shard->transactions, le64_get(m->name.open_lsn));
    if (row == TABLE_ROW_NONE) {
        answer(shard, mail, PE_UNKNOWN_TRANSACTION);
        return HANDLED;
    }
    uint16_t error =
        transactions_check_producer(shard->transactions, row, m->producer_id, m->epoch, mail->text);
    struct txn_rule rule =
        transaction_rule(transactions_state(shard->transactions, row), TXN_EVENT_JOIN);
    const struct disk_transaction *disk = transactions_row(shard->transactions, row);
    bool is_noted = le64_get(disk->shards) >> mail->from_shard & 1;
    if (!error && rule.action == TXN_DO_JOIN && !is_noted) {
        int status = log_join(shard, m, mail->from_shard);
        if (status == E_FULL)
            return BLOCKED;
        error = status ? proto_error_from_status(status) : PE_NONE;
    }
    answer(shard, mail, error ? error : rule.error);
    return HANDLED;
}

static int log_join(struct shard *shard, const struct txn_mail *m, uint16_t participant)
{
    struct disk_txn_join payload = {.name = m->name, .shard = le32_make(participant)};
    struct wal_entry entry = {
        .type = ENTRY_TXN_JOIN, .pieces = {{&payload, sizeof(payload)}}, .piece_count = 1};
    struct wal_view view;
    return store_append(shard->store, &entry, &view, NULL);
}

enum handled handle_txn_ask(struct shard *shard, struct request *mail)
{
    const struct txn_mail *m = &mail->u.txn;
    uint32_t row = transactions_find_open(shard->transactions, le64_get(m->name.open_lsn));
    if (row == TABLE_ROW_NONE) {
        int status = log_unknown(shard, &m->name);
        if (status == E_FULL)
            return BLOCKED;
        answer(shard, mail, PE_UNKNOWN_TRANSACTION);
        return HANDLED;
    }
    if (!(le64_get(transactions_row(shard->transactions, row)->shards) >> mail->from_shard & 1))
        return note_late(shard, mail, row);
    bool was_cut_short =
        m->is_prepared && transactions_state(shard->transactions, row) == TXN_STATE_OPEN;
    if (was_cut_short && txn_jobs_is_full(shard->txn_jobs)) {
        txn_jobs_wait(shard->txn_jobs, mail);
        return HANDLED;
    }
    if (was_cut_short)
        txn_job_begin(shard, row, &(struct txn_wish){.goal = TXN_GOAL_ABORT});
    answer(shard, mail, PE_NONE);
    return HANDLED;
}

/* It had staged something, and the process died before its JOIN was in the log. It becomes one of those who hear how the
 * transaction ends; or, when it is too late for that, drops what it has, which was never acked. */
static enum handled note_late(struct shard *shard, struct request *mail, uint32_t row)
{
    struct txn_rule rule =
        transaction_rule(transactions_state(shard->transactions, row), TXN_EVENT_JOIN);
    int status = rule.action == TXN_DO_JOIN ? log_join(shard, &mail->u.txn, mail->from_shard) : 0;
    if (status == E_FULL)
        return BLOCKED;
    answer(shard, mail, status ? proto_error_from_status(status) : rule.error);
    return HANDLED;
}

/* Presumed abort: who is not in an intact log was not committed. */
static int log_unknown(struct shard *shard, const struct disk_txn_name *name)
{
    struct disk_txn_decide payload = {.name = *name, .decision = le32_make(TXN_DECIDE_ABORT)};
    struct wal_entry entry = {
        .type = ENTRY_DECIDE, .pieces = {{&payload, sizeof(payload)}}, .piece_count = 1};
    struct wal_view view;
    LOG_INFO("txn.unknown_aborted", LOG_U64("shard", shard->id),
             LOG_U64("open_lsn", le64_get(name->open_lsn)));
    return store_append(shard->store, &entry, &view, NULL);
}

enum handled handle_producer_id_mail(struct shard *shard, struct request *mail)
{
    uint64_t producer_id;
    int status = shard_producer_id(shard, &producer_id);
    if (status == E_FULL)
        return BLOCKED;
    mail->u.producer.producer_id = producer_id;
    answer(shard, mail, status ? proto_error_from_status(status) : PE_NONE);
    return HANDLED;
}
