/* sluice-crash: crash points of recorded brokers, enumerated; what each image of the disk is recovered to, judged.
 *
 *   sluice-crash [--images N] [--seed S] [--jobs J]              traces of seeds S, S+1, ... until N images were checked
 *   sluice-crash --trace-seed S [--images N]                     one trace, in this process
 *   sluice-crash --trace-seed S --prefix P --image K [--log]     one image, once more
 *
 * --fault SPEC arms injection points (base/fault.h); in a build with SLUICE_PLANTS also planted bugs (base/plant.def).
 *
 * Exit: 0 all images were recovered as they must be; 1 one was not (its command is printed); 2 usage. */
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "tests/sim/crash/check.h"
#include "tests/sim/crash/points.h"
#include "tests/sim/world/system.h"

#define JOBS_MAX 64
#define IMAGES_OF_TRACE_MAX 20000u // the next trace shows something new sooner
#define TRACES_MIN 8u              // when few images are asked for
#define IN_RECOVERY_EVERY 5u       // images of which a crash inside their recovery is another image
#define TWICE_EVERY 4u             // images that are started a second time

struct totals {
    uint64_t traces, events, points, possible; // possible: images that these points have
    uint64_t images, two_phase, in_recovery, twice, torn;
    uint64_t by_mix[TRACE_MIX_COUNT];
};

static struct {
    uint64_t images, seed, image;
    uint32_t prefix, jobs;
    bool one_trace, one_image, log, quiet;
    const char *fault;
} options = {.images = 5000, .seed = 1, .jobs = 1};

static struct { // what is being checked, for whoever sees it fail
    const char *program;
    uint64_t seed, image;
    uint32_t prefix;
    bool in_recovery;
} now;
static struct totals *shares; // by job, shared with the children

/* ---- one image ---- */

static uint64_t seed_of(uint64_t trace_seed, uint32_t prefix, uint64_t image)
{
    return (trace_seed << 40) ^ ((uint64_t)prefix << 20) ^ image;
}

static void check_one(const struct trace *trace, struct replay *replay, struct point *point,
                      uint64_t image, struct totals *totals)
{
    const struct trace_known *known = trace_known_at(trace, replay->at);
    uint64_t seed = seed_of(trace->seed, replay->at, image);
    struct random random;
    random_init(&random, seed);
    struct check_wish wish = {.seed = seed, .cores = 1};
    if (random_below(&random, 8) == 0)
        wish.cores = trace->shards;
    wish.twice = random_below(&random, TWICE_EVERY) == 0;
    wish.in_recovery = random_below(&random, IN_RECOVERY_EVERY) == 0;
    struct check_outcome outcome, again;
    now.prefix = replay->at;
    now.image = image;
    now.in_recovery = false;
    point_fates(point, image, seed);
    check_image(trace, known, sim_disk_image(replay->disk, point->fates, point->thing_count, seed),
                &wish, NULL, &outcome);
    totals->images++;
    totals->twice += wish.twice;
    totals->two_phase += known->two_phase;
    totals->by_mix[trace->mix]++;
    if (!outcome.crashed)
        return;
    now.in_recovery = true;
    struct check_wish wish_again = {.seed = ~seed, .cores = 1};
    check_image(trace, known, outcome.crashed, &wish_again, outcome.ends, &again);
    totals->images++;
    totals->in_recovery++;
    totals->two_phase += known->two_phase;
    totals->by_mix[trace->mix]++;
}

/* ---- one trace ---- */

/* When not all are wanted, those in a two-phase commit come three times as often. */
static uint32_t weight_at(const struct trace *trace, uint32_t event)
{
    return trace_known_at(trace, event)->two_phase ? 3 : 1;
}

static uint64_t count_images(const struct trace *trace, uint64_t *weight, struct totals *totals)
{
    struct replay replay;
    uint64_t count = 0;
    *weight = 0;
    replay_begin(&replay, trace);
    for (uint32_t event = 0; event <= trace->count; event++) {
        if (!point_is_one(trace, event))
            continue;
        struct point point;
        replay_to(&replay, event);
        point_of(&point, replay.disk);
        count += point_image_count(&point);
        *weight += weight_at(trace, event) * point_image_count(&point);
        totals->points++;
    }
    replay_end(&replay);
    return count;
}

/* Of all images of the trace `wanted`, evenly by weight. */
static void check_trace(const struct trace *trace, uint64_t wanted, struct totals *totals)
{
    uint64_t weight, at = 0, done = 0;
    uint64_t possible = count_images(trace, &weight, totals);
    uint64_t plain = wanted * IN_RECOVERY_EVERY / (IN_RECOVERY_EVERY + 1);
    struct replay replay;
    totals->traces++;
    totals->events += trace->count;
    totals->possible += possible;
    replay_begin(&replay, trace);
    for (uint32_t event = 0; event <= trace->count && totals->images < wanted; event++) {
        if (!point_is_one(trace, event))
            continue;
        struct point point;
        replay_to(&replay, event);
        point_of(&point, replay.disk);
        uint64_t count = point_image_count(&point);
        for (uint64_t image = 0; image < count && totals->images < wanted; image++) {
            bool is_wanted = possible <= plain || done * weight <= at * plain;
            at += weight_at(trace, event);
            if (!is_wanted)
                continue; // not this one
            done++;
            check_one(trace, &replay, &point, image, totals);
            point_of(&point, replay.disk); // a crash inside recovery used its tables
        }
    }
    replay_end(&replay);
}

static void run_trace(uint64_t seed, uint64_t wanted, struct totals *totals)
{
    struct trace trace;
    now.seed = seed;
    trace_record(&trace, seed);
    contents_begin(&trace);
    check_trace(&trace, wanted, totals);
}

static int run_one_image(void)
{
    struct trace trace;
    struct replay replay;
    struct point point;
    struct totals totals = {0};
    now.seed = options.seed;
    trace_record(&trace, options.seed);
    contents_begin(&trace);
    printf("trace %" PRIu64 ": %s, %u shards, %u events, %" PRIu64
           " of history, %u rolls, %u checkpoints, %u kills\n",
           trace.seed, trace_mix_name(trace.mix), trace.shards, trace.count,
           history_count(trace.world->history), trace.rolls, trace.checkpoints, trace.kills);
    if (options.prefix > trace.count) {
        fprintf(stderr, "sluice-crash: the trace has %u events\n", trace.count);
        return 2;
    }
    replay_begin(&replay, &trace);
    replay_to(&replay, options.prefix);
    point_of(&point, replay.disk);
    printf("before event %u: %u things not durable, %u of them count, %" PRIu64 " images\n",
           options.prefix, point.thing_count, point.choice_count, point_image_count(&point));
    if (options.image >= point_image_count(&point))
        return 2;
    check_one(&trace, &replay, &point, options.image, &totals);
    printf("recovered as it must be\n");
    return 0;
}

/* ---- many traces ---- */

static void print_totals(const struct totals *t, double seconds)
{
    printf("%" PRIu64 " traces, %" PRIu64 " events of disks, %" PRIu64
           " crash points, which have %" PRIu64 " images\n",
           t->traces, t->events, t->points, t->possible);
    printf("%" PRIu64 " images checked: %" PRIu64 " in a two-phase commit, %" PRIu64
           " of a crash inside recovery, %" PRIu64 " started twice;",
           t->images, t->two_phase, t->in_recovery, t->twice);
    for (int i = 0; i < TRACE_MIX_COUNT; i++)
        printf(" %s %" PRIu64 "%s", trace_mix_name((enum trace_mix)i), t->by_mix[i],
               i + 1 < TRACE_MIX_COUNT ? "," : "\n");
    printf("%.1f s, %.0f images/s\n", seconds, (double)t->images / seconds);
}

static void on_failed(void)
{
    printf("again: %s --trace-seed %" PRIu64 " --prefix %u --image %" PRIu64 " --log%s\n",
           now.program, now.seed, now.prefix, now.image,
           now.in_recovery ? "   (the crash inside its recovery)" : "");
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
    mallopt(M_MMAP_THRESHOLD, 32 << 20); // more is refused
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    mallopt(M_TOP_PAD, 64 << 20);
}

static void add(struct totals *sum, const struct totals *part)
{
    sum->traces += part->traces;
    sum->events += part->events;
    sum->points += part->points;
    sum->possible += part->possible;
    sum->images += part->images;
    sum->two_phase += part->two_phase;
    sum->in_recovery += part->in_recovery;
    sum->twice += part->twice;
    for (int i = 0; i < TRACE_MIX_COUNT; i++)
        sum->by_mix[i] += part->by_mix[i];
}

static double seconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static pid_t begin(uint32_t job, uint64_t seed, uint64_t wanted)
{
    shares[job] = (struct totals){0};
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) {
        perror("sluice-crash");
        exit(1);
    }
    if (pid > 0)
        return pid;
    run_trace(seed, wanted, &shares[job]);
    fflush(stdout);
    _exit(0);
}

static int run_many(void)
{
    pid_t pids[JOBS_MAX] = {0};
    uint64_t seeds[JOBS_MAX];
    uint64_t wanted = options.images / TRACES_MIN < IMAGES_OF_TRACE_MAX
                          ? (options.images + TRACES_MIN - 1) / TRACES_MIN
                          : IMAGES_OF_TRACE_MAX;
    uint64_t seed = options.seed, promised = 0;
    uint32_t running = 0, failed = 0;
    struct totals totals = {0};
    double began = seconds();
    shares = mmap(NULL, JOBS_MAX * sizeof(*shares), PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    while ((totals.images + promised < options.images && failed == 0) || running > 0) {
        for (uint32_t i = 0; i < options.jobs && failed == 0; i++) {
            if (pids[i] != 0 || totals.images + promised >= options.images)
                continue;
            seeds[i] = seed++;
            pids[i] = begin(i, seeds[i], wanted);
            promised += wanted;
            running++;
        }
        int status;
        pid_t pid = wait(&status);
        for (uint32_t i = 0; i < options.jobs; i++) {
            if (pids[i] != pid)
                continue;
            pids[i] = 0;
            running--;
            promised -= wanted;
            add(&totals, &shares[i]);
            failed += status != 0;
            if (WIFSIGNALED(status))
                printf("FAILED: signal %d; again: %s --trace-seed %" PRIu64 " --images %" PRIu64
                       "\n",
                       WTERMSIG(status), now.program, seeds[i], wanted);
            if (!options.quiet)
                printf("%8.1f s: %" PRIu64 " traces, %" PRIu64 " images\n", seconds() - began,
                       totals.traces, totals.images);
        }
    }
    print_totals(&totals, seconds() - began);
    if (failed)
        printf("FAILED\n");
    return failed ? 1 : 0;
}

static int run_one_trace(void)
{
    struct totals totals = {0};
    double began = seconds();
    run_trace(options.seed, options.images, &totals);
    print_totals(&totals, seconds() - began);
    return 0;
}

static bool parse(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--log") == 0)
            options.log = true;
        else if (strcmp(argv[i], "--quiet") == 0)
            options.quiet = true;
        else if (!value)
            return false;
        else if (strcmp(argv[i], "--fault") == 0)
            options.fault = argv[++i];
        else if (strcmp(argv[i], "--images") == 0)
            options.images = strtoull(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--seed") == 0)
            options.seed = strtoull(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--jobs") == 0)
            options.jobs = (uint32_t)strtoul(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--trace-seed") == 0)
            options.seed = strtoull(argv[++i], NULL, 0), options.one_trace = true;
        else if (strcmp(argv[i], "--prefix") == 0)
            options.prefix = (uint32_t)strtoul(argv[++i], NULL, 0), options.one_image = true;
        else if (strcmp(argv[i], "--image") == 0)
            options.image = strtoull(argv[++i], NULL, 0), options.one_image = true;
        else
            return false;
    }
    return options.jobs >= 1 && options.jobs <= JOBS_MAX && options.images > 0 &&
           (!options.one_image || options.one_trace);
}

int main(int argc, char **argv)
{
    now.program = argv[0];
    if (!parse(argc, argv)) {
        fprintf(stderr,
                "usage: sluice-crash [--images N] [--seed S] [--jobs 1..%d] [--quiet] [--fault F]\n"
                "       sluice-crash --trace-seed S [--images N]\n"
                "       sluice-crash --trace-seed S --prefix P --image K [--log]\n",
                JOBS_MAX);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    keep_memory();
    on_fail = on_failed;
    if (options.log)
        system_on_log(say);
    if (fault_init(options.fault) != 0)
        return 2;
    return options.one_image ? run_one_image() : options.one_trace ? run_one_trace() : run_many();
}
