/* What lies in a data directory, file by file, read only; and the one deliberate exception,
 * salvage.
 *
 * inspect_run() walks over identity, checkpoints, segments, indexes and archive files of each shard
 * and tells what it sees through one callback; the verdict on a log is recovery's own (recover.h,
 * read_only), so that inspection never says "intact" of what the broker would refuse. With `verify`
 * every group, entry, batch and archive file is checked by its checksums, also those that a start
 * does not read.
 *
 * The broker must be stopped: both take LOCK. Nothing is ever written, not even LOCK when it is
 * missing; salvage writes one CUT. Everything blocks. */
#ifndef SLUICE_STORAGE_INSPECT_H
#define SLUICE_STORAGE_INSPECT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/io.h"
#include "storage/recover.h"

#define INSPECT_ALL_SHARDS UINT32_MAX

enum inspect_kind {
    INSPECT_STORE,      // DIR/store
    INSPECT_CHECKPOINT, // a valid one, newest first; or a file that is none
    INSPECT_SEGMENT,    // each numbered file of a log, in order
    INSPECT_LEFTOVER,   // *.tmp of a log: raw material
    INSPECT_GROUP,      // with `groups`: each group of the live segments
    INSPECT_INDEX,      // .idx of a segment
    INSPECT_ARCHIVE,    // archive file, or one that the newest checkpoint names and is missing
    INSPECT_LOG,        // the verdict on a shard's log
};

struct inspect_item {
    enum inspect_kind kind;
    uint32_t shard; // UINT32_MAX: INSPECT_STORE
    const char *path;
    int status;       // 0: intact; CORRUPT, FOREIGN, NEWER, NOT_FOUND (missing), IO ...
    bool is_damage;   // false with status < 0: a start goes on without it, or makes it anew
    const char *text; // what is wrong; "": nothing
    /* SEGMENT: live, open, spare, raw, unknown. LEFTOVER: raw. ARCHIVE: live, raw. STORE: making,
     * ready. CHECKPOINT: clean, running. */
    const char *role;
    /* The rest by kind; 0 where it says nothing. */
    uint64_t number;     // of the file; STORE: shards
    uint64_t size_bytes; // of the file; STORE: of a segment
    uint64_t generation; // SEGMENT
    uint64_t lsn_from;   // base of what was found; CHECKPOINT: its LSN; damage: first byte lost
    uint64_t lsn_to;     // its end; LOG: E; damage: where good bytes begin again, if known
    uint64_t offset;     // of a GROUP or of the damage, in the file
    uint64_t groups, entries, batches;   // SEGMENT (with verify), LOG, ARCHIVE
    uint64_t group_number;               // GROUP, CHECKPOINT
    uint64_t append_time_ms;             // GROUP, CHECKPOINT
    enum disk_group_type group_type;     // GROUP
    const struct recover_result *result; // LOG
};

struct inspect_options {
    const char *dir;
    uint32_t shard; // INSPECT_ALL_SHARDS, or one
    bool verify;    // check every checksum
    bool groups;    // report each group
    void *context;
    void (*report)(void *context, const struct inspect_item *item);
};

/* Returns 0: intact; CORRUPT, FOREIGN, NEWER: something is damaged, and was reported; LOCKED,
 * NOT_FOUND (no store), INVALID (no such shard), IO, NO_MEMORY: it could not be done, `text` says
 * why. */
MUST_USE int inspect_run(struct io *io, const struct inspect_options *options, char text[512]);

/* Gives up the LSNs [from, to) of a shard's log that recovery refuses, and writes that down in a
 * CUT; the next start goes on behind it. dry_run: only says what would be. *result: E, D and
 * lost_bytes as they are then; when it is refused, what is (still) damaged. Returns 0; INVALID: the
 * range is none, does not begin at the damage, or lies behind the end of an intact log; CORRUPT:
 * behind `to` there is more damage; LOCKED, NOT_FOUND, FOREIGN, NEWER, NO_SPACE, IO. `text` says
 * what was done or why not. */
MUST_USE int inspect_salvage(struct io *io, const char *dir, uint32_t shard, uint64_t from_lsn,
                             uint64_t to_lsn, bool dry_run, struct recover_result *result,
                             char text[512]);

#endif
