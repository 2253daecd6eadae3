/* Making and removing the files of the bare log.
 *
 * It can fail when the directory is missing or full, or when its file system has no O_DIRECT (tmpfs
 * of older kernels, some overlays): then there is no bare log to compare with, which is said. */
#include "bench/bare/wal_set.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>

#include "base/arena.h"
#include "bench/engine/undo.h"

#define ZERO_BYTES (4 * MIB)

static bool is_memory(const char *dir);
static int make_file(struct wal_set *set, const uint8_t *zeros);
static void name_file(const struct wal_set *set, uint32_t index, char path[WAL_PATH_MAX]);
static int fail(const char *what, const char *path);

int wal_set_open(struct wal_set *set, const char *dir, uint64_t bytes)
{
    *set = (struct wal_set){.file_count = 0};
    if ((size_t)snprintf(set->dir, sizeof(set->dir), "%s/sluice-bench-XXXXXX", dir) >=
        sizeof(set->dir) - 32) {
        set->dir[0] = '\0';
        errno = ENAMETOOLONG;
        return fail("directory", dir);
    }
    if (undo_make_directory(set->dir)) {
        set->dir[0] = '\0';
        return fail("cannot make a directory in", dir);
    }
    if (is_memory(set->dir)) {
        wal_set_close(set);
        errno = ENOTSUP;
        return fail("a file system in memory has no durable writes:", dir);
    }
    uint32_t file_count = (uint32_t)(align_up(bytes, WAL_FILE_BYTES) / WAL_FILE_BYTES);
    set->fds = calloc(file_count, sizeof(*set->fds));
    struct arena arena;
    if (!set->fds || arena_init(&arena, ZERO_BYTES, true)) {
        errno = ENOMEM;
        fail("zeroing", set->dir);
        wal_set_close(set);
        return -1;
    }
    const uint8_t *zeros = arena_alloc(&arena, ZERO_BYTES, 2 * MIB);
    int status = 0;
    while (status == 0 && set->file_count < file_count)
        status = make_file(set, zeros);
    arena_deinit(&arena);
    if (status < 0)
        wal_set_close(set);
    return status;
}

void wal_set_close(struct wal_set *set)
{
    for (uint32_t i = 0; i < set->file_count; i++)
        close(set->fds[i]);
    if (set->dir[0])
        undo_remove_directory(set->dir);
    free(set->fds);
    *set = (struct wal_set){.file_count = 0};
}

/* Newer kernels accept O_DIRECT there: asking for it does not tell. */
static bool is_memory(const char *dir)
{
    struct statfs fs;
    return statfs(dir, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
}

/* Adds one file, whole: every block written once, so that no later write has to allocate. */
static int make_file(struct wal_set *set, const uint8_t *zeros)
{
    char path[WAL_PATH_MAX];
    name_file(set, set->file_count, path);
    int fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail(errno == EINVAL ? "no O_DIRECT here" : "cannot make", path);
    set->fds[set->file_count++] = fd;
    for (uint64_t at = 0; at < WAL_FILE_BYTES; at += ZERO_BYTES) {
        ssize_t written = pwrite(fd, zeros, ZERO_BYTES, (off_t)at);
        if (written != (ssize_t)ZERO_BYTES) {
            errno = written < 0 ? errno : ENOSPC;
            return fail("zeroing", path);
        }
    }
    return fdatasync(fd) == 0 ? 0 : fail("fdatasync", path);
}

static void name_file(const struct wal_set *set, uint32_t index, char path[WAL_PATH_MAX])
{
    snprintf(path, WAL_PATH_MAX, "%.*s/%u.wal", WAL_PATH_MAX - 32, set->dir, index);
}

static int fail(const char *what, const char *path)
{
    fprintf(stderr, "sluice-bench: limits: %s %s: %s\n", what, path, strerror(errno));
    return -1;
}
