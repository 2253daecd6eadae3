/* A checkpoint file from anywhere: scan and load.
 *
 * Input: first byte: 1 = give header and body right checksums, so that what lies behind them is
 * reached; the rest is the file. Held against: what the scan lets pass can be loaded, or is refused
 * with a reason; nothing is written to the directory. */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "storage/checkpoint.h"
#include "tests/sim/io_sim.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FLAG_SEAL 1
#define FILE_NAME "/c/0000000000000001.ckpt"

static void seal(uint8_t *file, size_t size);
static struct table *table_make(enum table_id id, uint32_t row_bytes);
static void look(struct io *io, const struct checkpoint_identity *identity);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct checkpoint_identity identity = {.shard_id = 3};
    memcpy(identity.store_id, "the store itself", 16);
    log_set_level(LOG_LEVEL_ERROR + 1);
    if (size < 1)
        return 0;
    uint8_t *file = malloc(size);
    ASSERT(file != NULL);
    memcpy(file, data + 1, size - 1);
    if (data[0] & FLAG_SEAL)
        seal(file, size - 1);
    struct sim_disk *disk = sim_disk_new(1, 64 * MIB);
    sim_disk_create(disk, "/c", true);
    sim_disk_put(disk, FILE_NAME, file, 0, size - 1);
    uint64_t before = sim_disk_hash(disk);
    struct io *io = io_sim_new(disk, &(struct io_sim_options){.seed = 1});
    look(io, &identity);
    ASSERT(sim_disk_hash(disk) == before);
    io_free(io);
    sim_disk_free(disk);
    free(file);
    return 0;
}

static void look(struct io *io, const struct checkpoint_identity *identity)
{
    static struct checkpoint_set set;
    const char *why = NULL;
    int status = checkpoint_scan(io, "/c", identity, &set);
    ASSERT(status == 0 || status == E_NEWER || status == E_FOREIGN);
    ASSERT(set.count + set.bad_count == 1);
    ASSERT(set.bad_count == 0 || set.bad_why != NULL);
    struct table *tables[2] = {table_make(TABLE_PARTITIONS, 40), table_make(TABLE_PRODUCERS, 64)};
    int loaded = checkpoint_load(io, "/c", 1, identity, tables, 2, &why);
    ASSERT(loaded == 0 || why != NULL);
    ASSERT(loaded != 0 || set.count == 1);
    table_free(tables[0]);
    table_free(tables[1]);
}

static struct table *table_make(enum table_id id, uint32_t row_bytes)
{
    struct table *table =
        table_new(&(struct table_options){.id = id, .row_bytes = row_bytes, .row_count_max = 1000});
    ASSERT(table != NULL);
    return table;
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
