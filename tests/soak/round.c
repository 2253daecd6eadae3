/* A round: some episodes of one store, in a process with mounts of its own. */
#include "tests/soak/soak.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <unistd.h>

static struct run *current; // of this process
static pid_t owner;
static bool has_own_mount;

void raise_to(_Atomic uint64_t *most, uint64_t value)
{
    uint64_t was = atomic_load(most);
    while (was < value && !atomic_compare_exchange_weak(most, &was, value)) {
    }
}

bool is_enough(const struct soak_options *options, const struct totals *totals)
{
    return options->cycles && options->plan.only >= 0 &&
           atomic_load(&totals->faults[options->plan.only]) >= options->cycles;
}

/* A child that fails says so itself; this process notices, fails, too, and keeps what there is. */
static void keep_evidence(void)
{
    struct run *run = current;
    if (getpid() != owner || !run->load)
        return;
    on_fail = NULL;
    end_attacks(run);
    if (run->options->expected >= 0)
        look_for_expected(run);
    else
        save_history(run);
}

/* What this process mounts nobody else sees, and it is gone when the last process of the round is. Where / is no mount point, as
 * in a chroot, that holds below a mount of the round's own directory. */
static void own_mounts(const char *dir)
{
    if (unshare(CLONE_NEWNS))
        fail("no mount namespace of its own: %s", strerror(errno));
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0)
        return;
    if (mount(dir, dir, NULL, MS_BIND, NULL) || mount("none", dir, NULL, MS_PRIVATE, NULL))
        fail("%s can't be made a mount of its own: %s", dir, strerror(errno));
    has_own_mount = true;
}

static void configure(struct run *run)
{
    static char program[PATH_BYTES], shards[32], cores[16], budget[48], segment[32];
    /* Small segments and a small budget: rolls, recycling, checkpoints and unweaving happen between the faults. */
    static const char *const extra[] = {"--set",   segment, "--set", "batch_bytes_max=1MiB",
                                        "--set",   budget,  "--set", shards,
                                        "--cores", cores,   NULL};
    struct plan plan;
    plan_make(&plan, &run->options->plan, atomic_load(&run->totals->episode));
    snprintf(program, sizeof(program), "%s/sluiced", run->options->bin);
    snprintf(shards, sizeof(shards), "shards=%u", plan.shards);
    snprintf(cores, sizeof(cores), "%u", plan.shards + 1);
    snprintf(budget, sizeof(budget), "wal_bytes_budget=%uMiB",
             SEGMENTS_OF_SHARD * SEGMENT_MIB * plan.shards);
    snprintf(segment, sizeof(segment), "segment_bytes=%uMiB", SEGMENT_MIB);
    run->plan = plan;
    run->broker = (struct broker_process){.program = program, .extra = extra};
    snprintf(run->broker.log_path, sizeof(run->broker.log_path), "%s/broker.log", run->dir);
}

static void open_cgroup(struct run *run)
{
    if (cgroup_missing())
        return;
    run->has_cgroup = cgroup_open(&run->cgroup);
}

int run_round(const struct soak_options *options, struct totals *totals, const char *dir,
              uint32_t first, uint32_t last, double deadline_s)
{
    static struct run run;
    current = &run;
    owner = getpid();
    run.options = options;
    run.totals = totals;
    snprintf(run.dir, sizeof(run.dir), "%s", dir);
    atomic_store(&totals->episode, first);
    on_fail = keep_evidence;
    configure(&run);
    if (run.plan.place != PLACE_PLAIN)
        own_mounts(dir);
    open_cgroup(&run);
    if (!place_open(&run.place, run.plan.place, dir))
        fail("no place for the store");
    run.broker.data_dir = run.place.data;
    for (int i = 0; i < 2; i++)
        run.kept[i] = world_share(sizeof(*run.kept[i]));
    for (uint32_t i = first; i <= last && now_s() < deadline_s && !is_enough(options, totals); i++)
        run_episode(&run, i);
    atomic_fetch_add(&totals->archives, log_count(&run.broker, "archive.run_made"));
    if (run.place.fuse) {
        atomic_fetch_add(&totals->lost_blocks, atomic_load(&run.place.fuse->lost_blocks));
        atomic_fetch_add(&totals->torn_blocks, atomic_load(&run.place.fuse->torn_blocks));
    }
    place_close(&run.place);
    if (has_own_mount)
        (void)umount2(dir, MNT_DETACH);
    if (run.has_cgroup)
        cgroup_close(&run.cgroup);
    return 0;
}
