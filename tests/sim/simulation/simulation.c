#include "tests/sim/simulation/simulation.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/checker/checker.h"
#include "tests/sim/simulation/state_log.h"
#include "tests/sim/world/own_memory.h"
#include "tests/sim/world/system.h"

#define TOPICS 3u
#define ACTORS_MAX 32
#define EVENTS_MAX (UINT64_C(1) << 22)
#define READY_NS_MAX (60 * NS_PER_S)   // a start may take so long with the slowest disk
#define CALM_NS_MAX (600 * NS_PER_S)   // everything comes to its end within
#define TXN_TIMEOUT_NS (61 * NS_PER_S) // the broker's default, and a bit
#define WORLD_END_NS (3600 * NS_PER_S)

static struct {
    const struct simulation_plan *plan;
    struct simulation_result *result;
    struct sim_broker broker;
    struct stage stage;
    struct actor actors[ACTORS_MAX];
    uint32_t actor_count;
    char settings[8][24];
    /* ---- disk faults: how many of the next operations of a kind fail ---- */
    struct {
        uint32_t after; // so many go through first
        uint32_t count;
        int error;
        enum trouble trouble; // that it comes from
        bool has_struck;
    } faults[IO_TIMER + 1];
    uint64_t blocks_taken; // by somebody else
    int64_t wall_jumped_ms;
    uint64_t paused_until_ns; // the broker, or one before it
} run;

static const char *const topics[TOPICS] = {"plain", "both", "moved"};

static void on_opened(struct sim_broker *broker, uint16_t shard);
static void *direct(void *argument);

/* ---- the plan ---- */

const char *trouble_name(enum trouble trouble)
{
    static const char *const names[] = {
#define TROUBLE(name, text) #name,
#include "tests/sim/simulation/troubles.def"
#undef TROUBLE
    };
    return names[trouble];
}

bool trouble_lies_in_wait(enum trouble trouble)
{
    return trouble == TROUBLE_WRITE_ERROR || trouble == TROUBLE_SYNC_ERROR ||
           trouble == TROUBLE_READ_ERROR || trouble == TROUBLE_SHORT_WRITE ||
           trouble == TROUBLE_STALE_READ || trouble == TROUBLE_MISDIRECTED;
}

static uint64_t pick(struct random *random, const uint64_t *choices, uint32_t count)
{
    return choices[random_below(random, count)];
}
#define PICK(random, ...)                                                                          \
    pick(random, (const uint64_t[]){__VA_ARGS__},                                                  \
         sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

/* All that goes wrong with the disk is its lies, and there is something to be read: starts, and clients that read all over
 * again. */
static void plan_lies(struct simulation_plan *plan, struct random *random)
{
    static const enum trouble errors[] = {TROUBLE_WRITE_ERROR, TROUBLE_SYNC_ERROR,
                                          TROUBLE_READ_ERROR, TROUBLE_DISK_FULL};
    for (size_t i = 0; i < ARRAY_COUNT(errors); i++)
        plan->troubles[errors[i]] = false;
    if (!plan->troubles[TROUBLE_STALE_READ] && !plan->troubles[TROUBLE_MISDIRECTED])
        plan->troubles[PICK(random, TROUBLE_STALE_READ, TROUBLE_MISDIRECTED)] = true;
    plan->troubles[PICK(random, TROUBLE_KILL, TROUBLE_POWER)] = true;
    plan->troubles[TROUBLE_CLIENT_KILL] = true;
}

/* The broker is in the middle of a send when a client says nothing any more, and lives long enough to lose its patience. */
static void plan_half_open(struct simulation_plan *plan)
{
    static const enum trouble ends[] = {TROUBLE_KILL, TROUBLE_POWER, TROUBLE_DRAIN,
                                        TROUBLE_WRITE_ERROR, TROUBLE_SYNC_ERROR};
    for (size_t i = 0; i < ARRAY_COUNT(ends); i++)
        plan->troubles[ends[i]] = false;
    plan->net.window_bytes = 4096;
}

/* Others come with starts, and by themselves never. */
static bool is_drawn(enum trouble trouble)
{
    return trouble != TROUBLE_POWER_AT_START && trouble != TROUBLE_KILL_AT_START;
}

static bool has_trouble(const struct simulation_plan *plan)
{
    bool has = false;
    for (int i = 0; i < TROUBLE_COUNT; i++)
        has |= plan->troubles[i] && is_drawn((enum trouble)i);
    return has;
}

void simulation_plan(struct simulation_plan *plan, uint64_t seed, bool lying)
{
    struct random random;
    random_init(&random, seed);
    *plan = (struct simulation_plan){
        .seed = seed,
        .shards = (uint16_t)PICK(&random, 1, 1, 2, 3, 3),
        .cores = (uint16_t)PICK(&random, 1, 1, 2, 3),
        .storm_ns = NS_PER_S * PICK(&random, 1, 2, 4, 8),
        .trouble_every_ns = NS_PER_MS * PICK(&random, 200, 600, 2000),
        .disk_latency_ns = NS_PER_US * PICK(&random, 50, 200, 200, 2000, 20000),
        .crash_keep_percent = (uint32_t)PICK(&random, 0, 20, 50, 80, 100),
        .disk_bytes = GIB,
        .wal_bytes_budget = MIB * PICK(&random, 64, 64, 256),
        .net = {.latency_ns = NS_PER_US * PICK(&random, 10, 50, 1000),
                .window_bytes = (uint32_t)PICK(&random, 4096, 65536, 262144, 262144),
                .piece_bytes = (uint32_t)PICK(&random, 0, 0, 0, 0, 0, 100, 1000, 4096),
                .ghost_percent = (uint32_t)PICK(&random, 0, 0, 20)},
    };
    plan->net.latency_ns_max = plan->net.latency_ns * PICK(&random, 1, 4, 100);
    plan->actors[ACTOR_PLAIN] = (uint32_t)PICK(&random, 1, 2, 3);
    plan->actors[ACTOR_WORKER] = (uint32_t)PICK(&random, 0, 1, 2, 4);
    plan->actors[ACTOR_READER] = 1;
    plan->actors[ACTOR_MEMBER] = (uint32_t)PICK(&random, 0, 0, 2, 4);
    plan->actors[ACTOR_MOVER] = (uint32_t)PICK(&random, 0, 0, 1, 2);
    plan->actors[ACTOR_CHURNER] = (uint32_t)PICK(&random, 0, 0, 1);
    plan->actors[ACTOR_HOARDER] = (uint32_t)PICK(&random, 0, 0, 0, 1);
    for (int i = 0; i < TROUBLE_COUNT; i++)
        plan->troubles[i] = random_below(&random, 3) == 0;
    plan->must_detect = random_below(&random, 10) == 0 || lying;
    plan->troubles[TROUBLE_STALE_READ] &= plan->must_detect;
    plan->troubles[TROUBLE_MISDIRECTED] &= plan->must_detect;
    if (plan->must_detect)
        plan_lies(plan, &random);
    if (!plan->troubles[TROUBLE_KILL] && !plan->troubles[TROUBLE_POWER] && random_below(&random, 4))
        plan->troubles[PICK(&random, TROUBLE_KILL, TROUBLE_POWER, TROUBLE_DRAIN)] = true;
    while (!has_trouble(plan))
        plan->troubles[random_below(&random, TROUBLE_STALE_READ)] = true;
    if (plan->net.piece_bytes && plan->net.piece_bytes < 4096) // each piece costs a turn or two
        plan->actors[ACTOR_HOARDER] = 0;
    if (plan->troubles[TROUBLE_CLIENT_POWER] && !plan->must_detect && random_below(&random, 2) == 0)
        plan_half_open(plan);
    /* A link must carry what a consumer asks for within its session's time. */
    if (plan->net.latency_ns_max > NS_PER_MS)
        plan->net.window_bytes = (uint32_t)max_u64(plan->net.window_bytes, 256 * KIB);
}

void simulation_print_plan(const struct simulation_plan *plan, FILE *file)
{
    fprintf(file,
            "shards %u, cores %u, storm %.1f s, disk %" PRIu64 " us, network %" PRIu64 "..%" PRIu64
            " us, window %u, pieces %u, ghosts %u %%, kept in a crash %u %%;",
            plan->shards, plan->cores, (double)plan->storm_ns / 1e9,
            plan->disk_latency_ns / NS_PER_US, plan->net.latency_ns / NS_PER_US,
            plan->net.latency_ns_max / NS_PER_US, plan->net.window_bytes, plan->net.piece_bytes,
            plan->net.ghost_percent, plan->crash_keep_percent);
    for (int i = 0; i < ACTOR_KINDS; i++)
        if (plan->actors[i])
            fprintf(file, " %u %s", plan->actors[i], actor_name((enum actor_kind)i));
    fprintf(file, ";");
    for (int i = 0; i < TROUBLE_COUNT; i++)
        if (plan->troubles[i])
            fprintf(file, " %s", trouble_name((enum trouble)i));
    fprintf(file, "\n");
}

/* ---- set-up ---- */

static void set(uint32_t i, const char *key, const char *format, uint64_t value)
{
    snprintf(run.settings[i], sizeof(run.settings[i]), format, value);
    run.broker.settings[i][0] = key;
    run.broker.settings[i][1] = run.settings[i];
}

static void set_up_broker(const struct simulation_plan *plan)
{
    run.broker.disk = sim_disk_new(plan->seed, plan->disk_bytes);
    run.broker.disk->crash_keep_percent = plan->crash_keep_percent;
    run.broker.disk->keeps_previous = plan->troubles[TROUBLE_STALE_READ];
    run.broker.on_opened = on_opened;
    set(0, "data_dir", "/data", 0);
    set(1, "shards", "%" PRIu64, plan->shards);
    set(2, "cores", "%" PRIu64, plan->cores);
    set(3, "segment_bytes", "%" PRIu64, 4 * MIB);
    set(4, "batch_bytes_max", "%" PRIu64, MIB);
    set(5, "wal_bytes_budget", "%" PRIu64, plan->wal_bytes_budget * plan->shards);
    set(6, "wal_buffer_bytes", "%" PRIu64, 20 * MIB);
    set(7, "connections_max", "%" PRIu64, UINT64_C(64));
}

static void set_up_actors(const struct simulation_plan *plan)
{
    run.stage.pause_ms_max = 10 + (uint32_t)world_below(world_below(4) ? 200 : 20);
    run.stage.record_bytes_max = world_below(4) ? 2000 : VALUE_BYTES_MAX - VALUE_BYTES_MIN;
    run.stage.abort_percent = 30;
    for (int kind = 0; kind < ACTOR_KINDS; kind++)
        for (uint32_t i = 0; i < plan->actors[kind]; i++)
            run.actors[run.actor_count++] =
                (struct actor){.stage = &run.stage, .kind = (enum actor_kind)kind, .number = i};
}

static bool has_past(const struct process *process, const struct io_op *op)
{
    const struct sim_file *file = process->files.slots[op->fd - IO_SIM_FD_BASE].file;
    return file && sim_file_stale_blocks(file, op->offset, op->len) > 0;
}

static int fault_of(struct process *process, const struct io_op *op)
{
    if (process != run.broker.process || run.faults[op->kind].count == 0)
        return 0;
    if (run.faults[op->kind].error == IO_SIM_STALE && !has_past(process, op))
        return 0;
    if (run.faults[op->kind].after > 0) {
        run.faults[op->kind].after--;
        return 0;
    }
    run.faults[op->kind].count--;
    run.result->struck[run.faults[op->kind].trouble] += !run.faults[op->kind].has_struck;
    run.faults[op->kind].has_struck = true;
    return run.faults[op->kind].error;
}

const struct history *simulation_history(void)
{
    return run.stage.world->history;
}

/* Of a history that was broken off: what is wrong at once, not what only the end shows. */
static bool has_no_wrong_data(void)
{
    struct checker *checker = checker_new(&(struct checker_options){0});
    for (uint64_t i = 0; i < history_count(run.stage.world->history); i++)
        checker_add(checker, history_at(run.stage.world->history, i));
    uint64_t count = checker_count_all(checker);
    checker_free(checker);
    return count == 0;
}

/* How often it was a lie of this kind that a run ended by. */
static void note_lies(enum lie_end end)
{
    const struct sim_disk *disk = run.broker.disk;
    uint64_t bit = 0;
    for (int i = 0; i < SIM_LIES; i++) {
        run.result->lies[i].struck = disk->struck[i];
        run.result->lies[i].bit = disk->bit[i];
        bit += disk->bit[i];
    }
    if (bit > 0)
        run.result->lies[disk->last_bit].ends[end]++;
    else if (end != LIE_HARMLESS)
        fail("the broker complains of a disk that did nothing wrong: %s", run.broker.text);
}

/* The run stops here. Thread: any of the simulated. */
static void break_off(enum lie_end end)
{
    note_lies(end);
    run.result->was_broken_off = true;
    world_stop();
    for (;;)
        thread_sleep(NS_PER_S);
}

static void on_storage_error(void)
{
    break_off(LIE_READ);
}

void simulation_run(const struct simulation_plan *plan, struct simulation_result *result)
{
    memset(&run, 0, sizeof(run));
    memset(result, 0, sizeof(*result));
    run.plan = plan;
    run.result = result;
    world_begin(
        &(struct world_options){.seed = plan->seed, .disk_latency_ns = plan->disk_latency_ns});
    net_set(world_net(), &plan->net);
    world_set_fault(fault_of);
    run.stage.world = world_new(topics, TOPICS, 1 + (uint32_t)world_below(3), EVENTS_MAX);
    snprintf(run.stage.world->server, sizeof(run.stage.world->server), "127.0.0.1:%d",
             SIM_BROKER_PORT);
    set_up_broker(plan);
    state_log_begin(&run.broker);
    set_up_actors(plan);
    run.stage.moves = own_calloc(STAGE_MOVES_MAX, sizeof(*run.stage.moves));
    for (uint32_t i = 0; i < plan->actors[ACTOR_HOARDER]; i++)
        hoard_init(&run.stage.hoards[i], world_below(2), plan->troubles[TROUBLE_WALL_CLOCK]);
    run.stage.reads_may_fail = plan->troubles[TROUBLE_READ_ERROR];
    run.stage.on_storage_error = plan->must_detect ? on_storage_error : NULL;
    struct process *director = process_new("director", NULL);
    (void)thread_new(director, direct, NULL);
    if (!world_run(WORLD_END_NS))
        fail("the world stood still, or did not end, at %.3f s", (double)world_now_ns() / 1e9);
    if (plan->must_detect && !result->was_broken_off)
        note_lies(LIE_HARMLESS);
    if (!(result->was_broken_off ? has_no_wrong_data() : history_check(run.stage.world->history)))
        fail("the history has anomalies");
    stage_check_moves(&run.stage);
    result->states_compared = state_log_compared();
    result->restarts_of_shards = state_log_starts();
    state_log_end();
    own_free(run.stage.moves);
    result->must_detect = plan->must_detect;
    result->quiet = true;
    for (int i = 0; i < TROUBLE_COUNT; i++)
        result->quiet &= result->troubles[i] == 0;
    result->trace = world_trace();
    result->simulated_ns = world_now_ns() - NS_PER_S;
    result->switches = world_switches();
    result->given_up = net_given_up(world_net());
    result->events = history_count(run.stage.world->history);
    result->broker_lives = run.broker.lives;
    result->acks = run.stage.plain_acks;
    result->commits = run.stage.commits;
    result->aborts = run.stage.aborts;
    result->prepares = run.stage.prepares;
    result->group_commits = run.stage.group_commits;
    result->moves = run.stage.move_count;
    result->topics = run.stage.topics_made;
    for (uint32_t i = 0; i < plan->actors[ACTOR_HOARDER]; i++) {
        result->hoarded += run.stage.hoards[i].sent_count;
        result->hoards_trimmed += run.stage.hoards[i].was_trimmed;
        hoard_free(&run.stage.hoards[i]);
    }
    world_end();
    sim_disk_free(run.broker.disk);
}

/* ---- the broker's lives ---- */

static void print_deed(FILE *file, const char *name, uint64_t count, int place)
{
    fprintf(file, "%s%-32s %12" PRIu64, place % 2 ? "   " : "\n  ", name, count);
}

static void note_deeds(void)
{
    struct simulation_deeds *sum = &run.result->deeds;
    struct broker *broker = run.broker.broker;
    uint32_t owner = memory_owner_set(run.broker.process->id);
    for (uint16_t i = 0; i < broker->shard_count; i++) {
        struct shard *shard = &broker->shards[i];
        struct store_stats stats = store_stats(shard->store);
#define SHARD_COUNTER(name, help) sum->name += counter_get(&shard->counters.name);
#include "broker/shard_counters.def"
#undef SHARD_COUNTER
        uint64_t segments_beyond_first = stats.segments > 0 ? stats.segments - 1 : 0;
#define STORE_DEED(name) sum->name += DEED_##name;
#define DEED_segments_beyond_first segments_beyond_first
#define DEED_checkpoints stats.checkpoints
#define DEED_archives stats.archives
#define DEED_unweaved_bytes stats.unweaved_bytes
#define DEED_moved_batches stats.moved_batches
#define DEED_reads_tail stats.reads_tail
#define DEED_reads_segment stats.reads_segment
#define DEED_reads_archive stats.reads_archive
#include "tests/sim/simulation/store_deeds.def"
#undef STORE_DEED
    }
    for (uint16_t i = 0; i < broker->core_count; i++) {
#define CORE_COUNTER(name, help) sum->name += counter_get(&broker->cores[i].counters.name);
#include "broker/core_counters.def"
#undef CORE_COUNTER
    }
    memory_owner_set(owner);
}

void simulation_print_deeds(const struct simulation_deeds *deeds, FILE *file)
{
    int place = 0;
#define SHARD_COUNTER(name, help) print_deed(file, #name, deeds->name, place++);
#define CORE_COUNTER(name, help) print_deed(file, #name, deeds->name, place++);
#define STORE_DEED(name) print_deed(file, #name, deeds->name, place++);
#include "broker/core_counters.def"
#include "broker/shard_counters.def"
#include "tests/sim/simulation/store_deeds.def"
#undef SHARD_COUNTER
#undef CORE_COUNTER
#undef STORE_DEED
    fprintf(file, "\n");
}

/* As long as the broker can be asked. */
static void remember(void)
{
    if (run.broker.state != SIM_BROKER_READY && run.broker.state != SIM_BROKER_DRAINING)
        return;
    note_deeds();
    state_log_note_end();
}

/* What was durable is there, before anything is served, or a lie of the disk took it that nothing in the log can show. */
static void judge_durable(const struct sim_broker *broker, uint16_t shard)
{
    char dir[32];
    uint64_t end_lsn = broker->opened[shard].end_lsn, durable_lsn = state_log_durable_lsn(shard);
    if (end_lsn >= durable_lsn)
        return;
    snprintf(dir, sizeof(dir), "/data/shard-%03u", shard);
    uint64_t proven_lsn = lies_proven_lsn(broker->disk, dir);
    if (!run.plan->must_detect || proven_lsn > end_lsn)
        fail("shard %u: recovered up to LSN %" PRIu64 ", though %" PRIu64
             " was durable and %" PRIu64 " is proven",
             shard, end_lsn, durable_lsn, proven_lsn);
    break_off(LIE_BEYOND);
}

static void on_opened(struct sim_broker *broker, uint16_t shard)
{
    judge_durable(broker, shard);
    uint64_t lsn = state_log_opened(shard);
    if (lsn != UINT64_MAX)
        fail("shard %u: up to LSN %" PRIu64 " the log gives another state than there was", shard,
             lsn);
}

static void clear_faults(void)
{
    memset(run.faults, 0, sizeof(run.faults));
}

/* At any event of a start. True: it was, and there is nothing of the broker any more. */
static bool start_is_cut_short(void)
{
    bool power = run.plan->troubles[TROUBLE_POWER_AT_START];
    bool kill = run.plan->troubles[TROUBLE_KILL_AT_START];
    if (!power && !kill)
        return false;
    thread_sleep(world_below(run.plan->disk_latency_ns * 200));
    if (run.broker.state != SIM_BROKER_STARTING)
        return false;
    if (power && kill)
        power = world_below(2);
    run.result->troubles[power ? TROUBLE_POWER_AT_START : TROUBLE_KILL_AT_START]++;
    sim_broker_end(&run.broker, power ? PROCESS_POWER : PROCESS_KILLED);
    return true;
}

/* A file; or the shards, when each log is good in itself and one lacks what another one knows of. */
static bool names_place(void)
{
    return strstr(run.broker.text, "/data/") || strncmp(run.broker.text, "shard ", 6) == 0;
}

/* Until it serves. Starts may fail as long as the disk does, and be cut short three times. */
static void bring_up(void)
{
    world_wall_jump(-run.wall_jumped_ms); // a start believes the clock
    run.wall_jumped_ms = 0;
    for (int tries = 0;; tries++) {
        sim_broker_start(&run.broker);
        if (tries < 3 && start_is_cut_short())
            continue;
        if (sim_broker_wait_ready(&run.broker))
            break;
        if (run.plan->must_detect && run.broker.exit_status == EXIT_REFUSED && names_place())
            break_off(LIE_REFUSED);
        if (run.plan->must_detect || run.broker.exit_status == EXIT_REFUSED || tries > 10)
            fail("the broker refuses to start: %s: %s", status_name(run.broker.start_status),
                 run.broker.text);
        clear_faults();
    }
    run.broker.disk->lied_count = 0;
}

static void end_broker(enum process_end how)
{
    remember();
    sim_broker_end(&run.broker, how);
}

static void restart(enum process_end how)
{
    end_broker(how);
    if (world_below(2))
        thread_sleep(world_below(2 * NS_PER_S));
    bring_up();
}

/* One that ended by itself did so because of its disk, and says so. */
static void look_after_broker(void)
{
    if (run.broker.state != SIM_BROKER_ENDED)
        return;
    if (run.broker.exit_status != EXIT_FAILED)
        fail("the broker ended with code %d", run.broker.exit_status);
    if (run.plan->must_detect)
        break_off(LIE_ENDED);
    if (!run.plan->troubles[TROUBLE_WRITE_ERROR] && !run.plan->troubles[TROUBLE_SYNC_ERROR] &&
        !run.plan->troubles[TROUBLE_READ_ERROR] && !run.plan->troubles[TROUBLE_DISK_FULL])
        fail("the broker failed on a disk that did not");
    clear_faults();
    bring_up();
}

/* ---- troubles ---- */

static struct actor *any_actor(void)
{
    return &run.actors[world_below(run.actor_count)];
}

/* One of so many is long: up to more than a connection lives without an answer. */
static uint64_t some_time(uint32_t long_one_of)
{
    return 1 + world_below(world_below(long_one_of) ? 5 * NS_PER_S : 90 * NS_PER_S);
}

/* Clients whose machines have power again. */
static void look_after_clients(void)
{
    for (uint32_t i = 0; i < run.actor_count; i++) {
        struct actor *actor = &run.actors[i];
        if (actor->off_until_ns && actor->off_until_ns <= world_now_ns())
            actor_start(actor);
    }
}

static void fail_next(enum io_kind kind, int error, uint32_t count, enum trouble trouble)
{
    uint32_t after = (uint32_t)world_below(kind == IO_READ ? 8 : 50); // there are fewer of them
    run.faults[kind].after = after;
    run.faults[kind].count = count;
    run.faults[kind].error = error;
    run.faults[kind].trouble = trouble;
    run.faults[kind].has_struck = false;
}

static void lie_next(enum sim_lie lie, enum trouble trouble)
{
    run.result->lies[lie].armed++;
    fail_next(lie == SIM_MISDIRECTED_WRITE ? IO_WRITE : IO_READ,
              lie == SIM_STALE_READ ? IO_SIM_STALE : IO_SIM_MISDIRECTED, 1, trouble);
}

static void drain_and_start(void)
{
    if (run.broker.state != SIM_BROKER_READY)
        return;
    sim_broker_drain(&run.broker);
    while (run.broker.state == SIM_BROKER_DRAINING)
        thread_sleep(NS_PER_MS);
    bring_up();
}

static void fill_disk(void)
{
    struct sim_disk *disk = run.broker.disk;
    uint64_t left = sim_disk_free_blocks(disk);
    run.blocks_taken = left - world_below(1 + left / 50);
    disk->capacity_blocks -= run.blocks_taken;
}

static void free_disk(void)
{
    run.broker.disk->capacity_blocks += run.blocks_taken;
    run.blocks_taken = 0;
}

static void jump_clock(void)
{
    int64_t days_200_ms = INT64_C(200) * 86400 * 1000;
    int64_t by_ms = (int64_t)world_below(2 * (uint64_t)days_200_ms) - days_200_ms;
    run.wall_jumped_ms += by_ms;
    world_wall_jump(by_ms);
}

static void trouble(enum trouble what)
{
    struct actor *actor = any_actor();
    uint64_t soon_ns = world_now_ns() + world_below(5 * NS_PER_S);
    run.result->troubles[what]++;
    world_note(20, what, 0);
    switch (what) {
    case TROUBLE_KILL:
        restart(PROCESS_KILLED);
        break;
    case TROUBLE_POWER:
        restart(PROCESS_POWER);
        break;
    case TROUBLE_POWER_AT_START: // are not drawn
    case TROUBLE_KILL_AT_START:
        break;
    case TROUBLE_DRAIN:
        drain_and_start();
        break;
    case TROUBLE_CLIENT_KILL:
        if (actor->off_until_ns)
            break;
        actor_kill(actor);
        actor_start(actor);
        break;
    case TROUBLE_CLIENT_POWER:
        if (actor->process)
            actor_lose_power(actor, world_now_ns() + some_time(2));
        break;
    case TROUBLE_RESET:
        if (run.broker.process)
            (void)net_reset_one(world_net(), run.broker.process);
        break;
    case TROUBLE_PARTITION:
        if (actor->process)
            net_partition(world_net(), actor->process, 1 + (enum net_direction)world_below(3),
                          world_now_ns() + some_time(4));
        break;
    case TROUBLE_PAUSE:
        if (world_below(2) && run.broker.process) {
            process_pause(run.broker.process, soon_ns);
            run.paused_until_ns = soon_ns;
        } else if (actor->process) {
            process_pause(actor->process, soon_ns);
        }
        break;
    case TROUBLE_WRITE_ERROR:
        fail_next(IO_WRITE, world_below(2) ? EIO : ENOSPC, 1, what);
        break;
    case TROUBLE_SYNC_ERROR:
        fail_next(IO_FDATASYNC, world_below(2) ? EIO : ENOSPC, 1, what);
        break;
    case TROUBLE_READ_ERROR:
        fail_next(IO_READ, EIO, 1, what);
        break;
    case TROUBLE_SHORT_WRITE:
        fail_next(IO_WRITE, IO_SIM_SHORT, 1 + (uint32_t)world_below(100), what);
        break;
    case TROUBLE_DISK_FULL:
        if (run.blocks_taken == 0)
            fill_disk();
        else
            free_disk();
        break;
    case TROUBLE_SLOW_DISK:
        world_set_disk_latency(run.plan->disk_latency_ns * (1 + world_below(20)));
        break;
    case TROUBLE_WALL_CLOCK:
        jump_clock();
        break;
    case TROUBLE_STALE_READ:
        lie_next(SIM_STALE_READ, what);
        break;
    case TROUBLE_MISDIRECTED:
        lie_next(world_below(2) ? SIM_MISDIRECTED_READ : SIM_MISDIRECTED_WRITE, what);
        break;
    case TROUBLE_COUNT:
        break;
    }
}

/* Of those that this run has, so that none is spent on nothing. */
static enum trouble any_trouble(void)
{
    enum trouble what;
    do
        what = (enum trouble)world_below(TROUBLE_COUNT);
    while (!run.plan->troubles[what] || !is_drawn(what));
    return what;
}

static void storm(void)
{
    uint64_t until = world_now_ns() + run.plan->storm_ns;
    while (world_now_ns() < until) {
        thread_sleep(world_below(2 * run.plan->trouble_every_ns));
        look_after_broker();
        look_after_clients();
        trouble(any_trouble());
    }
}

/* ---- the calm, and the end ---- */

static void *make_topics(void *argument)
{
    world_make_topics(run.stage.world);
    *(bool *)argument = true;
    process_exit(0);
}

static void *look_for_rests(void *argument)
{
    check_nothing_left(run.stage.world);
    *(bool *)argument = true;
    process_exit(0);
}

/* A client of its own; it is over when this returns. */
static void do_as_client(void *(*what)(void *done))
{
    static bool done;
    done = false;
    (void)thread_new(process_new("client", NULL), what, &done);
    while (!done)
        thread_sleep(NS_PER_MS);
}

static void wait_for(enum actor_kind first, enum actor_kind last, const char *what)
{
    uint64_t until = world_now_ns() + CALM_NS_MAX;
    for (uint32_t i = 0; i < run.actor_count; i++) {
        struct actor *actor = &run.actors[i];
        while (actor->kind >= first && actor->kind <= last && !actor->has_ended) {
            if (run.broker.state == SIM_BROKER_ENDED)
                fail("the broker ended by itself in the calm");
            if (world_now_ns() > until)
                fail("%s: %s-%u does not come to its end in the calm", what,
                     actor_name(actor->kind), actor->number);
            look_after_clients();
            thread_sleep(10 * NS_PER_MS);
        }
    }
}

static void calm(void)
{
    clear_faults();
    if (run.blocks_taken)
        free_disk();
    world_set_disk_latency(run.plan->disk_latency_ns);
    thread_sleep(NS_PER_S);
    if (world_now_ns() < run.paused_until_ns) // what failed before that it learns when it goes on
        thread_sleep(run.paused_until_ns + NS_PER_S - world_now_ns());
    look_after_broker();
    clear_faults();
    thread_sleep(world_below(2 * NS_PER_S));
    atomic_store(&run.stage.world->stop, true);
    wait_for(ACTOR_PLAIN, ACTOR_WORKER, "producers");
    wait_for(ACTOR_MOVER, ACTOR_HOARDER, "clients");
    atomic_store(&run.stage.world->drain, true);
    wait_for(ACTOR_READER, ACTOR_MEMBER, "consumers");
    if (run.stage.begins_lost)
        thread_sleep(TXN_TIMEOUT_NS);
    do_as_client(look_for_rests);
}

static void *direct(void *argument)
{
    (void)argument;
    bring_up();
    do_as_client(make_topics);
    for (uint32_t i = 0; i < run.actor_count; i++)
        actor_start(&run.actors[i]);
    storm();
    calm();
    run.result->unbroken = run.broker.lives == 1;
    remember();
    drain_and_start();
    world_stop();
    return NULL;
}
