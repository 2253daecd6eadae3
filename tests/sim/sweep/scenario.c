/* The director: brings the broker up, looks after it, and holds what it does against the strike. See scenario.h. */
#include "tests/sim/sweep/scenario.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "tests/checker/checker.h"
#include "tests/sim/world/net.h"
#include "tests/sim/world/own_memory.h"
#include "tests/sim/world/system.h"

#define TOPICS 2u
#define PARTITIONS 4u
#define EVENTS_MAX (UINT64_C(1) << 16)
#define END_NS_MAX NS_PER_S          // from a failed log to the end of the broker
#define LAST_ACK_NS NS_PER_MS        // what was sent before arrives within
#define DRAIN_NS_MAX (32 * NS_PER_S) // drain_timeout (30 s), and what sim_broker.c waits beyond it
#define STICKY_NS (3 * NS_PER_S)     // a fault that nobody minds goes on for so long
#define WORLD_END_NS (3600 * NS_PER_S)

struct scenario scenario;
static bool is_loud;

static const char *const topics[TOPICS] = {"plain", "both"};

static void *direct(void *argument);
static void on_log(const char *line);
static void write_history(const char *path);
static void bring_up(void);
static void look_after_broker(void);
static void check_end(void);

void scenario_run(world_fault_fn fault, bool loud, const char *history_path)
{
    memset(&scenario, 0, sizeof(scenario));
    scenario.seed = 1;
    is_loud = loud;
    world_begin(&(struct world_options){.seed = scenario.seed});
    net_set(world_net(), &(struct net_options){.latency_ns = 10000, .latency_ns_max = 50000});
    world_set_fault(fault);
    system_on_log(on_log);
    memory_share_nothing(true); // a child of the sweep has a history of its own
    scenario.world = world_new(topics, TOPICS, PARTITIONS, EVENTS_MAX);
    memory_share_nothing(false);
    snprintf(scenario.world->server, sizeof(scenario.world->server), "127.0.0.1:%d",
             SIM_BROKER_PORT);
    scenario.broker = (struct sim_broker){.disk = sim_disk_new(scenario.seed, GIB),
                                          .settings = {{"data_dir", "/data"},
                                                       {"shards", "3"},
                                                       {"cores", "2"},
                                                       {"segment_bytes", "4MiB"},
                                                       {"batch_bytes_max", "1MiB"},
                                                       {"wal_bytes_budget", "48MiB"},
                                                       {"wal_buffer_bytes", "20MiB"},
                                                       {"connections_max", "16"}}};
    (void)thread_new(process_new("director", NULL), direct, NULL);
    if (!world_run(WORLD_END_NS))
        fail("the world stood still, or did not end, at %.3f s", (double)world_now_ns() / 1e9);
    if (history_path && scenario.strike.has_struck)
        write_history(history_path);
    if (!history_check(scenario.world->history))
        fail("the history has anomalies");
    world_end();
    sim_disk_free(scenario.broker.disk);
}

static void write_history(const char *path)
{
    FILE *file = fopen(path, "w");
    if (!file)
        fail("cannot write %s", path);
    history_print(scenario.world->history, file);
    fclose(file);
}

/* ---- the broker's lives ---- */

static bool is_log_failure(void)
{
    return scenario.strike.has_struck && scenario.strike.is_of_log &&
           scenario.strike.life == scenario.broker.lives;
}

static void on_log(const char *line)
{
    if (is_loud)
        fprintf(stderr, "%12.6f %s", (double)world_now_ns() / 1e9, line);
    if (strstr(line, "assertion failed")) {
        printf("%s", line);
        fflush(stdout);
    }
    if (scenario.strike.is_of_memory && strstr(line, "segment_damaged"))
        fail("memory is short, and the broker says: %s", line);
    if (!strstr(line, "shard.failed"))
        return;
    scenario.failure_lines++;
    /* When all of them fail, it may be another shard's that was first. */
    const char *path = scenario.strike.is_sticky ? " file=/data/shard-" : scenario.strike.path;
    if (is_log_failure() && strstr(line, " lsn=") && strstr(line, path))
        scenario.log_names_place = true;
}

/* Its machine goes down with it: nothing that was not durable is there by luck alone, nor all of it gone. */
static void cut_power(void)
{
    static const uint32_t keep[] = {0, 50, 100};
    struct sim_disk *disk = scenario.broker.disk;
    uint32_t owner = memory_outside(); // the disk's memory is nobody's
    disk->crash_keep_percent = keep[scenario.strike.at_ns / 7 % 3];
    sim_disk_crash(disk);
    memory_inside(owner);
}

void scenario_strikes(struct scenario_strike strike)
{
    bool first = !scenario.strike.has_struck;
    strike.has_struck = true;
    strike.began_ns = first ? world_now_ns() : scenario.strike.began_ns;
    strike.at_ns = max_u64(world_now_ns(), strike.at_ns);
    strike.was_serving = scenario_serves();
    strike.life = scenario.broker.lives;
    scenario.strike = strike;
    scenario.log_names_place = false;
}

bool scenario_serves(void)
{
    const struct broker *broker = scenario.broker.broker;
    for (uint16_t i = 0; broker && i < broker->core_count; i++)
        if (core_state(&broker->cores[i]) >= CORE_SERVING)
            return true;
    return false;
}

static void fault_is_over(void)
{
    scenario.strike.is_over = true;
}

static void check_failed_start(uint32_t failed)
{
    const struct sim_broker *b = &scenario.broker;
    if (!scenario.strike.has_struck || scenario.strike.is_borne ||
        failed > (scenario.strike.is_sticky ? 2 : 1))
        fail("the broker does not start: code %d, %s: %s", b->exit_status,
             status_name(b->start_status), b->text);
    if (b->exit_status != EXIT_FAILED && b->exit_status != EXIT_REFUSED)
        fail("a start that failed ends with code %d", b->exit_status);
    if (scenario.strike.is_of_memory && b->exit_status != EXIT_FAILED)
        fail("a start without memory ends with code %d: %s", b->exit_status, b->text);
    if (b->text[0] == '\0' || strstr(b->text, "(null)"))
        fail("a start failed (%s) without a word", status_name(b->start_status));
    scenario.starts_failed++;
}

static void bring_up(void)
{
    for (uint32_t failed = 1;; failed++) {
        sim_broker_start(&scenario.broker);
        bool is_ready = sim_broker_wait_ready(&scenario.broker);
        if (is_ready && is_log_failure() && !scenario.strike.was_serving)
            fail("the broker serves although its log's file %s failed in the start",
                 scenario.strike.path);
        if (is_ready)
            return;
        if (scenario.broker.start_status == 0)
            check_end(); // it has served, if for a moment only
        else
            check_failed_start(failed);
        cut_power();
        if (failed > 1 || !scenario.strike.is_sticky)
            fault_is_over();
    }
}

/* It ended by itself. */
static void check_end(void)
{
    const struct sim_broker *b = &scenario.broker;
    const struct scenario_strike *s = &scenario.strike;
    if (!s->has_struck || s->is_of_client || s->is_borne || s->life != b->lives)
        fail("the broker ended with code %d, and nothing had befallen it", b->exit_status);
    if (b->exit_status != EXIT_FAILED)
        fail("the broker ended with code %d", b->exit_status);
    bool of_serving_log = s->is_of_log && s->was_serving;
    bool may_be_silent =
        scenario.failure_lines >= LOG_BURST; // a limit of the process: here of all lives
    if (of_serving_log && !scenario.log_names_place && !may_be_silent)
        fail("the log of %s failed, but no line names the file and an LSN", s->path);
    scenario.ended_by_itself++;
    uint64_t after_ns = world_now_ns() - min_u64(s->at_ns, world_now_ns());
    uint64_t *most = of_serving_log ? &scenario.ended_after_log_ns : &scenario.ended_after_ns;
    *most = max_u64(*most, after_ns);
}

static void watch_strike(void)
{
    uint64_t now = world_now_ns();
    if (scenario.strike.has_struck && scenario.strike.is_sticky && !scenario.strike.is_over &&
        now > scenario.strike.began_ns + STICKY_NS)
        fault_is_over();
    if (is_log_failure() && scenario.strike.was_serving &&
        scenario.broker.state != SIM_BROKER_ENDED && now > scenario.strike.at_ns + END_NS_MAX)
        fail("the broker goes on a second after its log's file %s has failed",
             scenario.strike.path);
}

static void look_after_broker(void)
{
    watch_strike();
    if (scenario.broker.state != SIM_BROKER_ENDED)
        return;
    check_end();
    cut_power();
    bring_up();
}

void scenario_acked(void)
{
    if (is_log_failure() && scenario.strike.was_serving &&
        world_now_ns() > scenario.strike.at_ns + LAST_ACK_NS)
        fail("an ack %.3f ms after a log's file has failed",
             (double)(world_now_ns() - scenario.strike.at_ns) / 1e6);
}

/* ---- what happens to it in any case ---- */

static void wait_for_client(enum scenario_stage stage)
{
    while (scenario.asked < stage && !scenario.client_has_ended) {
        look_after_broker();
        thread_sleep(100 * NS_PER_US);
    }
}

static void go_on(enum scenario_stage stage)
{
    scenario.done = stage;
}

static void kill_broker(enum process_end how)
{
    sim_broker_end(&scenario.broker, how);
    bring_up();
}

static void drain_broker(void)
{
    look_after_broker();
    uint64_t latest_ns = world_now_ns() + DRAIN_NS_MAX;
    sim_broker_drain(&scenario.broker);
    while (scenario.broker.state == SIM_BROKER_DRAINING) {
        watch_strike();
        if (world_now_ns() > latest_ns)
            fail("the broker still drains after %.0f s", (double)DRAIN_NS_MAX / 1e9);
        thread_sleep(NS_PER_MS);
    }
    if (scenario.broker.exit_status == EXIT_DRAINED) {
        bring_up();
    } else {
        check_end();
        cut_power();
        bring_up();
    }
}

static void start_client(void)
{
    scenario.client_has_ended = false;
    scenario.client = process_new("client", NULL);
    (void)thread_new(scenario.client, script_run, NULL);
}

static void judge(void)
{
    static bool done;
    done = false;
    atomic_store(&scenario.world->drain, true);
    (void)thread_new(process_new("judge", NULL), script_judge, &done);
    while (!done) {
        look_after_broker();
        thread_sleep(NS_PER_MS);
    }
}

static void *direct(void *argument)
{
    bring_up();
    start_client();
    wait_for_client(SCENARIO_CHECKPOINT);
    if (scenario.broker.state == SIM_BROKER_READY)
        assembly_post(scenario.broker.broker, INBOX_RELOAD, 0);
    go_on(SCENARIO_CHECKPOINT);
    wait_for_client(SCENARIO_KILL);
    kill_broker(PROCESS_KILLED);
    go_on(SCENARIO_KILL);
    wait_for_client(SCENARIO_DRAIN);
    drain_broker();
    go_on(SCENARIO_DRAIN);
    wait_for_client(SCENARIO_POWER);
    go_on(SCENARIO_POWER);
    while (!scenario.client_has_ended) {
        look_after_broker();
        thread_sleep(NS_PER_MS);
    }
    look_after_broker();
    kill_broker(PROCESS_POWER);
    judge();
    look_after_broker();
    drain_broker();
    world_stop();
    return argument;
}
