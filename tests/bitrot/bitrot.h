/* Bit rot: a real log, and what it must say when any of its bits is another one. See README.md.
 *
 *     bitrot_log.c     makes the log, with the real store on the simulated disk
 *     bitrot_groups.c  where its groups and entries lie
 *     bitrot_bits.c    which bits there are, and what a start, a read and inspection say to each
 *     bitrot_life.c    a store's life on a copy of the disk: open, read everything, compare
 *     bitrot_files.c   whole files: deleted, cut, swapped, foreign ...
 *     main.c           arguments, two processes, totals
 *
 * Everything is in memory; nothing here is shared between processes but the totals. */
#ifndef SLUICE_TESTS_BITROT_H
#define SLUICE_TESTS_BITROT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/random.h"
#include "storage/recover.h"
#include "storage/store.h"
#include "tests/sim/io_sim.h"

#define BITROT_DIR "data"
#define BITROT_SEGMENT_BYTES (4 * MIB)
#define BITROT_LOG_BYTES (1 * MIB)

struct bitrot_batch { // one that was acked and can be read
    uint32_t topic_id, partition;
    uint64_t base_offset;
    uint64_t lsn;    // of its first byte
    uint64_t digest; // of its bytes as a reader must get them
    uint32_t size, record_count;
};

struct bitrot_group {
    uint64_t file, offset, lsn;
    uint32_t bytes;
};

struct bitrot_entry { // for aiming at each field of each kind
    uint64_t lsn;
    uint32_t bytes; // with its header
    uint8_t type;
};

struct bitrot { // the image, and what is known of it
    struct sim_disk *disk;
    struct random random; // the store's
    struct random dice;
    struct store_options options;
    char wal_dir[64];
    struct bitrot_batch *batches;
    uint32_t batch_count;
    struct bitrot_group *groups;
    uint32_t group_count;
    struct bitrot_entry *entries;
    uint32_t entry_count;
    uint64_t checkpoint_lsn; // a start replays from here
    uint64_t durable_lsn;    // everything below was acked, nothing above
    uint64_t end_lsn;        // of the groups that were written
    uint64_t digest;         // of the state that a start makes
    uint64_t wall_ms;
};

/* ---- bitrot_log.c ---- */

/* Exits with a message when something is not as it must be. */
_Noreturn void bitrot_fail(const char *format, ...) PRINTF_LIKE(1, 2);
void bitrot_make(struct bitrot *rot, uint64_t seed);
void bitrot_groups_find(struct bitrot *rot); // its part in bitrot_groups.c
/* Another one with archive files, larger, cleanly closed; no groups and entries. */
void bitrot_make_archived(struct bitrot *rot, uint64_t seed);
void bitrot_free(struct bitrot *rot);

/* ---- bitrot_life.c ---- */

struct bitrot_life {
    const struct bitrot *rot;
    struct sim_disk *disk; // not owned
    struct io *io;
    struct arena arena;
    struct random random;
    struct store_options options;
    struct recover_result *result;
    char text[512];
    struct store *store; // NULL: refused
    uint8_t *buffer;
};

/* Opens a store on this disk. Returns what store_open() returned. */
int bitrot_open(struct bitrot_life *life, const struct bitrot *rot, struct sim_disk *disk);
void bitrot_close(struct bitrot_life *life); // as a kill
/* Reads exactly one batch. Returns the read's status; *is_same: the bytes are those that were sent. */
int bitrot_read(struct bitrot_life *life, const struct bitrot_batch *batch, bool *is_same,
                struct store_damage *damage);
/* The first batch that can't be read as it was; NULL: all can. */
const struct bitrot_batch *bitrot_read_all(struct bitrot_life *life, int *status);
void bitrot_turns(struct bitrot_life *life, uint64_t ns);

/* ---- bitrot_bits.c ---- */

enum bitrot_place {
    BITROT_HEADER,   // one of the two copies of a segment's header
    BITROT_BEFORE,   // below the checkpoint: no start reads it, but for the first block of a file
    BITROT_REPLAYED, // from the checkpoint to the durable LSN
    BITROT_TAIL,     // above: never acked
    BITROT_INDEX,    // of a closed segment
    BITROT_CHECKPOINT,
    BITROT_PLACES,
};
extern const char *const bitrot_place_names[BITROT_PLACES];

struct bitrot_totals {
    uint64_t flips[BITROT_PLACES];
    uint64_t refused;      // by a start, with the right place
    uint64_t found;        // by inspection, with the right place
    uint64_t reads_failed; // with the right place
    uint64_t reads_same;   // what was flipped is no part of what is read
    uint64_t harmless;     // the other copy, the older checkpoint, or made anew: the same state
    uint64_t dropped;      // never acked, cut off
    uint64_t starts;       // whole starts, with all that was acked read and compared
    uint64_t inspections;  // whole ones
};

struct bitrot_flips; // what one process needs to flip

struct bitrot_flips *bitrot_flips_new(struct bitrot *rot, struct bitrot_totals *totals);
void bitrot_flips_free(struct bitrot_flips *flips);
uint64_t bitrot_bit_count(const struct bitrot_flips *flips);
void bitrot_flip_bit(struct bitrot_flips *flips,
                     uint64_t bit); // 0..count-1; exits when it goes unnoticed
/* Bits of each byte of each structure: headers of segments, groups, indexes, checkpoints, and each kind of entry. Which of
 * the structures of a kind, and which bit of the byte, is left to chance. Returns how many. */
uint32_t bitrot_aimed(const struct bitrot_flips *flips, struct random *random, uint64_t *bits,
                      uint32_t capacity);

/* ---- bitrot_files.c ---- */

/* Each fault of each kind of file; prints a line each when asked to. Returns how many were tried. */
uint32_t bitrot_files(struct bitrot *rot, struct bitrot *archived, struct bitrot *stranger,
                      bool verbose);
/* Every way to cut a segment short, at each group and each 512 bytes. Returns how many. */
uint32_t bitrot_cuts(struct bitrot *rot, uint32_t step_bytes);

#endif
