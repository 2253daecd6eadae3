/* A record's way into a batch, a batch's way through the gate, and a record's way out; all of 256 KiB batches. */
#include <stdlib.h>
#include <string.h>

#include "bench/engine/content.h"
#include "bench/micro/micro.h"
#include "proto/batch.h"

#define BATCH_BYTES ((uint32_t)(256 * KIB))
#define TIME_MS 1700000000000

static struct content content;
static struct batch_builder builder;
static uint8_t *room, *scratch, *unpacked;
static uint8_t *batch; // finished
static uint32_t batch_bytes;

static void close_all(void)
{
    content_deinit(&content);
    free(room);
    free(scratch);
    free(unpacked);
    room = scratch = unpacked = NULL;
}

static int open_room(uint64_t record_bytes, bool is_compressible)
{
    room = malloc(BATCH_BYTES);
    scratch = malloc(batch_compress_bound(BATCH_BYTES));
    unpacked = malloc(2 * BATCH_BYTES);
    if (room && scratch && unpacked && content_init(&content, record_bytes, is_compressible) == 0)
        return 0;
    close_all();
    return -1;
}

static struct record next_record(uint64_t number)
{
    return (struct record){
        .timestamp_ms = TIME_MS,
        .value = {content_slot(&content, number), (uint32_t)content.value_bytes}};
}

static void begin_batch(bool sums_early)
{
    batch_builder_init(&builder, room, BATCH_BYTES);
    if (sums_early)
        batch_builder_sum_early(&builder);
}

/* A batch is made anew when it is full, as a producer does that has room at once. */
static uint64_t append_run(uint64_t count, uint64_t *ns)
{
    *ns = 0;
    begin_batch(true);
    for (uint64_t i = 0; i < count; i++) {
        struct record record = next_record(i);
        if (batch_builder_add(&builder, &record) == 0)
            continue;
        begin_batch(true);
        ASSERT(batch_builder_add(&builder, &record) == 0);
    }
    return count;
}

static int open_100(void)
{
    return open_room(100, false);
}

static int open_1024(void)
{
    return open_room(1024, false);
}

/* ---- a whole batch ---- */

static void fill_batch(enum batch_codec codec)
{
    begin_batch(codec == CODEC_NONE);
    for (uint64_t i = 0;; i++) {
        struct record record = next_record(i);
        if (batch_builder_add(&builder, &record))
            break;
    }
    batch_bytes = batch_builder_finish(&builder, codec, 7, 1, 0, scratch,
                                       batch_compress_bound(BATCH_BYTES), &batch);
}

static int open_batch_100(void)
{
    if (open_room(100, false))
        return -1;
    fill_batch(CODEC_NONE);
    return 0;
}

static int open_batch_lz4(void)
{
    if (open_room(100, true))
        return -1;
    fill_batch(CODEC_LZ4);
    return 0;
}

/* What a broker does with each batch it is given. */
static uint64_t gate_run(uint64_t count, uint64_t *ns)
{
    static const struct batch_limits limits = {4 * MIB, 1 * MIB};
    struct batch_info info;
    const char *why;
    uint64_t done = 0;
    *ns = 0;
    while (done < count) {
        uint16_t status = batch_check(batch, batch_bytes, &limits, false, &info, &why);
        ASSERT(status == 0);
        done += info.record_count;
    }
    return done;
}

/* What a consumer does with it. */
static uint64_t walk_run(uint64_t count, uint64_t *ns)
{
    uint64_t done = 0, sum = 0;
    *ns = 0;
    while (done < count) {
        struct batch_iterator it;
        struct record_view record;
        ASSERT(batch_iterator_init(&it, batch, batch_bytes, unpacked, 2 * BATCH_BYTES) == 0);
        while (batch_iterator_next(&it, &record) == 1) {
            sum += record.value.bytes[0];
            done++;
        }
    }
    micro_use(sum);
    return done;
}

static uint64_t compress_run(uint64_t count, uint64_t *ns)
{
    uint64_t done = 0;
    *ns = 0;
    for (; done < count; done += BATCH_BYTES / KIB) {
        uint8_t *out;
        micro_use(batch_builder_finish(&builder, CODEC_LZ4, 7, 1, 0, scratch,
                                       batch_compress_bound(BATCH_BYTES), &out));
    }
    return done;
}

static const struct micro_case cases[] = {
    {"append_100", "record", open_100, append_run, close_all},
    {"append_1024", "record", open_1024, append_run, close_all},
    {"gate_100", "record", open_batch_100, gate_run, close_all},
    {"gate_100_lz4", "record", open_batch_lz4, gate_run, close_all},
    {"walk_100", "record", open_batch_100, walk_run, close_all},
    {"walk_100_lz4", "record", open_batch_lz4, walk_run, close_all},
    {"compress_lz4", "KiB", open_batch_lz4, compress_run, close_all},
};

const struct micro_group micro_batches = {"batches", cases, ARRAY_COUNT(cases)};
