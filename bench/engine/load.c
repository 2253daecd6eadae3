/* Producer threads.
 *
 * The happy path of a record: its value is a slice of the payload pool, its partition changes after
 * every batch-full of records, send() copies it into a batch, on_report() counts it. The library's
 * buffer is the only limit on what is in flight: send() waits when it is full.
 *
 * What can go wrong ends in the report as an anomaly: refused sends, failed reports, offsets that do
 * not grow, records that were due but never sent, records without a report. */
#include "bench/engine/load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "bench/engine/place.h"

#define SAMPLE_STRIDE_FAST 61    // a prime: no batch has a multiple of it by design
#define EVERY_RECORD_RATE 100000 // up to this rate taking the time of each record costs nothing
#define FLUSH_MS 60000
#define RECORD_OVERHEAD 12           // about: lengths, deltas, no key, no headers
#define PACE_NS_MIN (50 * NS_PER_US) // don't sleep for less

struct lane {
    /* ---- constant ---- */
    struct load *load;
    uint32_t index;
    struct sluice_producer *producer;
    uint32_t sample_stride;
    uint64_t interval_ns_x1024; // between two records; 0: no rate
    uint64_t records_per_turn;  // to one partition, before the next
    pthread_t thread;
    bool started;

    /* ---- producer thread ---- */
    struct payload payload;
    uint8_t *stamped; // --verify: the value is made here
    uint64_t *sequences;
    struct payload_stamp stamp;
    uint32_t partition;
    uint64_t left_in_turn;
    uint64_t until_sample;
    uint64_t not_sent; // due in the window, but the producer never came to them
    int refused;       // status of a send that failed; ends the thread
    counter sent;
    struct histogram lone_ns; // --lone: send() to the return of flush()
    uint8_t pad[CACHE_LINE];

    /* ---- the client's I/O thread ---- */
    counter acked;
    counter failed;
    int first_failure;
    uint64_t *next_offsets; // by partition: one behind the last reported
    uint64_t backwards;     // reports with an offset below that
    struct histogram latency_ns;
};

struct load {
    struct session *session;
    const struct bench_options *options;
    uint64_t begin_ns; // of the schedule
    uint64_t window_begin_ns, window_end_ns;
    _Atomic bool stopping;
    struct payload payload; // owner of the pool
    uint64_t run;
    uint32_t unflushed; // lanes whose reports did not all come
    uint32_t lane_count;
    struct lane lanes[];
};

static int lane_init(struct lane *lane, struct load *load, uint32_t index);
static void lane_deinit(struct lane *lane);
static void *lane_main(void *context);
static void run_free(struct lane *lane);
static void run_paced(struct lane *lane);
static bool send_one(struct lane *lane, uint64_t time_ns);
static void send_many(struct lane *lane, uint32_t count);
static void send_lone(struct lane *lane, uint64_t time_ns);
static void on_report(void *context, const struct sluice_report *r);
static void add_sample(struct lane *lane, struct histogram *histogram, uint64_t time_ns);

/* ---- set-up ---- */

struct load *load_new(struct session *session)
{
    const struct bench_options *options = session->options;
    struct load *load = calloc(1, sizeof(*load) + options->producer_count * sizeof(struct lane));
    if (!load || payload_init(&load->payload, options->record_bytes, options->compressible)) {
        free(load);
        fprintf(stderr, "sluice-bench: out of memory\n");
        return NULL;
    }
    load->session = session;
    load->options = options;
    load->run = random_seed_system();
    while (load->lane_count < options->producer_count) {
        if (lane_init(&load->lanes[load->lane_count], load, load->lane_count)) {
            load_free(load);
            return NULL;
        }
        load->lane_count++;
    }
    return load;
}

void load_free(struct load *load)
{
    for (uint32_t i = 0; i < load->lane_count; i++)
        lane_deinit(&load->lanes[i]);
    payload_deinit(&load->payload);
    free(load);
}

static int make_producer(struct lane *lane)
{
    const struct bench_options *options = lane->load->options;
    struct sluice_producer_options po = {
        .size = sizeof(po),
        .not_idempotent = options->not_idempotent,
        .compression = options->compression_lz4 ? SLUICE_COMPRESSION_LZ4 : SLUICE_COMPRESSION_NONE,
        .batch_bytes = (uint32_t)options->batch_bytes,
        .batch_records = options->own_request ? 1 : 0,
        .linger_us = options->linger_us,
        .batches_in_flight = options->batches_in_flight,
        .buffer_bytes = options->buffer_bytes,
        .send_waits = true,
        .on_report = on_report,
        .context = lane,
    };
    struct session *session = lane->load->session;
    int status = sluice_producer_new(session->clients[lane->index % session->client_count], &po,
                                     &lane->producer);
    return status ? session_fail("starting a producer", status) : 0;
}

static int lane_init(struct lane *lane, struct load *load, uint32_t index)
{
    const struct bench_options *options = load->options;
    uint32_t partitions = load->session->partition_count;
    bool each = options->lone || (options->rate > 0 && options->rate <= EVERY_RECORD_RATE);
    *lane = (struct lane){.load = load, .index = index, .payload = load->payload};
    lane->sample_stride = options->sample_stride ? options->sample_stride
                          : each                 ? 1
                                                 : SAMPLE_STRIDE_FAST;
    if (options->rate > 0)
        lane->interval_ns_x1024 =
            max_u64(1, NS_PER_S * 1024 * options->producer_count / options->rate);
    lane->records_per_turn =
        options->own_request
            ? 1
            : max_u64(1, options->batch_bytes / (options->record_bytes + RECORD_OVERHEAD));
    lane->partition = index % partitions;
    lane->left_in_turn = lane->records_per_turn;
    lane->payload.at = align_down((uint64_t)index * 4096 % PAYLOAD_POOL_BYTES, CACHE_LINE);
    lane->stamp =
        (struct payload_stamp){.flags = le32_make(options->compressible ? STAMP_COMPRESSIBLE : 0),
                               .run = le64_make(load->run),
                               .producer = le32_make(index)};
    lane->next_offsets = calloc(partitions, sizeof(uint64_t));
    lane->sequences = calloc(partitions, sizeof(uint64_t));
    lane->stamped = malloc(options->record_bytes);
    if (lane->next_offsets && lane->sequences && lane->stamped && make_producer(lane) == 0)
        return 0;
    lane_deinit(lane);
    return -1;
}

static void lane_deinit(struct lane *lane)
{
    if (lane->producer)
        sluice_producer_free(lane->producer);
    free(lane->next_offsets);
    free(lane->sequences);
    free(lane->stamped);
}

int load_start(struct load *load, uint64_t window_begin_ns, uint64_t window_end_ns)
{
    load->begin_ns = now_ns();
    load->window_begin_ns = window_begin_ns;
    load->window_end_ns = window_end_ns;
    for (uint32_t i = 0; i < load->lane_count; i++) {
        struct lane *lane = &load->lanes[i];
        int error = pthread_create(&lane->thread, NULL, lane_main, lane);
        if (error) {
            fprintf(stderr, "sluice-bench: pthread_create: %s\n", strerror(error));
            load_stop(load);
            return -1;
        }
        lane->started = true;
    }
    return 0;
}

void load_stop(struct load *load)
{
    atomic_store_explicit(&load->stopping, true, memory_order_relaxed);
    for (uint32_t i = 0; i < load->lane_count; i++) {
        struct lane *lane = &load->lanes[i];
        if (!lane->started)
            continue;
        pthread_join(lane->thread, NULL);
        lane->started = false;
        if (sluice_producer_flush(lane->producer, FLUSH_MS) != SLUICE_OK)
            load->unflushed++;
    }
}

struct load_totals load_totals(struct load *load)
{
    struct load_totals totals = {0};
    for (uint32_t i = 0; i < load->lane_count; i++) {
        totals.sent += counter_get(&load->lanes[i].sent);
        totals.acked += counter_get(&load->lanes[i].acked);
        totals.failed += counter_get(&load->lanes[i].failed);
    }
    return totals;
}

static void summarise_lane(struct lane *lane, struct report *report)
{
    if (lane->refused)
        anomaly(report, "producer %u stopped: send: %s (%s)", lane->index,
                sluice_text(lane->refused), sluice_name(lane->refused));
    if (counter_get(&lane->failed) > 0)
        anomaly(report, "producer %u: %llu records failed, the first with: %s (%s)", lane->index,
                (unsigned long long)counter_get(&lane->failed), sluice_text(lane->first_failure),
                sluice_name(lane->first_failure));
    if (lane->backwards > 0)
        anomaly(report, "producer %u: %llu reports with an offset at or below an earlier one",
                lane->index, (unsigned long long)lane->backwards);
    if (lane->not_sent > 0)
        anomaly(
            report,
            "producer %u: %llu records were due and never sent: the rate is too high, latencies "
            "are lower bounds",
            lane->index, (unsigned long long)lane->not_sent);
}

void load_summarise(struct load *load, struct report *report, struct histogram *latency_ns)
{
    bool lone = load->options->lone;
    if (load->unflushed > 0)
        anomaly(report, "%u producers did not get all their reports within %d s", load->unflushed,
                FLUSH_MS / 1000);
    for (uint32_t i = 0; i < load->lane_count; i++) {
        struct lane *lane = &load->lanes[i];
        histogram_merge(latency_ns, lone ? &lane->lone_ns : &lane->latency_ns);
        summarise_lane(lane, report);
    }
}

/* ---- producer thread ---- */

static void *lane_main(void *context)
{
    struct lane *lane = context;
    place_exact_timers();
    if (lane->interval_ns_x1024 > 0)
        run_paced(lane);
    else
        run_free(lane);
    return NULL;
}

static bool is_stopping(struct lane *lane)
{
    return atomic_load_explicit(&lane->load->stopping, memory_order_relaxed) || lane->refused;
}

static void run_free(struct lane *lane)
{
    bool lone = lane->load->options->lone;
    uint32_t many = lane->load->options->send_many;
    while (!is_stopping(lane)) {
        if (lone)
            send_lone(lane, now_ns());
        else if (many > 1)
            send_many(lane, many);
        else
            send_one(lane, 0);
    }
}

static uint64_t due_ns(struct lane *lane, uint64_t n)
{
    unsigned __int128 after = (unsigned __int128)n * lane->interval_ns_x1024 / 1024;
    return lane->load->begin_ns + (uint64_t)after;
}

/* Sends everything that is due, then sleeps until the next is. */
static void run_paced(struct lane *lane)
{
    bool lone = lane->load->options->lone;
    uint64_t n = 0;
    while (!is_stopping(lane)) {
        uint64_t due = due_ns(lane, n), now = now_ns();
        if (due > now) {
            sleep_until_ns(max_u64(due, now + PACE_NS_MIN));
            continue;
        }
        for (; due <= now && !is_stopping(lane); due = due_ns(lane, ++n)) {
            if (lone)
                send_lone(lane, due);
            else
                send_one(lane, due);
        }
    }
    while (due_ns(lane, n + lane->not_sent) < lane->load->window_end_ns)
        lane->not_sent++;
}

/* The records go to one partition after the other, as many as fill a batch. */
static uint32_t next_partition(struct lane *lane)
{
    if (lane->left_in_turn-- == 0) {
        lane->left_in_turn = lane->records_per_turn - 1;
        lane->partition = (lane->partition + 1) % lane->load->session->partition_count;
    }
    return lane->partition;
}

static const uint8_t *next_value(struct lane *lane, uint32_t partition)
{
    if (LIKELY(!lane->load->options->verify))
        return payload_next(&lane->payload);
    lane->stamp.sequence = le64_make(lane->sequences[partition]++);
    payload_stamped(&lane->payload, lane->stamped, &lane->stamp);
    return lane->stamped;
}

/* time_ns: when the record was due; 0: now. What is sampled carries its time as its opaque pointer. */
static inline struct sluice_record next_record(struct lane *lane, uint64_t time_ns)
{
    uint32_t partition = next_partition(lane);
    struct sluice_record record = {.topic = lane->load->options->topic,
                                   .partition = partition,
                                   .value = next_value(lane, partition),
                                   .value_len = lane->load->options->record_bytes};
    if (lane->until_sample-- == 0) {
        lane->until_sample = lane->sample_stride - 1;
        record.opaque = (void *)(uintptr_t)(time_ns ? time_ns : now_ns());
    }
    return record;
}

static bool send_one(struct lane *lane, uint64_t time_ns)
{
    struct sluice_record record = next_record(lane, time_ns);
    int status = sluice_producer_send(lane->producer, &record);
    if (LIKELY(status == SLUICE_OK)) {
        counter_add(&lane->sent, 1);
        return true;
    }
    lane->refused = status;
    return false;
}

/* As an application does that has several records at hand. */
static void send_many(struct lane *lane, uint32_t count)
{
    struct sluice_record records[SEND_MANY_MAX];
    uint32_t taken;
    for (uint32_t i = 0; i < count; i++)
        records[i] = next_record(lane, 0);
    lane->refused = sluice_producer_send_many(lane->producer, records, count, &taken);
    counter_add(&lane->sent, taken);
}

static void send_lone(struct lane *lane, uint64_t time_ns)
{
    if (!send_one(lane, time_ns))
        return;
    int status = sluice_producer_flush(lane->producer, FLUSH_MS);
    if (status == SLUICE_OK)
        add_sample(lane, &lane->lone_ns, time_ns);
    else
        lane->refused = status;
}

/* ---- the client's I/O thread ---- */

static void on_report(void *context, const struct sluice_report *r)
{
    struct lane *lane = context;
    if (UNLIKELY(r->status != SLUICE_OK)) {
        if (counter_get(&lane->failed) == 0)
            lane->first_failure = r->status;
        counter_add(&lane->failed, 1);
        return;
    }
    counter_add(&lane->acked, 1);
    if (LIKELY(r->offset != SLUICE_OFFSET_UNKNOWN)) {
        lane->backwards += r->offset < lane->next_offsets[r->partition];
        lane->next_offsets[r->partition] = r->offset + 1;
    }
    if (r->opaque)
        add_sample(lane, &lane->latency_ns, (uint64_t)(uintptr_t)r->opaque);
}

static void add_sample(struct lane *lane, struct histogram *histogram, uint64_t time_ns)
{
    if (time_ns >= lane->load->window_begin_ns && time_ns < lane->load->window_end_ns)
        histogram_add(histogram, now_ns() - time_ns);
}
