/* sluice-micro [--json] [--dir DIR] [--seconds S] [CASE...]
 *
 * Runs each case whose name, or whose group's name, begins with one of CASE (default: all). First it finds how many operations take a
 * hundredth of the time, then it measures so often: median, least and greatest of ns for each operation. Where the kernel lets an
 * unprivileged process count (perf_event_open(2), kernel.perf_event_paranoid), instructions, branch misses and cache misses of user space are told as
 * well; otherwise they are "-", or null.
 *
 * Exit: 0 measured, 1 a case could not run, 2 usage. */
#include <errno.h>
#include <jansson.h>
#include <linux/perf_event.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "bench/micro/micro.h"
#include "bench/report/median.h"

#define REPEATS 25u
#define COUNTERS 3

static const struct micro_group *const groups[] = {&micro_rings,  &micro_batches,  &micro_frames,
                                                   &micro_hashes, &micro_measures, &micro_wal};

static const struct {
    const char *name; // also a key of the JSON, with "_each"
    uint64_t event;
} counters[COUNTERS] = {
    {"instructions", PERF_COUNT_HW_INSTRUCTIONS},
    {"branch_misses", PERF_COUNT_HW_BRANCH_MISSES},
    {"cache_misses", PERF_COUNT_HW_CACHE_MISSES},
};

struct measured {
    struct spread ns; // each
    bool is_counted[COUNTERS];
    double each[COUNTERS];
};

struct options {
    bool as_json;
    double seconds; // of each case
    char **names;
    int name_count;
};

const char *micro_directory = ".";

static int parse(struct options *options, int argc, char **argv);
static bool is_wanted(const struct options *options, const char *group, const char *name);
static int measure(const struct micro_case *row, const struct options *options,
                   struct measured *measured);
static void print(const struct options *options, const char *group, const struct micro_case *row,
                  const struct measured *measured);

int main(int argc, char **argv)
{
    struct options options = {.seconds = 0.5};
    int status = parse(&options, argc, argv), found = 0;
    if (status)
        return status;
    if (!options.as_json)
        printf("%-36s %10s %10s %10s %7s %8s %8s\n", "", "ns median", "least", "greatest", "instr",
               "br.miss", "ca.miss");
    for (size_t g = 0; g < ARRAY_COUNT(groups); g++) {
        for (uint32_t c = 0; c < groups[g]->case_count; c++) {
            const struct micro_case *row = &groups[g]->cases[c];
            struct measured measured;
            if (!is_wanted(&options, groups[g]->name, row->name))
                continue;
            found++;
            if (measure(row, &options, &measured))
                status = 1;
            else
                print(&options, groups[g]->name, row, &measured);
        }
    }
    if (found == 0) {
        fprintf(stderr, "sluice-micro: no case of that name\n");
        return 2;
    }
    return status;
}

static int usage(void)
{
    fprintf(stderr, "usage: sluice-micro [--json] [--dir DIR] [--seconds S] [CASE...]\ncases:\n");
    for (size_t g = 0; g < ARRAY_COUNT(groups); g++) {
        for (uint32_t c = 0; c < groups[g]->case_count; c++)
            fprintf(stderr, "  %s/%s\n", groups[g]->name, groups[g]->cases[c].name);
    }
    return 2;
}

static int parse(struct options *options, int argc, char **argv)
{
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        char *end;
        if (strcmp(argv[i], "--json") == 0) {
            options->as_json = true;
        } else if (strcmp(argv[i], "--dir") == 0 && i + 1 < argc) {
            micro_directory = argv[++i];
        } else if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) {
            options->seconds = strtod(argv[++i], &end);
            if (argv[i][0] == '\0' || *end || !(options->seconds > 0) || options->seconds > 3600) {
                fprintf(stderr, "sluice-micro: --seconds %s: allowed more than 0 to 3600\n",
                        argv[i]);
                return 2;
            }
        } else {
            return usage();
        }
    }
    options->names = argv + i;
    options->name_count = argc - i;
    return 0;
}

static bool is_wanted(const struct options *options, const char *group, const char *name)
{
    char full[96];
    snprintf(full, sizeof(full), "%s/%s", group, name);
    for (int i = 0; i < options->name_count; i++) {
        if (strncmp(full, options->names[i], strlen(options->names[i])) == 0)
            return true;
    }
    return options->name_count == 0;
}

/* ---- counters of the processor ---- */

static int counter_open(uint64_t event)
{
    struct perf_event_attr attr = {.type = PERF_TYPE_HARDWARE,
                                   .size = sizeof(attr),
                                   .config = event,
                                   .disabled = 1,
                                   .exclude_kernel = 1,
                                   .exclude_hv = 1};
    return (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

static void count_all(const struct micro_case *row, uint64_t count, struct measured *measured)
{
    for (int i = 0; i < COUNTERS; i++) {
        uint64_t value, ns;
        int fd = counter_open(counters[i].event);
        if (fd < 0)
            continue; // a virtual machine without them, or kernel.perf_event_paranoid
        ioctl(fd, PERF_EVENT_IOC_ENABLE, 0);
        uint64_t done = row->run(count, &ns);
        ioctl(fd, PERF_EVENT_IOC_DISABLE, 0);
        measured->is_counted[i] = read(fd, &value, sizeof(value)) == sizeof(value);
        measured->each[i] = (double)value / (double)done;
        close(fd);
    }
}

/* ---- time ---- */

static double time_each(const struct micro_case *row, uint64_t count, uint64_t *took_ns)
{
    uint64_t counted_ns = 0, begin = clock_mono_ns(clock_system());
    uint64_t done = row->run(count, &counted_ns);
    *took_ns = clock_mono_ns(clock_system()) - begin;
    return (double)(counted_ns ? counted_ns : *took_ns) / (double)max_u64(done, 1);
}

static int measure(const struct micro_case *row, const struct options *options,
                   struct measured *measured)
{
    double each[REPEATS];
    uint64_t count = 1, took_ns = 0;
    double share_ns = options->seconds * (double)NS_PER_S / (REPEATS + 10);
    *measured = (struct measured){.is_counted = {false}};
    if (row->open && row->open())
        return -1;
    while (time_each(row, count, &took_ns), (double)took_ns < share_ns / 2 && count < 1ull << 40)
        count *= 2;
    for (uint32_t i = 0; i < REPEATS; i++)
        each[i] = time_each(row, count, &took_ns);
    measured->ns = median_of(each, REPEATS);
    count_all(row, count, measured);
    if (row->close)
        row->close();
    return 0;
}

/* ---- output ---- */

static void print(const struct options *options, const char *group, const struct micro_case *row,
                  const struct measured *measured)
{
    char name[96];
    if (options->as_json) {
        json_t *object = json_pack("{s:s, s:s, s:s, s:f, s:f, s:f}", "group", group, "case",
                                   row->name, "unit", row->unit, "ns_median", measured->ns.median,
                                   "ns_min", measured->ns.min, "ns_max", measured->ns.max);
        for (int i = 0; i < COUNTERS; i++) {
            snprintf(name, sizeof(name), "%s_each", counters[i].name);
            json_object_set_new(
                object, name, measured->is_counted[i] ? json_real(measured->each[i]) : json_null());
        }
        json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
        printf("\n");
        json_decref(object);
        return;
    }
    snprintf(name, sizeof(name), "%s/%s, %s", group, row->name, row->unit);
    printf("%-36s %10.2f %10.2f %10.2f", name, measured->ns.median, measured->ns.min,
           measured->ns.max);
    for (int i = 0; i < COUNTERS; i++) {
        if (measured->is_counted[i])
            printf(i == 0 ? " %7.0f" : " %8.3f", measured->each[i]);
        else
            printf(i == 0 ? " %7s" : " %8s", "-");
    }
    printf("\n");
    fflush(stdout);
}
