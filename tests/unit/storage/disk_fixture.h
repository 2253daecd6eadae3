/* A directory on the real file system, and files in it that a test may read and damage behind the
 * code's back. */
#ifndef SLUICE_TESTS_DISK_FIXTURE_H
#define SLUICE_TESTS_DISK_FIXTURE_H

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/io.h"
#include "base/log.h"

#define DISK_UNUSED __attribute__((unused))

struct disk_fixture {
    struct io *io;
    char dir[64];
};

static const uint8_t disk_store_id[16] = "the store itself";

DISK_UNUSED static void disk_setup(struct disk_fixture *disk)
{
    struct io_options options = {.backend = IO_BACKEND_EPOLL, .ops_max = 256, .file_threads = 2};
    log_set_level(LOG_LEVEL_ERROR + 1); // damage is the point of many tests
    cr_assert_eq(io_new(&options, &disk->io), 0);
    snprintf(disk->dir, sizeof(disk->dir), "/tmp/sluice-test-XXXXXX");
    cr_assert_not_null(mkdtemp(disk->dir));
}

DISK_UNUSED static void disk_empty(struct disk_fixture *disk)
{
    char path[512];
    DIR *dir = opendir(disk->dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        snprintf(path, sizeof(path), "%s/%s", disk->dir, entry->d_name);
        if (entry->d_name[0] != '.')
            unlink(path);
    }
    closedir(dir);
}

DISK_UNUSED static void disk_teardown(struct disk_fixture *disk)
{
    fault_disarm_all();
    disk_empty(disk);
    rmdir(disk->dir);
    io_free(disk->io);
}

DISK_UNUSED static uint32_t disk_file_count(struct disk_fixture *disk)
{
    uint32_t count = 0;
    DIR *dir = opendir(disk->dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

DISK_UNUSED static bool disk_exists(struct disk_fixture *disk, const char *name)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", disk->dir, name);
    return access(path, F_OK) == 0;
}

DISK_UNUSED static uint8_t *disk_slurp(const char *path, size_t *len)
{
    struct stat stat;
    int fd = open(path, O_RDONLY);
    cr_assert_geq(fd, 0, "%s", path);
    cr_assert_eq(fstat(fd, &stat), 0);
    uint8_t *bytes = malloc((size_t)stat.st_size + 1);
    *len = (size_t)stat.st_size;
    for (size_t at = 0; at < *len;) {
        ssize_t got = pread(fd, bytes + at, *len - at, (off_t)at);
        cr_assert_gt(got, 0);
        at += (size_t)got;
    }
    close(fd);
    return bytes;
}

DISK_UNUSED static uint8_t *disk_read(struct disk_fixture *disk, const char *name, size_t *len)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", disk->dir, name);
    return disk_slurp(path, len);
}

DISK_UNUSED static void disk_write(struct disk_fixture *disk, const char *name, const void *bytes,
                                   size_t len, off_t offset)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", disk->dir, name);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    cr_assert_geq(fd, 0);
    cr_assert_eq(pwrite(fd, bytes, len, offset), (ssize_t)len);
    close(fd);
}

DISK_UNUSED static void disk_flip(struct disk_fixture *disk, const char *name, off_t offset)
{
    char path[512];
    uint8_t byte;
    snprintf(path, sizeof(path), "%s/%s", disk->dir, name);
    int fd = open(path, O_RDWR);
    cr_assert_eq(pread(fd, &byte, 1, offset), 1);
    byte ^= 0x40;
    cr_assert_eq(pwrite(fd, &byte, 1, offset), 1);
    close(fd);
}

DISK_UNUSED static void disk_truncate(struct disk_fixture *disk, const char *name, off_t len)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", disk->dir, name);
    cr_assert_eq(truncate(path, len), 0);
}

/* Byte by byte against a file in tests/format. With SLUICE_GOLDEN_WRITE set it is written instead:
 * a change of the format is then a change of that file, which a reader of the change sees. */
DISK_UNUSED static void disk_golden(const char *name, const uint8_t *bytes, size_t len)
{
    char path[256];
    snprintf(path, sizeof(path), "tests/format/%s", name);
    if (getenv("SLUICE_GOLDEN_WRITE")) {
        FILE *file = fopen(path, "wb");
        cr_assert_eq(fwrite(bytes, 1, len, file), len);
        fclose(file);
    }
    size_t golden_len;
    uint8_t *golden = disk_slurp(path, &golden_len);
    cr_assert_eq(golden_len, len, "%s has %zu bytes, made were %zu", path, golden_len, len);
    for (size_t i = 0; i < len; i++)
        cr_assert_eq(golden[i], bytes[i], "%s differs at byte %zu", path, i);
    free(golden);
}

#endif
