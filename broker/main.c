/* sluiced: reads its configuration, then is a broker until told to stop. */
#include <stdio.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/units.h"
#include "broker/broker.h"

static int check(const struct config *config);

int main(int argc, char *argv[])
{
    static struct config config;
    static struct config_error error;
    enum config_wish wish;
    if (config_load(&config, argc, argv, &wish, &error) != 0) {
        fprintf(stderr, "%s\n", error.text);
        return EXIT_USAGE;
    }
    switch (wish) {
    case CONFIG_HELP:
        config_write_help(stdout);
        return EXIT_DRAINED;
    case CONFIG_VERSION:
        puts("sluiced " SLUICE_VERSION);
        return EXIT_DRAINED;
    case CONFIG_CHECK:
        return check(&config);
    case CONFIG_RUN:
        break;
    }
    if (fault_init(getenv("SLUICE_FAULT")) != 0)
        return EXIT_USAGE;
    return broker_run(&config, argc, argv);
}

/* The memory that this configuration adds up to, a line for each consumer. */
static int check(const struct config *config)
{
    struct limits_memory memory;
    char size[UNITS_TEXT_MAX];
    limits_memory(config, &memory);
    for (uint32_t i = 0; i < memory.line_count; i++)
        printf("%10s  %s\n", units_format_size(memory.lines[i].bytes, size), memory.lines[i].what);
    printf("%10s  in all\n", units_format_size(memory.sum_bytes, size));
    return fflush(stdout) == 0 ? EXIT_DRAINED : EXIT_FAILED;
}
