/* sluice-crash: crash points of recorded brokers, enumerated; what each image of the disk is recovered to, judged.
 *
 *   sluice-crash [--images N] [--seed S] [--jobs J]              traces of seeds S, S+1, ... until N images were checked
 *   sluice-crash --all [--traces T] [--seed S] [--jobs J]        all images of T traces
 *   sluice-crash --trace-seed S [--images N | --all]             one trace
 *   sluice-crash --trace-seed S --prefix P --image K [--log]     one image, once more, in this process
 *
 * Traces are checked in processes of their own, which write down what they check: so whoever ends one, the image is known.
 *
 * --fault SPEC arms injection points (base/fault.h); in a build with SLUICE_PLANTS also planted bugs (base/plant.def).
 *
 * Exit: 0 all images were recovered as they must be; 1 one was not (its command is printed); 2 usage. */
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
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
#define TWO_PHASE_WEIGHT 6u        // by which images in a two-phase commit come more often
#define IMAGES_OF_EVERY_KIND 1000u // so many have some in each state
#define IN_RECOVERY_EVERY 5u       // images of which a crash inside their recovery is another image
#define TWICE_EVERY 4u             // images that are started a second time
#define CPU_SECONDS_MAX                                                                            \
    100 // of an image, or a recording; one takes milliseconds, the other a second

struct totals {
    uint64_t traces, events, points, possible; // possible: images that these points have
    uint64_t complete, partial;                // points: all subsets made, some of them
    uint64_t large, early;                     // points: too many subsets; small ones before those
    uint64_t images, in_recovery, twice;
    uint64_t two_phase, three_shards; // images in a two-phase commit; over three shards
    uint64_t by_mix[TRACE_MIX_COUNT];
};
struct progress { // what is being checked, for whoever sees it fail
    uint64_t seed, image;
    uint32_t prefix;
    bool is_recorded, in_recovery;
};
struct share { // of a job, shared with its process
    struct totals totals;
    struct progress now;
};

static struct {
    const char *program, *fault;
    uint64_t images, traces, seed, image;
    uint32_t prefix, jobs;
    bool all, one_trace, one_image, log, quiet;
} options = {.images = 5000, .traces = TRACES_MIN, .seed = 1, .jobs = 1};

static struct progress own;
static struct progress *now = &own;
static struct share *shares; // by job

/* ---- one image ---- */

static uint64_t seed_of(uint64_t trace_seed, uint32_t prefix, uint64_t image)
{
    return (trace_seed << 40) ^ ((uint64_t)prefix << 20) ^ image;
}

/* A process that stands still is ended by its clock. */
static void begin_clock(void)
{
    struct itimerval time = {.it_value = {.tv_sec = CPU_SECONDS_MAX}};
    (void)setitimer(ITIMER_PROF, &time, NULL);
}

static void count_image(const struct trace *trace, const struct trace_known *known,
                        struct totals *totals)
{
    totals->images++;
    totals->two_phase += known->two_phase > 0;
    totals->three_shards += known->two_phase >= TRACE_SHARDS_MAX;
    totals->by_mix[trace->mix]++;
}

static void check_one(const struct trace *trace, struct replay *replay, struct point *point,
                      uint64_t image, struct totals *totals)
{
    struct trace_known known = point_known(trace, replay->at);
    uint64_t seed = seed_of(trace->seed, replay->at, image);
    struct random random;
    random_init(&random, seed);
    struct check_wish wish = {.seed = seed, .cores = 1};
    if (random_below(&random, 8) == 0)
        wish.cores = trace->shards;
    wish.twice = random_below(&random, TWICE_EVERY) == 0;
    wish.in_recovery = random_below(&random, IN_RECOVERY_EVERY) == 0;
    struct check_outcome outcome, again;
    now->prefix = replay->at;
    now->image = image;
    now->in_recovery = false;
    begin_clock();
    point_fates(point, image, seed);
    check_image(trace, &known, sim_disk_image(replay->disk, point->fates, point->thing_count, seed),
                &wish, NULL, &outcome);
    count_image(trace, &known, totals);
    totals->twice += wish.twice;
    if (!outcome.crashed)
        return;
    now->in_recovery = true;
    struct check_wish wish_again = {.seed = ~seed, .cores = 1};
    check_image(trace, &known, outcome.crashed, &wish_again, outcome.ends, &again);
    count_image(trace, &known, totals);
    totals->in_recovery++;
}

/* ---- one trace ---- */

/* When not all are wanted, those in a two-phase commit come more often. */
static uint32_t weight_at(const struct trace *trace, uint32_t event)
{
    return trace_known_at(trace, event)->two_phase ? TWO_PHASE_WEIGHT : 1;
}

/* What is chosen: `done` of the images so far is kept at `share` of `weight` of the weight so far. */
struct choice {
    uint64_t share, weight;
};

static struct choice choose(const struct trace *trace, const struct points *points, uint64_t wanted)
{
    uint64_t weight = 0, images = 0;
    for (uint32_t i = 0; i < points->count; i++) {
        weight += weight_at(trace, points->places[i].event) * points->places[i].images;
        images += points->places[i].images;
    }
    if (options.all)
        return (struct choice){weight, weight};
    uint64_t plain = wanted * IN_RECOVERY_EVERY / (IN_RECOVERY_EVERY + 1);
    return (struct choice){images <= plain ? weight : plain, weight};
}

static void count_point(const struct point_place *place, uint64_t made, struct totals *totals)
{
    totals->points++;
    totals->possible += place->images;
    totals->early += place->is_early;
    if (!place->is_small)
        totals->large++;
    else if (made == place->images)
        totals->complete++;
    else
        totals->partial++;
}

/* `wanted` of all images of the trace, evenly by weight; UINT64_MAX: all of them. */
static void check_points(const struct trace *trace, const struct points *points, uint64_t wanted,
                         struct totals *totals)
{
    struct choice choice = choose(trace, points, wanted);
    uint64_t at = 0, done = 0;
    struct replay replay;
    replay_begin(&replay, trace);
    for (uint32_t i = 0; i < points->count; i++) {
        const struct point_place *place = &points->places[i];
        struct point point;
        uint64_t made = 0;
        replay_to(&replay, place->event);
        point_of(&point, replay.disk);
        for (uint64_t image = 0; image < place->images && totals->images < wanted; image++) {
            bool is_wanted = done * choice.weight <= at * choice.share;
            at += weight_at(trace, place->event);
            if (!is_wanted)
                continue; // not this one
            done++;
            made++;
            check_one(trace, &replay, &point, image, totals);
            point_of(&point, replay.disk); // a crash inside recovery used its tables
        }
        count_point(place, made, totals);
    }
    replay_end(&replay);
}

static void run_trace(uint64_t seed, uint64_t wanted, struct totals *totals)
{
    struct trace trace;
    struct points points;
    now->seed = seed;
    begin_clock();
    trace_record(&trace, seed);
    contents_begin(&trace);
    now->is_recorded = true;
    totals->traces++;
    totals->events += trace.count;
    points_find(&points, &trace);
    check_points(&trace, &points, wanted, totals);
    points_free(&points);
}

static int run_one_image(void)
{
    struct trace trace;
    struct replay replay;
    struct point point;
    struct totals totals = {0};
    now->seed = options.seed;
    trace_record(&trace, options.seed);
    contents_begin(&trace);
    now->is_recorded = true;
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
    printf("%" PRIu64 " traces, %" PRIu64 " events of disks, %" PRIu64 " crash points (%" PRIu64
           " of them early), which have %" PRIu64 " images\n",
           t->traces, t->events, t->points, t->early, t->possible);
    printf("points: %" PRIu64 " complete, %" PRIu64 " with some of their subsets, %" PRIu64
           " sampled (more than %u things not durable)\n",
           t->complete, t->partial, t->large, POINTS_THINGS_ALL);
    printf("%" PRIu64 " images checked: %" PRIu64 " in a two-phase commit (%" PRIu64
           " of them over %u shards), %" PRIu64 " of a crash inside recovery, %" PRIu64
           " started twice;",
           t->images, t->two_phase, t->three_shards, TRACE_SHARDS_MAX, t->in_recovery, t->twice);
    for (int i = 0; i < TRACE_MIX_COUNT; i++)
        printf(" %s %" PRIu64 "%s", trace_mix_name((enum trace_mix)i), t->by_mix[i],
               i + 1 < TRACE_MIX_COUNT ? "," : "\n");
    printf("%.1f s, %.0f images/s\n", seconds, (double)t->images / seconds);
}

/* The command that shows it again. */
static void print_again(const struct progress *at)
{
    printf("again: %s --trace-seed %" PRIu64, options.program, at->seed);
    if (at->is_recorded)
        printf(" --prefix %u --image %" PRIu64 " --log", at->prefix, at->image);
    if (options.fault)
        printf(" --fault '%s'", options.fault);
    printf("%s\n", !at->is_recorded  ? "   (while it was recorded)"
                   : at->in_recovery ? "   (the crash inside its recovery)"
                                     : "");
}

static void on_failed(void)
{
    print_again(now);
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
    sum->complete += part->complete;
    sum->partial += part->partial;
    sum->large += part->large;
    sum->early += part->early;
    sum->images += part->images;
    sum->two_phase += part->two_phase;
    sum->three_shards += part->three_shards;
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
    shares[job] = (struct share){.now = {.seed = seed}};
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) {
        perror("sluice-crash");
        exit(1);
    }
    if (pid > 0)
        return pid;
    now = &shares[job].now;
    run_trace(seed, wanted, &shares[job].totals);
    fflush(stdout);
    _exit(0);
}

/* How many images of one trace. */
static uint64_t wanted_of_trace(void)
{
    if (options.all)
        return UINT64_MAX;
    if (options.one_trace)
        return options.images;
    return min_u64((options.images + TRACES_MIN - 1) / TRACES_MIN, IMAGES_OF_TRACE_MAX);
}

/* `running` traces give `wanted` images each, or a few more. */
static bool wants_trace(uint64_t begun, uint64_t done, uint32_t running, uint64_t wanted)
{
    if (options.one_trace)
        return begun == 0;
    return options.all ? begun < options.traces : done + running * wanted < options.images;
}

/* A process that was ended by a signal has not said what it did. */
static void say_ended(int status, const struct share *share)
{
    if (!WIFSIGNALED(status))
        return;
    printf("FAILED: %s (signal %d)\n",
           WTERMSIG(status) == SIGPROF ? "it stands still" : "the process was ended",
           WTERMSIG(status));
    print_again(&share->now);
}

static uint32_t job_of(const pid_t *pids, pid_t pid)
{
    uint32_t job = 0;
    while (pids[job] != pid)
        job++;
    return job;
}

/* Hashes decide which shards take part: that all do in some is easily lost. */
static bool lacks_three_shards(const struct totals *totals)
{
    return totals->traces >= TRACES_MIN && totals->images >= IMAGES_OF_EVERY_KIND &&
           totals->three_shards == 0;
}

static int run_many(void)
{
    pid_t pids[JOBS_MAX] = {0};
    uint64_t wanted = wanted_of_trace(), begun = 0;
    uint32_t running = 0, failed = 0;
    struct totals totals = {0};
    double began = seconds();
    shares = mmap(NULL, JOBS_MAX * sizeof(*shares), PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT(shares != MAP_FAILED);
    for (;;) {
        while (failed == 0 && running < options.jobs &&
               wants_trace(begun, totals.images, running, wanted)) {
            pids[job_of(pids, 0)] = begin(job_of(pids, 0), options.seed + begun, wanted);
            begun++;
            running++;
        }
        if (running == 0)
            break;
        int status;
        uint32_t job = job_of(pids, wait(&status));
        pids[job] = 0;
        running--;
        failed += status != 0;
        add(&totals, &shares[job].totals);
        say_ended(status, &shares[job]);
        if (!options.quiet)
            printf("%8.1f s: %" PRIu64 " traces, %" PRIu64 " images\n", seconds() - began,
                   totals.traces, totals.images);
    }
    print_totals(&totals, seconds() - began);
    if (failed == 0 && lacks_three_shards(&totals)) {
        printf("no image lies in a two-phase commit over %u shards\n", TRACE_SHARDS_MAX);
        failed++;
    }
    if (failed)
        printf("FAILED\n");
    return failed ? 1 : 0;
}

static bool parse(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--log") == 0)
            options.log = true;
        else if (strcmp(argv[i], "--quiet") == 0)
            options.quiet = true;
        else if (strcmp(argv[i], "--all") == 0)
            options.all = true;
        else if (!value)
            return false;
        else if (strcmp(argv[i], "--fault") == 0)
            options.fault = argv[++i];
        else if (strcmp(argv[i], "--images") == 0)
            options.images = strtoull(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--traces") == 0)
            options.traces = strtoull(argv[++i], NULL, 0);
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
           options.traces > 0 && (!options.one_image || options.one_trace);
}

int main(int argc, char **argv)
{
    options.program = argv[0];
    if (!parse(argc, argv)) {
        fprintf(stderr,
                "usage: sluice-crash [--images N] [--seed S] [--jobs 1..%d] [--quiet] [--fault F]\n"
                "       sluice-crash --all [--traces N] [--seed S] [--jobs 1..%d] [--quiet]\n"
                "       sluice-crash --trace-seed S [--images N | --all]\n"
                "       sluice-crash --trace-seed S --prefix P --image K [--log]\n",
                JOBS_MAX, JOBS_MAX);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    keep_memory();
    on_fail = on_failed;
    if (options.log)
        system_on_log(say);
    if (fault_init(options.fault) != 0)
        return 2;
    return options.one_image ? run_one_image() : run_many();
}
