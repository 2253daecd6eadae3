#include "tests/sim/crash/check.h"

#include <inttypes.h>
#include <string.h>

#include "broker/participants.h"
#include "broker/topic_job.h"
#include "broker/transactions.h"
#include "broker/txn_job.h"
#include "tests/sim/crash/points.h"
#include "tests/sim/world/own_memory.h"
#include "tests/sim/world/short_reader.h"

#define WORLD_END_NS (60 * NS_PER_S)
#define LARGE_WRITE_BYTES ((uint32_t)(512 * KIB))
#define LARGE_WRITE_NS (100 * NS_PER_MS)
#define STEP_NS (20 * NS_PER_US)
#define DISK_NS_MAX (5 * NS_PER_US) // the order of completions matters here, not the time
#define SEAM_READS_EVERY 16u        // images whose logs are read through the I/O seam as it is

static struct {
    const struct trace *trace;
    const struct trace_known *known;
    const struct check_wish *wish;
    const uint64_t *floor;
    struct check_outcome *outcome;
    struct sim_broker broker;
    char values[SIM_BROKER_SETTINGS_MAX][32];
    struct random random;                        // for the crash inside recovery
    struct trace_state opened[TRACE_SHARDS_MAX]; // before anything was served
    uint64_t events;                             // of the disk so far
} check;

static void *judge(void *argument);
static int delay_large_write(struct process *process, const struct io_op *op);
static void note_opened(struct sim_broker *b, uint16_t shard);
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
    reader_be_short(random_below(&check.random, SEAM_READS_EVERY) != 0);
    disk->observe = wish->in_recovery ? on_event : NULL;
    trace_settings(trace, &check.broker, wish->cores, check.values);
    check.broker.on_opened = note_opened;
    world_begin(&(struct world_options){.seed = wish->seed, .disk_latency_ns = DISK_NS_MAX});
    world_wall_jump(60 * 1000); // the recording ended before
    if (random_below(&check.random, 8) != 0)
        world_set_fault(delay_large_write);
    (void)thread_new(process_new("judge", NULL), judge, NULL);
    if (!world_run(WORLD_END_NS))
        fail("the recovered broker stands still");
    disk->observe = NULL;
    world_end();
    sim_disk_free(disk);
    ASSERT(reader_is_intact());
}

/* New files of the log are written with zeros meanwhile, which takes more time than all the rest: mostly this does not come to
 * its end while we look. (The recordings are full of it.) */
static int delay_large_write(struct process *process, const struct io_op *op)
{
    (void)process;
    if (op->kind == IO_WRITE && op->len > LARGE_WRITE_BYTES)
        *io_sim_due((struct io_op *)(uintptr_t)op) += LARGE_WRITE_NS;
    return 0;
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

static void note_opened(struct sim_broker *b, uint16_t shard)
{
    check.opened[shard] = trace_state_of(&b->broker->shards[shard]);
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
static const struct trace_state *live_state(uint16_t shard, uint64_t end_lsn)
{
    bool is_new = shard == 0 && end_lsn == 0;
    return trace_state_at(check.trace, check.known->life, shard,
                          is_new ? check.trace->logs[0][0].entries[0].lsn + 1 : end_lsn);
}

static void check_end(uint16_t shard, uint64_t end_lsn)
{
    if (end_lsn < check.known->committed[shard])
        fail("shard %u: its log ends at LSN %" PRIu64 ", acked was up to %" PRIu64, shard, end_lsn,
             check.known->committed[shard]);
    if (check.floor && end_lsn < check.floor[shard])
        fail("shard %u: a crash inside recovery made its log end at LSN %" PRIu64
             ", before it was %" PRIu64,
             shard, end_lsn, check.floor[shard]);
}

/* When a recovery before has appended, the live state knew nothing of that. */
static void check_opened(void)
{
    for (uint16_t i = 0; i < check.trace->shards; i++) {
        uint64_t end_lsn = check.broker.opened[i].end_lsn;
        check.outcome->ends[i] = end_lsn;
        check_end(i, end_lsn);
        if (check.floor && end_lsn != check.floor[i])
            continue;
        const struct shard *shard = &check.broker.broker->shards[i];
        struct trace_state found = check.opened[i];
        int table = trace_states_differ(shard, &found, live_state(i, end_lsn));
        if (table)
            fail("shard %u: up to LSN %" PRIu64
                 " the log gives another table %d than there was in the live state",
                 i, end_lsn, table);
    }
}

/* ---- what was under way comes to its end ---- */

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

/* Nothing in doubt, no topic half made or half deleted, and all of that durable. */
static bool is_settled(void)
{
    bool settled = topic_jobs_is_idle(check.broker.broker->shards[0].topic_jobs);
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
            fail("a transaction or a topic is in doubt %" PRIu64 " s after the start",
                 (uint64_t)(CHECK_SETTLE_NS / NS_PER_S));
    } while (!is_settled());
}

/* ---- once more ---- */

static void start_again(uint64_t contents)
{
    struct trace_state left[TRACE_SHARDS_MAX];
    uint64_t ends[TRACE_SHARDS_MAX];
    for (uint16_t i = 0; i < check.trace->shards; i++) {
        left[i] = trace_state_of(&check.broker.broker->shards[i]);
        ends[i] = store_reserved_lsn(check.broker.broker->shards[i].store);
    }
    sim_broker_end(&check.broker, PROCESS_POWER);
    reader_be_short(true); // what was read through the seam before has to come again
    start();
    for (uint16_t i = 0; i < check.trace->shards; i++) {
        uint64_t end_lsn = check.broker.opened[i].end_lsn;
        if (end_lsn < ends[i])
            fail("shard %u: the second start ends at LSN %" PRIu64 ", the first at %" PRIu64, i,
                 end_lsn, ends[i]);
        int table =
            trace_states_differ(&check.broker.broker->shards[i], &left[i], &check.opened[i]);
        if (table)
            fail("shard %u: the second start, up to LSN %" PRIu64 ", gives another table %d", i,
                 end_lsn, table);
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
