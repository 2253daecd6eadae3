/* kill -9 of the broker at each named point of the two-phase commit (TXN_CRASH_* of base/fault.def).
 *
 *   sluice-txn-points BIN_DIR DATA_DIR [--hits N] [--point NAME] [--io uring|epoll|auto]
 *
 * A client commits, prepares and aborts transactions over the partitions of all three shards, with offsets of a consumer group in
 * them, until the broker kills itself at the N-th hit of the point. It is started again; within 5 s nothing may be in doubt. Once
 * the client lives on and asks again, once it is killed as well and another one begins under its id. Everything is one
 * history (tests/checker): each transaction is there or not there, with its offsets, as its client was told. */
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/checker/checker.h"
#include "bench/engine/broker_process.h"
#include "tests/integration/history_client.h"

#define SHARDS 3
#define PARTITIONS 12 // of each topic; some on each shard
#define INPUTS 1000
#define PRODUCER 0
#define FILLER 1 // of the input topic
#define READER 0
#define CONSUMER 1   // whose position is that in the input
#define ASKER 2      // of committed offsets
#define KINDS 5      // of transactions
#define TURNS_MAX 60 // transactions, before the point must have been hit

static const char *const topics[] = {"points", "input"};
#define INPUT PARTITIONS // number of the input topic's partition 0

static const char *const points[] = {
#define FAULT(name, text) #name,
#include "base/fault.def"
#undef FAULT
};

static struct broker_process broker;
static struct world *world;
static uint32_t hits_max = 3;
static const char *only_point; // NULL: all

static void run_client(struct world *w, uint32_t life);

/* ---- the client ---- */

struct life {
    struct sluice_producer *producer;
    struct sluice_consumer *consumer;
    uint32_t group;
};

static void open_consumer(struct life *life, struct sluice_client *client)
{
    char group[32];
    snprintf(group, sizeof(group), "points-%u", life->group);
    struct sluice_consumer_options options = {
        .size = sizeof(options), .group = group, .manual_commit = true};
    must(sluice_consumer_new(client, &options, &life->consumer), "consumer");
    must(sluice_consumer_join(life->consumer, &topics[1], 1), "join");
}

/* Reads one more record of the input and sends the position along. False: the transaction is ruined. */
static bool send_offsets(struct life *life, uint64_t txn)
{
    struct sluice_message message;
    double deadline = now_s() + 60;
    int got;
    while ((got = sluice_consumer_poll(life->consumer, &message, 1, 1000)) == 0 &&
           now_s() < deadline)
        ;
    if (got != 1)
        fail("no input: %s", sluice_name(got));
    uint64_t next = message.offset + 1;
    history_add(world->history,
                (struct history_event){HISTORY_OFFSET_COMMIT_ASKED, .group = life->group,
                                       .partition = INPUT, .offset = next, .txn = txn});
    int status;
    do {
        status = sluice_txn_send_offsets(life->producer, life->consumer, 5000);
    } while (
        (status == SLUICE_E_TIMED_OUT || status == SLUICE_E_CONNECT || status == SLUICE_E_CLOSED) &&
        now_s() < deadline);
    bool others = status == SLUICE_E_UNKNOWN_MEMBER || status == SLUICE_E_STALE_GENERATION ||
                  status == SLUICE_E_NOT_OWNER; // after a restart
    if (!others && status != SLUICE_E_TRANSACTION_ABORTED)
        must(status, "sending offsets");
    if (status == SLUICE_OK)
        atomic_fetch_add(&world->acks, 1);
    return status == SLUICE_OK;
}

static bool send_records(struct life *life, uint64_t txn, uint32_t first, uint32_t count)
{
    uint64_t sequence;
    for (uint32_t i = 0; i < count; i++) {
        if (send_one(world, life->producer, PRODUCER, first + i, txn, VALUE_BYTES_MIN + 50,
                     &sequence))
            return false;
    }
    return true;
}

/* Over all shards, committed or aborted; over all shards, prepared first; in one partition, so that now and then the
 * coordinator's shard is the only one. */
static void one_transaction(struct life *life, uint32_t turn)
{
    int status = sluice_txn_begin(life->producer);
    if (status == SLUICE_E_TIMED_OUT || status == SLUICE_E_CONNECT)
        return;
    must(status, "begin");
    uint64_t txn = atomic_fetch_add(&world->txns, 1) + 1;
    uint32_t kind = turn % KINDS;
    bool lone = kind == 1, offsets = kind == 0 || kind == 3, prepares = kind == 2;
    bool good = lone ? send_records(life, txn, turn / KINDS % PARTITIONS, 1)
                     : send_records(life, txn, 0, PARTITIONS);
    good = good && (!offsets || send_offsets(life, txn));
    if (good && prepares && !prepare(world, life->producer, PRODUCER, txn))
        return;
    if (good && kind != 4)
        commit(world, life->producer, txn);
    else
        abort_txn(world, life->producer, txn);
    if (prepares)
        atomic_store(&world->open_txn[PRODUCER], 0);
}

/* At least one transaction of each kind, also when the world is to stop at once. */
static void run_client(struct world *w, uint32_t life_number)
{
    struct life life = {.group = life_number};
    struct sluice_client *client = client_of(w);
    struct sluice_producer_options options = {
        .size = sizeof(options), .send_waits = true, .transactional_id = "points"};
    must(sluice_producer_new(client, &options, &life.producer), "producer");
    end_waiting(w, life.producer, PRODUCER, life_number % 4 < 2);
    open_consumer(&life, client);
    for (uint32_t turn = 0; turn < KINDS || (turn < TURNS_MAX && !atomic_load(&w->stop)); turn++)
        one_transaction(&life, turn);
    sluice_consumer_free(life.consumer);
    sluice_producer_free(life.producer);
    sluice_client_free(client);
}

/* ---- the input, and what is committed of it ---- */

static void note_input(void *context, const struct sluice_report *report)
{
    must(report->status, "input");
    history_add(context,
                (struct history_event){HISTORY_ACKED, .producer = FILLER, .partition = INPUT,
                                       .sequence = (uint64_t)(uintptr_t)report->opaque,
                                       .offset = report->offset});
}

static void fill_input(struct world *w, uint32_t none)
{
    struct sluice_client *client = client_of(w);
    struct sluice_producer_options options = {.size = sizeof(options),
                                              .send_waits = true,
                                              .on_report = note_input,
                                              .context = w->history};
    struct sluice_producer *producer;
    uint64_t sequence;
    must(sluice_producer_new(client, &options, &producer), "producer");
    for (uint32_t i = 0; i < INPUTS; i++)
        must(send_one(w, producer, FILLER, INPUT, 0, VALUE_BYTES_MIN, &sequence), "input");
    must(sluice_producer_flush(producer, 30000), "flush");
    sluice_producer_free(producer);
    sluice_client_free(client);
}

static void ask_committed(uint32_t group_number)
{
    char group[32];
    snprintf(group, sizeof(group), "points-%u", group_number);
    struct sluice_client *client = client_of(world);
    struct sluice_consumer_options options = {.size = sizeof(options), .group = group};
    struct sluice_consumer *consumer;
    struct history_event event = {HISTORY_OFFSET_ASKED, .group = group_number, .partition = INPUT,
                                  .reader = ASKER};
    must(sluice_consumer_new(client, &options, &consumer), "consumer");
    must(sluice_consumer_subscribe(consumer, topics[1], 0, SLUICE_START_END, 0), "subscribe");
    history_add(world->history, event);
    must(sluice_consumer_committed(consumer, topics[1], 0, &event.offset, 5000),
         "committed offset");
    if (event.offset == SLUICE_OFFSET_UNKNOWN)
        event.offset = HISTORY_NO_OFFSET;
    event.kind = HISTORY_OFFSET_FETCHED;
    history_add(world->history, event);
    sluice_consumer_free(consumer);
    sluice_client_free(client);
}

/* ---- one crash ---- */

static void start_with(const char *fault)
{
    if (fault)
        setenv("SLUICE_FAULT", fault, 1);
    bool started = broker_start(&broker);
    unsetenv("SLUICE_FAULT");
    if (!started)
        fail("the broker did not start");
}

/* By its own hand. */
static void wait_for_crash(struct child *client, const char *fault)
{
    int status;
    double deadline = now_s() + 30;
    while (waitpid(broker.pid, &status, WNOHANG) != broker.pid) {
        if (client->pid > 0)
            child_check(client);
        if (now_s() > deadline)
            fail("%s: the broker did not crash", fault);
        usleep(1000);
    }
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        fail("%s: the broker ended with status 0x%x", fault, status);
    broker.pid = 0;
}

static void one_crash(const char *point, uint32_t hit, bool client_dies, uint32_t *life)
{
    char fault[96];
    snprintf(fault, sizeof(fault), "%s@%u=CRASH", point, hit);
    for (char *c = fault; *c != '@'; c++)
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
    uint64_t first = atomic_load(&world->txns) + 1;
    struct child client = {.number = (*life)++, .run = run_client};
    broker_kill(&broker);
    start_with(fault);
    atomic_store(&world->stop, false);
    child_start(&client, world);
    wait_for_crash(&client, fault);
    if (client_dies)
        child_kill(&client);
    start_with(NULL);
    check_nothing_in_doubt(world);
    atomic_store(&world->stop, true);
    if (client_dies) {
        ask_committed(client.number);
        client.number = (*life)++;
        child_start(&client, world);
    }
    child_wait(&client, 60);
    check_nothing_left(world);
    ask_committed(client.number);
    printf("%-48s client %s: transactions %" PRIu64 "..%" PRIu64 "\n", fault,
           client_dies ? "killed " : "goes on", first, atomic_load(&world->txns));
}

/* ---- the whole ---- */

static void parse(int argc, char **argv)
{
    for (int i = 3; i < argc; i++) {
        bool has_value = i + 1 < argc;
        if (strcmp(argv[i], "--hits") == 0 && has_value)
            hits_max = (uint32_t)strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--point") == 0 && has_value)
            only_point = argv[++i];
        else if (strcmp(argv[i], "--io") == 0 && has_value)
            broker.io = argv[++i];
        else {
            fprintf(stderr, "sluice-txn-points: unknown argument %s\n", argv[i]);
            exit(2);
        }
    }
}

static void run_to_end(void (*run)(struct world *, uint32_t), uint32_t number)
{
    struct child child = {.run = run, .number = number};
    child_start(&child, world);
    child_wait(&child, 60);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr,
                "usage: sluice-txn-points BIN_DIR DATA_DIR [--hits N] [--point NAME] [--io B]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    parse(argc, argv);
    static char program[4096];
    const char *const extra[] = {
        "--set", "segment_bytes=4MiB",      "--set",   "shards=3", "--set", "batch_bytes_max=1MiB",
        "--set", "wal_bytes_budget=192MiB", "--cores", "4",        NULL};
    snprintf(program, sizeof(program), "%s/sluiced", argv[1]);
    broker.program = program;
    broker.data_dir = argv[2];
    broker.extra = extra;
    world = world_new(topics, 2, PARTITIONS, UINT64_C(1) << 22);
    start_with(NULL);
    snprintf(world->server, sizeof(world->server), "%s", broker.address);
    world_make_topics(world);
    run_to_end(fill_input, 0);
    uint32_t life = 0, crashes = 0;
    for (size_t p = 0; p < sizeof(points) / sizeof(*points); p++) {
        bool wanted = only_point ? strcmp(points[p], only_point) == 0
                                 : strncmp(points[p], "TXN_CRASH_", 10) == 0;
        if (!wanted)
            continue;
        for (uint32_t hit = 1; hit <= hits_max; hit++) {
            one_crash(points[p], hit, false, &life);
            one_crash(points[p], hit, true, &life);
            crashes += 2;
        }
    }
    atomic_store(&world->drain, true);
    run_to_end(read_all, READER);
    if (broker_stop(&broker) != 0)
        fail("the broker did not stop cleanly");
    if (atomic_load(&world->acks) < crashes)
        fail("hardly any transaction had offsets of a group");
    bool good = crashes > 0 && judge_history(world, broker.data_dir);
    printf(good ? "intact after %u crashes\n" : "FAILED: anomalies after %u crashes\n", crashes);
    return good ? 0 : 1;
}
