/* A shard's directory on the simulated disk: made once, with something of everything in it, copied
 * for each run, changed as the input says, and opened by the real store with the broker's real
 * tables.
 *
 * Thread: one. */
#ifndef SLUICE_TESTS_FUZZ_STORE_WORLD_H
#define SLUICE_TESTS_FUZZ_STORE_WORLD_H

#include "broker/shard.h"
#include "tests/fuzz/fuzz.h"
#include "tests/sim/io_sim.h"

/* ---- one life on a disk ---- */

struct life {
    struct sim_disk *disk;
    struct io *io;
    struct random random;
    struct shard shard; // its state, and the store; no connections, no mail
    struct recover_result result;
    char text[512];
    size_t open_bytes; // peak of memory while it was opened
};

/* Returns what store_open() does; life_end() in either case. The broker's tables are part of it. */
int life_begin(struct life *life, struct sim_disk *disk, uint64_t number);
/* The process is gone; the disk is as it is. */
void life_end(struct life *life);
/* Of all tables: equal after each start from one disk. (The log may grow by a MARK while it is read.) */
uint64_t life_digest(const struct life *life);

/* ---- directories ---- */

enum store_image {
    IMAGE_RUNNING,    // a log and no checkpoint but the first; everything since is replayed
    IMAGE_CHECKPOINT, // the same with a checkpoint in the middle
    IMAGE_CLEAN,      // closed clean
    IMAGE_CUT,        // a tail was torn off: a closed segment with index, a CUT, and more behind it
    IMAGE_EMPTY,      // never written to
    IMAGE_HOLE,       // a group was damaged, and salvage gave it up
    IMAGE_COUNT
};

/* A copy; the caller frees it. Made at the first call. */
struct sim_disk *store_image_copy(enum store_image image);
/* What opening it takes as it is: the part of the bound that has nothing to do with the input. */
size_t store_image_open_bytes(enum store_image image);

#define WORLD_DIR "d"
#define WORLD_WAL "d/shard-000/wal"
#define WORLD_CHECKPOINTS "d/shard-000/checkpoint"
#define WORLD_SEGMENT_BYTES (4 * MIB)

#endif
