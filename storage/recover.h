/* Recovery of a shard's log as a decision table that fails closed.
 *
 *   E = end of the last valid group in an unbroken chain from the checkpoint on (or where a CUT
 *       ends it)
 *   D = the highest LSN proven durable: by durable_lsn in any valid group whose generation is its
 *       file's, by any valid checkpoint, by the clean end, or by other shards (PREPARE LSNs in
 *       their DECIDEs)
 *
 *   E <  D   acked bytes are damaged or missing: refuse (exit 3), name file, offset, LSN range and
 *            kind of damage, write nothing; only `wal salvage` goes on
 *   E >= D   nothing behind E is proven acked: drop it by a CUT, count and log it by class (torn,
 *            bad, stale)
 *
 * The table itself (recover_cases in recover.c) is the code and the test. Everything is first made
 * durable (fdatasync of every file and directory) and read with O_DIRECT, since a page cache may
 * show what the disk never got. Recovery may crash anywhere and be run again: same result. */
#ifndef SLUICE_STORAGE_RECOVER_H
#define SLUICE_STORAGE_RECOVER_H

#include "storage/segment.h"
#include "storage/wal.h"

struct recover_hole {
    uint64_t from_lsn, to_lsn;
};

struct recover_options {
    bool has_checkpoint;      // else replay from LSN 0 of a new store
    struct wal_position from; // the checkpoint's
    uint64_t first_file;      // the checkpoint's wal_first_file: every file from here on must exist
    uint64_t proven_lsn;      // D from outside: other valid checkpoints, clean end, other shards
    bool clean;               // the checkpoint says drained: anything but E == from.lsn is damage
    bool read_only;           // inspect: decide and report, write nothing
    const struct recover_hole *hole; // salvage only: what the operator gives up; NULL otherwise
    /* Replays one entry; a negative status stops recovery and is returned. */
    int (*apply)(void *context, const struct wal_view *view);
    /* The replay steps over a hole that `wal salvage` made: entries are missing from here on, so
     * what comes next may skip offsets. NULL: not told. */
    void (*on_hole)(void *context, uint64_t from_lsn, uint64_t to_lsn);
    void *context;
};

enum damage_kind {
    DAMAGE_NONE,
    DAMAGE_MISSING_FILE,   // a file of the unbroken row of numbers is not there
    DAMAGE_FOREIGN_FILE,   // header names another store or shard, or another number than its name
    DAMAGE_BAD_HEADER,     // both copies of a segment header are bad
    DAMAGE_BAD_GROUP,      // a group below D fails a checksum
    DAMAGE_BROKEN_CHAIN,   // a valid group does not continue the one before
    DAMAGE_TRUNCATED_FILE, // shorter than a segment
    DAMAGE_BAD_ENTRY,      // a valid group holds an entry that can't be
    DAMAGE_UNKNOWN_ENTRY,  // of a newer version, not flagged ignorable
    DAMAGE_NEWER_FORMAT,
    DAMAGE_SHORT_OF_PROVEN, // E < D, and no group at E to be called bad: lost or stale blocks
};

struct recover_result {
    uint64_t end_lsn;                // E
    uint64_t end_chain;              // of the last group before it
    uint64_t proven_lsn;             // D
    uint64_t groups, entries, bytes; // replayed
    uint64_t torn_bytes;             // dropped behind E: group header good, payload not
    uint64_t bad_bytes;              // dropped: generation current, header bad
    uint64_t stale_bytes;            // dropped: valid groups that don't continue the chain
    uint64_t lost_bytes;             // in holes that `wal salvage` made
    bool cut;                        // a CUT was written (read_only: would be)
    char rule;                       // letter of the case in recover_cases that decided
    enum damage_kind damage;
    char path[4200];
    uint64_t offset;           // in that file
    uint64_t lsn_from, lsn_to; // range that is damaged or missing
    char text[256];            // one sentence for people
};

const char *damage_kind_name(enum damage_kind kind);

/* ---- what recovery found and left: for wal_open() and inspect ---- */

enum recover_role {
    RECOVER_LIVE,  // closed segment, still needed
    RECOVER_OPEN,  // the log goes on here
    RECOVER_SPARE, // has a number and a good header, never entered
    RECOVER_RAW, // material for spares: *.tmp, void files, what is older than the checkpoint needs
};

struct recover_file {
    char name[64];   // in the log's directory
    uint64_t number; // 0: *.tmp
    uint64_t size_bytes;
    enum recover_role role;
    int fd;       // open and locked, or -1 (*.tmp)
    bool written; // every block was written once
    uint64_t generation;
    uint64_t base_lsn; // LIVE, OPEN
    uint64_t end_lsn;  // LIVE, OPEN
};

struct recover_log {
    struct recover_file *files; // in order of their numbers, *.tmp last
    uint32_t count;
    struct wal_position end;                   // where the log goes on
    uint64_t data_end_lsn;                     // end of its last group that is no MARK
    bool open_is_bare;                         // the open file holds nothing, or only its CUT
    uint64_t next_number;                      // above every number that was seen
    struct segment_hole holes[DISK_HOLES_MAX]; // what `wal salvage` gave up, ever
    uint32_t hole_count;
};

/* Reads, decides, and unless read_only writes a CUT where one is needed. Used by wal_open() and by
 * `sluicectl wal inspect`. Blocking. Returns 0; CORRUPT, FOREIGN, NEWER (nothing was written;
 * *result tells); IO; NO_SPACE (no room for the file of a CUT); LOCKED (a write of the process
 * before has not ended after 2 s); NO_MEMORY; or what apply returned. *log is filled only with 0;
 * recover_log_free() closes what is still in it. */
MUST_USE int recover_run(const struct wal_options *options, const struct recover_options *recover,
                         struct recover_result *result, struct recover_log *log);
void recover_log_free(struct io *io, struct recover_log *log);

/* ---- groups of one file: to rebuild an index, to verify ---- */

/* Reads the groups of [from_lsn, to_lsn) of a live segment, checks each and that it continues the one
 * before, and gives each entry to visit(); a negative status from it ends the scan and is returned.
 * Blocking. Returns 0; CORRUPT with *at at the first group that is not good; IO; NO_MEMORY. from_lsn:
 * a group's first byte; to_lsn: a group's end. *at: where the scan ended; group_number 0: nothing was
 * read, or nothing behind a hole. */
MUST_USE int recover_scan_segment(struct io *io, const struct segment *segment,
                                  uint64_t segment_bytes, uint64_t from_lsn, uint64_t to_lsn,
                                  int (*visit)(void *context, const struct wal_view *view),
                                  void *context, struct wal_position *at);

#endif
