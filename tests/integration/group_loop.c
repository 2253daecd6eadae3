/* sluice-group-loop BIN_DIR DATA_DIR [--io X] [--shards N] [--seconds S]: consumers of one group that come and go.
 *
 * First they come and go orderly, while a producer writes: each record must then be processed exactly once, since whoever gives a
 * partition up commits first. Then consumers are killed, and the broker, too: each record must be processed at least once, and no
 * committed offset may be lower than one that was seen before. What is processed is counted in memory that all processes share;
 * this process has no threads, it only forks, kills, and judges. */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/include/sluice.h"
#include "bench/engine/broker_process.h"

#define PARTITIONS 12u
#define CONSUMERS 5
#define RECORDS_MAX 2000000u
#define POLL_MESSAGES 64
#define SESSION_MS 2000

struct shared {            // by all processes
    _Atomic uint64_t sent; // values 0..sent-1 were acked when `is_sent` is set
    _Atomic bool is_sent, stop_sending;
    _Atomic uint64_t processed;
    _Atomic uint32_t rebalances;
    _Atomic uint32_t observations; // of committed offsets
    _Atomic bool has_gone_back;
    _Atomic uint16_t seen[RECORDS_MAX];
};

static struct shared *shared;
static struct broker_process broker;
static const char *group; // and its topic: of the phase
static unsigned seed = 1;

static void fail(const char *what, int status)
{
    fprintf(stderr, "group-loop: %s: %s (%s)\n", what, sluice_name(status), sluice_last_error());
    _exit(1);
}

static void nap_ms(unsigned ms)
{
    struct timespec time = {ms / 1000, (long)(ms % 1000) * 1000000};
    while (nanosleep(&time, &time) != 0 && errno == EINTR) {
    }
}

static struct sluice_client *connect_client(void)
{
    struct sluice_client *client;
    struct sluice_client_options options = {.size = sizeof(options), .server = broker.address};
    int status = sluice_client_new(&options, &client);
    if (status != SLUICE_OK)
        fail("connect", status);
    return client;
}

/* ---- processes ---- */

static _Atomic uint64_t reports_bad;

static void on_report(void *context, const struct sluice_report *report)
{
    if (report->status != SLUICE_OK)
        atomic_fetch_add(&reports_bad, 1);
}

/* Numbers, one a record, until it is told to stop. */
static void produce(void)
{
    struct sluice_client *client = connect_client();
    struct sluice_producer *producer;
    struct sluice_producer_options options = {
        .size = sizeof(options), .send_waits = true, .on_report = on_report};
    int status = sluice_producer_new(client, &options, &producer);
    uint64_t value = 0;
    while (status == SLUICE_OK && !atomic_load(&shared->stop_sending) && value < RECORDS_MAX) {
        struct sluice_record record = {.topic = group,
                                       .partition = (uint32_t)(value % PARTITIONS),
                                       .value = &value,
                                       .value_len = sizeof(value)};
        status = sluice_producer_send(producer, &record);
        value++;
        if (value % 200 == 0)
            nap_ms(10);
    }
    if (status == SLUICE_OK)
        status = sluice_producer_flush(producer, 60000);
    if (status != SLUICE_OK || atomic_load(&reports_bad) > 0)
        fail("produce", status);
    atomic_store(&shared->sent, value);
    atomic_store(&shared->is_sent, true);
    sluice_producer_free(producer);
    sluice_client_free(client);
}

static volatile sig_atomic_t is_asked_to_end;

static void on_term(int number)
{
    is_asked_to_end = 1;
}

static void on_rebalance(void *context, enum sluice_rebalance what,
                         const struct sluice_partition *partitions, uint32_t count)
{
    atomic_fetch_add(&shared->rebalances, 1);
}

/* Until SIGTERM: then it leaves orderly. */
static void consume(const char *instance)
{
    struct sluice_message messages[POLL_MESSAGES];
    struct sluice_client *client = connect_client();
    struct sluice_consumer *consumer;
    struct sluice_consumer_options options = {.size = sizeof(options),
                                              .group = group,
                                              .instance_id = instance,
                                              .session_timeout_ms = SESSION_MS,
                                              .auto_commit_interval_ms = 200,
                                              .on_rebalance = on_rebalance};
    const char *topics[] = {group};
    signal(SIGTERM, on_term);
    int status = sluice_consumer_new(client, &options, &consumer);
    if (status == SLUICE_OK)
        status = sluice_consumer_join(consumer, topics, 1);
    bool goes_on = status == SLUICE_E_TIMED_OUT || status == SLUICE_E_CONNECT;
    if (status != SLUICE_OK && !goes_on)
        fail("join", status);
    while (!is_asked_to_end) {
        int n = sluice_consumer_poll(consumer, messages, POLL_MESSAGES, 50);
        if (n < 0)
            fail("poll", n);
        for (int i = 0; i < n; i++) {
            uint64_t value;
            memcpy(&value, messages[i].value, sizeof(value));
            atomic_fetch_add(&shared->seen[value], 1);
            atomic_fetch_add(&shared->processed, 1);
        }
    }
    sluice_consumer_free(consumer);
    sluice_client_free(client);
}

/* Looks at the group's offsets for as long as it lives. */
static void observe(void)
{
    uint64_t highest[PARTITIONS] = {0};
    struct sluice_client *client = connect_client();
    struct sluice_consumer *consumer;
    struct sluice_consumer_options options = {
        .size = sizeof(options), .group = group, .manual_commit = true};
    int status = sluice_consumer_new(client, &options, &consumer);
    if (status == SLUICE_OK) // the library must know a partition to be asked for its offset
        status =
            sluice_consumer_subscribe(consumer, group, SLUICE_PARTITION_ANY, SLUICE_START_END, 0);
    if (status == SLUICE_OK)
        status = sluice_consumer_pause(consumer, group, SLUICE_PARTITION_ANY);
    if (status != SLUICE_OK)
        fail("observe", status);
    signal(SIGTERM, on_term);
    while (!is_asked_to_end) {
        for (uint32_t p = 0; p < PARTITIONS && !is_asked_to_end; p++) {
            uint64_t offset;
            status = sluice_consumer_committed(consumer, group, p, &offset, 1000);
            if (status != SLUICE_OK)
                continue; // the broker is down
            bool is_lower = offset == SLUICE_OFFSET_UNKNOWN ? highest[p] > 0 : offset < highest[p];
            atomic_fetch_add(&shared->observations, 1);
            if (is_lower)
                atomic_store(&shared->has_gone_back, true);
            else if (offset != SLUICE_OFFSET_UNKNOWN)
                highest[p] = offset;
        }
        nap_ms(20);
    }
    sluice_consumer_free(consumer);
    sluice_client_free(client);
}

/* ---- this process ---- */

static pid_t start_process(void (*run)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        run();
        _exit(0);
    }
    return pid;
}

static pid_t start_consumer(int i)
{
    static const char *const instances[CONSUMERS] = {NULL, NULL, "third", NULL, "fifth"};
    pid_t pid = fork();
    if (pid == 0) {
        consume(instances[i]);
        _exit(0);
    }
    return pid;
}

/* True when it ended by itself with 0, or by the signal that killed it. */
static bool end_process(pid_t pid, int number)
{
    int state = 0;
    kill(pid, number);
    if (waitpid(pid, &state, 0) != pid)
        return false;
    return (WIFEXITED(state) && WEXITSTATUS(state) == 0) ||
           (number == SIGKILL && WIFSIGNALED(state));
}

static unsigned below(unsigned limit)
{
    return (unsigned)rand_r(&seed) % limit;
}

static void create_topic(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct sluice_client *client = connect_client();
        int status = sluice_topic_create(client, group, PARTITIONS, NULL, 0);
        if (status != SLUICE_OK)
            fail("create", status);
        _exit(0);
    }
    if (!end_process(pid, 0))
        exit(1);
}

static bool all_seen(uint64_t sent)
{
    for (uint64_t value = 0; value < sent; value++) {
        if (atomic_load(&shared->seen[value]) == 0)
            return false;
    }
    return true;
}

static bool judge(const char *phase, bool exactly_once)
{
    uint64_t sent = atomic_load(&shared->sent), missing = 0, again = 0;
    for (uint64_t value = 0; value < sent; value++) {
        uint16_t seen = atomic_load(&shared->seen[value]);
        missing += seen == 0;
        again += seen > 1;
    }
    bool is_well = sent > 0 && missing == 0 && atomic_load(&shared->observations) > PARTITIONS &&
                   !(exactly_once && again > 0) && !atomic_load(&shared->has_gone_back);
    printf("%s: %s, %llu records, %llu never processed, %llu more than once, %u changes and %u "
           "offsets seen%s\n",
           phase, is_well ? "well" : "BAD", (unsigned long long)sent, (unsigned long long)missing,
           (unsigned long long)again, atomic_load(&shared->rebalances),
           atomic_load(&shared->observations),
           atomic_load(&shared->has_gone_back) ? ", AN OFFSET WENT BACK" : "");
    fflush(stdout); // or each child that is forked from now on has these words, too
    return is_well;
}

/* One phase in a group of its own. with_kills: consumers and the broker are killed, else they end orderly. */
static bool run_phase(const char *name, unsigned seconds, bool with_kills)
{
    pid_t consumers[CONSUMERS];
    bool is_well = true;
    memset(shared, 0, sizeof(*shared));
    group = name;
    create_topic();
    for (int i = 0; i < CONSUMERS; i++)
        consumers[i] = start_consumer(i);
    pid_t observer = start_process(observe), producer = start_process(produce);
    for (unsigned step = 0; step < seconds * 2; step++) {
        int i = (int)below(CONSUMERS);
        nap_ms(300 + below(400));
        is_well &= end_process(consumers[i], with_kills && below(2) ? SIGKILL : SIGTERM);
        nap_ms(below(300));
        consumers[i] = start_consumer(i);
        if (with_kills && step % 5 == 4) {
            broker_kill(&broker);
            if (!broker_start(&broker))
                return false;
        }
    }
    atomic_store(&shared->stop_sending, true);
    is_well &= end_process(producer, 0);
    for (int wait = 0; wait < 300 && !all_seen(atomic_load(&shared->sent)); wait++)
        nap_ms(100);
    for (int i = 0; i < CONSUMERS; i++)
        is_well &= end_process(consumers[i], SIGTERM);
    is_well &= end_process(observer, SIGTERM);
    return judge(name, !with_kills) && is_well;
}

int main(int argc, char **argv)
{
    static const char *extra[3];
    unsigned seconds = 6;
    char program[4096];
    if (argc < 3) {
        fprintf(stderr, "usage: %s BIN_DIR DATA_DIR [--io X] [--shards N] [--seconds S]\n",
                argv[0]);
        return 2;
    }
    snprintf(program, sizeof(program), "%s/sluiced", argv[1]);
    broker = (struct broker_process){.program = program, .data_dir = argv[2], .io = "auto"};
    for (int i = 3; i + 1 < argc; i += 2) {
        static char shards[32];
        if (strcmp(argv[i], "--io") == 0)
            broker.io = argv[i + 1];
        if (strcmp(argv[i], "--seconds") == 0)
            seconds = (unsigned)atoi(argv[i + 1]);
        if (strcmp(argv[i], "--shards") == 0) {
            snprintf(shards, sizeof(shards), "shards=%s", argv[i + 1]);
            extra[0] = "--set";
            extra[1] = shards;
            broker.extra = extra;
        }
    }
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || !broker_start(&broker))
        return 1;
    bool is_well = run_phase("orderly", seconds, false);
    is_well = is_well && run_phase("killed", seconds, true);
    return broker_stop(&broker) == 0 && is_well ? 0 : 1;
}
