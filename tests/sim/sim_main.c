/* sluice-sim: simulations of the broker and its clients, one for each seed.
 *
 *   sluice-sim [--seeds N] [--from S] [--jobs J] [--twice] [--lying] [--quiet]     seeds S .. S+N-1
 *   sluice-sim --seed S [--twice] [--lying] [--log] [--history FILE]     one of them, in this process; what it was and did
 *
 * --lying: in each run the disk lies (simulation/lies.h), not only where the seed says so.
 * --fault SPEC arms injection points (base/fault.h); in a build with SLUICE_PLANTS also planted bugs (base/plant.def).
 *
 * Exit: 0 all passed; 1 at least one failed (its command to run it again is printed); 2 usage. */
#include <inttypes.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "tests/sim/simulation/simulation.h"
#include "tests/sim/world/system.h"

#define JOBS_MAX 64
#define OUTPUT_BYTES_MAX 65536
#define LYING_MIN 200  // runs with a disk that lies: among so many each of its lies bites
#define SEED_S_MAX 120 // of real time; then it hangs

struct totals {
    struct simulation_result sum;
    uint64_t seeds, failed;
};

/* A child runs some seeds one after the other: a new process's first touch of its memory costs as much as a short run. That
 * a run does not depend on those before it is what --twice shows. */
#define SEEDS_PER_CHILD 16

struct job {
    pid_t pid;
    uint64_t end_seed;
    FILE *output;
    time_t began;
};

struct report { // written by the child
    struct simulation_result sum;
    uint64_t seed; // that runs now
    uint64_t passed;
};

static struct {
    uint64_t seeds, from, seed;
    uint32_t jobs;
    bool one, twice, log, quiet, lying;
    const char *history, *fault;
} options = {.seeds = 100, .from = 1, .jobs = 1};
static struct report *reports; // by job, shared with the children
static struct job jobs[JOBS_MAX];
static struct totals totals;
static const char *program;

/* "STRUCK of CAME" where a trouble lies in wait for an operation that may never come. */
static void print_troubles(const struct simulation_result *r)
{
    for (int i = 0; i < TROUBLE_COUNT; i++) {
        const char *name = trouble_name((enum trouble)i);
        if (trouble_lies_in_wait((enum trouble)i))
            printf("  %s %u of %u", name, r->struck[i], r->troubles[i]);
        else
            printf("  %s %u", name, r->troubles[i]);
    }
    printf("\n  runs without any trouble %u, without a restart before their end %u; connections of "
           "the "
           "broker that its kernel gave up %" PRIu64 "\n",
           r->quiet, r->unbroken, r->given_up);
    if (r->must_detect) {
        printf("  runs with a disk that lies %u\n", r->must_detect);
        lies_print(r->lies, stdout);
    }
}

static void print_result(const struct simulation_result *r)
{
    printf("%.2f simulated hours, %" PRIu64 " switches, %" PRIu64
           " events, %u lives of the broker, "
           "%u of %u restarts of shards compared in their state; %" PRIu64 " acks, %" PRIu64
           " commits, %" PRIu64 " aborts, %" PRIu64 " prepares, %" PRIu64 " group commits, %" PRIu64
           " moves, %" PRIu64 " topics, %" PRIu64 " hoarded, %" PRIu64 " hoards trimmed\n",
           (double)r->simulated_ns / 3.6e12, r->switches, r->events, r->broker_lives,
           r->states_compared, r->restarts_of_shards, r->acks, r->commits, r->aborts, r->prepares,
           r->group_commits, r->moves, r->topics, r->hoarded, r->hoards_trimmed);
    print_troubles(r);
    simulation_print_deeds(&r->deeds, stdout);
}

static void add(struct simulation_result *sum, const struct simulation_result *r)
{
    sum->simulated_ns += r->simulated_ns;
    sum->switches += r->switches;
    sum->given_up += r->given_up;
    sum->events += r->events;
    sum->broker_lives += r->broker_lives;
    sum->states_compared += r->states_compared;
    sum->restarts_of_shards += r->restarts_of_shards;
    for (int i = 0; i < TROUBLE_COUNT; i++) {
        sum->troubles[i] += r->troubles[i];
        sum->struck[i] += r->struck[i];
    }
    sum->quiet += r->quiet;
    sum->unbroken += r->unbroken;
    sum->acks += r->acks;
    sum->commits += r->commits;
    sum->aborts += r->aborts;
    sum->prepares += r->prepares;
    sum->group_commits += r->group_commits;
    sum->moves += r->moves;
    sum->topics += r->topics;
    sum->hoarded += r->hoarded;
    sum->hoards_trimmed += r->hoards_trimmed;
    sum->must_detect += r->must_detect;
    lies_add(sum->lies, r->lies);
    uint64_t *deeds = (uint64_t *)&sum->deeds;
    const uint64_t *more = (const uint64_t *)&r->deeds;
    for (size_t i = 0; i < sizeof(sum->deeds) / sizeof(uint64_t); i++)
        deeds[i] += more[i];
    sum->trace += r->trace; // in whatever order they end
}

static void on_fail_print_log(void)
{
    if (options.history) {
        FILE *file = fopen(options.history, "w");
        if (file) {
            history_print(simulation_history(), file);
            fclose(file);
        }
    }
    printf("---- what the broker said last ----\n");
    system_print_log(stdout);
    fflush(stdout);
}

static void say(const char *line)
{
    fprintf(stderr, "%12.6f %s", (double)world_now_ns() / 1e9, line);
}

/* Memory that a life gives back is used by the next one without asking the kernel for it again. */
static void keep_memory(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, 32 << 20); // the most that is allowed
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    mallopt(M_TOP_PAD, 64 << 20);
}

static void run_seed(uint64_t seed, struct simulation_result *result)
{
    struct simulation_plan plan;
    fault_disarm_all();
    if (fault_init(options.fault) != 0)
        exit(2);
    simulation_plan(&plan, seed, options.lying);
    simulation_run(&plan, result);
}

static int run_one(void)
{
    struct simulation_plan plan;
    struct simulation_result result;
    uint64_t trace = 0;
    simulation_plan(&plan, options.seed, options.lying);
    simulation_print_plan(&plan, stdout);
    if (options.log)
        system_on_log(say);
    for (int i = 0; i < (options.twice ? 2 : 1); i++) {
        run_seed(options.seed, &result);
        if (i > 0 && result.trace != trace) {
            printf("FAILED: the same seed ran in two ways: %016" PRIx64 ", %016" PRIx64 "\n", trace,
                   result.trace);
            return 1;
        }
        trace = result.trace;
    }
    print_result(&result);
    printf("seed %" PRIu64 " passed, trace %016" PRIx64 "\n", options.seed, trace);
    return 0;
}

/* ---- many ---- */

/* True: the same in both ways. */
static bool run_checked(uint64_t seed, struct simulation_result *result)
{
    run_seed(seed, result);
    uint64_t trace = result->trace;
    if (options.twice)
        run_seed(seed, result);
    if (result->trace != trace)
        printf("FAILED: the same seed ran in two ways\n");
    return result->trace == trace;
}

static _Noreturn void run_child(const struct job *job, struct report *report)
{
    dup2(fileno(job->output), STDOUT_FILENO);
    dup2(fileno(job->output), STDERR_FILENO);
    for (; report->seed < job->end_seed; report->seed++) {
        struct simulation_result result;
        rewind(stdout); // what the last one said is of no interest
        if (ftruncate(fileno(job->output), 0) != 0 || !run_checked(report->seed, &result))
            _exit(1);
        add(&report->sum, &result);
        report->passed++;
    }
    _exit(0);
}

static void begin(uint32_t i, uint64_t seed, uint64_t end_seed)
{
    struct job *job = &jobs[i];
    job->end_seed = end_seed;
    job->output = tmpfile();
    job->began = time(NULL);
    reports[i] = (struct report){.seed = seed};
    fflush(stdout);
    job->pid = job->output ? fork() : -1;
    if (job->pid < 0) {
        perror("sluice-sim");
        exit(1);
    }
    if (job->pid == 0)
        run_child(job, &reports[i]);
}

static void show_output(FILE *output)
{
    char line[1024];
    rewind(output);
    while (fgets(line, sizeof(line), output))
        printf("    %s", line);
}

/* With every option that makes it another run. */
static void print_again(uint64_t seed, int status)
{
    printf("FAILED: seed %" PRIu64 " (%s %d); again: %s --seed %" PRIu64 " --log%s%s", seed,
           WIFSIGNALED(status) ? "signal" : "exit",
           WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), program, seed,
           options.twice ? " --twice" : "", options.lying ? " --lying" : "");
    if (options.fault)
        printf(" --fault '%s'", options.fault);
    printf("\n");
}

/* True: seeds of this job are left, and it goes on with them. */
static bool end(uint32_t i, int status)
{
    struct job *job = &jobs[i];
    uint64_t seed = reports[i].seed;
    totals.seeds += reports[i].passed;
    add(&totals.sum, &reports[i].sum);
    job->pid = 0;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        totals.seeds++;
        totals.failed++;
        print_again(seed, status);
        show_output(job->output);
        seed++;
    }
    fclose(job->output);
    if (seed >= job->end_seed)
        return false;
    begin(i, seed, job->end_seed);
    return true;
}

static void kill_hanging(void)
{
    for (uint32_t i = 0; i < options.jobs; i++)
        if (jobs[i].pid > 0 &&
            time(NULL) - jobs[i].began > (time_t)(SEED_S_MAX * (1 + reports[i].passed)))
            kill(jobs[i].pid, SIGKILL);
}

static int run_many(void)
{
    uint64_t next = options.from, end_seed = options.from + options.seeds;
    uint32_t running = 0;
    time_t began = time(NULL), told = began;
    reports = mmap(NULL, JOBS_MAX * sizeof(*reports), PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    while (next < end_seed || running > 0) {
        for (uint32_t i = 0; i < options.jobs && next < end_seed; i++) {
            if (jobs[i].pid != 0)
                continue;
            uint64_t end_of_child = min_u64(next + SEEDS_PER_CHILD, end_seed);
            begin(i, next, end_of_child);
            next = end_of_child;
            running++;
        }
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        for (uint32_t i = 0; i < options.jobs && pid > 0; i++) {
            if (jobs[i].pid != pid)
                continue;
            running -= !end(i, status);
        }
        if (pid <= 0)
            usleep(5000);
        kill_hanging();
        if (!options.quiet && time(NULL) - told >= 60) {
            told = time(NULL);
            printf("%" PRIu64 " seeds, %" PRIu64 " failed, %" PRId64 " s\n", totals.seeds,
                   totals.failed, (int64_t)(told - began));
            fflush(stdout);
        }
    }
    print_result(&totals.sum);
    printf("%" PRIu64 " seeds from %" PRIu64 ", %" PRIu64 " failed, in %" PRId64
           " s; traces %016" PRIx64 "\n",
           totals.seeds, options.from, totals.failed, (int64_t)(time(NULL) - began),
           totals.sum.trace);
    const char *fault = totals.sum.must_detect >= LYING_MIN ? lies_fault(totals.sum.lies) : NULL;
    if (fault)
        printf("FAILED: of %u runs with a disk that lies: %s\n", totals.sum.must_detect, fault);
    return totals.failed || fault ? 1 : 0;
}

static bool parse(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--twice") == 0)
            options.twice = true;
        else if (strcmp(argv[i], "--log") == 0)
            options.log = true;
        else if (strcmp(argv[i], "--quiet") == 0)
            options.quiet = true;
        else if (strcmp(argv[i], "--lying") == 0)
            options.lying = true;
        else if (!value)
            return false;
        else if (strcmp(argv[i], "--seeds") == 0)
            options.seeds = strtoull(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--from") == 0)
            options.from = strtoull(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--fault") == 0)
            options.fault = argv[++i];
        else if (strcmp(argv[i], "--history") == 0)
            options.history = argv[++i];
        else if (strcmp(argv[i], "--jobs") == 0)
            options.jobs = (uint32_t)strtoul(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--seed") == 0)
            options.seed = strtoull(argv[++i], NULL, 0), options.one = true;
        else
            return false;
    }
    return options.jobs >= 1 && options.jobs <= JOBS_MAX;
}

int main(int argc, char **argv)
{
    program = argv[0];
    if (!parse(argc, argv)) {
        fprintf(
            stderr,
            "usage: sluice-sim [--seeds N] [--from S] [--jobs 1..%d] [--twice] [--lying] [--quiet] "
            "[--fault SPEC]\n"
            "       sluice-sim --seed S [--twice] [--lying] [--log] [--fault SPEC] [--history "
            "FILE]\n",
            JOBS_MAX);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    keep_memory();
    on_fail = on_fail_print_log;
    return options.one ? run_one() : run_many();
}
