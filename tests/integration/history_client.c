#include "tests/integration/history_client.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/checker/checker.h"

#define ANSWER_S 300 // longest wait for a broker that is killed and restarted, on a very slow disk
#define POLL_MAX 1024

void (*on_fail)(void);

_Noreturn void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("FAILED: ");
    vprintf(format, arguments);
    printf("\n");
    fflush(stdout);
    va_end(arguments);
    if (on_fail)
        on_fail();
    _exit(1);
}

void must(int status, const char *what)
{
    if (status != SLUICE_OK)
        fail("%s: %s: %s (%s)", what, sluice_name(status), sluice_text(status),
             sluice_last_error());
}

double now_s(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* ---- the world ---- */

void *world_share(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        fail("no memory for the world");
    return memory;
}

struct world *world_new(const char *const *topics, uint32_t topic_count,
                        uint32_t partitions_per_topic, uint64_t event_count_max)
{
    struct world *world = world_share(sizeof(*world));
    world->history = history_new(event_count_max);
    world->topics = topics;
    world->topic_count = topic_count;
    world->partitions_per_topic = partitions_per_topic;
    if (world_partitions(world) > WORLD_PARTITIONS_MAX)
        fail("too many partitions");
    return world;
}

uint32_t world_partitions(const struct world *world)
{
    return world->topic_count * world->partitions_per_topic;
}

static const char *topic_of(const struct world *world, uint32_t partition)
{
    return world->topics[partition / world->partitions_per_topic];
}

uint32_t number_of(const struct world *world, const char *topic, uint32_t partition)
{
    for (uint32_t i = 0; i < world->topic_count; i++) {
        if (strcmp(world->topics[i], topic) == 0)
            return i * world->partitions_per_topic + partition;
    }
    fail("a record of topic %s", topic);
}

struct sluice_client *client_of(struct world *world)
{
    struct sluice_client_options options = {.size = sizeof(options), .server = world->server};
    struct sluice_client *client;
    must(sluice_client_new(&options, &client), "client");
    return client;
}

void world_make_topics(struct world *world)
{
    struct sluice_client *client = client_of(world);
    for (uint32_t i = 0; i < world->topic_count; i++)
        must(sluice_topic_create(client, world->topics[i], world->partitions_per_topic, NULL, 0),
             "topic");
    sluice_client_free(client);
}

/* ---- producing ---- */

int send_one(struct world *world, struct sluice_producer *producer, uint32_t number,
             uint32_t partition, uint64_t txn, uint32_t length, uint64_t *sequence)
{
    uint8_t bytes[VALUE_BYTES_MAX];
    *sequence = atomic_fetch_add(&world->sequences[number][partition], 1);
    struct value value = {.producer = number,
                          .partition = partition,
                          .length = length,
                          .sequence = *sequence,
                          .txn = txn};
    value_write(bytes, &value);
    struct sluice_record record = {.topic = topic_of(world, partition),
                                   .partition = partition % world->partitions_per_topic,
                                   .value = bytes,
                                   .value_len = length,
                                   .opaque = (void *)(uintptr_t)*sequence};
    struct history_event event = {HISTORY_SEND, .producer = number, .partition = partition,
                                  .sequence = *sequence, .txn = txn};
    history_add(world->history, event);
    int status = sluice_producer_send(producer, &record);
    if (status) {
        event.kind = HISTORY_REFUSED;
        history_add(world->history, event);
    }
    return status;
}

static void note_txn(struct world *world, enum history_kind kind, uint64_t txn)
{
    history_add(world->history, (struct history_event){kind, .txn = txn});
}

static bool is_undecided(int status)
{
    return status == SLUICE_E_TIMED_OUT || status == SLUICE_E_CONNECT || status == SLUICE_E_CLOSED;
}

bool commit(struct world *world, struct sluice_producer *producer, uint64_t txn)
{
    note_txn(world, HISTORY_COMMIT_ASKED, txn);
    double deadline = now_s() + ANSWER_S;
    int status;
    do {
        status = sluice_txn_commit(producer, 5000);
    } while (is_undecided(status) && now_s() < deadline);
    if (is_undecided(status))
        fail("transaction %" PRIu64 ": its commit was not answered for %d s: %s", txn, ANSWER_S,
             sluice_name(status));
    if (status == SLUICE_OK) {
        note_txn(world, HISTORY_COMMITTED, txn);
        atomic_fetch_add(&world->commits, 1);
        return true;
    }
    /* By whom should it be fenced: no other producer uses this id. And what is no word of the broker proves nothing. */
    if (status == SLUICE_E_FENCED_PRODUCER || !SLUICE_BROKER_ERROR(status))
        fail("transaction %" PRIu64 ": commit: %s (%s)", txn, sluice_name(status),
             sluice_last_error());
    bool committed = status == SLUICE_E_TRANSACTION_COMMITTED;
    note_txn(world, committed ? HISTORY_COMMITTED : HISTORY_ABORTED, txn);
    return false;
}

void note_offset(struct world *world, struct sluice_producer *producer, uint32_t number,
                 uint32_t partition, uint64_t first_sequence, uint32_t count)
{
    uint64_t offset;
    must(sluice_txn_offset(producer, topic_of(world, partition),
                           partition % world->partitions_per_topic, &offset),
         "offset of a committed transaction");
    if (offset == SLUICE_OFFSET_UNKNOWN)
        return; // the answer to an earlier try was lost
    history_add(world->history, (struct history_event){
                                    HISTORY_ACKED, .producer = number, .partition = partition,
                                    .sequence = first_sequence, .count = count, .offset = offset});
}

void abort_txn(struct world *world, struct sluice_producer *producer, uint64_t txn)
{
    note_txn(world, HISTORY_ABORT_ASKED, txn);
    double deadline = now_s() + ANSWER_S;
    int status;
    do {
        status = sluice_txn_abort(producer, 5000);
    } while (is_undecided(status) && now_s() < deadline);
    if (status == SLUICE_OK)
        note_txn(world, HISTORY_ABORTED, txn);
    else if (status == SLUICE_E_TRANSACTION_COMMITTED)
        note_txn(world, HISTORY_COMMITTED, txn);
    else
        must(status, "abort");
}

bool prepare(struct world *world, struct sluice_producer *producer, uint32_t number, uint64_t txn)
{
    double deadline = now_s() + ANSWER_S;
    int status;
    atomic_store(&world->open_txn[number], txn);
    do {
        status = sluice_txn_prepare(producer, 5000, NULL);
    } while (is_undecided(status) && now_s() < deadline);
    if (is_undecided(status))
        fail("transaction %" PRIu64 ": its prepare was not answered for %d s", txn, ANSWER_S);
    if (status == SLUICE_OK)
        return true;
    if (!SLUICE_BROKER_ERROR(status) || status == SLUICE_E_FENCED_PRODUCER)
        must(status, "prepare");
    note_txn(world, HISTORY_ABORT_ASKED, txn);
    note_txn(world, HISTORY_ABORTED, txn);
    atomic_store(&world->open_txn[number], 0);
    return false;
}

void end_waiting(struct world *world, struct sluice_producer *producer, uint32_t number,
                 bool commits)
{
    struct sluice_txn_name name;
    double deadline = now_s() + ANSWER_S;
    int waits;
    do {
        waits = sluice_txn_recover(producer, 5000, &name);
    } while (waits < 0 && (is_undecided(waits) || sluice_is_retriable(waits)) &&
             now_s() < deadline);
    must(waits < 0 ? waits : 0, "recover");
    uint64_t txn = atomic_load(&world->open_txn[number]);
    if (waits && !txn)
        fail("producer %u never prepared what waits", number);
    if (waits && commits)
        commit(world, producer, txn);
    else if (waits)
        abort_txn(world, producer, txn);
    atomic_store(&world->open_txn[number], 0);
}

/* ---- reading ---- */

void ask_ends(struct world *world, struct sluice_client *client, uint32_t reader, uint64_t *ends)
{
    for (uint32_t p = 0; p < world_partitions(world); p++) {
        struct history_event event = {HISTORY_END_ASKED, .reader = reader, .partition = p};
        history_add(world->history, event);
        int status = sluice_offset(client, topic_of(world, p), p % world->partitions_per_topic,
                                   SLUICE_START_END, 0, &event.offset);
        if (is_undecided(status))
            continue; // the broker is being restarted
        must(status, "asking for an end");
        event.kind = HISTORY_END;
        history_add(world->history, event);
        if (ends)
            ends[p] = event.offset;
    }
}

/* Messages of one producer one behind the other are one event. */
void note_messages(struct world *world, uint32_t reader, const struct sluice_message *messages,
                   int count)
{
    struct history_event run = {HISTORY_NONE};
    for (int i = 0; i < count; i++) {
        const struct sluice_message *m = &messages[i];
        struct value v = {0};
        uint32_t partition = number_of(world, m->topic, m->partition);
        bool known = value_read(m->value, m->value_len, &v) && v.partition == partition;
        bool goes_on = known && run.kind == HISTORY_READ && run.partition == partition &&
                       run.producer == v.producer && run.txn == v.txn &&
                       run.sequence + run.count == v.sequence &&
                       run.offset + run.count == m->offset;
        if (goes_on) {
            run.count++;
            continue;
        }
        if (run.kind != HISTORY_NONE)
            history_add(world->history, run);
        run = (struct history_event){known ? HISTORY_READ : HISTORY_READ_FOREIGN,
                                     .partition = partition,
                                     .reader = reader,
                                     .producer = v.producer,
                                     .count = 1,
                                     .sequence = v.sequence,
                                     .offset = m->offset,
                                     .txn = v.txn};
    }
    if (run.kind != HISTORY_NONE)
        history_add(world->history, run);
    for (int i = 0; i < count; i++) {
        uint32_t partition = number_of(world, messages[i].topic, messages[i].partition);
        atomic_store(&world->positions[reader][partition], messages[i].offset + 1);
    }
}

bool has_read_to(const struct world *world, uint32_t reader, const uint64_t *ends)
{
    for (uint32_t p = 0; p < world_partitions(world); p++) {
        if (atomic_load(&world->positions[reader][p]) < ends[p])
            return false;
    }
    return true;
}

void begin_reading(struct world *world, struct sluice_consumer *consumer, uint32_t reader)
{
    for (uint32_t p = 0; p < world_partitions(world); p++) {
        uint64_t from = atomic_load(&world->positions[reader][p]);
        history_add(world->history, (struct history_event){HISTORY_READER_START, .reader = reader,
                                                           .partition = p, .offset = from});
        int status;
        do {
            status = sluice_consumer_subscribe(consumer, topic_of(world, p),
                                               p % world->partitions_per_topic, SLUICE_START_OFFSET,
                                               from);
        } while (is_undecided(status));
        must(status, "subscribe");
    }
}

/* Reads on until the ends, or until nothing has come for a while: then the checker says what is stuck. */
static void read_to_ends(struct world *world, struct sluice_client *client,
                         struct sluice_consumer *consumer, uint32_t reader)
{
    static struct sluice_message messages[POLL_MAX];
    uint64_t ends[WORLD_PARTITIONS_MAX] = {0};
    ask_ends(world, client, reader, ends);
    double last = now_s();
    while (!has_read_to(world, reader, ends) && now_s() - last < 15) {
        int got = sluice_consumer_poll(consumer, messages, POLL_MAX, 500);
        must(got < 0 ? got : 0, "poll");
        note_messages(world, reader, messages, got);
        if (got > 0)
            last = now_s();
    }
    note_done(world, reader);
}

void note_done(struct world *world, uint32_t reader)
{
    for (uint32_t p = 0; p < world_partitions(world); p++)
        history_add(world->history,
                    (struct history_event){HISTORY_READER_DONE, .reader = reader, .partition = p});
}

void read_all(struct world *world, uint32_t reader)
{
    static struct sluice_message messages[POLL_MAX];
    struct sluice_client *client = client_of(world);
    struct sluice_consumer_options options = {.size = sizeof(options)};
    struct sluice_consumer *consumer;
    must(sluice_consumer_new(client, &options, &consumer), "consumer");
    begin_reading(world, consumer, reader);
    double asked = now_s();
    while (!atomic_load(&world->drain)) {
        int got = sluice_consumer_poll(consumer, messages, POLL_MAX, 100);
        must(got < 0 ? got : 0, "poll");
        note_messages(world, reader, messages, got);
        if (now_s() - asked > 0.1) {
            ask_ends(world, client, reader, NULL);
            asked = now_s();
        }
    }
    read_to_ends(world, client, consumer, reader);
    sluice_consumer_free(consumer);
    sluice_client_free(client);
}

/* ---- processes ---- */

void child_start(struct child *child, struct world *world)
{
    fflush(stdout);
    pid_t parent = getpid();
    child->pid = fork();
    if (child->pid < 0)
        fail("fork");
    if (child->pid > 0)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL); // never outlives the test
    if (getppid() != parent)
        _exit(1);
    child->run(world, child->number);
    fflush(stdout);
    _exit(0);
}

void child_kill(struct child *child)
{
    if (child->pid <= 0)
        return;
    kill(child->pid, SIGKILL);
    waitpid(child->pid, NULL, 0);
    child->pid = 0;
}

static bool has_ended(struct child *child)
{
    int status;
    if (waitpid(child->pid, &status, WNOHANG) != child->pid)
        return false;
    child->pid = 0;
    if (!WIFEXITED(status) || WEXITSTATUS(status))
        fail("client process %u ended with status 0x%x", child->number, status);
    return true;
}

void child_check(struct child *child)
{
    if (child->pid > 0 && has_ended(child))
        fail("client process %u ended by itself", child->number);
}

void child_wait(struct child *child, double seconds)
{
    double deadline = now_s() + seconds;
    while (child->pid > 0 && !has_ended(child)) {
        if (now_s() > deadline)
            fail("client process %u does not end within %.0f s", child->number, seconds);
        usleep(2000);
    }
}

void child_end(struct child *child, double deadline_s)
{
    int status;
    while (child->pid > 0 && now_s() < deadline_s) {
        if (waitpid(child->pid, &status, WNOHANG) == child->pid)
            child->pid = 0;
        else
            usleep(2000);
    }
    child_kill(child);
}

/* ---- in doubt ---- */

static bool is_being_ended(const struct sluice_txn *txn)
{
    return txn->state == SLUICE_TXN_PREPARING || txn->state == SLUICE_TXN_COMMITTING ||
           txn->state == SLUICE_TXN_ABORTING;
}

static bool has(const struct sluice_txn *txns, uint32_t count, const struct sluice_txn *txn)
{
    for (uint32_t i = 0; i < count; i++) {
        if (txns[i].name.coordinator == txn->name.coordinator &&
            txns[i].name.open_lsn == txn->name.open_lsn && is_being_ended(&txns[i]))
            return true;
    }
    return false;
}

/* Those that are being ended by clients meanwhile don't count: only what was found first. */
static uint32_t still_in_doubt(struct sluice_client *client, const struct sluice_txn *first,
                               uint32_t first_count)
{
    struct sluice_txn *now;
    uint32_t now_count, left = 0;
    must(sluice_txn_list(client, &now, &now_count), "txn list");
    for (uint32_t i = 0; i < first_count; i++)
        left += is_being_ended(&first[i]) && has(now, now_count, &first[i]);
    sluice_txns_free(now, now_count);
    return left;
}

void check_nothing_in_doubt(struct world *world)
{
    struct sluice_client *client = client_of(world);
    struct sluice_txn *first;
    uint32_t count, left;
    double deadline = now_s() + 5;
    must(sluice_txn_list(client, &first, &count), "txn list");
    while ((left = still_in_doubt(client, first, count)) > 0 && now_s() < deadline)
        usleep(10000);
    if (left > 0)
        fail("%u transactions are in doubt 5 s after the restart", left);
    sluice_txns_free(first, count);
    sluice_client_free(client);
}

/* ---- leftovers ---- */

/* What the broker still holds, as a text; empty: nothing. */
static void held(struct sluice_client *client, char *text, size_t size)
{
    static const char *const gauges[] = {"transactions_open", "participants_prepared",
                                         "staged_bytes"};
    struct sluice_broker_status status;
    size_t known = 0, length = 0;
    must(sluice_status(client, &status), "status");
    text[0] = '\0';
    for (uint32_t i = 0; i < status.value_count; i++) {
        for (size_t j = 0; j < sizeof(gauges) / sizeof(*gauges); j++) {
            if (strcmp(status.values[i].name, gauges[j]) != 0)
                continue;
            known++;
            if (status.values[i].value > 0)
                length += (size_t)snprintf(text + length, size - length, " %s=%" PRIu64, gauges[j],
                                           status.values[i].value);
        }
    }
    sluice_status_free(&status);
    if (known != sizeof(gauges) / sizeof(*gauges))
        fail("the broker's status lacks a figure about transactions");
}

static void print_transactions(struct sluice_client *client)
{
    struct sluice_txn *txns;
    uint32_t count;
    if (sluice_txn_list(client, &txns, &count) != SLUICE_OK)
        return;
    for (uint32_t i = 0; i < count; i++)
        printf("transaction of %s at LSN %" PRIu64 ", state %d, %" PRIu64 " ms old\n",
               txns[i].name.id, txns[i].name.open_lsn, (int)txns[i].state, txns[i].age_ms);
    sluice_txns_free(txns, count);
}

void check_nothing_left(struct world *world)
{
    struct sluice_client *client = client_of(world);
    double deadline = now_s() + 5;
    char text[200];
    for (held(client, text, sizeof(text)); text[0]; held(client, text, sizeof(text))) {
        if (now_s() > deadline) {
            print_transactions(client);
            fail("5 s after the last transaction has ended the broker still holds:%s", text);
        }
        usleep(10000);
    }
    sluice_client_free(client);
}

bool judge_history(const struct world *world, const char *data_dir)
{
    char path[4096];
    if (history_check(world->history))
        return true;
    snprintf(path, sizeof(path), "%s.history", data_dir);
    FILE *file = fopen(path, "w");
    if (!file)
        return false;
    history_print(world->history, file);
    fclose(file);
    printf("the history is in %s\n", path);
    return false;
}
