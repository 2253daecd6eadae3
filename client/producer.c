/* The producer from its making to its end: options, flushing, polling for reports, freeing. Sending
 * is in send.c, what becomes of batches in inflight.c and answers.c.
 *
 * Flushing walks the lanes and waits for each to have reported what it had accepted; so records
 * that other threads send meanwhile don't hold it up. Freeing hands the producer to the I/O thread,
 * which fails what is pending, waits for a send that is in the middle of a batch, and lets go. */
#include <stdlib.h>

#include "base/status.h"
#include "client/inflight.h"
#include "client/producer_private.h"

#define REMOVE_WAIT_NS (1 * NS_PER_S) // for a send in the middle of a batch

/* Nobody sees a staged record before the commit, which ends all lingering: so batches may as well be full. The broker
 * takes 16,384 of them in a transaction and shard. */
#define TXN_LINGER_US 100000u

static int read_options(struct sluice_producer *producer,
                        const struct sluice_producer_options *options);
static uint64_t default_buffer(uint32_t batch_bytes);
static int check_range(const char *name, uint64_t value, uint64_t min, uint64_t max);
static void release(struct sluice_producer *producer);
static bool wait_for_lane(struct lane *lane, uint64_t target, uint64_t deadline_ns);
static void add_pending(struct lane *lane, void *sum);
static void close_lane(struct lane *lane, void *none);

int sluice_producer_new(struct sluice_client *client, const struct sluice_producer_options *options,
                        struct sluice_producer **producer_out)
{
    if (!client || !options || !producer_out || options->size < sizeof(size_t))
        return SLUICE_E_INVALID;
    struct sluice_producer_options copy = {0};
    memcpy(&copy, options, options->size < sizeof(copy) ? options->size : sizeof(copy));
    struct sluice_producer *producer =
        aligned_alloc(CACHE_LINE, align_up(sizeof(*producer), CACHE_LINE));
    if (!producer)
        return SLUICE_E_NO_MEMORY;
    memset(producer, 0, sizeof(*producer));
    producer->client = client;
    int status = read_options(producer, &copy);
    if (status == SLUICE_OK && copy.transactional_id)
        status = txn_new(producer, &copy);
    if (status == SLUICE_OK && blocks_init(&producer->blocks, producer->buffer_bytes) < 0)
        status = SLUICE_E_NO_MEMORY;
    if (status != SLUICE_OK) {
        txn_free(producer->txn);
        free(producer);
        return status;
    }
    pthread_mutex_init(&producer->topics_mutex, NULL);
    pthread_mutex_init(&producer->wait_mutex, NULL);
    client_cond_init(&producer->progress);
    list_init(&producer->done);
    list_init(&producer->link);
    list_init(&producer->ready_link);
    list_init(&producer->progress_link);
    list_init(&producer->active);
    list_init(&producer->ready);
    list_init(&producer->delayed);
    list_init(&producer->identity_call.link);
    list_init(&producer->refresh_call.link);
    producer->delayed_until_ns = UINT64_MAX;
    producer->producer_id = PRODUCER_NONE;
    producer->identity = producer->idempotent ? IDENTITY_NONE : IDENTITY_NOT_WANTED;
    client_command(client, COMMAND_PRODUCER_ADD, producer);
    *producer_out = producer;
    return SLUICE_OK;
}

int sluice_producer_flush(struct sluice_producer *producer, uint32_t timeout_ms)
{
    if (client_is_io_thread(producer->client))
        return SLUICE_E_INVALID;
    uint64_t deadline_ns = client_deadline(producer->client, timeout_ms);
    atomic_fetch_add(&producer->flushing, 1);
    client_command(producer->client, COMMAND_PRODUCER_HURRY, producer);
    bool in_time = true;
    for (struct topic *topic = topics_newest(producer); topic && in_time; topic = topic->older) {
        struct lanes *lanes = atomic_load_explicit(&topic->lanes, memory_order_acquire);
        for (uint32_t p = 0; p < lanes->count && in_time; p++)
            in_time = wait_for_lane(lanes->lane[p], lane_accepted(lanes->lane[p]), deadline_ns);
    }
    atomic_fetch_sub(&producer->flushing, 1);
    return in_time ? SLUICE_OK : SLUICE_E_TIMED_OUT;
}

int sluice_producer_poll(struct sluice_producer *producer, int max, uint32_t timeout_ms)
{
    if (!producer->report_poll || max <= 0)
        return 0;
    uint64_t deadline_ns = client_deadline(producer->client, timeout_ms);
    bool in_time = timeout_ms > 0;
    for (;;) {
        uint64_t seen = producer_progress(producer);
        int count = reports_poll(producer, max);
        if (count > 0 || !in_time)
            return count;
        in_time = producer_wait_progress(producer, seen, deadline_ns);
    }
}

uint64_t sluice_producer_pending(struct sluice_producer *producer)
{
    uint64_t sum = 0;
    topics_each_lane(producer, add_pending, &sum);
    return sum;
}

void sluice_producer_free(struct sluice_producer *producer)
{
    if (!producer)
        return;
    ASSERT(!client_is_io_thread(producer->client));
    if (producer->txn)
        txn_abandon(producer);
    client_command(producer->client, COMMAND_PRODUCER_REMOVE, producer);
    pthread_mutex_lock(&producer->wait_mutex);
    while (!producer->removed)
        client_cond_wait(&producer->progress, &producer->wait_mutex, UINT64_MAX);
    pthread_mutex_unlock(&producer->wait_mutex);
    while (reports_poll(producer, INT32_MAX) > 0)
        continue;
    release(producer);
}

/* ---- set-up ---- */

static int read_options(struct sluice_producer *producer,
                        const struct sluice_producer_options *options)
{
    if (options->compression != SLUICE_COMPRESSION_NONE &&
        options->compression != SLUICE_COMPRESSION_LZ4) {
        error_set("compression: %d is not known", (int)options->compression);
        return SLUICE_E_UNSUPPORTED;
    }
    producer->idempotent = !options->not_idempotent || options->transactional_id;
    producer->compression = options->compression;
    producer->opaques = options->on_report != NULL;
    producer->on_report = options->on_report;
    producer->context = options->context;
    producer->send_waits = options->send_waits;
    producer->report_poll = options->report_poll && options->on_report;
    producer->batch_bytes = options->batch_bytes ? options->batch_bytes : 256 * KIB;
    producer->batch_records = options->batch_records ? options->batch_records : UINT32_MAX;
    uint32_t linger_us = options->linger_us;
    if (options->transactional_id && linger_us == 0)
        linger_us = TXN_LINGER_US;
    producer->linger_ns = linger_us * NS_PER_US;
    producer->window = options->batches_in_flight ? options->batches_in_flight : 5;
    producer->buffer_bytes =
        options->buffer_bytes ? options->buffer_bytes : default_buffer(producer->batch_bytes);
    uint32_t timeout_ms = options->delivery_timeout_ms ? options->delivery_timeout_ms : 120000;
    producer->delivery_timeout_ns = timeout_ms * NS_PER_MS;
    uint32_t backoff_ms = options->retry_backoff_ms ? options->retry_backoff_ms : 50;
    producer->backoff_ns = backoff_ms * NS_PER_MS;

    int status = check_range("batch_bytes", producer->batch_bytes, 1 * KIB, 4 * MIB);
    if (status == SLUICE_OK)
        status =
            check_range("batches_in_flight", producer->window, 1, producer->idempotent ? 5 : 64);
    if (status == SLUICE_OK)
        status = check_range("buffer_bytes", producer->buffer_bytes, 2 * producer->batch_bytes,
                             64 * GIB);
    if (status == SLUICE_OK)
        status = check_range("retry_backoff_ms", backoff_ms, 1, 60000);
    return status;
}

/* A send that outruns the broker fills any buffer: a larger one adds waiting, and memory that is in no cache when it is
 * written and sent (docs/decisions/047). This much keeps a disk busy. */
static uint64_t default_buffer(uint32_t batch_bytes)
{
    return max_u64(8 * MIB, 4 * (uint64_t)batch_bytes);
}

static int check_range(const char *name, uint64_t value, uint64_t min, uint64_t max)
{
    if (value >= min && value <= max)
        return SLUICE_OK;
    error_set("%s: %lu, allowed %lu..%lu", name, value, min, max);
    return SLUICE_E_INVALID;
}

static void release(struct sluice_producer *producer)
{
    topics_forget_all(producer);
    txn_free(producer->txn);
    blocks_deinit(&producer->blocks);
    for (uint32_t i = 0; i < ARRAY_COUNT(producer->scratch); i++)
        free(atomic_load(&producer->scratch[i]));
    pthread_cond_destroy(&producer->progress);
    pthread_mutex_destroy(&producer->wait_mutex);
    pthread_mutex_destroy(&producer->topics_mutex);
    free(producer);
}

/* ---- waiting ---- */

uint64_t producer_progress(struct sluice_producer *producer)
{
    pthread_mutex_lock(&producer->wait_mutex);
    uint64_t seen = producer->progress_count;
    pthread_mutex_unlock(&producer->wait_mutex);
    return seen;
}

bool producer_wait_progress(struct sluice_producer *producer, uint64_t seen, uint64_t deadline_ns)
{
    bool in_time = true;
    pthread_mutex_lock(&producer->wait_mutex);
    while (producer->progress_count == seen && in_time)
        in_time = client_cond_wait(&producer->progress, &producer->wait_mutex, deadline_ns);
    pthread_mutex_unlock(&producer->wait_mutex);
    return in_time;
}

void producer_tell_progress(struct sluice_producer *producer)
{
    pthread_mutex_lock(&producer->wait_mutex);
    producer->progress_count++;
    pthread_cond_broadcast(&producer->progress);
    pthread_mutex_unlock(&producer->wait_mutex);
}

/* ---- what sends are told ---- */

/* Whoever makes the producer fatal does so before it looks at the gate, and whoever opens the gate
 * looks at `fatal` afterwards: one of the two sees the other. */
void producer_set_gate(struct sluice_producer *producer, int status)
{
    atomic_store(&producer->gate, status);
    int fatal = atomic_load(&producer->fatal);
    if (fatal != SLUICE_OK)
        atomic_store(&producer->gate, fatal);
}

void producer_set_fatal(struct sluice_producer *producer, int status)
{
    int none = SLUICE_OK;
    atomic_compare_exchange_strong(&producer->fatal, &none, status);
    producer_set_gate(producer, SLUICE_OK);
}

static bool wait_for_lane(struct lane *lane, uint64_t target, uint64_t deadline_ns)
{
    struct sluice_producer *producer = lane->producer;
    bool in_time = true;
    /* A1, as below: most lanes of a large topic have nothing to wait for. */
    if (atomic_load_explicit(&lane->reported, memory_order_acquire) >= target)
        return true;
    atomic_fetch_add(&producer->waiting, 1);
    atomic_fetch_add(&producer->waiting_reports, 1);
    for (;;) {
        uint64_t seen = producer_progress(producer);
        if (producer->report_poll)
            reports_poll(producer, INT32_MAX);
        /* A1: what the reports did is seen; pairs with R1 in reports.c. */
        if (atomic_load_explicit(&lane->reported, memory_order_acquire) >= target || !in_time)
            break;
        in_time = producer_wait_progress(producer, seen, deadline_ns);
    }
    bool reported = atomic_load_explicit(&lane->reported, memory_order_acquire) >= target;
    atomic_fetch_sub(&producer->waiting_reports, 1);
    atomic_fetch_sub(&producer->waiting, 1);
    return reported;
}

static void add_pending(struct lane *lane, void *sum)
{
    uint64_t reported = atomic_load_explicit(&lane->reported, memory_order_acquire);
    *(uint64_t *)sum += lane_accepted(lane) - reported;
}

/* ---- I/O thread ---- */

void producer_add(struct sluice_producer *producer)
{
    list_push_back(&producer->client->producers, &producer->link);
    producer->refresh_at_ns = producer->client->now_ns + producer->client->refresh_interval_ns;
    client_producers_at(producer->client, producer->refresh_at_ns);
    if (connection_is_up(&producer->client->connection))
        inflight_connected(producer);
}

void producer_remove(struct sluice_producer *producer)
{
    producer->removing = true;
    producer->removing_until_ns = producer->client->now_ns + REMOVE_WAIT_NS;
    topics_each_lane(producer, close_lane, NULL);
    atomic_store(&producer->fatal, SLUICE_E_CLOSED);
    producer_set_gate(producer, SLUICE_E_CLOSED);
    identity_cancel(producer);
    topics_cancel(producer);
    client_producers_at(producer->client, 0);
}

uint64_t producer_turn(struct sluice_producer *producer)
{
    if (producer->txn)
        txn_turn(producer);
    if (LIKELY(atomic_load(&producer->fatal) == SLUICE_OK))
        return min_u64(inflight_turn(producer), topics_turn(producer));
    struct sluice_client *client = producer->client;
    inflight_fail_all(producer);
    reports_run(client);
    if (!producer->removing)
        return UINT64_MAX;
    if (!list_is_empty(&producer->active)) { // a batch is being sent; its end brings the next turn
        if (client->now_ns >= producer->removing_until_ns)
            connection_close(client, "a batch of a freed producer can't be sent to its end");
        return max_u64(producer->removing_until_ns, client->now_ns + 1);
    }
    list_remove(&producer->link);
    list_remove(&producer->ready_link);
    list_remove(&producer->progress_link);
    pthread_mutex_lock(&producer->wait_mutex);
    producer->removed = true;
    pthread_cond_broadcast(&producer->progress);
    pthread_mutex_unlock(&producer->wait_mutex);
    return UINT64_MAX;
}

static void close_lane(struct lane *lane, void *none)
{
    (void)none;
    spinlock_take(&lane->lock);
    lane->closed = true;
    spinlock_release(&lane->lock);
}
