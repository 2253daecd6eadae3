/* What a store does beside the data path: checkpoints and recycling (upkeep.c), watching the disk (upkeep_room.c),
 * unweaving (upkeep_unweave.c). */
#ifndef SLUICE_STORAGE_UPKEEP_H
#define SLUICE_STORAGE_UPKEEP_H

#include "storage/archive.h"
#include "storage/checkpoint.h"
#include "storage/segment_index.h"

#define UPKEEP_LOOK_NS (20 * NS_PER_MS) // between looks at which segments are needed

struct upkeep {
    struct checkpoint_head kept[2]; // newest first; number 0: none
    uint64_t checkpoint_count;      // written since open
    int checkpoint_status;          // of the last one
    uint64_t retry_ns;              // no checkpoint before: the last one failed
    uint64_t unweave_retry_ns;      // no run before: the last one failed
    uint64_t look_ns;               // no look at which segments are needed before
    uint64_t needed_look_ns;        // likewise, for how much that is:
    uint64_t needed_first;          // the lowest file that was needed then
    uint64_t run_lsn;               // where the log was when the last run began
    bool checkpoint_wanted;         // by store_checkpoint(), or after a failure
    bool archive_unnamed;           // a run ended that no checkpoint names yet
    bool is_tight;                  // the disk may not have room for more files
    bool minds_reserve;             // batches leave spares alone: upkeep_batch_waits() says when
    bool loading;
    struct image_load load; // of a segment that may be dead, or of the next source
    struct segment *load_segment;
    struct unweave_source sources[ARCHIVE_RUN_SEGMENTS_MAX]; // of the next run, pinned
    uint32_t source_wanted;
    uint32_t source_count; // whose images are there
};

/* Spares that only entries without batches may enter while the disk is tight: with three files these can roll and
 * recycle for ever. */
#define UPKEEP_RESERVE_SEGMENTS 3u
#define UPKEEP_TIGHT_SEGMENTS 16u // tight: less room than so many more files

int upkeep_turn(struct store *store);
uint64_t upkeep_deadline_ns(const struct store *store);

/* For archives_options. */
void upkeep_on_run(void *context, int status, uint64_t end_lsn);
uint64_t upkeep_log_start(void *context, uint32_t topic_id, uint32_t partition);

/* Space kept back for a run: one segment's batches and their index. */
static inline uint64_t upkeep_reserve_bytes(uint64_t segment_bytes)
{
    return segment_bytes + segment_bytes / 4;
}

/* While the reserve is minded: true when the batch would have to go into a segment that is kept for other entries. */
bool upkeep_batch_waits(struct store *store, const struct wal_entry *entry);
/* True when an entry with such a payload may have to go into the next segment. */
bool upkeep_would_roll(const struct store *store, uint64_t payload_bytes);
bool upkeep_has_reserve(const struct store *store);
bool upkeep_batch_may(
    const struct store *store); // whatever its size: who was refused may try again
uint32_t
upkeep_spares(const struct store *store); // that there are, or may be as soon as they are wanted
uint64_t upkeep_free_bytes(const struct store *store); // that the log can take as it is
/* Whether the open segment may be left before it is full, with room for what is staged in those behind it. */
bool upkeep_may_roll(const struct store *store);

/* The lowest file that the state of this moment needs, for replay or for reads. */
uint64_t upkeep_first_file(struct store *store);

/* As it would be without staged batches, as an LSN: only those that lie below hold files back by themselves. */
uint64_t upkeep_held_lsn(struct store *store);

/* Freezes the state of this moment; checkpoint_status says how it ended when it no longer runs. */
void upkeep_checkpoint_begin(struct store *store, bool clean);

/* ---- upkeep_room.c ---- */

int upkeep_room_turn(struct store *store);
/* Are there so few spares that batches have to leave them alone? */
void upkeep_reserve_turn(struct store *store);
/* Before a segment is recycled on a full disk: shall its blocks be given back? */
void upkeep_discard_mind(struct store *store);

/* ---- upkeep_unweave.c ---- */

int upkeep_unweave_turn(struct store *store);
/* The log takes so much of its budget that files have to come back. */
bool upkeep_log_is_high(struct store *store);
/* The log grows fast while a run is to bring files back, or few spares are left: so the run no longer leaves most of the device to
 * others, or all would wait for it soon. */
bool upkeep_run_is_late(const struct store *store);
/* An image that was wanted has come, or not: it may be of a source. */
void upkeep_source_loaded(struct store *store, struct segment *segment,
                          const struct image_load *load);
/* Lets go of what was gathered for a run; images below `taken` have gone into it. */
void upkeep_sources_drop(struct upkeep *upkeep, uint32_t taken);

/* ---- upkeep.c, for it ---- */

/* Does it hold anything that is still wanted and in no archive file? True when that is not known yet. */
bool upkeep_segment_is_needed(struct store *store, struct segment *segment);
/* Asks for a segment's image, one at a time; upkeep_source_loaded() hears of it. */
void upkeep_image_want(struct store *store, struct segment *segment);
uint64_t upkeep_live_bytes(const struct store *store);
uint64_t upkeep_needed_bytes(struct store *store); // from the first segment on that is needed

#define UPKEEP_RETRY_NS (1 * NS_PER_S)         // after what failed for want of space or memory
#define UPKEEP_DAMAGE_RETRY_NS (60 * NS_PER_S) // each try is an ERROR line: seen, but no flood

#endif
