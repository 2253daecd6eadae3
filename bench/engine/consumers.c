/* A thread for each consumer: poll, check, count. */
#include "bench/engine/consumers.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/engine/checker.h"
#include "bench/engine/place.h"

#define MESSAGES_PER_POLL 1024
#define POLL_MS 100
#define LOOK_NS (5 * NS_PER_MS) // of the main thread, while it waits

struct consumer {
    struct consumers *consumers;
    uint32_t index;
    pthread_t thread;
    bool has_thread;

    /* ---- its thread ---- */
    struct driver_consumer *driver;
    struct checker checker;
    uint64_t *next_offsets; // by partition; UINT64_MAX: none seen
    uint64_t gaps, repeats;
    _Atomic bool has_failed; // also read by the main thread
    bool is_out_of_memory;
    counter records, bytes;
    counter done_ns;              // when it had its target; 0: not yet
    struct histogram *latency_ns; // [options->repeat_count]
};

struct consumers {
    struct driver_session *session;
    const struct bench_driver *driver;
    enum driver_start start;
    struct windows windows; // count 0: no latencies
    uint64_t target;
    bool is_checked;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t ready_count; // under lock: made, or failed to be
    bool has_started;     // under lock
    _Atomic bool is_stopping;

    uint32_t count;
    struct consumer all[];
};

static int prepare(struct consumer *consumer);
static void *consumer_main(void *context);
static int take(struct consumer *consumer, const struct driver_message *message, uint64_t now);

/* ---- set-up ---- */

struct consumers *consumers_new(struct driver_session *session, uint32_t count,
                                enum driver_start start)
{
    struct consumers *consumers = calloc(1, sizeof(*consumers) + count * sizeof(struct consumer));
    if (consumers == NULL) {
        fprintf(stderr, "sluice-bench: out of memory\n");
        return NULL;
    }
    *consumers =
        (struct consumers){.session = session,
                           .driver = session->driver,
                           .start = start,
                           .is_checked = !session->options->unchecked &&
                                         session->options->record_bytes >= STAMP_BYTES_MIN};
    pthread_mutex_init(&consumers->lock, NULL);
    pthread_cond_init(&consumers->changed, NULL);
    for (; consumers->count < count; consumers->count++) {
        struct consumer *consumer = &consumers->all[consumers->count];
        consumer->consumers = consumers;
        consumer->index = consumers->count;
        if (prepare(consumer) || pthread_create(&consumer->thread, NULL, consumer_main, consumer)) {
            fprintf(stderr, "sluice-bench: consumer %u: out of memory or threads\n",
                    consumer->index);
            consumers_free(consumers);
            return NULL;
        }
        consumer->has_thread = true;
    }
    pthread_mutex_lock(&consumers->lock);
    while (consumers->ready_count < count)
        pthread_cond_wait(&consumers->changed, &consumers->lock);
    pthread_mutex_unlock(&consumers->lock);
    for (uint32_t i = 0; i < count; i++) {
        if (!consumers->all[i].has_failed)
            continue;
        driver_complain(session, "starting a consumer");
        consumers_free(consumers);
        return NULL;
    }
    return consumers;
}

static int prepare(struct consumer *consumer)
{
    const struct consumers *consumers = consumer->consumers;
    const struct bench_options *options = consumers->session->options;
    uint32_t partitions = consumers->session->partition_count;
    consumer->next_offsets = malloc(partitions * sizeof(uint64_t));
    consumer->latency_ns = calloc(options->repeat_count, sizeof(struct histogram));
    if (consumer->next_offsets == NULL || consumer->latency_ns == NULL)
        return -1;
    for (uint32_t i = 0; i < partitions; i++)
        consumer->next_offsets[i] = UINT64_MAX;
    if (consumers->is_checked && checker_init(&consumer->checker, 4 * MIB))
        return -1;
    return 0;
}

void consumers_free(struct consumers *consumers)
{
    consumers_stop(consumers);
    for (uint32_t i = 0; i < consumers->count; i++) {
        struct consumer *consumer = &consumers->all[i];
        free(consumer->next_offsets);
        free(consumer->latency_ns);
        if (consumers->is_checked)
            checker_deinit(&consumer->checker);
    }
    pthread_mutex_destroy(&consumers->lock);
    pthread_cond_destroy(&consumers->changed);
    free(consumers);
}

static void begin(struct consumers *consumers)
{
    pthread_mutex_lock(&consumers->lock);
    consumers->has_started = true;
    pthread_cond_broadcast(&consumers->changed);
    pthread_mutex_unlock(&consumers->lock);
}

void consumers_start(struct consumers *consumers, const struct windows *windows, uint64_t target)
{
    if (windows)
        consumers->windows = *windows;
    consumers->target = target;
    begin(consumers);
}

uint64_t consumers_done_ns(struct consumers *consumers)
{
    uint64_t last = 0;
    for (uint32_t i = 0; i < consumers->count; i++) {
        uint64_t done = counter_get(&consumers->all[i].done_ns);
        if (done == 0)
            return 0;
        last = max_u64(last, done);
    }
    return last;
}

void consumers_stop(struct consumers *consumers)
{
    atomic_store_explicit(&consumers->is_stopping, true, memory_order_relaxed);
    begin(consumers);
    for (uint32_t i = 0; i < consumers->count; i++) {
        if (consumers->all[i].has_thread)
            pthread_join(consumers->all[i].thread, NULL);
        consumers->all[i].has_thread = false;
    }
}

/* ---- figures ---- */

struct consume_totals consumers_totals(struct consumers *consumers)
{
    struct consume_totals totals = {0};
    for (uint32_t i = 0; i < consumers->count; i++) {
        totals.records += counter_get(&consumers->all[i].records);
        totals.bytes += counter_get(&consumers->all[i].bytes);
    }
    return totals;
}

static bool have_all(struct consumers *consumers, uint64_t each)
{
    for (uint32_t i = 0; i < consumers->count; i++) {
        if (counter_get(&consumers->all[i].records) < each)
            return false;
    }
    return true;
}

/* Racy on purpose: a failure that is seen a moment later is seen. */
static bool has_one_failed(struct consumers *consumers)
{
    for (uint32_t i = 0; i < consumers->count; i++) {
        if (atomic_load_explicit(&consumers->all[i].has_failed, memory_order_relaxed))
            return true;
    }
    return false;
}

bool consumers_wait(struct consumers *consumers, uint64_t each, uint64_t timeout_ns)
{
    uint64_t seen = 0, heard = now_ns();
    while (!have_all(consumers, each)) {
        if (has_one_failed(consumers))
            return false;
        uint64_t now = now_ns(), records = consumers_totals(consumers).records;
        if (records != seen) {
            seen = records;
            heard = now;
        }
        if (now - heard > timeout_ns)
            return false;
        sleep_until_ns(now + LOOK_NS);
    }
    return true;
}

void consumers_latency(struct consumers *consumers, uint32_t window, struct histogram *latency_ns)
{
    for (uint32_t i = 0; i < consumers->count; i++)
        histogram_merge(latency_ns, &consumers->all[i].latency_ns[window]);
}

static void check_stamps(struct consumer *consumer, struct report *report)
{
    const struct checker *c = &consumer->checker;
    if (c->damaged > 0)
        anomaly(report,
                "consumer %u: %llu records are damaged, the first in partition %u at offset %llu: "
                "%s",
                consumer->index, (unsigned long long)c->damaged, c->first_damage_partition,
                (unsigned long long)c->first_damage_offset, c->first_damage);
    if (c->missing > 0)
        anomaly(report, "consumer %u: %llu records are missing", consumer->index,
                (unsigned long long)c->missing);
    if (c->late > 0)
        anomaly(report, "consumer %u: %llu records came out of order", consumer->index,
                (unsigned long long)c->late);
    if (c->duplicates > 0)
        anomaly(report, "consumer %u: %llu records came twice", consumer->index,
                (unsigned long long)c->duplicates);
}

void consumers_check(struct consumers *consumers, struct report *report)
{
    for (uint32_t i = 0; i < consumers->count; i++) {
        struct consumer *consumer = &consumers->all[i];
        if (consumer->has_failed)
            anomaly(report, "consumer %u failed: %s", i,
                    consumer->is_out_of_memory ? "out of memory" : consumers->session->error);
        if (consumer->gaps > 0)
            anomaly(report, "consumer %u: %llu offsets did not follow the one before", i,
                    (unsigned long long)consumer->gaps);
        if (consumer->repeats > 0)
            anomaly(report, "consumer %u: %llu offsets went back", i,
                    (unsigned long long)consumer->repeats);
        if (consumers->is_checked)
            check_stamps(consumer, report);
    }
}

/* ---- a consumer's thread ---- */

static void ready(struct consumer *consumer, bool has_failed)
{
    struct consumers *consumers = consumer->consumers;
    pthread_mutex_lock(&consumers->lock);
    consumer->has_failed = has_failed;
    consumers->ready_count++;
    pthread_cond_broadcast(&consumers->changed);
    while (!consumers->has_started)
        pthread_cond_wait(&consumers->changed, &consumers->lock);
    pthread_mutex_unlock(&consumers->lock);
}

static void *consumer_main(void *context)
{
    struct consumer *consumer = context;
    struct consumers *consumers = consumer->consumers;
    struct driver_message messages[MESSAGES_PER_POLL];
    int status = consumers->driver->consumer_new(consumers->session, consumer->index,
                                                 consumers->start, &consumer->driver);
    consumer->checker.must_begin_at_0 = consumers->start == DRIVER_FROM_END;
    ready(consumer, status != 0);
    while (!consumer->has_failed && counter_get(&consumer->done_ns) == 0 &&
           !atomic_load_explicit(&consumers->is_stopping, memory_order_relaxed)) {
        int got = consumers->driver->consumer_poll(consumer->driver, messages, MESSAGES_PER_POLL,
                                                   POLL_MS);
        uint64_t now = got > 0 ? now_ns() : 0;
        consumer->has_failed = got < 0;
        for (int i = 0; i < got && !consumer->has_failed; i++) {
            if (take(consumer, &messages[i], now))
                consumer->has_failed = consumer->is_out_of_memory = true;
        }
        if (counter_get(&consumer->records) >= consumers->target)
            counter_set(&consumer->done_ns, now_ns());
    }
    if (consumer->driver)
        consumers->driver->consumer_free(consumer->driver);
    consumer->driver = NULL;
    return NULL;
}

/* Without looking at the rest: for the latency. */
static void read_stamp(const struct consumers *consumers, const struct driver_message *message,
                       struct stamp *stamp)
{
    if (!consumers->session->options->stamps_time || message->value_len < sizeof(*stamp))
        return;
    memcpy(stamp, message->value, sizeof(*stamp));
    if (stamp->magic != STAMP_MAGIC)
        *stamp = (struct stamp){0};
}

static int take(struct consumer *consumer, const struct driver_message *message, uint64_t now)
{
    struct consumers *consumers = consumer->consumers;
    if (message->partition >= consumers->session->partition_count)
        return 0; // the topic has grown
    if (message->offset != OFFSET_UNKNOWN) {
        uint64_t *next = &consumer->next_offsets[message->partition];
        if (*next != UINT64_MAX && message->offset != *next) {
            consumer->gaps += message->offset > *next;
            consumer->repeats += message->offset < *next;
        }
        *next = message->offset + 1;
    }
    counter_add(&consumer->records, 1);
    counter_add(&consumer->bytes, message->value_len);
    struct stamp stamp = {0};
    if (!consumers->is_checked)
        read_stamp(consumers, message, &stamp);
    else if (checker_check(&consumer->checker, message->partition, message->offset, message->value,
                           message->value_len, &stamp))
        return -1;
    uint64_t due = le64_get(stamp.due_ns);
    int window = due > 0 ? window_of(&consumers->windows, due) : -1;
    if (window >= 0 && now > due)
        histogram_add(&consumer->latency_ns[window], now - due);
    return 0;
}
