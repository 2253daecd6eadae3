/* File-system calls that only start-up, tools and shutdown need, and that may block. The same
 * for both kernel backends. Each translates errno to a status; none keeps state. */
#include "base/io_private.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif
#ifndef ZFS_SUPER_MAGIC
#define ZFS_SUPER_MAGIC 0x2fc12fc1
#endif

static int visit_all(DIR *dir, io_visit_fn visit, void *context);
static int visit_entry(DIR *dir, const char *name, io_visit_fn visit, void *context);
static void name_type(uint32_t magic, struct io_fs_info *info);

static const struct {
    uint32_t magic;
    const char *name;
} fs_types[] = {
    {EXT4_SUPER_MAGIC, "ext4"}, {XFS_SUPER_MAGIC, "xfs"}, {BTRFS_SUPER_MAGIC, "btrfs"},
    {F2FS_SUPER_MAGIC, "f2fs"}, {ZFS_SUPER_MAGIC, "zfs"}, {OVERLAYFS_SUPER_MAGIC, "overlay"},
    {TMPFS_MAGIC, "tmpfs"},     {RAMFS_MAGIC, "ramfs"},   {NFS_SUPER_MAGIC, "nfs"},
    {FUSE_SUPER_MAGIC, "fuse"},
};

int io_files_list(struct io *io, const char *path, io_visit_fn visit, void *context)
{
    DIR *dir = opendir(path);
    if (!dir)
        return status_from_errno(errno);
    int result = visit_all(dir, visit, context);
    closedir(dir);
    return result;
}

int io_files_mkdir(struct io *io, const char *path)
{
    struct stat stat_buf;

    if (mkdir(path, 0750) == 0)
        return 0;
    int os_error = errno;
    if (os_error == EEXIST && stat(path, &stat_buf) == 0 && S_ISDIR(stat_buf.st_mode))
        return 0;
    return status_from_errno(os_error);
}

int io_files_fs_info(struct io *io, const char *path, struct io_fs_info *info)
{
    struct statfs fs;

    memset(info, 0, sizeof *info);
    if (statfs(path, &fs) != 0)
        return status_from_errno(errno);
    info->total_bytes = (uint64_t)fs.f_blocks * (uint64_t)fs.f_frsize;
    info->free_bytes = (uint64_t)fs.f_bavail * (uint64_t)fs.f_frsize;
    info->is_memory = (uint32_t)fs.f_type == TMPFS_MAGIC || (uint32_t)fs.f_type == RAMFS_MAGIC;
    name_type((uint32_t)fs.f_type, info);
    return 0;
}

int io_files_file_size(struct io *io, int fd, uint64_t *size_bytes)
{
    struct stat stat_buf;

    if (fstat(fd, &stat_buf) != 0)
        return status_from_errno(errno);
    *size_bytes = (uint64_t)stat_buf.st_size;
    return 0;
}

int io_files_lock_file(struct io *io, const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0)
        return status_from_errno(errno);
    /* flock() belongs to the open file, not to the process: a second open here is refused too. */
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    int os_error = errno;
    close(fd);
    return os_error == EWOULDBLOCK ? E_LOCKED : status_from_errno(os_error);
}

void io_all_processors(cpu_set_t *set)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);

    CPU_ZERO(set);
    for (long cpu = 0; cpu < count && cpu < CPU_SETSIZE; cpu++)
        CPU_SET((size_t)cpu, set);
}

static int visit_all(DIR *dir, io_visit_fn visit, void *context)
{
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(dir);
        if (!entry)
            return errno == 0 ? 0 : status_from_errno(errno);
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        int result = visit_entry(dir, entry->d_name, visit, context);
        if (result != 0)
            return result;
    }
}

/* An entry that is gone by now is left out; a dangling link has the size of itself. */
static int visit_entry(DIR *dir, const char *name, io_visit_fn visit, void *context)
{
    struct stat stat_buf;

    if (fstatat(dirfd(dir), name, &stat_buf, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : status_from_errno(errno);
    return visit(context, name, (uint64_t)stat_buf.st_size);
}

static void name_type(uint32_t magic, struct io_fs_info *info)
{
    for (size_t i = 0; i < ARRAY_COUNT(fs_types); i++) {
        if (fs_types[i].magic == magic) {
            snprintf(info->type, sizeof info->type, "%s", fs_types[i].name);
            return;
        }
    }
    snprintf(info->type, sizeof info->type, "0x%x", (unsigned)magic);
}
