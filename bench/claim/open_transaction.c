/* `sluice-bench claim open-transaction`.
 *
 * Part one. Transactional producers commit at a given rate, a consumer reads all of it; meanwhile another producer holds
 * a transaction open that has records in every partition. In each round it is open for --hold, and for half of that, at most 30 s, the others are
 * alone before and after, so that whatever the machine does meets both. Compared are the p99 of commits, and the p99 from the begin of a transaction
 * to its records in the consumer's hands.
 *
 * Part two. Half of the transactions are aborted. The consumer must then have received exactly the committed records,
 * densely, up to an end behind which nothing is; and the broker must have sent it exactly the bytes of committed
 * batches: all are of one size, which one transaction alone shows. */
#include "bench/claim/claim.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "bench/bare/limits.h"
#include "bench/engine/place.h"
#include "bench/engine/resources.h"
#include "bench/engine/txn_load.h"
#include "bench/report/costs.h"

#define HALF_NS_MAX (30 * NS_PER_S) // of a round, before and after the transaction
#define SETTLE_NS (100 * NS_PER_MS) // behind each change
#define WAIT_MS 30000
#define HOLD_SLACK_MS 60000 // beyond --hold
#define MESSAGES_PER_POLL 1024
#define HALF 50              // percent
#define CHANGE_MAX_PERCENT 5 // that the claim allows

struct reader {
    struct sluice_consumer *consumer;
    counter *next_offsets; // by partition
    uint32_t partition_count;
    pthread_t thread;
    bool has_thread;
    _Atomic bool stop;
    _Atomic uint32_t slot;
    counter records, bytes, gaps, failed;
    struct histogram latency_ns[TXN_SLOT_COUNT]; // from begin to here
};

struct figures {
    double commit_p99_without_us,
        commit_p99_with_us; // of the others, while none or one is held open
    double delivery_p99_without_us, delivery_p99_with_us; // begin to consumer
    double commit_change_percent, delivery_change_percent;
    uint64_t aborts; // in the second part, where half of the transactions are
    uint64_t committed_records, received_records;
    uint64_t received_value_bytes;
    uint64_t committed_batch_bytes, received_batch_bytes; // as the broker stores and sends them
    uint64_t gaps;                                        // offsets that did not follow
    uint64_t lag;                                         // behind the visible ends, afterwards
    struct costs costs_without, costs_with;               // per committed record
};

struct holder { // of the open transaction
    struct sluice_producer *producer;
    const struct bench_options *options;
    uint32_t partition_count;
};

static int measure_limits(struct report *report);
static int measure(struct driver_session *session, struct report *report);
static void judge(struct report *report, const struct figures *f);
static int reader_open(struct reader *reader, struct driver_session *session);
static void reader_close(struct reader *reader);
static void *reader_main(void *context);
static int measure_rounds(struct driver_session *session, struct reader *reader,
                          struct report *report, struct figures *figures);
static int measure_aborts(struct driver_session *session, struct reader *reader,
                          struct report *report, struct figures *figures);

static int run(struct bench_options *options, struct report *report)
{
    static struct driver_session session; // the report refers to it
    if (options->limits_dir && measure_limits(report))
        return -1;
    if (driver_session_open(&session, options))
        return -1;
    report->session = &session;
    report->partition_count = session.partition_count;
    int status = measure(&session, report);
    driver_session_close(&session);
    return status;
}

static int measure_limits(struct report *report)
{
    struct limits limits;
    if (limits_open(&limits, report->options))
        return -1;
    int status = limits_measure_latencies(&limits, &report->limits);
    limits_close(&limits);
    return status;
}

static int measure(struct driver_session *session, struct report *report)
{
    static struct reader reader;
    struct figures figures = {0};
    int status = reader_open(&reader, session);
    if (status == 0)
        status = measure_rounds(session, &reader, report, &figures);
    if (status == 0)
        status = measure_aborts(session, &reader, report, &figures);
    reader_close(&reader);
    if (status == 0)
        judge(report, &figures);
    return status;
}

static void judge(struct report *report, const struct figures *f)
{
    bool holds = f->commit_change_percent <= CHANGE_MAX_PERCENT &&
                 f->delivery_change_percent <= CHANGE_MAX_PERCENT &&
                 f->received_records == f->committed_records &&
                 f->received_batch_bytes == f->committed_batch_bytes && f->gaps == 0 && f->lag == 0;
    json_t *json =
        json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "commit_p99_without_us",
                  f->commit_p99_without_us, "commit_p99_with_us", f->commit_p99_with_us,
                  "commit_change_percent", f->commit_change_percent, "delivery_p99_without_us",
                  f->delivery_p99_without_us, "delivery_p99_with_us", f->delivery_p99_with_us,
                  "delivery_change_percent", f->delivery_change_percent);
    const struct {
        const char *key;
        uint64_t value;
    } counts[] = {
        {"aborts", f->aborts},
        {"committed_records", f->committed_records},
        {"received_records", f->received_records},
        {"received_value_bytes", f->received_value_bytes},
        {"committed_batch_bytes", f->committed_batch_bytes},
        {"received_batch_bytes", f->received_batch_bytes},
        {"gaps", f->gaps},
        {"lag", f->lag},
    };
    for (size_t i = 0; i < ARRAY_COUNT(counts); i++)
        json_object_set_new(json, counts[i].key, json_integer((json_int_t)counts[i].value));
    json_object_set_new(json, "ratios_without", costs_row_json(&f->costs_without));
    json_object_set_new(json, "ratios_with", costs_row_json(&f->costs_with));
    claim_set(report, holds, json);
}

/* ---- the consumer ---- */

static int reader_open(struct reader *reader, struct driver_session *session)
{
    struct sluice_consumer_options options = {.size = sizeof(options)};
    reader->partition_count = session->partition_count;
    uint64_t *ends = calloc(session->partition_count, sizeof(*ends));
    reader->next_offsets = calloc(session->partition_count, sizeof(counter));
    int status = ends && reader->next_offsets ? SLUICE_OK : SLUICE_E_NO_MEMORY;
    if (status == SLUICE_OK && sluice_ends(session, ends)) {
        free(ends);
        return -1;
    }
    if (status == SLUICE_OK)
        status = sluice_consumer_new(sluice_of(session, 0), &options, &reader->consumer);
    for (uint32_t p = 0; status == SLUICE_OK && p < session->partition_count; p++) {
        counter_set(&reader->next_offsets[p], ends[p]);
        status = sluice_consumer_subscribe(reader->consumer, session->options->topic, p,
                                           SLUICE_START_OFFSET, ends[p]);
    }
    free(ends);
    reader->has_thread =
        status == SLUICE_OK && pthread_create(&reader->thread, NULL, reader_main, reader) == 0;
    if (status)
        return sluice_complain("starting the consumer", status);
    return reader->has_thread
               ? 0
               : sluice_complain("starting the consumer's thread", SLUICE_E_NO_MEMORY);
}

static void reader_close(struct reader *reader)
{
    atomic_store(&reader->stop, true);
    if (reader->has_thread)
        pthread_join(reader->thread, NULL);
    if (reader->consumer)
        sluice_consumer_free(reader->consumer);
    free(reader->next_offsets);
}

static void take(struct reader *reader, const struct sluice_message *message)
{
    uint32_t slot = atomic_load(&reader->slot);
    counter *next_offset = &reader->next_offsets[message->partition];
    if (message->offset != counter_get(next_offset))
        counter_add(&reader->gaps, 1);
    counter_set(next_offset, message->offset + 1);
    counter_add(&reader->records, 1);
    counter_add(&reader->bytes, message->value_len);
    if (slot != TXN_SLOT_NONE && message->value_len >= TXN_STAMP_BYTES)
        histogram_add(&reader->latency_ns[slot], now_ns() - txn_stamp_read(message->value));
}

static void *reader_main(void *context)
{
    struct reader *reader = context;
    static struct sluice_message messages[MESSAGES_PER_POLL];
    while (!atomic_load(&reader->stop)) {
        int got = sluice_consumer_poll(reader->consumer, messages, MESSAGES_PER_POLL, 20);
        for (int i = 0; i < got; i++)
            take(reader, &messages[i]);
        if (got < 0)
            counter_add(&reader->failed, 1);
    }
    return NULL;
}

/* Until it has got that many records, or for some seconds; then a moment more, in which nothing may come. */
static void wait_for_records(struct reader *reader, uint64_t wanted)
{
    uint64_t give_up_ns = now_ns() + 10 * NS_PER_S;
    while (counter_get(&reader->records) < wanted && now_ns() < give_up_ns)
        sleep_until_ns(now_ns() + NS_PER_MS);
    sleep_until_ns(now_ns() + 300 * NS_PER_MS);
}

/* ---- one is held open ---- */

static int holder_open(struct holder *holder, struct driver_session *session)
{
    char id[64];
    snprintf(id, sizeof(id), "bench-open-%016llx", (unsigned long long)now_ns());
    struct sluice_producer_options options = {
        .size = sizeof(options),
        .send_waits = true,
        .transactional_id = id,
        .transaction_timeout_ms = (uint32_t)(session->options->hold_ns / NS_PER_MS) + HOLD_SLACK_MS,
    };
    *holder =
        (struct holder){.options = session->options, .partition_count = session->partition_count};
    int status = sluice_producer_new(sluice_of(session, 0), &options, &holder->producer);
    return status ? sluice_complain("starting a producer", status) : 0;
}

/* With a record in each partition that is durable, so every shard has it in its books. */
static int hold(struct holder *holder)
{
    static const uint8_t value[16];
    int status = sluice_txn_begin(holder->producer);
    for (uint32_t p = 0; status == SLUICE_OK && p < holder->partition_count; p++) {
        struct sluice_record record = {.topic = holder->options->topic,
                                       .partition = p,
                                       .value = value,
                                       .value_len = sizeof(value)};
        status = sluice_producer_send(holder->producer, &record);
    }
    if (status == SLUICE_OK)
        status = sluice_producer_flush(holder->producer, WAIT_MS);
    return status ? sluice_complain("holding a transaction open", status) : 0;
}

static int let_go(struct holder *holder)
{
    int status = sluice_txn_abort(holder->producer, WAIT_MS);
    return status ? sluice_complain("aborting what was held open", status) : 0;
}

static void count_into(struct txn_load *load, struct reader *reader, enum txn_slot slot)
{
    txn_load_slot(load, slot);
    atomic_store(&reader->slot, slot);
}

/* A part of a round; with a transaction held open when there is a holder. */
static int one_part(struct driver_session *session, struct txn_load *load, struct reader *reader,
                    struct holder *holder, uint64_t length_ns, struct costs *costs)
{
    struct resources before, after;
    if (holder && hold(holder))
        return -1;
    sleep_until_ns(now_ns() + SETTLE_NS);
    resources_take(session, &before);
    uint64_t records = txn_load_totals(load).records, begin_ns = now_ns();
    count_into(load, reader, holder ? TXN_SLOT_SECOND : TXN_SLOT_FIRST);
    sleep_until_ns(begin_ns + length_ns);
    count_into(load, reader, TXN_SLOT_NONE);
    double seconds = (double)(now_ns() - begin_ns) / (double)NS_PER_S;
    double committed = (double)(txn_load_totals(load).records - records);
    resources_take(session, &after);
    costs_add(costs, &before, &after, committed, committed * (double)session->options->record_bytes,
              seconds);
    return holder ? let_go(holder) : 0;
}

static int one_round(struct driver_session *session, struct txn_load *load, struct reader *reader,
                     struct holder *holder, struct figures *figures)
{
    uint64_t hold_ns = session->options->hold_ns, half_ns = min_u64(hold_ns / 2, HALF_NS_MAX);
    if (one_part(session, load, reader, NULL, half_ns, &figures->costs_without) ||
        one_part(session, load, reader, holder, hold_ns, &figures->costs_with))
        return -1;
    return one_part(session, load, reader, NULL, half_ns, &figures->costs_without);
}

static double change_percent(struct histogram *without, struct histogram *with, double *without_us,
                             double *with_us)
{
    *without_us = (double)histogram_quantile(without, 0.99) / 1e3;
    *with_us = (double)histogram_quantile(with, 0.99) / 1e3;
    return *without_us > 0 ? 100 * (*with_us / *without_us - 1) : 0;
}

static void compare(struct txn_load *load, struct reader *reader, struct report *report,
                    struct figures *figures)
{
    static struct histogram without, with;
    txn_load_latency(load, TXN_SLOT_FIRST, &without);
    txn_load_latency(load, TXN_SLOT_SECOND, &with);
    figures->commit_change_percent = change_percent(
        &without, &with, &figures->commit_p99_without_us, &figures->commit_p99_with_us);
    figures->delivery_change_percent =
        change_percent(&reader->latency_ns[TXN_SLOT_FIRST], &reader->latency_ns[TXN_SLOT_SECOND],
                       &figures->delivery_p99_without_us, &figures->delivery_p99_with_us);
    if (histogram_count(&without) == 0 || histogram_count(&with) == 0)
        anomaly(report, "nothing was committed in the rounds");
}

static int measure_rounds(struct driver_session *session, struct reader *reader,
                          struct report *report, struct figures *figures)
{
    struct holder holder;
    struct txn_load *load = txn_load_new(session, 0);
    if (!load)
        return -1;
    int status = holder_open(&holder, session);
    if (status == 0)
        status = txn_load_start(load, NULL);
    sleep_until_ns(now_ns() + report->options->warm_up_ns);
    uint64_t end_ns = now_ns() + report->options->duration_ns;
    do {
        if (status == 0)
            status = one_round(session, load, reader, &holder, figures);
    } while (status == 0 && now_ns() < end_ns);
    txn_load_stop(load);
    if (status == 0)
        compare(load, reader, report, figures);
    txn_load_check(load, report);
    if (holder.producer)
        sluice_producer_free(holder.producer);
    txn_load_free(load);
    return status;
}

/* ---- half of them are aborted ---- */

/* How far the consumer is behind the visible ends. */
static int lag_of(struct driver_session *session, struct reader *reader, uint64_t *lag)
{
    uint64_t *ends = calloc(session->partition_count, sizeof(*ends));
    int status = ends ? sluice_ends(session, ends) : -1;
    *lag = 0;
    for (uint32_t p = 0; status == 0 && p < session->partition_count; p++)
        *lag += ends[p] - counter_get(&reader->next_offsets[p]);
    free(ends);
    return status;
}

static int wait_for_end(struct driver_session *session, struct reader *reader)
{
    uint64_t lag = 0, give_up_ns = now_ns() + 10 * NS_PER_S;
    while (lag_of(session, reader, &lag) == 0 && lag > 0 && now_ns() < give_up_ns)
        sleep_until_ns(now_ns() + 10 * NS_PER_MS);
    return lag > 0 ? sluice_complain("waiting for the consumer", SLUICE_E_TIMED_OUT) : 0;
}

/* That the broker has sent to consumers so far. */
static uint64_t delivered_bytes(struct driver_session *session)
{
    struct resources now;
    resources_take(session, &now);
    return now.server.delivered_bytes;
}

/* One transaction, to see how large its batches are. */
static int size_of_one(struct driver_session *session, struct reader *reader, double *batch_bytes)
{
    struct holder holder;
    uint64_t records = counter_get(&reader->records), before, after;
    if (holder_open(&holder, session))
        return -1;
    before = delivered_bytes(session);
    uint8_t *value = calloc(1, session->options->record_bytes);
    struct sluice_record record = {.topic = session->options->topic,
                                   .partition = 0,
                                   .value = value,
                                   .value_len = session->options->record_bytes};
    int status = value ? sluice_txn_begin(holder.producer) : SLUICE_E_NO_MEMORY;
    if (status == SLUICE_OK)
        status = sluice_producer_send(holder.producer, &record);
    if (status == SLUICE_OK)
        status = sluice_txn_commit(holder.producer, WAIT_MS);
    wait_for_records(reader, records + 1);
    after = delivered_bytes(session);
    *batch_bytes = (double)(after - before);
    sluice_producer_free(holder.producer);
    free(value);
    if (status == SLUICE_OK && after == UNKNOWN)
        status = SLUICE_E_UNSUPPORTED;
    return status ? sluice_complain("measuring one transaction", status) : 0;
}

static int measure_aborts(struct driver_session *session, struct reader *reader,
                          struct report *report, struct figures *figures)
{
    uint64_t before, after;
    double batch_bytes;
    if (wait_for_end(session, reader) || size_of_one(session, reader, &batch_bytes))
        return -1;
    struct txn_load *load = txn_load_new(session, HALF);
    if (!load)
        return -1;
    uint64_t records = counter_get(&reader->records), bytes = counter_get(&reader->bytes);
    before = delivered_bytes(session);
    int status = txn_load_start(load, NULL);
    sleep_until_ns(now_ns() + report->options->duration_ns / 4);
    txn_load_stop(load);
    struct txn_totals totals = txn_load_totals(load);
    wait_for_records(reader, records + totals.records);
    after = delivered_bytes(session);
    txn_load_check(load, report);
    txn_load_free(load);
    figures->aborts = totals.aborts;
    figures->committed_records = totals.records;
    figures->received_records = counter_get(&reader->records) - records;
    figures->received_value_bytes = counter_get(&reader->bytes) - bytes;
    figures->committed_batch_bytes = (uint64_t)batch_bytes * totals.records;
    figures->received_batch_bytes = after - before;
    figures->gaps = counter_get(&reader->gaps);
    if (counter_get(&reader->failed) > 0)
        anomaly(report, "the consumer was told %llu errors",
                (unsigned long long)counter_get(&reader->failed));
    return status ? status : lag_of(session, reader, &figures->lag);
}

const struct claim claim_open_transaction = {
    "open-transaction",
    "one that is held open delays nobody, and nothing of an aborted one is sent", run};
