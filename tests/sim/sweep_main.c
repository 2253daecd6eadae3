/* sluice-sweep: faults at every point of a scenario (sweep/scenario.h), one run for each.
 *
 *   sluice-sweep io|sockets|memory [--from N] [--to M] [--sample K] [--jobs J] [--fault F] [--stop] [--log] [--history FILE]
 *
 * --sample K: every K-th point, and the first of each kind. --stop: at the first that fails. --log: what the broker says goes to
 * standard error. --history: what the clients did and saw in the run of one point and fault. In a build with SLUICE_PLANTS the
 * environment's SLUICE_FAULT plants bugs (base/plant.def).
 * Exit: 0 no run failed; 1 at least one did (its command to run it again is printed); 2 usage. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "tests/sim/sweep/scenario.h"
#include "tests/sim/sweep/sweep.h"
#include "tests/sim/world/system.h"

static bool parse(int argc, char **argv, struct sweep_options *options)
{
    for (int i = 2; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--log") == 0) {
            options->is_loud = true;
            continue;
        }
        if (strcmp(argv[i], "--stop") == 0) {
            options->stops = true;
            continue;
        }
        if (value == NULL)
            return false;
        if (strcmp(argv[i], "--from") == 0)
            options->from = strtoull(value, NULL, 0);
        else if (strcmp(argv[i], "--to") == 0)
            options->to = strtoull(value, NULL, 0);
        else if (strcmp(argv[i], "--sample") == 0)
            options->sample = strtoull(value, NULL, 0);
        else if (strcmp(argv[i], "--jobs") == 0)
            options->jobs = (uint32_t)strtoul(value, NULL, 0);
        else if (strcmp(argv[i], "--fault") == 0)
            options->fault = value;
        else if (strcmp(argv[i], "--history") == 0)
            options->history = value;
        else
            return false;
        i++;
    }
    return options->jobs >= 1 && options->jobs <= 64;
}

static void print_log(void)
{
    printf("---- what the broker said last ----\n");
    system_print_log(stdout);
    fflush(stdout);
}

static uint64_t (*sweep_of(const char *what))(const struct sweep_options *)
{
    if (strcmp(what, "io") == 0)
        return sweep_io;
    if (strcmp(what, "sockets") == 0)
        return sweep_sockets;
    return strcmp(what, "memory") == 0 ? sweep_memory : NULL;
}

int main(int argc, char **argv)
{
    struct sweep_options options = {.from = 1, .to = UINT64_MAX, .jobs = 1, .program = argv[0]};
    const char *what = argc > 1 ? argv[1] : "";
    uint64_t (*sweep)(const struct sweep_options *) = sweep_of(what);
    if (!sweep || !parse(argc, argv, &options)) {
        fprintf(stderr,
                "usage: sluice-sweep io|sockets|memory [--from N] [--to M] [--sample K] [--jobs "
                "1..64] [--fault F] [--stop] [--log] [--history FILE]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    mallopt(M_MMAP_THRESHOLD,
            1 << 30); // what a run gives back the next one gets without the kernel
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    on_fail = print_log;
    if (fault_init(getenv("SLUICE_FAULT")) < 0)
        return 2;
    return sweep(&options) > 0;
}
