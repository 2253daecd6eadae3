/* The shard: queue in, log in the middle, answers and deliveries out.
 *
 * A turn (shard_step):
 *   1. drain the queue: each request goes to its handler until one is BLOCKED (log full) or the bound is reached
 *   2. store_turn(): submit what was appended, sync, background work; may call shard_on_committed()
 *   3. topic jobs that waited for the disk or for other shards go on (shard 0)
 *   4. transactions: participants join and ask, what is being ended goes on, deadlines pass
 *   5. groups_turn(): sessions, assignments that are due
 *   6. offsets_jobs_turn(): searches by timestamp, a few at a time
 *   7. cursors_turn(): woken readers are served
 *
 * Blocked requests stay at the head of the queue, in order; on_room lets the next turn try again. Meanwhile
 * their receive buffers stay pinned and their connections stop reading: that is the backpressure.
 *
 * Failure: the log's on_failed is final. The shard answers nothing any more; the process says which file and
 * LSN, and exits non-zero (core.c). */
#include "broker/shard.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/plant.h"
#include "broker/cursor.h"
#include "broker/groups.h"
#include "broker/handle_txn.h"
#include "broker/offsets_job.h"
#include "broker/participants.h"
#include "broker/shard_state.h"
#include "broker/topic_job.h"
#include "broker/txn_job.h"

#define IDLE_LOOK_NS NS_PER_S // between looks for producers and transactional ids that nobody uses

static int drain_queue(struct shard *shard);
static void forget_idle(struct shard *shard);
static enum handled handle(struct shard *shard, struct request *request);
static void on_visible(void *context, struct partition *partition);
static void on_committed(void *context, uint64_t lsn);
static void on_room(void *context);
static void on_failed(void *context, const struct wal_failure *failure);
static void on_partition_drop(void *context, struct partition *partition);

static const shard_handler_fn client_handlers[] = {
    [OP_METADATA] = handle_metadata,
    [OP_TOPIC_CREATE] = handle_topic,
    [OP_TOPIC_ALTER] = handle_topic,
    [OP_TOPIC_DELETE] = handle_topic,
    [OP_PRODUCER_INIT] = handle_producer_init,
    [OP_PRODUCE] = handle_produce,
    [OP_FETCH] = handle_fetch,
    [OP_SUBSCRIBE] = handle_fetch,
    [OP_CREDIT] = handle_credit,
    [OP_UNSUBSCRIBE] = handle_credit,
    [OP_OFFSETS] = handle_offsets,
    [OP_TXN_INIT] = handle_txn_init,
    [OP_TXN_BEGIN] = handle_txn_begin,
    [OP_TXN_OFFSETS] = handle_txn_offsets,
    [OP_TXN_PREPARE] = handle_txn_end,
    [OP_TXN_COMMIT] = handle_txn_end,
    [OP_TXN_ABORT] = handle_txn_end,
    [OP_TXN_LIST] = handle_txn_list,
    [OP_TXN_DESCRIBE] = handle_txn_describe,
    [OP_GROUP_JOIN] = handle_group_join,
    [OP_GROUP_HEARTBEAT] = handle_group_heartbeat,
    [OP_GROUP_LEAVE] = handle_group_leave,
    [OP_OFFSET_COMMIT] = handle_offset_commit,
    [OP_OFFSET_FETCH] = handle_offset_fetch,
    [OP_GROUP_LIST] = handle_group_list,
    [OP_GROUP_DESCRIBE] = handle_group_describe,
    [OP_GROUP_DELETE] = handle_group_delete,
};

int shard_step(struct shard *shard, uint64_t now_ns, uint64_t now_wall_ms)
{
    shard->now_ns = now_ns;
    shard->now_wall_ms = now_wall_ms;
    if (shard->state == SHARD_FAILED || shard->state == SHARD_CLOSED)
        return 0;
    int work = drain_queue(shard);
    work += store_turn(shard->store, now_ns, now_wall_ms);
    if (shard->topic_jobs)
        work += topic_jobs_turn(shard->topic_jobs, shard);
    work += participants_turn(shard);
    work += txn_jobs_turn(shard);
    work += groups_turn(shard->groups, shard);
    if (now_ns >= shard->idle_look_ns)
        forget_idle(shard);
    work += offsets_jobs_turn(shard->offsets_jobs);
    work += cursors_turn(shard->cursors, shard);
    return work;
}

/* By the wall clock, decided here and logged. Nobody waits for it, so it does not wake an idle shard. */
static void forget_idle(struct shard *shard)
{
    shard->idle_look_ns = shard->now_ns + IDLE_LOOK_NS;
    produce_expire_idle(shard);
    txn_jobs_forget_idle(shard);
}

uint64_t shard_deadline_ns(const struct shard *shard)
{
    uint64_t due_ns = min_u64(store_deadline_ns(shard->store), cursors_deadline_ns(shard->cursors));
    due_ns = min_u64(due_ns, groups_deadline_ns(shard->groups));
    return min_u64(due_ns, txn_jobs_deadline_ns(shard));
}

void shard_enqueue(struct shard *shard, struct request *request)
{
    ASSERT(request->magic == REQUEST_MAGIC && !request->is_reply);
    request->progress = 0;
    memset(&request->u, 0, request->kind == REQUEST_CLIENT ? sizeof(request->u) : 0);
    list_push_back(&shard->queue, &request->link);
}

static int drain_queue(struct shard *shard)
{
    int handled_count = 0;
    while (!shard->blocked && handled_count < SHARD_DRAIN_MAX && !list_is_empty(&shard->queue)) {
        struct request *request = CONTAINER_OF(shard->queue.next, struct request, link);
        list_remove(&request->link);
        if (handle(shard, request) == BLOCKED) {
            list_push_front(&shard->queue, &request->link);
            shard->blocked = true;
            counter_add(&shard->counters.blocked_total, 1);
        }
        handled_count++;
    }
    return handled_count;
}

static enum handled handle_mail(struct shard *shard, struct request *mail)
{
    switch ((enum shard_mail_kind)mail->mail) {
    case MAIL_PARTITION_OPEN:
    case MAIL_PARTITION_DROP:
        return handle_partition_mail(shard, mail);
    case MAIL_TOPICS_ASK:
        return handle_topics_mail(shard, mail);
    case MAIL_PRODUCER_ID:
        return handle_producer_id_mail(shard, mail);
    case MAIL_TXN_JOIN:
        return handle_txn_join(shard, mail);
    case MAIL_TXN_ASK:
        return handle_txn_ask(shard, mail);
    case MAIL_TXN_PREPARE:
    case MAIL_TXN_COMMIT:
    case MAIL_TXN_ABORT:
        return participants_on_mail(shard, mail);
    }
    ASSERT(!"mail of an unknown kind");
    return HANDLED;
}

static enum handled handle(struct shard *shard, struct request *request)
{
    switch ((enum request_kind)request->kind) {
    case REQUEST_CLIENT:
        if (shard->state != SHARD_SERVING && shard->state != SHARD_DRAINING) {
            shard_reply_error(shard, request, PE_NOT_READY, "%s", "");
            return HANDLED;
        }
        ASSERT(request->op < ARRAY_COUNT(client_handlers) && client_handlers[request->op]);
        return client_handlers[request->op](shard, request);
    case REQUEST_CONN_CLOSED:
        cursors_conn_closed(shard->cursors, shard, request->conn);
        shard_reply(shard, request);
        return HANDLED;
    case REQUEST_SHARD:
        return handle_mail(shard, request);
    case REQUEST_CONN_OPEN:
    case REQUEST_DELIVER:
        break; // from core to core or to connections, never to a shard
    }
    ASSERT(!"a request of this kind can't reach a shard");
    return HANDLED;
}

/* ---- answers ---- */

void shard_reply(struct shard *shard, struct request *request)
{
    mailbox_reply(shard->mailbox, request);
}

void shard_reply_error(struct shard *shard, struct request *request, uint16_t error,
                       const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(request->text, sizeof(request->text), format, arguments);
    va_end(arguments);
    request->error = error;
    request->reply_bytes = 0;
    shard_reply(shard, request);
}

enum handled shard_refuse(struct shard *shard, struct request *request, uint16_t error)
{
    request->error = error;
    request->reply_bytes = 0;
    shard_reply(shard, request);
    return HANDLED;
}

enum handled shard_not_appended(struct shard *shard, struct request *request, int status)
{
    request->text[0] = '\0';
    if (status == E_FULL)
        return BLOCKED;
    return shard_refuse(shard, request, proto_error_from_status(status));
}

struct writer shard_reply_writer(struct request *request)
{
    return writer_make(request->reply->bytes + FRAME_HEADER_SIZE,
                       request->reply->capacity - FRAME_HEADER_SIZE);
}

void shard_reply_seal(struct request *request, const struct writer *w)
{
    ASSERT(!w->failed);
    request->reply_bytes = frame_seal(request->reply->bytes, request->op, FRAME_REPLY,
                                      request->correlation, writer_length(w), 0);
}

void shard_reply_when_durable(struct shard *shard, struct request *request, uint64_t lsn)
{
    request->lsn = lsn;
    if (store_committed_lsn(shard->store) >= lsn) {
        shard_reply(shard, request);
        return;
    }
    /* LSNs are handed out in order, so the back is almost always the place. */
    struct list *place = &shard->waiting;
    while (place->prev != &shard->waiting &&
           CONTAINER_OF(place->prev, struct request, link)->lsn > lsn)
        place = place->prev;
    list_push_back(place, &request->link);
}

/* ---- called by storage ---- */

static void on_visible(void *context, struct partition *partition)
{
    struct shard *shard = context;
    cursors_wake(shard->cursors, partition);
}

/* The only place that answers for durability. */
static void on_committed(void *context, uint64_t lsn)
{
    struct shard *shard = context;
    if (!list_is_empty(&shard->waiting))
        (void)fault_check(FAULT_SHARD_CRASH_ACK); // CRASH is its only action
    while (!list_is_empty(&shard->waiting)) {
        struct request *request = CONTAINER_OF(shard->waiting.next, struct request, link);
        if (request->lsn > lsn)
            return;
        list_remove(&request->link);
        request->lsn = lsn;
        shard_reply(shard, request);
    }
}

static void on_room(void *context)
{
    struct shard *shard = context;
    shard->blocked = false;
}

static void on_failed(void *context, const struct wal_failure *failure)
{
    struct shard *shard = context;
    if (PLANTED(FAILED_LOG_SERVES))
        return;
    shard->state = SHARD_FAILED;
    LOG_ERROR(
        "shard.failed", LOG_U64("shard", shard->id), LOG_STR("what", failure->what),
        LOG_STATUS(failure->status), LOG_I64("errno", failure->os_error),
        LOG_STR("file", failure->path), LOG_U64("lsn", failure->lsn),
        LOG_STR(
            "meaning",
            "nothing behind this LSN was acked; the broker stops and recovers at its next start"));
}

static void on_partition_drop(void *context, struct partition *partition)
{
    struct shard *shard = context;
    cursors_partition_dropped(shard->cursors, shard, partition);
}

/* ---- open and close ---- */

static int make_parts(struct shard *shard, const struct shard_options *options)
{
    int status = shard_state_new(shard);
    if (status)
        return status;
    shard->cursors = cursors_new();
    shard->offsets_jobs = offsets_jobs_new();
    shard->topic_jobs = shard->id == 0 ? topic_jobs_new() : NULL;
    shard->txn_jobs = txn_jobs_new();
    shard->scratch = malloc(SHARD_SCRATCH_BYTES);
    bool complete = shard->cursors && shard->offsets_jobs && shard->scratch && shard->txn_jobs &&
                    (shard->id != 0 || shard->topic_jobs);
    return complete ? 0 : E_NO_MEMORY;
}

static void free_parts(struct shard *shard)
{
    cursors_free(TAKE(shard->cursors));
    offsets_jobs_free(TAKE(shard->offsets_jobs));
    topic_jobs_free(TAKE(shard->topic_jobs));
    txn_jobs_free(TAKE(shard->txn_jobs));
    free(TAKE(shard->scratch));
    shard_state_free(shard);
}

int shard_open(struct shard *shard, const struct shard_options *options,
               struct recover_result *result, char text[512])
{
    *shard = (struct shard){
        .id = options->id,
        .core = options->core,
        .state = SHARD_OPENING,
        .mailbox = options->mailbox,
        .buffers = options->buffers,
        .requests = options->requests,
        .random = options->store.random,
        .slot_shard = options->slot_shard,
        .shard_core = options->shard_core,
        .shard_count = options->shard_count,
        .limits = options->limits,
        .topic_defaults = options->topic_defaults,
        .group_session_timeout_ms = options->group_session_timeout_ms,
        .group_offsets_retention_ms = options->group_offsets_retention_ms,
        .txn = options->txn,
        .producer_retention_ms = options->producer_retention_ms,
    };
    list_init(&shard->queue);
    list_init(&shard->waiting);
    int status = make_parts(shard, options);
    if (status) {
        snprintf(text, 512, "shard %u: not enough memory for its tables", shard->id);
        free_parts(shard);
        return status;
    }
    struct table *tables[SHARD_TABLES_MAX];
    struct store_options store = options->store;
    store.shard_id = options->id;
    store.tables = tables;
    store.table_count = shard_state_tables(shard, tables);
    store.context = shard;
    store.loaded = shard_state_loaded;
    store.apply = shard_state_apply;
    store.on_visible = on_visible;
    store.on_committed = on_committed;
    store.on_room = on_room;
    store.on_failed = on_failed;
    store.on_partition_drop = on_partition_drop;
    status = store_open(&store, result, text, &shard->store);
    if (status == 0)
        status = shard_state_begin(shard, text);
    if (status) {
        if (shard->store)
            store_free(TAKE(shard->store));
        free_parts(shard);
        return status;
    }
    shard->state = SHARD_SERVING;
    if (shard->topic_jobs)
        topic_jobs_resume(shard->topic_jobs, shard);
    participants_resume(shard->participants);
    txn_jobs_resume(shard);
    return 0;
}

void shard_on_delivered(struct shard *shard, struct request *request)
{
    cursors_delivered(shard->cursors, shard, request);
}

void shard_on_mail_reply(struct shard *shard, struct request *mail)
{
    switch ((enum shard_mail_kind)mail->mail) {
    case MAIL_PARTITION_OPEN:
    case MAIL_PARTITION_DROP:
        topic_job_on_reply(shard->topic_jobs, shard, mail);
        break;
    case MAIL_TOPICS_ASK:
        groups_on_mail_reply(shard->groups, shard, mail);
        break;
    case MAIL_PRODUCER_ID:
        txn_init_on_reply(shard, mail);
        break;
    case MAIL_TXN_JOIN:
    case MAIL_TXN_ASK:
        participants_on_reply(shard, mail);
        break;
    case MAIL_TXN_PREPARE:
    case MAIL_TXN_COMMIT:
    case MAIL_TXN_ABORT:
        txn_job_on_reply(shard, mail);
        break;
    }
}

void shard_drain(struct shard *shard)
{
    if (shard->state == SHARD_SERVING)
        shard->state = SHARD_DRAINING;
}

bool shard_is_drained(const struct shard *shard)
{
    return list_is_empty(&shard->queue) && list_is_empty(&shard->waiting) &&
           txn_jobs_are_idle(shard->txn_jobs) && groups_are_idle(shard->groups);
}

int shard_close(struct shard *shard, uint64_t deadline_ns)
{
    int status = E_CLOSED;
    if (shard->state != SHARD_FAILED)
        status = store_close_clean(shard->store, deadline_ns);
    shard->state = SHARD_CLOSED;
    store_free(TAKE(shard->store));
    free_parts(shard);
    return status;
}

/* ---- questions ---- */

uint16_t shard_of_partition(const uint16_t *slot_shard, uint32_t topic_id, uint32_t partition)
{
    uint32_t key[2] = {topic_id, partition};
    return slot_shard[hash_xxh3(key, sizeof(key)) % SLOT_COUNT];
}

uint16_t shard_of_name(const uint16_t *slot_shard, struct slice name)
{
    return slot_shard[hash_xxh3(name.bytes, name.len) % SLOT_COUNT];
}

bool shard_can_produce(const struct shard *shard, const char **why)
{
    *why = "";
    if (shard->state == SHARD_FAILED)
        *why = "the log failed: see the broker's log";
    else if (shard->state == SHARD_DRAINING || shard->state == SHARD_CLOSED)
        *why = "draining";
    else if (shard->state == SHARD_OPENING)
        *why = "recovering";
    else if (store_room(shard->store) == STORE_ROOM_FULL)
        *why = "the disk is full";
    return **why == 0;
}

uint64_t shard_digest(struct shard *shard)
{
    return store_digest(shard->store);
}

void shard_check(struct shard *shard)
{
    uint64_t lsn = 0;
    LIST_EACH(node, &shard->waiting)
    {
        struct request *request = CONTAINER_OF(node, struct request, link);
        ASSERT(request->magic == REQUEST_MAGIC && request->lsn >= lsn);
        lsn = request->lsn;
    }
    struct partitions *partitions = store_partitions(shard->store);
    for (uint32_t i = 0; i < partitions_count(partitions); i++) {
        struct partition *partition = partitions_at(partitions, i);
        ASSERT(partition->log_start <= partition->next_offset);
        ASSERT(partition->visible_end <= partition->next_offset);
    }
    cursors_check(shard->cursors);
}
