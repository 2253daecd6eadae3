/* `sluice-bench end-to-end`: producers and --consumers of all partitions in one process, so that both ends have one clock. */
#include "bench/command/end_to_end.h"

#include "bench/command/around.h"
#include "bench/engine/run.h"

static int measure(struct driver_session *session, struct report *report)
{
    static struct run_result result;
    struct run_plan plan = {.rate = session->options->rate,
                            .is_publishing = true,
                            .consumer_count = session->options->consumer_count};
    if (run_load(session, &plan, report, &result))
        return -1;
    report_take_run(report, &result);
    return 0;
}

int end_to_end_main(struct bench_options *options)
{
    return measure_around(options, measure);
}
