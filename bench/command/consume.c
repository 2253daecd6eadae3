/* `sluice-bench consume`.
 *
 * From the beginning: reads to the ends that are visible at the start (or for --duration, if that is
 * over first); the time counts from the subscription, so that the first read is in it. From the end:
 * reads what a publisher that runs elsewhere adds, for --duration behind --warm-up.
 *
 * Unexpected: an offset that does not follow the one before it in its partition, an end that is
 * never reached, and with --verify what the stamps tell (sequences.h). Latency is not measured: the
 * time of a record is in milliseconds. */
#include "bench/command/consume.h"

#include <stdlib.h>

#include "bench/bare/limits.h"
#include "bench/engine/place.h"
#include "bench/engine/sequences.h"
#include "bench/driver/session.h"

#define MESSAGES_PER_POLL 1024
#define POLL_MS 100
#define SILENCE_NS (20 * NS_PER_S) // nothing for so long, and not at the end: give up

struct reader {
    const struct bench_options *options;
    struct report *report;
    struct session *session;
    struct sluice_consumer *consumer;
    uint64_t *ends;         // by partition: where to stop, from the beginning
    uint64_t *next_offsets; // by partition; UINT64_MAX: none seen
    uint32_t unfinished;    // partitions that have not reached their end
    bool verify;
    struct sequences sequences;
    uint64_t records, bytes;
    uint64_t gaps, repeats;
};

static int measure(struct report *report);
static int reader_open(struct reader *reader);
static void reader_close(struct reader *reader);
static int read_all(struct reader *reader);
static int take(struct reader *reader, const struct sluice_message *message);
static int count_until(struct reader *reader, uint64_t end_ns, uint64_t *now);
static void summarise(struct reader *reader);

int consume_main(struct bench_options *options)
{
    static struct report report;
    struct limits limits;
    struct limits_figures before = {0}, after = {0};
    report.options = options;
    if (!options->limits_dir)
        return measure(&report) ? 1 : report_print(&report) | report_write_json(&report);
    if (limits_open(&limits, options))
        return 1;
    int status = limits_measure_rates(&limits, &before) || measure(&report) ||
                 limits_measure_rates(&limits, &after);
    limits_close(&limits);
    if (status)
        return 1;
    limits_mean(&before, &after, &report.limits);
    return report_print(&report) | report_write_json(&report);
}

static int measure(struct report *report)
{
    static struct reader reader;
    struct session session;
    if (session_open(&session, report))
        return -1;
    reader = (struct reader){.options = report->options, .report = report, .session = &session};
    int status = reader_open(&reader);
    if (status == 0)
        status = read_all(&reader);
    if (status == 0)
        summarise(&reader);
    reader_close(&reader);
    session_close(&session);
    return status;
}

static int reader_open(struct reader *reader)
{
    uint32_t partitions = reader->session->partition_count;
    reader->ends = calloc(partitions, sizeof(uint64_t));
    reader->next_offsets = calloc(partitions, sizeof(uint64_t));
    if (!reader->ends || !reader->next_offsets)
        return session_fail("preparing", SLUICE_E_NO_MEMORY);
    for (uint32_t i = 0; i < partitions; i++)
        reader->next_offsets[i] = UINT64_MAX;
    if (reader->options->verify) {
        if (sequences_init(&reader->sequences))
            return session_fail("preparing", SLUICE_E_NO_MEMORY);
        reader->verify = true;
    }
    struct sluice_consumer_options options = {.size = sizeof(options)};
    int status = sluice_consumer_new(reader->session->clients[0], &options, &reader->consumer);
    return status ? session_fail("starting a consumer", status) : 0;
}

static void reader_close(struct reader *reader)
{
    if (reader->consumer)
        sluice_consumer_free(reader->consumer);
    if (reader->verify)
        sequences_deinit(&reader->sequences);
    free(reader->ends);
    free(reader->next_offsets);
}

/* Partitions that hold something between their first record and their end. */
static int note_ends(struct reader *reader)
{
    if (session_ends(reader->session, reader->ends))
        return -1;
    for (uint32_t i = 0; i < reader->session->partition_count; i++) {
        uint64_t first;
        int status = sluice_offset(reader->session->clients[0], reader->options->topic, i,
                                   SLUICE_START_BEGINNING, 0, &first);
        if (status)
            return session_fail("asking for the beginning of a partition", status);
        if (first < reader->ends[i])
            reader->unfinished++;
        else
            reader->ends[i] = 0; // nothing to wait for
    }
    return 0;
}

static int read_all(struct reader *reader)
{
    const struct bench_options *options = reader->options;
    struct broker_figures before, after;
    if (!options->from_end && note_ends(reader))
        return -1;
    session_figures(reader->session, &before);
    uint64_t now = now_ns(), begin = now;
    int status =
        sluice_consumer_subscribe(reader->consumer, options->topic, SLUICE_PARTITION_ANY,
                                  options->from_end ? SLUICE_START_END : SLUICE_START_BEGINNING, 0);
    if (status)
        return session_fail("subscribing", status);
    if (options->warm_up_ns > 0) {
        if (count_until(reader, begin + options->warm_up_ns, &begin))
            return -1;
        reader->records = reader->bytes = 0;
    }
    uint64_t end = options->duration_ns > 0 ? begin + options->duration_ns : UINT64_MAX;
    if (count_until(reader, end, &now))
        return -1;
    session_figures(reader->session, &after);
    session_figures_between(&before, &after, &reader->report->broker);
    reader->report->seconds = (double)(now - begin) / 1e9;
    return 0;
}

static bool is_done(const struct reader *reader)
{
    return !reader->options->from_end && reader->unfinished == 0;
}

/* Reads until end_ns, or until every partition is at its end. *now: when that was. */
static int count_until(struct reader *reader, uint64_t end_ns, uint64_t *now)
{
    static struct sluice_message messages[MESSAGES_PER_POLL];
    uint64_t heard = *now = now_ns();
    while (*now < end_ns && !is_done(reader)) {
        int got = sluice_consumer_poll(reader->consumer, messages, MESSAGES_PER_POLL, POLL_MS);
        if (got < 0)
            return session_fail("reading", got);
        for (int i = 0; i < got; i++) {
            if (take(reader, &messages[i]))
                return session_fail("checking", SLUICE_E_NO_MEMORY);
        }
        *now = now_ns();
        heard = got > 0 ? *now : heard;
        if (*now - heard > SILENCE_NS && !reader->options->from_end) {
            anomaly(reader->report, "%u partitions did not reach their end: nothing came for %d s",
                    reader->unfinished, (int)(SILENCE_NS / NS_PER_S));
            return 0;
        }
    }
    return 0;
}

static int take(struct reader *reader, const struct sluice_message *message)
{
    uint32_t partition = message->partition;
    if (partition >= reader->session->partition_count)
        return 0; // the topic has grown
    uint64_t *next = &reader->next_offsets[partition];
    if (*next != UINT64_MAX && message->offset != *next) {
        reader->gaps += message->offset > *next;
        reader->repeats += message->offset < *next;
    }
    *next = message->offset + 1;
    if (*next == reader->ends[partition])
        reader->unfinished--;
    reader->records++;
    reader->bytes += message->key_len + message->value_len;
    if (!reader->verify)
        return 0;
    return sequences_check(&reader->sequences, partition, message->offset, message->value,
                           message->value_len);
}

static void summarise(struct reader *reader)
{
    struct report *report = reader->report;
    const struct sequences *s = &reader->sequences;
    report->has_load = true;
    report->records = reader->records;
    report->bytes = reader->bytes;
    if (reader->records == 0)
        anomaly(report, "nothing was read");
    if (reader->gaps > 0)
        anomaly(report, "%llu times offsets were missing between two records of a partition",
                (unsigned long long)reader->gaps);
    if (reader->repeats > 0)
        anomaly(report, "%llu times an offset came again or out of order",
                (unsigned long long)reader->repeats);
    if (s->damaged > 0)
        anomaly(report,
                "%llu of %llu records failed the check, the first at partition %u offset %llu: %s",
                (unsigned long long)s->damaged, (unsigned long long)s->checked,
                s->first_damage_partition, (unsigned long long)s->first_damage_offset,
                s->first_damage);
    if (s->missing > 0)
        anomaly(report, "%llu records are missing by their numbers",
                (unsigned long long)s->missing);
    if (s->duplicates > 0)
        anomaly(report, "%llu records came twice by their numbers",
                (unsigned long long)s->duplicates);
}
