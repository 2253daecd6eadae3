/* sluice-sweep: faults at every point of a scenario (sweep/scenario.h), one run for each.
 *
 *   sluice-sweep io|memory [--from N] [--to M] [--sample K] [--jobs J] [--fault F] [--log] [--history FILE]
 *
 * --sample K: every K-th point. --log: what the broker says goes to standard error. --history: what the clients did and saw
 * in the run of one point and fault.
 * Exit: 0 no run failed; 1 at least one did (its command to run it again is printed); 2 usage. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

int main(int argc, char **argv)
{
    struct sweep_options options = {.from = 1, .to = UINT64_MAX, .jobs = 1, .program = argv[0]};
    const char *what = argc > 1 ? argv[1] : "";
    bool io = strcmp(what, "io") == 0;
    if ((!io && strcmp(what, "memory") != 0) || !parse(argc, argv, &options)) {
        fprintf(stderr, "usage: sluice-sweep io|memory [--from N] [--to M] [--sample K] [--jobs "
                        "1..64] [--fault F] [--log] [--history FILE]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    mallopt(M_MMAP_THRESHOLD,
            1 << 30); // what a run gives back the next one gets without the kernel
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    on_fail = print_log;
    uint64_t failed = io ? sweep_io(&options) : sweep_memory(&options);
    return failed > 0;
}
