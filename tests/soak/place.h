/* Where a store lies: in a directory of the machine's own file system, or on a file system of its own that can lose power and
 * be filled: ext4 or XFS on a loop device, or ext4 on a loop device on a FUSE disk.
 *
 * The process that opens places has a mount namespace of its own and loop devices that let go by themselves, so whatever way
 * it ends, SIGKILL included, the kernel cleans up behind it. */
#ifndef SLUICE_TESTS_SOAK_PLACE_H
#define SLUICE_TESTS_SOAK_PLACE_H

#include "tests/soak/fuse_image.h"
#include "tests/soak/plan.h"

#define PATH_BYTES 4096

struct place {
    enum place_kind kind;
    char dir[PATH_BYTES / 2]; // everything of it lies below
    char data[PATH_BYTES];    // the store's directory
    char image[PATH_BYTES];   // backing file
    char mount_point[PATH_BYTES];
    char fuse_mount[PATH_BYTES];
    char ballast[PATH_BYTES];
    struct fuse_control *fuse; // NULL: none
    pid_t fuse_pid;
};

/* What keeps this machine from having such places; NULL: nothing does. */
const char *place_missing(enum place_kind kind);

/* In `dir`, which exists: makes and mounts the file system. False after a message. */
bool place_open(struct place *place, enum place_kind kind, const char *dir);
void place_close(struct place *place);

/* A FUSE disk hangs in one of its next writes or flushes, as `choice` says, or does not. Waits for it a moment. */
void place_choose_moment(struct place *place, uint64_t choice);
/* Power is off: nothing that the file system holds in memory reaches the disk any more. */
bool place_power_off(struct place *place, uint64_t seed);
/* The broker must be gone. What the disk has is mounted again. */
bool place_power_on(struct place *place);

bool place_fill(struct place *place); // to the last block
void place_free(struct place *place); // what place_fill() took

#endif
