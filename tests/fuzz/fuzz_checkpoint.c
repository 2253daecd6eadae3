/* A checkpoint from anywhere: scan, load into the real tables, and rebuild what is kept beside them:
 * partitions, staged batches, producers, transactions, participants, groups, topics.
 *
 * Input: u8 flags. 1 = the rest is a file; header and body get right checksums. 2 = the rest is u8
 * tables, and the body; the header is made here. 4 = write and load what came of it. Held against: nothing is written; what the scan lets
 * pass can be loaded, or is refused with a reason; tables that were loaded and found sound can be
 * written and loaded again and are the same; memory: the tables' first pages and the buffer of a
 * piece are there whatever the file says. */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "broker/shard_state.h"
#include "storage/archive.h"
#include "storage/checkpoint.h"
#include "storage/partitions.h"
#include "storage/staged.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/keep_blocks.h"
#include "tests/sim/io_sim.h"

enum { FLAG_SEAL = 1, FLAG_BODY = 2, FLAG_AGAIN = 4 };

#define FILE_NAME "/c/0000000000000001.ckpt"
struct state { // of one load
    struct shard shard;
    struct partitions *partitions;
    struct staged *staged;
    struct table *archives;
    struct table *tables[CHECKPOINT_TABLES_MAX];
    uint32_t table_count;
};

static const struct checkpoint_identity identity = {.store_id = "the store itself", .shard_id = 0};

static uint8_t *make_file(struct input_reader *input, uint8_t flags, size_t *len);
static void seal(uint8_t *file, size_t size);
static void state_init(struct state *state);
static void state_deinit(struct state *state);
static size_t fixed_bytes(const struct state *state);
static int look(struct io *io, struct state *state);
static int rebuild(struct state *state);
static void written_again(const struct state *state);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input_reader input = {data, size};
    struct state state;
    size_t len;
    uint8_t flags = (uint8_t)input_number(&input, 1);
    uint8_t *file = make_file(&input, flags, &len);
    log_set_level(LOG_LEVEL_ERROR + 1);
    struct sim_disk *disk = sim_disk_new(1, 64 * MIB);
    sim_disk_create(disk, "/c", true);
    sim_file_write(disk, sim_disk_create(disk, FILE_NAME, false), file, 0, len);
    struct io *io = io_sim_new(disk, &(struct io_sim_options){.seed = 1, .latency_ns_max = 1});
    uint64_t before = disk->sequence;
    state_init(&state);
    memory_bound_begin();
    int status = look(io, &state);
    memory_bound_end(size, fixed_bytes(&state));
    ASSERT(disk->sequence == before);
    if (status == 0 && flags & FLAG_AGAIN)
        written_again(&state);
    state_deinit(&state);
    io_free(io);
    sim_disk_free(disk);
    free(file);
    return 0;
}

/* ---- the file ---- */

static uint8_t *make_file(struct input_reader *input, uint8_t flags, size_t *len)
{
    size_t head = flags & FLAG_BODY ? DISK_BLOCK : 0;
    uint32_t tables = head ? (uint32_t)input_number(input, 1) : 0;
    size_t body = input->left;
    *len = head ? head + align_up(body, DISK_BLOCK) : body;
    uint8_t *file = calloc(1, *len + !*len);
    ASSERT(file != NULL);
    if (body > 0)
        memcpy(file + head, input->at, body);
    if (head) {
        struct disk_checkpoint *header = (struct disk_checkpoint *)file;
        header->common = (struct disk_common){.magic = le64_make(DISK_MAGIC_CHECKPOINT),
                                              .version = le16_make(DISK_FORMAT_VERSION),
                                              .number = le64_make(1)};
        memcpy(header->common.store_id, identity.store_id, sizeof(identity.store_id));
        header->lsn = le64_make(DISK_BLOCK * 8);
        header->group_number = header->wal_first_file = header->wal_file = le64_make(1);
        header->body_bytes = le64_make(body);
        header->table_count = le32_make(tables);
    }
    if (flags & FLAG_SEAL || head)
        seal(file, *len);
    return file;
}

/* As docs/disk-format.md says, written anew. */
static void seal(uint8_t *file, size_t size)
{
    struct disk_checkpoint *header = (struct disk_checkpoint *)file;
    if (size < DISK_BLOCK)
        return;
    uint64_t left = align_up(le64_get(header->body_bytes) % (16 * MIB), DISK_BLOCK);
    uint64_t hash = 0;
    for (uint8_t *piece = file + DISK_BLOCK; left > 0 && left <= size - DISK_BLOCK;) {
        uint64_t len = min_u64(left, CHECKPOINT_PIECE_BYTES);
        if (piece + len > file + size)
            break;
        hash = hash_xxh3_seeded(piece, len, hash);
        piece += len;
        left -= len;
    }
    header->body_checksum = le64_make(hash);
    header->checksum = le64_make(hash_xxh3(header, DISK_BLOCK - 8));
}

/* ---- tables ---- */

static void state_init(struct state *state)
{
    *state = (struct state){.shard = {.shard_count = 1}};
    ASSERT(shard_state_new(&state->shard) == 0);
    state->partitions = partitions_new(1024);
    state->staged = staged_new();
    state->archives = table_new(&(struct table_options){
        .id = TABLE_ARCHIVES, .row_bytes = sizeof(struct disk_archive_row), .row_count_max = 1024});
    ASSERT(state->partitions && state->staged && state->archives);
    state->table_count = shard_state_tables(&state->shard, state->tables);
    state->tables[state->table_count++] = partitions_table(state->partitions);
    state->tables[state->table_count++] = staged_table(state->staged);
    state->tables[state->table_count++] = state->archives;
}

static void state_deinit(struct state *state)
{
    shard_state_free(&state->shard);
    partitions_free(state->partitions);
    staged_free(state->staged);
    table_free(state->archives);
}

/* The buffer of a piece, a page for each table that got rows, and one for a table that was given up. */
static size_t fixed_bytes(const struct state *state)
{
    size_t bytes = CHECKPOINT_PIECE_BYTES + TABLE_PAGE_BYTES;
    for (uint32_t i = 0; i < state->table_count; i++)
        bytes += table_row_count(state->tables[i]) > 0 ? TABLE_PAGE_BYTES : 0;
    return bytes;
}

/* Also what was not loaded is rebuilt: a start does not, but no row may bring a crash. */
static int look(struct io *io, struct state *state)
{
    static struct checkpoint_set set;
    const char *why = NULL;
    int status = checkpoint_scan(io, "/c", &identity, &set);
    ASSERT(status == 0 || status == E_NEWER || status == E_FOREIGN);
    ASSERT(set.count + set.bad_count == 1);
    ASSERT(set.bad_count == 0 || set.bad_why != NULL);
    int loaded = checkpoint_load(io, "/c", 1, &identity, state->tables, state->table_count, &why);
    ASSERT(loaded == 0 || why != NULL);
    ASSERT(loaded != 0 || set.count == 1);
    return loaded == 0 ? rebuild(state) : loaded;
}

static int rebuild(struct state *state)
{
    const char *why = NULL;
    int status = partitions_rebuild(state->partitions, &why);
    if (status == 0)
        status = staged_rebuild(state->staged, &why);
    if (status == 0)
        status = shard_state_loaded(&state->shard, &why);
    ASSERT(status == 0 || (status == E_CORRUPT && why != NULL));
    return status;
}

static void written_again(const struct state *state)
{
    struct state again;
    state_init(&again);
    for (uint32_t i = 0; i < state->table_count; i++) {
        struct table *table = state->tables[i];
        const char *why = NULL;
        table_snapshot_begin(table);
        uint64_t len = table_snapshot_bytes(table), at = 0;
        uint8_t *image = malloc(len);
        ASSERT(image != NULL);
        while (at < len)
            at += table_snapshot_read(table, image + at, (uint32_t)min_u64(len - at, 4096));
        table_snapshot_end(table);
        ASSERT(table_load(again.tables[i], image, len, &why) == (int64_t)len);
        ASSERT(table_digest(again.tables[i]) == table_digest(table));
        free(image);
    }
    ASSERT(rebuild(&again) == 0);
    state_deinit(&again);
}
