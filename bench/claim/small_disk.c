#include "bench/claim/small_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/engine/undo.h"

/* Runs a program without a shell. Returns 0, or -1 after a message. */
static int run_program(const char *const *arguments)
{
    pid_t pid = undo_fork();
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(null, 1);
        execvp(arguments[0], (char *const *)arguments);
        dprintf(2, "sluice-bench: %s: %s\n", arguments[0], strerror(errno));
        _exit(127);
    }
    int status;
    if (pid > 0 && waitpid(pid, &status, 0) == pid && status == 0)
        return 0;
    fprintf(stderr,
            "sluice-bench: %s failed: a disk that can be full needs root and loop devices\n",
            arguments[0]);
    return -1;
}

static int make_file(const char *path, uint64_t bytes, bool is_sparse)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    int error = fd < 0 ? errno : 0;
    if (fd >= 0 && is_sparse)
        error = ftruncate(fd, (off_t)bytes) ? errno : 0;
    else if (fd >= 0)
        error = posix_fallocate(fd, 0, (off_t)bytes);
    if (fd >= 0)
        close(fd);
    if (error)
        fprintf(stderr, "sluice-bench: %s: %s\n", path, strerror(error));
    return error ? -1 : 0;
}

int small_disk_open(struct small_disk *disk, const char *above, uint64_t bytes,
                    uint64_t ballast_bytes)
{
    char image[PATH_MAX + 16];
    *disk = (struct small_disk){.place = ""};
    snprintf(disk->place, sizeof(disk->place), "%s/sluice-bench-disk-XXXXXX", above);
    if (undo_make_directory(disk->place)) {
        fprintf(stderr, "sluice-bench: %s: %s\n", above, strerror(errno));
        disk->place[0] = '\0';
        return -1;
    }
    snprintf(image, sizeof(image), "%s/image", disk->place);
    snprintf(disk->mounted, sizeof(disk->mounted), "%.*s/disk", PATH_MAX - 16, disk->place);
    snprintf(disk->ballast, sizeof(disk->ballast), "%.*s/ballast", PATH_MAX - 32, disk->mounted);
    undo_note_mount(disk->mounted);
    if (mkdir(disk->mounted, 0700) == 0 && make_file(image, bytes, true) == 0 &&
        run_program((const char *[]){"mkfs.ext4", "-q", "-F", "-m", "0", image, NULL}) == 0 &&
        run_program((const char *[]){"mount", "-o", "loop", image, disk->mounted, NULL}) == 0 &&
        make_file(disk->ballast, ballast_bytes, false) == 0)
        return 0;
    small_disk_close(disk);
    return -1;
}

void small_disk_free_ballast(struct small_disk *disk)
{
    if (unlink(disk->ballast) != 0)
        fprintf(stderr, "sluice-bench: %s: %s\n", disk->ballast, strerror(errno));
}

void small_disk_close(struct small_disk *disk)
{
    if (disk->place[0] == '\0')
        return;
    (void)umount2(disk->mounted, MNT_DETACH); // it may not be mounted
    undo_forget_mount(disk->mounted);
    undo_remove_directory(disk->place);
}
