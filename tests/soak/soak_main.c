/* sluice-soak BIN_DIR DIR [--minutes M] [--seed S] [--episode K | --episodes N] [--only FAULT [--cycles N]] [--place P]
 *             [--io uring|epoll] [--expect ANOMALY] [--plan]
 *
 * A real broker under load from real clients, in episodes: each takes one to three faults from the seed, ends them, looks
 * whether everything gets on again, and has the history judged (README.md). This process only guards: each round of episodes is
 * a process of its own, and whatever becomes of it, its directory, cgroup and mounts are cleaned up behind it. */
#include "tests/soak/soak.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define FAILURES_MAX 3 // then there is enough to look at
#define CYCLES_OF_EPISODE 25
#define MINUTES 30 // when nothing else is said
#define SKIPPED 77
#define ROUND_PREFIX "soak-round-"

static volatile sig_atomic_t is_interrupted;

static void on_signal(int number)
{
    is_interrupted = 1;
}

/* ---- arguments ---- */

static _Noreturn void usage(void)
{
    fprintf(
        stderr,
        "usage: sluice-soak BIN_DIR DIR [--minutes M] [--seed S] [--episode K | --episodes N]\n"
        "         [--only FAULT [--cycles N]] [--place plain|ext4|xfs|fuse] [--io uring|epoll]\n"
        "         [--expect ANOMALY] [--plan]\n"
        "faults:");
    for (int i = 0; i < SOAK_FAULT_COUNT; i++)
        fprintf(stderr, " %s", fault_name((enum fault_kind)i));
    fprintf(stderr, "\n");
    exit(2);
}

static int anomaly_of(const char *name)
{
    for (int i = 0; i < ANOMALY_COUNT; i++) {
        if (strcmp(anomaly_name((enum anomaly)i), name) == 0)
            return i;
    }
    usage();
}

static bool resolve(const char *path, char *place, size_t size)
{
    char *real = realpath(path, NULL);
    bool fits = real && strlen(real) < size;
    if (fits)
        strcpy(place, real);
    free(real);
    return fits;
}

static void parse(struct soak_options *o, int argc, char **argv, bool *plan_only)
{
    static const struct option options[] = {{"minutes", 1, 0, 'm'},
                                            {"seed", 1, 0, 's'},
                                            {"episode", 1, 0, 'k'},
                                            {"episodes", 1, 0, 'n'},
                                            {"only", 1, 0, 'o'},
                                            {"cycles", 1, 0, 'c'},
                                            {"place", 1, 0, 'p'},
                                            {"io", 1, 0, 'i'},
                                            {"expect", 1, 0, 'e'},
                                            {"plan", 0, 0, 'l'},
                                            {0}};
    int option, place;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'm':
            o->minutes = atof(optarg);
            break;
        case 's':
            o->plan.seed = strtoull(optarg, NULL, 0);
            break;
        case 'k':
            o->episode = atoi(optarg);
            break;
        case 'n':
            o->episodes = (uint32_t)atoi(optarg);
            break;
        case 'c':
            o->cycles = (uint32_t)atoi(optarg);
            break;
        case 'i':
            o->plan.io = optarg;
            break;
        case 'e':
            o->expected = anomaly_of(optarg);
            break;
        case 'l':
            *plan_only = true;
            break;
        case 'o':
            o->plan.only = fault_by_name(optarg);
            if (o->plan.only < 0)
                usage();
            break;
        case 'p':
            place = place_by_name(optarg);
            if (place < 0)
                usage();
            o->plan.forced = (enum place_kind)place;
            break;
        default:
            usage();
        }
    }
    if (argc - optind != 2 || !resolve(argv[optind], o->bin, sizeof(o->bin)) ||
        !resolve(argv[optind + 1], o->base, sizeof(o->base)))
        usage();
    bool comes_in_numbers = o->plan.only == SOAK_KILL || o->plan.only == SOAK_POWER_CUT ||
                            o->plan.only == SOAK_CLIENT_KILL;
    if (o->cycles && !comes_in_numbers)
        usage();
}

/* What this machine lacks is said, and counted. */
static void look_around(struct soak_options *options, struct totals *totals)
{
    for (int i = 0; i < PLACE_COUNT; i++) {
        const char *missing = place_missing((enum place_kind)i);
        if (!missing) {
            options->plan.places |= 1u << i;
            continue;
        }
        printf("skip  place %s: %s\n", place_name((enum place_kind)i), missing);
        atomic_fetch_add(&totals->skipped, 1);
    }
    if (cgroup_missing()) {
        printf("skip  faults memory and cpu: %s\n", cgroup_missing());
        atomic_fetch_add(&totals->skipped, 1);
    }
}

/* ---- rounds ---- */

static void remove_folder(const char *dir)
{
    pid_t pid = fork();
    if (pid == 0) {
        execlp("rm", "rm", "-rf", "--one-file-system", dir, (char *)NULL);
        _exit(127);
    }
    waitpid(pid, NULL, 0);
}

/* Of a guard that was killed itself: its directory and cgroup. Whatever it had mounted is gone with its processes. */
static void sweep(const struct soak_options *o)
{
    struct dirent *entry;
    int pid;
    DIR *base = opendir(o->base);
    while (base && (entry = readdir(base))) {
        char dir[PATH_BYTES];
        if (sscanf(entry->d_name, ROUND_PREFIX "%d.", &pid) != 1 || kill(pid, 0) == 0)
            continue;
        snprintf(dir, sizeof(dir), "%.1900s/%.255s", o->base, entry->d_name);
        remove_folder(dir);
    }
    if (base)
        closedir(base);
    cgroups_sweep();
}

static void after_failure(const struct soak_options *o, struct totals *totals, const char *dir)
{
    char kept[PATH_BYTES];
    uint32_t episode = atomic_load(&totals->episode);
    atomic_fetch_add(&totals->failed, 1);
    snprintf(kept, sizeof(kept), "%s/soak-failed-%" PRIu64 "-%u", o->base, o->plan.seed, episode);
    remove_folder(kept);
    if (rename(dir, kept))
        snprintf(kept, sizeof(kept), "%s", dir);
    printf("FAIL  %u  seed %" PRIu64 "  store, log and history are kept in %s\n"
           "      again: ./dev soak --seed %" PRIu64 " --episode %u",
           episode, o->plan.seed, kept, o->plan.seed, episode);
    if (o->plan.only >= 0)
        printf(" --only %s", fault_name((enum fault_kind)o->plan.only));
    if (o->plan.only_count)
        printf(" --cycles %u", o->plan.only_count);
    if (o->plan.forced != PLACE_COUNT)
        printf(" --place %s", place_name(o->plan.forced));
    if (o->plan.io)
        printf(" --io %s", o->plan.io);
    printf("\n");
}

/* Waits for a round's process; true when it ended well. Interrupted, it is killed, and the kernel with it whatever it had
 * started and mounted. */
static bool wait_round(pid_t pid)
{
    int status = 1;
    while (waitpid(pid, &status, 0) != pid) {
        if (errno != EINTR)
            return false;
        if (is_interrupted)
            kill(pid, SIGKILL);
    }
    if (WIFSIGNALED(status) && !is_interrupted)
        printf("FAILED: the round ended with signal %d%s\n", WTERMSIG(status),
               WTERMSIG(status) == SIGALRM ? ": an episode was stuck" : "");
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Returns the number behind the last episode that was begun. */
static uint32_t guard_round(const struct soak_options *o, struct totals *totals, uint32_t first,
                            uint32_t last, double deadline_s)
{
    char dir[PATH_BYTES / 2];
    snprintf(dir, sizeof(dir), "%.1900s/" ROUND_PREFIX "%d.XXXXXX", o->base, (int)getpid());
    if (!mkdtemp(dir))
        fail("%s: %s", dir, strerror(errno));
    fflush(stdout);
    pid_t guard = getpid(), pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != guard)
            _exit(1);
        signal(SIGINT, SIG_IGN); // the guard decides
        int code = run_round(o, totals, dir, first, last, deadline_s);
        fflush(stdout);
        _exit(code);
    }
    bool good = pid > 0 && wait_round(pid);
    cgroups_sweep();
    if (!good && !is_interrupted && o->expected < 0)
        after_failure(o, totals, dir);
    else
        remove_folder(dir);
    return good ? last + 1 : atomic_load(&totals->episode) + 1;
}

static void run_all(const struct soak_options *o, struct totals *totals)
{
    double deadline = o->minutes > 0 ? now_s() + o->minutes * 60 : 1e18;
    uint32_t at = o->episode >= 0 ? (uint32_t)o->episode : 0;
    uint32_t end = o->episode >= 0 ? at + 1 : o->episodes ? o->episodes : UINT32_MAX;
    while (at < end && now_s() < deadline && !is_interrupted && !is_enough(o, totals) &&
           atomic_load(&totals->failed) < FAILURES_MAX && !atomic_load(&totals->has_seen)) {
        uint32_t last = at - at % ROUND_EPISODES + ROUND_EPISODES - 1;
        at = guard_round(o, totals, at, last < end ? last : end - 1, deadline);
    }
}

/* ---- the end ---- */

static uint64_t all_cuts(const struct totals *t)
{
    uint64_t sum = 0;
    for (int i = 0; i < PLACE_COUNT; i++)
        sum += atomic_load(&t->cuts[i]);
    return sum;
}

static void print_totals(const struct soak_options *o, const struct totals *t, double seconds)
{
    printf("%" PRIu64 " episodes passed, %" PRIu64 " failed, %" PRIu64 " skipped in %.0f s\n",
           t->passed, t->failed, t->skipped, seconds);
    printf("faults:");
    for (int i = 0; i < SOAK_FAULT_COUNT; i++) {
        if (t->faults[i])
            printf(" %s %" PRIu64, fault_name((enum fault_kind)i), t->faults[i]);
    }
    printf("\npower cuts: ext4 %" PRIu64 ", XFS %" PRIu64 ", FUSE %" PRIu64 " (%" PRIu64
           " blocks lost, %" PRIu64 " torn); errors of the disk: %" PRIu64
           " exits that name file and LSN, %" PRIu64 " absorbed\n",
           t->cuts[PLACE_EXT4], t->cuts[PLACE_XFS], t->cuts[PLACE_FUSE], t->lost_blocks,
           t->torn_blocks, t->exits_on_error, t->errors_absorbed);
    printf("%" PRIu64 " records checked (%" PRIu64 " in transactions), %" PRIu64
           " read again an episode later or from the beginning; %" PRIu64
           " transactions committed, %" PRIu64 " aborted; %" PRIu64 " commits of groups, %" PRIu64
           " records consumed and %" PRIu64 " moved by them; %" PRIu64
           " topics came and went; %" PRIu64 " archive files made\n",
           t->seen, t->txn_records, t->audited, t->committed, t->aborted, t->group_commits,
           t->processed, t->moved, t->churned, t->archives);
    uint64_t operations = t->acked + t->txn_records + t->processed + t->moved;
    if (operations)
        printf("shares: publishing %.0f %%, transactions %.0f %%, groups %.0f %%\n",
               100.0 * (double)t->acked / (double)operations,
               100.0 * (double)t->txn_records / (double)operations,
               100.0 * (double)(t->processed + t->moved) / (double)operations);
    printf("%" PRIu64 " restarts, the longest %.2f s; RSS at most %.1f %% of the bound, memory "
           "cgroup at most %.1f %%; %" PRIu64 " anomalies\n",
           t->restarts, (double)t->restart_ms / 1000, (double)t->of_bound_permille / 10,
           (double)t->memcg_permille / 10, t->anomalies);
    printf("{\"soak\":{\"seed\":%" PRIu64 ",\"seconds\":%.0f,\"episodes\":%" PRIu64
           ",\"failed\":%" PRIu64 ",\"skipped\":%" PRIu64 ",\"kills\":%" PRIu64
           ",\"power_cuts\":%" PRIu64 ",\"power_cuts_ext4\":%" PRIu64 ",\"power_cuts_xfs\":%" PRIu64
           ",\"power_cuts_fuse\":%" PRIu64 ",\"disk_errors\":%" PRIu64 ",\"records\":%" PRIu64
           ",\"commits\":%" PRIu64 ",\"group_commits\":%" PRIu64 ",\"anomalies\":%" PRIu64
           ",\"restarts\":%" PRIu64 ",\"restart_ms_max\":%" PRIu64 ",\"rss_bytes_max\":%" PRIu64
           ",\"rss_of_bound_permille\":%" PRIu64 "}}\n",
           o->plan.seed, seconds, t->passed, t->failed, t->skipped, t->faults[SOAK_KILL],
           all_cuts(t), t->cuts[PLACE_EXT4], t->cuts[PLACE_XFS], t->cuts[PLACE_FUSE],
           t->faults[SOAK_DISK_ERROR], t->seen, t->committed, t->group_commits, t->anomalies,
           t->restarts, t->restart_ms, t->rss_bytes, t->of_bound_permille);
}

static bool is_possible(const struct soak_options *o)
{
    struct plan first;
    plan_make(&first, &o->plan, 0);
    bool wants_cgroup = o->plan.only == SOAK_MEMORY || o->plan.only == SOAK_CPU;
    return o->plan.places & 1u << first.place && !(wants_cgroup && cgroup_missing()) &&
           (o->plan.only < 0 || fault_is_possible((enum fault_kind)o->plan.only, first.place));
}

static void print_plans(const struct soak_options *o)
{
    struct plan plan;
    char text[200];
    uint32_t first = o->episode >= 0 ? (uint32_t)o->episode : 0;
    uint32_t count = o->episode >= 0 ? 1 : o->episodes ? o->episodes : 12;
    for (uint32_t i = first; i < first + count; i++) {
        plan_make(&plan, &o->plan, i);
        plan_describe(&plan, text, sizeof(text));
        printf("%u  %s %s %u shards  %s\n", i, place_name(plan.place), plan.io, plan.shards, text);
    }
}

int main(int argc, char **argv)
{
    static struct soak_options o = {
        .episode = -1, .expected = -1, .plan.only = -1, .plan.forced = PLACE_COUNT};
    bool plan_only = false;
    setvbuf(stdout, NULL, _IOLBF, 0);
    o.plan.seed = random_seed_system() % 1000000;
    parse(&o, argc, argv, &plan_only);
    struct totals *totals = world_share(sizeof(*totals));
    look_around(&o, totals);
    if (o.cycles)
        o.plan.only_count = o.cycles < CYCLES_OF_EPISODE ? o.cycles : CYCLES_OF_EPISODE;
    if (!o.episodes && !o.cycles && o.episode < 0 && o.minutes <= 0)
        o.minutes = MINUTES;
    if (!is_possible(&o)) {
        printf("skipped: what this fault needs is missing here\n");
        return SKIPPED;
    }
    if (plan_only) {
        print_plans(&o);
        return 0;
    }
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sweep(&o);
    printf("seed %" PRIu64 "\n", o.plan.seed);
    double began = now_s();
    run_all(&o, totals);
    print_totals(&o, totals, now_s() - began);
    if (o.expected >= 0) {
        bool seen = atomic_load(&totals->has_seen);
        printf(seen ? "seen: %s\n" : "FAILED: not seen: %s\n",
               anomaly_name((enum anomaly)o.expected));
        return seen ? 0 : 1;
    }
    if (is_interrupted)
        return 130;
    return atomic_load(&totals->failed) ? 1 : 0;
}
