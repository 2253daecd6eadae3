/* Attacks on publishing: numbers, sizes, batches that lie about themselves, producers without end. What was acked is
 * there afterwards, what was refused isn't. */
#include "tests/integration/hostile.h"

#include <stdlib.h>
#include <string.h>

/* ---- numbers ---- */

void attack_publish_numbers(void)
{
    static const uint64_t numbers[] = {0, 2, 3, UINT64_MAX, (uint64_t)1 << 63};
    uint8_t bytes[4 * SAMPLE_BYTES_MAX];
    struct peer peer;
    uint64_t before = victim_end(0);
    for (size_t i = 0; i < ARRAY_COUNT(numbers); i++) {
        peer_open(&peer, "a first publish that is not number 1");
        peer_send(&peer, bytes, make_produce(bytes, numbers[i]));
        peer_expect_error(&peer, PE_NOT_CONTIGUOUS, OP_PRODUCE, numbers[i]);
        peer_expect_end(&peer);
        peer_close(&peer);
    }
    for (size_t i = 0; i < ARRAY_COUNT(numbers); i++) {
        peer_open(&peer, "a gap");
        peer_send(&peer, bytes, make_produce(bytes, 1));
        peer_expect_ack(&peer, 1);
        peer_send(&peer, bytes, make_produce(bytes, numbers[i] == 2 ? 1 : numbers[i]));
        peer_expect_error(&peer, PE_NOT_CONTIGUOUS, OP_PRODUCE, numbers[i] == 2 ? 1 : numbers[i]);
        peer_expect_end(&peer);
        peer_close(&peer);
    }
    if (victim_end(0) != before + 2 * ARRAY_COUNT(numbers))
        fail("publishes out of order were stored, or acked ones were not");
}

/* ---- sizes ---- */

static void send_sizes(const char *what, const uint32_t *sizes, uint16_t count, uint32_t data_bytes,
                       uint16_t flags)
{
    uint8_t bytes[SAMPLE_BYTES_MAX] = {0};
    struct peer peer;
    struct writer w = meta_writer(bytes, 512);
    write_produce_begin(&w, count, flags);
    for (uint16_t i = 0; i < count; i++)
        write_produce_item(&w, hostile.victim_id, 0, sizes[i]);
    uint32_t length = frame_seal(bytes, OP_PRODUCE, 0, 1, writer_length(&w), data_bytes);
    peer_open(&peer, what);
    peer_send(&peer, bytes, length);
    peer_expect_error(&peer, PE_MALFORMED, OP_PRODUCE, 1);
    peer_expect_end(&peer);
    peer_close(&peer);
}

static uint32_t make_flagged(uint8_t *bytes, uint64_t number, uint16_t count, uint16_t flags,
                             uint32_t reserved)
{
    uint8_t batch[256];
    uint32_t size = make_batch(batch, sizeof(batch), 1, "v", 1);
    struct writer w = meta_writer(bytes, 512);
    write_produce_begin(&w, count, flags);
    if (flags & PRODUCE_STAGED)
        write_produce_staged(&w, 0, 4096);
    for (uint16_t i = 0; i < count; i++) {
        write_produce_item(&w, hostile.victim_id, 0, size);
        ((struct produce_item *)(w.at - sizeof(struct produce_item)))->reserved =
            le32_make(reserved);
        memcpy(bytes + 512 + i * size, batch, size);
    }
    memmove(w.at, bytes + 512, count * size);
    return frame_seal(bytes, OP_PRODUCE, 0, number, writer_length(&w), count * size);
}

void attack_publish_sizes(void)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    struct peer peer;
    uint64_t before = victim_end(0);
    send_sizes("a batch larger than the data", (const uint32_t[]){101}, 1, 100, 0);
    send_sizes("a batch smaller than the data", (const uint32_t[]){99}, 1, 100, 0);
    send_sizes("sizes that sum up to the data modulo 2^32", (const uint32_t[]){UINT32_MAX, 101}, 2,
               100, 0);
    send_sizes("sizes that are half of 2^32",
               (const uint32_t[]){(uint32_t)1 << 31, (uint32_t)1 << 31, 100}, 3, 100, 0);
    send_sizes("data without a batch", NULL, 0, 100, 0);
    send_sizes("no transaction", NULL, 0, 0, PRODUCE_STAGED);
    send_sizes("an item where the transaction should be", (const uint32_t[]){100}, 1, 100,
               PRODUCE_STAGED);
    peer_open(&peer, "publishes that are refused as a whole");
    const struct {
        uint16_t count, flags;
        uint32_t reserved;
        uint16_t error;
    } refused[] = {{0, 0, 0, PE_INVALID_ARGUMENT},
                   {1, 2, 0, PE_INVALID_ARGUMENT},
                   {1, 0x8000, 0, PE_INVALID_ARGUMENT},
                   {2, 0, 1, PE_INVALID_ARGUMENT},
                   {0, PRODUCE_STAGED, 0, PE_INVALID_ARGUMENT},
                   {1, PRODUCE_STAGED | 2, 0, PE_INVALID_ARGUMENT},
                   {1, PRODUCE_STAGED, 1, PE_INVALID_ARGUMENT},
                   {1, PRODUCE_STAGED, 0, PE_INVALID_RECORD}}; // it names no producer
    uint64_t number = 1;
    for (size_t i = 0; i < ARRAY_COUNT(refused); i++, number++) {
        peer_send(
            &peer, bytes,
            make_flagged(bytes, number, refused[i].count, refused[i].flags, refused[i].reserved));
        peer_expect_error(&peer, refused[i].error, OP_PRODUCE, number);
    }
    peer_send(&peer, bytes,
              make_flagged(bytes, number, 3, 0, 0)); // the refused ones used their numbers
    peer_expect_ack(&peer, number);
    peer_close(&peer);
    if (victim_end(0) != before + 3)
        fail("publishes that were refused as a whole were stored");
}

/* ---- batches ---- */

static const struct damage {
    const char *name;
    uint32_t offset, bytes; // in the header: big-endian
    uint64_t value;
    bool resealed;
    uint16_t error;
} damages[] = {
    {"wrong CRC", 17, 4, 0x12345678, false, PE_CORRUPT_BATCH},
    {"batch length 0", 8, 4, 0, false, PE_INVALID_RECORD},
    {"batch length -1", 8, 4, UINT32_MAX, false, PE_INVALID_RECORD},
    {"magic 0", 16, 1, 0, true, PE_INVALID_RECORD},
    {"magic 1", 16, 1, 1, true, PE_INVALID_RECORD},
    {"magic 255", 16, 1, 255, true, PE_INVALID_RECORD},
    {"compression 5", 21, 2, 5, true, PE_UNSUPPORTED_COMPRESSION},
    {"compression 7", 21, 2, 7, true, PE_UNSUPPORTED_COMPRESSION},
    {"LZ4 that is none", 21, 2, 3, true, PE_INVALID_RECORD},
    {"append time", 21, 2, 8, true, PE_INVALID_TIMESTAMP},
    {"transactional", 21, 2, 16, true, PE_INVALID_RECORD},
    {"control", 21, 2, 32, true, PE_INVALID_RECORD},
    {"delete horizon", 21, 2, 64, true, PE_INVALID_RECORD},
    {"last offset delta too high", 23, 4, 2, true, PE_INVALID_RECORD},
    {"last offset delta -1", 23, 4, UINT32_MAX, true, PE_INVALID_RECORD},
    {"negative base timestamp", 27, 8, UINT64_MAX, true, PE_INVALID_TIMESTAMP},
    {"base timestamp in the far future", 27, 8, INT64_MAX, true, PE_INVALID_TIMESTAMP},
    {"max timestamp too low", 35, 8, 0, true, PE_INVALID_TIMESTAMP},
    {"max timestamp too high", 35, 8, INT64_MAX, true, PE_INVALID_TIMESTAMP},
    {"producer id -2", 43, 8, UINT64_MAX - 1, true, PE_INVALID_RECORD},
    {"producer id without epoch", 43, 8, 1, true, PE_INVALID_RECORD},
    {"record count 0", 57, 4, 0, true, PE_INVALID_RECORD},
    {"record count -1", 57, 4, UINT32_MAX, true, PE_INVALID_RECORD},
    {"record count 2^31 - 1", 57, 4, INT32_MAX, true, PE_INVALID_RECORD},
};

static uint32_t make_damaged(uint8_t *batch, const struct damage *damage)
{
    uint32_t size = make_batch(batch, 256, 2, "value", 5);
    for (uint32_t i = 0; i < damage->bytes; i++)
        batch[damage->offset + i] = (uint8_t)(damage->value >> 8 * (damage->bytes - 1 - i));
    if (damage->resealed)
        reseal_batch(batch, size);
    return size;
}

/* Each byte of the records changed in three ways, with a right CRC: stored or refused, never worse. */
static void attack_record_bytes(struct peer *peer, uint64_t *number)
{
    uint8_t bytes[SAMPLE_BYTES_MAX], batch[256];
    static const uint8_t values[] = {0x00, 0x7f, 0x80, 0xff};
    uint32_t size = make_batch(batch, sizeof(batch), 2, "value", 5);
    for (uint32_t at = BATCH_HEADER_SIZE; at < size; at++) {
        for (size_t k = 0; k < ARRAY_COUNT(values); k++, (*number)++) {
            struct frame frame;
            uint8_t before = batch[at];
            batch[at] = values[k];
            reseal_batch(batch, size);
            peer_send(peer, bytes, make_publish(bytes, *number, batch, size));
            batch[at] = before;
            peer_expect_frame(peer, &frame);
            uint16_t error = error_of(&frame);
            if (error != PE_NONE && error != PE_INVALID_RECORD && error != PE_INVALID_TIMESTAMP &&
                error != PE_RECORD_TOO_LARGE)
                fail("a record with byte %u = %u: %s", at, values[k], proto_error_name(error));
        }
    }
}

static void expect_refused_batch(struct peer *peer, uint8_t *bytes, uint64_t number,
                                 const uint8_t *batch, uint32_t size, uint16_t error)
{
    peer_send(peer, bytes, make_publish(bytes, number, batch, size));
    peer_expect_error(peer, error, OP_PRODUCE, number);
}

/* Records and batches beyond the limits, and one that would be 1,000 times its size. */
static void attack_large(struct peer *peer, uint64_t *number)
{
    uint32_t batch_max = hostile.limits.batch_bytes_max,
             record_max = hostile.limits.record_bytes_max;
    uint32_t capacity = batch_max + 65536;
    uint8_t *value = calloc(1, capacity), *batch = malloc(capacity),
            *bytes = malloc(capacity + 512);
    if (!value || !batch || !bytes)
        fail("out of memory");
    uint32_t size = make_batch(batch, capacity, 1, value, record_max); // and a key
    expect_refused_batch(peer, bytes, (*number)++, batch, size, PE_RECORD_TOO_LARGE);
    size = make_batch(batch, capacity, 1, value, batch_max);
    expect_refused_batch(peer, bytes, (*number)++, batch, size, PE_BATCH_TOO_LARGE);
    expect_refused_batch(peer, bytes, (*number)++, batch, 60, PE_INVALID_RECORD);
    expect_refused_batch(peer, bytes, (*number)++, batch, 0, PE_INVALID_RECORD);
    free(value);
    free(batch);
    free(bytes);
}

/* A good batch beside bad ones is stored. */
static void attack_mixed(struct peer *peer, uint64_t *number)
{
    uint8_t bytes[2048], batch[256];
    static const struct {
        uint32_t topic_more, partition;
        uint16_t error;
    } items[] = {{0, 0, PE_NONE},
                 {0, VICTIM_PARTITIONS, PE_UNKNOWN_PARTITION},
                 {1000, 0, PE_UNKNOWN_TOPIC},
                 {INT32_MAX, UINT32_MAX, PE_UNKNOWN_TOPIC},
                 {0, 1, PE_NONE}};
    uint32_t size = make_batch(batch, sizeof(batch), 1, "v", 1);
    struct writer w = meta_writer(bytes, sizeof(bytes));
    write_produce_begin(&w, ARRAY_COUNT(items), 0);
    for (size_t i = 0; i < ARRAY_COUNT(items); i++)
        write_produce_item(&w, hostile.victim_id + items[i].topic_more, items[i].partition, size);
    uint32_t meta = writer_length(&w);
    for (size_t i = 0; i < ARRAY_COUNT(items); i++)
        write_bytes(&w, batch, size);
    uint32_t data = ARRAY_COUNT(items) * size;
    peer_send(peer, bytes, frame_seal(bytes, OP_PRODUCE, 0, *number, meta, data));
    struct frame frame;
    struct msg_produce_failure failure;
    struct msg_produce_result result;
    peer_expect_frame(peer, &frame);
    if (read_produce_failure(&frame, &failure) || frame.correlation != *number ||
        failure.batch_count != ARRAY_COUNT(items))
        fail("a publish of good and bad batches: no results");
    for (size_t i = 0; i < ARRAY_COUNT(items); i++) {
        read_produce_result(&failure, &result);
        /* Shards without the table of topics can't tell the one from the other. */
        bool both = result.error == PE_UNKNOWN_TOPIC && items[i].error == PE_UNKNOWN_PARTITION;
        if (result.error != items[i].error && !both)
            fail("batch %zu of good and bad ones: %s", i, proto_error_name(result.error));
    }
    (*number)++;
}

void attack_batches(void)
{
    uint8_t bytes[SAMPLE_BYTES_MAX], batch[256];
    struct peer peer;
    uint64_t number = 1, before = victim_end(0), other_before = victim_end(1);
    peer_open(&peer, "bad batches");
    for (size_t i = 0; i < ARRAY_COUNT(damages); i++, number++) {
        uint32_t size = make_damaged(batch, &damages[i]);
        peer.what = damages[i].name;
        expect_refused_batch(&peer, bytes, number, batch, size, damages[i].error);
    }
    attack_large(&peer, &number);
    if (victim_end(0) != before)
        fail("bad batches were stored");
    attack_mixed(&peer, &number);
    if (victim_end(0) != before + 1 || victim_end(1) != other_before + 1)
        fail("the good batches beside bad ones were not stored once");
    peer.what = "changed records";
    attack_record_bytes(&peer, &number);
    peer_send(&peer, bytes, make_produce(bytes, number));
    peer_expect_ack(&peer, number);
    peer_close(&peer);
}

/* ---- producers ---- */

#define PRODUCERS 40000u // more than a shard remembers
#define PRODUCERS_A_FRAME 4000u
#define PRODUCER_ID_FIRST ((uint64_t)1 << 40)

static uint32_t make_producer_batch(uint8_t *batch, uint64_t producer_id, uint32_t sequence)
{
    uint32_t size = make_batch(batch, 128, 1, "v", 1);
    batch_set_producer(batch, producer_id, 0, sequence);
    return size;
}

static uint16_t publish_as(struct peer *peer, uint64_t number, uint64_t producer_id,
                           uint32_t sequence)
{
    uint8_t bytes[SAMPLE_BYTES_MAX], batch[128];
    struct frame frame;
    uint32_t size = make_producer_batch(batch, producer_id, sequence);
    peer_send(peer, bytes, make_publish(bytes, number, batch, size));
    peer_expect_frame(peer, &frame);
    return error_of(&frame);
}

/* Ids that nobody gave out, each with one batch: the oldest are forgotten, with a defined error for who goes on. */
void attack_producers(void)
{
    uint32_t capacity = PRODUCERS_A_FRAME * 160;
    uint8_t *bytes = malloc(capacity);
    struct peer peer;
    uint64_t number = 1;
    if (!bytes)
        fail("out of memory");
    peer_open(&peer, "many producers");
    for (uint32_t first = 0; first < PRODUCERS; first += PRODUCERS_A_FRAME, number++) {
        uint8_t batch[128];
        uint32_t size = make_producer_batch(batch, 0, 0);
        struct writer w = meta_writer(bytes, capacity);
        write_produce_begin(&w, PRODUCERS_A_FRAME, 0);
        for (uint32_t i = 0; i < PRODUCERS_A_FRAME; i++)
            write_produce_item(&w, hostile.victim_id, i % VICTIM_PARTITIONS, size);
        uint32_t meta = writer_length(&w);
        for (uint32_t i = 0; i < PRODUCERS_A_FRAME; i++) {
            make_producer_batch(batch, PRODUCER_ID_FIRST + first + i, 0);
            write_bytes(&w, batch, size);
        }
        peer_send(&peer, bytes,
                  frame_seal(bytes, OP_PRODUCE, 0, number, meta, PRODUCERS_A_FRAME * size));
        peer_expect_ack(&peer, number);
    }
    if (publish_as(&peer, number++, PRODUCER_ID_FIRST, 1) != PE_UNKNOWN_PRODUCER)
        fail("a producer from long ago is not forgotten, or with another error");
    uint64_t last = PRODUCER_ID_FIRST + PRODUCERS - VICTIM_PARTITIONS; // it wrote to partition 0
    if (publish_as(&peer, number++, last, 1) != PE_NONE)
        fail("the newest producer is forgotten");
    peer_close(&peer);
    free(bytes);
}
