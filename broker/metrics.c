/* Figures as text: Prometheus' format for /metrics, named numbers for STATUS.
 *
 * Every figure is a row of a table made from its .def file; sums over cores or shards are made by
 * whoever asks. Reading is relaxed: figures of one moment may differ by what happened during the
 * reading. */
#include "broker/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/process.h"
#include "broker/broker.h"
#include "broker/groups.h"
#include "broker/participants.h"
#include "broker/transactions.h"

struct figure {
    const char *name, *type, *help;
    size_t offset; // of the counter
};

static const struct figure core_figures[] = {
#define CORE_COUNTER(name, help) {#name, "counter", help, offsetof(struct core_counters, name)},
#include "broker/core_counters.def"
#undef CORE_COUNTER
};
static const struct figure shard_figures[] = {
#define SHARD_COUNTER(name, help) {#name, "counter", help, offsetof(struct shard_counters, name)},
#include "broker/shard_counters.def"
#undef SHARD_COUNTER
};
static const struct figure gauge_figures[] = {
#define SHARD_GAUGE(name, type, source, help)                                                      \
    {#name, #type, help, offsetof(struct shard_gauges, name)},
#include "broker/shard_gauges.def"
#undef SHARD_GAUGE
};

enum owner { OF_CORE, OF_SHARD, OF_GAUGES };

static uint64_t value_of(struct broker *broker, enum owner owner, uint16_t index,
                         const struct figure *figure);
static void write_figures(FILE *file, struct broker *broker, enum owner owner,
                          const struct figure *figures, size_t figure_count);
static void write_buffers(FILE *file, struct broker *broker);
static void write_process(FILE *file, struct broker *broker);
static void write_sums(struct writer *w, struct broker *broker, enum owner owner,
                       const struct figure *figures, size_t figure_count);

/* ---- publishing ---- */

void metrics_publish_shard(struct shard_gauges *gauges, struct shard *shard)
{
    const char *why;
    struct store_stats stats = store_stats(shard->store);
    (void)shard_can_produce(shard, &why);
#define SHARD_GAUGE(name, type, source, help) counter_set(&gauges->name, (uint64_t)(source));
#include "broker/shard_gauges.def"
#undef SHARD_GAUGE
    atomic_store_explicit(&gauges->reason, why, memory_order_release);
}

bool metrics_can_produce(struct broker *broker, const char **reason)
{
    *reason = atomic_load(&broker->is_draining) ? "draining" : "starting";
    if (!atomic_load(&broker->is_ready))
        return false;
    for (uint16_t i = 0; i < broker->shard_count; i++) {
        const char *why = atomic_load_explicit(&broker->gauges[i].reason, memory_order_acquire);
        *reason = why ? why : "starting";
        if (**reason != '\0')
            return false;
    }
    return true;
}

/* ---- reading ---- */

static uint16_t count_of(const struct broker *broker, enum owner owner)
{
    return owner == OF_CORE ? broker->core_count : broker->shard_count;
}

static uint64_t value_of(struct broker *broker, enum owner owner, uint16_t index,
                         const struct figure *figure)
{
    char *base = owner == OF_CORE    ? (char *)&broker->cores[index].counters
                 : owner == OF_SHARD ? (char *)&broker->shards[index].counters
                                     : (char *)&broker->gauges[index];
    return counter_get((counter *)(base + figure->offset));
}

/* ---- /metrics ---- */

char *metrics_text(struct broker *broker, size_t *length)
{
    char *text = NULL;
    FILE *file = open_memstream(&text, length);
    if (!file)
        return NULL;
    write_process(file, broker);
    write_figures(file, broker, OF_CORE, core_figures, ARRAY_COUNT(core_figures));
    write_buffers(file, broker);
    write_figures(file, broker, OF_SHARD, shard_figures, ARRAY_COUNT(shard_figures));
    write_figures(file, broker, OF_GAUGES, gauge_figures, ARRAY_COUNT(gauge_figures));
    bool failed = ferror(file);
    if (fclose(file) != 0 || failed)
        free(TAKE(text));
    return text;
}

static void write_head(FILE *file, const char *name, const char *type, const char *help)
{
    fprintf(file, "# HELP sluice_%s %s\n# TYPE sluice_%s %s\n", name, help, name, type);
}

static void write_one(FILE *file, const char *name, const char *type, const char *help,
                      uint64_t value)
{
    write_head(file, name, type, help);
    fprintf(file, "sluice_%s %" PRIu64 "\n", name, value);
}

static void write_figures(FILE *file, struct broker *broker, enum owner owner,
                          const struct figure *figures, size_t figure_count)
{
    for (size_t i = 0; i < figure_count; i++) {
        write_head(file, figures[i].name, figures[i].type, figures[i].help);
        for (uint16_t index = 0; index < count_of(broker, owner); index++)
            fprintf(file, "sluice_%s{%s=\"%u\"} %" PRIu64 "\n", figures[i].name,
                    owner == OF_CORE ? "core" : "shard", index,
                    value_of(broker, owner, index, &figures[i]));
    }
}

static void write_buffers(FILE *file, struct broker *broker)
{
    static const char *const names[BUFFER_CLASS_COUNT] = {"small", "medium", "large", "jumbo"};
    write_head(file, "buffers_free", "gauge", "free buffers of each class");
    for (uint16_t i = 0; i < broker->core_count; i++) {
        for (int class = 0; class < BUFFER_CLASS_COUNT; class ++)
            fprintf(file, "sluice_buffers_free{core=\"%u\",class=\"%s\"} %" PRIu64 "\n", i,
                    names[class], counter_get(&broker->cores[i].buffers_free[class]));
    }
    write_head(file, "requests_free", "gauge", "free requests");
    for (uint16_t i = 0; i < broker->core_count; i++)
        fprintf(file, "sluice_requests_free{core=\"%u\"} %" PRIu64 "\n", i,
                counter_get(&broker->cores[i].requests_free));
    write_head(file, "connections", "gauge", "open connections");
    for (uint16_t i = 0; i < broker->core_count; i++)
        fprintf(file, "sluice_connections{core=\"%u\"} %u\n", i,
                atomic_load(&broker->cores[i].conn_count));
}

static uint64_t uptime_ms(const struct broker *broker)
{
    return (clock_mono_ns(clock_system()) - broker->started_ns) / NS_PER_MS;
}

/* What the kernel gave to `io = auto`, too. */
static bool has_uring(const struct broker *broker)
{
    const struct io *io = broker->core_count > 0 ? broker->cores[0].io : NULL;
    return io != NULL && strcmp(io_name(io), "uring") == 0;
}

static void write_process(FILE *file, struct broker *broker)
{
    const struct config *config = broker->config;
    struct process_usage usage = process_usage();
    const char *reason;
    write_head(file, "build_info", "gauge", "1, with the version as label");
    fprintf(file, "sluice_build_info{version=\"" SLUICE_VERSION "\"} 1\n");
    write_one(file, "uptime_ms", "gauge", "time since the start", uptime_ms(broker));
    write_one(file, "ready", "gauge", "1 when the broker serves", atomic_load(&broker->is_ready));
    write_one(file, "produce_possible", "gauge", "1 when all shards accept publishes",
              metrics_can_produce(broker, &reason));
    write_one(file, "durability_relaxed", "gauge",
              "1 when acks do not mean durable: a power cut loses acked records",
              config->durability == DURABILITY_RELAXED);
    write_one(file, "unauthenticated_allowed", "gauge",
              "1 when addresses that others can reach are accepted without a login",
              config->allow_unauthenticated);
    write_one(file, "development", "gauge", "1 when O_DIRECT is not insisted on",
              config->development);
    write_one(file, "io_uring", "gauge", "1 when the kernel is asked by io_uring, 0 by epoll",
              has_uring(broker));
    write_one(file, "wal_bytes_budget", "gauge", "room for the logs of all shards",
              config->wal_bytes_budget);
    write_one(file, "connections_max", "gauge", "limit of connections", broker->connections_max);
    write_one(file, "memory_limit_bytes", "gauge", "the sum of all limits", broker->memory_bytes);
    write_one(file, "process_cpu_us_total", "counter", "processor time of all threads",
              usage.cpu_us);
    write_one(file, "process_rss_bytes", "gauge", "memory that is resident now", usage.rss_bytes);
    write_one(file, "process_rss_peak_bytes", "gauge", "the most memory that was ever resident",
              usage.rss_peak_bytes);
    write_one(file, "log_lines_dropped_total", "counter", "log lines that nobody took in time",
              log_dropped());
}

/* ---- STATUS ---- */

struct named_value {
    const char *name;
    uint64_t value;
};

static uint64_t connection_count(const struct broker *broker)
{
    uint64_t sum = 0;
    for (uint16_t i = 0; i < broker->core_count; i++)
        sum += atomic_load_explicit(&broker->cores[i].conn_count, memory_order_relaxed);
    return sum;
}

void metrics_write_status(struct broker *broker, struct writer *w)
{
    const char *reason;
    bool can_produce = metrics_can_produce(broker, &reason);
    bool ready = atomic_load(&broker->is_ready);
    struct process_usage usage = process_usage();
    const struct named_value values[] = {
        {"uptime_ms", uptime_ms(broker)},
        {"cores", broker->core_count},
        {"shards", broker->shard_count},
        {"connections", connection_count(broker)},
        {"connections_max", broker->connections_max},
        {"memory_limit_bytes", broker->memory_bytes},
        {"process_cpu_us_total", usage.cpu_us},
        {"process_rss_bytes", usage.rss_bytes},
        {"process_rss_peak_bytes", usage.rss_peak_bytes},
        {"durability_relaxed", broker->config->durability == DURABILITY_RELAXED},
        {"io_uring", has_uring(broker)},
        {"wal_bytes_budget", broker->config->wal_bytes_budget},
    };
    size_t count = ARRAY_COUNT(values) + ARRAY_COUNT(core_figures) + ARRAY_COUNT(shard_figures) +
                   ARRAY_COUNT(gauge_figures);
    write_status_reply_begin(w, ready, can_produce, ready, can_produce ? "" : reason,
                             (uint16_t)count);
    for (size_t i = 0; i < ARRAY_COUNT(values); i++)
        write_status_value(w, values[i].name, values[i].value);
    write_sums(w, broker, OF_CORE, core_figures, ARRAY_COUNT(core_figures));
    write_sums(w, broker, OF_SHARD, shard_figures, ARRAY_COUNT(shard_figures));
    write_sums(w, broker, OF_GAUGES, gauge_figures, ARRAY_COUNT(gauge_figures));
}

static void write_sums(struct writer *w, struct broker *broker, enum owner owner,
                       const struct figure *figures, size_t figure_count)
{
    for (size_t i = 0; i < figure_count; i++) {
        uint64_t sum = 0;
        for (uint16_t index = 0; index < count_of(broker, owner); index++)
            sum += value_of(broker, owner, index, &figures[i]);
        write_status_value(w, figures[i].name, sum);
    }
}
