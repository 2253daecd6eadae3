#include "tests/sim/crash/check.h"

#include <inttypes.h>
#include <string.h>

#include "broker/participants.h"
#include "broker/transactions.h"
#include "broker/txn_job.h"
#include "storage/store_private.h"
#include "tests/sim/crash/points.h"
#include "tests/sim/crash/reader.h"
#include "tests/sim/world/own_memory.h"

#define WORLD_END_NS (60 * NS_PER_S)
#define STEP_NS (20 * NS_PER_US)
#define DISK_NS_MAX (5 * NS_PER_US) // the order of completions matters here, not the time

static struct {
    const struct trace *trace;
    const struct trace_known *known;
    const struct check_wish *wish;
    const uint64_t *floor;
    struct check_outcome *outcome;
    struct sim_broker broker;
    char values[SIM_BROKER_SETTINGS_MAX][32];
    struct random random; // for the crash inside recovery
    uint64_t events;      // of the disk so far
} check;

static void *judge(void *argument);
static void start(void);
static void check_opened(void);
static void wait_until_settled(void);
static void start_again(uint64_t contents);
static void on_event(void *context, const struct sim_event *event);

void check_image(const struct trace *trace, const struct trace_known *known, struct sim_disk *disk,
                 const struct check_wish *wish, const uint64_t *floor,
                 struct check_outcome *outcome)
{
    memset(&check, 0, sizeof(check));
    memset(outcome, 0, sizeof(*outcome));
    check.trace = trace;
    check.known = known;
    check.wish = wish;
    check.floor = floor;
    check.outcome = outcome;
    check.broker.disk = disk;
    random_init(&check.random, wish->seed);
    reader_be_short(wish->seed % 16 != 0);
    disk->observe = wish->in_recovery ? on_event : NULL;
    trace_settings(trace, &check.broker, wish->cores, check.values);
    world_begin(&(struct world_options){.seed = wish->seed, .disk_latency_ns = DISK_NS_MAX});
    world_wall_jump(60 * 1000); // the recording ended before
    (void)thread_new(process_new("judge", NULL), judge, NULL);
    if (!world_run(WORLD_END_NS))
        fail("the recovered broker stands still");
    disk->observe = NULL;
    world_end();
    sim_disk_free(disk);
    ASSERT(reader_is_intact());
}

static void *judge(void *argument)
{
    (void)argument;
    start();
    check_opened();
    wait_until_settled();
    uint64_t contents = contents_check(&check.broker, check.known);
    if (check.wish->twice)
        start_again(contents);
    world_stop();
    return NULL;
}

static void start(void)
{
    sim_broker_start(&check.broker);
    if (!sim_broker_wait_ready(&check.broker))
        fail("the broker refuses to start: %s: %s", status_name(check.broker.start_status),
             check.broker.text);
}

/* ---- what recovery found ---- */

/* A new store has its first entry in the log's open group already. */
static uint64_t live_digest(uint16_t shard, uint64_t end_lsn)
{
    bool is_new = shard == 0 && end_lsn == 0;
    return trace_digest_at(check.trace, shard,
                           is_new ? check.trace->logs[0].entries[0].lsn + 1 : end_lsn);
}

static void check_opened(void)
{
    for (uint16_t i = 0; i < check.trace->shards; i++) {
        struct sim_state opened = check.broker.opened[i];
        check.outcome->ends[i] = opened.end_lsn;
        if (opened.end_lsn < check.known->committed[i])
            fail("shard %u: its log ends at LSN %" PRIu64 ", acked was up to %" PRIu64, i,
                 opened.end_lsn, check.known->committed[i]);
        if (check.floor && opened.end_lsn < check.floor[i])
            fail("shard %u: a crash inside recovery made its log end at LSN %" PRIu64
                 ", before it was %" PRIu64,
                 i, opened.end_lsn, check.floor[i]);
        if (check.floor && opened.end_lsn != check.floor[i])
            continue; // the recovery before had appended: the live state knew nothing of that
        uint64_t live = live_digest(i, opened.end_lsn);
        if (opened.digest != live)
            fail("shard %u: up to LSN %" PRIu64 " the log gives a state %016" PRIx64
                 ", the live one was %016" PRIx64,
                 i, opened.end_lsn, opened.digest, live);
    }
}

/* ---- transactions come to their end ---- */

static bool has_doubts(const struct shard *shard)
{
    if (!txn_jobs_are_idle(shard->txn_jobs))
        return true;
    const struct table *parts = participants_table(shard->participants);
    for (uint32_t row = 0; row < table_row_count(parts); row++) {
        const struct disk_participant *part = table_row(parts, row);
        if (le64_get(part->open_lsn) != 0 && part->state == TXN_PART_PREPARED && !part->is_explicit)
            return true;
    }
    return false;
}

static bool is_settled(void)
{
    bool settled = true;
    for (uint16_t i = 0; i < check.trace->shards; i++) {
        const struct shard *shard = &check.broker.broker->shards[i];
        settled = settled && !has_doubts(shard) &&
                  store_committed_lsn(shard->store) == store_reserved_lsn(shard->store);
    }
    return settled;
}

static void wait_until_settled(void)
{
    uint64_t until_ns = world_now_ns() + CHECK_SETTLE_NS;
    do {
        thread_sleep(STEP_NS);
        if (check.broker.state != SIM_BROKER_READY)
            fail("the broker ended by itself with code %d", check.broker.exit_status);
        if (world_now_ns() > until_ns)
            fail("a transaction is in doubt %" PRIu64 " s after the start",
                 (uint64_t)(CHECK_SETTLE_NS / NS_PER_S));
    } while (!is_settled());
}

/* ---- once more ---- */

/* By table, so that a difference has a name. */
struct tables {
    uint64_t digests[CHECKPOINT_TABLES_MAX];
    uint64_t end_lsn;
};

static struct tables tables_of(uint16_t shard)
{
    const struct store *store = check.broker.broker->shards[shard].store;
    struct tables tables = {.end_lsn = wal_marks(store->wal).reserved};
    for (uint32_t i = 0; i < store->table_count; i++)
        tables.digests[i] = table_digest(store->tables[i]);
    return tables;
}

static void compare_tables(uint16_t shard, const struct tables *first, const struct tables *second)
{
    const struct store *store = check.broker.broker->shards[shard].store;
    for (uint32_t i = 0; i < store->table_count; i++)
        if (first->digests[i] != second->digests[i])
            fail("shard %u: the second start, up to LSN %" PRIu64
                 ", has another table %d than the first, up to %" PRIu64,
                 shard, second->end_lsn, table_id_of(store->tables[i]), first->end_lsn);
}

static void start_again(uint64_t contents)
{
    struct tables left[TRACE_SHARDS_MAX];
    for (uint16_t i = 0; i < check.trace->shards; i++)
        left[i] = tables_of(i);
    sim_broker_end(&check.broker, PROCESS_POWER);
    start();
    for (uint16_t i = 0; i < check.trace->shards; i++) {
        struct sim_state opened = check.broker.opened[i];
        if (opened.end_lsn < left[i].end_lsn)
            fail("shard %u: the second start ends at LSN %" PRIu64 ", the first at %" PRIu64, i,
                 opened.end_lsn, left[i].end_lsn);
        struct tables found = tables_of(i);
        compare_tables(i, &left[i], &found);
    }
    wait_until_settled();
    if (contents_check(&check.broker, check.known) != contents)
        fail("the second start gives other records");
}

/* ---- a crash inside recovery ---- */

/* Each moment is as likely as any other: the n-th replaces what was chosen before with a chance of 1 in n. The image is made
 * of what lies there before the event. */
static void on_event(void *context, const struct sim_event *event)
{
    (void)context;
    if (event->kind == SIM_WRITE_START || random_below(&check.random, ++check.events) != 0)
        return;
    uint32_t owner = memory_outside();
    struct sim_disk *disk = check.broker.disk;
    struct point point;
    if (check.outcome->crashed)
        sim_disk_free(check.outcome->crashed);
    point_of(&point, disk);
    point_fates_by_chance(&point, &check.random);
    check.outcome->crash_things = point.choice_count;
    check.outcome->crashed =
        sim_disk_image(disk, point.fates, point.thing_count, random_u64(&check.random));
    memory_inside(owner);
}
