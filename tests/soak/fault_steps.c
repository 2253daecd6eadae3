/* How each fault is done, step by step. A step may take its time (a restart does); those of other faults then wait. */
#include "tests/soak/soak.h"

#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/soak/attack.h"

#define DONE (-1.0)
#define STOPS_US 5000    // so long a signal may take to stop who is running
#define ERROR_WAIT_S 5.0 // for the broker to meet an error of its disk

static double seconds_of(uint32_t ms)
{
    return (double)ms / 1000;
}

static double chance_s(struct run *run, uint32_t low_ms, uint32_t high_ms)
{
    return seconds_of(low_ms + (uint32_t)random_below(&run->random, high_ms - low_ms + 1));
}

static void count(struct run *run, const struct active *active)
{
    atomic_fetch_add(&run->totals->faults[active->plan->kind], 1);
}

/* The last look at a life. */
static void kill_broker(struct run *run)
{
    look(run);
    broker_kill(&run->broker);
}

/* In a run of many cycles each must get on, or it would test nothing. */
static void wait_acks(struct run *run, uint64_t before)
{
    double deadline = now_s() + 60;
    while (run->options->plan.only >= 0 && atomic_load(&run->load->world->acks) <= before) {
        if (now_s() > deadline)
            fail("no record was acked for 60 s after a restart");
        nap(run, 0.002);
    }
}

/* ---- the end of the broker ---- */

static double step_kill(struct run *run, struct active *active)
{
    uint64_t acks = atomic_load(&run->load->world->acks);
    kill_broker(run);
    count(run, active);
    start_broker(run);
    wait_acks(run, acks);
    return active->step + 1 < active->plan->count ? chance_s(run, 5, 250) : DONE;
}

/* Without power nobody runs: stopped first, or the broker would tell its clients of reads that fail. What it has asked the
 * kernel for goes on. */
static void cut_power(struct run *run)
{
    look(run);
    place_choose_moment(&run->place, random_u64(&run->random));
    kill(run->broker.pid, SIGSTOP);
    if (run->place.fuse)
        usleep(STOPS_US); // a thread may wait for a disk that hangs until its power is off
    else
        waitpid(run->broker.pid, NULL, WUNTRACED);
    if (!place_power_off(&run->place, random_u64(&run->random)))
        fail("the power can't be cut");
    broker_kill(&run->broker);
    if (!place_power_on(&run->place))
        fail("the file system is not there after the power cut");
    atomic_fetch_add(&run->totals->cuts[run->place.kind], 1);
}

static double step_power_cut(struct run *run, struct active *active)
{
    uint64_t acks = atomic_load(&run->load->world->acks);
    cut_power(run);
    count(run, active);
    start_broker(run);
    wait_acks(run, acks);
    return active->step + 1 < active->plan->count ? chance_s(run, 5, 250) : DONE;
}

static double step_term(struct run *run, struct active *active)
{
    look(run);
    kill(run->broker.pid, SIGCONT); // it may be stopped
    int code = broker_stop(&run->broker);
    if (code != 0)
        fail("drained under load it ended with %d", code);
    count(run, active);
    start_broker(run);
    return DONE;
}

static double step_stop(struct run *run, struct active *active)
{
    if (active->step == 0) {
        active->pid = run->broker.pid;
        kill(active->pid, SIGSTOP);
        count(run, active);
        return seconds_of(active->plan->for_ms);
    }
    if (active->pid == run->broker.pid) // else it was killed meanwhile
        kill(active->pid, SIGCONT);
    return DONE;
}

/* Movers are left alone: of what they have moved they alone know whether it counts. */
static double step_client_kill(struct run *run, struct active *active)
{
    struct child *child;
    do {
        child = &run->children[random_below(&run->random, LOAD_CHILDREN)];
    } while (child->run == move_records);
    child_check(child);
    child_kill(child);
    child_start(child, run->load->world);
    count(run, active);
    return active->step + 1 < active->plan->count ? chance_s(run, 10, 300) : DONE;
}

/* ---- disks ---- */

static double step_disk_full(struct run *run, struct active *active)
{
    if (active->step == 0) {
        if (!place_fill(&run->place))
            fail("the disk can't be filled");
        count(run, active);
        return seconds_of(active->plan->for_ms);
    }
    place_free(&run->place);
    return DONE;
}

static void arm(struct fuse_control *fuse, uint64_t choice)
{
    static const int errors[] = {5, 28}; // EIO, ENOSPC
    int error = errors[choice % 2];
    atomic_store(&fuse->failed, 0);
    atomic_store(&fuse->fails_once, choice / 2 % 2);
    if (choice / 4 % 2) {
        atomic_store(&fuse->write_skips, (uint32_t)(choice / 8 % 40));
        atomic_store(&fuse->write_error, error);
    } else {
        atomic_store(&fuse->flush_skips, (uint32_t)(choice / 8 % 20));
        atomic_store(&fuse->flush_error, error);
    }
}

/* An error that hits the log ends the broker: exit 1, and the last error names file and LSN. */
static void check_exit(struct run *run, int status, long from)
{
    static const char *const failed[3] = {"shard.failed", "file=", "lsn="};
    static const char *const any[3] = {" ERROR ", "", ""};
    char line[1024] = "";
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 1)
        fail("after an error of its disk the broker ended with status 0x%x, not with exit 1",
             status);
    if (!log_find(&run->broker, from, failed, line, sizeof(line))) {
        (void)log_find(&run->broker, from, any, line, sizeof(line));
        fail("no line says which file and LSN failed; the last error: %s", line);
    }
    double first = (double)atomic_load(&run->place.fuse->first_failed_ns) / 1e9;
    if (now_s() - first > EXIT_AFTER_ERROR_S && !run->is_starved)
        fail("it ended %.1f s after the disk's first error", now_s() - first);
    atomic_fetch_add(&run->totals->exits_on_error, 1);
}

/* Errors of the file system's own blocks may leave the broker unharmed; then the power is cut, since nobody knows what the
 * file system has kept. */
static double step_disk_error(struct run *run, struct active *active)
{
    long from = log_length(&run->broker);
    int status = 0;
    bool has_ended = false;
    look(run);
    kill(run->broker.pid, SIGCONT); // it may be stopped
    arm(run->place.fuse, active->plan->choice);
    double deadline = now_s() + ERROR_WAIT_S;
    while (!has_ended && now_s() < deadline) {
        has_ended = waitpid(run->broker.pid, &status, WNOHANG) == run->broker.pid;
        usleep(2000);
    }
    if (has_ended) {
        run->broker.pid = 0;
        check_exit(run, status, from);
    } else {
        atomic_fetch_add(&run->totals->errors_absorbed, 1);
    }
    if (!place_power_off(&run->place, active->plan->choice))
        fail("the power can't be cut");
    broker_kill(&run->broker);
    if (!place_power_on(&run->place))
        fail("the file system is not there after errors of its disk");
    count(run, active);
    start_broker(run);
    return DONE;
}

static double step_disk_delay(struct run *run, struct active *active)
{
    struct fuse_control *fuse = run->place.fuse;
    if (active->step > 0) {
        atomic_store(&fuse->delay_until_ns, 0);
        return DONE;
    }
    bool hangs = active->plan->choice % 3 == 0;
    double until = now_s() + seconds_of(active->plan->for_ms);
    atomic_store(&fuse->delay_until_ns, (uint64_t)(until * 1e9));
    atomic_store(&fuse->delay_us,
                 hangs ? 30000000u : 500 + (uint32_t)(active->plan->choice / 3 % 20000));
    run->is_starved = true;
    count(run, active);
    return seconds_of(active->plan->for_ms);
}

/* ---- memory and CPU ---- */

/* The group was made before the broker was started; here its limit comes. */
static double step_memory(struct run *run, struct active *active)
{
    if (!run->has_cgroup) {
        atomic_fetch_add(&run->totals->skipped, 1);
        return DONE;
    }
    if (active->step > 0)
        return DONE; // the limit stays until the end of the episode
    if (!cgroup_memory_limit(&run->cgroup, run->watch.bound_bytes / 10 * 11))
        fail("the memory can't be limited");
    count(run, active);
    return seconds_of(active->plan->for_ms);
}

static double step_cpu(struct run *run, struct active *active)
{
    if (!run->has_cgroup) {
        atomic_fetch_add(&run->totals->skipped, 1);
        return DONE;
    }
    if (!cgroup_cpu_limit(&run->cgroup, active->step == 0 ? 10 : 0))
        fail("the CPU can't be limited");
    if (active->step > 0)
        return DONE;
    run->is_starved = true;
    count(run, active);
    return seconds_of(active->plan->for_ms);
}

/* ---- clients that do harm ---- */

static void begin_attack(struct run *run, struct active *active)
{
    struct attack *attack = world_share(sizeof(*attack));
    snprintf(attack->server, sizeof(attack->server), "%s", run->broker.address);
    snprintf(attack->topic, sizeof(attack->topic), "%s", run->load->topics[0]);
    attack->partitions = PARTITIONS_PER_TOPIC;
    attack->count = active->plan->count;
    attack->seed = active->plan->choice;
    active->attack = attack;
    if (active->plan->kind == SOAK_STORM)
        active->pid = attack_storm(attack);
    else if (active->plan->kind == SOAK_SLOWLORIS)
        active->pid = attack_slowly(attack);
    else
        active->pid = attack_without_reading(attack);
    if (!active->pid)
        fail("an attack does not begin");
}

static void end_attack(struct active *active)
{
    kill(active->pid, SIGKILL);
    waitpid(active->pid, NULL, 0);
    munmap(active->attack, sizeof(*active->attack));
    active->attack = NULL;
}

void end_attacks(struct run *run)
{
    for (int i = 0; i < PLAN_FAULTS_MAX; i++) {
        if (run->active[i].attack)
            end_attack(&run->active[i]);
    }
}

static double step_attack(struct run *run, struct active *active)
{
    if (active->step == 0) {
        begin_attack(run, active);
        count(run, active);
        return seconds_of(active->plan->for_ms);
    }
    const struct attack *attack = active->attack;
    uint32_t overdue = atomic_load(&attack->overdue), connected = atomic_load(&attack->connected);
    atomic_fetch_add(&run->totals->connections, connected);
    end_attack(active);
    bool alone = run->plan.fault_count == 1;
    if (alone && connected == 0)
        fail("%s: nobody could connect", fault_name(active->plan->kind));
    if (alone && overdue > 0)
        fail("%u connections outlive the broker's deadline for HELLO or for a frame", overdue);
    return DONE;
}

double fault_step(struct run *run, struct active *active)
{
    static double (*const steps[SOAK_FAULT_COUNT])(struct run * run, struct active * active) = {
        [SOAK_KILL] = step_kill,
        [SOAK_POWER_CUT] = step_power_cut,
        [SOAK_TERM] = step_term,
        [SOAK_STOP] = step_stop,
        [SOAK_CLIENT_KILL] = step_client_kill,
        [SOAK_DISK_FULL] = step_disk_full,
        [SOAK_STORM] = step_attack,
        [SOAK_SLOWLORIS] = step_attack,
        [SOAK_NOT_READING] = step_attack,
        [SOAK_MEMORY] = step_memory,
        [SOAK_CPU] = step_cpu,
        [SOAK_DISK_ERROR] = step_disk_error,
        [SOAK_DISK_DELAY] = step_disk_delay,
    };
    return steps[active->plan->kind](run, active);
}
