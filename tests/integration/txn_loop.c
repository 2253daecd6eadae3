/* Transactions under kill -9: of the broker, and of their clients.
 *
 *   sluice-txn-loop BIN_DIR DATA_DIR [--cycles N] [--io uring|epoll|auto] [--seed S] [--shards N]
 *                   [--expect ANOMALY]
 *
 * Eight transactional producers send to partitions of three topics, abort three transactions of ten, and now and then prepare
 * one first. Two plain producers write to the same partitions, two readers read everything all the time. Each is a process.
 * In each cycle the broker or one of the clients is killed and started again, a transactional producer under the same id.
 * Everything that clients do and see is a history (tests/checker); at the end there must be no anomaly in it, and after each
 * restart of the broker nothing may be in doubt for more than 5 s. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/checker/checker.h"
#include "bench/engine/broker_process.h"
#include "tests/integration/history_client.h"

#define WORKERS 8
#define PLAIN 2
#define READERS 2
#define CHILDREN (WORKERS + PLAIN + READERS)
#define RECORDS_MAX 16 // in a transaction
#define EVENTS_MAX (UINT64_C(1) << 26)

struct loop {
    struct broker_process broker;
    struct world *world;
    struct child children[CHILDREN];
    struct random random;
    uint64_t seed;
    uint32_t cycles, shards;
    uint32_t broker_kills, client_kills;
    int expected; // enum anomaly that a planted bug must cause; -1: none
};

static const char *const topics[] = {"txn-a", "txn-b", "txn-c"};
#define PARTITIONS_PER_TOPIC 4

static void work(struct world *world, uint32_t number);
static void produce_plain(struct world *world, uint32_t number);

/* ---- a transactional producer ---- */

struct worker {
    struct world *world;
    uint32_t number;
    struct sluice_producer *producer;
    struct random random;
    uint64_t firsts[WORLD_PARTITIONS_MAX]; // of the transaction: first sequence
    uint32_t counts[WORLD_PARTITIONS_MAX];
};

static uint32_t below(struct worker *worker, uint32_t limit)
{
    return (uint32_t)random_below(&worker->random, limit);
}

static uint32_t random_length(struct random *random)
{
    uint64_t more = random_below(random, random_below(random, 16) == 0 ? 4000 : 200);
    return (uint32_t)(VALUE_BYTES_MIN + more);
}

/* False: one was refused, because the transaction is ruined. */
static bool send_some(struct worker *worker, uint64_t txn)
{
    uint32_t partitions = world_partitions(worker->world), spread = 1 + below(worker, 5);
    uint32_t first = below(worker, partitions), count = 1 + below(worker, RECORDS_MAX);
    memset(worker->counts, 0, sizeof(worker->counts));
    for (uint32_t i = 0; i < count; i++) {
        uint32_t partition = (first + below(worker, spread) * 5) % partitions;
        uint64_t sequence;
        if (send_one(worker->world, worker->producer, worker->number, partition, txn,
                     random_length(&worker->random), &sequence))
            return false;
        if (worker->counts[partition]++ == 0)
            worker->firsts[partition] = sequence;
    }
    return true;
}

static void note_offsets(struct worker *worker)
{
    for (uint32_t p = 0; p < world_partitions(worker->world); p++) {
        if (worker->counts[p] > 0)
            note_offset(worker->world, worker->producer, worker->number, p, worker->firsts[p],
                        worker->counts[p]);
    }
}

static void one_transaction(struct worker *worker)
{
    struct world *world = worker->world;
    int status = sluice_txn_begin(worker->producer);
    if (status == SLUICE_E_TIMED_OUT || status == SLUICE_E_CONNECT)
        return;
    must(status, "begin");
    uint64_t txn = atomic_fetch_add(&world->txns, 1) + 1;
    bool whole = send_some(worker, txn), prepared = false;
    if (below(worker, 20) == 0)
        usleep(below(worker, 50000)); // some stay open for longer
    if (whole && below(worker, 16) == 0) {
        prepared = prepare(world, worker->producer, worker->number, txn);
        if (!prepared)
            return;
    }
    if (whole && below(worker, 10) >= 3) {
        if (commit(world, worker->producer, txn))
            note_offsets(worker);
    } else {
        abort_txn(world, worker->producer, txn);
    }
    if (prepared)
        atomic_store(&world->open_txn[worker->number], 0);
}

static void work(struct world *world, uint32_t number)
{
    struct worker worker = {.world = world, .number = number};
    char id[32];
    struct sluice_client *client = client_of(world);
    snprintf(id, sizeof(id), "loop-%u", number);
    struct sluice_producer_options options = {.size = sizeof(options),
                                              .batch_bytes = number % 2 ? 0 : 1024,
                                              .buffer_bytes = 1u << 20,
                                              .send_waits = true,
                                              .transactional_id = id};
    random_init(&worker.random, random_seed_system());
    must(sluice_producer_new(client, &options, &worker.producer), "producer");
    end_waiting(world, worker.producer, number, below(&worker, 2));
    while (!atomic_load(&world->stop)) {
        one_transaction(&worker);
        usleep(below(&worker, 2000));
    }
    sluice_producer_free(worker.producer);
    sluice_client_free(client);
}

/* ---- a plain producer: each life is a producer of its own ---- */

struct plain {
    struct world *world;
    uint32_t number;
};

/* The opaque pointer is the sequence; which topic it was is in its upper bits. */
static void on_report(void *context, const struct sluice_report *report)
{
    struct plain *plain = context;
    uint64_t opaque = (uint64_t)(uintptr_t)report->opaque;
    if (report->status != SLUICE_OK)
        return; // after a restart nobody can tell
    history_add(plain->world->history,
                (struct history_event){HISTORY_ACKED, .producer = plain->number,
                                       .partition = report->partition, .sequence = opaque,
                                       .offset = report->offset});
    atomic_fetch_add(&plain->world->acks, 1);
}

/* To partitions of the first topic only, so a report's partition is the history's. */
static void produce_plain(struct world *world, uint32_t number)
{
    struct plain plain = {world, WORKERS + atomic_fetch_add(&world->producers, 1)};
    struct sluice_client *client = client_of(world);
    struct sluice_producer_options options = {.size = sizeof(options),
                                              .batch_bytes = 2048,
                                              .buffer_bytes = 1u << 20,
                                              .send_waits = true,
                                              .on_report = on_report,
                                              .context = &plain};
    struct sluice_producer *producer;
    struct random random;
    if (plain.number >= WORLD_PRODUCERS_MAX)
        fail("too many lives of plain producers");
    random_init(&random, random_seed_system());
    must(sluice_producer_new(client, &options, &producer), "producer");
    while (!atomic_load(&world->stop)) {
        uint64_t sequence;
        must(send_one(world, producer, plain.number,
                      (uint32_t)random_below(&random, PARTITIONS_PER_TOPIC), 0,
                      random_length(&random), &sequence),
             "send");
        usleep((useconds_t)random_below(&random, 2000));
    }
    must(sluice_producer_flush(producer, 60000), "flush");
    sluice_producer_free(producer);
    sluice_client_free(client);
}

/* ---- the kills ---- */

static void kill_broker(struct loop *loop)
{
    struct world *world = loop->world;
    broker_kill(&loop->broker);
    if (!broker_start(&loop->broker))
        fail("the broker did not start again");
    check_nothing_in_doubt(world);
    loop->broker_kills++;
    /* Each cycle must get on, or the loop would test nothing. */
    uint64_t commits = atomic_load(&world->commits), acks = atomic_load(&world->acks);
    double deadline = now_s() + 60;
    while (atomic_load(&world->commits) == commits || atomic_load(&world->acks) == acks) {
        for (int i = 0; i < CHILDREN; i++)
            child_check(&loop->children[i]);
        if (now_s() > deadline)
            fail("no transaction was committed, or no record acked, for 60 s after a restart");
        usleep(1000);
    }
}

static void kill_client(struct loop *loop)
{
    struct child *child = &loop->children[random_below(&loop->random, CHILDREN)];
    child_check(child);
    child_kill(child);
    child_start(child, loop->world);
    loop->client_kills++;
}

/* With a bug in the broker anything may go wrong first; what counts is what the history says in the end. */
static int run_planted(struct loop *loop)
{
    const struct world *world = loop->world;
    for (uint32_t i = 0; i < loop->cycles; i++) {
        usleep((useconds_t)(200000 + random_below(&loop->random, 300000)));
        broker_kill(&loop->broker);
        if (!broker_start(&loop->broker))
            break;
    }
    const char *faults = getenv("SLUICE_FAULT");
    if (faults && strstr(faults, "CRASH")) { // it must live while the rest is read
        unsetenv("SLUICE_FAULT");
        broker_kill(&loop->broker);
        (void)broker_start(&loop->broker);
    }
    sleep(1);
    double deadline = now_s() + 15;
    atomic_store(&loop->world->stop, true);
    for (uint32_t i = 0; i < WORKERS + PLAIN; i++)
        child_end(&loop->children[i], deadline);
    deadline = now_s() + 25;
    atomic_store(&loop->world->drain, true);
    for (uint32_t i = WORKERS + PLAIN; i < CHILDREN; i++)
        child_end(&loop->children[i], deadline);
    broker_kill(&loop->broker);
    bool seen = history_has(world->history, (enum anomaly)loop->expected);
    printf(seen ? "seen: %s\n" : "FAILED: not seen: %s\n",
           anomaly_name((enum anomaly)loop->expected));
    return seen ? 0 : 1;
}

static void one_cycle(struct loop *loop)
{
    usleep((useconds_t)(20000 + random_below(&loop->random, 300000)));
    for (uint64_t clients = random_below(&loop->random, 4); clients > 0; clients--) {
        kill_client(loop);
        usleep((useconds_t)random_below(&loop->random, 30000));
    }
    kill_broker(loop);
}

static void start_children(struct loop *loop)
{
    for (uint32_t i = 0; i < CHILDREN; i++) {
        struct child *child = &loop->children[i];
        bool worker = i < WORKERS, plain = !worker && i < WORKERS + PLAIN;
        child->number = worker ? i : plain ? i - WORKERS : i - WORKERS - PLAIN;
        child->run = worker ? work : plain ? produce_plain : read_all;
        child_start(child, loop->world);
    }
}

static void stop_children(struct loop *loop)
{
    atomic_store(&loop->world->stop, true);
    for (uint32_t i = 0; i < WORKERS + PLAIN; i++)
        child_wait(&loop->children[i], 90);
    atomic_store(&loop->world->drain, true);
    for (uint32_t i = WORKERS + PLAIN; i < CHILDREN; i++)
        child_wait(&loop->children[i], 90);
}

/* ---- the whole ---- */

static int anomaly_of(const char *name)
{
    for (int i = 0; i < ANOMALY_COUNT; i++) {
        if (strcmp(anomaly_name((enum anomaly)i), name) == 0)
            return i;
    }
    fprintf(stderr, "sluice-txn-loop: unknown anomaly %s\n", name);
    exit(2);
}

static void parse(struct loop *loop, int argc, char **argv)
{
    for (int i = 3; i < argc; i++) {
        bool has_value = i + 1 < argc;
        if (strcmp(argv[i], "--cycles") == 0 && has_value)
            loop->cycles = (uint32_t)strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--io") == 0 && has_value)
            loop->broker.io = argv[++i];
        else if (strcmp(argv[i], "--seed") == 0 && has_value)
            loop->seed = strtoull(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--shards") == 0 && has_value)
            loop->shards = (uint32_t)strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--expect") == 0 && has_value)
            loop->expected = anomaly_of(argv[++i]);
        else {
            fprintf(stderr, "sluice-txn-loop: unknown argument %s\n", argv[i]);
            exit(2);
        }
    }
}

static int judge(struct loop *loop)
{
    const struct world *world = loop->world;
    printf("%u kills of the broker, %u of clients, %" PRIu64 " commits, %" PRIu64 " acks\n",
           loop->broker_kills, loop->client_kills, atomic_load(&world->commits),
           atomic_load(&world->acks));
    if (!judge_history(world, loop->broker.data_dir)) {
        printf("FAILED: the history has anomalies\n");
        return 1;
    }
    printf("intact\n");
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: sluice-txn-loop BIN_DIR DATA_DIR [--cycles N] [--io B] [--seed S] "
                        "[--shards N] [--expect ANOMALY]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    static struct loop loop = {.cycles = 15, .shards = 3, .expected = -1};
    loop.seed = random_seed_system() % 1000000;
    parse(&loop, argc, argv);
    static char program[4096], shards[32], cores[16], budget[48];
    snprintf(shards, sizeof(shards), "shards=%u", loop.shards);
    snprintf(cores, sizeof(cores), "%u", loop.shards + 1);
    snprintf(budget, sizeof(budget), "wal_bytes_budget=%uMiB", 64 * loop.shards);
    /* Small segments and a small budget: rolls, recycling, checkpoints and unweaving happen between the kills. */
    const char *const extra[] = {"--set",   "segment_bytes=4MiB",
                                 "--set",   "batch_bytes_max=1MiB",
                                 "--set",   budget,
                                 "--set",   shards,
                                 "--cores", cores,
                                 NULL};
    snprintf(program, sizeof(program), "%s/sluiced", argv[1]);
    loop.broker.program = program;
    loop.broker.data_dir = argv[2];
    loop.broker.extra = extra;
    random_init(&loop.random, loop.seed);
    printf("seed %" PRIu64 "\n", loop.seed);

    loop.world = world_new(topics, 3, PARTITIONS_PER_TOPIC, EVENTS_MAX);
    if (!broker_start(&loop.broker))
        return 1;
    snprintf(loop.world->server, sizeof(loop.world->server), "%s", loop.broker.address);
    world_make_topics(loop.world);
    start_children(&loop);
    if (loop.expected >= 0)
        return run_planted(&loop);
    for (uint32_t i = 0; i < loop.cycles; i++)
        one_cycle(&loop);
    stop_children(&loop);
    check_nothing_left(loop.world);
    if (broker_stop(&loop.broker) != 0)
        fail("the broker did not stop cleanly");
    return judge(&loop);
}
