/* The driver of this project's own broker, by libsluice.
 *
 * Each producer belongs to one of --clients connections. send() waits inside the library while the producer's buffer is full.
 * Acks come from the connection's I/O thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/driver/drivers.h"
#include "bench/driver/sluice.h"
#include "proto/errors.h"

#define CONNECT_MS 10000
#define POLL_MAX 1024

struct sluice_session {
    struct driver_session *session;
    uint32_t client_count;
    struct sluice_client *clients[];
};

struct driver_producer {
    struct driver_session *session;
    struct sluice_producer *producer;
    driver_ack_fn ack;
    void *context;
    struct sluice_record records[SEND_MANY_MAX]; // what is the same in all is filled in once
};

struct driver_consumer {
    struct driver_session *session;
    struct sluice_consumer *consumer;
    struct sluice_message messages[POLL_MAX];
};

static int connect_clients(struct sluice_session *self);
static int make_topic(struct sluice_session *self);
static int fail_to_connect(struct driver_session *session, int status);
static int fail(struct driver_session *session, const char *what, int status);

/* ---- session ---- */

static int session_open(struct driver_session *session)
{
    uint32_t count = session->options->client_count;
    struct sluice_session *self = calloc(1, sizeof(*self) + count * sizeof(self->clients[0]));
    if (self == NULL)
        return fail(session, "preparing", SLUICE_E_NO_MEMORY);
    self->session = session;
    session->self = self;
    driver_fact(session, false, "idempotent", "%s",
                session->options->not_idempotent ? "no" : "yes");
    return connect_clients(self) || make_topic(self) ? DRIVER_FAILED : 0;
}

static void session_close(struct driver_session *session)
{
    struct sluice_session *self = session->self;
    for (uint32_t i = 0; i < self->client_count; i++)
        sluice_client_free(self->clients[i]);
    free(self);
}

static int connect_clients(struct sluice_session *self)
{
    const struct bench_options *options = self->session->options;
    struct sluice_client_options client_options = {
        .size = sizeof(client_options), .server = options->server, .client_id = "sluice-bench"};
    while (self->client_count < options->client_count) {
        struct sluice_client **client = &self->clients[self->client_count];
        int status = sluice_client_new(&client_options, client);
        if (status)
            return fail(self->session, "starting a client", status);
        self->client_count++;
        status = sluice_client_wait(*client, CONNECT_MS);
        if (status)
            return fail_to_connect(self->session, status);
    }
    return 0;
}

static int make_topic(struct sluice_session *self)
{
    const struct bench_options *options = self->session->options;
    uint32_t wanted = options->partition_count, count = 0;
    struct sluice_topic *topics;
    char retention[32];
    struct sluice_setting setting = {"retention_bytes", retention};
    snprintf(retention, sizeof(retention), "%llu", (unsigned long long)options->retention_bytes);
    int status = sluice_topic_create(self->clients[0], options->topic, wanted ? wanted : 1,
                                     &setting, options->retention_bytes > 0);
    if (status && SLUICE_BROKER_ERROR(status) != PE_TOPIC_EXISTS)
        return fail(self->session, "making the topic", status);
    status = sluice_topic_list(self->clients[0], &options->topic, 1, &topics, &count);
    if (status)
        return fail(self->session, "looking up the topic", status);
    self->session->partition_count = count > 0 ? topics[0].partition_count : 0;
    sluice_topics_free(topics, count);
    if (self->session->partition_count == 0)
        return fail(self->session, "looking up the topic", SLUICE_E_BROKER - PE_UNKNOWN_TOPIC);
    return 0;
}

static int fetch_facts(struct driver_session *session)
{
    struct sluice_session *self = session->self;
    struct sluice_broker_status broker;
    int status = sluice_status(self->clients[0], &broker);
    if (status)
        return fail(session, "asking for the status", status);
    session->ack_means = "fdatasync";
    for (uint32_t i = 0; i < broker.value_count; i++) {
        const char *name = broker.values[i].name;
        if (strcmp(name, "io_uring") == 0)
            driver_fact(session, true, "io", "%s", broker.values[i].value ? "uring" : "epoll");
        if (strcmp(name, "cores") == 0 || strcmp(name, "shards") == 0 ||
            strcmp(name, "wal_bytes_budget") == 0)
            driver_fact(session, true, name, "%lld", (long long)broker.values[i].value);
        if (strcmp(name, "durability_relaxed") != 0)
            continue;
        bool is_relaxed = broker.values[i].value != 0;
        driver_fact(session, true, "durability", "%s", is_relaxed ? "relaxed" : "sync");
        if (is_relaxed)
            session->ack_means = "handed to the disk, not flushed";
    }
    sluice_status_free(&broker);
    return 0;
}

/* The sum of all partitions' first offsets, or of their ends. */
static int sum_of_offsets(struct driver_session *session, enum sluice_start start, uint64_t *sum)
{
    struct sluice_session *self = session->self;
    *sum = 0;
    for (uint32_t i = 0; i < session->partition_count; i++) {
        uint64_t offset;
        int status = sluice_offset(self->clients[0], session->options->topic, i, start, 0, &offset);
        if (status)
            return fail(session, "asking for a partition's first offset or its end", status);
        *sum += offset;
    }
    return 0;
}

static int topic_count(struct driver_session *session, uint64_t *records)
{
    return sum_of_offsets(session, SLUICE_START_END, records);
}

static int topic_available(struct driver_session *session, uint64_t *records)
{
    uint64_t ends, begins;
    if (sum_of_offsets(session, SLUICE_START_END, &ends) ||
        sum_of_offsets(session, SLUICE_START_BEGINNING, &begins))
        return DRIVER_FAILED;
    *records = ends - begins;
    return 0;
}

static bool is_lost(struct driver_session *session)
{
    struct sluice_session *self = session->self;
    return sluice_client_wait(self->clients[0], 1) != SLUICE_OK;
}

/* A broker names its figures itself, and no client may depend on any of them. */
static void broker_figures(struct driver_session *session, struct driver_figures *figures)
{
    const struct {
        const char *name;
        uint64_t *value;
    } known[] = {
        {"process_cpu_us_total", &figures->cpu_us},
        {"process_rss_bytes", &figures->rss_bytes},
        {"wal_fdatasyncs_total", &figures->fdatasyncs},
        {"wal_written_bytes_total", &figures->device_bytes},
        {"wal_full_no_spare_total", &figures->waits_for_spare},
        {"bytes_delivered_total", &figures->delivered_bytes},
    };
    struct sluice_session *self = session->self;
    struct sluice_broker_status status;
    if (sluice_status(self->clients[0], &status) != SLUICE_OK)
        return;
    for (uint32_t i = 0; i < status.value_count; i++) {
        for (size_t k = 0; k < ARRAY_COUNT(known); k++) {
            if (strcmp(status.values[i].name, known[k].name) == 0)
                *known[k].value = (uint64_t)status.values[i].value;
        }
    }
    sluice_status_free(&status);
}

struct sluice_client *sluice_of(const struct driver_session *session, uint32_t index)
{
    ASSERT(session->driver == &driver_sluice);
    const struct sluice_session *self = session->self;
    return self->clients[index % self->client_count];
}

int sluice_ends(struct driver_session *session, uint64_t *ends)
{
    for (uint32_t i = 0; i < session->partition_count; i++) {
        int status = sluice_offset(sluice_of(session, 0), session->options->topic, i,
                                   SLUICE_START_END, 0, &ends[i]);
        if (status)
            return sluice_complain("asking for the end of a partition", status);
    }
    return 0;
}

int sluice_complain(const char *what, int status)
{
    const char *words = sluice_last_error();
    fprintf(stderr, "sluice-bench: %s: %s (%s)%s%s\n", what, sluice_text(status),
            sluice_name(status), *words ? ": " : "", words);
    return -1;
}

/* The address as the library takes it when none is given. */
static int fail_to_connect(struct driver_session *session, int status)
{
    char what[128];
    const char *server = session->options->server, *from = getenv("SLUICE_SERVER");
    if (server == NULL)
        server = from && *from ? from : "127.0.0.1:7650";
    snprintf(what, sizeof(what), "connecting to %s", server);
    return fail(session, what, status);
}

static int fail(struct driver_session *session, const char *what, int status)
{
    const char *words = sluice_last_error();
    return driver_fail(session, "%s: %s (%s)%s%s", what, sluice_text(status), sluice_name(status),
                       *words ? ": " : "", words);
}

/* ---- producer ---- */

static void on_report(void *context, const struct sluice_report *r)
{
    struct driver_producer *producer = context;
    static_assert(SLUICE_OFFSET_UNKNOWN == OFFSET_UNKNOWN, "passed on as it is");
    producer->ack(producer->context, r->status, (uint64_t)(uintptr_t)r->opaque, r->partition,
                  r->offset, r->status ? sluice_text(r->status) : NULL);
}

static int producer_new(struct driver_session *session, uint32_t index, driver_ack_fn ack,
                        void *context, struct driver_producer **producer)
{
    const struct bench_options *options = session->options;
    struct driver_producer *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return fail(session, "starting a producer", SLUICE_E_NO_MEMORY);
    made->session = session;
    made->ack = ack;
    made->context = context;
    for (uint32_t i = 0; i < SEND_MANY_MAX; i++)
        made->records[i].topic = options->topic;
    struct sluice_producer_options producer_options = {
        .size = sizeof(producer_options),
        .not_idempotent = options->not_idempotent,
        .compression = options->compression_lz4 ? SLUICE_COMPRESSION_LZ4 : SLUICE_COMPRESSION_NONE,
        .batch_bytes = (uint32_t)options->batch_bytes,
        .batch_records = options->own_request ? 1 : 0,
        .linger_us = options->linger_us,
        .batches_in_flight = options->batches_in_flight,
        .buffer_bytes = options->buffer_bytes,
        .send_waits = true,
        .on_report = on_report,
        .context = made,
    };
    int status = sluice_producer_new(sluice_of(session, index), &producer_options, &made->producer);
    if (status) {
        free(made);
        return fail(session, "starting a producer", status);
    }
    *producer = made;
    return 0;
}

/* One call of the library for each record, or one for all with --send-many. */
static int producer_send(struct driver_producer *producer, const struct driver_record *records,
                         uint32_t count)
{
    bool many = producer->session->options->send_many > 1;
    uint32_t taken = 0;
    int status = SLUICE_OK;
    ASSERT(count <= SEND_MANY_MAX);
    for (uint32_t i = 0; i < count && status == SLUICE_OK; i++) {
        struct sluice_record *record = &producer->records[many ? i : 0];
        record->partition = records[i].partition;
        record->value = records[i].value;
        record->value_len = records[i].value_len;
        record->opaque = (void *)(uintptr_t)records[i].opaque;
        if (!many)
            status = sluice_producer_send(producer->producer, record);
        taken += !many && status == SLUICE_OK;
    }
    if (many)
        status = sluice_producer_send_many(producer->producer, producer->records, count, &taken);
    if (UNLIKELY(status && taken == 0))
        return fail(producer->session, "sending", status);
    return (int)taken;
}

static int producer_flush(struct driver_producer *producer, uint32_t timeout_ms)
{
    int status = sluice_producer_flush(producer->producer, timeout_ms);
    return status ? fail(producer->session, "waiting for acks", status) : 0;
}

static void producer_free(struct driver_producer *producer)
{
    sluice_producer_free(producer->producer);
    free(producer);
}

/* ---- consumer ---- */

static int consumer_new(struct driver_session *session, uint32_t index, enum driver_start start,
                        struct driver_consumer **consumer)
{
    struct sluice_consumer_options options = {.size = sizeof(options)};
    struct driver_consumer *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return fail(session, "starting a consumer", SLUICE_E_NO_MEMORY);
    made->session = session;
    int status = sluice_consumer_new(sluice_of(session, index), &options, &made->consumer);
    if (status == SLUICE_OK)
        status = sluice_consumer_subscribe(
            made->consumer, session->options->topic, SLUICE_PARTITION_ANY,
            start == DRIVER_FROM_END ? SLUICE_START_END : SLUICE_START_BEGINNING, 0);
    if (status) {
        if (made->consumer)
            sluice_consumer_free(made->consumer);
        free(made);
        return fail(session, "starting a consumer", status);
    }
    *consumer = made;
    return 0;
}

static int consumer_poll(struct driver_consumer *consumer, struct driver_message *messages,
                         uint32_t count, uint32_t timeout_ms)
{
    int got = sluice_consumer_poll(consumer->consumer, consumer->messages,
                                   (uint32_t)min_u64(count, POLL_MAX), timeout_ms);
    if (got < 0)
        return fail(consumer->session, "reading", got);
    for (int i = 0; i < got; i++)
        messages[i] =
            (struct driver_message){.value = consumer->messages[i].value,
                                    .value_len = (uint32_t)consumer->messages[i].value_len,
                                    .partition = consumer->messages[i].partition,
                                    .offset = consumer->messages[i].offset};
    return got;
}

static void consumer_free(struct driver_consumer *consumer)
{
    sluice_consumer_free(consumer->consumer);
    free(consumer);
}

const struct bench_driver driver_sluice = {
    .name = "sluice",
    .library = "libsluice " SLUICE_VERSION,
    .open = session_open,
    .close = session_close,
    .fetch_facts = fetch_facts,
    .count = topic_count,
    .available = topic_available,
    .is_lost = is_lost,
    .figures = broker_figures,
    .producer_new = producer_new,
    .producer_send = producer_send,
    .producer_flush = producer_flush,
    .producer_free = producer_free,
    .consumer_new = consumer_new,
    .consumer_poll = consumer_poll,
    .consumer_free = consumer_free,
};
