/* The inside of a store: shared by store.c (append, apply, turn), store_open.c (start and end), segment_index.c
 * (indexes of closed segments), store_txn.c (staged batches), store_lookup.c and store_read.c (reading), retention.c and upkeep.c
 * (what goes on in the background).
 *
 * Where a batch's place is known, from its append on:
 *
 *     open index ------> sealed: image and the entries not   ---> .idx file, image cached ---> archive file
 *     (store->open)      yet visible (segment_index)              or loaded, or rebuilt        (archive.h)
 *              the log rolls                     durable to its end,              unwoven, two checkpoints,
 *                                                .idx written                     segment recycled
 *
 * Everything belongs to the shard's core. */
#ifndef SLUICE_STORAGE_STORE_PRIVATE_H
#define SLUICE_STORAGE_STORE_PRIVATE_H

#include "storage/archive.h"
#include "storage/checkpoint.h"
#include "storage/disk_room.h"
#include "storage/index.h"
#include "storage/retention.h"
#include "storage/segment.h"
#include "storage/segment_index.h"
#include "storage/staged_mover.h"
#include "storage/store.h"
#include "storage/time_marks.h"
#include "storage/upkeep.h"

#define STORE_PATH_MAX 4200
#define ENTRY_HEADER_BYTES ((uint32_t)sizeof(struct disk_entry))

struct store {
    struct store_options options;
    char wal_dir[STORE_PATH_MAX];
    char checkpoint_dir[STORE_PATH_MAX];
    char archive_dir[STORE_PATH_MAX];
    struct clock *clock;

    struct partitions *partitions;
    struct staged *staged;
    uint8_t *commit; // payload of the COMMIT that is being made (arena)
    struct archives *archives;
    struct wal *wal;
    struct checkpoint_writer *checkpoints;
    struct table *tables[CHECKPOINT_TABLES_MAX];
    uint32_t table_count;

    /* ---- index of the open segment ---- */
    struct index_open *open;
    uint64_t open_file;      // number of the file that `open` is of
    uint32_t open_visible;   // entries of it that are visible
    uint64_t append_ms_last; // of the last entry applied
    struct time_marks times; // when what was appended to the open segment

    /* ---- indexes of closed segments ---- */
    struct index_cache *cache;
    struct segment_indexes indexes;

    /* ---- reading ---- */
    struct read_jobs *reads;

    /* ---- upkeep ---- */
    struct retention retention;
    struct disk_room room;
    struct upkeep upkeep;
    struct staged_mover *mover;
    uint64_t now_ns;
    uint64_t now_wall_ms;
    struct list chores; // closes and unlinks that nobody waits for, one after the other

    bool append_waits;      // an append got FULL for want of an open index, or of the reserve
    uint32_t commit_spares; // a COMMIT got FULL: it needs so many spares; 0: none waits
    bool is_replaying;
    struct segment_hole
        holes[DISK_HOLES_MAX]; // what `wal salvage` gave up, as the replay passed it
    uint32_t hole_count;       // not 0: offsets may skip
    bool is_closing;
    bool is_quiesced;         // archives
    struct list visible;      // partitions whose visible_end moved in this round
    struct store_stats stats; // what only the store counts; the rest is filled in by store_stats()
};

/* ---- store.c ---- */

/* One entry, in LSN order, at append and at replay alike. Negative: it can't be (logged). */
MUST_USE int store_apply(struct store *store, const struct wal_view *view);
MUST_USE int store_entry_is_bad(const struct wal_view *view, const char *why); // CORRUPT
bool store_offsets_may_skip(const struct store *store);
/* The log goes on in another file: the open index is sealed, and another one begins. */
void store_index_roll(struct store *store, uint64_t file_number);
bool store_append_was_refused(const struct store *store); // here, and not by the log
bool store_is_urgent(const struct store *store);          // appends wait for files
void store_on_committed(void *context, uint64_t lsn);
void store_on_room(void *context);
void store_on_segment_closed(void *context, struct segment *segment);
void store_on_failed(void *context, const struct wal_failure *failure);

/* ---- store_txn.c ---- */

MUST_USE int txn_init(struct store *store);
size_t txn_arena_bytes(void);
MUST_USE int txn_append_staged(struct store *store, const struct wal_entry *entry,
                               struct wal_view *view);
MUST_USE int txn_apply_staged(struct store *store, const struct wal_view *view,
                              struct partition *partition);
MUST_USE int txn_apply_moved(struct store *store, const struct wal_view *view);
MUST_USE int txn_apply_end(struct store *store, const struct wal_view *view); // COMMIT, ABORT

/* ---- places: where closed data lies, oldest first; archive files, then segments that are not in them ---- */

struct place {
    uint64_t base_lsn, end_lsn;
    struct archive *archive; // or
    struct segment *segment;
};
uint32_t places_count(const struct store *store);
struct place places_at(const struct store *store, uint32_t i);
uint32_t places_first_behind(const struct store *store, uint64_t lsn); // that ends behind lsn
uint32_t places_first_from(const struct store *store, uint64_t lsn); // that begins at or behind lsn

/* The image of a place: 1: load->status and load->image are set; 0: started, load->done is called once from io_poll(). */
MUST_USE int place_image(struct store *store, struct place place, struct image_load *load);

/* Live segments before the one whose index is open. */
uint32_t closed_count(const struct store *store);
struct segment *open_segment(const struct store *store);
/* The live segment that an LSN lies in; NULL: it is older than all of them. */
struct segment *segment_holding(const struct store *store, uint64_t lsn);

/* ---- store_close.c ---- */

/* Begins a checkpoint and drives it to its end. Everything below its position is durable already. */
MUST_USE int store_checkpoint_wait(struct store *store, bool clean, uint64_t deadline_ns);

/* ---- store_slots.c ---- */

struct read_jobs *read_jobs_new(struct store *store); // takes its share of the arena
void read_jobs_free(struct read_jobs *reads);
size_t read_jobs_arena_bytes(const struct store_options *options);
bool read_jobs_are_idle(const struct read_jobs *reads);
/* The buffer for what is larger than a piece. NULL while a read has it; give it back. */
uint8_t *read_jobs_jumbo_take(struct read_jobs *reads, uint32_t *capacity);
void read_jobs_jumbo_give(struct read_jobs *reads);

#endif
