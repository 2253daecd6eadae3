/* Spare segments: made ahead of need, in the background, one at a time.
 *
 * What a spare goes through; each step is one I/O operation:
 *
 *     recycled segment    rename <n>.wal -> recycled-<n>.tmp, sync directory
 *     new file            open new-<n>.tmp
 *     not yet written     zeros over the full length, 1 MiB each; fdatasync
 *     then                header twice, with the next number and a new generation; fdatasync;
 *                         rename -> <number>.wal; sync directory                         = READY
 *     successor of the first segment (already has number and header, blocks only allocated)
 *                         zeros behind the header; fdatasync                             = READY
 *
 * Zeroing takes the whole device when the log is idle or waits for a spare; beside a busy log it
 * pauses three times as long as its last write took, so it has at most a quarter of the device.
 *
 * A full disk, or a file that can't be written, costs the file (unlinked, so that others get its
 * blocks) and a pause of 100 ms, doubled up to 4 s; it never fails the log. Only a directory that
 * can't be made durable does: then nobody knows which names the disk holds.
 *
 * Thread: the log's owner. Nothing blocks but one statfs() per new file. */
#ifndef SLUICE_STORAGE_SPARES_H
#define SLUICE_STORAGE_SPARES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/io.h"
#include "base/random.h"
#include "storage/segment.h"

#define SPARES_ZERO_BYTES ((uint32_t)(1 * MIB)) // one zero write; the buffer comes from the caller

struct spares_options {
    struct io *io;
    struct random *random;
    const char *dir;
    uint8_t store_id[16];
    uint32_t shard_id;
    uint64_t segment_bytes;
    uint32_t file_count_max; // with the live segments: beyond it no new file is made
    bool no_direct;
    const uint8_t *zeros; // SPARES_ZERO_BYTES of them, block-aligned
    uint8_t *header;      // DISK_SEGMENT_DATA bytes, block-aligned: scratch
    void *context;
    /* A directory could not be made durable: final. */
    void (*on_failed)(void *context, int status, int os_error);
};

enum spares_step {
    SPARES_IDLE,
    SPARES_RETIRE,
    SPARES_RETIRE_SYNC,
    SPARES_OPEN,
    SPARES_ZERO,
    SPARES_ZERO_SYNC,
    SPARES_HEADER,
    SPARES_HEADER_SYNC,
    SPARES_NAME,
    SPARES_NAME_SYNC,
    SPARES_CLOSE,  // giving up: close ...
    SPARES_UNLINK, // ... and delete
};

/* A queue of segments, oldest first, in a fixed array. */
struct segment_queue {
    struct segment **items;
    uint32_t mask; // capacity - 1, a power of two
    uint32_t head; // free-running
    uint32_t tail;
};

static inline uint32_t segment_queue_count(const struct segment_queue *queue)
{
    return queue->tail - queue->head;
}

static inline void segment_queue_push(struct segment_queue *queue, struct segment *segment)
{
    ASSERT(segment_queue_count(queue) <= queue->mask);
    queue->items[queue->tail++ & queue->mask] = segment;
}

static inline struct segment *segment_queue_pop(struct segment_queue *queue)
{
    ASSERT(segment_queue_count(queue) > 0);
    return queue->items[queue->head++ & queue->mask];
}

static inline struct segment *segment_queue_at(const struct segment_queue *queue, uint32_t index)
{
    ASSERT(index < segment_queue_count(queue));
    return queue->items[(queue->head + index) & queue->mask];
}

struct spares {
    struct spares_options options;
    struct segment *pool;       // all segment objects of the log
    struct segment **pool_free; // stack of unused ones
    uint32_t pool_count, pool_free_count;
    struct segment_queue named; // PREPARING and READY, in order of their numbers
    struct segment_queue raw;   // material
    uint64_t next_number;       // of the next file that gets a name
    uint32_t live_count;        // segments that the log holds: set by it
    struct segment *making;     // what the job works on
    enum spares_step step;
    struct io_op op;
    bool op_done; // op ended; the next turn goes on
    bool stopped;
    bool discard_next; // the next raw file is deleted: see wal_discard_next()
    bool hold_files;   // no new ones: see wal_hold_files()
    bool wants_look;   // a file could be made, if there were space
    uint64_t zero_offset;
    uint64_t zero_began_ns;
    uint64_t pace_ns;  // no zero write before
    uint64_t retry_ns; // no new job before
    uint64_t backoff_ns;
    uint64_t look_ns; // no look at the free space before
    uint64_t made;    // total
    char path_to[SEGMENT_PATH_MAX];
};

/* capacity: segment objects in all. Returns 0 or NO_MEMORY. */
MUST_USE int spares_init(struct spares *spares, const struct spares_options *options,
                         uint32_t capacity);
void spares_deinit(
    struct spares *spares); // descriptors are the caller's to close before: spares_close()

/* ---- what is there at start ---- */

struct segment *
spares_segment_new(struct spares *spares); // zeroed, fd -1; asserts that there is one
void spares_add_named(struct spares *spares,
                      struct segment *segment); // PREPARING or READY, next number
void spares_add_raw(struct spares *spares, struct segment *segment); // RAW, path set

/* ---- the log's side ---- */

uint32_t spares_named_count(const struct spares *spares);
uint32_t spares_ready_count(const struct spares *spares);

/* The next spare is ready, and its own successor exists durably. */
bool spares_can_enter(const struct spares *spares);
struct segment *spares_enter(struct spares *spares);

/* Takes a segment that the log needs no more. */
void spares_recycle(struct spares *spares, struct segment *segment);

struct spares_load {
    uint64_t now_ns;
    uint64_t now_wall_ms; // for headers, where people read it
    bool busy;            // the log writes: give it three quarters of the device
    bool starved;         // the log waits for a spare: hurry
};
/* Once per turn: takes the next step. Returns work done. */
int spares_turn(struct spares *spares, const struct spares_load *load);
uint64_t spares_deadline_ns(const struct spares *spares);

/* Starts nothing new from here on; true when nothing is in flight. */
bool spares_stop(struct spares *spares);
/* Blocking: closes all descriptors of spares and raw files. After spares_stop() gave true. */
void spares_close(struct spares *spares);

#endif
