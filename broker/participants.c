/* Rows of participants and the map to them; joining and asking. Votes and what coordinators order is in
 * participant_vote.c.
 *
 * Happy path: the first batch of a transaction makes the row; participants_answer() puts its request into `waiters` and the
 * participant into the list of things to do; participants_turn() sends JOIN; its answer lets the waiters go on to wait for the
 * disk, which has usually been faster.
 *
 * Failure modes: no request or mailbox place for a mail: tried again in the next turn. The JOIN is refused: ABORT is logged
 * here, then the waiters are told. */
#include "broker/participants.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/plant.h"
#include "base/row_map.h"
#include "broker/groups.h"
#include "broker/shard_state.h"
#include "broker/transactions.h"

struct participants {
    struct table *table;
    struct row_map map;
    struct participant *memory;
    struct list todo;
    uint32_t prepared_count;
};

static uint64_t hash_of(const struct disk_txn_name *name);
static struct disk_txn_name name_of(const struct disk_participant *row);
static void memory_init(struct participants *participants, uint32_t row);
static void todo_add(struct participants *participants, struct participant *memory);
static bool do_one(struct shard *shard, uint32_t row);
static bool send_mail(struct shard *shard, uint32_t row, enum shard_mail_kind kind);
static bool drop_refused(struct shard *shard, uint32_t row);
static void waiters_go_on(struct shard *shard, struct participant *memory);
static bool is_of_another(const struct disk_participant *disk, const struct participant *memory,
                          uint64_t producer_id, uint16_t epoch);
static void refuse_request(struct shard *shard, struct request *request, uint16_t error);

struct participants *participants_new(uint32_t row_count_max)
{
    struct participants *participants = calloc(1, sizeof(*participants));
    if (!participants)
        return NULL;
    list_init(&participants->todo);
    participants->table =
        table_new(&(struct table_options){.id = TABLE_PARTICIPANTS,
                                          .row_bytes = sizeof(struct disk_participant),
                                          .row_count_max = row_count_max});
    participants->memory = calloc(row_count_max, sizeof(*participants->memory));
    if (participants->table && participants->memory &&
        row_map_init(&participants->map, row_count_max) == 0)
        return participants;
    participants_free(participants);
    return NULL;
}

void participants_free(struct participants *participants)
{
    if (!participants)
        return;
    if (participants->table)
        table_free(participants->table);
    row_map_deinit(&participants->map);
    free(participants->memory);
    free(participants);
}

struct table *participants_table(struct participants *participants)
{
    return participants->table;
}

int participants_rebuild(struct participants *participants, const char **why)
{
    for (uint32_t row = 0; row < table_row_count(participants->table); row++) {
        if (!table_row_is_used(participants->table, row))
            continue;
        const struct disk_participant *disk = table_row(participants->table, row);
        struct disk_txn_name name = name_of(disk);
        bool is_possible = disk->state == TXN_PART_STAGING || disk->state == TXN_PART_PREPARED;
        if (!is_possible && !PLANTED(STATE_UNCHECKED)) {
            *why = "a participant in an impossible state";
            return E_CORRUPT;
        }
        if (participants_find(participants, &name) != TABLE_ROW_NONE) {
            *why = "two participants in one transaction";
            return E_CORRUPT;
        }
        row_map_add(&participants->map, hash_of(&name), row);
        memory_init(participants, row);
        participants->prepared_count += disk->state == TXN_PART_PREPARED;
    }
    return 0;
}

/* ---- looking ---- */

uint32_t participants_find(const struct participants *participants,
                           const struct disk_txn_name *name)
{
    uint64_t hash = hash_of(name);
    uint32_t at, row = row_map_first(&participants->map, hash, &at);
    for (; row != ROW_MAP_NONE; row = row_map_next(&participants->map, hash, &at)) {
        struct disk_txn_name other = name_of(table_row(participants->table, row));
        if (memcmp(&other, name, sizeof(other)) == 0)
            return row;
    }
    return TABLE_ROW_NONE;
}

const struct disk_participant *participants_row(const struct participants *participants,
                                                uint32_t row)
{
    return table_row(participants->table, row);
}

uint32_t participants_count(const struct participants *participants)
{
    return table_used_count(participants->table);
}

uint32_t participants_prepared_count(const struct participants *participants)
{
    return participants->prepared_count;
}

bool participants_is_full(const struct participants *participants)
{
    return table_is_full(participants->table);
}

/* ---- staging ---- */

static uint16_t check_coordinator_here(struct shard *shard, const struct disk_txn_name *name,
                                       uint64_t producer_id, uint16_t epoch, char text[72])
{
    uint32_t row = transactions_find_open(shard->transactions, le64_get(name->open_lsn));
    if (row == TABLE_ROW_NONE)
        return PE_UNKNOWN_TRANSACTION;
    uint16_t error =
        transactions_check_producer(shard->transactions, row, producer_id, epoch, text);
    if (error)
        return error;
    return transaction_rule(transactions_state(shard->transactions, row), TXN_EVENT_JOIN).error;
}

uint16_t participants_check(struct shard *shard, const struct disk_txn_name *name,
                            uint64_t producer_id, uint16_t epoch, char text[72])
{
    struct participants *participants = shard->participants;
    if (le32_get(name->coordinator) >= shard->shard_count || le32_get(name->reserved) != 0) {
        snprintf(text, 72, "coordinator %u, allowed 0..%u", le32_get(name->coordinator),
                 shard->shard_count - 1u);
        return PE_INVALID_ARGUMENT;
    }
    if (le64_get(name->open_lsn) == 0) // in the log this would be no transaction
        return PE_UNKNOWN_TRANSACTION;
    if (le32_get(name->coordinator) == shard->id) {
        uint16_t error = check_coordinator_here(shard, name, producer_id, epoch, text);
        if (error)
            return error;
    }
    uint32_t row = participants_find(participants, name);
    if (row == TABLE_ROW_NONE) {
        if (!participants_is_full(participants))
            return PE_NONE;
        snprintf(text, 72, "at most %u transactions on a shard", PARTICIPANTS_PER_SHARD);
        return PE_OVERLOADED;
    }
    const struct disk_participant *disk = participants_row(participants, row);
    if (disk->state == TXN_PART_PREPARED)
        return PE_TRANSACTION_PREPARED;
    if (participants->memory[row].join == JOIN_REFUSED)
        return participants->memory[row].error;
    if (!is_of_another(disk, &participants->memory[row], producer_id, epoch))
        return PE_NONE;
    snprintf(text, 72, "the transaction is another producer's, or another epoch's");
    return PE_FENCED_PRODUCER;
}

/* Batches tell the log whose they are. Offsets don't, so who staged the first of them in this life of the process, and was
 * shown to the coordinator, is remembered beside the row. */
static bool is_of_another(const struct disk_participant *disk, const struct participant *memory,
                          uint64_t producer_id, uint16_t epoch)
{
    uint64_t batches = le64_get(disk->producer_id_plus_1), joined = memory->producer_id_plus_1;
    return (batches != 0 && (batches != producer_id + 1 || le16_get(disk->epoch) != epoch)) ||
           (joined != 0 && (joined != producer_id + 1 || memory->epoch != epoch));
}

void participants_answer(struct shard *shard, struct request *request,
                         const struct disk_txn_name *name, uint64_t producer_id, uint16_t epoch)
{
    struct participants *participants = shard->participants;
    uint32_t row = participants_find(participants, name);
    uint64_t lsn = store_reserved_lsn(shard->store);
    struct participant *memory = row == TABLE_ROW_NONE ? NULL : &participants->memory[row];
    bool is_here = le32_get(name->coordinator) == shard->id;
    if (!memory || is_here || memory->join == JOIN_DONE) {
        shard_reply_when_durable(shard, request, lsn);
        return;
    }
    request->lsn = lsn;
    request->u.staged.producer_id = producer_id;
    request->u.staged.epoch = epoch;
    memory->producer_id_plus_1 = producer_id + 1; // as participants_check() saw to
    memory->epoch = epoch;
    list_push_back(&memory->waiters, &request->link);
    todo_add(participants, memory);
}

/* ---- joining, asking, dropping ---- */

void participants_resume(struct participants *participants)
{
    for (uint32_t row = 0; row < table_row_count(participants->table); row++) {
        if (!table_row_is_used(participants->table, row))
            continue;
        participants->memory[row].must_ask = true;
        todo_add(participants, &participants->memory[row]);
    }
}

int participants_turn(struct shard *shard)
{
    struct participants *participants = shard->participants;
    int work = 0;
    while (!list_is_empty(&participants->todo)) {
        struct participant *memory =
            CONTAINER_OF(participants->todo.next, struct participant, todo_link);
        if (!do_one(shard, (uint32_t)(memory - participants->memory)))
            break; // what it needs is used up: next turn
        work++;
    }
    return work;
}

/* True: it is off the list. */
static bool do_one(struct shard *shard, uint32_t row)
{
    struct participant *memory = &shard->participants->memory[row];
    if (memory->join == JOIN_REFUSED)
        return drop_refused(shard, row);
    bool joins = memory->join == JOIN_NONE && !list_is_empty(&memory->waiters);
    if (joins && !send_mail(shard, row, MAIL_TXN_JOIN))
        return false;
    if (!joins && memory->must_ask && !send_mail(shard, row, MAIL_TXN_ASK))
        return false;
    if (joins)
        memory->join = JOIN_ASKED;
    else
        memory->must_ask = false;
    list_remove(&memory->todo_link);
    if (memory->must_ask)
        todo_add(shard->participants, memory);
    return true;
}

static bool send_mail(struct shard *shard, uint32_t row, enum shard_mail_kind kind)
{
    const struct disk_participant *disk = participants_row(shard->participants, row);
    struct participant *memory = &shard->participants->memory[row];
    struct request *mail = request_acquire(shard->requests, REQUEST_SHARD, shard->core);
    if (!mail)
        return false;
    mail->mail = kind;
    mail->from_shard = shard->id;
    mail->shard = (uint16_t)le32_get(disk->coordinator);
    mail->target_core = shard->shard_core[mail->shard];
    mail->u.txn.name = name_of(disk);
    mail->u.txn.is_prepared = disk->state == TXN_PART_PREPARED;
    if (kind == MAIL_TXN_JOIN) {
        const struct request *request = CONTAINER_OF(memory->waiters.next, struct request, link);
        mail->u.txn.producer_id = request->u.staged.producer_id;
        mail->u.txn.epoch = request->u.staged.epoch;
    }
    if (mailbox_send(shard->mailbox, mail) == 0)
        return true;
    request_release(shard->requests, mail);
    return false;
}

void participants_on_reply(struct shard *shard, struct request *mail)
{
    struct participants *participants = shard->participants;
    uint32_t row = participants_find(participants, &mail->u.txn.name);
    uint16_t error = mail->error;
    bool is_join = mail->mail == MAIL_TXN_JOIN;
    request_release(shard->requests, mail);
    if (row == TABLE_ROW_NONE)
        return; // ended meanwhile, and its waiters with it
    struct participant *memory = &participants->memory[row];
    if (is_join && memory->join == JOIN_DONE)
        return;  // PREPARE was faster: what is here is part of what is being decided
    if (error) { // also when it is being voted on: what came too late is not part of it
        memory->join = JOIN_REFUSED;
        memory->error = error;
        todo_add(participants, memory);
    } else if (is_join) {
        memory->join = JOIN_DONE;
        waiters_go_on(shard, memory);
    }
}

void participants_prepared(struct shard *shard, uint32_t row)
{
    struct participant *memory = &shard->participants->memory[row];
    memory->join = JOIN_DONE;
    waiters_go_on(shard, memory);
}

bool participants_is_refused(const struct participants *participants, uint32_t row)
{
    return participants->memory[row].join == JOIN_REFUSED;
}

static void waiters_go_on(struct shard *shard, struct participant *memory)
{
    for (struct list *link; (link = list_pop_front(&memory->waiters));) {
        struct request *request = CONTAINER_OF(link, struct request, link);
        shard_reply_when_durable(shard, request, request->lsn);
    }
}

/* The coordinator does not know the transaction, or no longer: nothing of it will ever be committed. */
static bool drop_refused(struct shard *shard, uint32_t row)
{
    struct participant *memory = &shard->participants->memory[row];
    struct disk_txn_name name = name_of(participants_row(shard->participants, row));
    struct wal_view view;
    if (participants_row(shard->participants, row)->state == TXN_PART_PREPARED) {
        LOG_ERROR("txn.prepared_unknown", LOG_U64("shard", shard->id),
                  LOG_U64("coordinator", le32_get(name.coordinator)),
                  LOG_U64("open_lsn", le64_get(name.open_lsn)),
                  LOG_STR("meaning", "its coordinator has logged that it is aborted"));
    }
    return participants_abort(shard, row, memory->error, &view) == 0;
}

int participants_abort(struct shard *shard, uint32_t row, uint16_t error, struct wal_view *view)
{
    struct participant *memory = &shard->participants->memory[row];
    struct disk_txn_name name = name_of(participants_row(shard->participants, row));
    struct list waiters;
    list_init(&waiters);
    list_splice_back(&waiters, &memory->waiters); // the row goes with the entry
    int status = PLANTED(ABORT_COMMITS) ? store_append_commit(shard->store, &name, 0, view)
                                        : store_append_abort(shard->store, &name, 0, view);
    if (status != 0) {
        list_splice_back(&memory->waiters, &waiters);
        return status;
    }
    for (struct list *link; (link = list_pop_front(&waiters));)
        refuse_request(shard, CONTAINER_OF(link, struct request, link), error);
    return 0;
}

/* Of a publish only what this shard had taken is refused here: other shards answer for theirs. */
static void refuse_request(struct shard *shard, struct request *request, uint16_t error)
{
    request->error = error;
    request->reply_bytes = 0;
    if (request->op == OP_PRODUCE)
        produce_refuse(shard, request, error);
    shard_reply(shard, request);
}

/* ---- apply ---- */

int participants_apply_staged(struct participants *participants, const struct disk_txn_name *name,
                              const struct batch_info *info, uint64_t append_time_ms)
{
    uint32_t index = participants_find(participants, name);
    if (index == TABLE_ROW_NONE) {
        struct disk_participant *row = table_row_new(participants->table, &index);
        if (!row)
            return E_FULL;
        row->open_lsn = name->open_lsn;
        row->coordinator = name->coordinator;
        row->state = TXN_PART_STAGING;
        row->first_ms = le64_make(append_time_ms);
        row_map_add(&participants->map, hash_of(name), index);
        memory_init(participants, index);
    }
    const struct disk_participant *row = table_row(participants->table, index);
    if (!info || le64_get(row->producer_id_plus_1) != 0)
        return 0;
    struct disk_participant *changed = table_row_mut(participants->table, index);
    changed->producer_id_plus_1 = le64_make(info->producer_id + 1);
    changed->epoch = le16_make(info->producer_epoch);
    return 0;
}

int participants_apply_prepare(struct participants *participants, const struct wal_view *view)
{
    struct disk_prepare payload;
    if (view->payload_bytes != sizeof(payload))
        return E_CORRUPT;
    memcpy(&payload, view->payload, sizeof(payload));
    uint32_t index = participants_find(participants, &payload.name);
    if (index == TABLE_ROW_NONE || le32_get(payload.is_explicit) > 1 ||
        le32_get(payload.reserved) != 0)
        return E_CORRUPT;
    struct disk_participant *row = table_row_mut(participants->table, index);
    participants->prepared_count += row->state != TXN_PART_PREPARED;
    row->state = TXN_PART_PREPARED;
    row->is_explicit = (uint8_t)le32_get(payload.is_explicit);
    row->prepare_lsn = le64_make(view->lsn);
    return 0;
}

void participants_apply_end(struct participants *participants, const struct disk_txn_name *name)
{
    uint32_t index = participants_find(participants, name);
    if (index == TABLE_ROW_NONE)
        return;
    const struct disk_participant *row = table_row(participants->table, index);
    struct participant *memory = &participants->memory[index];
    ASSERT(list_is_empty(&memory->waiters));
    participants->prepared_count -= row->state == TXN_PART_PREPARED;
    list_remove(&memory->todo_link);
    row_map_remove(&participants->map, hash_of(name), index);
    table_row_delete(participants->table, index);
}

/* ---- small things ---- */

static uint64_t hash_of(const struct disk_txn_name *name)
{
    return hash_xxh3(name, sizeof(*name));
}

static struct disk_txn_name name_of(const struct disk_participant *row)
{
    return (struct disk_txn_name){.coordinator = row->coordinator, .open_lsn = row->open_lsn};
}

static void memory_init(struct participants *participants, uint32_t row)
{
    struct participant *memory = &participants->memory[row];
    *memory = (struct participant){0};
    list_init(&memory->todo_link);
    list_init(&memory->waiters);
}

static void todo_add(struct participants *participants, struct participant *memory)
{
    if (!list_is_linked(&memory->todo_link))
        list_push_back(&participants->todo, &memory->todo_link);
}
