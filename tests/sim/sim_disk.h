/* A disk in memory that forgets, as disks do: the part of the simulator that survives a crash.
 *
 * Each file has what a reader sees now and what is on stable storage, block by block, and the list
 * of block versions between the two. Each name likewise: directory operations are pending until
 * their directory is synced.
 *
 * A crash makes one of the images that a power cut could leave:
 *     - each version of each block that no fdatasync covered is, by itself: there, not there, there
 *       in some of its 512-byte sectors, or garbage in some of them; a later version may be there
 *       and an earlier not;
 *     - each pending directory operation happened or did not, one by one.
 *
 * Thread: one. */
#ifndef SLUICE_TESTS_SIM_DISK_H
#define SLUICE_TESTS_SIM_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "base/io.h"
#include "base/random.h"

#define SIM_BLOCK 4096u

struct sim_version { // of one block, not yet durable
    uint64_t block;
    uint64_t sequence; // of its delivery; 0: in flight
    uint64_t write;    // in flight: which write, see sim_event
    uint8_t *bytes;    // SIM_BLOCK of them
    bool lost;         // an fdatasync failed on it: no later one makes it durable
};

/* The bytes of a block are shared by all that have the same (reader's view, stable storage, versions, copies of the disk), and
 * never changed. */
struct sim_file {
    uint32_t references; // names (seen and durable) and descriptors
    uint32_t id;         // of its disk, in the order of creation, from 1
    uint64_t size;       // as seen
    uint64_t size_durable;
    uint64_t block_count; // of the arrays
    uint8_t **seen;       // NULL: zeros
    uint8_t **durable;
    uint8_t **previous; // what was durable before, of a disk that keeps it; else NULL
    bool *allocated;    // counts against the capacity
    struct sim_version *versions;
    uint32_t version_count, version_capacity;
    const void *lock;       // who holds it, or NULL
    struct sim_file *image; // sim_disk_image()'s own
    bool is_dir;
};

struct sim_change { // of one name
    char *path;
    struct sim_file *file; // NULL: the name goes
};
struct sim_dir_op { // happens as a whole or not at all
    struct sim_change changes[2];
    uint32_t change_count;
    uint64_t sequence;
};

struct sim_name {
    char *path;
    struct sim_file *file;
};
struct sim_names {
    struct sim_name *names;
    uint32_t count, capacity;
};

/* All that happens to a disk, as it happens: the same calls in the same order make the same disk again. */
enum sim_event_kind {
    SIM_CREATE,      // path, file, is_dir
    SIM_RENAME,      // path, path_to
    SIM_UNLINK,      // path
    SIM_SYNC_DIR,    // path, sequence
    SIM_ALLOCATE,    // file, offset, len
    SIM_EXTEND,      // file, len
    SIM_TRUNCATE,    // file, len
    SIM_WRITE_START, // file, offset, len, bytes, write: from here on it may be there
    SIM_WRITE,       // file, offset, len, bytes
    SIM_SYNC,        // file, sequence
    SIM_LIFE_ENDS,   // of the process: what is in flight now never comes. Said by whoever ends it
};
struct sim_event {
    enum sim_event_kind kind;
    uint32_t file; // its id
    bool is_dir;
    const char *path, *path_to;
    uint64_t offset, len, sequence, write;
    const uint8_t *bytes;
};
typedef void (*sim_observe_fn)(void *context, const struct sim_event *event); // before it happens

/* What a disk does that says all is well. */
enum sim_lie {
    SIM_STALE_READ,       // gives what was there before
    SIM_MISDIRECTED_READ, // gives another block of the file
    SIM_MISDIRECTED_WRITE,
    SIM_LIES
};
struct sim_lied { // to a reader, about this block
    uint32_t file;
    uint64_t block;
};

struct sim_disk {
    struct random random;
    sim_observe_fn observe; // NULL: nobody
    void *observe_context;
    uint32_t file_count;     // ever
    uint64_t write_count;    // that were in flight, ever
    struct sim_file **files; // those there are, in the order of creation
    uint32_t files_alive, files_capacity;
    struct sim_names seen, durable;
    struct sim_dir_op *dir_ops;
    uint32_t dir_op_count, dir_op_capacity;
    uint64_t sequence; // deliveries so far
    uint64_t capacity_blocks;
    uint64_t allocated_blocks;
    uint32_t crash_keep_percent; // how likely a block or an operation survives; 50
    bool is_memory;              // statfs says tmpfs
    bool no_direct;              // refuses O_DIRECT
    /* ---- its lies, told by io_sim.h ---- */
    bool keeps_previous; // set before there are files: stale reads need it
    uint64_t struck[SIM_LIES];
    uint64_t bit[SIM_LIES]; // of these: in which bytes were not what they should be
    enum sim_lie last_bit;  // the last of these
    struct sim_lied *lied;  // in reads, since the test last set lied_count to 0
    uint32_t lied_count, lied_capacity;
};

struct sim_disk *sim_disk_new(uint64_t seed, uint64_t capacity_bytes);
void sim_disk_free(struct sim_disk *disk);

/* ---- names ---- */

struct sim_file *sim_disk_find(struct sim_disk *disk, const char *path); // as seen; NULL: none
struct sim_file *sim_disk_create(struct sim_disk *disk, const char *path, bool is_dir);
int sim_disk_rename(struct sim_disk *disk, const char *from, const char *to); // 0 or errno
int sim_disk_unlink(struct sim_disk *disk, const char *path);
/* Makes the operations in this directory durable that happened up to `sequence`. */
void sim_disk_sync_dir(struct sim_disk *disk, const char *path, uint64_t sequence);
void sim_file_release(struct sim_disk *disk, struct sim_file *file);

/* ---- bytes ---- */

/* Whether the blocks are there or can be had. */
/* What statfs says: also what a journal would give back of files that were deleted. */
uint64_t sim_disk_free_blocks(const struct sim_disk *disk);
bool sim_disk_allocate(struct sim_disk *disk, struct sim_file *file, uint64_t offset, uint64_t len);
void sim_file_write(struct sim_disk *disk, struct sim_file *file, const uint8_t *bytes,
                    uint64_t offset, uint64_t len);
uint64_t sim_file_read(const struct sim_file *file, uint8_t *bytes, uint64_t offset, uint64_t len);
/* Blocks of which an older version is known that differs: what is durable, where a newer one is seen, else what was before. */
uint32_t sim_file_stale_blocks(const struct sim_file *file, uint64_t offset, uint64_t len);
/* The same as sim_file_read(), but for these blocks: the only-th of them (from 0), or all (UINT32_MAX), as they were. */
uint64_t sim_file_read_stale(struct sim_disk *disk, const struct sim_file *file, uint8_t *bytes,
                             uint64_t offset, uint64_t len, uint32_t only);
/* These blocks were not told as they are. */
void sim_disk_note_lie(struct sim_disk *disk, const struct sim_file *file, uint64_t offset,
                       uint64_t len);
bool sim_disk_has_lied(const struct sim_disk *disk, const struct sim_file *file, uint64_t block);
void sim_file_extend(struct sim_disk *disk, struct sim_file *file, uint64_t size);
void sim_file_truncate(struct sim_disk *disk, struct sim_file *file, uint64_t size);
void sim_file_sync(struct sim_disk *disk, struct sim_file *file, uint64_t sequence);
/* Of what it should have covered. Through a page cache: all of it is lost, is read as if it were not, and the next sync
 * says nothing of it. With O_DIRECT there is nothing between reader and device: the device has dropped a block, and then shows
 * what it had before, or it still has it, and a later sync covers it. */
void sim_file_sync_failed(struct sim_disk *disk, struct sim_file *file, uint64_t sequence,
                          bool direct);
/* A write begins; sim_file_write() when it is delivered. Returns a name for it. */
uint64_t sim_file_write_start(struct sim_disk *disk, const struct sim_file *file,
                              const uint8_t *bytes, uint64_t offset, uint64_t len);
/* Drops the versions of that write in flight; 0: of all that are. */
void sim_file_forget(struct sim_file *file, uint64_t write);
/* A write in flight: it may or may not have reached the disk when the power goes. */
void sim_file_add_version(struct sim_file *file, uint64_t block, const uint8_t *bytes,
                          uint64_t sequence);

/* ---- the power goes ---- */

void sim_disk_crash(struct sim_disk *disk);

/* The same with every choice the caller's: what becomes of each thing that is not durable. Things are numbered: first the pending
 * directory operations, in order, then the versions, file by file. */
enum sim_fate {
    SIM_FATE_LOST,
    SIM_FATE_KEPT,
    /* of versions; of a directory operation they are KEPT */
    SIM_FATE_HALF_NEW,      // the first half of the sectors
    SIM_FATE_HALF_OLD,      // the second half
    SIM_FATE_MIXED,         // each sector by chance
    SIM_FATE_GARBAGE_LEFT,  // in the first half, the rest is old
    SIM_FATE_GARBAGE_RIGHT, // in the second half, the rest is new
    SIM_FATE_GARBAGE,       // everywhere
    SIM_FATE_COUNT
};
uint32_t sim_disk_things(const struct sim_disk *disk);
/* The image as a disk of its own; `disk` stays as it is, and the two share what is the same. Fates of things from `count`
 * on: LOST. */
struct sim_disk *sim_disk_image(struct sim_disk *disk, const uint8_t *fates, uint32_t count,
                                uint64_t seed);
/* Everything becomes durable as it is seen: for copies of a quiet disk. */
void sim_disk_settle(struct sim_disk *disk);
struct sim_disk *sim_disk_copy(const struct sim_disk *disk, uint64_t seed); // of a settled one

/* ---- damage, by tests ---- */

void sim_disk_flip(struct sim_disk *disk, const char *path, uint64_t offset, uint8_t mask);
void sim_disk_put(struct sim_disk *disk, const char *path, const void *bytes, uint64_t offset,
                  uint64_t len); // durable at once; makes the file if there is none
void sim_disk_resize(struct sim_disk *disk, const char *path, uint64_t size);
void sim_disk_remove(struct sim_disk *disk, const char *path);
void sim_disk_move(struct sim_disk *disk, const char *from, const char *to);
uint64_t sim_disk_hash(const struct sim_disk *disk); // of all names and bytes, as seen

#endif
