/* The inside of a log: shared by wal.c (append), wal_group.c (slots and writes), wal_sync.c (marks,
 * sync rounds, failure) and wal_open.c (start and end). */
#ifndef SLUICE_STORAGE_WAL_PRIVATE_H
#define SLUICE_STORAGE_WAL_PRIVATE_H

#include "base/hash.h"
#include "storage/group.h"
#include "storage/recover.h"
#include "storage/segment.h"
#include "storage/spares.h"
#include "storage/wal.h"

#define WAL_JUMBO_SLOTS 2    // one is written while the other fills
#define WAL_SYNC_FILES_MAX 4 // of one round; two at a roll, more only when rolls are forced
#define WAL_BATCH_EXTRA 64   // what may come before a batch of batch_bytes_max in its entry

/* A slot and the group in it.
 *
 *     FREE      the last group's bytes are still there, as read cache (total_bytes 0: none yet)
 *     FILLING   entries are copied in                       wal_append()
 *     SEALED    complete, waits for its turn to be written  group_seal()
 *     WRITING   one io_write                                group_submit()
 *     WRITTEN   waits for a sync round                      group_write_done()
 */
enum group_state { GROUP_FREE, GROUP_FILLING, GROUP_SEALED, GROUP_WRITING, GROUP_WRITTEN };

struct group {
    struct wal *wal;
    uint8_t *bytes;
    uint32_t capacity;
    uint32_t total_bytes; // header, entries, padding; while FILLING 0
    uint64_t lsn;         // of its header
    uint64_t tail_turn;   // turn in which wal_tail() gave it away: not reused before the next
    struct segment *segment;
    struct group_head head;
    enum group_state state;
    uint64_t payload_checksum; // SEALED or later
    struct io_op op;
};

/* Slots of one size. Groups complete in LSN order, so the oldest of them is always the next one
 * round. */
struct group_slots {
    struct group *groups;
    uint32_t count;
    uint32_t next;
};

/* One fdatasync of a round. */
struct wal_sync {
    struct wal *wal;
    const struct segment *segment;
    struct io_op op;
};

struct wal {
    struct wal_options options;

    /* ---- append: what every entry touches ---- */
    uint8_t *fill_at;      // where the next entry goes
    uint32_t fill_room;    // bytes left there; 0: no group is being filled
    uint32_t fill_entries; // entries of the filling group
    uint64_t fill_lsn;     // LSN of fill_at
    struct group *filling;
    struct hash_stream *payload_hash; // of the filling group up to
    const uint8_t *hashed_at;
    uint64_t append_time_ms; // the log's clock: never decreases

    /* ---- groups: slots, and the queue of those not yet durable, in LSN order ---- */
    struct group_slots normal, jumbo, mark;
    struct group **queue; // FILLING or later; index & queue_mask
    uint32_t queue_mask;
    uint32_t queue_durable; // counts, each one behind the last that got there:
    uint32_t queue_written;
    uint32_t queue_submitted;
    uint32_t queue_stamped;
    uint32_t queue_tail;
    uint32_t writes_in_flight;
    uint64_t next_lsn; // where the group after the last one begins
    uint64_t next_number;
    uint64_t chain; // of the last stamped group

    /* ---- marks ---- */
    struct wal_marks marks; // reserved is computed on demand
    uint64_t data_end_lsn;  // end of the last group that is no MARK
    uint64_t proven_lsn;    // durable_lsn in the last group submitted
    uint64_t position_lsn;  // where wal_position() was asked last

    /* ---- the sync round in flight ---- */
    struct wal_sync sync_ops[WAL_SYNC_FILES_MAX];
    uint32_t syncs_in_flight;
    uint64_t sync_target; // durable moves here when all have returned
    uint64_t sync_began_ns;
    bool sync_timed; // the round has ended and its time is to be taken

    /* ---- files ---- */
    struct spares spares;
    struct segment_queue live; // the last is the open one
    struct segment *open;
    uint32_t closed_count; // of live: told through on_segment_closed()
    bool open_is_bare;     // holds nothing, or only its CUT: never left
    bool roll_wanted;
    bool mark_forced; // by a MARK, if by nothing else
    struct segment_hole holes[DISK_HOLES_MAX];
    uint32_t hole_count;

    /* ---- progress ---- */
    uint64_t turn;
    uint64_t now_ns;
    uint64_t now_wall_ms;
    uint64_t group_ns;     // when the last group was submitted
    bool room_wanted;      // an append was refused
    uint32_t need_refused; // bytes of the entry that was
    bool starved;          // for want of a spare
    bool closed;
    bool failed;
    struct wal_failure failure;
    struct wal_stats stats;
};

/* ---- wal_group.c ---- */

void group_slots_init(struct wal *wal, struct group_slots *slots, uint32_t count,
                      uint32_t capacity);
size_t group_slots_arena_bytes(const struct wal_options *options);
uint32_t group_jumbo_bytes(const struct wal_options *options);

/* Begins a new group that has room for an entry of `need` bytes; a filling one is sealed first.
 * Returns 0, FULL, CLOSED. */
MUST_USE int group_open(struct wal *wal, uint32_t need);
/* True when an append that was refused would find a slot and a file now. */
bool group_can_open(const struct wal *wal);
bool group_mark_lacks_file(const struct wal *wal); // a MARK has to wait for a spare
/* Takes the filling group's bytes into its checksum, from where that was left. From then on they
 * may not change. */
void group_hash_until(struct wal *wal, const uint8_t *end);
/* Ends the filling group; no effect when there is none. */
void group_seal(struct wal *wal);
/* Stamps the replicated part of all sealed groups, in order. */
void group_stamp_all(struct wal *wal);
/* Submits what should be under way now; all: everything, as far as writes are free. */
int group_submit_some(struct wal *wal, bool all);
/* Submits an empty group that proves what is durable. Returns 1, or 0 when there is no room for it
 * now. */
int group_submit_mark(struct wal *wal);

/* ---- wal_sync.c ---- */

enum wal_mark { WAL_COMMITTED, WAL_DURABLE, WAL_WRITTEN, WAL_SUBMITTED };
/* The only place that moves a mark: asserts that it rises and that their order holds. */
void wal_marks_advance(struct wal *wal, enum wal_mark mark, uint64_t lsn);
/* Nothing is written or synced now, and nothing waits for it. */
bool wal_is_idle(const struct wal *wal);
/* After a write ended: moves `written` over the contiguous prefix. */
void sync_written(struct wal *wal);
/* Begins a round when there is something to make durable and none is in flight. */
int sync_start(struct wal *wal);
void wal_fail(struct wal *wal, int status, int os_error, const char *what, const char *path);

#endif
