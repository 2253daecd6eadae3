/* `sluice-bench publish`: only acked records count, and what an ack means is in the report. */
#include "bench/command/publish.h"

#include "bench/command/around.h"
#include "bench/engine/run.h"

static int measure(struct driver_session *session, struct report *report)
{
    static struct run_result result;
    struct run_plan plan = {.rate = session->options->rate, .is_publishing = true};
    if (run_load(session, &plan, report, &result))
        return -1;
    report_take_run(report, &result);
    return 0;
}

int publish_main(struct bench_options *options)
{
    return measure_around(options, measure);
}
