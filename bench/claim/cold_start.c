/* `sluice-bench claim cold-start`: from exec to the ready line, of a store that is made, and of one that was closed properly.
 *
 * --repeat times each, in turns. It holds when the median of empty starts is at most 50 ms. */
#include <stdio.h>

#include "bench/claim/claim.h"
#include "bench/claim/private_broker.h"
#include "bench/engine/windows.h"
#include "bench/report/median.h"

#define READY_MS_MAX 50

static int start(struct private_broker *broker, double *ready_ms)
{
    if (private_broker_start(broker))
        return -1;
    *ready_ms = 1000 * broker->process.ready_s;
    int code = broker_stop(&broker->process);
    if (code != 0)
        fprintf(stderr, "sluice-bench: the broker stopped with %d\n", code);
    return code == 0 ? 0 : -1;
}

static json_t *spread_json(double *values, uint32_t count)
{
    struct spread spread = median_of(values, count);
    return json_pack("{s:f, s:f, s:f}", "median", spread.median, "min", spread.min, "max",
                     spread.max);
}

static int run(struct bench_options *options, struct report *report)
{
    static const char *const settings[] = {NULL};
    double empty_ms[WINDOWS_MAX], closed_ms[WINDOWS_MAX];
    struct private_broker broker;
    int status = private_broker_init(&broker, options, settings);
    for (uint32_t i = 0; i < options->repeat_count && status == 0; i++) {
        private_broker_forget(&broker);
        status = start(&broker, &empty_ms[i]) || start(&broker, &closed_ms[i]) ? -1 : 0;
        if (status == 0)
            fprintf(report_progress(options), "start %-5u empty %.1f ms   closed before %.1f ms\n",
                    i + 1, empty_ms[i], closed_ms[i]);
    }
    if (status == 0)
        claim_set(report, median_of(empty_ms, options->repeat_count).median <= READY_MS_MAX,
                  json_pack("{s:o, s:o}", "empty_ms", spread_json(empty_ms, options->repeat_count),
                            "closed_ms", spread_json(closed_ms, options->repeat_count)));
    private_broker_deinit(&broker);
    return status;
}

const struct claim claim_cold_start = {"cold-start", "an empty store is ready within 50 ms", run};
