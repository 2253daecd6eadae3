/* Transactions and groups of the client under threads, for ThreadSanitizer: senders that know nothing
 * of where a transaction begins and ends, and members of a group that come, read and go, while a fake
 * broker drops connections and refuses. On the epoll backend, which the sanitizer can follow.
 *
 * After each commit exactly what was reported as staged is visible; a record that came just before
 * or behind the commit is in it or was refused, never in the next one. Prints a line and exits with
 * 1 when that is not so. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/random.h"
#include "client/include/sluice.h"
#include "proto/messages.h"
#include "tests/unit/client/fake_broker.h"

#define ROUNDS 3
#define PARTITIONS 4u
#define SENDERS 3u
#define MEMBERS 3u
#define TRANSACTIONS 60u

struct round {
    uint64_t seed;
    struct fake_broker *broker;
    struct sluice_client *client;
    struct sluice_producer *producer;
    _Atomic uint64_t staged, reported, accepted, consumed;
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
    if (report->status == SLUICE_OK)
        atomic_fetch_add(&round->staged, 1);
    atomic_fetch_add(&round->reported, 1);
}

static void check(bool ok, const char *what, uint64_t seed)
{
    if (ok)
        return;
    fprintf(stderr, "txn_stress: seed %lu: %s (%s)\n", seed, what, sluice_last_error());
    exit(1);
}

static void sleep_us(uint64_t us)
{
    struct timespec time = {.tv_sec = 0, .tv_nsec = (long)us * 1000};
    nanosleep(&time, NULL);
}

/* Whatever the state, a send is taken or says why not. */
static void *send_always(void *argument)
{
    struct actor *actor = argument;
    struct round *round = actor->round;
    struct random random;
    random_init(&random, round->seed * 100 + actor->id);
    char value[200] = {0};
    while (!atomic_load(&round->over)) {
        struct sluice_record record = {.topic = "t",
                                       .partition = (uint32_t)random_below(&random, PARTITIONS),
                                       .value = value,
                                       .value_len = random_below(&random, sizeof(value))};
        int status = sluice_producer_send(round->producer, &record);
        if (status == SLUICE_OK) {
            atomic_fetch_add(&round->accepted, 1);
            continue;
        }
        check(status == SLUICE_E_INVALID || status == SLUICE_E_TRANSACTION_ABORTED ||
                  status == SLUICE_E_FULL,
              sluice_name(status), round->seed);
        sleep_us(random_below(&random, 200));
    }
    return NULL;
}

static uint64_t visible(struct round *round)
{
    uint64_t sum = 0;
    for (uint32_t p = 0; p < PARTITIONS; p++)
        sum += fake_record_count(round->broker, "t", p);
    return sum;
}

static void transact(struct round *round, struct random *random)
{
    uint64_t expected = visible(round);
    for (uint32_t i = 0; i < TRANSACTIONS; i++) {
        atomic_store(&round->staged, 0);
        check(sluice_txn_begin(round->producer) == SLUICE_OK, "begin", round->seed);
        sleep_us(random_below(random, 3000));
        int status = SLUICE_OK;
        if (random_below(random, 4) == 0) {
            check(sluice_txn_abort(round->producer, 20000) == SLUICE_OK, "abort", round->seed);
        } else {
            status = sluice_txn_commit(round->producer, 20000);
            bool known = status == SLUICE_OK || status == SLUICE_E_TRANSACTION_ABORTED;
            check(known, sluice_name(status), round->seed);
            if (status == SLUICE_OK)
                expected += atomic_load(&round->staged);
        }
        check(visible(round) == expected, "not what was staged is visible", round->seed);
    }
}

/* ---- a group ---- */

static void on_rebalance(void *context, enum sluice_rebalance what,
                         const struct sluice_partition *partitions, uint32_t count)
{
    struct actor *actor = context;
    for (uint32_t i = 0; i < count; i++)
        check(partitions[i].partition < PARTITIONS, "a partition that is none", actor->round->seed);
}

static void be_member(struct actor *actor, struct random *random)
{
    struct round *round = actor->round;
    const char *topic = "t";
    struct sluice_message messages[64];
    struct sluice_consumer *consumer;
    struct sluice_consumer_options options = {.size = sizeof(options),
                                              .group = "g",
                                              .auto_commit_interval_ms = 5,
                                              .manual_commit = actor->id % 2,
                                              .session_timeout_ms = 2000,
                                              .on_rebalance = on_rebalance,
                                              .context = actor};
    check(sluice_consumer_new(round->client, &options, &consumer) == SLUICE_OK, "consumer",
          round->seed);
    check(sluice_consumer_join(consumer, &topic, 1) == SLUICE_OK, "join", round->seed);
    for (uint64_t polls = 20 + random_below(random, 100); polls > 0; polls--) {
        int count = sluice_consumer_poll(consumer, messages, 64, 5);
        check(count >= 0, "poll", round->seed);
        atomic_fetch_add(&round->consumed, (uint64_t)count);
        if (random_below(random, 20) == 0)
            sluice_consumer_commit(consumer, 2000); // may well be refused
        if (random_below(random, 30) == 0)
            sluice_consumer_rewind(consumer, 2000);
        if (atomic_load(&round->over))
            break;
    }
    sluice_consumer_free(consumer);
}

static void *come_and_go(void *argument)
{
    struct actor *actor = argument;
    struct random random;
    random_init(&random, actor->round->seed * 1000 + actor->id);
    while (!atomic_load(&actor->round->over))
        be_member(actor, &random);
    return NULL;
}

/* ---- trouble ---- */

static void *disturb(void *argument)
{
    struct actor *actor = argument;
    struct round *round = actor->round;
    struct random random;
    random_init(&random, round->seed * 7);
    while (!atomic_load(&round->over)) {
        static const uint16_t ops[] = {OP_PRODUCE,      OP_TXN_COMMIT,   OP_TXN_BEGIN,
                                       OP_TXN_ABORT,    OP_OFFSET_FETCH, OP_GROUP_HEARTBEAT,
                                       OP_OFFSET_COMMIT};
        uint16_t op = ops[random_below(&random, 7)];
        switch (random_below(&random, 5)) {
        case 0:
            fake_drop_connections(round->broker);
            break;
        case 1:
            fake_group_remove_members(round->broker, "g");
            break;
        default:
            fake_clear_rules(round->broker);
            fake_rule(round->broker, op, 0, 1, FAKE_REFUSE, PE_OVERLOADED);
        }
        sleep_us(3000 + random_below(&random, 20000));
    }
    return NULL;
}

static void run_round(uint64_t seed)
{
    struct round round = {.seed = seed};
    struct fake_options fake = {0};
    struct random random;
    random_init(&random, seed);
    round.broker = fake_start(&fake);
    fake_topic(round.broker, "t", PARTITIONS);
    struct sluice_client_options options = {.size = sizeof(options),
                                            .server = fake_address(round.broker),
                                            .reconnect_backoff_ms = 2,
                                            .reconnect_backoff_max_ms = 20};
    check(sluice_client_new(&options, &round.client) == SLUICE_OK, "client", seed);
    struct sluice_producer_options producer = {.size = sizeof(producer),
                                               .transactional_id = "stress",
                                               .batch_records = seed % 2 ? 3 : 0,
                                               .retry_backoff_ms = 2,
                                               .on_report = on_report,
                                               .context = &round};
    check(sluice_producer_new(round.client, &producer, &round.producer) == SLUICE_OK, "producer",
          seed);
    struct actor actors[SENDERS + MEMBERS + 1];
    for (uint32_t i = 0; i < SENDERS + MEMBERS + 1; i++) {
        actors[i] = (struct actor){.round = &round, .id = i};
        void *(*play)(void *) = i < SENDERS             ? send_always
                                : i < SENDERS + MEMBERS ? come_and_go
                                                        : disturb;
        if (play == disturb) // the group is there
            for (int n = 0; n < 10000 && fake_group_member_count(round.broker, "g") == 0; n++)
                sleep_us(1000);
        check(pthread_create(&actors[i].thread, NULL, play, &actors[i]) == 0, "thread", seed);
    }
    transact(&round, &random);
    atomic_store(&round.over, true);
    for (uint32_t i = 0; i < SENDERS + MEMBERS + 1; i++)
        pthread_join(actors[i].thread, NULL);
    fake_clear_rules(round.broker);
    sluice_producer_free(round.producer);
    check(round.reported == round.accepted, "a record without its report, or with two", seed);
    sluice_client_free(round.client);
    fake_stop(round.broker);
    printf("seed %lu: %lu records, %lu read\n", seed, (unsigned long)round.accepted,
           (unsigned long)round.consumed);
}

int main(int argc, char **argv)
{
    setenv("SLUICE_CLIENT_IO", "epoll", 1);
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    for (uint64_t seed = first; seed < first + ROUNDS; seed++)
        run_round(seed);
    return 0;
}
