/* Archive files: sorted runs of older batches, made by "unweaving" closed segments.
 *
 * Driven by the log's byte budget only: when the closed segments exceed their share, the oldest
 * ones are rewritten as one run, by partition, then offset, without what expired or was dropped
 * meanwhile. The run is one sequential O_DIRECT write with at most ARCHIVE_UNSYNCED_BYTES not yet
 * synced, fdatasync, rename, directory sync, and only then named by a checkpoint (TABLE_ARCHIVES:
 * the manifest). Files that no checkpoint names are deleted at start; a named one that is missing
 * is damage. A file is unlinked when nothing in it is live and both kept checkpoints have forgotten
 * it; when less than half is live it is rewritten together with the next run.
 *
 * TABLE_ARCHIVES is local state of this replica: it is changed by the job and the survey below, not
 * by log entries. After a crash it is what the checkpoint says, whatever was done since; what the
 * checkpoint doesn't name is made again from segments that are still there. So it has no part in
 * the state digest.
 *
 * Order. The files in use never overlap in LSN, and offsets of a partition rise with LSN:
 * archives_at(0) holds the oldest, and of two files that hold a partition the later one holds the
 * higher offsets.
 *
 *     file       in use ----------------> dropped (row says so) ----> unlinked, row gone
 *                   nothing live, or         both kept checkpoints
 *                   rewritten elsewhere      say dropped, no pins
 *
 * What the caller does and when:
 *
 *     start      archives_new(), checkpoint_load() into archives_table(), archives_open()
 *     turn       archives_turn()
 *     budget     archives_unweave() -> on_run(0) -> a checkpoint, and another one -> now
 *                archives_safe_lsn() has moved: segments that end at or below it need not be kept
 *                for their batches
 *     checkpoint archives_checkpoint_begin() in the turn of checkpoint_begin(),
 *                archives_checkpoint_done() when it is durable under its name
 *     retention  archives_log_start_moved() after log starts moved or partitions were dropped
 *
 * Thread: the shard's core. Memory: ARCHIVE_JOB_BYTES of arena; the heap for index images, which
 * the cache's budget bounds, and while a run is made for its own lists: ARCHIVE_RUN_ENTRIES_MAX x
 * 80 bytes at the most, and 100 bytes for each partition of each source. */
#ifndef SLUICE_STORAGE_ARCHIVE_H
#define SLUICE_STORAGE_ARCHIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/io.h"
#include "storage/format.h"
#include "storage/index.h"
#include "storage/segment.h"
#include "storage/table.h"

#define ARCHIVE_UNSYNCED_BYTES ((uint64_t)(4 * MIB))
#define ARCHIVE_RUN_BYTES_MAX (256 * MIB)     // of one run: 4 segments of 64 MiB
#define ARCHIVE_RUN_ENTRIES_MAX (256u * 1024) // batches of one run (a single segment may have more)
#define ARCHIVE_RUN_SEGMENTS_MAX 16
#define ARCHIVE_JOB_BYTES ((size_t)(32 * MIB))
#define ARCHIVE_FDS_MAX 64

struct disk_archive_row { // row of TABLE_ARCHIVES
    le64 number;          // never 0
    le64 file_bytes;
    le64 base_lsn; // of the segments it came from
    le64 end_lsn;
    le64 data_bytes;     // of batches, when it was made
    le64 live_bytes;     // of those still at or above their log start, as of the last survey
    le64 dropped;        // 1: superseded or dead; unlinked when both checkpoints say so
    le64 append_ms_last; // append time of the last group covered: retention by time goes by it
};
static_assert(sizeof(struct disk_archive_row) == 64, "disk");

/* ---- the set ---- */

struct archives;

struct archives_options {
    struct io *io;
    struct arena *arena;
    const char *dir; // DIR/shard-NNN/archive; borrowed
    uint8_t store_id[16];
    uint32_t shard_id;
    struct index_cache *cache; // of images; borrowed, shared with the segments'
    uint32_t file_count_max;   // rows; 0: 65,536
    uint32_t fds_max;          // descriptors kept open for reads; 0: ARCHIVE_FDS_MAX
    size_t job_bytes;          // 0: ARCHIVE_JOB_BYTES; at least batch_bytes_max + 4 MiB
    uint32_t batch_bytes_max;
    uint64_t reserve_bytes; // space kept back in reserve.tmp for a run on a full disk; 0: none
    bool no_direct;
    void *context;
    /* First offset of the partition that is still wanted; UINT64_MAX when there is no such
     * partition (any more). */
    uint64_t (*log_start)(void *context, uint32_t topic_id, uint32_t partition);
    /* A run ended. 0: everything wanted below end_lsn is in archive files now; make a checkpoint.
     * NO_SPACE: nothing changed, try again when there is room. CORRUPT: a source is damaged (logged
     * with file and place); nothing changed, and trying again gives the same. IO, NO_MEMORY:
     * nothing changed. Segments are unpinned before. */
    void (*on_run)(void *context, int status, uint64_t end_lsn);
};

/* Bytes of arena that archives_new() takes. */
size_t archives_arena_bytes(const struct archives_options *options);

/* NULL: out of memory. No I/O. */
struct archives *archives_new(const struct archives_options *options);
/* Nothing of it may be in flight: see archives_quiesce(). Files stay as they are. */
void archives_free(struct archives *archives);
struct table *archives_table(struct archives *archives);

/* After the checkpoint was loaded into the table: checks that each file that it names is there with
 * the right identity, size, header and footer, and deletes the others and *.tmp. Blocking. Returns
 * 0; CORRUPT, FOREIGN or NEWER with `text` naming the file, and then nothing was deleted; IO;
 * NO_MEMORY. read_only: deletes nothing. */
MUST_USE int archives_open(struct archives *archives, bool read_only, char text[512]);
/* The deletion alone, for whoever has more to check before it. Blocking. */
MUST_USE int archives_tidy(struct archives *archives, char text[512]);

/* Files in use, oldest first. The pointer is valid until the next turn unless a read holds the
 * file. */
struct archive;
uint32_t archives_count(const struct archives *archives);
struct archive *archives_at(const struct archives *archives, uint32_t index);
uint64_t archive_number(const struct archive *archive);
uint64_t archive_base_lsn(const struct archive *archive);
uint64_t archive_end_lsn(const struct archive *archive);
uint64_t archive_data_bytes(const struct archive *archive);
uint64_t archive_live_bytes(const struct archive *archive);
uint64_t archive_append_ms_last(const struct archive *archive);

/* Everything still wanted below this LSN lies in archive files. */
uint64_t archives_end_lsn(const struct archives *archives);
/* The same by the older of the two kept checkpoints: what recycling needs. */
uint64_t archives_safe_lsn(const struct archives *archives);

/* ---- reading ---- */

/* One read of [offset, offset + len) of a file; through the page cache. Embedded in the caller's
 * object and not touched by it from start to done. The file is held meanwhile. */
struct archive_read {
    struct list link;
    struct io_op op;
    struct archives *archives;
    /* in */
    struct archive *archive;
    uint64_t offset;
    uint8_t *buffer;
    uint32_t len;
    void (*done)(struct archive_read *read);
    /* out */
    int status; // 0; IO; CORRUPT: the file ends before offset + len; NOT_FOUND: it is gone: damage
    int os_error;
};
/* done is called once, from io_poll(). */
void archive_read_start(struct archives *archives, struct archive_read *read);

/* The index image of a file, from the cache or loaded into it. */
struct archive_image_load {
    struct archive_read read;
    /* in */
    struct archive *archive;
    void (*done)(struct archive_image_load *load);
    /* out */
    int status;                      // 0; IO; CORRUPT; NO_MEMORY
    const struct index_image *image; // in the cache: valid until the next put or drop there
    /* own */
    uint8_t *bytes;
    uint64_t progress;
    bool is_private; // goes to `own`, not into the cache
    struct index_image own;
};
/* Returns 1: `image` is set, done is not called; 0: started, done is called once, from
 * io_poll(). */
MUST_USE int archive_image_start(struct archives *archives, struct archive_image_load *load);

/* ---- unweaving ---- */

/* A closed segment and its index. Position of an entry: the LSN of the batch's first byte (behind
 * the entry's 16 byte header), so segment_offset(segment, position) is where the batch lies. */
struct unweave_source {
    struct segment *segment;  // pinned until on_run
    struct index_image image; // taken over by a run that takes the segment
};

/* Segments in front of the first source in which batches of the sources' indexes may lie: what was staged there and
 * committed later. Only read from; pinned until on_run. Live ones without a gap, oldest first. */
struct unweave_older {
    struct segment **segments;
    uint32_t count;
};

/* Starts a run over the oldest closed segments that end above archives_end_lsn() (what ends below
 * is archived already), given oldest first and without a gap. Takes as many as one run may have, at
 * least the first. Returns how many; FULL: a run is on its way (also one of the archive's own), or
 * the table of files is full; INVALID: the first segment begins below archives_end_lsn(). Images of
 * what is not taken stay the caller's. older: NULL when the sources' batches all lie in the sources. */
MUST_USE int archives_unweave(struct archives *archives, struct unweave_source *sources,
                              uint32_t count, const struct unweave_older *older,
                              uint64_t now_wall_ms);
bool archives_is_unweaving(const struct archives *archives);

enum archive_pressure {
    ARCHIVE_CALM,   // no group waits to be written: a few I/Os in flight, no pauses
    ARCHIVE_BUSY,   // groups are queued: one I/O in flight, and a pause of three times its duration
    ARCHIVE_URGENT, // the log has no spares, or soon none: as fast as the device goes
};

/* Once per loop turn: the next bounded step of run, survey, unlinking and reserve. Returns work
 * done. */
int archives_turn(struct archives *archives, uint64_t now_ns, enum archive_pressure pressure);
/* When archives_turn() wants to run even if nothing completes (UINT64_MAX: no wish). */
uint64_t archives_deadline_ns(const struct archives *archives);

/* Gives up the run (on_run is not called, its file is deleted at the next start) and waits for what
 * is in flight. Blocking. After it only archives_free(). */
void archives_quiesce(struct archives *archives);

/* ---- life of the files ---- */

void archives_log_start_moved(struct archives *archives);
/* Keeps reserve_bytes back from now on, made in calm moments; a run that finds the disk full takes
 * them. Call it when there is room (at start, and when room comes back). */
void archives_make_reserve(struct archives *archives);
void archives_checkpoint_begin(struct archives *archives);
void archives_checkpoint_done(struct archives *archives);

struct archives_stats { // totals since open, and what there is
    uint64_t files, file_bytes, live_bytes, dropped_files;
    uint64_t runs, run_bytes, read_bytes, expired_bytes, unlinked_files, failed_runs;
    uint64_t fds_open;
    bool has_reserve;
    int damage; // 0, or the status of the last run or load that found damage; stays until restart
};
struct archives_stats archives_stats(const struct archives *archives);

/* ---- tools: a whole file, blocking ---- */

struct archive_report {
    uint64_t file_bytes, data_bytes, base_lsn, end_lsn;
    uint32_t partition_count, batch_count;
    uint64_t offset; // of the damage
    const char *why; // NULL: intact
};
/* Checks header, footer, index and every batch against its index entry. Returns 0, CORRUPT,
 * FOREIGN, NEWER, IO, NOT_FOUND, NO_MEMORY. Never writes. */
MUST_USE int archive_verify(struct io *io, const char *path, const uint8_t store_id[16],
                            uint32_t shard_id, uint64_t number, struct archive_report *report);

#endif
