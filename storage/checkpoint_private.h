/* What the three parts of the checkpoints share: names, the body's checksum, the set of spare
 * files.
 *
 *     checkpoint.c       the writer
 *     checkpoint_read.c  scan and load
 *     checkpoint_dir.c   which files there are; spares */
#ifndef SLUICE_STORAGE_CHECKPOINT_PRIVATE_H
#define SLUICE_STORAGE_CHECKPOINT_PRIVATE_H

#include <fcntl.h>
#include <stdio.h>

#include "base/hash.h"
#include "storage/checkpoint.h"
#include "storage/disk_header.h"

#define CHECKPOINT_PATH_MAX 4200
#define CHECKPOINT_KEPT 2
#define CHECKPOINT_FILES 3                       // kept and spare: all that ever exist
#define CHECKPOINT_CAPACITY_STEP ((uint64_t)MIB) // file sizes are multiples of it

struct checkpoint_file {
    uint64_t number;
    uint64_t bytes; // size of the file
};

struct checkpoint_dir {
    struct checkpoint_file kept[CHECKPOINT_KEPT]; // newest first
    uint32_t kept_count;
    bool spare_exists[CHECKPOINT_FILES];
    uint64_t spare_bytes[CHECKPOINT_FILES];
};

/* The newest files and the spares that lie in the directory. Blocking. Returns 0 or IO. */
MUST_USE int checkpoint_dir_read(struct io *io, const char *dir, struct checkpoint_dir *files);

/* Both give `path` back. */
char *checkpoint_path(char path[CHECKPOINT_PATH_MAX], const char *dir, uint64_t number);
char *checkpoint_spare_path(char path[CHECKPOINT_PATH_MAX], const char *dir, uint32_t slot);

/* Size that a file gets when `needed` bytes don't fit into it: a quarter more, in whole steps. */
uint64_t checkpoint_capacity_for(uint64_t needed);

/* The body's checksum: 0, then for each piece of CHECKPOINT_PIECE_BYTES (the last may be shorter)
 * of the body with its padding to a block the XXH3-64 of the piece, seeded with the checksum so
 * far. */
static inline uint64_t checkpoint_chain(uint64_t so_far, const void *piece, size_t len)
{
    return hash_xxh3_seeded(piece, len, so_far);
}

static inline uint32_t checkpoint_open_flags(const struct checkpoint_identity *identity)
{
    return identity->no_direct ? 0 : O_DIRECT;
}

static inline struct disk_expect checkpoint_expect(const struct checkpoint_identity *identity,
                                                   uint64_t number)
{
    return (struct disk_expect){
        .magic = DISK_MAGIC_CHECKPOINT,
        .store_id = identity->store_id,
        .shard_id = identity->shard_id,
        .number = number,
    };
}

#endif
