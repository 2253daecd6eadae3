#include "tests/soak/place.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define IMAGE_BYTES ((off_t)1 << 30)          // sparse; XFS wants 300 MB at least
#define IOC_SHUTDOWN _IOR('X', 125, uint32_t) // of ext4, and of XFS
#define SHUTDOWN_NO_LOG_FLUSH 2
#define MOMENT_MS_MAX 300

static bool make_image(struct place *place);
static bool mount_image(struct place *place);
static bool unmount_image(struct place *place);

static bool complain(const char *what, const char *path)
{
    printf("%s: %s: %s\n", path, what, strerror(errno));
    return false;
}

/* ---- what there is ---- */

static bool has_program(const char *name)
{
    static const char *const folders[] = {"/usr/sbin", "/sbin", "/usr/bin", "/bin"};
    char path[64];
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof(path), "%s/%s", folders[i], name);
        if (access(path, X_OK) == 0)
            return true;
    }
    return false;
}

const char *place_missing(enum place_kind kind)
{
    if (kind == PLACE_PLAIN)
        return NULL;
    if (geteuid() != 0)
        return "needs root";
    if (access("/dev/loop-control", R_OK | W_OK))
        return "no loop devices here";
    if (!has_program(kind == PLACE_XFS ? "mkfs.xfs" : "mkfs.ext4"))
        return kind == PLACE_XFS ? "no mkfs.xfs here" : "no mkfs.ext4 here";
    return kind == PLACE_FUSE ? fuse_image_missing() : NULL;
}

/* ---- open and close ---- */

bool place_open(struct place *place, enum place_kind kind, const char *dir)
{
    *place = (struct place){.kind = kind};
    snprintf(place->dir, sizeof(place->dir), "%s", dir);
    snprintf(place->data, sizeof(place->data), "%s/data", dir);
    if (kind == PLACE_PLAIN)
        return true;
    snprintf(place->image, sizeof(place->image), "%s/image", dir);
    snprintf(place->mount_point, sizeof(place->mount_point), "%s/mount", dir);
    snprintf(place->fuse_mount, sizeof(place->fuse_mount), "%s/fuse", dir);
    snprintf(place->data, sizeof(place->data), "%s/mount/data", dir);
    snprintf(place->ballast, sizeof(place->ballast), "%s/mount/ballast", dir);
    if (mkdir(place->mount_point, 0755) || !make_image(place))
        return complain("making the image", dir);
    if (kind == PLACE_FUSE) {
        place->fuse = mmap(NULL, sizeof(*place->fuse), PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (place->fuse == MAP_FAILED || mkdir(place->fuse_mount, 0755))
            return complain("making the FUSE disk", dir);
        place->fuse_pid = fuse_image_start(place->image, place->fuse_mount, place->fuse);
        if (!place->fuse_pid)
            return false;
    }
    return mount_image(place);
}

void place_close(struct place *place)
{
    if (place->kind == PLACE_PLAIN)
        return;
    (void)unmount_image(place);
    if (place->kind != PLACE_FUSE)
        return;
    (void)umount2(place->fuse_mount, MNT_DETACH);
    if (place->fuse_pid > 0) {
        kill(place->fuse_pid, SIGKILL);
        waitpid(place->fuse_pid, NULL, 0);
    }
    munmap(place->fuse, sizeof(*place->fuse));
}

static int run(const char *const *arguments)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 1);
        execvp(arguments[0], (char *const *)arguments);
        _exit(127);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0 ? 0 : -1;
}

static bool make_image(struct place *place)
{
    const char *const ext4[] = {"mkfs.ext4", "-q", "-F", "-m", "0", place->image, NULL};
    const char *const xfs[] = {"mkfs.xfs", "-q", "-f", place->image, NULL};
    int fd = open(place->image, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    bool made = ftruncate(fd, IMAGE_BYTES) == 0;
    close(fd);
    return made && run(place->kind == PLACE_XFS ? xfs : ext4) == 0;
}

/* ---- loop devices ---- */

/* A free one, bound to the file; it lets go when the last who uses it does. Somebody else may be faster: then again. */
static int loop_attach(const char *path, char *device, size_t size)
{
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    int file = open(path, O_RDWR | O_CLOEXEC), loop = -1;
    for (int tries = 0; control >= 0 && file >= 0 && loop < 0 && tries < 100; tries++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        snprintf(device, size, "/dev/loop%d", number);
        loop = number < 0 ? -1 : open(device, O_RDWR | O_CLOEXEC);
        struct loop_config config = {.fd = (uint32_t)file, .info.lo_flags = LO_FLAGS_AUTOCLEAR};
        if (loop >= 0 && ioctl(loop, LOOP_CONFIGURE, &config)) {
            close(loop);
            loop = -1;
            usleep(2000);
        }
    }
    if (control >= 0)
        close(control);
    if (file >= 0)
        close(file);
    return loop;
}

static bool mount_image(struct place *place)
{
    char device[32], disk[PATH_BYTES + 8];
    snprintf(disk, sizeof(disk), "%s/disk", place->fuse_mount);
    int loop = loop_attach(place->kind == PLACE_FUSE ? disk : place->image, device, sizeof(device));
    if (loop < 0)
        return complain("no loop device", place->dir);
    int result =
        mount(device, place->mount_point, place->kind == PLACE_XFS ? "xfs" : "ext4", 0, "");
    int error = errno;
    close(loop);
    errno = error;
    return result == 0 || complain("mount", place->mount_point);
}

/* io_uring may hold files of a killed process for a moment. */
static bool unmount_image(struct place *place)
{
    for (int tries = 0; umount(place->mount_point); tries++) {
        if (errno == EINVAL)
            return true; // is not mounted
        if (tries == 2000)
            return complain("unmount", place->mount_point);
        usleep(5000);
    }
    return true;
}

/* ---- power ---- */

void place_choose_moment(struct place *place, uint64_t choice)
{
    struct fuse_control *fuse = place->fuse;
    if (!fuse || choice % 4 == 0)
        return;
    uint32_t number = 1 + (uint32_t)(choice / 4 % 12);
    atomic_store(choice % 4 == 1 ? &fuse->hang_at_write : &fuse->hang_at_flush, number);
    for (int ms = 0; ms < MOMENT_MS_MAX && !atomic_load(&fuse->is_hanging); ms++)
        usleep(1000);
    usleep((useconds_t)(choice / 48 % 30000)); // what is not held goes on meanwhile
}

bool place_power_off(struct place *place, uint64_t seed)
{
    uint32_t how = SHUTDOWN_NO_LOG_FLUSH;
    int fd = open(place->mount_point, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (place->fuse) {
        atomic_store(&place->fuse->cut_seed, seed);
        atomic_store(&place->fuse->is_dead, true);
    }
    bool is_off = fd >= 0 && ioctl(fd, IOC_SHUTDOWN, &how) == 0;
    int error = errno;
    if (fd >= 0)
        close(fd);
    errno = error;
    /* A file system that has met errors of its disk may be down already. */
    return is_off || place->fuse || complain("shutdown", place->mount_point);
}

bool place_power_on(struct place *place)
{
    if (!unmount_image(place))
        return false;
    if (place->fuse) {
        atomic_store(&place->fuse->hang_at_write, 0);
        atomic_store(&place->fuse->hang_at_flush, 0);
        atomic_store(&place->fuse->write_error, 0);
        atomic_store(&place->fuse->flush_error, 0);
        atomic_store(&place->fuse->delay_until_ns, 0);
        atomic_fetch_add(&place->fuse->cuts, 1);
        atomic_store(&place->fuse->is_dead, false);
    }
    return mount_image(place);
}

/* ---- room ---- */

bool place_fill(struct place *place)
{
    static const uint8_t bytes[1u << 20];
    int fd = open(place->ballast, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0)
        return complain("ballast", place->ballast);
    /* The most of it without writing; then what is left, piece by piece, to the last block. */
    for (off_t piece = IMAGE_BYTES, at = 0; piece >= (off_t)sizeof(bytes); piece /= 2) {
        while (fallocate(fd, 0, at, piece) == 0)
            at += piece;
        (void)lseek(fd, at, SEEK_SET);
    }
    while (write(fd, bytes, sizeof(bytes)) > 0) {
    }
    bool is_full = errno == ENOSPC;
    close(fd);
    return is_full || complain("ballast", place->ballast);
}

void place_free(struct place *place)
{
    (void)unlink(place->ballast);
}
