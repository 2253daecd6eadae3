/* The client under threads, for ThreadSanitizer: producers shared by several threads, consumers
 * that pause and seek, questions from all sides, while a fake broker drops connections and refuses.
 * On the epoll backend, which the sanitizer can follow.
 *
 * Each round has its own seed. At its end every record was reported once, and what was reported as
 * stored lies in the partitions once. Prints a line and exits with 1 when that is not so. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/random.h"
#include "client/include/sluice.h"
#include "proto/messages.h"
#include "tests/unit/client/fake_broker.h"

#define ROUNDS 6
#define PARTITIONS 4u
#define SENDERS 4u
#define RECORDS_PER_SENDER 3000u

struct round {
    uint64_t seed;
    struct fake_broker *broker;
    struct sluice_client *client;
    struct sluice_producer *shared;
    _Atomic uint64_t stored;
    _Atomic uint64_t failed;
    _Atomic uint64_t consumed;
    _Atomic bool over;
};

struct actor {
    struct round *round;
    uint32_t id;
    pthread_t thread;
};

static void on_report(void *context, const struct sluice_report *report)
{
    struct round *round = context;
    atomic_fetch_add(report->status == SLUICE_OK ? &round->stored : &round->failed, 1);
}

static void check(bool ok, const char *what, uint64_t seed)
{
    if (ok)
        return;
    fprintf(stderr, "client_stress: seed %lu: %s\n", seed, what);
    exit(1);
}

static void sleep_us(uint64_t us)
{
    struct timespec time = {.tv_sec = 0, .tv_nsec = (long)us * 1000};
    nanosleep(&time, NULL);
}

static void *send_shared(void *argument)
{
    struct actor *actor = argument;
    struct random random;
    random_init(&random, actor->round->seed * 100 + actor->id);
    char value[300] = {0};
    for (uint32_t i = 0; i < RECORDS_PER_SENDER; i++) {
        struct sluice_record record = {.topic = "t",
                                       .partition = SLUICE_PARTITION_ANY,
                                       .key = i % 3 ? NULL : &i,
                                       .key_len = i % 3 ? 0 : sizeof(i),
                                       .value = value,
                                       .value_len = random_below(&random, sizeof(value))};
        int status = sluice_producer_send(actor->round->shared, &record);
        check(status == SLUICE_OK, sluice_text(status), actor->round->seed);
        if (random_below(&random, 200) == 0)
            sleep_us(random_below(&random, 500));
    }
    return NULL;
}

/* Makes, uses and frees producers of its own, with polled reports. */
static void *send_alone(void *argument)
{
    struct actor *actor = argument;
    struct round *round = actor->round;
    for (int n = 0; n < 5; n++) {
        struct sluice_producer *producer;
        struct sluice_producer_options options = {.size = sizeof(options),
                                                  .batch_records = 1,
                                                  .buffer_bytes = 1 << 20,
                                                  .send_waits = true,
                                                  .report_poll = true,
                                                  .on_report = on_report,
                                                  .context = round};
        check(sluice_producer_new(round->client, &options, &producer) == SLUICE_OK, "new",
              round->seed);
        struct sluice_record record = {.topic = "t", .partition = 0, .value = "x", .value_len = 1};
        for (int i = 0; i < 100; i++) {
            check(sluice_producer_send(producer, &record) == SLUICE_OK, "send", round->seed);
            sluice_producer_poll(producer, 10, 0);
        }
        check(sluice_producer_flush(producer, 60000) == SLUICE_OK, "flush", round->seed);
        sluice_producer_free(producer);
    }
    return NULL;
}

static void *consume(void *argument)
{
    struct actor *actor = argument;
    struct round *round = actor->round;
    struct sluice_consumer *consumer;
    struct sluice_consumer_options options = {.size = sizeof(options)};
    struct sluice_message messages[50];
    check(sluice_consumer_new(round->client, &options, &consumer) == SLUICE_OK, "new", round->seed);
    check(sluice_consumer_subscribe(consumer, "t", SLUICE_PARTITION_ANY, SLUICE_START_BEGINNING,
                                    0) == SLUICE_OK,
          "subscribe", round->seed);
    uint64_t next[PARTITIONS] = {0};
    for (uint32_t turn = 0; !round->over; turn++) {
        int count = sluice_consumer_poll(consumer, messages, 50, 10);
        check(count >= 0, "poll", round->seed);
        for (int i = 0; i < count; i++) {
            check(messages[i].offset == next[messages[i].partition], "offset", round->seed);
            next[messages[i].partition]++;
        }
        if (turn % 64 == 5)
            sluice_consumer_pause(consumer, "t", turn % PARTITIONS);
        if (turn % 64 == 50)
            sluice_consumer_resume(consumer, "t", SLUICE_PARTITION_ANY);
        atomic_fetch_add(&round->consumed, (uint64_t)count);
    }
    sluice_consumer_free(consumer);
    return NULL;
}

static void *ask(void *argument)
{
    struct actor *actor = argument;
    struct round *round = actor->round;
    while (!round->over) {
        struct sluice_topic *topics;
        uint32_t count;
        if (sluice_topic_list(round->client, NULL, 0, &topics, &count) == SLUICE_OK)
            sluice_topics_free(topics, count);
        sluice_producer_pending(round->shared);
        sleep_us(500);
    }
    return NULL;
}

static void *disturb(void *argument)
{
    struct actor *actor = argument;
    struct round *round = actor->round;
    struct random random;
    random_init(&random, round->seed);
    for (int i = 0; i < 12; i++) {
        enum fake_action action = i % 3 == 0   ? FAKE_REFUSE
                                  : i % 3 == 1 ? FAKE_DROP_AFTER
                                               : FAKE_DROP_BEFORE;
        fake_rule(round->broker, OP_PRODUCE, (uint32_t)random_below(&random, 50), 1, action,
                  PE_OVERLOADED);
        sleep_us(1000 * random_below(&random, 20));
    }
    return NULL;
}

static void start(struct actor *actor, struct round *round, uint32_t id, void *(*run)(void *))
{
    *actor = (struct actor){.round = round, .id = id};
    check(pthread_create(&actor->thread, NULL, run, actor) == 0, "thread", round->seed);
}

static void finish(struct round *round)
{
    uint64_t stored = 0;
    for (uint32_t p = 0; p < PARTITIONS; p++)
        stored += fake_record_count(round->broker, "t", p);
    uint64_t sent = SENDERS * RECORDS_PER_SENDER + 500;
    for (int i = 0; i < 20000 && round->consumed < 2 * stored; i++)
        sleep_us(1000); // two consumers, each gets everything
    round->over = true;
    check(round->stored + round->failed == sent, "a record was not reported", round->seed);
    check(round->failed == 0, "a record failed", round->seed);
    check(stored == sent, "lost or doubled", round->seed);
    check(round->consumed == 2 * stored, "not everything was consumed", round->seed);
}

static void run_round(uint64_t seed)
{
    struct round round = {.seed = seed, .broker = fake_start(&(struct fake_options){0})};
    fake_topic(round.broker, "t", PARTITIONS);
    struct sluice_client_options client_options = {.size = sizeof(client_options),
                                                   .server = fake_address(round.broker),
                                                   .reconnect_backoff_ms = 2,
                                                   .reconnect_backoff_max_ms = 10};
    struct sluice_producer_options options = {
        .size = sizeof(options),
        .batch_bytes = 4096,
        .buffer_bytes = 256 * 1024,
        .send_waits = true,
        .retry_backoff_ms = 2,
        .compression = seed % 2 ? SLUICE_COMPRESSION_LZ4 : SLUICE_COMPRESSION_NONE,
        .on_report = on_report,
        .context = &round,
    };
    check(sluice_client_new(&client_options, &round.client) == SLUICE_OK, "client", seed);
    check(sluice_producer_new(round.client, &options, &round.shared) == SLUICE_OK, "new", seed);
    struct actor senders[SENDERS], others[5];
    for (uint32_t i = 0; i < SENDERS; i++)
        start(&senders[i], &round, i, send_shared);
    start(&others[0], &round, 0, disturb);
    start(&others[1], &round, 0, send_alone);
    start(&others[2], &round, 0, consume);
    start(&others[3], &round, 1, consume);
    start(&others[4], &round, 0, ask);
    for (uint32_t i = 0; i < SENDERS; i++)
        pthread_join(senders[i].thread, NULL);
    pthread_join(others[0].thread, NULL);
    pthread_join(others[1].thread, NULL);
    check(sluice_producer_flush(round.shared, 60000) == SLUICE_OK, "flush", seed);
    finish(&round);
    for (int i = 2; i < 5; i++)
        pthread_join(others[i].thread, NULL);
    sluice_producer_free(round.shared);
    sluice_client_free(round.client);
    fake_stop(round.broker);
}

int main(void)
{
    setenv("SLUICE_CLIENT_IO", "epoll", 1);
    for (uint64_t seed = 1; seed <= ROUNDS; seed++)
        run_round(seed);
    return 0;
}
