/* What a coordinator asks of a participant: can you commit, do commit, do abort.
 *
 * PREPARE compares what the client says is in the transaction with what is here, batch counts by partition; from the
 * PREPARE entry on, this shard can only do as it is told. COMMIT and ABORT are idempotent: a coordinator that was restarted tells
 * again, and a participant without the transaction has done it already.
 *
 * Counting needs no memory of its own: each partition has a place for it (partition->vote_count), zero between votes. */
#include <stdio.h>

#include "base/fault.h"
#include "base/plant.h"
#include "broker/groups.h"
#include "broker/participants.h"

static enum handled on_prepare(struct shard *shard, struct request *mail);
static enum handled on_commit(struct shard *shard, struct request *mail);
static enum handled on_abort(struct shard *shard, struct request *mail);
static void mark_staged(struct shard *shard, const struct disk_txn_name *name, uint32_t mark);
static uint16_t vote_on_batches(struct shard *shard, const struct disk_txn_name *name,
                                const struct msg_txn_end *end, char text[72]);
static uint16_t vote_on_offsets(struct shard *shard, const struct disk_txn_name *name,
                                const struct msg_txn_end *end, char text[72]);

enum handled participants_on_mail(struct shard *shard, struct request *mail)
{
    switch ((enum shard_mail_kind)mail->mail) {
    case MAIL_TXN_PREPARE:
        return on_prepare(shard, mail);
    case MAIL_TXN_COMMIT:
        return on_commit(shard, mail);
    default:
        ASSERT(mail->mail == MAIL_TXN_ABORT);
        return on_abort(shard, mail);
    }
}

/* ---- PREPARE ---- */

static enum handled on_prepare(struct shard *shard, struct request *mail)
{
    struct txn_mail *m = &mail->u.txn;
    uint32_t row = participants_find(shard->participants, &m->name);
    if (row == TABLE_ROW_NONE) {
        shard_reply_error(shard, mail, PE_STAGED_MISMATCH, "nothing is staged on shard %u",
                          shard->id);
        return HANDLED;
    }
    const struct disk_participant *disk = participants_row(shard->participants, row);
    if (disk->state == TXN_PART_PREPARED) { // asked again
        m->lsn = le64_get(disk->prepare_lsn);
        shard_reply_when_durable(shard, mail, store_reserved_lsn(shard->store));
        return HANDLED;
    }
    uint16_t error = PE_STAGED_MISMATCH; // of one whose JOIN came too late, and was refused
    if (!participants_is_refused(shard->participants, row))
        error = participants_vote(shard, &m->name, m->end, mail->text);
    if (error) {
        mail->error = error;
        shard_reply(shard, mail);
        return HANDLED;
    }
    struct disk_prepare payload = {.name = m->name, .is_explicit = le32_make(m->is_explicit)};
    struct wal_entry entry = {
        .type = ENTRY_PREPARE, .pieces = {{&payload, sizeof(payload)}}, .piece_count = 1};
    struct wal_view view;
    (void)fault_check(FAULT_TXN_CRASH_BEFORE_PREPARE);
    int status = store_append(shard->store, &entry, &view, NULL);
    if (status)
        return shard_not_appended(shard, mail, status);
    m->lsn = view.lsn;
    participants_prepared(shard, row);
    if (PLANTED(PREPARE_COMMITS) && m->is_explicit)
        (void)!store_append_commit(shard->store, &m->name, 0, &view);
    shard_reply_when_durable(shard, mail,
                             PLANTED(VOTE_UNSYNCED) ? 0 : store_reserved_lsn(shard->store));
    return HANDLED;
}

uint16_t participants_vote(struct shard *shard, const struct disk_txn_name *name,
                           const struct msg_txn_end *end, char text[72])
{
    uint16_t error = groups_vote(shard->groups, name, text);
    if (error || !end)
        return error;
    error = vote_on_batches(shard, name, end, text);
    return error ? error : vote_on_offsets(shard, name, end, text);
}

static bool is_of_this_shard(const struct shard *shard, const struct txn_item *item)
{
    return shard_of_partition(shard->slot_shard, le32_get(item->topic_id),
                              le32_get(item->partition)) == shard->id;
}

/* Of partitions that were dropped meanwhile only the sum is compared: their batches vanish, the rest commits. */
static uint16_t vote_on_batches(struct shard *shard, const struct disk_txn_name *name,
                                const struct msg_txn_end *end, char text[72])
{
    const struct staged *staged = store_staged(shard->store);
    uint64_t dropped = 0, dropped_named = 0;
    uint16_t error = PE_NONE;
    uint32_t row;
    for (row = staged_first(staged, name); row != TABLE_ROW_NONE; row = staged_next(staged, row)) {
        const struct disk_staged *batch = staged_row(staged, row);
        struct partition *partition =
            store_partition(shard->store, le32_get(batch->topic_id), le32_get(batch->partition));
        if (partition)
            partition->vote_count++;
        else
            dropped++;
    }
    for (uint32_t i = 0; i < end->item_count; i++) {
        const struct txn_item *item = &end->items[i];
        if (!is_of_this_shard(shard, item))
            continue;
        struct partition *partition =
            store_partition(shard->store, le32_get(item->topic_id), le32_get(item->partition));
        if (!partition) {
            dropped_named += le32_get(item->batch_count);
            continue;
        }
        if (!error && partition->vote_count != le32_get(item->batch_count)) {
            error = PE_STAGED_MISMATCH;
            snprintf(text, 72, "topic id %u partition %u: %u batches are staged, %u named",
                     partition->topic_id, partition->partition, partition->vote_count,
                     le32_get(item->batch_count));
        }
        partition->vote_count = 0;
    }
    for (row = staged_first(staged, name); row != TABLE_ROW_NONE; row = staged_next(staged, row)) {
        const struct disk_staged *batch = staged_row(staged, row);
        struct partition *partition =
            store_partition(shard->store, le32_get(batch->topic_id), le32_get(batch->partition));
        if (!partition || partition->vote_count == 0)
            continue;
        if (!error) {
            error = PE_STAGED_MISMATCH;
            snprintf(text, 72, "topic id %u partition %u: %u batches are staged, none named",
                     partition->topic_id, partition->partition, partition->vote_count);
        }
        partition->vote_count = 0;
    }
    if (!error && dropped != dropped_named) {
        error = PE_STAGED_MISMATCH;
        snprintf(text, 72, "%llu batches of dropped partitions are staged, %llu named",
                 (unsigned long long)dropped, (unsigned long long)dropped_named);
    }
    return error;
}

static uint16_t vote_on_offsets(struct shard *shard, const struct disk_txn_name *name,
                                const struct msg_txn_end *end, char text[72])
{
    struct reader groups = end->groups;
    bool any = false;
    for (uint16_t i = 0; i < end->group_count; i++) {
        struct slice group = read_string(&groups);
        if (shard_of_name(shard->slot_shard, group) != shard->id)
            continue;
        any = true;
        if (!groups_has_staged(shard->groups, name, group)) {
            snprintf(text, 72, "group \"%.*s\": no offsets are staged", (int)min_u64(group.len, 32),
                     (const char *)group.bytes);
            return PE_STAGED_MISMATCH;
        }
    }
    if (any || groups_staged_count(shard->groups, name) == 0)
        return PE_NONE;
    snprintf(text, 72, "offsets of a group are staged, none named");
    return PE_STAGED_MISMATCH;
}

/* ---- the decision ---- */

void participants_fill_results(struct shard *shard, const struct disk_txn_name *name,
                               const struct msg_txn_end *end, struct txn_result_item *results)
{
    mark_staged(shard, name, 1);
    for (uint32_t i = 0; i < end->item_count; i++) {
        const struct txn_item *item = &end->items[i];
        if (!is_of_this_shard(shard, item))
            continue;
        struct partition *partition =
            store_partition(shard->store, le32_get(item->topic_id), le32_get(item->partition));
        bool is_known = partition && partition->vote_count > 0;
        uint64_t base_offset = is_known ? partition->next_offset : UINT64_MAX;
        if (is_known && PLANTED(WRONG_OFFSET))
            base_offset++;
        results[i].base_offset = le64_make(base_offset);
    }
    mark_staged(shard, name, 0);
}

/* Sets the count of every partition of which something is staged under this name. */
static void mark_staged(struct shard *shard, const struct disk_txn_name *name, uint32_t mark)
{
    const struct staged *staged = store_staged(shard->store);
    uint32_t row = staged_first(staged, name);
    for (; row != TABLE_ROW_NONE; row = staged_next(staged, row)) {
        const struct disk_staged *batch = staged_row(staged, row);
        struct partition *partition =
            store_partition(shard->store, le32_get(batch->topic_id), le32_get(batch->partition));
        if (partition)
            partition->vote_count = mark;
    }
}

static enum handled on_commit(struct shard *shard, struct request *mail)
{
    struct txn_mail *m = &mail->u.txn;
    struct wal_view view;
    uint32_t row = participants_find(shard->participants, &m->name);
    /* One that has not voted is no part of what was decided: it came too late, and its JOIN will be refused. */
    if (row != TABLE_ROW_NONE &&
        participants_row(shard->participants, row)->state == TXN_PART_PREPARED) {
        if (m->end && m->results)
            participants_fill_results(shard, &m->name, m->end, m->results);
        int status = PLANTED(COMMIT_FORGOTTEN)
                         ? participants_abort(shard, row, PE_TRANSACTION_ABORTED, &view)
                         : store_append_commit(shard->store, &m->name, 0, &view);
        if (status)
            return shard_not_appended(shard, mail, status);
        (void)fault_check(FAULT_TXN_CRASH_COMMIT_APPENDED);
    }
    shard_reply_when_durable(shard, mail, store_reserved_lsn(shard->store));
    return HANDLED;
}

static enum handled on_abort(struct shard *shard, struct request *mail)
{
    struct wal_view view;
    uint32_t row = participants_find(shard->participants, &mail->u.txn.name);
    if (row != TABLE_ROW_NONE) {
        int status = participants_abort(shard, row, PE_TRANSACTION_ABORTED, &view);
        if (status)
            return shard_not_appended(shard, mail, status);
    }
    shard_reply_when_durable(shard, mail, store_reserved_lsn(shard->store));
    return HANDLED;
}
