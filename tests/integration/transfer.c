/* Two topics as accounts, and a sum that must never change.
 *
 *   sluice-transfer BIN_DIR DATA_DIR [--transfers N] [--kills N] [--io uring|epoll|auto] [--seed S] [--shards N]
 *
 * Each transfer is a transaction of two records: an amount taken from a partition of one topic and the same amount given to
 * one of the other. Workers make them concurrently, abort some, and are killed at random and started again under the same
 * transactional ids; so is the broker. An auditor reads everything and takes cuts:
 *
 *   between commits   no commit is under way (workers wait at a gate): up to the visible ends the sum is zero
 *   within a shard    with one shard, at any time: it asks for the ends one after the other, and a transfer of which it
 *                     has seen the first half by the end it asked for first must be whole by the end it asked for next
 *   at the end        the sum is zero; and the history of it all (tests/checker) has no anomaly
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/checker/checker.h"
#include "bench/engine/broker_process.h"
#include "tests/integration/history_client.h"

#define PROCESSES 8
#define THREADS 4 // in each
#define WORKERS (PROCESSES * THREADS)
#define PARTITIONS_PER_TOPIC 4
#define PARTITIONS (2 * PARTITIONS_PER_TOPIC)
#define AUDITOR 0 // as a reader
#define POLL_MAX 4096
#define CUTS_MAX 65536

static const char *const topics[] = {"accounts-a", "accounts-b"};

struct gate { // in shared memory
    _Atomic bool closed;
    _Atomic bool committing[WORKERS]; // asked, and the answer is not known yet
    _Atomic uint64_t cuts;            // taken between commits
};

static struct broker_process broker;
static struct world *world;
static struct gate *gate;
static struct child processes[PROCESSES], auditor_child;
static struct random chances;
static uint64_t seed, transfers = 20000;
static uint32_t kills = 8, shards = 3;

/* ---- a transfer ---- */

static int64_t amount_of(uint64_t txn)
{
    return 1 + (int64_t)(txn * 2654435761u % 1000);
}

/* Odd transactions take from the first topic, even ones from the second. */
static int64_t delta_of(uint64_t txn, uint32_t partition)
{
    bool takes = (partition < PARTITIONS_PER_TOPIC) == (txn % 2 == 1);
    return takes ? -amount_of(txn) : amount_of(txn);
}

struct worker {
    uint32_t number;
    struct sluice_client *client;
    struct random random;
    pthread_t thread;
};

static void enter_commit(uint32_t number)
{
    for (;;) {
        atomic_store(&gate->committing[number], true);
        if (!atomic_load(&gate->closed))
            return;
        atomic_store(&gate->committing[number], false);
        usleep(500);
    }
}

static void one_transfer(struct worker *worker, struct sluice_producer *producer)
{
    int status = sluice_txn_begin(producer);
    if (status == SLUICE_E_TIMED_OUT || status == SLUICE_E_CONNECT)
        return;
    must(status, "begin");
    uint64_t txn = atomic_fetch_add(&world->txns, 1) + 1, taken, given;
    uint32_t from = (uint32_t)random_below(&worker->random, PARTITIONS_PER_TOPIC);
    uint32_t to =
        PARTITIONS_PER_TOPIC + (uint32_t)random_below(&worker->random, PARTITIONS_PER_TOPIC);
    status = send_one(world, producer, worker->number, from, txn, VALUE_BYTES_MIN, &taken);
    if (status == SLUICE_OK)
        status = send_one(world, producer, worker->number, to, txn, VALUE_BYTES_MIN, &given);
    if (status != SLUICE_OK || random_below(&worker->random, 10) == 0) {
        abort_txn(world, producer, txn);
        return;
    }
    enter_commit(worker->number);
    if (commit(world, producer, txn)) {
        note_offset(world, producer, worker->number, from, taken, 1);
        note_offset(world, producer, worker->number, to, given, 1);
    }
    atomic_store(&gate->committing[worker->number], false);
}

/* The first thing a new life learns is that what the last one had asked for is decided. */
static void *transfer(void *argument)
{
    struct worker *worker = argument;
    char id[32];
    snprintf(id, sizeof(id), "transfer-%u", worker->number);
    struct sluice_producer_options options = {.size = sizeof(options),
                                              .buffer_bytes = 1u << 20,
                                              .send_waits = true,
                                              .transactional_id = id};
    struct sluice_producer *producer;
    must(sluice_producer_new(worker->client, &options, &producer), "producer");
    end_waiting(world, producer, worker->number, true);
    atomic_store(&gate->committing[worker->number], false);
    while (!atomic_load(&world->stop))
        one_transfer(worker, producer);
    sluice_producer_free(producer);
    return NULL;
}

static void work(struct world *w, uint32_t process)
{
    static struct worker workers[THREADS];
    struct sluice_client *client = client_of(w);
    for (uint32_t i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.number = process * THREADS + i, .client = client};
        random_init(&workers[i].random, random_seed_system());
        if (pthread_create(&workers[i].thread, NULL, transfer, &workers[i]))
            fail("can't start a thread");
    }
    for (uint32_t i = 0; i < THREADS; i++)
        pthread_join(workers[i].thread, NULL);
    sluice_client_free(client);
}

/* ---- the auditor ---- */

struct half { // where the two halves of a transfer lie, plus one; 0: not seen
    uint64_t first_at, second_at;
    uint8_t first, second; // partitions
};

struct audit {
    struct sluice_client *client;
    struct sluice_consumer *consumer;
    int64_t sum;
    struct half *halves; // by transaction
    uint64_t half_room;
    uint64_t (*cuts)[PARTITIONS]; // visible ends; within one shard
    uint32_t cut_count;
};

static void book(struct audit *audit, const struct sluice_message *message)
{
    struct value value;
    uint32_t partition = number_of(world, message->topic, message->partition);
    if (!value_read(message->value, message->value_len, &value))
        return; // the history says so
    audit->sum += delta_of(value.txn, partition);
    if (value.txn >= audit->half_room) {
        uint64_t room = value.txn * 2 + 1024;
        audit->halves = realloc(audit->halves, room * sizeof(*audit->halves));
        if (!audit->halves)
            fail("out of memory");
        memset(&audit->halves[audit->half_room], 0,
               (room - audit->half_room) * sizeof(*audit->halves));
        audit->half_room = room;
    }
    struct half *half = &audit->halves[value.txn];
    if (partition < PARTITIONS_PER_TOPIC) {
        half->first = (uint8_t)partition;
        half->first_at = message->offset + 1;
    } else {
        half->second = (uint8_t)partition;
        half->second_at = message->offset + 1;
    }
}

static void read_some(struct audit *audit, uint32_t wait_ms)
{
    static struct sluice_message messages[POLL_MAX];
    int got = sluice_consumer_poll(audit->consumer, messages, POLL_MAX, wait_ms);
    must(got < 0 ? got : 0, "poll");
    note_messages(world, AUDITOR, messages, got);
    for (int i = 0; i < got; i++)
        book(audit, &messages[i]);
}

/* All partitions' ends, asked for in their order; again while the broker is being restarted. */
static void ask_all_ends(struct audit *audit, uint64_t *ends)
{
    bool all = false;
    while (!all) {
        for (uint32_t p = 0; p < PARTITIONS; p++)
            ends[p] = UINT64_MAX;
        ask_ends(world, audit->client, AUDITOR, ends);
        all = true;
        for (uint32_t p = 0; p < PARTITIONS; p++)
            all &= ends[p] != UINT64_MAX;
    }
}

static void read_to(struct audit *audit, const uint64_t *ends)
{
    double deadline = now_s() + 60;
    while (!has_read_to(world, AUDITOR, ends)) {
        read_some(audit, 100);
        if (now_s() > deadline)
            fail("the auditor does not reach the end that it was told");
    }
}

static bool somebody_commits(void)
{
    for (uint32_t i = 0; i < WORKERS; i++) {
        if (atomic_load(&gate->committing[i]))
            return true;
    }
    return false;
}

/* Nothing becomes visible while the gate is closed and nobody commits; what was read ahead is below the ends. */
static void cut_between_commits(struct audit *audit)
{
    uint64_t ends[PARTITIONS];
    double deadline = now_s() + 90;
    atomic_store(&gate->closed, true);
    while (somebody_commits()) {
        read_some(audit, 1);
        if (now_s() > deadline)
            fail("a commit is not answered for 90 s");
    }
    ask_all_ends(audit, ends);
    read_to(audit, ends);
    if (audit->sum != 0)
        fail("the sum is %" PRId64 " in a cut between commits", audit->sum);
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        if (atomic_load(&world->positions[AUDITOR][p]) != ends[p])
            fail("partition %u grew while nobody committed", p);
    }
    atomic_fetch_add(&gate->cuts, 1);
    atomic_store(&gate->closed, false);
}

static void cut_within_shard(struct audit *audit)
{
    uint64_t ends[PARTITIONS];
    if (audit->cut_count == CUTS_MAX)
        return;
    ask_all_ends(audit, ends);
    memcpy(audit->cuts[audit->cut_count++], ends, sizeof(ends));
}

/* The first cut that shows the first half shows the second one, too: that end was asked for later. */
static void check_cuts_within_shard(const struct audit *audit)
{
    for (uint64_t txn = 0; txn < audit->half_room; txn++) {
        const struct half *half = &audit->halves[txn];
        uint32_t low = 0, high = audit->cut_count;
        while (low < high) {
            uint32_t middle = low + (high - low) / 2;
            if (audit->cuts[middle][half->first] >= half->first_at)
                high = middle;
            else
                low = middle + 1;
        }
        if (half->first_at && low < audit->cut_count &&
            (!half->second_at || audit->cuts[low][half->second] < half->second_at))
            fail("transaction %" PRIu64 " was visible by half in a cut within one shard", txn);
    }
}

static void run_auditor(struct world *w, uint32_t none)
{
    struct audit audit = {.client = client_of(w), .cuts = calloc(CUTS_MAX, sizeof(*audit.cuts))};
    struct sluice_consumer_options options = {.size = sizeof(options)};
    must(sluice_consumer_new(audit.client, &options, &audit.consumer), "consumer");
    begin_reading(w, audit.consumer, AUDITOR);
    double next = now_s();
    while (!atomic_load(&w->drain)) {
        read_some(&audit, 20);
        if (shards == 1)
            cut_within_shard(&audit);
        if (now_s() >= next) {
            cut_between_commits(&audit);
            next = now_s() + 0.1;
        }
    }
    cut_between_commits(&audit);
    note_done(w, AUDITOR);
    check_cuts_within_shard(&audit);
    printf("%" PRIu64 " cuts between commits, %u within one shard\n", atomic_load(&gate->cuts),
           audit.cut_count);
    sluice_consumer_free(audit.consumer);
    sluice_client_free(audit.client);
    free(audit.halves);
    free(audit.cuts);
}

/* ---- the whole ---- */

static void check_children(void)
{
    child_check(&auditor_child);
    for (int i = 0; i < PROCESSES; i++)
        child_check(&processes[i]);
}

static void wait_for_commits(uint64_t wanted)
{
    uint64_t last = atomic_load(&world->commits);
    double since = now_s();
    while (atomic_load(&world->commits) < wanted) {
        check_children();
        usleep(1000);
        if (atomic_load(&world->commits) != last) {
            last = atomic_load(&world->commits);
            since = now_s();
        }
        if (now_s() - since > 60)
            fail("no transfer was committed for 60 s");
    }
}

/* Each kill of the broker with some of workers before and behind it. */
static void run_with_kills(void)
{
    for (uint32_t i = 0; i < kills; i++) {
        wait_for_commits(transfers * (i + 1) / (kills + 1));
        for (uint32_t j = 0; j < 2; j++) {
            struct child *child = &processes[random_below(&chances, PROCESSES)];
            child_kill(child);
            child_start(child, world);
            usleep((useconds_t)random_below(&chances, 20000));
        }
        broker_kill(&broker);
        if (!broker_start(&broker))
            fail("the broker did not start again");
        check_nothing_in_doubt(world);
    }
    wait_for_commits(transfers);
}

static void parse(int argc, char **argv)
{
    for (int i = 3; i < argc; i++) {
        bool has_value = i + 1 < argc;
        if (strcmp(argv[i], "--transfers") == 0 && has_value)
            transfers = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--kills") == 0 && has_value)
            kills = (uint32_t)strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--io") == 0 && has_value)
            broker.io = argv[++i];
        else if (strcmp(argv[i], "--seed") == 0 && has_value)
            seed = strtoull(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--shards") == 0 && has_value)
            shards = (uint32_t)strtoul(argv[++i], NULL, 10);
        else {
            fprintf(stderr, "sluice-transfer: unknown argument %s\n", argv[i]);
            exit(2);
        }
    }
}

static void start_broker(char **argv)
{
    static char program[4096], shard_count[32], cores[16], budget[48];
    snprintf(program, sizeof(program), "%s/sluiced", argv[1]);
    snprintf(shard_count, sizeof(shard_count), "shards=%u", shards);
    snprintf(cores, sizeof(cores), "%u", shards + 1);
    snprintf(budget, sizeof(budget), "wal_bytes_budget=%uMiB", 64 * shards);
    static const char *extra[] = {"--set",   "segment_bytes=4MiB",
                                  "--set",   "batch_bytes_max=1MiB",
                                  "--set",   budget,
                                  "--set",   shard_count,
                                  "--cores", cores,
                                  NULL};
    broker.program = program;
    broker.data_dir = argv[2];
    broker.extra = extra;
    if (!broker_start(&broker))
        exit(1);
    snprintf(world->server, sizeof(world->server), "%s", broker.address);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: sluice-transfer BIN_DIR DATA_DIR [--transfers N] [--kills N] "
                        "[--io B] [--seed S] [--shards N]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    seed = random_seed_system() % 1000000;
    parse(argc, argv);
    random_init(&chances, seed);
    printf("seed %" PRIu64 "\n", seed);
    world = world_new(topics, 2, PARTITIONS_PER_TOPIC, transfers * 16 + (UINT64_C(1) << 22));
    gate = world_share(sizeof(*gate));
    start_broker(argv);
    world_make_topics(world);
    double started = now_s();
    auditor_child.run = run_auditor;
    child_start(&auditor_child, world);
    for (uint32_t i = 0; i < PROCESSES; i++) {
        processes[i] = (struct child){.number = i, .run = work};
        child_start(&processes[i], world);
    }
    run_with_kills();
    atomic_store(&world->stop, true);
    for (int i = 0; i < PROCESSES; i++)
        child_wait(&processes[i], 90);
    atomic_store(&world->drain, true);
    child_wait(&auditor_child, 120);
    double took = now_s() - started;
    check_nothing_left(world);
    if (broker_stop(&broker) != 0)
        fail("the broker did not stop cleanly");
    printf("%" PRIu64 " transfers in %.1f s, %u kills of the broker\n",
           atomic_load(&world->commits), took, kills);
    bool good = atomic_load(&gate->cuts) > 0 && judge_history(world, broker.data_dir);
    printf(good ? "the sum never changed\n" : "FAILED: the history has anomalies\n");
    return good ? 0 : 1;
}
