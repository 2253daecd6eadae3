/* One episode: a broker on the round's store, load, faults, all faults removed, is it well, and then the judgement.
 *
 * Everything that must not be ends the process through fail(), with the episode's number in shared memory: whoever guards
 * it keeps the directory and tells how to run the episode again. */
#include "tests/soak/soak.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define EPISODE_S_MAX 400 // then it is stuck, wherever that may be
#define QUIET_S 10.0      // until the broker has let go of the last connection

static void begin(struct run *run, uint32_t number);
static void wait_load(struct run *run);
static void carry_out(struct run *run);
static void remove_faults(struct run *run);
static void check_liveness(struct run *run);
static void end_load(struct run *run);
static void check_quiet(struct run *run, const struct descriptors *before);
static void audit_all(struct run *run);
static void stop_broker(struct run *run);
static void report(struct run *run, double seconds);

void run_episode(struct run *run, uint32_t number)
{
    double began = now_s();
    alarm(EPISODE_S_MAX + run->options->plan.only_count * 4);
    begin(run, number);
    struct descriptors before = descriptors_of(&run->broker);
    load_make_topics(run->load);
    if (run->kept[(number + 1) % 2]->is_there)
        shrink_last(run->load, run->kept[(number + 1) % 2]);
    for (int i = 0; i < LOAD_CHILDREN; i++)
        child_start(&run->children[i], run->load->world);
    wait_load(run);
    carry_out(run);
    remove_faults(run);
    check_liveness(run);
    check_nothing_in_doubt(run->load->world);
    end_load(run);
    check_nothing_left(run->load->world);
    audit_all(run);
    check_quiet(run, &before);
    stop_broker(run);
    uint64_t anomalies = judge(run);
    if (anomalies)
        fail("the history has %" PRIu64 " anomalies", anomalies);
    report(run, now_s() - began);
    load_free(run->load);
    run->load = NULL;
    alarm(0);
}

/* ---- the broker ---- */

void start_broker(struct run *run)
{
    double most = run->is_starved ? RESTART_STARVED_S_MAX : RESTART_S_MAX;
    long from = log_length(&run->broker);
    if (!broker_start(&run->broker))
        fail("the broker did not start");
    if (!watch_started(&run->watch, &run->broker, from))
        fail("the broker did not print the bound of its memory");
    if (run->broker.ready_s > most)
        fail("the broker was ready after %.1f s, allowed %.0f", run->broker.ready_s, most);
    if (run->restart_s < run->broker.ready_s)
        run->restart_s = run->broker.ready_s;
    run->restarts++;
}

void look(struct run *run)
{
    int status;
    char line[1024] = "";
    if (run->broker.pid > 0 && waitpid(run->broker.pid, &status, WNOHANG) == run->broker.pid) {
        run->broker.pid = 0;
        (void)log_last(&run->broker, 0, line, sizeof(line));
        fail("the broker ended by itself with status 0x%x, its last line: %s", status, line);
    }
    if (!watch_look(&run->watch, &run->broker))
        fail("the broker has %" PRIu64 " bytes, its bound is %" PRIu64, run->watch.rss_bytes,
             run->watch.bound_bytes);
    for (int i = 0; i < LOAD_CHILDREN; i++)
        child_check(&run->children[i]);
}

void nap(struct run *run, double seconds)
{
    double until = now_s() + seconds;
    do {
        look(run);
        double left = until - now_s();
        usleep(left > 0.01 ? 10000 : left > 0 ? (useconds_t)(left * 1e6) : 0);
    } while (now_s() < until);
}

/* ---- begin ---- */

static void begin(struct run *run, uint32_t number)
{
    const struct soak_options *options = run->options;
    atomic_store(&run->totals->episode, number);
    plan_make(&run->plan, &options->plan, number);
    random_init(&run->random, options->plan.seed * 31337 + number);
    run->restarts = 0;
    run->restart_s = 0;
    run->is_starved = false;
    run->watch = (struct watch){0};
    run->broker.io = run->plan.io;
    run->broker.join = run->has_cgroup ? run->cgroup.join : NULL;
    start_broker(run);
    run->restarts = 0; // only those that faults cause
    run->load = load_new(options->plan.seed, number, options->plan.only_count > 0);
    snprintf(run->load->world->server, sizeof(run->load->world->server), "%s", run->broker.address);
    load_children(run->load, run->children);
    for (uint32_t i = 0; i < PLAN_FAULTS_MAX; i++)
        run->active[i] =
            (struct active){.plan = &run->plan.faults[i], .is_done = i >= run->plan.fault_count};
}

/* ---- is everything getting on ---- */

struct progress {
    uint64_t acks, commits, group_commits, moved, processed, churned, reads;
};

static struct progress progress_of(const struct run *run)
{
    const struct load *load = run->load;
    struct progress p = {.acks = atomic_load(&load->world->acks),
                         .commits = atomic_load(&load->world->commits),
                         .group_commits = atomic_load(&load->group_commits),
                         .moved = atomic_load(&load->moved),
                         .processed = atomic_load(&load->processed),
                         .churned = atomic_load(&load->churned)};
    for (uint32_t reader = 0; reader < READERS; reader++) {
        for (uint32_t i = 0; i < PARTITIONS; i++)
            p.reads += atomic_load(&load->world->positions[reader][i]);
    }
    return p;
}

static const char *what_stands_still(const struct progress *now, const struct progress *before)
{
    return now->acks <= before->acks                     ? "publishing"
           : now->commits <= before->commits             ? "committing transactions"
           : now->group_commits <= before->group_commits ? "committing offsets"
           : now->moved <= before->moved                 ? "moving records exactly once"
           : now->processed <= before->processed         ? "consuming in a group"
           : now->churned <= before->churned             ? "making and deleting topics"
           : now->reads <= before->reads                 ? "reading"
                                                         : NULL;
}

static void wait_progress(struct run *run, const char *when)
{
    struct progress before = progress_of(run), now = before;
    double deadline = now_s() + LIVENESS_S;
    const char *stands_still;
    while ((stands_still = what_stands_still(&now, &before))) {
        if (now_s() > deadline)
            fail("%s stands still for %.0f s %s", stands_still, LIVENESS_S, when);
        nap(run, 0.02);
        now = progress_of(run);
    }
}

static void wait_load(struct run *run)
{
    wait_progress(run, "before any fault");
}

static void check_liveness(struct run *run)
{
    wait_progress(run, "behind the last fault");
}

/* ---- faults ---- */

static struct active *next_step(struct run *run)
{
    struct active *next = NULL;
    for (int i = 0; i < PLAN_FAULTS_MAX; i++) {
        struct active *active = &run->active[i];
        if (!active->is_done && (!next || active->next_s < next->next_s))
            next = active;
    }
    return next;
}

static void carry_out(struct run *run)
{
    double began = now_s();
    struct active *active;
    for (int i = 0; i < PLAN_FAULTS_MAX; i++)
        run->active[i].next_s = began + run->active[i].plan->at_ms / 1000.0;
    while ((active = next_step(run))) {
        if (now_s() < active->next_s) {
            nap(run, active->next_s - now_s());
            continue;
        }
        double wait = fault_step(run, active);
        active->step++;
        active->is_done = wait < 0;
        active->next_s = now_s() + wait;
        if (active->plan->for_ms == 0 && is_enough(run->options, run->totals))
            active->is_done = true;
    }
}

/* Each fault has ended itself; what is left is the memory's limit. */
static void remove_faults(struct run *run)
{
    if (!run->has_cgroup || !plan_has(&run->plan, SOAK_MEMORY))
        return;
    uint64_t killed = cgroup_oom_kills(&run->cgroup);
    if (killed)
        fail("out of memory at the bound and 10 %%: %" PRIu64 " killed", killed);
    raise_to(&run->totals->memcg_permille,
             cgroup_memory_peak(&run->cgroup) * 1000 / run->watch.bound_bytes);
    if (!cgroup_memory_limit(&run->cgroup, 0))
        fail("the memory's limit can't be taken away");
}

/* ---- end ---- */

static bool is_reader(const struct child *child)
{
    return child->run == read_all || child->run == observe_offsets;
}

static bool is_of_group(const struct child *child)
{
    return child->run == consume_all || child->run == move_records;
}

static void end_load(struct run *run)
{
    struct load *load = run->load;
    atomic_store(&load->world->stop, true);
    for (int i = 0; i < LOAD_CHILDREN; i++) {
        if (!is_reader(&run->children[i]) && !is_of_group(&run->children[i]))
            child_wait(&run->children[i], 120);
    }
    if (!load_wait_groups(load, 60))
        fail("STUCK: a group does not get to the end");
    atomic_store(&load->groups_stop, true);
    for (int i = 0; i < LOAD_CHILDREN; i++) {
        if (is_of_group(&run->children[i]))
            child_wait(&run->children[i], 60);
    }
    atomic_store(&load->world->drain, true);
    for (int i = 0; i < LOAD_CHILDREN; i++)
        child_wait(&run->children[i], 90);
    if (!load_judge_groups(load))
        fail("DUPLICATE: not exactly once");
    if (atomic_load(&load->refused))
        fail("%" PRIu64 " records of idempotent producers were reported as failed, the last: %s",
             atomic_load(&load->refused), sluice_name(atomic_load(&load->refused_last)));
}

static void check_quiet(struct run *run, const struct descriptors *before)
{
    double deadline = now_s() + QUIET_S;
    struct descriptors now = descriptors_of(&run->broker);
    while (now.sockets > before->sockets && now_s() < deadline) {
        usleep(20000);
        now = descriptors_of(&run->broker);
    }
    if (now.sockets > before->sockets)
        fail("%u sockets are left %.0f s behind the last client, %u before the first", now.sockets,
             QUIET_S, before->sockets);
    if (now.files > before->files + FILES_OF_SHARD_MAX * run->plan.shards)
        fail("%u files are open, %u before the load, and at most %u may be for each shard",
             now.files, before->files, FILES_OF_SHARD_MAX);
}

/* A client has a thread, and this process forks: so in one of its own. */
static void audit_all(struct run *run)
{
    struct kept *last = run->kept[(run->plan.number + 1) % 2];
    struct kept *now = run->kept[run->plan.number % 2];
    int status = 1;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        audit(run->load, last, now);
        fflush(stdout);
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
        fail("the audit failed");
    last->is_there = false;
}

static void inspect(struct run *run)
{
    char program[PATH_BYTES], data[PATH_BYTES];
    int status = 1;
    snprintf(program, sizeof(program), "%s/sluicectl", run->options->bin);
    snprintf(data, sizeof(data), "%s", run->place.data);
    pid_t pid = fork();
    if (pid == 0) {
        if (!freopen("/dev/null", "w", stdout))
            _exit(1);
        execl(program, program, "wal", "inspect", data, "--verify", (char *)NULL);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
        fail("sluicectl wal inspect --verify finds damage (status 0x%x)", status);
}

static void stop_broker(struct run *run)
{
    look(run);
    int code = broker_stop(&run->broker);
    if (code != 0)
        fail("the broker ended with %d", code);
    inspect(run);
}

static void report(struct run *run, double seconds)
{
    struct totals *totals = run->totals;
    char faults[200];
    plan_describe(&run->plan, faults, sizeof(faults));
    raise_to(&totals->rss_bytes, run->watch.rss_bytes);
    raise_to(&totals->of_bound_permille, (uint64_t)(run->watch.of_bound * 1000));
    raise_to(&totals->restart_ms, (uint64_t)(run->restart_s * 1000));
    atomic_fetch_add(&totals->restarts, run->restarts);
    atomic_fetch_add(&totals->passed, 1);
    printf("ok    %u  seed %" PRIu64 "  %s %s %u shards  %s  %u restarts (%.2f s)  %" PRIu64
           " records  %" PRIu64 " commits  rss %.0f %%  %.1f s\n",
           run->plan.number, run->plan.seed, place_name(run->plan.place), run->plan.io,
           run->plan.shards, faults, run->restarts, run->restart_s,
           (uint64_t)atomic_load(&run->load->world->acks),
           (uint64_t)atomic_load(&run->load->world->commits), run->watch.of_bound * 100, seconds);
}
