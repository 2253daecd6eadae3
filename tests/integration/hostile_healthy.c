/* The healthy client: rounds of publish, ack, read back and compare, without end, on a thread of its own.
 *
 * What record n holds follows from n alone, so that another process can check all of them later. */
#include "tests/integration/hostile.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/include/sluice.h"

#define TOPIC "healthy"
#define ROUND_RECORDS 8
#define VALUE_BYTES_MAX 3000
#define ROUND_PAUSE_MS 5
#define ROUND_TIMEOUT_MS 60000

static pthread_t thread;
static atomic_bool stopping;
static _Atomic uint64_t rounds; // finished
static _Atomic uint64_t longest_ms;

/* Lengths of all kinds, letters that differ from record to record. */
static uint32_t value_of(uint64_t n, char *value)
{
    uint32_t len = (uint32_t)(n * 2654435761u % VALUE_BYTES_MAX);
    len = (uint32_t)max_u64(len, (uint64_t)snprintf(value, 32, "%llu:", (unsigned long long)n));
    for (uint32_t i = (uint32_t)strlen(value); i < len; i++)
        value[i] = (char)('a' + (n * 31 + i * 7) % 26);
    return len;
}

static void on_report(void *context, const struct sluice_report *report)
{
    if (report->status != SLUICE_OK)
        fail("the healthy client's publish was refused: %s", sluice_text(report->status));
}

static void publish_round(struct sluice_producer *producer, uint64_t first)
{
    char value[VALUE_BYTES_MAX + 32];
    for (uint64_t n = first; n < first + ROUND_RECORDS; n++) {
        struct sluice_record record = {
            .topic = TOPIC, .value = value, .value_len = value_of(n, value)};
        int status = sluice_producer_send(producer, &record);
        if (status)
            fail("the healthy client can't send: %s", sluice_text(status));
    }
    int status = sluice_producer_flush(producer, ROUND_TIMEOUT_MS);
    if (status)
        fail("the healthy client got no acks for %d s: %s", ROUND_TIMEOUT_MS / 1000,
             sluice_text(status));
}

static void read_records(struct sluice_consumer *consumer, uint64_t first, uint64_t count)
{
    char value[VALUE_BYTES_MAX + 32];
    uint64_t deadline = now_ms() + ROUND_TIMEOUT_MS;
    for (uint64_t n = first; n < first + count;) {
        struct sluice_message messages[64];
        int got = sluice_consumer_poll(consumer, messages, 64, 1000);
        if (got < 0)
            fail("the healthy client can't read: %s", sluice_text(got));
        if (got == 0 && now_ms() > deadline)
            fail("the healthy client read nothing for %d s", ROUND_TIMEOUT_MS / 1000);
        for (int i = 0; i < got; i++, n++) {
            uint32_t len = value_of(n, value);
            if (n >= first + count || messages[i].offset != n || messages[i].value_len != len ||
                memcmp(messages[i].value, value, len) != 0)
                fail("record %llu came back as another one", (unsigned long long)n);
        }
    }
}

static struct sluice_client *client_new(void)
{
    struct sluice_client_options options = {.size = sizeof(options), .server = hostile.server};
    struct sluice_client *client;
    if (sluice_client_new(&options, &client) || sluice_client_wait(client, ANSWER_MS))
        fail("the healthy client can't connect");
    return client;
}

static struct sluice_consumer *consumer_new(struct sluice_client *client)
{
    struct sluice_consumer *consumer;
    if (sluice_consumer_new(
            client,
            &(struct sluice_consumer_options){.size = sizeof(struct sluice_consumer_options)},
            &consumer) ||
        sluice_consumer_subscribe(consumer, TOPIC, 0, SLUICE_START_BEGINNING, 0))
        fail("the healthy client can't subscribe: %s", sluice_last_error());
    return consumer;
}

static void *run(void *argument)
{
    struct sluice_client *client = client_new();
    struct sluice_producer_options options = {.size = sizeof(options), .on_report = on_report};
    struct sluice_producer *producer;
    if (sluice_topic_create(client, TOPIC, 1, NULL, 0) ||
        sluice_producer_new(client, &options, &producer))
        fail("the healthy client can't begin: %s", sluice_last_error());
    struct sluice_consumer *consumer = consumer_new(client);
    while (!atomic_load(&stopping)) {
        uint64_t began = now_ms(), first = atomic_load(&rounds) * ROUND_RECORDS;
        publish_round(producer, first);
        read_records(consumer, first, ROUND_RECORDS);
        uint64_t took = now_ms() - began;
        if (took > atomic_load(&longest_ms))
            atomic_store(&longest_ms, took);
        atomic_fetch_add(&rounds, 1);
        sleep_ms(ROUND_PAUSE_MS);
    }
    sluice_consumer_free(consumer);
    sluice_producer_free(producer);
    sluice_client_free(client);
    return NULL;
}

void healthy_start(void)
{
    if (pthread_create(&thread, NULL, run, NULL))
        fail("no thread");
    healthy_round("the start");
}

uint64_t healthy_stop(void)
{
    atomic_store(&stopping, true);
    pthread_join(thread, NULL);
    return atomic_load(&rounds) * ROUND_RECORDS;
}

void healthy_round(const char *what)
{
    uint64_t before = atomic_load(&rounds), deadline = now_ms() + 2 * ROUND_TIMEOUT_MS;
    while (atomic_load(&rounds) < before + 2) { // one of them began after this call
        if (now_ms() > deadline)
            fail("after %s the healthy client does not get on", what);
        sleep_ms(1);
    }
}

uint64_t healthy_longest_ms(bool reset)
{
    return reset ? atomic_exchange(&longest_ms, 0) : atomic_load(&longest_ms);
}

void healthy_verify(uint64_t count)
{
    struct sluice_client *client = client_new();
    struct sluice_consumer *consumer = consumer_new(client);
    uint64_t end;
    if (sluice_offset(client, TOPIC, 0, SLUICE_START_END, 0, &end) || end != count)
        fail("%llu records were acked, but %llu are there", (unsigned long long)count,
             (unsigned long long)end);
    read_records(consumer, 0, count);
    sluice_consumer_free(consumer);
    sluice_client_free(client);
}
