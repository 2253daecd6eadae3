/* sluice-bitrot: flips bits of a real log and holds what is said against what must be said. See README.md.
 *
 *   sluice-bitrot [--bits all|N] [--bit K] [--seed S] [--jobs J] [--files] [--verbose]
 *
 * --bits all: each of them; N: N of them, evenly spread, and besides those that are aimed at each field of each structure.
 * --bit K: one, as a failure names it. --files: whole files instead of bits; with --bits all each cut at 512 bytes. Exit: 0, or 1 with what went unnoticed. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <signal.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/log.h"
#include "tests/bitrot/bitrot.h"

#define JOBS_MAX 64
#define AIMED_MAX 8192
#define CHUNK 4096 // bits that one process takes at a time, of all

struct arguments {
    uint64_t seed, bits, bit;
    uint32_t jobs;
    bool all, one, files, verbose;
};

static void parse(struct arguments *arguments, int argc, char **argv);
static int run_bits(const struct arguments *arguments);
static int run_files(const struct arguments *arguments);

int main(int argc, char **argv)
{
    struct arguments arguments = {.seed = 1, .bits = 20000};
    setvbuf(stdout, NULL, _IOLBF, 0);
    log_set_level(LOG_LEVEL_ERROR + 1); // damage is the point
    /* Recovery takes and gives back its buffer each time; from the system it would come as fresh pages. */
    (void)mallopt(M_MMAP_THRESHOLD, 1 << 30);
    (void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
    parse(&arguments, argc, argv);
    if (fault_init(getenv("SLUICE_FAULT")) < 0) // of a build with planted bugs
        return 2;
    return arguments.files ? run_files(&arguments) : run_bits(&arguments);
}

static _Noreturn void usage(void)
{
    fprintf(stderr, "usage: sluice-bitrot [--bits all|N] [--bit K] [--seed S] [--jobs J] [--files] "
                    "[--verbose]\n");
    exit(2);
}

static void parse(struct arguments *arguments, int argc, char **argv)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    arguments->jobs = cpus > 0 ? (uint32_t)cpus : 1;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--files") == 0 || strcmp(argv[i], "--verbose") == 0) {
            arguments->files |= argv[i][2] == 'f';
            arguments->verbose |= argv[i][2] == 'v';
            continue;
        }
        if (!value)
            usage();
        i++;
        if (strcmp(argv[i - 1], "--bits") == 0) {
            arguments->all = strcmp(value, "all") == 0;
            arguments->bits = strtoull(value, NULL, 10);
        } else if (strcmp(argv[i - 1], "--bit") == 0) {
            arguments->one = true;
            arguments->bit = strtoull(value, NULL, 10);
        } else if (strcmp(argv[i - 1], "--seed") == 0) {
            arguments->seed = strtoull(value, NULL, 0);
        } else if (strcmp(argv[i - 1], "--jobs") == 0) {
            arguments->jobs = (uint32_t)strtoul(value, NULL, 10);
        } else {
            usage();
        }
    }
    if (arguments->jobs == 0 || arguments->jobs > JOBS_MAX)
        usage();
}

static double now_s(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* ---- bits ---- */

/* The same list in each process. */
static uint64_t chosen_bit(const struct arguments *arguments, uint64_t i, uint64_t count)
{
    struct random random;
    if (arguments->all)
        return i;
    uint64_t from = (uint64_t)((__uint128_t)i * count / arguments->bits);
    uint64_t to = (uint64_t)((__uint128_t)(i + 1) * count / arguments->bits);
    random_init(&random, arguments->seed * 1000003 + i);
    return from + random_below(&random, max_u64(1, to - from));
}

static void work(const struct arguments *arguments, uint32_t job, struct bitrot_totals *totals)
{
    static uint64_t aimed[AIMED_MAX];
    static struct bitrot rot;
    struct random random;
    bitrot_make(&rot, arguments->seed);
    struct bitrot_flips *flips = bitrot_flips_new(&rot, totals);
    uint64_t count = bitrot_bit_count(flips);
    uint64_t chosen = arguments->all ? count : arguments->bits;
    uint64_t chunk = arguments->all ? CHUNK : 1;
    random_init(&random, arguments->seed);
    uint32_t aimed_count = arguments->all ? 0 : bitrot_aimed(flips, &random, aimed, AIMED_MAX);
    if (job == 0 && !arguments->one)
        printf("log: %llu bytes acked, checkpoint at %llu, %u groups, %u batches; %llu bits\n",
               (unsigned long long)rot.durable_lsn, (unsigned long long)rot.checkpoint_lsn,
               rot.group_count, rot.batch_count, (unsigned long long)count);
    if (arguments->one) {
        bitrot_flip_bit(flips, arguments->bit);
        printf("noticed\n");
    }
    for (uint64_t i = 0; i < chosen && !arguments->one; i++)
        if (i / chunk % arguments->jobs == job)
            bitrot_flip_bit(flips, chosen_bit(arguments, i, count));
    for (uint32_t i = job; i < aimed_count && !arguments->one; i += arguments->jobs)
        bitrot_flip_bit(flips, aimed[i]);
    bitrot_flips_free(flips);
    bitrot_free(&rot);
}

static void totals_add(struct bitrot_totals *sum, const struct bitrot_totals *totals)
{
    const uint64_t *from = (const uint64_t *)totals;
    uint64_t *to = (uint64_t *)sum;
    for (size_t i = 0; i < sizeof(*sum) / sizeof(*to); i++)
        to[i] += from[i];
}

static uint64_t flips_of(const struct bitrot_totals *totals)
{
    uint64_t sum = 0;
    for (int i = 0; i < BITROT_PLACES; i++)
        sum += totals->flips[i];
    return sum;
}

static void tell(const struct bitrot_totals *totals, double seconds)
{
    for (int i = 0; i < BITROT_PLACES; i++)
        printf("%12llu flips: %s\n", (unsigned long long)totals->flips[i], bitrot_place_names[i]);
    printf("%12llu refused by a start, with file, offset and LSN\n"
           "%12llu found by a scan of the segment, with the group\n"
           "%12llu reads refused, with file, offset and LSN; %llu read right\n"
           "%12llu without effect: another copy, an older checkpoint, an index made anew\n"
           "%12llu never acked, dropped and counted\n"
           "%12llu whole starts, %llu whole inspections\n",
           (unsigned long long)totals->refused, (unsigned long long)totals->found,
           (unsigned long long)totals->reads_failed, (unsigned long long)totals->reads_same,
           (unsigned long long)totals->harmless, (unsigned long long)totals->dropped,
           (unsigned long long)totals->starts, (unsigned long long)totals->inspections);
    uint64_t flips = flips_of(totals);
    printf("%12llu flips, none unnoticed; %.0f s, %.0f a second\n", (unsigned long long)flips,
           seconds, (double)flips / seconds);
}

static int run_bits(const struct arguments *arguments)
{
    double started = now_s(), told = started;
    uint32_t jobs = arguments->one ? 1 : arguments->jobs, running = jobs;
    struct bitrot_totals *totals = mmap(NULL, JOBS_MAX * sizeof(*totals), PROT_READ | PROT_WRITE,
                                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct bitrot_totals sum = {0};
    bool failed = false;
    if (totals == MAP_FAILED)
        return 1;
    for (uint32_t job = 0; job < jobs; job++) {
        pid_t pid = fork();
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            work(arguments, job, &totals[job]);
            fflush(stdout);
            _exit(0);
        }
        failed |= pid < 0;
    }
    while (running > 0 && !failed) {
        int status;
        if (waitpid(-1, &status, WNOHANG) > 0) {
            failed |= !WIFEXITED(status) || WEXITSTATUS(status) != 0;
            running--;
            continue;
        }
        usleep(50000);
        if (now_s() - told < 60)
            continue;
        told = now_s();
        uint64_t flips = 0;
        for (uint32_t job = 0; job < jobs; job++)
            flips += flips_of(&totals[job]);
        printf("  %llu flips after %.0f s\n", (unsigned long long)flips, told - started);
    }
    for (uint32_t job = 0; job < jobs; job++)
        totals_add(&sum, &totals[job]);
    if (failed)
        printf("FAILED; the same again: sluice-bitrot --seed %llu --bit K\n",
               (unsigned long long)arguments->seed);
    else
        tell(&sum, now_s() - started);
    return failed ? 1 : 0;
}

/* ---- files ---- */

static int run_files(const struct arguments *arguments)
{
    static struct bitrot rot, archived, stranger;
    double started = now_s();
    bitrot_make(&rot, arguments->seed);
    bitrot_make(&stranger, arguments->seed + 1);
    bitrot_make_archived(&archived, arguments->seed);
    uint32_t faults = bitrot_files(&rot, &archived, &stranger, arguments->verbose);
    uint32_t cuts = bitrot_cuts(&rot, arguments->all ? 512 : 16384);
    bitrot_free(&rot);
    bitrot_free(&stranger);
    bitrot_free(&archived);
    printf("%u faults of whole files, %u cuts: each refused by name, or without effect; %.0f s\n",
           faults, cuts, now_s() - started);
    return 0;
}
