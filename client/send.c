/* Taking records from the application.
 *
 * The happy path of a send: find the topic by name, choose the partition, append to its lane, and
 * tell the I/O thread if it doesn't know yet that the lane has something. No allocation, no system
 * call, one short lock; for several records at once the first and the last of these are done once
 * for each run of records that go to the same lane.
 *
 * A send fails when an argument is not allowed, when the topic is unknown, and when the memory is
 * used up: then it returns FULL, or with send_waits sleeps until acks have given memory back. */
#include <stdlib.h>

#include "base/status.h"
#include "client/producer_private.h"

#define HEADERS_ON_STACK 16u
#define RUN_RECORDS_MAX 64u // taken under one lock: some microseconds

static int send_run(struct sluice_producer *producer, const struct sluice_record *records,
                    uint32_t count, uint32_t *taken);
static int send_with_headers(struct sluice_producer *producer, const struct sluice_record *record,
                             uint32_t *taken);
static int copy_headers(const struct sluice_record *record, struct record_header *headers,
                        uint64_t *bytes);
static inline int check_record(struct sluice_producer *producer,
                               const struct sluice_record *record);
static int too_large(uint64_t bytes, uint64_t bytes_max);
static inline uint64_t record_bytes_max(struct sluice_producer *producer);
static inline struct lane *choose_lane(struct topic *topic, const struct sluice_record *record);
static inline int find_lane(struct sluice_producer *producer, const struct sluice_record *record,
                            struct lane **lane);
static int find_lane_slowly(struct sluice_producer *producer, const struct sluice_record *record,
                            struct lane **lane);
static uint32_t collect_run(struct lane *lane, const struct sluice_record *records, uint32_t count,
                            struct lane_record *run);
static inline void convert(struct sluice_producer *producer, const struct sluice_record *record,
                           const struct record_header *headers, struct lane_record *converted);
static inline int append(struct lane *lane, const struct lane_record *records, uint32_t count,
                         uint32_t *taken);
static inline int append_once(struct lane *lane, const struct lane_record *records, uint32_t count,
                              uint32_t *taken);
static int append_waiting(struct lane *lane, const struct lane_record *records, uint32_t count,
                          uint32_t *taken);

int sluice_producer_send(struct sluice_producer *producer, const struct sluice_record *record)
{
    uint32_t taken;
    struct lane *lane;
    struct lane_record converted;
    int status = check_record(producer, record);
    if (status != SLUICE_OK)
        return status;
    if (UNLIKELY(record->header_count > 0))
        return send_with_headers(producer, record, &taken);
    status = find_lane(producer, record, &lane);
    if (status != SLUICE_OK)
        return status;
    convert(producer, record, NULL, &converted);
    return append(lane, &converted, 1, &taken);
}

int sluice_producer_send_many(struct sluice_producer *producer, const struct sluice_record *records,
                              uint32_t count, uint32_t *taken)
{
    int status = SLUICE_OK;
    *taken = 0;
    while (*taken < count && status == SLUICE_OK) {
        uint32_t run;
        status = send_run(producer, records + *taken, count - *taken, &run);
        *taken += run;
    }
    return status;
}

/* The first record and those behind it that go the same way. */
static int send_run(struct sluice_producer *producer, const struct sluice_record *records,
                    uint32_t count, uint32_t *taken)
{
    struct lane_record run[RUN_RECORDS_MAX];
    struct lane *lane;
    *taken = 0;
    int status = check_record(producer, &records[0]);
    if (status != SLUICE_OK)
        return status;
    if (records[0].header_count > 0)
        return send_with_headers(producer, &records[0], taken);
    status = find_lane(producer, &records[0], &lane);
    if (status != SLUICE_OK)
        return status;
    return append(lane, run, collect_run(lane, records, count, run), taken);
}

/* ---- what is allowed ---- */

static inline int check_record(struct sluice_producer *producer, const struct sluice_record *record)
{
    /* A1: sees the transaction's name; pairs with the store in producer_set_gate(). */
    int gate = atomic_load_explicit(&producer->gate, memory_order_acquire);
    if (UNLIKELY(gate != SLUICE_OK))
        return txn_explain_gate(gate);
    if (UNLIKELY(!record->topic || (record->key_len > 0 && !record->key) ||
                 (record->value_len > 0 && !record->value) || record->timestamp_ms < 0 ||
                 (record->header_count > 0 && !record->headers))) {
        error_set("topic is missing, a length without its pointer, or a negative timestamp");
        return SLUICE_E_INVALID;
    }
    uint64_t bytes_max = record_bytes_max(producer);
    if (UNLIKELY(record->key_len > bytes_max || record->value_len > bytes_max - record->key_len))
        return too_large(record->key_len + record->value_len, bytes_max);
    return SLUICE_OK;
}

static inline uint64_t record_bytes_max(struct sluice_producer *producer)
{
    uint32_t limit =
        atomic_load_explicit(&producer->client->record_bytes_max, memory_order_relaxed);
    return limit ? limit : INT32_MAX; // not connected yet: the broker will say
}

static int too_large(uint64_t bytes, uint64_t bytes_max)
{
    error_set("the record has %lu bytes, allowed up to %lu", bytes, bytes_max);
    return SLUICE_E_TOO_LARGE;
}

static int send_with_headers(struct sluice_producer *producer, const struct sluice_record *record,
                             uint32_t *taken)
{
    struct record_header on_stack[HEADERS_ON_STACK];
    struct record_header *headers = on_stack;
    uint64_t bytes = record->key_len + record->value_len;
    struct lane_record converted;
    struct lane *lane;
    if (record->header_count > HEADERS_ON_STACK)
        headers = malloc(record->header_count * sizeof(*headers));
    int status = headers ? copy_headers(record, headers, &bytes) : SLUICE_E_NO_MEMORY;
    if (status == SLUICE_OK && bytes > record_bytes_max(producer))
        status = too_large(bytes, record_bytes_max(producer));
    if (status == SLUICE_OK)
        status = find_lane(producer, record, &lane);
    *taken = 0;
    if (status == SLUICE_OK) {
        convert(producer, record, headers, &converted);
        status = append(lane, &converted, 1, taken);
    }
    if (headers != on_stack)
        free(headers);
    return status;
}

static int copy_headers(const struct sluice_record *record, struct record_header *headers,
                        uint64_t *bytes)
{
    for (uint32_t i = 0; i < record->header_count; i++) {
        const struct sluice_header *header = &record->headers[i];
        size_t key_len = header->key ? strlen(header->key) : 0;
        if (key_len > INT32_MAX || header->value_len > INT32_MAX)
            return too_large(key_len + header->value_len, INT32_MAX);
        struct slice key = {(const uint8_t *)header->key, (uint32_t)key_len};
        if (!header->key || (header->value_len > 0 && !header->value) || !slice_is_utf8(key)) {
            error_set("header %u: no key, a key that isn't UTF-8, or a length without a value", i);
            return SLUICE_E_INVALID;
        }
        headers[i] = (struct record_header){.key = key,
                                            .value = {header->value, (uint32_t)header->value_len}};
        *bytes += key_len + header->value_len;
    }
    return SLUICE_OK;
}

/* ---- where it goes ---- */

static inline int find_lane(struct sluice_producer *producer, const struct sluice_record *record,
                            struct lane **lane)
{
    struct topic *topic = topics_recent(producer, record->topic);
    *lane = topic ? choose_lane(topic, record) : NULL;
    return LIKELY(*lane) ? SLUICE_OK : find_lane_slowly(producer, record, lane);
}

static int find_lane_slowly(struct sluice_producer *producer, const struct sluice_record *record,
                            struct lane **lane)
{
    struct topic *topic;
    int status = topics_of_name(producer, record->topic, record->partition, &topic);
    if (status != SLUICE_OK)
        return status;
    *lane = choose_lane(topic, record);
    if (*lane)
        return SLUICE_OK;
    error_set("partition %u, allowed 0..%u", record->partition,
              atomic_load(&topic->lanes)->count - 1);
    return SLUICE_E_UNKNOWN_PARTITION;
}

static inline struct lane *choose_lane(struct topic *topic, const struct sluice_record *record)
{
    struct lanes *lanes = atomic_load_explicit(&topic->lanes, memory_order_acquire);
    uint32_t partition = record->partition;
    if (partition == SLUICE_PARTITION_ANY) {
        struct slice key = {record->key, (uint32_t)record->key_len};
        partition = key.bytes ? partitioner_by_key(key, lanes->count) : partitioner_sticky(topic);
    }
    return partition < lanes->count ? lanes->lane[partition] : NULL;
}

/* records[0] goes to `lane`; how many behind it do so too? Names are compared by their address,
 * which can't change within the call. Records that need a closer look end the run. */
static uint32_t collect_run(struct lane *lane, const struct sluice_record *records, uint32_t count,
                            struct lane_record *run)
{
    struct sluice_producer *producer = lane->producer;
    uint32_t n = 0;
    do {
        convert(producer, &records[n], NULL, &run[n]);
        n++;
    } while (n < count && n < RUN_RECORDS_MAX && records[n].topic == records[0].topic &&
             records[n].header_count == 0 && check_record(producer, &records[n]) == SLUICE_OK &&
             choose_lane(lane->topic, &records[n]) == lane);
    return n;
}

static inline void convert(struct sluice_producer *producer, const struct sluice_record *record,
                           const struct record_header *headers, struct lane_record *converted)
{
    int64_t timestamp_ms =
        record->timestamp_ms ? record->timestamp_ms : (int64_t)client_wall_ms(producer->client);
    *converted = (struct lane_record){
        .record = {.timestamp_ms = timestamp_ms,
                   .key = {record->key, (uint32_t)record->key_len},
                   .value = {record->value, (uint32_t)record->value_len},
                   .headers = headers,
                   .header_count = record->header_count},
        .opaque = record->opaque,
    };
}

/* ---- and in it goes ---- */

static inline int append(struct lane *lane, const struct lane_record *records, uint32_t count,
                         uint32_t *taken)
{
    struct sluice_producer *producer = lane->producer;
    int status = append_once(lane, records, count, taken);
    if (UNLIKELY(status == SLUICE_E_FULL && *taken == 0 && producer->send_waits &&
                 !client_is_io_thread(producer->client)))
        status = append_waiting(lane, records, count, taken);
    return status == SLUICE_E_FULL && *taken > 0 ? SLUICE_OK : status;
}

static inline int append_once(struct lane *lane, const struct lane_record *records, uint32_t count,
                              uint32_t *taken)
{
    bool signal;
    int status = lane_append(lane, records, count, taken, &signal);
    if (signal)
        client_command(lane->producer->client, COMMAND_LANE_READY, lane);
    if (UNLIKELY(status == SLUICE_E_FULL) && !atomic_exchange(&lane->producer->pressed, true))
        client_command(lane->producer->client, COMMAND_PRODUCER_HURRY, lane->producer);
    return status;
}

static int append_waiting(struct lane *lane, const struct lane_record *records, uint32_t count,
                          uint32_t *taken)
{
    struct sluice_producer *producer = lane->producer;
    uint64_t deadline_ns = clock_mono_ns(producer->client->clock) + producer->delivery_timeout_ns;
    bool in_time = true;
    int status = SLUICE_E_FULL;
    while (status == SLUICE_E_FULL && *taken == 0 && in_time) {
        atomic_fetch_add(&producer->waiting, 1);
        uint64_t seen = producer_progress(producer);
        status = append_once(lane, records, count, taken);
        if (status == SLUICE_E_FULL && *taken == 0)
            in_time = producer_wait_progress(producer, seen, deadline_ns);
        atomic_fetch_sub(&producer->waiting, 1);
    }
    return in_time ? status : SLUICE_E_TIMED_OUT;
}
