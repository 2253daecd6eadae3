/* The table of claims. */
#include "bench/command/claim.h"

#include <stdio.h>
#include <string.h>

#include "bench/claim/claim.h"

static const struct claim *const claims[] = {
    &claim_flat_partitions, &claim_open_transaction, &claim_durability_price, &claim_cold_start,
    &claim_recovery,        &claim_idle_connections, &claim_memory_bound,     &claim_disk_full,
};

static const struct claim *find(const char *name)
{
    for (size_t i = 0; name && i < ARRAY_COUNT(claims); i++) {
        if (strcmp(claims[i]->name, name) == 0)
            return claims[i];
    }
    return NULL;
}

void claim_list(FILE *file)
{
    for (size_t i = 0; i < ARRAY_COUNT(claims); i++)
        fprintf(file, "  %-18s %s\n", claims[i]->name, claims[i]->summary);
}

int claim_main(struct bench_options *options)
{
    static struct report report;
    const struct claim *claim = find(options->claim);
    if (claim == NULL) {
        fprintf(stderr, "sluice-bench claim %s: there are\n",
                options->claim ? options->claim : "(no name)");
        claim_list(stderr);
        return 2;
    }
    report = (struct report){.options = options};
    if (claim->run(options, &report))
        return 1;
    return report_finish(&report);
}

void claim_check_timed(struct report *report, const struct run_result *result)
{
    for (uint32_t i = 0; i < result->window_count; i++) {
        if (result->windows[i].ack.count == 0)
            anomaly(report, "no ack was timed in a load of the claim: its latencies say nothing");
    }
}

void claim_set(struct report *report, bool holds, json_t *figures)
{
    report->claim = json_pack("{s:s, s:b}", "name", report->options->claim, "holds", holds);
    json_object_update(report->claim, figures);
    json_decref(figures);
}
