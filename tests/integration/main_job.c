/* The main job on real input: publish a catalogue of text stanzas three times over, kill the broker with -9 when
 * half of the acks have arrived, restart it, go on, consume everything, compare byte for byte, per key, in order.
 *
 *   sluice-main-job BIN_DIR DATA_DIR CATALOGUE
 *
 * A stanza is a block of lines between blank lines; its record has key = the stanza's Section, header `package` =
 * its Package, value = its text. Its last line is "identical: N records, 8 partitions, 1 kill", or it fails. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "client/include/sluice.h"
#include "bench/engine/broker_process.h"

#define ROUNDS 3
#define PARTITIONS 8
#define TOPIC "packages"

struct text {
    const char *bytes;
    size_t len;
};

struct stanza {
    struct text value, key, package;
    uint32_t key_index;
};

struct key { // of one section: its stanzas in order of the file
    struct text name;
    uint32_t *stanzas;
    uint32_t count, capacity;
    uint64_t consumed; // records of this key seen so far
    uint32_t partition;
    uint64_t offset_last;
};

struct job {
    struct stanza *stanzas;
    uint32_t stanza_count, stanza_capacity;
    struct key *keys;
    uint32_t key_count;
    _Atomic uint64_t acked, failed; // reports, on the library's thread
    struct broker_process broker;
};

static double now_s(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

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

/* ---- the catalogue ---- */

static struct text field(struct text stanza, const char *name)
{
    size_t name_len = strlen(name);
    const char *line = stanza.bytes, *end = stanza.bytes + stanza.len;
    while (line < end) {
        const char *line_end = memchr(line, '\n', (size_t)(end - line));
        if (!line_end)
            line_end = end;
        if ((size_t)(line_end - line) > name_len && memcmp(line, name, name_len) == 0)
            return (struct text){line + name_len, (size_t)(line_end - line) - name_len};
        line = line_end + 1;
    }
    return (struct text){"unknown", 7};
}

static uint32_t key_of(struct job *job, struct text name)
{
    for (uint32_t i = 0; i < job->key_count; i++) {
        if (job->keys[i].name.len == name.len &&
            memcmp(job->keys[i].name.bytes, name.bytes, name.len) == 0)
            return i;
    }
    job->keys = realloc(job->keys, (job->key_count + 1) * sizeof(*job->keys));
    if (!job->keys)
        fail("out of memory");
    job->keys[job->key_count] = (struct key){.name = name, .partition = UINT32_MAX};
    return job->key_count++;
}

static void add_stanza(struct job *job, struct text value)
{
    if (job->stanza_count == job->stanza_capacity) {
        job->stanza_capacity = job->stanza_capacity ? job->stanza_capacity * 2 : 65536;
        job->stanzas = realloc(job->stanzas, job->stanza_capacity * sizeof(*job->stanzas));
        if (!job->stanzas)
            fail("out of memory");
    }
    struct stanza *stanza = &job->stanzas[job->stanza_count];
    *stanza = (struct stanza){
        .value = value, .key = field(value, "Section: "), .package = field(value, "Package: ")};
    stanza->key_index = key_of(job, stanza->key);
    struct key *key = &job->keys[stanza->key_index];
    if (key->count == key->capacity) {
        key->capacity = key->capacity ? key->capacity * 2 : 64;
        key->stanzas = realloc(key->stanzas, key->capacity * sizeof(*key->stanzas));
        if (!key->stanzas)
            fail("out of memory");
    }
    key->stanzas[key->count++] = job->stanza_count++;
}

static void load_catalogue(struct job *job, const char *path)
{
    int fd = open(path, O_RDONLY);
    struct stat info;
    if (fd < 0 || fstat(fd, &info) || info.st_size == 0)
        fail("the catalogue can't be read or is empty");
    const char *at = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (at == MAP_FAILED)
        fail("the catalogue can't be mapped");
    const char *end = at + info.st_size;
    while (at < end) {
        const char *blank = memmem(at, (size_t)(end - at), "\n\n", 2);
        const char *stanza_end = blank ? blank + 1 : end;
        if (stanza_end > at + 1)
            add_stanza(job, (struct text){at, (size_t)(stanza_end - at)});
        at = blank ? blank + 2 : end;
    }
    close(fd);
}

/* ---- publish ---- */

static void on_report(void *context, const struct sluice_report *report)
{
    struct job *job = context;
    if (report->status == SLUICE_OK) {
        atomic_fetch_add(&job->acked, 1);
        return;
    }
    if (atomic_fetch_add(&job->failed, 1) == 0)
        printf("a record was refused: %s: %s\n", sluice_name(report->status),
               sluice_text(report->status));
}

static void send_stanza(struct sluice_producer *producer, const struct stanza *stanza)
{
    char package[512];
    size_t len = stanza->package.len < sizeof(package) ? stanza->package.len : sizeof(package);
    memcpy(package, stanza->package.bytes, len);
    struct sluice_header header = {.key = "package", .value = package, .value_len = len};
    struct sluice_record record = {.topic = TOPIC,
                                   .partition = SLUICE_PARTITION_ANY,
                                   .key = stanza->key.bytes,
                                   .key_len = stanza->key.len,
                                   .value = stanza->value.bytes,
                                   .value_len = stanza->value.len,
                                   .headers = &header,
                                   .header_count = 1};
    check(sluice_producer_send(producer, &record), "send");
}

/* The kill is in the middle of the work: half of all acks are here, and records are on their way. */
static void kill_and_restart(struct job *job, uint64_t sent)
{
    uint64_t acked = atomic_load(&job->acked);
    broker_kill(&job->broker);
    printf("killed the broker with -9: %" PRIu64 " records sent, %" PRIu64 " acked\n", sent, acked);
    if (!broker_start(&job->broker))
        fail("the broker did not start again");
    printf("restarted: ready after %.3f s\n", job->broker.ready_s);
}

static uint64_t publish(struct job *job, struct sluice_client *client)
{
    struct sluice_producer_options options = {
        .size = sizeof(options), .send_waits = true, .on_report = on_report, .context = job};
    struct sluice_producer *producer;
    check(sluice_producer_new(client, &options, &producer), "producer");
    uint64_t total = (uint64_t)job->stanza_count * ROUNDS, sent = 0, bytes = 0;
    bool killed = false;
    double started = now_s();
    for (int round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < job->stanza_count; i++) {
            if (!killed && atomic_load(&job->acked) >= total / 2) {
                kill_and_restart(job, sent);
                killed = true;
            }
            send_stanza(producer, &job->stanzas[i]);
            bytes += job->stanzas[i].value.len;
            sent++;
        }
    }
    if (!killed) { // acks came in late: what is still open is on its way now
        while (atomic_load(&job->acked) < total / 2)
            usleep(100);
        kill_and_restart(job, sent);
    }
    check(sluice_producer_flush(producer, 120000), "flush");
    double seconds = now_s() - started;
    sluice_producer_free(producer);
    if (atomic_load(&job->failed) > 0 || atomic_load(&job->acked) != total)
        fail("not every record was acked");
    printf("published %" PRIu64
           " records, %.1f MB in %.2f s: %.0f records/s, %.1f MB/s (with the kill)\n",
           total, (double)bytes / 1e6, seconds, (double)total / seconds,
           (double)bytes / 1e6 / seconds);
    return total;
}

/* ---- consume and compare ---- */

static bool equals(struct text a, const void *bytes, size_t len)
{
    return a.len == len && memcmp(a.bytes, bytes, len) == 0;
}

static void compare(struct job *job, const struct sluice_message *message)
{
    struct key *key = NULL;
    for (uint32_t i = 0; i < job->key_count && !key; i++) {
        if (equals(job->keys[i].name, message->key, message->key_len))
            key = &job->keys[i];
    }
    if (!key)
        fail("a record has a key that was never sent");
    if (key->consumed == (uint64_t)key->count * ROUNDS)
        fail("a key has more records than were sent");
    const struct stanza *stanza = &job->stanzas[key->stanzas[key->consumed % key->count]];
    if (!equals(stanza->value, message->value, message->value_len)) {
        printf("key %.*s, record %" PRIu64 " (partition %u offset %" PRIu64 ") differs\n",
               (int)key->name.len, key->name.bytes, key->consumed, message->partition,
               message->offset);
        fail("a record differs from what was sent, or is out of order");
    }
    const char *name;
    const void *value;
    size_t name_len, value_len;
    if (message->header_count != 1 ||
        sluice_message_header(message, 0, &name, &name_len, &value, &value_len) || name_len != 7 ||
        memcmp(name, "package", 7) != 0 || !equals(stanza->package, value, value_len))
        fail("a record's header differs");
    if (key->partition != UINT32_MAX &&
        (key->partition != message->partition || message->offset <= key->offset_last))
        fail("a key's records are in two partitions or not in order of offset");
    key->partition = message->partition;
    key->offset_last = message->offset;
    key->consumed++;
}

static void consume(struct job *job, struct sluice_client *client, uint64_t total)
{
    uint64_t stored = 0;
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        uint64_t start, end;
        check(sluice_offset(client, TOPIC, p, SLUICE_START_BEGINNING, 0, &start), "offset");
        check(sluice_offset(client, TOPIC, p, SLUICE_START_END, 0, &end), "offset");
        stored += end - start;
    }
    if (stored != total) {
        printf("%" PRIu64 " records are stored, %" PRIu64 " were sent\n", stored, total);
        fail("records are lost or there twice");
    }
    struct sluice_consumer_options options = {.size = sizeof(options)};
    struct sluice_consumer *consumer;
    check(sluice_consumer_new(client, &options, &consumer), "consumer");
    check(
        sluice_consumer_subscribe(consumer, TOPIC, SLUICE_PARTITION_ANY, SLUICE_START_BEGINNING, 0),
        "subscribe");
    static struct sluice_message messages[1024];
    uint64_t received = 0, bytes = 0;
    double started = now_s(), last = started;
    while (received < total) {
        int got = sluice_consumer_poll(consumer, messages, 1024, 1000);
        if (got < 0)
            check(got, "poll");
        for (int i = 0; i < got; i++) {
            compare(job, &messages[i]);
            bytes += messages[i].value_len;
        }
        received += (uint64_t)got;
        if (got > 0)
            last = now_s();
        else if (now_s() - last > 30)
            fail("no record came for 30 s");
    }
    double seconds = now_s() - started;
    sluice_consumer_free(consumer);
    printf("consumed and compared %" PRIu64
           " records, %.1f MB in %.2f s: %.0f records/s, %.1f MB/s\n",
           received, (double)bytes / 1e6, seconds, (double)received / seconds,
           (double)bytes / 1e6 / seconds);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: sluice-main-job BIN_DIR DATA_DIR CATALOGUE\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    static struct job job;
    static char program[4096];
    snprintf(program, sizeof(program), "%s/sluiced", argv[1]);
    job.broker = (struct broker_process){.program = program, .data_dir = argv[2]};
    load_catalogue(&job, argv[3]);
    printf("catalogue: %u stanzas, %u keys\n", job.stanza_count, job.key_count);
    if (!broker_start(&job.broker))
        return 1;
    printf("broker ready after %.3f s on %s\n", job.broker.ready_s, job.broker.address);

    struct sluice_client_options options = {
        .size = sizeof(options), .server = job.broker.address, .client_id = "main-job"};
    struct sluice_client *client;
    check(sluice_client_new(&options, &client), "client");
    check(sluice_topic_create(client, TOPIC, PARTITIONS, NULL, 0), "topic");
    uint64_t total = publish(&job, client);
    consume(&job, client, total);
    printf("broker's peak resident set: %.1f MiB\n",
           (double)broker_rss_peak_kib(&job.broker) / 1024);
    sluice_client_free(client);
    if (broker_stop(&job.broker) != 0)
        fail("the broker did not stop cleanly");
    printf("identical: %" PRIu64 " records, %d partitions, 1 kill\n", total, PARTITIONS);
    return 0;
}
