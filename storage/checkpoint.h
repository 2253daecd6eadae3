/* Checkpoints: the state of a shard at one LSN, and the only manifest of its archive files.
 *
 * Written aside, fdatasync, renamed only when `durable` has reached its LSN, directory sync; then
 * the third newest is retired. Serialised in pieces of 256 KiB, one per turn, from table snapshots.
 * At start the newest valid one is loaded; a bad one falls back to the older plus more log; both
 * bad: fail closed. At least every CHECKPOINT_WAL_BYTES of log, so a restart replays at most that
 * much.
 *
 * Space. Three files circulate, made with the store: two are kept under their numbers, the third is
 * a spare (spare-<0..2>.tmp) whose blocks the next checkpoint overwrites; the one that is retired
 * becomes the spare. So a checkpoint of a full disk needs no new blocks; files have room for a
 * quarter more than they had to hold. */
#ifndef SLUICE_STORAGE_CHECKPOINT_H
#define SLUICE_STORAGE_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/io.h"
#include "storage/format.h"
#include "storage/table.h"
#include "storage/wal.h"

#define CHECKPOINT_WAL_BYTES (512 * MIB)
#define CHECKPOINT_PIECE_BYTES ((uint32_t)(256 * KIB))
#define CHECKPOINT_TABLES_MAX 16

struct checkpoint_identity {
    uint8_t store_id[16];
    uint32_t shard_id;
    bool no_direct; // open without O_DIRECT (--development)
};

/* What a checkpoint file says, without its tables. */
struct checkpoint_head {
    uint64_t number;
    struct wal_position position;
    uint64_t wal_first_file;
    bool clean;
};

/* ---- writing: a background job of one shard ---- */

struct checkpoint_writer;
/* After checkpoint_tidy(): what it left is what the writer goes on with. Reads the directory
 * (blocking). `dir` is borrowed, the identity is copied. NULL: out of memory, or the directory
 * can't be read. */
struct checkpoint_writer *checkpoint_writer_new(struct io *io, const char *dir,
                                                const struct checkpoint_identity *identity);
/* Gives up what is running (done is not called) and waits for its I/O. Blocking. */
void checkpoint_writer_free(struct checkpoint_writer *writer);

typedef void (*checkpoint_done_fn)(void *context, int status, const struct checkpoint_head *head);

/* Freezes the tables now and starts. One at a time. head->number: one above the newest valid one (1
 * if there is none). done, from checkpoint_turn(): 0 when it is durable under its name; NO_SPACE,
 * NO_MEMORY or FULL (no descriptor is free): nothing changed, try again later with the same number;
 * any other error is final for the shard. It may begin the next one. */
void checkpoint_begin(struct checkpoint_writer *writer, const struct checkpoint_head *head,
                      struct table *const *tables, uint32_t table_count, checkpoint_done_fn done,
                      void *context);
bool checkpoint_is_running(const struct checkpoint_writer *writer);
/* Once per turn: writes the next piece; renames when durable_lsn >= the head's LSN. Returns work
 * done. */
int checkpoint_turn(struct checkpoint_writer *writer, uint64_t durable_lsn);

/* ---- reading: blocking, at start-up and by tools ---- */

struct checkpoint_set { // the valid ones, newest first
    struct checkpoint_head heads[8];
    uint32_t count;
    uint32_t bad_count;  // files that failed a check
    char bad_path[4200]; // the newest of them; also of what was FOREIGN, NEWER or IO
    const char *bad_why;
};
/* Verifies each file wholly. Returns 0; IO; NEWER; FOREIGN (a file of another store: refuse). */
MUST_USE int checkpoint_scan(struct io *io, const char *dir,
                             const struct checkpoint_identity *identity,
                             struct checkpoint_set *set);
/* Fills the given empty tables from a checkpoint that scan found valid. A table that the file lacks
 * stays empty; one that is not given: CORRUPT. */
MUST_USE int checkpoint_load(struct io *io, const char *dir, uint64_t number,
                             const struct checkpoint_identity *identity,
                             struct table *const *tables, uint32_t table_count, const char **why);

/* Before the writer is made, after recovery has decided to go on: makes the directory durable as it
 * is, keeps the two newest of the set, makes spares of what else there is (older ones, bad ones,
 * *.tmp) or deletes it, and adds spares until there are three files. For a new store too, with an
 * empty set. Blocking. Returns 0 or IO; a full disk is only a warning. */
MUST_USE int checkpoint_tidy(struct io *io, const char *dir,
                             const struct checkpoint_identity *identity,
                             const struct checkpoint_set *set);

#endif
