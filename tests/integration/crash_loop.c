/* kill -9 (or a power cut) in a loop under load, with a checker that every acked record is there once and in
 * order.
 *
 *   sluice-crash-loop BIN_DIR DATA_DIR [--cycles N | --minutes M] [--io uring|epoll|auto] [--seed S]
 *                     [--shards N] [--power-cut MOUNT_POINT DEVICE]
 *
 * Producer threads publish numbered records to several partitions through libsluice (idempotent), across all kills. A
 * record's value names its producer, its number in that partition, and is padded to a random length whose bytes follow from
 * both, so the checker knows what must be there without keeping it. After each kill the broker is started again and
 * the producers go on; at the end everything is consumed:
 *
 *   lost         an acked record is not there, or has another offset than its ack said
 *   duplicate    a record is there twice
 *   disorder     records of one producer in one partition are not in order
 *   foreign      bytes that nobody sent
 *
 * A record without ack may be there or not. With --power-cut the file system that holds DATA_DIR is shut down without
 * flushing its log (as if power failed), unmounted and mounted again before the restart. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#include "base/random.h"
#include "client/include/sluice.h"
#include "bench/engine/broker_process.h"

#define TOPIC "crash"
#define PARTITIONS 6
#define PRODUCERS 4
#define VALUE_MAX 6000
#define RECORDS_MAX (1u << 22) // per producer and partition
#define EXT4_IOC_SHUTDOWN _IOR('X', 125, uint32_t)
#define SHUTDOWN_NO_LOG_FLUSH 2

struct value_head {
    uint32_t magic, producer, partition, length;
    uint64_t number;
};
#define VALUE_MAGIC 0x5a5a1234u

enum fate { FATE_OPEN = 0, FATE_ACKED = 1, FATE_FAILED = 2 };

struct lane { // one producer in one partition
    uint64_t sent;
    uint8_t *fates;    // by number
    uint64_t *offsets; // by number, when acked
    uint64_t next;     // checker: lowest number that may still come
};

struct producer {
    struct loop *loop;
    uint32_t id;
    struct lane lanes[PARTITIONS];
    pthread_t thread;
    struct random random;
};

struct loop {
    struct broker_process broker;
    struct producer producers[PRODUCERS];
    struct sluice_client *client;
    struct random random;
    uint64_t seed;
    uint32_t cycles, minutes;
    uint32_t shards; // on a core each, and one core more, without a shard
    const char *mount_point, *device;
    _Atomic bool stop;
    _Atomic uint64_t acked, failed;
    _Atomic int last_error;
};

static _Noreturn void fail(const char *what)
{
    printf("FAILED: %s\n", what);
    exit(1);
}

static void check(int status, const char *what)
{
    if (status == SLUICE_OK)
        return;
    printf("FAILED: %s: %s: %s\n", what, sluice_name(status), sluice_text(status));
    exit(1);
}

static double now_s(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* ---- records ---- */

/* The bytes behind the head follow from the head. */
static void fill(uint8_t *value, const struct value_head *head)
{
    memcpy(value, head, sizeof(*head));
    uint8_t seed = (uint8_t)(head->number * 31 + head->producer * 7 + head->partition);
    for (uint32_t i = sizeof(*head); i < head->length; i++)
        value[i] = (uint8_t)(seed + i * 13);
}

static bool is_filled(const uint8_t *value, size_t len, struct value_head *head)
{
    static uint8_t expected[VALUE_MAX];
    if (len < sizeof(*head))
        return false;
    memcpy(head, value, sizeof(*head));
    if (head->magic != VALUE_MAGIC || head->length != len || len > VALUE_MAX ||
        head->producer >= PRODUCERS || head->partition >= PARTITIONS)
        return false;
    fill(expected, head);
    return memcmp(expected, value, len) == 0;
}

static void on_report(void *context, const struct sluice_report *report)
{
    struct producer *producer = context;
    struct lane *lane = &producer->lanes[report->partition];
    uint64_t number = (uint64_t)(uintptr_t)report->opaque;
    if (report->status == SLUICE_OK) {
        lane->offsets[number] = report->offset;
        lane->fates[number] = FATE_ACKED;
        atomic_fetch_add(&producer->loop->acked, 1);
        return;
    }
    lane->fates[number] = FATE_FAILED;
    atomic_store(&producer->loop->last_error, report->status);
    atomic_fetch_add(&producer->loop->failed, 1);
}

static void *produce(void *argument)
{
    struct producer *producer = argument;
    struct sluice_producer_options options = {
        .size = sizeof(options),
        .compression = producer->id % 2 ? SLUICE_COMPRESSION_LZ4 : SLUICE_COMPRESSION_NONE,
        .batch_bytes = producer->id == 0 ? 1024 : 0,
        .buffer_bytes = 4u << 20,
        .send_waits = true,
        .on_report = on_report,
        .context = producer};
    struct sluice_producer *handle;
    check(sluice_producer_new(producer->loop->client, &options, &handle), "producer");
    uint8_t value[VALUE_MAX];
    while (!atomic_load(&producer->loop->stop)) {
        uint32_t partition = (uint32_t)random_below(&producer->random, PARTITIONS);
        struct lane *lane = &producer->lanes[partition];
        if (lane->sent == RECORDS_MAX)
            break;
        bool large = random_below(&producer->random, 20) == 0;
        struct value_head head = {
            .magic = VALUE_MAGIC,
            .producer = producer->id,
            .partition = partition,
            .length =
                (uint32_t)(sizeof(head) +
                           random_below(&producer->random, large ? VALUE_MAX - sizeof(head) : 200)),
            .number = lane->sent};
        fill(value, &head);
        struct sluice_record record = {.topic = TOPIC,
                                       .partition = partition,
                                       .value = value,
                                       .value_len = head.length,
                                       .opaque = (void *)(uintptr_t)lane->sent};
        lane->sent++;
        int status = sluice_producer_send(handle, &record);
        if (status) {
            lane->sent--;
            check(status, "send");
        }
        if (random_below(&producer->random, 64) == 0)
            usleep((useconds_t)random_below(&producer->random, 2000));
    }
    check(sluice_producer_flush(handle, 120000), "flush");
    sluice_producer_free(handle);
    return NULL;
}

/* ---- kills ---- */

/* What reached the disk stays, what was only in memory of the file system is gone. */
static void cut_power(struct loop *loop)
{
    int fd = open(loop->mount_point, O_RDONLY | O_DIRECTORY);
    uint32_t how = SHUTDOWN_NO_LOG_FLUSH;
    if (fd < 0 || ioctl(fd, EXT4_IOC_SHUTDOWN, &how)) {
        printf("%s: shutdown: %s\n", loop->mount_point, strerror(errno));
        exit(1);
    }
    close(fd);
    broker_kill(&loop->broker);
    for (int tries = 0; umount(loop->mount_point); tries++) {
        if (tries == 500)
            fail("can't unmount after the power cut");
        usleep(10000);
    }
    if (mount(loop->device, loop->mount_point, "ext4", 0, ""))
        fail("can't mount after the power cut");
}

static void one_cycle(struct loop *loop, uint32_t cycle)
{
    usleep((useconds_t)(20000 + random_below(&loop->random, 400000)));
    uint64_t acked = atomic_load(&loop->acked);
    if (loop->mount_point)
        cut_power(loop);
    else
        broker_kill(&loop->broker);
    if (!broker_start(&loop->broker))
        fail("the broker did not start again");
    /* Each cycle must get on, or the loop would test nothing. */
    double deadline = now_s() + 60;
    while (atomic_load(&loop->acked) <= acked) {
        if (now_s() > deadline)
            fail("no record was acked for 60 s after a restart");
        usleep(1000);
    }
    if (cycle % 10 == 9)
        printf("%u cycles, %" PRIu64 " acked, last restart ready after %.3f s\n", cycle + 1, acked,
               loop->broker.ready_s);
}

/* ---- the checker ---- */

static void check_record(struct loop *loop, const struct sluice_message *message)
{
    struct value_head head;
    if (!is_filled(message->value, message->value_len, &head) ||
        head.partition != message->partition) {
        printf("partition %u offset %" PRIu64
               ", %zu bytes: magic %x producer %u partition %u number %" PRIu64 " length %u\n",
               message->partition, message->offset, message->value_len, head.magic, head.producer,
               head.partition, head.number, head.length);
        fail("foreign: a record that nobody sent, or in a partition it was not sent to");
    }
    struct lane *lane = &loop->producers[head.producer].lanes[head.partition];
    if (head.number >= lane->sent)
        fail("foreign: a number that was not sent");
    if (head.number < lane->next) {
        printf("producer %u partition %u number %" PRIu64 " at offset %" PRIu64
               ", expected from %" PRIu64 "\n",
               head.producer, head.partition, head.number, message->offset, lane->next);
        fail("duplicate or disorder");
    }
    for (uint64_t n = lane->next; n < head.number; n++) {
        if (lane->fates[n] == FATE_ACKED) {
            printf("producer %u partition %u number %" PRIu64 " (acked at offset %" PRIu64
                   ") is missing\n",
                   head.producer, head.partition, n, lane->offsets[n]);
            fail("lost");
        }
    }
    if (lane->fates[head.number] == FATE_ACKED && lane->offsets[head.number] != message->offset) {
        printf("producer %u partition %u number %" PRIu64 " at offset %" PRIu64
               ", acked at offset %" PRIu64 "\n",
               head.producer, head.partition, head.number, message->offset,
               lane->offsets[head.number]);
        fail("a record is at another offset than its ack said");
    }
    lane->next = head.number + 1;
}

static uint64_t check_everything(struct loop *loop)
{
    uint64_t total = 0, seen = 0;
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        uint64_t end;
        check(sluice_offset(loop->client, TOPIC, p, SLUICE_START_END, 0, &end), "end offset");
        total += end;
    }
    struct sluice_consumer_options options = {.size = sizeof(options)};
    struct sluice_consumer *consumer;
    check(sluice_consumer_new(loop->client, &options, &consumer), "consumer");
    check(
        sluice_consumer_subscribe(consumer, TOPIC, SLUICE_PARTITION_ANY, SLUICE_START_BEGINNING, 0),
        "subscribe");
    static struct sluice_message messages[1024];
    double last = now_s();
    while (seen < total) {
        int got = sluice_consumer_poll(consumer, messages, 1024, 1000);
        if (got < 0)
            check(got, "poll");
        for (int i = 0; i < got; i++)
            check_record(loop, &messages[i]);
        seen += (uint64_t)got;
        if (got > 0)
            last = now_s();
        else if (now_s() - last > 30)
            fail("stuck: no record came for 30 s before the end was reached");
    }
    sluice_consumer_free(consumer);
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        for (uint32_t p = 0; p < PARTITIONS; p++) {
            struct lane *lane = &loop->producers[i].lanes[p];
            for (uint64_t n = lane->next; n < lane->sent; n++) {
                if (lane->fates[n] == FATE_ACKED)
                    fail("lost: acked records at the end of a partition are missing");
            }
        }
    }
    return total;
}

/* ---- set-up ---- */

static void parse(struct loop *loop, int argc, char **argv)
{
    for (int i = 3; i < argc; i++) {
        bool has_value = i + 1 < argc;
        if (strcmp(argv[i], "--cycles") == 0 && has_value)
            loop->cycles = (uint32_t)strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--minutes") == 0 && has_value)
            loop->minutes = (uint32_t)strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--io") == 0 && has_value)
            loop->broker.io = argv[++i];
        else if (strcmp(argv[i], "--seed") == 0 && has_value)
            loop->seed = strtoull(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--shards") == 0 && has_value)
            loop->shards = (uint32_t)strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--power-cut") == 0 && i + 2 < argc) {
            loop->mount_point = argv[++i];
            loop->device = argv[++i];
        } else {
            fprintf(stderr, "sluice-crash-loop: unknown argument %s\n", argv[i]);
            exit(2);
        }
    }
}

static void start_producers(struct loop *loop)
{
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        struct producer *producer = &loop->producers[i];
        producer->loop = loop;
        producer->id = i;
        random_init(&producer->random, loop->seed * 1000 + i);
        for (uint32_t p = 0; p < PARTITIONS; p++) {
            producer->lanes[p].fates = calloc(RECORDS_MAX, sizeof(uint8_t));
            producer->lanes[p].offsets = calloc(RECORDS_MAX, sizeof(uint64_t));
            if (!producer->lanes[p].fates || !producer->lanes[p].offsets)
                fail("out of memory");
        }
        if (pthread_create(&producer->thread, NULL, produce, producer))
            fail("can't start a thread");
    }
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr,
                "usage: sluice-crash-loop BIN_DIR DATA_DIR [--cycles N | --minutes M] [--io B] "
                "[--seed S] [--shards N] [--power-cut MOUNT_POINT DEVICE]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    static struct loop loop = {.cycles = 10, .shards = 1};
    loop.seed = random_seed_system() % 1000000;
    parse(&loop, argc, argv);
    static char program[4096], shards[32], cores[16], budget[48];
    /* Small segments and a small budget: rolls, recycling, checkpoints and unweaving happen between the kills. */
    snprintf(shards, sizeof(shards), "shards=%u", loop.shards);
    snprintf(cores, sizeof(cores), "%u", loop.shards + 1);
    snprintf(budget, sizeof(budget), "wal_bytes_budget=%uMiB", 64 * loop.shards);
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
    if (loop.mount_point) /* the log must not lie on the file system that is cut */
        snprintf(loop.broker.log_path, sizeof(loop.broker.log_path), "%s.log", loop.mount_point);
    random_init(&loop.random, loop.seed);
    printf("seed %" PRIu64 "\n", loop.seed);

    if (!broker_start(&loop.broker))
        return 1;
    struct sluice_client_options options = {.size = sizeof(options), .server = loop.broker.address};
    check(sluice_client_new(&options, &loop.client), "client");
    check(sluice_topic_create(loop.client, TOPIC, PARTITIONS, NULL, 0), "topic");
    start_producers(&loop);
    double end = now_s() + loop.minutes * 60.0;
    uint32_t done = 0;
    while (loop.minutes ? now_s() < end : done < loop.cycles)
        one_cycle(&loop, done++);
    atomic_store(&loop.stop, true);
    for (uint32_t i = 0; i < PRODUCERS; i++)
        pthread_join(loop.producers[i].thread, NULL);
    uint64_t total = check_everything(&loop);
    sluice_client_free(loop.client);
    if (broker_stop(&loop.broker) != 0)
        fail("the broker did not stop cleanly");
    if (atomic_load(&loop.failed) > 0) {
        printf("%" PRIu64 " records were refused, the last: %s\n", atomic_load(&loop.failed),
               sluice_name(atomic_load(&loop.last_error)));
        fail("an idempotent producer lost records to errors that a restart must not cause");
    }
    printf("intact: %" PRIu64 " records, %" PRIu64 " acked, %u %s\n", total,
           atomic_load(&loop.acked), done, loop.mount_point ? "power cuts" : "kills");
    return 0;
}
