/* The files of the bare log: 64 MiB each, zeroed once over their full length, then written round and
 * round, as a log that recycles its segments does. Fresh or merely allocated files would be half as
 * fast: each sync would then commit the file system's journal. */
#ifndef SLUICE_BENCH_BARE_WAL_SET_H
#define SLUICE_BENCH_BARE_WAL_SET_H

#include <stdint.h>

#include "base/check.h"

#define WAL_FILE_BYTES (64 * MIB)
#define WAL_PATH_MAX 4096

struct wal_set {
    char dir[WAL_PATH_MAX]; // private, below the directory given
    int *fds;               // O_DIRECT
    uint32_t file_count;
};

/* Makes the directory and the files; waits until they are on the disk. Returns 0, or -1 after a
 * message on standard error, with nothing left behind. */
MUST_USE int wal_set_open(struct wal_set *set, const char *dir, uint64_t bytes);

/* Removes files and directory. */
void wal_set_close(struct wal_set *set);

#endif
