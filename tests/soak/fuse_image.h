/* A disk in user space: one image file behind FUSE, which a loop device and a file system lie on. It sees each write and each
 * flush of the disk, and can fail them, take long over them, and lose power.
 *
 *     +-----------+   +------+   +-------------+   +--------------+   +--------+
 *     |  sluiced  |-->| ext4 |-->| loop device |-->| FUSE: "disk" |-->| image  |
 *     +-----------+   +------+   +-------------+   +--------------+   +--------+
 *                                      what was not flushed lies here, in memory
 *
 * A write goes to memory, a flush from there to the image file: as with a disk that has a volatile cache. A power cut keeps,
 * of each block of 4 KiB that was not flushed, all, nothing, or some of its 512-byte sectors, as its seed says. When all flushes
 * are made to fail, what is in memory is gone with the first. When one fails and the next succeeds, nothing is lost by that: on a
 * disk that forgets what it has taken and says yes to the next who asks, another shard maybe, no broker can be safe.
 *
 * The server is a process of its own and ends with its parent. Its control is shared memory: every operation looks there. */
#ifndef SLUICE_TESTS_SOAK_FUSE_IMAGE_H
#define SLUICE_TESTS_SOAK_FUSE_IMAGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct fuse_control { // in shared memory
    /* ---- the test ---- */
    _Atomic bool is_dead;         // every operation fails: power is off
    _Atomic int32_t write_error;  // errno; 0: none
    _Atomic uint32_t write_skips; // so many writes succeed first
    _Atomic int32_t flush_error;
    _Atomic uint32_t flush_skips;
    _Atomic bool fails_once;   // else each from then on
    _Atomic uint32_t delay_us; // of each write and flush
    _Atomic uint64_t
        delay_until_ns; // CLOCK_MONOTONIC: it ends by itself, or a hang could hang the test
    /* From the operation of that number on, 1 the next, none of its kind comes back before the power is off, while all others
     * go on: a cut in the middle of a group's writes, or when much is written and nothing flushed. 0: none. */
    _Atomic uint32_t hang_at_write, hang_at_flush;
    _Atomic uint32_t cuts; // raised: what is not flushed is lost, before the next operation
    _Atomic uint64_t cut_seed;

    /* ---- the server ---- */
    _Atomic bool is_ready;
    _Atomic bool is_hanging;
    _Atomic uint64_t writes, flushes, failed;
    _Atomic uint64_t first_failed_ns; // CLOCK_MONOTONIC
    _Atomic uint64_t lost_blocks, torn_blocks, kept_blocks;
};

/* NULL: it can be used here; else why not. */
const char *fuse_image_missing(void);

/* Forks the server: "disk" in mount_point is image_path from then on. 0: a message was printed. */
pid_t fuse_image_start(const char *image_path, const char *mount_point,
                       struct fuse_control *control);

#endif
