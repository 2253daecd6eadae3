/* The storage engine of one shard: what the broker sees of this folder.
 *
 * It ties together log (wal.h), partitions, index, checkpoints, archive and the read path, and keeps
 * the one rule that makes replay equal to life: state changes only in store_apply(), once per entry, in
 * LSN order, at append and at replay alike. store_apply() changes storage's own state (offsets, index,
 * archive list) and then calls the broker's `apply` for the rest. Neither asks clock or random.
 *
 *     store_append() -> wal_append() -> store_apply()      visible when on_visible() says so
 *     store_read()   -> open index | cached image | load image -> tail memory | segment | archive file
 *     store_turn()   -> wal_turn(), checkpoint_turn(), unweaving, retention, recycling
 *
 * Thread: the shard's core, everything. No function but open, close and create blocks. */
#ifndef SLUICE_STORAGE_STORE_H
#define SLUICE_STORAGE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/random.h"
#include "proto/batch.h"
#include "storage/partitions.h"
#include "storage/recover.h"
#include "storage/staged.h"
#include "storage/table.h"
#include "storage/wal.h"

struct store;

enum store_room { // free space of the file system, with hysteresis
    STORE_ROOM_OK,
    STORE_ROOM_LOW,  // below disk_free_throttle: producers are slowed
    STORE_ROOM_FULL, // below disk_free_refuse: batches are refused, everything else goes on
};

struct store_options {
    struct io *io;
    struct clock *clock; // for start and close only, which block; NULL: the system's
    struct random *random;
    struct arena *arena;
    const char *dir; // DIR (the data directory); borrowed
    uint8_t store_id[16];
    uint32_t shard_id;
    uint64_t segment_bytes;     // default 64 MiB
    uint32_t batch_bytes_max;   // default 4 MiB
    uint32_t group_slot_count;  // default 40
    uint64_t wal_bytes_budget;  // of this shard
    uint64_t index_cache_bytes; // default 32 MiB
    uint32_t read_slot_count;   // cold reads in flight, default 16; READ_PIECE_BYTES of arena each
    uint32_t partition_count_max;        // default PARTITIONS_MAX
    uint32_t disk_free_throttle_percent; // default 5
    uint32_t disk_free_refuse_percent;   // default 2
    bool relaxed;
    bool no_direct;

    struct table *const *tables; // the broker's, made empty by the caller; in checkpoints with ours
    uint32_t table_count;
    void *context;
    /* The tables are loaded (or empty), replay begins: rebuild maps over them. CORRUPT with *why refuses. */
    int (*loaded)(void *context, const char **why);
    /* The broker's part of an entry. May look at `partition` (NULL when the entry names none or an unknown one).
     * A negative status at replay stops recovery as damage. */
    int (*apply)(void *context, const struct wal_view *view, struct partition *partition);
    /* visible_end of this partition moved: wake its waiters. */
    void (*on_visible)(void *context, struct partition *partition);
    /* The committed mark moved (after all on_visible of that round): complete waiters below lsn. */
    void (*on_committed)(void *context, uint64_t lsn);
    void (*on_room)(void *context); // an append that was FULL may succeed
    void (*on_failed)(void *context, const struct wal_failure *failure); // final
    /* A partition is about to go (dropped): cursors must let go of it now. */
    void (*on_partition_drop)(void *context, struct partition *partition);
};

/* Bytes of arena that store_open() takes. */
size_t store_arena_bytes(const struct store_options *options);

/* ---- the data directory as a whole: blocking, by main before the cores start ---- */

struct store_identity {
    uint8_t store_id[16];
    uint32_t shard_count;
    uint64_t segment_bytes;
};
/* Opens DIR, or makes a new store there (LOCK, identity, each shard's first files, reserve). Refuses: LOCKED (after
 * 2 s of retries), NO_DIRECT (or memory file system) unless no_direct, FOREIGN (not empty, no store), NEWER,
 * CORRUPT, NO_SPACE; `text` says what, where and what to do. shard_count and segment_bytes in *identity are the wish for
 * a new store; an existing one answers with its own. *lock_fd is held until exit. */
MUST_USE int store_dir_open(struct io *io, const char *dir, bool no_direct,
                            struct store_identity *identity, int *lock_fd, char text[512]);

/* ---- open and close of a shard: blocking ---- */

/* Loads the newest good checkpoint, replays the log (recover.h), tidies up. CORRUPT etc.: *result and text say what. */
MUST_USE int store_open(const struct store_options *options, struct recover_result *result,
                        char text[512], struct store **store);

/* For a start: what was refused with FULL for want of a spare segment may be appended when this returned 0. TIMEOUT; CLOSED:
 * the log has failed. */
MUST_USE int store_wait_room(struct store *store, uint64_t timeout_ns);

/* Drains: waits for what is in flight, writes a last checkpoint with the clean mark. Blocking, until deadline_ns; a
 * missed deadline or a failed log: TIMEOUT / CLOSED, and the next start recovers as after a crash. */
int store_close_clean(struct store *store, uint64_t deadline_ns);
void store_free(struct store *store);

/* ---- append ---- */

/* Appends and applies. For ENTRY_BATCH (a batch that batch_check() passed) the log gets a copy with the base offset
 * (*base_offset) and the leader epoch set. Returns 0 with *view; FULL (retry after on_room); NO_SPACE (ENTRY_BATCH and ENTRY_STAGED only:
 * STORE_ROOM_FULL); NOT_FOUND (these only: no such partition); CLOSED; TOO_LARGE. */
MUST_USE int store_append(struct store *store, const struct wal_entry *entry, struct wal_view *view,
                          uint64_t *base_offset);

/* ---- transactions ----
 *
 * ENTRY_STAGED goes through store_append(): pieces are struct disk_txn_name and the batch, which batch_check() passed as staged.
 * The log's copy gets STAGED_OFFSET as its base offset. Results as for ENTRY_BATCH; the caller has asked
 * staged_is_full() and counted STAGED_PER_TRANSACTION_MAX. */

/* Ends what is staged here under this name: gives each batch of a partition that still exists its offset, in the order
 * of staging, so those of one partition lie one behind the other. Visible when committed reaches store_reserved_lsn(). Also
 * when nothing is staged (the entry is logged all the same). 0, FULL, CLOSED; never NO_SPACE: room was kept. */
MUST_USE int store_append_commit(struct store *store, const struct disk_txn_name *name,
                                 uint32_t flags, struct wal_view *view);
MUST_USE int store_append_abort(struct store *store, const struct disk_txn_name *name,
                                uint32_t flags, struct wal_view *view);
const struct staged *store_staged(const struct store *store);
/* Staged batches of long transactions are copied forward in the log. Up to so many bytes in all there is always room for that,
 * whatever else is appended; beyond it batches may have to wait until a transaction ends. */
uint64_t store_staged_bytes_max(const struct store *store);

/* Where something appended now would be safe: wait until on_committed reaches this LSN. */
uint64_t store_reserved_lsn(const struct store *store);
uint64_t store_committed_lsn(const struct store *store);

/* ---- partitions ---- */

struct partition *store_partition(struct store *store, uint32_t topic_id, uint32_t partition);
struct partitions *store_partitions(struct store *store);

/* ---- reading ---- */

#define READ_PIECE_BYTES ((uint32_t)(1 * MIB)) // of one file read; larger batches are read alone

struct store_read;
typedef void (*store_read_done_fn)(struct store_read *read);

struct store_damage {     // of a batch that can't be delivered
    uint64_t file_number; // 0: no file holds the offset
    uint64_t file_offset; // of the batch's first byte
    uint64_t lsn;         // of it; in an archive file the first that the file covers
    bool in_archive;
};

/* One read: whole batches of one partition from `offset` on, below visible_end, head (base offset, epoch) set,
 * checksums verified, copied into the caller's buffer. Embedded in the caller's object; untouched by the
 * caller from start to done. */
struct store_read {
    struct list link;
    /* in */
    struct partition *partition;
    uint64_t offset; // raised over offsets that `wal salvage` gave up
    uint8_t *buffer;
    uint32_t capacity; // bytes of buffer; at least the next batch's size, else TOO_LARGE
    store_read_done_fn done;
    /* place: zero it (hint = INDEX_NONE) at first, keep it for the next read of the same sequence */
    uint32_t hint;
    /* out */
    int status; // 0; INVALID: offset out of range; TOO_LARGE: needed_bytes tells; CORRUPT, IO: storage error;
        // NO_MEMORY: nothing is wrong with what is stored; CANCELED: partition dropped;
        // FULL (from store_read only): no read slot, try later
    uint32_t bytes; // 0 with status 0: nothing visible behind offset
    uint32_t batch_count;
    uint32_t needed_bytes;
    uint64_t next_offset;       // behind the last batch copied
    struct store_damage damage; // CORRUPT: where
    /* storage's own */
    void *job;
};

/* Returns 1: finished, `done` is not called (tail memory or nothing to read); 0: started, done will be called from
 * io_poll; FULL: nothing happened, all read slots are busy. */
MUST_USE int store_read(struct store *store, struct store_read *read);

/* First batch whose max timestamp is >= timestamp: read->next_offset = its base offset, read->bytes = 1; none:
 * bytes = 0, next_offset = visible_end. *found_timestamp is set with it. Returns as store_read(). */
MUST_USE int store_find_time(struct store *store, struct store_read *read, int64_t timestamp,
                             int64_t *found_timestamp);

/* ---- progress ---- */

/* Once per loop turn after the handlers. Returns work done. */
int store_turn(struct store *store, uint64_t now_ns, uint64_t now_wall_ms);
uint64_t store_deadline_ns(const struct store *store);

/* Starts a checkpoint now (also SIGHUP, tests). No effect while one runs. */
void store_checkpoint(struct store *store);

/* ---- inspect ---- */

enum store_room store_room(const struct store *store);
uint64_t
store_digest(struct store *store); // XXH3 over all tables: live state equals replayed state

struct store_stats {
    struct wal_stats wal;
    struct wal_marks marks;
    uint64_t recovered_lsn, recovered_chain; // of the log's end, before recovery added anything
    uint64_t segments, spares, archives, archive_bytes, checkpoint_lsn, checkpoints, unweaved_bytes,
        reads_tail, reads_segment, reads_archive, index_cache_bytes, disk_free_bytes, recovery_ms,
        staged_batches, staged_bytes, // that there are
        moved_batches, moved_bytes;   // copied forward since open
};
struct store_stats store_stats(struct store *store);

#endif
