/* Lanes and producers.
 *
 * The happy path of a record: its partition changes after every batch-full of records, its value is a slot of the lane's pool with a
 * stamp in it, the driver's send() copies it, on_ack() counts it. */
#include "bench/engine/publishers.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "bench/engine/content.h"
#include "bench/engine/place.h"
#include "bench/engine/schedule.h"

#define SAMPLE_STRIDE_FAST 61    // a prime: no batch has a multiple of it by design
#define EVERY_RECORD_RATE 100000 // up to this rate taking the time of each record costs nothing
#define FLUSH_MS 60000
#define RECORD_OVERHEAD 12           // about: lengths, deltas, no key, no headers
#define PACE_NS_MIN (50 * NS_PER_US) // don't sleep for less
#define BURST_MAX 16u                // records handed to the driver in one call
#define ROOM_WAIT_MS 100             // then look whether it is over

static_assert(BURST_MAX <= SEND_MANY_MAX, "a burst is one call");

struct producer {
    /* ---- constant ---- */
    struct lane *lane;
    uint16_t index;
    struct driver_producer *driver;

    /* ---- the lane's thread ---- */
    uint32_t partition;
    uint64_t left_in_turn; // records that the partition still gets
    uint64_t *sequences;   // by partition: the next stamp
    uint8_t pad[CACHE_LINE];

    /* ---- the thread that tells acks ---- */
    counter acked;
    counter failed;
    uint64_t *next_offsets; // by partition: one behind the last that was told
    uint64_t backwards;     // acks with an offset below that
    char first_failure[160];
    struct histogram *latency_ns; // [windows.count]
};

struct lane {
    /* ---- constant ---- */
    struct publishers *publishers;
    uint32_t index;
    pthread_t thread;
    bool has_thread;
    uint32_t producer_count;
    uint32_t burst;
    struct producer *producers;

    /* ---- its thread ---- */
    struct content content;
    struct schedule schedule;
    uint32_t turn; // the producer that is next
    uint32_t sample_stride;
    uint32_t until_sample;
    uint64_t not_sent; // due in the windows, but the lane never came to them
    bool has_failed;
    counter sent;
    struct histogram slip_ns;

    sem_t room; // closed loop: a post for each ack
};

struct publishers {
    struct driver_session *session;
    const struct bench_driver *driver;
    const struct bench_options *options;
    struct windows windows;
    uint64_t rate;
    uint32_t run; // of the stamps
    uint64_t records_per_turn;
    _Atomic bool is_stopping;
    uint32_t unflushed; // producers whose acks did not all come
    uint32_t lane_count;
    uint32_t producer_count;
    struct producer *producers;
    struct lane lanes[];
};

static int make_lane(struct publishers *publishers, uint32_t index);
static int make_producer(struct lane *lane, struct producer *producer);
static void producer_deinit(const struct bench_driver *driver, struct producer *producer);
static void *lane_main(void *context);
static void run_free(struct lane *lane);
static void run_open(struct lane *lane);
static void run_closed(struct lane *lane);
static void run_lone(struct lane *lane);
static uint32_t send_some(struct lane *lane, struct producer *producer, uint32_t count,
                          const uint64_t *due_ns);
static void on_ack(void *context, int status, uint64_t opaque, uint32_t partition, uint64_t offset,
                   const char *error);

/* ---- set-up ---- */

static uint32_t lanes_wanted(const struct bench_options *options)
{
    if (options->closed_loop > 0)
        return options->producer_count; // each waits for itself
    return (uint32_t)min_u64(options->producer_count, options->thread_count);
}

struct publishers *publishers_new(struct driver_session *session, uint64_t rate)
{
    const struct bench_options *options = session->options;
    uint32_t lane_count = lanes_wanted(options);
    struct publishers *publishers =
        calloc(1, sizeof(*publishers) + lane_count * sizeof(struct lane));
    struct producer *producers = calloc(options->producer_count, sizeof(*producers));
    if (publishers == NULL || producers == NULL) {
        fprintf(stderr, "sluice-bench: out of memory\n");
        free(publishers);
        free(producers);
        return NULL;
    }
    *publishers = (struct publishers){
        .session = session,
        .driver = session->driver,
        .options = options,
        .rate = rate,
        .run = (uint32_t)random_seed_system(),
        .records_per_turn =
            options->own_request
                ? 1
                : max_u64(1, options->batch_bytes / (options->record_bytes + RECORD_OVERHEAD)),
        .producers = producers,
        .lane_count = lane_count,
    };
    for (uint32_t i = 0; i < lane_count; i++) {
        if (make_lane(publishers, i)) {
            publishers_free(publishers);
            return NULL;
        }
    }
    return publishers;
}

void publishers_free(struct publishers *publishers)
{
    for (uint32_t i = 0; i < publishers->producer_count; i++)
        producer_deinit(publishers->driver, &publishers->producers[i]);
    for (uint32_t i = 0; i < publishers->lane_count; i++)
        content_deinit(&publishers->lanes[i].content);
    free(publishers->producers);
    free(publishers);
}

/* Producers are dealt to the lanes one after the other: lane i has i, i + lanes, ... in one stretch of the array. */
static int make_lane(struct publishers *publishers, uint32_t index)
{
    const struct bench_options *options = publishers->options;
    struct lane *lane = &publishers->lanes[index];
    uint32_t share = options->producer_count / publishers->lane_count,
             more = options->producer_count % publishers->lane_count;
    lane->publishers = publishers;
    lane->index = index;
    lane->producers = &publishers->producers[publishers->producer_count];
    sem_init(&lane->room, 0, options->closed_loop);
    if (content_init(&lane->content, options->record_bytes, options->compressible)) {
        fprintf(stderr, "sluice-bench: out of memory\n");
        return -1;
    }
    uint32_t many = options->send_many > 1 ? options->send_many : BURST_MAX;
    lane->burst = (uint32_t)max_u64(1, min_u64(many, lane->content.slot_count / 2));
    bool each = options->closed_loop == 1 ||
                (publishers->rate > 0 && publishers->rate <= EVERY_RECORD_RATE);
    lane->sample_stride = options->sample_stride ? options->sample_stride
                          : each                 ? 1
                                                 : SAMPLE_STRIDE_FAST;
    for (uint32_t i = 0; i < share + (index < more); i++) {
        struct producer *producer = &publishers->producers[publishers->producer_count];
        producer->lane = lane;
        producer->index = (uint16_t)publishers->producer_count++;
        lane->producer_count++;
        if (make_producer(lane, producer))
            return -1;
    }
    return 0;
}

static int make_producer(struct lane *lane, struct producer *producer)
{
    struct publishers *publishers = lane->publishers;
    const struct bench_options *options = publishers->options;
    uint32_t partitions = publishers->session->partition_count;
    producer->partition = producer->index % partitions;
    producer->left_in_turn = publishers->records_per_turn;
    producer->sequences = calloc(partitions, sizeof(uint64_t));
    producer->next_offsets = calloc(partitions, sizeof(uint64_t));
    producer->latency_ns = calloc(options->repeat_count, sizeof(struct histogram));
    if (!producer->sequences || !producer->next_offsets || !producer->latency_ns) {
        fprintf(stderr, "sluice-bench: out of memory\n");
        return -1;
    }
    if (publishers->driver->producer_new(publishers->session, producer->index, on_ack, producer,
                                         &producer->driver))
        return driver_complain(publishers->session, "starting a producer");
    return 0;
}

static void producer_deinit(const struct bench_driver *driver, struct producer *producer)
{
    if (producer->driver)
        driver->producer_free(producer->driver);
    free(producer->sequences);
    free(producer->next_offsets);
    free(producer->latency_ns);
}

/* ---- start and stop ---- */

int publishers_start(struct publishers *publishers, const struct windows *windows)
{
    uint64_t begin_ns = now_ns();
    publishers->windows = *windows;
    for (uint32_t i = 0; i < publishers->lane_count; i++) {
        struct lane *lane = &publishers->lanes[i];
        if (publishers->rate > 0) {
            double share = (double)lane->producer_count / publishers->producer_count;
            schedule_init(&lane->schedule, begin_ns, (double)publishers->rate * share,
                          (double)i / publishers->lane_count, publishers->options->is_poisson,
                          publishers->run + i);
        }
        int error = pthread_create(&lane->thread, NULL, lane_main, lane);
        if (error) {
            fprintf(stderr, "sluice-bench: pthread_create: %s\n", strerror(error));
            publishers_stop(publishers);
            return -1;
        }
        lane->has_thread = true;
    }
    return 0;
}

void publishers_stop(struct publishers *publishers)
{
    atomic_store_explicit(&publishers->is_stopping, true, memory_order_relaxed);
    for (uint32_t i = 0; i < publishers->lane_count; i++) {
        struct lane *lane = &publishers->lanes[i];
        if (lane->has_thread)
            pthread_join(lane->thread, NULL);
        lane->has_thread = false;
    }
    for (uint32_t i = 0; i < publishers->producer_count; i++) {
        if (publishers->driver->producer_flush(publishers->producers[i].driver, FLUSH_MS))
            publishers->unflushed++;
    }
}

/* ---- figures ---- */

struct publish_totals publishers_totals(struct publishers *publishers)
{
    struct publish_totals totals = {0};
    for (uint32_t i = 0; i < publishers->lane_count; i++)
        totals.sent += counter_get(&publishers->lanes[i].sent);
    for (uint32_t i = 0; i < publishers->producer_count; i++) {
        totals.acked += counter_get(&publishers->producers[i].acked);
        totals.failed += counter_get(&publishers->producers[i].failed);
    }
    return totals;
}

void publishers_latency(struct publishers *publishers, uint32_t window,
                        struct histogram *latency_ns)
{
    for (uint32_t i = 0; i < publishers->producer_count; i++)
        histogram_merge(latency_ns, &publishers->producers[i].latency_ns[window]);
}

void publishers_slip(struct publishers *publishers, struct histogram *slip_ns)
{
    for (uint32_t i = 0; i < publishers->lane_count; i++)
        histogram_merge(slip_ns, &publishers->lanes[i].slip_ns);
}

uint64_t publishers_not_sent(const struct publishers *publishers)
{
    uint64_t not_sent = 0;
    for (uint32_t i = 0; i < publishers->lane_count; i++)
        not_sent += publishers->lanes[i].not_sent;
    return not_sent;
}

void publishers_check(struct publishers *publishers, struct report *report)
{
    if (publishers->session->error[0])
        anomaly(report, "a producer failed: %s", publishers->session->error);
    if (publishers->unflushed > 0)
        anomaly(report, "%u producers did not get all their acks", publishers->unflushed);
    for (uint32_t i = 0; i < publishers->producer_count; i++) {
        struct producer *producer = &publishers->producers[i];
        if (counter_get(&producer->failed) > 0)
            anomaly(report, "producer %u: %llu records failed, the first with: %s", i,
                    (unsigned long long)counter_get(&producer->failed), producer->first_failure);
        if (producer->backwards > 0)
            anomaly(report, "producer %u: %llu acks with an offset at or below an earlier one", i,
                    (unsigned long long)producer->backwards);
    }
}

/* ---- a lane's thread ---- */

/* A driver without threads of its own hears of the last acks only if somebody listens. */
static void flush_all(struct lane *lane)
{
    const struct bench_driver *driver = lane->publishers->driver;
    for (uint32_t i = 0; i < lane->producer_count && driver->producer_poll; i++)
        (void)driver->producer_flush(lane->producers[i].driver,
                                     FLUSH_MS); // publishers_stop() tells
}

static void *lane_main(void *context)
{
    struct lane *lane = context;
    uint32_t closed_loop = lane->publishers->options->closed_loop;
    place_exact_timers();
    if (lane->publishers->rate > 0)
        run_open(lane);
    else if (closed_loop == 1)
        run_lone(lane);
    else if (closed_loop > 1)
        run_closed(lane);
    else
        run_free(lane);
    flush_all(lane);
    return NULL;
}

/* In an open loop what was due in the windows is sent, even if a bit late; not for ever, when the rate is too high. */
static bool is_over(const struct lane *lane)
{
    const struct publishers *publishers = lane->publishers;
    if (lane->has_failed)
        return true;
    if (!atomic_load_explicit(&publishers->is_stopping, memory_order_relaxed))
        return false;
    return publishers->rate == 0 || now_ns() >= windows_end_ns(&publishers->windows) + LATE_NS_MAX;
}

static struct producer *next_producer(struct lane *lane)
{
    struct producer *producer = &lane->producers[lane->turn];
    lane->turn = lane->turn + 1 < lane->producer_count ? lane->turn + 1 : 0;
    return producer;
}

/* Lets every producer of the lane send and receive; waits for up to timeout_us in all. */
static void poll_all(struct lane *lane, uint32_t timeout_us)
{
    const struct bench_driver *driver = lane->publishers->driver;
    for (uint32_t i = 0; i < lane->producer_count && driver->producer_poll; i++) {
        if (driver->producer_poll(lane->producers[i].driver,
                                  lane->producer_count == 1 ? timeout_us : 0))
            lane->has_failed = true;
    }
    if (driver->producer_poll == NULL || lane->producer_count > 1)
        sleep_until_ns(now_ns() + timeout_us * NS_PER_US);
}

/* All records of a burst go to one partition: their numbers follow one another, so each has a slot of its own. */
static uint32_t burst_of(const struct producer *producer, uint32_t count)
{
    return producer->left_in_turn == 0 ? 1 : (uint32_t)min_u64(count, producer->left_in_turn);
}

static void run_free(struct lane *lane)
{
    while (!is_over(lane)) {
        struct producer *producer = next_producer(lane);
        send_some(lane, producer, burst_of(producer, lane->burst), NULL);
    }
}

/* Sends everything that is due, then sleeps until the next is. */
static void run_open(struct lane *lane)
{
    uint64_t due[BURST_MAX];
    uint32_t together = lane->producer_count == 1 ? (uint32_t)min_u64(lane->burst, BURST_MAX) : 1;
    const uint64_t end = windows_end_ns(&lane->publishers->windows);
    while (!is_over(lane) && schedule_due(&lane->schedule) < end) {
        uint64_t now = now_ns(), next = schedule_due(&lane->schedule);
        if (next > now) {
            poll_all(lane, (uint32_t)(min_u64(max_u64(next - now, PACE_NS_MIN), 10 * NS_PER_MS) /
                                      NS_PER_US));
            continue;
        }
        struct producer *producer = next_producer(lane);
        uint32_t count = 0, most = burst_of(producer, together);
        while (count < most && next <= now) {
            due[count++] = next;
            schedule_advance(&lane->schedule);
            next = schedule_due(&lane->schedule);
        }
        send_some(lane, producer, count, due);
    }
    lane->not_sent = schedule_due_before(&lane->schedule, end) -
                     schedule_due_before(&lane->schedule, lane->publishers->windows.begin_ns);
}

static bool wait_for_room(struct lane *lane)
{
    const struct bench_driver *driver = lane->publishers->driver;
    if (driver->producer_poll) {
        while (sem_trywait(&lane->room) != 0) {
            poll_all(lane, 1000);
            if (is_over(lane))
                return false;
        }
        return true;
    }
    for (;;) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += ROOM_WAIT_MS * (long)NS_PER_MS;
        if (until.tv_nsec >= (long)NS_PER_S) {
            until.tv_nsec -= (long)NS_PER_S;
            until.tv_sec++;
        }
        if (sem_timedwait(&lane->room, &until) == 0)
            return true;
        if (is_over(lane))
            return false;
    }
}

static void run_closed(struct lane *lane)
{
    while (!is_over(lane) && wait_for_room(lane))
        send_some(lane, &lane->producers[0], 1, NULL);
}

/* As a synchronous caller sees it: to the return of flush(), with the library's changes of thread in it. */
static void run_lone(struct lane *lane)
{
    const struct publishers *publishers = lane->publishers;
    struct producer *producer = &lane->producers[0];
    while (!is_over(lane)) {
        uint64_t begin = now_ns();
        if (send_some(lane, producer, 1, NULL) == 0)
            continue;
        if (publishers->driver->producer_flush(producer->driver, FLUSH_MS)) {
            lane->has_failed = true;
            return;
        }
        int window = window_of(&publishers->windows, begin);
        if (window >= 0)
            histogram_add(&producer->latency_ns[window], now_ns() - begin);
    }
}

/* The records go to one partition after the other, as many as fill a batch. */
static uint32_t next_partition(struct producer *producer)
{
    const struct publishers *publishers = producer->lane->publishers;
    if (producer->left_in_turn-- == 0) {
        producer->left_in_turn = publishers->records_per_turn - 1;
        producer->partition = producer->partition + 1 < publishers->session->partition_count
                                  ? producer->partition + 1
                                  : 0;
    }
    return producer->partition;
}

/* due_ns: when each was due; NULL: now. What is sampled carries its time through the driver. */
static struct driver_record next_record(struct lane *lane, struct producer *producer,
                                        const uint64_t *due_ns)
{
    const struct publishers *publishers = lane->publishers;
    uint32_t partition = next_partition(producer);
    uint64_t sequence = producer->sequences[partition]++, time = due_ns ? *due_ns : 0;
    bool is_sample = lane->until_sample-- == 0;
    if (is_sample) {
        lane->until_sample = lane->sample_stride - 1;
        uint64_t now = now_ns();
        if (time == 0)
            time = now;
        else if (window_of(&publishers->windows, time) >= 0)
            histogram_add(&lane->slip_ns, now - time);
    } else if (time == 0 && publishers->options->stamps_time) {
        time = now_ns();
    }
    struct stamp stamp = {.magic = STAMP_MAGIC,
                          .flags = lane->content.is_compressible ? STAMP_COMPRESSIBLE : 0,
                          .producer = le16_make(producer->index),
                          .run = le32_make(publishers->run),
                          .sequence = le64_make(sequence),
                          .due_ns = le64_make(time)};
    return (struct driver_record){.value = content_value(&lane->content, &stamp, sequence),
                                  .value_len = (uint32_t)publishers->options->record_bytes,
                                  .partition = partition,
                                  .opaque = is_sample ? time : 0};
}

/* Makes `count` records and hands them over until all are taken, or it is over. Returns how many were. */
static uint32_t send_some(struct lane *lane, struct producer *producer, uint32_t count,
                          const uint64_t *due_ns)
{
    struct driver_record records[SEND_MANY_MAX];
    uint32_t sent = 0;
    for (uint32_t i = 0; i < count; i++)
        records[i] = next_record(lane, producer, due_ns ? due_ns + i : NULL);
    while (sent < count) {
        int taken =
            lane->publishers->driver->producer_send(producer->driver, records + sent, count - sent);
        if (UNLIKELY(taken < 0)) {
            lane->has_failed = true;
            break;
        }
        sent += (uint32_t)taken;
        counter_add(&lane->sent, (uint64_t)taken);
        if (taken > 0)
            continue;
        if (is_over(lane))
            break;
        poll_all(lane, 100);
    }
    return sent;
}

/* ---- acks ---- */

static void on_ack(void *context, int status, uint64_t opaque, uint32_t partition, uint64_t offset,
                   const char *error)
{
    struct producer *producer = context;
    const struct publishers *publishers = producer->lane->publishers;
    uint32_t closed_loop = publishers->options->closed_loop;
    if (closed_loop > 1)
        sem_post(&producer->lane->room);
    if (UNLIKELY(status != 0)) {
        if (counter_get(&producer->failed) == 0)
            snprintf(producer->first_failure, sizeof(producer->first_failure), "%s",
                     error ? error : "no reason given");
        counter_add(&producer->failed, 1);
        return;
    }
    counter_add(&producer->acked, 1);
    if (LIKELY(offset != OFFSET_UNKNOWN)) {
        producer->backwards += offset < producer->next_offsets[partition];
        producer->next_offsets[partition] = offset + 1;
    }
    if (opaque == 0 || closed_loop == 1)
        return;
    int window = window_of(&publishers->windows, opaque);
    if (window >= 0)
        histogram_add(&producer->latency_ns[window], now_ns() - opaque);
}
