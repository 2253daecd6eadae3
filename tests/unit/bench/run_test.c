/* The engine against a broker in memory that can do wrong: each wrong must become an anomaly, and a stall must show in every record that
 * it delayed. Nothing here depends on how fast the machine is: what a slow one delays only adds to what is waited for. */
#include "bench/engine/run.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/engine/place.h"

#define VALUE_BYTES 64
#define PARTITIONS 3
#define RECORDS_MAX 200000u

enum wrong { NOTHING, LOSES, REPEATS, DAMAGES, SWAPS, REFUSES, DIES, STALLS };

static struct {
    pthread_mutex_t lock;
    enum wrong wrong;
    uint64_t wrong_at; // the record that it happens to
    uint64_t begin_ns; // of the first send
    uint64_t stall_end_ns;
    uint64_t sent; // records that came
    uint64_t unacked, unacked_max;
    uint32_t count[PARTITIONS];
    uint8_t values[PARTITIONS][RECORDS_MAX / PARTITIONS][VALUE_BYTES];
} fake;

struct driver_producer {
    driver_ack_fn ack;
    void *context;
    struct driver_record waiting[64]; // without an ack
    uint32_t waiting_count;
};

struct driver_consumer {
    uint32_t next[PARTITIONS];
};

static void store(const struct driver_record *record)
{
    uint8_t(*values)[VALUE_BYTES] = fake.values[record->partition];
    uint32_t *count = &fake.count[record->partition];
    bool is_it = ++fake.sent == fake.wrong_at;
    if (is_it && fake.wrong == LOSES)
        return;
    memcpy(values[(*count)++], record->value, VALUE_BYTES);
    if (is_it && fake.wrong == REPEATS)
        memcpy(values[(*count)++], record->value, VALUE_BYTES);
    if (is_it && fake.wrong == DAMAGES)
        values[*count - 1][40] ^= 1;
    if (fake.sent >= fake.wrong_at && fake.wrong == SWAPS && *count > 1 && fake.unacked > 0) {
        uint8_t other[VALUE_BYTES]; // nobody has read the one before: it was the last, and unacked
        memcpy(other, values[*count - 2], VALUE_BYTES);
        memcpy(values[*count - 2], values[*count - 1], VALUE_BYTES);
        memcpy(values[*count - 1], other, VALUE_BYTES);
        fake.wrong = NOTHING; // once
    }
}

static bool is_full(void)
{
    uint32_t most = 0;
    for (uint32_t p = 0; p < PARTITIONS; p++)
        most = (uint32_t)max_u64(most, fake.count[p]);
    return most + 2 > RECORDS_MAX / PARTITIONS;
}

static int fake_producer_new(struct driver_session *session, uint32_t index, driver_ack_fn ack,
                             void *context, struct driver_producer **producer)
{
    *producer = calloc(1, sizeof(**producer));
    (*producer)->ack = ack;
    (*producer)->context = context;
    return 0;
}

static int fake_send(struct driver_producer *producer, const struct driver_record *records,
                     uint32_t count)
{
    uint32_t taken = 0;
    pthread_mutex_lock(&fake.lock);
    uint64_t now = now_ns();
    if (fake.wrong == STALLS && now < fake.stall_end_ns)
        count = 0;
    for (; taken < count && producer->waiting_count < ARRAY_COUNT(producer->waiting) && !is_full();
         taken++) {
        store(&records[taken]);
        producer->waiting[producer->waiting_count++] = records[taken];
        fake.unacked_max = max_u64(fake.unacked_max, ++fake.unacked);
    }
    bool dies = fake.wrong == DIES && fake.sent >= fake.wrong_at;
    pthread_mutex_unlock(&fake.lock);
    return dies ? DRIVER_FAILED : (int)taken;
}

static int fake_poll(struct driver_producer *producer, uint32_t timeout_us)
{
    for (uint32_t i = 0; i < producer->waiting_count; i++) {
        const struct driver_record *record = &producer->waiting[i];
        pthread_mutex_lock(&fake.lock);
        bool refuses = fake.wrong == REFUSES && fake.sent >= fake.wrong_at;
        if (refuses)
            fake.wrong = NOTHING; // once
        fake.unacked--;
        pthread_mutex_unlock(&fake.lock);
        producer->ack(producer->context, refuses ? -7 : 0, record->opaque, record->partition,
                      OFFSET_UNKNOWN, refuses ? "no room" : NULL);
    }
    if (producer->waiting_count == 0 && timeout_us > 0)
        usleep(timeout_us);
    producer->waiting_count = 0;
    return 0;
}

static int fake_flush(struct driver_producer *producer, uint32_t timeout_ms)
{
    return fake_poll(producer, 0);
}

static void fake_producer_free(struct driver_producer *producer)
{
    free(producer);
}

static int fake_consumer_new(struct driver_session *session, uint32_t index,
                             enum driver_start start, struct driver_consumer **consumer)
{
    *consumer = calloc(1, sizeof(**consumer));
    return 0;
}

static int fake_consumer_poll(struct driver_consumer *consumer, struct driver_message *messages,
                              uint32_t count, uint32_t timeout_ms)
{
    uint32_t got = 0;
    pthread_mutex_lock(&fake.lock);
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        for (; got < count && consumer->next[p] + 1 < fake.count[p]; got++)
            messages[got] = (struct driver_message){.value = fake.values[p][consumer->next[p]++],
                                                    .value_len = VALUE_BYTES,
                                                    .partition = p,
                                                    .offset = OFFSET_UNKNOWN};
        if (got < count && fake.unacked == 0 && consumer->next[p] < fake.count[p])
            messages[got++] = (struct driver_message){.value = fake.values[p][consumer->next[p]++],
                                                      .value_len = VALUE_BYTES,
                                                      .partition = p,
                                                      .offset = OFFSET_UNKNOWN};
    }
    pthread_mutex_unlock(&fake.lock);
    if (got == 0)
        usleep(1000);
    return (int)got;
}

static void fake_consumer_free(struct driver_consumer *consumer)
{
    free(consumer);
}

static const struct bench_driver driver_fake = {
    .name = "fake",
    .library = "none",
    .producer_new = fake_producer_new,
    .producer_send = fake_send,
    .producer_poll = fake_poll,
    .producer_flush = fake_flush,
    .producer_free = fake_producer_free,
    .consumer_new = fake_consumer_new,
    .consumer_poll = fake_consumer_poll,
    .consumer_free = fake_consumer_free,
};

static struct bench_options options;
static struct driver_session session;
static struct report report;
static struct run_result result;

static void set_up(void)
{
    memset(&fake, 0, sizeof(fake));
    pthread_mutex_init(&fake.lock, NULL);
    options = (struct bench_options){.command_name = "test",
                                     .driver = "fake",
                                     .record_bytes = VALUE_BYTES,
                                     .batch_bytes = KIB,
                                     .producer_count = 4,
                                     .thread_count = 2,
                                     .repeat_count = 1,
                                     .send_many = 1,
                                     .stamps_time = true,
                                     .duration_ns = 200 * NS_PER_MS};
    session = (struct driver_session){
        .driver = &driver_fake, .options = &options, .partition_count = PARTITIONS};
    report = (struct report){.options = &options};
}

TestSuite(bench_run, .init = set_up, .timeout = 60);

static void run(uint64_t rate, uint32_t consumers)
{
    struct run_plan plan = {.rate = rate,
                            .consumer_count = consumers,
                            .is_publishing = true,
                            .delivery_timeout_ns = NS_PER_S / 2};
    cr_assert_eq(run_load(&session, &plan, &report, &result), 0);
}

static void expect_anomaly(const char *part)
{
    for (uint32_t i = 0; i < report.anomalies.count; i++) {
        if (strstr(report.anomalies.texts[i], part))
            return;
    }
    cr_assert_fail("no anomaly says \"%s\"; the first of %u: %s", part, report.anomalies.count,
                   report.anomalies.texts[0]);
}

static void go_wrong(enum wrong wrong)
{
    fake.wrong = wrong;
    fake.wrong_at = 500;
    run(5000, 1);
    cr_assert_geq(fake.sent, 500);
}

Test(bench_run, what_goes_right_has_no_anomaly_and_everybody_reads_everything)
{
    run(5000, 3);
    cr_expect_eq(report.anomalies.count, 0, "%s", report.anomalies.texts[0]);
    cr_expect_gt(result.windows[0].ack.count, 0);
    cr_expect_gt(result.windows[0].delivery.count, 2 * result.windows[0].ack.count);
    cr_expect_gt(result.slice_count, 5);
    cr_expect_eq(result.not_sent, 0);
}

Test(bench_run, unchecked_measures_delivery_as_well)
{
    options.unchecked = true;
    go_wrong(DAMAGES);
    cr_expect_eq(report.anomalies.count, 0, "%s", report.anomalies.texts[0]);
    cr_expect_gt(result.windows[0].delivery.count, 0);
}

Test(bench_run, a_lost_record_is_missing)
{
    go_wrong(LOSES);
    expect_anomaly("1 records are missing");
    expect_anomaly("not every consumer got all");
}

Test(bench_run, a_record_that_is_stored_twice_is_told)
{
    go_wrong(REPEATS);
    expect_anomaly("1 records came twice");
}

Test(bench_run, a_flipped_bit_is_told)
{
    go_wrong(DAMAGES);
    expect_anomaly("its content is not what was published");
}

Test(bench_run, a_changed_order_is_told)
{
    options.producer_count = 1;
    fake.wrong = SWAPS;
    fake.wrong_at = 500;
    run(0, 1); // at the top rate, so that records come several at a time
    cr_assert_eq(fake.wrong, NOTHING);
    expect_anomaly("out of order");
}

Test(bench_run, a_record_that_fails_is_told_with_the_reason)
{
    go_wrong(REFUSES);
    expect_anomaly("1 records failed, the first with: no room");
}

Test(bench_run, a_producer_that_fails_is_told)
{
    fake.wrong = DIES;
    fake.wrong_at = 100;
    session.error[0] = '\0';
    driver_fail(&session, "the server went away");
    run(5000, 0);
    expect_anomaly("the server went away");
}

/* Of 600 ms the broker takes nothing for 300. An open loop must tell it of all that was due then, at least of the half of them that
 * were due in its first 150 ms; a closed loop, which stands still itself, tells it of four. */
static uint64_t slow_samples(uint64_t rate)
{
    options.duration_ns = 600 * NS_PER_MS;
    fake.wrong = STALLS;
    fake.stall_end_ns = now_ns() + 350 * NS_PER_MS;
    run(rate, 0);
    uint64_t slow = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        uint64_t ns = histogram_quantile(&result.ack_ns, (i + 0.5) / 1000);
        slow += ns > 150 * NS_PER_MS;
    }
    return slow * histogram_count(&result.ack_ns) / 1000;
}

Test(bench_run, a_stall_shows_in_every_record_that_was_due)
{
    uint64_t slow = slow_samples(2000);
    cr_assert_gt(slow, 2000 * 0.15 * 0.8, "%llu", (unsigned long long)slow);
}

Test(bench_run, a_closed_loop_has_never_more_than_its_window_without_an_ack)
{
    options.closed_loop = 7;
    run(0, 1);
    cr_expect_leq(fake.unacked_max, 4 * 7);
    cr_expect_gt(fake.unacked_max, 1);
    cr_expect_eq(report.anomalies.count, 0, "%s", report.anomalies.texts[0]);
}

Test(bench_run, a_rate_that_cannot_be_kept_is_told)
{
    fake.wrong = STALLS;
    fake.stall_end_ns =
        now_ns() + 10 * NS_PER_S; // longer than the run, and what it waits for the late
    options.sample_stride = 1;
    run(50000, 0);
    expect_anomaly("were due and never sent");
    cr_expect_gt(result.not_sent, 0);
}

/* Counting what was not sent takes no time, and what was due in the warm-up is none of it. */
Test(bench_run, a_rate_that_nothing_can_keep_ends_as_soon, .timeout = 10)
{
    fake.wrong = STALLS;
    fake.stall_end_ns = now_ns() + 10 * NS_PER_S;
    options.warm_up_ns = 100 * NS_PER_MS;
    run(1000000000, 0);
    expect_anomaly("were due and never sent");
    cr_expect_leq(result.not_sent, 200 * NS_PER_MS + 4);
    cr_expect_geq(result.not_sent, 190 * NS_PER_MS);
}

Test(bench_run, repeats_are_windows_of_one_run)
{
    options.repeat_count = 3;
    options.duration_ns = 50 * NS_PER_MS;
    run(5000, 1);
    cr_assert_eq(result.window_count, 3);
    uint64_t samples = 0, acked = 0;
    for (int i = 0; i < 3; i++) {
        samples += result.windows[i].ack.count;
        acked += result.windows[i].acked;
    }
    cr_expect_eq(samples, histogram_count(&result.ack_ns));
    cr_expect_gt(acked, 0);
    cr_expect_eq(report.anomalies.count, 0, "%s", report.anomalies.texts[0]);
}

Test(bench_run, an_own_request_is_a_batch_for_each_partition_in_turn)
{
    options.own_request = true;
    options.producer_count = 1;
    run(5000, 1);
    cr_expect_eq(report.anomalies.count, 0, "%s", report.anomalies.texts[0]);
    for (int p = 1; p < PARTITIONS; p++)
        cr_expect_leq(abs((int)fake.count[p] - (int)fake.count[0]), 1);
}
