/* Those who write: idempotent producers with keys, transactions, and somebody who makes topics and deletes them. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "tests/soak/load.h"

#define KEYS 1000
#define B_OF 10 // one record in so many goes to b
#define TXN_RECORDS_MAX 12

static uint32_t random_length(struct random *random)
{
    uint64_t more = random_below(random, random_below(random, 16) == 0 ? 6000 : 300);
    return (uint32_t)(VALUE_BYTES_MIN + more);
}

/* ---- producers ---- */

struct producing {
    struct load *load;
    uint32_t number; // of this life, in the history
};

/* What the report tells is less than the history wants: the rest travels in the opaque pointer. */
static void *opaque_of(uint32_t partition, uint64_t sequence)
{
    return (void *)(uintptr_t)((uint64_t)partition << 48 | sequence);
}

static void on_report(void *context, const struct sluice_report *report)
{
    struct producing *producing = context;
    uint64_t opaque = (uint64_t)(uintptr_t)report->opaque;
    struct world *world = producing->load->world;
    if (report->status != SLUICE_OK) {
        atomic_store(&producing->load->refused_last, report->status);
        atomic_fetch_add(&producing->load->refused, 1);
        return; // whether it is there nobody can tell: an answer to an earlier try may be lost
    }
    history_add(world->history,
                (struct history_event){HISTORY_ACKED, .producer = producing->number,
                                       .partition = (uint32_t)(opaque >> 48),
                                       .sequence = opaque & ((UINT64_C(1) << 48) - 1),
                                       .offset = report->offset});
    atomic_fetch_add(&world->acks, 1);
}

/* The library must put the key where the documents say that it does. */
static void send_key(struct producing *producing, struct sluice_producer *producer,
                     struct random *random)
{
    struct world *world = producing->load->world;
    uint8_t bytes[VALUE_BYTES_MAX];
    char key[16];
    uint32_t topic = random_below(random, B_OF) == 0 ? TOPIC_B : TOPIC_A;
    int key_len = snprintf(key, sizeof(key), "key-%" PRIu64, random_below(random, KEYS));
    uint32_t partition = topic * PARTITIONS_PER_TOPIC +
                         (uint32_t)(hash_xxh3(key, (size_t)key_len) % PARTITIONS_PER_TOPIC);
    struct value value = {.producer = producing->number, .partition = partition};
    value.length = random_length(random);
    value.sequence = atomic_fetch_add(&world->sequences[producing->number][partition], 1);
    value_write(bytes, &value);
    struct history_event event = {HISTORY_SEND, .producer = producing->number,
                                  .partition = partition, .sequence = value.sequence};
    history_add(world->history, event);
    struct sluice_record record = {.topic = producing->load->topics[topic],
                                   .partition = SLUICE_PARTITION_ANY,
                                   .key = key,
                                   .key_len = (size_t)key_len,
                                   .value = bytes,
                                   .value_len = value.length,
                                   .opaque = opaque_of(partition, value.sequence)};
    must(sluice_producer_send(producer, &record), "send");
}

void produce_keys(struct world *world, uint32_t number)
{
    struct producing producing = {load_of(world), atomic_fetch_add(&world->producers, 1)};
    struct sluice_client *client = client_of(world);
    struct sluice_producer_options options = {.size = sizeof(options),
                                              .compression = number % 2 ? SLUICE_COMPRESSION_LZ4
                                                                        : SLUICE_COMPRESSION_NONE,
                                              .batch_bytes = number == 0 ? 2048 : 0,
                                              .buffer_bytes = 4u << 20,
                                              .send_waits = true,
                                              .on_report = on_report,
                                              .context = &producing};
    struct sluice_producer *producer;
    struct random random;
    if (producing.number >= WORLD_PRODUCERS_MAX)
        fail("too many lives of producers");
    random_init(&random, producing.load->seed * 131 + producing.number);
    must(sluice_producer_new(client, &options, &producer), "producer");
    while (!atomic_load(&world->stop)) {
        for (uint64_t burst = 1 + random_below(&random, 48); burst > 0; burst--)
            send_key(&producing, producer, &random);
        usleep((useconds_t)random_below(&random, producing.load->is_light ? 16000 : 10000));
    }
    must(sluice_producer_flush(producer, 110000), "flush");
    sluice_producer_free(producer);
    sluice_client_free(client);
}

/* ---- transactions ---- */

struct transacting {
    struct load *load;
    uint32_t number;
    struct sluice_producer *producer;
    struct random random;
    uint64_t firsts[PARTITIONS];
    uint32_t counts[PARTITIONS];
};

/* To 2 to 5 partitions of all topics. False: one was refused, the transaction is ruined. */
static bool send_some(struct transacting *t, uint64_t txn)
{
    uint32_t chosen[5], spread = 2 + (uint32_t)random_below(&t->random, 4);
    for (uint32_t i = 0; i < spread; i++)
        chosen[i] = (uint32_t)random_below(&t->random, PARTITIONS);
    memset(t->counts, 0, sizeof(t->counts));
    uint64_t count = spread + random_below(&t->random, TXN_RECORDS_MAX - spread);
    for (uint64_t i = 0; i < count; i++) {
        uint32_t partition = chosen[i % spread];
        uint64_t sequence;
        if (send_one(t->load->world, t->producer, t->number, partition, txn,
                     random_length(&t->random), &sequence))
            return false;
        if (t->counts[partition]++ == 0)
            t->firsts[partition] = sequence;
    }
    return true;
}

static void note_offsets(struct transacting *t)
{
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        if (t->counts[p] > 0)
            note_offset(t->load->world, t->producer, t->number, p, t->firsts[p], t->counts[p]);
    }
}

static void one_transaction(struct transacting *t)
{
    struct world *world = t->load->world;
    int status = sluice_txn_begin(t->producer);
    if (is_passing(status))
        return;
    must(status, "begin");
    uint64_t txn = atomic_fetch_add(&world->txns, 1) + 1;
    bool whole = send_some(t, txn), prepared = false;
    if (random_below(&t->random, 20) == 0)
        usleep((useconds_t)random_below(&t->random, 50000)); // some stay open for longer
    if (whole && random_below(&t->random, 16) == 0) {
        prepared = prepare(world, t->producer, t->number, txn);
        if (!prepared)
            return;
    }
    if (!whole || random_below(&t->random, 10) < 2)
        abort_txn(world, t->producer, txn);
    else if (commit(world, t->producer, txn))
        note_offsets(t);
    if (prepared)
        atomic_store(&world->open_txn[t->number], 0);
}

void make_transactions(struct world *world, uint32_t number)
{
    struct transacting t = {.load = load_of(world), .number = FIRST_TRANSACTOR + number};
    struct sluice_client *client = client_of(world);
    char id[32];
    snprintf(id, sizeof(id), "soak-%u", t.number);
    struct sluice_producer_options options = {.size = sizeof(options),
                                              .batch_bytes = number % 2 ? 0 : 1024,
                                              .buffer_bytes = 1u << 20,
                                              .send_waits = true,
                                              .transactional_id = id};
    random_init(&t.random, random_seed_system());
    must(sluice_producer_new(client, &options, &t.producer), "producer");
    end_waiting(world, t.producer, t.number, random_below(&t.random, 2));
    while (!atomic_load(&world->stop)) {
        one_transaction(&t);
        usleep((useconds_t)random_below(&t.random, 12000));
    }
    sluice_producer_free(t.producer);
    sluice_client_free(client);
}

/* ---- topics that come and go ---- */

#define CHURN_RECORDS 20

/* Whatever the broker answers, the topic is gone in the end. */
static void delete_topic(struct sluice_client *client, const char *topic, double deadline)
{
    int status;
    do {
        status = sluice_topic_delete(client, topic);
        if (is_passing(status))
            usleep(20000);
    } while (is_passing(status) && now_s() < deadline);
    if (status != SLUICE_OK && status != SLUICE_E_UNKNOWN_TOPIC)
        must(status, "deleting a topic");
    uint64_t end;
    do {
        status = sluice_offset(client, topic, 0, SLUICE_START_END, 0, &end);
    } while (is_passing(status) && status != SLUICE_E_UNKNOWN_TOPIC && now_s() < deadline);
    if (status != SLUICE_E_UNKNOWN_TOPIC)
        fail("topic %s was deleted, and is still there: %s", topic, sluice_name(status));
}

static void on_churn_report(void *context, const struct sluice_report *report)
{
    uint32_t *acked = context;
    *acked += report->status == SLUICE_OK;
}

static void fill_topic(struct sluice_client *client, const char *topic, uint32_t partitions)
{
    uint32_t acked = 0;
    struct sluice_producer_options options = {.size = sizeof(options),
                                              .send_waits = true,
                                              .report_poll = true,
                                              .on_report = on_churn_report,
                                              .context = &acked};
    struct sluice_producer *producer;
    must(sluice_producer_new(client, &options, &producer), "producer");
    for (uint32_t i = 0; i < CHURN_RECORDS; i++) {
        struct sluice_record record = {
            .topic = topic, .partition = i % partitions, .value = "churn", .value_len = 5};
        must(sluice_producer_send(producer, &record), "send to a new topic");
    }
    must(sluice_producer_flush(producer, 110000), "flush to a new topic");
    sluice_producer_free(producer);
    if (acked != CHURN_RECORDS)
        fail("%u of %u records to topic %s were acked", acked, CHURN_RECORDS, topic);
}

void churn_topics(struct world *world, uint32_t number)
{
    struct load *load = load_of(world);
    struct sluice_client *client = client_of(world);
    struct random random;
    char topic[64];
    random_init(&random, load->seed * 17 + number);
    while (!atomic_load(&world->stop)) {
        uint32_t partitions = 1 + (uint32_t)random_below(&random, 6);
        snprintf(topic, sizeof(topic), "%s-%" PRIu64, load->churn, random_u64(&random) % 1000000);
        int status = sluice_topic_create(client, topic, partitions, NULL, 0);
        if (status == SLUICE_OK)
            fill_topic(client, topic, partitions);
        else if (!is_passing(status) && status != SLUICE_E_TOPIC_EXISTS)
            must(status, "making a topic");
        delete_topic(client, topic, now_s() + 90);
        atomic_fetch_add(&load->churned, 1);
        usleep((useconds_t)random_below(&random, 200000));
    }
    sluice_client_free(client);
}
