/* Sums of what loads cost, and the ratios of the schema. */
#include "bench/report/costs.h"

#include "bench/report/values.h"

static void add(const struct costs *costs, struct figure *sum, struct figure one)
{
    bool is_first = costs->load_count == 0;
    bool known = one.known && (is_first || sum->known);
    *sum = known ? figure_of((is_first ? 0 : sum->value) + one.value) : (struct figure){0};
}

void costs_add(struct costs *costs, const struct resources *before, const struct resources *after,
               double records, double bytes, double seconds)
{
    struct figure rss = figure_between(0, after->server.rss_bytes, 1);
    add(costs, &costs->client_cpu_s,
        figure_between(before->client_cpu_us, after->client_cpu_us, 1e-6));
    add(costs, &costs->broker_cpu_s,
        figure_between(before->server.cpu_us, after->server.cpu_us, 1e-6));
    add(costs, &costs->log_fdatasyncs,
        figure_between(before->server.fdatasyncs, after->server.fdatasyncs, 1));
    add(costs, &costs->log_bytes,
        figure_between(before->server.device_bytes, after->server.device_bytes, 1));
    add(costs, &costs->disk_flushes, figure_between(before->disk_flushes, after->disk_flushes, 1));
    add(costs, &costs->disk_bytes,
        figure_between(before->disk_write_bytes, after->disk_write_bytes, 1));
    if (rss.known && rss.value > costs->broker_rss_bytes.value)
        costs->broker_rss_bytes = rss;
    costs->records += records;
    costs->bytes += bytes;
    costs->seconds += seconds;
    costs->load_count++;
}

void costs_add_run(struct costs *costs, const struct run_result *run)
{
    double records = 0, bytes = 0, seconds = 0;
    if (run->window_count == 0)
        return;
    for (uint32_t i = 0; i < run->window_count; i++) {
        const struct run_window *window = &run->windows[i];
        records += (double)(window->acked > 0 ? window->acked : window->received);
        bytes += window->acked > 0 ? (double)window->acked * (double)run->record_bytes
                                   : (double)window->received_bytes;
        seconds += window->seconds;
    }
    costs_add(costs, &run->windows[0].before, &run->windows[run->window_count - 1].after, records,
              bytes, seconds);
}

/* The disk's own figure where it was measured, because a broker writes more than its log; else what the log counts. A disk without a cache
 * of its own is never asked to flush it. */
static struct figure of_device(struct figure device, struct figure log, const char **source)
{
    bool is_device = device.known && (device.value > 0 || !log.known);
    *source = is_device ? "device" : log.known ? "log" : NULL;
    return is_device ? device : log;
}

json_t *costs_json(const struct costs *costs)
{
    const char *written_source, *flushes_source;
    struct figure written = of_device(costs->disk_bytes, costs->log_bytes, &written_source);
    struct figure flushes = of_device(costs->disk_flushes, costs->log_fdatasyncs, &flushes_source);
    json_t *object = json_object();
    put(object, "fdatasyncs_per_s", figure_json(figure_divided(flushes, costs->seconds)));
    put(object, "bytes_per_fdatasync",
        figure_json(flushes.known ? figure_divided(figure_of(costs->bytes), flushes.value)
                                  : flushes));
    put(object, "fdatasyncs_source", json_string(flushes_source));
    put(object, "device_bytes_per_payload_byte",
        figure_json(figure_divided(written, costs->bytes)));
    put(object, "device_bytes_source", json_string(written_source));
    put(object, "broker_cpu_ns_per_record",
        figure_json(figure_divided(figure_scaled(costs->broker_cpu_s, 1e9), costs->records)));
    put(object, "client_cpu_ns_per_record",
        figure_json(figure_divided(figure_scaled(costs->client_cpu_s, 1e9), costs->records)));
    return object;
}

json_t *costs_row_json(const struct costs *costs)
{
    json_t *object = costs_json(costs);
    put(object, "broker_rss_bytes", figure_json(costs->broker_rss_bytes));
    return object;
}
