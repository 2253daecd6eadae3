/* A core's thread: start-up, the duty cycle, and the end.
 *
 * Happy path: io and memory, recovery of its shards, INBOX_START, turns without end, INBOX_DRAIN,
 * turns until nothing is under way, INBOX_EXIT, clean ends. Start-up can fail (start_status and
 * start_text tell); later only the log of a shard can: then this core stops at once, without
 * another ack, and the process exits. */
#include "broker/core.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/plant.h"
#include "broker/broker.h"

static void *core_main(void *argument);
static void pin(struct core *core);
static int open_all(struct core *core);
static int open_shard(struct core *core, uint16_t id);
static void run(struct core *core);
static void stop(struct core *core);
static void turn_until_closed(struct core *core, uint64_t timeout_ns);
static void set_state(struct core *core, enum core_state state);
static void on_request(void *context, struct request *request);
static void on_reply(void *context, struct request *request);
static void on_inbox(void *context, const struct inbox_message *message);
static void read_wall(struct core *core);
static int step_shards(struct core *core);
static void check_drained(struct core *core);
static void publish(struct core *core);
static uint64_t sleep_ns(struct core *core, int work);

#define CORE_STACK_BYTES ((size_t)MIB)
#define CONNS_END_NS (NS_PER_S / 2) // for clients to take what they were sent and to close
#define CONNS_CLOSE_NS NS_PER_S     // for operations in flight to be cancelled

/* ---- start ---- */

int core_start(struct core *core, struct broker *broker, uint16_t index)
{
    pthread_attr_t attributes;
    core->broker = broker;
    core->index = index;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, CORE_STACK_BYTES);
    int failed = pthread_create(&core->thread, &attributes, core_main, core); // seam: the core
    pthread_attr_destroy(&attributes);
    return failed ? E_NO_MEMORY : 0;
}

void core_join(struct core *core)
{
    pthread_join(core->thread, NULL);
}

static void *core_main(void *argument)
{
    struct core *core = argument;
    char name[16];
    snprintf(name, sizeof(name), "core-%u", core->index);
    pthread_setname_np(pthread_self(), name);
    pin(core);
    core->start_status = core_init(core, core->broker, core->index);
    if (core->start_status == 0)
        core->start_status = open_all(core);
    bool is_silent = core->start_text[0] == '\0'; // as without memory
    if (core->start_status != 0 && is_silent && !PLANTED(START_SILENT))
        snprintf(core->start_text, sizeof(core->start_text), "core %u: %s", core->index,
                 status_text(core->start_status));
    if (core->start_status != 0) {
        set_state(core, CORE_FAILED);
        return NULL;
    }
    set_state(core, CORE_OPEN);
    run(core);
    return NULL;
}

/* Before the io is made: it then keeps the kernel's workers off this processor, where they would wait for
 * us (measured: 352 us in place of 129 for a write and its fdatasync). */
static void pin(struct core *core)
{
    cpu_set_t allowed, one;
    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0 ||
        core->broker->core_count > CPU_COUNT(&allowed))
        return;
    CPU_ZERO(&one);
    for (int cpu = 0, place = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &allowed) && place++ == core->index)
            CPU_SET(cpu, &one);
    }
    (void)sched_setaffinity(0, sizeof(one), &one); // a wish
}

int core_init(struct core *core, struct broker *broker, uint16_t index)
{
    const struct config *config = broker->config;
    uint32_t conn_count = limits_conns_per_core(config) + (index == 0 ? CONN_REFUSALS_MAX : 0);
    uint16_t shard_count = 0;
    core->broker = broker;
    core->index = index;
    for (uint16_t i = 0; i < broker->shard_count; i++)
        shard_count += broker->shard_core[i] == index;
    core->now_ns = clock_mono_ns(clock_system());
    random_init(&core->random, random_seed_system());
    struct io_options options = {
        .backend = (enum io_backend)config->io,
        .ops_max = (uint32_t)min_u64(1024 + 2 * (uint64_t)conn_count, 65536),
    };
    int status = io_new(&options, &core->io);
    if (status != 0)
        return status;
    size_t arena_bytes =
        limits_core_arena_bytes(config) + shard_count * limits_shard_arena_bytes(config);
    status = arena_init(&core->arena, arena_bytes, true);
    if (status == 0)
        status = mailbox_init(&core->mailbox, broker->mesh, index);
    if (status == 0)
        status = conns_init(&core->conns, core, conn_count);
    if (status != 0) {
        core_deinit(core);
        return status;
    }
    mesh_set_io(broker->mesh, index, core->io);
    buffers_init(&core->buffers, index, (uint32_t)config->request_bytes_max, &core->arena);
    pool_init(&core->requests, &core->arena, REQUESTS_PER_CORE, sizeof(struct request), CACHE_LINE);
    acceptor_init(&core->acceptor, core, index == 0 ? broker->listen_fd : -1);
    return 0;
}

void core_deinit(struct core *core)
{
    if (core->conns.slots)
        conns_deinit(&core->conns);
    mailbox_deinit(&core->mailbox);
    arena_deinit(&core->arena);
    if (core->io)
        io_free(TAKE(core->io));
}

static int open_all(struct core *core)
{
    const struct broker *broker = core->broker;
    for (uint16_t id = 0; id < broker->shard_count; id++) {
        if (broker->shard_core[id] != core->index)
            continue;
        int status = open_shard(core, id);
        if (status != 0)
            return status;
    }
    arena_seal(&core->arena);
    return 0;
}

void core_store_options(const struct config *config, struct store_options *options)
{
    *options = (struct store_options){
        .segment_bytes = config->segment_bytes,
        .batch_bytes_max = (uint32_t)config->batch_bytes_max,
        .group_slot_count = (uint32_t)(config->wal_buffer_bytes / MIB),
        .wal_bytes_budget = config->wal_bytes_budget / config->shards,
        .index_cache_bytes = config->index_cache_bytes,
        .read_slot_count = READS_PER_SHARD,
        .partition_count_max = PARTITIONS_MAX,
        .disk_free_throttle_percent = (uint32_t)config->disk_free_throttle_percent,
        .disk_free_refuse_percent = (uint32_t)config->disk_free_refuse_percent,
        .relaxed = config->durability == DURABILITY_RELAXED,
        .no_direct = config->development,
    };
}

static int open_shard(struct core *core, uint16_t id)
{
    struct broker *broker = core->broker;
    const struct config *config = broker->config;
    struct recover_result result = {0};
    struct shard_options options = {
        .id = id,
        .core = core->index,
        .mailbox = &core->mailbox,
        .buffers = &core->buffers,
        .requests = &core->requests,
        .slot_shard = broker->slot_shard,
        .shard_core = broker->shard_core,
        .shard_count = broker->shard_count,
        .limits = {.batch_bytes_max = (uint32_t)config->batch_bytes_max,
                   .record_bytes_max = (uint32_t)config->record_bytes_max},
        .topic_defaults = {.retention_ms = le64_make(config->retention_ms),
                           .retention_bytes = le64_make(config->retention_bytes),
                           .batch_bytes_max = le32_make((uint32_t)config->batch_bytes_max),
                           .validation = (uint8_t)config->validation},
        .producer_retention_ms = config->producer_retention,
        .txn = {.timeout_ms = (uint32_t)config->txn_timeout,
                .timeout_ms_max = (uint32_t)config->txn_timeout_max,
                .staged_bytes_max = config->txn_staged_bytes_max,
                .id_retention_ms = config->transactional_id_retention},
        .group_session_timeout_ms = (uint32_t)config->group_session_timeout,
        .group_offsets_retention_ms = config->group_offsets_retention,
    };
    core_store_options(config, &options.store);
    options.store.io = core->io;
    options.store.random = &core->random;
    options.store.arena = &core->arena;
    options.store.dir = config->data_dir;
    memcpy(options.store.store_id, broker->store_id, sizeof(broker->store_id));
    options.store.segment_bytes = broker->segment_bytes;
    options.store.wal_bytes_budget = config->wal_bytes_budget / broker->shard_count;
    uint64_t began_ns = clock_mono_ns(clock_system());
    int status = shard_open(&broker->shards[id], &options, &result, core->start_text);
    if (status != 0)
        return status;
    core->shards[core->shard_count++] = &broker->shards[id];
    LOG_INFO("shard.opened", LOG_U64("shard", id), LOG_U64("core", core->index),
             LOG_U64("entries", result.entries), LOG_U64("bytes", result.bytes),
             LOG_U64("end_lsn", result.end_lsn), LOG_U64("dropped_torn_bytes", result.torn_bytes),
             LOG_U64("dropped_bad_bytes", result.bad_bytes),
             LOG_U64("dropped_stale_bytes", result.stale_bytes),
             LOG_U64("took_ms", (clock_mono_ns(clock_system()) - began_ns) / NS_PER_MS));
    return 0;
}

static void set_state(struct core *core, enum core_state state)
{
    atomic_store_explicit(&core->state, state, memory_order_release);
    broker_notify(core->broker);
}

/* ---- the duty cycle ---- */

static void run(struct core *core)
{
    while (!core->is_stopping && core_state(core) != CORE_FAILED)
        (void)core_turn(core);
    if (core->is_stopping)
        stop(core);
}

int core_turn(struct core *core)
{
    const struct mailbox_handler handler = {core, on_request, on_reply, on_inbox};
    core->now_ns = clock_mono_ns(clock_system());
    read_wall(core);
    int work = mailbox_drain(&core->mailbox, &handler);
    work += step_shards(core);
    if (core_state(core) == CORE_FAILED)
        return work; // a log has failed: nothing more leaves this core
    work += mailbox_drain(&core->mailbox, &handler); // our own shards' answers leave in this turn
    work += conns_turn(&core->conns);
    mailbox_flush(&core->mailbox);
    check_drained(core);
    counter_add(&core->counters.turns_total, 1);
    if (work == 0 && core_state(core) == CORE_SERVING)
        work += arena_touch(&core->arena); // of its first idle moments
    return work + io_poll(core->io, sleep_ns(core, work));
}

/* When somebody sets the clock, stored records don't grow old at once (and retention does not take them). */
static void read_wall(struct core *core)
{
    int64_t before_ms = core->wall.behind_ms;
    core->now_wall_ms = steady_wall_ms(&core->wall, core->now_ns, clock_wall_ms(clock_system()));
    if (core->wall.behind_ms != before_ms)
        LOG_WARN(
            "core.wall_clock_jumped", LOG_U64("core", core->index),
            LOG_I64("by_ms", core->wall.behind_ms - before_ms),
            LOG_STR("meaning", "ages and timestamps go on as if it had not, until the next start"));
}

static int step_shards(struct core *core)
{
    enum core_state state = core_state(core);
    int work = 0;
    if (state < CORE_SERVING || state > CORE_DRAINED)
        return 0;
    for (uint16_t i = 0; i < core->shard_count; i++) {
        work += shard_step(core->shards[i], core->now_ns, core->now_wall_ms);
        if (core->shards[i]->state == SHARD_FAILED)
            set_state(core, CORE_FAILED);
    }
    return work;
}

/* 0 when there was work: there may be more. Else until the next deadline; but first a last look at
 * the rings, behind the announcement that we sleep. */
static uint64_t sleep_ns(struct core *core, int work)
{
    core->metrics_stale |= work > 0;
    if (core->metrics_stale && core->now_ns >= core->metrics_deadline_ns)
        publish(core);
    if (work > 0 || core->is_stopping || core_state(core) == CORE_FAILED)
        return 0;
    uint64_t due_ns = conns_deadline_ns(&core->conns);
    bool steps = core_state(core) >= CORE_SERVING; // else nothing would come of a shard's wish
    for (uint16_t i = 0; i < core->shard_count && steps; i++)
        due_ns = min_u64(due_ns, shard_deadline_ns(core->shards[i]));
    if (core->metrics_stale)
        due_ns = min_u64(due_ns, core->metrics_deadline_ns);
    if (core_state(core) == CORE_DRAINING)
        due_ns = min_u64(due_ns, core->drain_deadline_ns);
    if (due_ns <= core->now_ns)
        return 0;
    io_prepare_wait(core->io);
    if (!mailbox_is_idle(&core->mailbox))
        return 0;
    counter_add(&core->counters.sleeps_total, 1);
    return due_ns == UINT64_MAX ? UINT64_MAX : due_ns - core->now_ns;
}

static void publish(struct core *core)
{
    core->metrics_stale = false;
    core->metrics_deadline_ns = core->now_ns + METRICS_PERIOD_NS;
    for (uint16_t i = 0; i < core->shard_count; i++)
        metrics_publish_shard(&core->broker->gauges[core->shards[i]->id], core->shards[i]);
    for (int class = 0; class < BUFFER_CLASS_COUNT; class ++)
        counter_set(&core->buffers_free[class], core->buffers.classes[class].free_count);
    counter_set(&core->requests_free, core->requests.free_count);
}

/* ---- mail ---- */

static struct shard *own_shard(struct core *core, uint16_t id)
{
    struct broker *broker = core->broker;
    ASSERT(id < broker->shard_count && broker->shard_core[id] == core->index);
    return &broker->shards[id];
}

static void on_request(void *context, struct request *request)
{
    struct core *core = context;
    switch ((enum request_kind)request->kind) {
    case REQUEST_CLIENT:
    case REQUEST_CONN_CLOSED:
    case REQUEST_SHARD:
        shard_enqueue(own_shard(core, request->shard), request);
        break;
    case REQUEST_DELIVER:
        conn_on_deliver(&core->conns, request);
        break;
    case REQUEST_CONN_OPEN:
        conn_open(&core->conns, request->u.accepted.fd, false);
        mailbox_reply(&core->mailbox, request);
        break;
    }
}

static void on_reply(void *context, struct request *request)
{
    struct core *core = context;
    switch ((enum request_kind)request->kind) {
    case REQUEST_CLIENT:
    case REQUEST_CONN_CLOSED:
    case REQUEST_CONN_OPEN:
        conn_on_reply(&core->conns, request);
        break;
    case REQUEST_DELIVER:
        shard_on_delivered(own_shard(core, request->shard), request);
        break;
    case REQUEST_SHARD:
        shard_on_mail_reply(own_shard(core, request->from_shard), request);
        break;
    }
}

static void on_inbox(void *context, const struct inbox_message *message)
{
    struct core *core = context;
    switch (message->kind) {
    case INBOX_START:
        set_state(core, CORE_SERVING);
        acceptor_start(&core->acceptor);
        break;
    case INBOX_DRAIN:
        core->drain_deadline_ns = message->value;
        acceptor_stop(&core->acceptor);
        for (uint16_t i = 0; i < core->shard_count; i++)
            shard_drain(core->shards[i]);
        conns_drain(&core->conns);
        set_state(core, CORE_DRAINING);
        break;
    case INBOX_EXIT:
        core->exit_deadline_ns = message->value;
        core->is_stopping = true;
        break;
    case INBOX_RELOAD:
        for (uint16_t i = 0; i < core->shard_count; i++)
            store_checkpoint(core->shards[i]->store);
        break;
    }
}

void core_send(struct core *core, struct request *request)
{
    if (!list_is_empty(&core->conns.unsent) || mailbox_send(&core->mailbox, request) != 0)
        list_push_back(&core->conns.unsent, &request->link);
}

/* ---- the end ---- */

/* Publishes that came before the drain are answered; whoever sends more is told SHUTTING_DOWN. */
static void check_drained(struct core *core)
{
    if (core_state(core) != CORE_DRAINING)
        return;
    bool drained = true;
    for (uint16_t i = 0; i < core->shard_count; i++)
        drained = drained && shard_is_drained(core->shards[i]);
    drained = drained && conns_are_quiet(&core->conns) && acceptor_is_quiet(&core->acceptor);
    if (drained || core->now_ns >= core->drain_deadline_ns)
        set_state(core, CORE_DRAINED);
}

/* Connections first, so that nothing is under way when the shards write their ends. What other
 * cores still had to say to our shards was said: main waits for all cores to be drained. */
static void stop(struct core *core)
{
    int status = 0;
    acceptor_stop(&core->acceptor);
    conns_end_all(&core->conns);
    turn_until_closed(core, CONNS_END_NS);
    conns_close_all(&core->conns);
    turn_until_closed(core, CONNS_CLOSE_NS);
    for (uint16_t i = 0; i < core->shard_count; i++) {
        int closed = shard_close(core->shards[i], core->exit_deadline_ns);
        if (closed != 0) {
            LOG_WARN("shard.not_closed", LOG_U64("shard", core->shards[i]->id), LOG_STATUS(closed),
                     LOG_STR("meaning", "the next start recovers as after a crash"));
            status = closed;
        }
    }
    core->start_status = status;
    set_state(core, CORE_STOPPED);
}

static void turn_until_closed(struct core *core, uint64_t timeout_ns)
{
    const struct mailbox_handler handler = {core, on_request, on_reply, on_inbox};
    uint64_t deadline_ns =
        min_u64(core->exit_deadline_ns, clock_mono_ns(clock_system()) + timeout_ns);
    do {
        core->now_ns = clock_mono_ns(clock_system());
        int work = mailbox_drain(&core->mailbox, &handler);
        work += step_shards(core);
        work += conns_turn(&core->conns);
        mailbox_flush(&core->mailbox);
        (void)io_poll(core->io, work > 0 ? 0 : NS_PER_MS);
    } while (core->conns.open_count > 0 && core->now_ns < deadline_ns);
}
