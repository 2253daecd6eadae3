/* The write-ahead log of one shard: the only path by which bytes become durable.
 *
 * It takes entries, packs them into groups, writes each group once with O_DIRECT into a prezeroed
 * segment file, makes groups durable with shared fdatasync rounds, and tells in LSN order what is
 * durable. It does not know what entries mean, keeps no index and decides no retention.
 *
 * Marks, half-open, moved only by wal_marks_advance(), which asserts their order:
 *
 *     0 ....... committed .... durable ...... written ...... submitted ...... reserved
 *       visible   |  (equal on   |  not yet     |  in flight     |  being filled  |
 *                    one machine)   safe
 *
 * Life of a group: FREE -> FILLING (wal_append copies in) -> WRITING (one io_write) -> WRITTEN ->
 * DURABLE (a sync round covered it; stays in memory as read cache of the tail) -> FREE (oldest
 * first, when a slot is needed and nobody has it pinned).
 *
 * Group commit has no timer. wal_turn() submits the filling group when nothing is in flight, or
 * when it holds GROUP_SUBMIT_BYTES and fewer than WAL_WRITES_MAX writes are in flight. One sync
 * round at a time; it covers, by one fdatasync per touched file, exactly the contiguous prefix of
 * writes that had completed when it began.
 *
 * Rules: 1. One owner core. 2. Groups complete in LSN order, each once. 3. A failed write or
 * fdatasync is final: on_failed is called, nothing is acked any more, nothing is retried (after a
 * failed fsync the kernel may have dropped the pages and report success next time). 4. A file is
 * entered only when its successor exists durably; no spare = FULL (backpressure), never an error.
 * 5. A block that holds an acked byte is never rewritten.
 *
 * See also: format.h (bytes), segment.h (files), recover.h (start-up), docs/disk-format.md. */
#ifndef SLUICE_STORAGE_WAL_H
#define SLUICE_STORAGE_WAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/io.h"
#include "base/random.h"
#include "storage/format.h"

#define WAL_WRITES_MAX 16                          // measured: 2.2x of linked write+sync at 256 KiB
#define GROUP_SUBMIT_BYTES ((uint32_t)(256 * KIB)) // smaller groups halve the device's rate
#define GROUP_BYTES_MAX ((uint32_t)(1 * MIB))      // larger ones only add latency
#define WAL_MARK_IDLE_NS (10 * NS_PER_MS)          // then a MARK group proves what is durable

struct wal;

/* An entry to append. The payload is up to three pieces, copied one behind the other. */
struct wal_entry {
    uint8_t type; // enum disk_entry_type
    uint8_t flags;
    uint32_t topic_id;
    uint32_t partition;
    struct {
        const void *bytes;
        uint32_t len;
    } pieces[3];
    uint32_t piece_count;
};

/* An entry as read back: at append (pointing into the group buffer) and at replay. */
struct wal_view {
    uint64_t lsn;            // of the entry's header
    uint64_t append_time_ms; // the group's
    uint64_t file_number; // of the segment it lies in: the store begins a new index when it changes
    uint8_t type;
    uint8_t flags;
    uint32_t topic_id;
    uint32_t partition;
    const uint8_t *payload; // at append: in the group buffer
    uint32_t payload_bytes;
};

struct segment; // storage/segment.h

struct wal_failure {
    int status; // IO, NO_SPACE, ...
    int os_error;
    const char *what; // "write" or "fdatasync"
    const char *path;
    uint64_t lsn; // first byte that is not durable
};

struct wal_options {
    struct io *io;
    struct random *random; // for generations
    struct arena *arena;   // group slots come from here, at init
    const char *dir;       // DIR/shard-NNN/wal; borrowed for the wal's life
    uint8_t store_id[16];
    uint32_t shard_id;
    /* 4 MiB..1 GiB, a multiple of 1 MiB; default 64 MiB; fixed when the store is made. */
    uint64_t segment_bytes;
    /* A jumbo slot holds one entry of this size; <= segment_bytes / 4. */
    uint32_t batch_bytes_max;
    /* Of GROUP_BYTES_MAX each; default 40: 1 filling, 16 in flight, the rest read cache. */
    uint32_t group_slot_count;
    /* Of all files of this shard; default 4 GiB / shards; at least 4 segments. */
    uint64_t bytes_budget;
    bool relaxed;   // durability = relaxed: committed moves with `written`
    bool no_direct; // --development on a file system without O_DIRECT
    void *context;
    void (*on_committed)(void *context,
                         uint64_t lsn); // the committed mark moved: once per sync round
    void (*on_room)(void *context);     // after FULL: an append may succeed again
    void (*on_segment_closed)(void *context, struct segment *segment); // durable to its end
    void (*on_failed)(void *context, const struct wal_failure *failure);
};

/* Bytes of arena that wal_open() will take. */
size_t wal_arena_bytes(const struct wal_options *options);

/* ---- open and close: blocking, at start-up and shutdown ---- */

/* Makes the first files of an empty directory: segment 1 (its leading 4 MiB zeroed, the rest
 * allocated), its successor, and blocks for a third. Uses io, random, dir, store_id, shard_id,
 * segment_bytes and no_direct. Returns 0, NO_SPACE, IO, NO_DIRECT, NO_MEMORY. */
MUST_USE int wal_create(const struct wal_options *options);

/* Opens and recovers; see recover.h. Appending may begin when it has returned, not from inside
 * apply. Returns what recover_run() returns, or NO_MEMORY. */
struct recover_options;
struct recover_result;
MUST_USE int wal_open(const struct wal_options *options, const struct recover_options *recover,
                      struct recover_result *result, struct wal **wal);

/* Makes durable what was appended, waits for what is in flight; afterwards nothing is submitted any
 * more and appends answer CLOSED; marks and position can still be asked. Writes a last MARK group,
 * unless wal_position() was asked for at this very end before. So: close first, then ask for the
 * position of a checkpoint that says "clean". Blocking. Returns 0, or CLOSED when the log had
 * failed. */
int wal_close(struct wal *wal);
/* Before wal_close(), by a start that refuses and has appended nothing: then that writes nothing, not even a MARK. */
void wal_abandon(struct wal *wal);
/* After wal_close(). NULL is allowed. */
void wal_free(struct wal *wal);

/* ---- append ---- */

/* What is no batch may be as long as this, however small batches have to be: a normal slot takes it. */
#define WAL_PAYLOAD_BYTES_MIN ((uint64_t)(768 * KIB))

/* Copies the entry into the filling group and gives its view. Returns 0; FULL: no slot or no spare
 * segment, on_room() will be called; CLOSED after a failure. TOO_LARGE: payload above
 * batch_bytes_max + 64 (or WAL_PAYLOAD_BYTES_MIN, if that is more). Never an I/O error: those come through on_failed. */
MUST_USE int wal_append(struct wal *wal, const struct wal_entry *entry, struct wal_view *view);

/* Ends the filling group here: what follows is in another group (own LSN range, same sync). */
void wal_group_end(struct wal *wal);

/* Rolls to the next segment at the next append, e.g. before a disk is full. */
void wal_roll(struct wal *wal);
bool wal_wants_roll(const struct wal *wal); // and has not yet
/* The same, and when the log is silent a MARK does it: so that the open segment is closed. Until it is done: call it again,
 * no matter how often. */
void wal_roll_soon(struct wal *wal);

/* ---- progress ---- */

/* Once per loop turn, after appends: submits, syncs, makes spares in idle time, writes MARK groups.
 * now_wall_ms feeds append_time. Returns work done. */
int wal_turn(struct wal *wal, uint64_t now_ns, uint64_t now_wall_ms);

/* When wal_turn() wants to run even if nothing completes (UINT64_MAX: no wish). */
uint64_t wal_deadline_ns(const struct wal *wal);

/* ---- inspect ---- */

struct wal_marks {
    uint64_t committed, durable, written, submitted, reserved;
};
struct wal_marks wal_marks(const struct wal *wal);
uint64_t
wal_append_time_ms(const struct wal *wal); // the log's clock, as the next group would carry it
/* State of the log at its reserved end, for a checkpoint. Ends the filling group first. */
struct wal_position { // file_number: the file that the last group lies in (1 when there is none)
    uint64_t lsn, chain, group_number, append_time_ms, file_number;
};
struct wal_position wal_position(struct wal *wal);

/* Live segments, oldest first, the last is the open one. */
uint32_t wal_segment_count(const struct wal *wal);
struct segment *wal_segment_at(const struct wal *wal, uint32_t index);

uint32_t wal_spare_count(const struct wal *wal); // ready to be entered
bool wal_is_starved(const struct wal *wal);      // refused an append for want of a spare
bool wal_is_failed(const struct wal *wal);

/* The bytes at [lsn, lsn + len) when they still lie in one group buffer, else NULL. Valid until the
 * next io_poll(). */
const uint8_t *wal_tail(struct wal *wal, uint64_t lsn, uint32_t len);

/* Gives the oldest live segment back: it becomes raw material for spares. Only store.c, by its
 * rule. */
void wal_recycle_oldest(struct wal *wal);

/* The next file that is recycled is deleted instead of becoming a spare, as long as enough others
 * are left: its blocks are needed elsewhere on a full disk. */
void wal_discard_next(struct wal *wal);
/* While on, no new file is made as long as there are WAL_FILES_MIN: what room is left is for the
 * archive. */
#define WAL_FILES_MIN 4u
void wal_hold_files(struct wal *wal, bool on);

struct wal_stats { // totals since open; copied out
    uint64_t groups, entries, payload_bytes, written_bytes, syncs, marks, segments_made,
        segments_recycled;
    uint64_t full_no_slot, full_no_spare, sync_ns_last, sync_ns_max;
};
struct wal_stats wal_stats(const struct wal *wal);

#endif
