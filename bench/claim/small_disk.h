/* A file system of a few GiB in a file, for a broker that is to run out of room: ext4 on a loop device, mounted by mount(8). Needs root. */
#ifndef SLUICE_BENCH_CLAIM_SMALL_DISK_H
#define SLUICE_BENCH_CLAIM_SMALL_DISK_H

#include <limits.h>
#include <stdint.h>

#include "base/check.h"

struct small_disk {
    char place[PATH_MAX];   // holds the image and the mount point
    char mounted[PATH_MAX]; // where it is
    char ballast[PATH_MAX]; // a file on it that can be given up
};

/* Makes the image below `above`, mounts it, and fills ballast_bytes of it. Returns 0, or -1 after a message. */
MUST_USE int small_disk_open(struct small_disk *disk, const char *above, uint64_t bytes,
                             uint64_t ballast_bytes);
/* The room of the ballast becomes free. */
void small_disk_free_ballast(struct small_disk *disk);
void small_disk_close(struct small_disk *disk);

#endif
