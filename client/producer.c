/* The producer's public functions.
 *
 * The happy path of a send: find the topic by name, choose the partition, append to its lane, and
 * tell the I/O thread if it doesn't know yet that the lane has something. No allocation, no system
 * call, one short lock.
 *
 * It can fail when an argument is not allowed, when the topic is unknown, and when the memory is
 * used up: then it returns FULL, or with send_waits sleeps until acks have given memory back. */
#include <stdlib.h>

#include "base/status.h"
#include "client/inflight.h"
#include "client/producer_private.h"

#define HEADERS_ON_STACK 16u

static int read_options(struct sluice_producer *producer,
                        const struct sluice_producer_options *options);
static int check_range(const char *name, uint64_t value, uint64_t min, uint64_t max);
static void release(struct sluice_producer *producer);
static int check_record(struct sluice_producer *producer, const struct sluice_record *record);
static int send_record(struct sluice_producer *producer, const struct sluice_record *record,
                       const struct record_header *headers);
static int send_with_headers(struct sluice_producer *producer, const struct sluice_record *record);
static struct lane *choose_lane(struct sluice_producer *producer, struct topic *topic,
                                const struct sluice_record *record);
static int append_waiting(struct lane *lane, const struct record *record, void *opaque);
static int append_once(struct lane *lane, const struct record *record, void *opaque);
static bool wait_for_progress(struct sluice_producer *producer, uint64_t seen,
                              uint64_t deadline_ns);
static uint64_t progress_seen(struct sluice_producer *producer);
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
    if (status == SLUICE_OK && blocks_init(&producer->blocks, producer->buffer_bytes) < 0)
        status = SLUICE_E_NO_MEMORY;
    if (status != SLUICE_OK) {
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
    producer->delayed_until_ns = UINT64_MAX;
    producer->producer_id = PRODUCER_NONE;
    producer->identity = producer->idempotent ? IDENTITY_NONE : IDENTITY_NOT_WANTED;
    client_command(client, COMMAND_PRODUCER_ADD, producer);
    *producer_out = producer;
    return SLUICE_OK;
}

int sluice_producer_send(struct sluice_producer *producer, const struct sluice_record *record)
{
    int status = check_record(producer, record);
    if (status != SLUICE_OK)
        return status;
    if (record->header_count > 0)
        return send_with_headers(producer, record);
    return send_record(producer, record, NULL);
}

int sluice_producer_flush(struct sluice_producer *producer, uint32_t timeout_ms)
{
    if (client_is_io_thread(producer->client))
        return SLUICE_E_INVALID;
    uint64_t deadline_ns = client_deadline(producer->client, timeout_ms);
    atomic_fetch_add(&producer->flushing, 1);
    client_command(producer->client, COMMAND_PRODUCER_HURRY, producer);
    bool in_time = true;
    for (uint32_t i = 0; i < TOPIC_BUCKET_COUNT && in_time; i++) {
        struct topic *topic = atomic_load_explicit(&producer->buckets[i], memory_order_acquire);
        for (; topic && in_time; topic = topic->next) {
            struct lanes *lanes = atomic_load_explicit(&topic->lanes, memory_order_acquire);
            for (uint32_t p = 0; p < lanes->count && in_time; p++)
                in_time = wait_for_lane(lanes->lane[p], lane_accepted(lanes->lane[p]), deadline_ns);
        }
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
        uint64_t seen = progress_seen(producer);
        int count = reports_poll(producer, max);
        if (count > 0 || !in_time)
            return count;
        in_time = wait_for_progress(producer, seen, deadline_ns);
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
    producer->idempotent = !options->not_idempotent;
    producer->compression = options->compression;
    producer->opaques = options->on_report != NULL;
    producer->on_report = options->on_report;
    producer->context = options->context;
    producer->send_waits = options->send_waits;
    producer->report_poll = options->report_poll && options->on_report;
    producer->batch_bytes = options->batch_bytes ? options->batch_bytes : 256 * KIB;
    producer->batch_records = options->batch_records ? options->batch_records : UINT32_MAX;
    producer->linger_ns = options->linger_us * NS_PER_US;
    producer->window = options->batches_in_flight ? options->batches_in_flight : 5;
    producer->buffer_bytes = options->buffer_bytes ? options->buffer_bytes : 32 * MIB;
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

static int check_range(const char *name, uint64_t value, uint64_t min, uint64_t max)
{
    if (value >= min && value <= max)
        return SLUICE_OK;
    error_set("%s: %lu, allowed %lu..%lu", name, value, min, max);
    return SLUICE_E_INVALID;
}

static void release(struct sluice_producer *producer)
{
    topics_free(producer);
    blocks_deinit(&producer->blocks);
    for (uint32_t i = 0; i < ARRAY_COUNT(producer->scratch); i++)
        free(atomic_load(&producer->scratch[i]));
    pthread_cond_destroy(&producer->progress);
    pthread_mutex_destroy(&producer->wait_mutex);
    pthread_mutex_destroy(&producer->topics_mutex);
    free(producer);
}

/* ---- sending ---- */

static int check_record(struct sluice_producer *producer, const struct sluice_record *record)
{
    int fatal = atomic_load_explicit(&producer->fatal, memory_order_relaxed);
    if (UNLIKELY(fatal != SLUICE_OK))
        return fatal;
    if (UNLIKELY(!record->topic || (record->key_len > 0 && !record->key) ||
                 (record->value_len > 0 && !record->value) || record->timestamp_ms < 0 ||
                 (record->header_count > 0 && !record->headers))) {
        error_set("topic is missing, a length without its pointer, or a negative timestamp");
        return SLUICE_E_INVALID;
    }
    uint32_t limit =
        atomic_load_explicit(&producer->client->record_bytes_max, memory_order_relaxed);
    uint64_t bytes_max = limit ? limit : INT32_MAX;
    if (UNLIKELY(record->key_len > bytes_max || record->value_len > bytes_max ||
                 record->key_len + record->value_len > bytes_max)) {
        error_set("the record has %zu bytes, allowed up to %lu",
                  record->key_len + record->value_len, bytes_max);
        return SLUICE_E_TOO_LARGE;
    }
    return SLUICE_OK;
}

static int send_with_headers(struct sluice_producer *producer, const struct sluice_record *record)
{
    struct record_header on_stack[HEADERS_ON_STACK];
    struct record_header *headers = on_stack;
    uint32_t count = record->header_count;
    if (count > HEADERS_ON_STACK)
        headers = malloc(count * sizeof(*headers));
    if (!headers)
        return SLUICE_E_NO_MEMORY;
    int status = SLUICE_OK;
    uint64_t bytes = record->key_len + record->value_len;
    for (uint32_t i = 0; i < count && status == SLUICE_OK; i++) {
        const struct sluice_header *header = &record->headers[i];
        size_t key_len = header->key ? strlen(header->key) : 0;
        bytes += key_len + header->value_len;
        if (!header->key || (header->value_len > 0 && !header->value))
            status = SLUICE_E_INVALID;
        else if (key_len > INT32_MAX || header->value_len > INT32_MAX || bytes > INT32_MAX)
            status = SLUICE_E_TOO_LARGE;
        else if (!slice_is_utf8((struct slice){(const uint8_t *)header->key, (uint32_t)key_len}))
            status = SLUICE_E_INVALID;
        headers[i] = (struct record_header){
            .key = {(const uint8_t *)header->key, (uint32_t)key_len},
            .value = {header->value, (uint32_t)header->value_len},
        };
    }
    uint32_t limit =
        atomic_load_explicit(&producer->client->record_bytes_max, memory_order_relaxed);
    if (status == SLUICE_OK && limit > 0 && bytes > limit)
        status = SLUICE_E_TOO_LARGE;
    if (status == SLUICE_OK)
        status = send_record(producer, record, headers);
    else
        error_set(
            "a header without key or value pointer, with a key that isn't UTF-8, or too large");
    if (headers != on_stack)
        free(headers);
    return status;
}

static int send_record(struct sluice_producer *producer, const struct sluice_record *record,
                       const struct record_header *headers)
{
    struct topic *topic;
    int status = topics_find(producer, record->topic, record->partition, &topic);
    if (status != SLUICE_OK)
        return status;
    struct lane *lane = choose_lane(producer, topic, record);
    if (!lane) {
        error_set("partition %u, allowed 0..%u", record->partition,
                  atomic_load(&topic->lanes)->count - 1);
        return error_from_broker(PE_UNKNOWN_PARTITION);
    }
    int64_t now_ms =
        record->timestamp_ms ? record->timestamp_ms : (int64_t)client_wall_ms(producer->client);
    struct record r = {
        .timestamp_ms = now_ms,
        .key = {record->key, (uint32_t)record->key_len},
        .value = {record->value, (uint32_t)record->value_len},
        .headers = headers,
        .header_count = record->header_count,
    };
    status = append_once(lane, &r, record->opaque);
    if (UNLIKELY(status == SLUICE_E_FULL && producer->send_waits &&
                 !client_is_io_thread(producer->client)))
        status = append_waiting(lane, &r, record->opaque);
    return status;
}

static struct lane *choose_lane(struct sluice_producer *producer, struct topic *topic,
                                const struct sluice_record *record)
{
    struct lanes *lanes = atomic_load_explicit(&topic->lanes, memory_order_acquire);
    uint32_t partition = record->partition;
    if (partition == SLUICE_PARTITION_ANY) {
        struct slice key = {record->key, (uint32_t)record->key_len};
        partition = key.bytes ? partitioner_by_key(key, lanes->count)
                              : partitioner_sticky(topic, lanes->count);
    }
    return partition < lanes->count ? lanes->lane[partition] : NULL;
}

static int append_once(struct lane *lane, const struct record *record, void *opaque)
{
    bool signal;
    int status = lane_append(lane, record, opaque, &signal);
    if (signal)
        client_command(lane->producer->client, COMMAND_LANE_READY, lane);
    if (UNLIKELY(status == SLUICE_E_FULL) && !atomic_exchange(&lane->producer->pressed, true))
        client_command(lane->producer->client, COMMAND_PRODUCER_HURRY, lane->producer);
    return status;
}

static int append_waiting(struct lane *lane, const struct record *record, void *opaque)
{
    struct sluice_producer *producer = lane->producer;
    uint64_t deadline_ns = clock_mono_ns(producer->client->clock) + producer->delivery_timeout_ns;
    bool in_time = true;
    int status = SLUICE_E_FULL;
    while (status == SLUICE_E_FULL && in_time) {
        atomic_fetch_add(&producer->waiting, 1);
        uint64_t seen = progress_seen(producer);
        status = append_once(lane, record, opaque);
        if (status == SLUICE_E_FULL)
            in_time = wait_for_progress(producer, seen, deadline_ns);
        atomic_fetch_sub(&producer->waiting, 1);
    }
    return in_time ? status : SLUICE_E_TIMED_OUT;
}

/* ---- waiting ---- */

static uint64_t progress_seen(struct sluice_producer *producer)
{
    pthread_mutex_lock(&producer->wait_mutex);
    uint64_t seen = producer->progress_count;
    pthread_mutex_unlock(&producer->wait_mutex);
    return seen;
}

/* Until progress was made since `seen`. False: the deadline has passed. */
static bool wait_for_progress(struct sluice_producer *producer, uint64_t seen, uint64_t deadline_ns)
{
    bool in_time = true;
    pthread_mutex_lock(&producer->wait_mutex);
    while (producer->progress_count == seen && in_time)
        in_time = client_cond_wait(&producer->progress, &producer->wait_mutex, deadline_ns);
    pthread_mutex_unlock(&producer->wait_mutex);
    return in_time;
}

static bool wait_for_lane(struct lane *lane, uint64_t target, uint64_t deadline_ns)
{
    struct sluice_producer *producer = lane->producer;
    bool in_time = true;
    atomic_fetch_add(&producer->waiting, 1);
    atomic_fetch_add(&producer->waiting_reports, 1);
    for (;;) {
        uint64_t seen = progress_seen(producer);
        if (producer->report_poll)
            reports_poll(producer, INT32_MAX);
        /* A1: what the reports did is seen; pairs with R1 in reports.c. */
        if (atomic_load_explicit(&lane->reported, memory_order_acquire) >= target || !in_time)
            break;
        in_time = wait_for_progress(producer, seen, deadline_ns);
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
    if (connection_is_up(&producer->client->connection))
        inflight_connected(producer);
}

void producer_remove(struct sluice_producer *producer)
{
    producer->removing = true;
    topics_each_lane(producer, close_lane, NULL);
    atomic_store(&producer->fatal, SLUICE_E_CLOSED);
    identity_cancel(producer);
    client_producers_at(producer->client, 0);
}

uint64_t producer_turn(struct sluice_producer *producer)
{
    if (LIKELY(atomic_load(&producer->fatal) == SLUICE_OK))
        return inflight_turn(producer);
    inflight_fail_all(producer);
    reports_run(producer->client);
    if (!producer->removing || !list_is_empty(&producer->active))
        return UINT64_MAX; // a batch is being sent: the end of that brings the next turn
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
