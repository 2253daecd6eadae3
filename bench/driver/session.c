/* Connections and topic of a run.
 *
 * The happy path is: connect all clients, create the topic, find that it exists or now does. It
 * fails when no broker answers within the library's connect timeout, or when it refuses the topic.
 *
 * A broker names its figures itself and no client may depend on any of them: one that is missing is
 * null in the report. */
#include "bench/driver/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/errors.h"

#define CONNECT_MS 10000

static int connect_clients(struct session *session);
static int make_topic(struct session *session, struct report *report);
static int read_partition_count(struct session *session);
static struct figure difference(struct figure before, struct figure after);

int session_open(struct session *session, struct report *report)
{
    const struct bench_options *options = report->options;
    *session = (struct session){.options = options};
    session->clients = calloc(options->client_count, sizeof(*session->clients));
    if (!session->clients || connect_clients(session) || make_topic(session, report)) {
        session_close(session);
        return -1;
    }
    return 0;
}

void session_close(struct session *session)
{
    for (uint32_t i = 0; i < session->client_count; i++)
        sluice_client_free(session->clients[i]);
    free(session->clients);
    *session = (struct session){.clients = NULL};
}

int session_ends(struct session *session, uint64_t *ends)
{
    for (uint32_t i = 0; i < session->partition_count; i++) {
        int status = sluice_offset(session->clients[0], session->options->topic, i,
                                   SLUICE_START_END, 0, &ends[i]);
        if (status)
            return session_fail("asking for the end of a partition", status);
    }
    return 0;
}

void session_check_growth(struct session *session, const uint64_t *ends_before, uint64_t records,
                          struct report *report)
{
    uint64_t grown = 0;
    uint64_t *ends = calloc(session->partition_count, sizeof(*ends));
    if (!ends || session_ends(session, ends)) {
        anomaly(report, "the ends of the topic could not be read after the run");
        free(ends);
        return;
    }
    for (uint32_t i = 0; i < session->partition_count; i++)
        grown += ends[i] - ends_before[i];
    if (grown != records)
        anomaly(report,
                "%llu records were acked, but the topic grew by %llu (is anybody else publishing?)",
                (unsigned long long)records, (unsigned long long)grown);
    free(ends);
}

int session_fail(const char *what, int status)
{
    const char *words = sluice_last_error();
    fprintf(stderr, "sluice-bench: %s: %s (%s)%s%s\n", what, sluice_text(status),
            sluice_name(status), *words ? ": " : "", words);
    return -1;
}

/* ---- connections and topic ---- */

static int connect_clients(struct session *session)
{
    struct sluice_client_options options = {
        .size = sizeof(options), .server = session->options->server, .client_id = "sluice-bench"};
    while (session->client_count < session->options->client_count) {
        struct sluice_client **client = &session->clients[session->client_count];
        int status = sluice_client_new(&options, client);
        if (status)
            return session_fail("starting a client", status);
        session->client_count++;
        status = sluice_client_wait(*client, CONNECT_MS);
        if (status)
            return session_fail("connecting", status);
    }
    return 0;
}

static int make_topic(struct session *session, struct report *report)
{
    const struct bench_options *options = session->options;
    uint32_t wanted = options->partition_count;
    int status =
        sluice_topic_create(session->clients[0], options->topic, wanted ? wanted : 1, NULL, 0);
    bool existed = SLUICE_BROKER_ERROR(status) == PE_TOPIC_EXISTS;
    if (status && !existed)
        return session_fail("making the topic", status);
    if (read_partition_count(session))
        return -1;
    report->partition_count = session->partition_count;
    if (wanted && session->partition_count != wanted)
        anomaly(report, "the topic was there with %u partitions, not %u", session->partition_count,
                wanted);
    return 0;
}

static int read_partition_count(struct session *session)
{
    struct sluice_topic *topics;
    uint32_t count;
    int status =
        sluice_topic_list(session->clients[0], &session->options->topic, 1, &topics, &count);
    if (status)
        return session_fail("looking up the topic", status);
    session->partition_count = count > 0 ? topics[0].partition_count : 0;
    sluice_topics_free(topics, count);
    if (session->partition_count == 0)
        return session_fail("looking up the topic", SLUICE_E_BROKER - PE_UNKNOWN_TOPIC);
    return 0;
}

/* ---- the broker's figures ---- */

void session_figures(struct session *session, struct broker_figures *now)
{
    struct sluice_broker_status status;
    *now = (struct broker_figures){0};
    if (sluice_status(session->clients[0], &status) != SLUICE_OK)
        return;
    for (uint32_t i = 0; i < status.value_count; i++) {
        double value = (double)status.values[i].value;
        const char *name = status.values[i].name;
        if (strcmp(name, "process_cpu_us_total") == 0)
            now->cpu_s = figure_of(value / 1e6);
        else if (strcmp(name, "process_rss_bytes") == 0)
            now->rss_bytes = figure_of(value);
        else if (strcmp(name, "wal_fdatasyncs_total") == 0)
            now->fdatasyncs = figure_of(value);
        else if (strcmp(name, "wal_written_bytes_total") == 0)
            now->device_bytes = figure_of(value);
        else if (strcmp(name, "wal_full_no_spare_total") == 0)
            now->waits_for_spare = figure_of(value);
        else if (strcmp(name, "bytes_delivered_total") == 0)
            now->delivered_bytes = figure_of(value);
    }
    sluice_status_free(&status);
}

void session_figures_between(const struct broker_figures *before,
                             const struct broker_figures *after, struct broker_figures *between)
{
    between->cpu_s = difference(before->cpu_s, after->cpu_s);
    between->rss_bytes = after->rss_bytes;
    between->fdatasyncs = difference(before->fdatasyncs, after->fdatasyncs);
    between->device_bytes = difference(before->device_bytes, after->device_bytes);
    between->waits_for_spare = difference(before->waits_for_spare, after->waits_for_spare);
    between->delivered_bytes = difference(before->delivered_bytes, after->delivered_bytes);
}

static struct figure difference(struct figure before, struct figure after)
{
    if (!before.known || !after.known)
        return (struct figure){0};
    return figure_of(after.value - before.value);
}
