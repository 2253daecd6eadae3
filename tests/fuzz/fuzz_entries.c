/* Entries of a log, one after the other, into the tables of a shard: what replay does with each when
 * the log itself is sound. Producers, transactions, participants, groups, topics and slots.
 *
 * Input: u8 flags (1 = shard 1, not 0; 2 = load what came of it), then entries: u8 type, u8 flags, u8
 * topic, u8 partition, u16 length, payload. Held against: no crash; an entry is applied, or is damage; the tables that come of it can be
 * written and loaded, so that a checkpoint at this place would be a good start. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/status.h"
#include "broker/shard_state.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/keep_blocks.h"

enum { FLAG_SHARD_1 = 1, FLAG_LOAD = 2 };

#define ENTRIES_MAX 64

static bool apply_one(struct shard *shard, struct input_reader *input, uint64_t lsn);
static void loads_back(struct shard *shard);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input_reader input = {data, size};
    const char *why;
    uint8_t flags = (uint8_t)input_number(&input, 1);
    struct shard shard = {.id = flags & FLAG_SHARD_1, .shard_count = 2};
    log_set_level(LOG_LEVEL_ERROR + 1);
    ASSERT(shard_state_new(&shard) == 0 && shard_state_loaded(&shard, &why) == 0);
    uint64_t lsn = DISK_BLOCK;
    for (int i = 0; i < ENTRIES_MAX && input.left > 0; i++, lsn += 64)
        if (!apply_one(&shard, &input, lsn))
            break; // recovery ends there
    if (flags & FLAG_LOAD)
        loads_back(&shard);
    shard_state_free(&shard);
    return 0;
}

static bool apply_one(struct shard *shard, struct input_reader *input, uint64_t lsn)
{
    size_t len;
    struct wal_view view = {.lsn = lsn,
                            .append_time_ms = 1700000000000 + lsn,
                            .file_number = 1,
                            .type = (uint8_t)input_number(input, 1),
                            .flags = (uint8_t)input_number(input, 1),
                            .topic_id = (uint32_t)input_number(input, 1),
                            .partition = (uint32_t)input_number(input, 1)};
    const uint8_t *payload = input_take(input, input_number(input, 2), &len);
    view.payload = exact_copy(0, payload, len);
    view.payload_bytes = (uint32_t)len;
    memory_bound_begin();
    int status = shard_state_apply(shard, &view, NULL);
    memory_bound_end(len, 0);
    ASSERT(status == 0 || status == E_CORRUPT || status == E_FULL);
    return status == 0;
}

static void loads_back(struct shard *shard)
{
    struct table *tables[SHARD_TABLES_MAX], *again_tables[SHARD_TABLES_MAX];
    struct shard again = {.id = shard->id, .shard_count = shard->shard_count};
    const char *why = NULL;
    ASSERT(shard_state_new(&again) == 0);
    uint32_t count = shard_state_tables(shard, tables);
    ASSERT(shard_state_tables(&again, again_tables) == count);
    for (uint32_t i = 0; i < count; i++) {
        table_snapshot_begin(tables[i]);
        uint64_t len = table_snapshot_bytes(tables[i]), at = 0;
        uint8_t *image = malloc(len);
        ASSERT(image != NULL);
        while (at < len)
            at += table_snapshot_read(tables[i], image + at, (uint32_t)min_u64(len - at, 65536));
        table_snapshot_end(tables[i]);
        ASSERT(table_load(again_tables[i], image, len, &why) == (int64_t)len);
        free(image);
    }
    ASSERT(shard_state_loaded(&again, &why) == 0);
    for (uint32_t i = 0; i < count; i++)
        ASSERT(table_digest(again_tables[i]) == table_digest(tables[i]));
    shard_state_free(&again);
}
