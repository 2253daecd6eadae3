#define FUSE_USE_VERSION 314
#include "tests/soak/fuse_image.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/soak/disk_cache.h"

#define DISK_INODE 2
#define READ_MAX (1u << 20)

#define HELD_MAX 64
#define HELD_NS_MAX 3000000000u

struct held { // a request that is not answered yet
    fuse_req_t request;
    size_t written; // 0: it is a flush
};

struct image {
    struct fuse_control *control;
    struct disk_cache cache;
    uint32_t cuts_seen;
    struct held held[HELD_MAX];
    uint32_t held_count;
    uint64_t held_since_ns;
};

static struct image image;

static bool look(fuse_req_t request);
static int fail_write(void);
static int fail_flush(void);
static void let_go(void);

/* ---- power ---- */

/* At the begin of each operation. False: it was answered. */
static bool look(fuse_req_t request)
{
    struct fuse_control *control = image.control;
    uint32_t cuts = atomic_load(&control->cuts);
    if (cuts != image.cuts_seen) {
        disk_cache_cut(&image.cache, atomic_load(&control->cut_seed));
        atomic_store(&control->lost_blocks, image.cache.lost_blocks);
        atomic_store(&control->torn_blocks, image.cache.torn_blocks);
        atomic_store(&control->kept_blocks, image.cache.kept_blocks);
        image.cuts_seen = cuts;
    }
    if (!atomic_load(&control->is_dead))
        return true;
    fuse_reply_err(request, EIO);
    return false;
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void take_time(void)
{
    struct fuse_control *control = image.control;
    uint32_t us = atomic_load(&control->delay_us);
    while (us > 0 && now_ns() < atomic_load(&control->delay_until_ns)) {
        uint32_t piece = us < 10000 ? us : 10000;
        usleep(piece);
        us -= piece;
    }
}

/* ---- operations that don't come back ---- */

/* True: this one waits for the power to go off; what it asks for, else, the caller has done. */
static bool hold(fuse_req_t request, _Atomic uint32_t *at, size_t written)
{
    uint32_t left = atomic_load(at);
    if (left == 0 || atomic_load(&image.control->is_dead) || image.held_count == HELD_MAX)
        return false;
    if (left > 1) {
        (void)atomic_compare_exchange_strong(at, &left, left - 1);
        return false;
    }
    if (image.held_count == 0)
        image.held_since_ns = now_ns();
    image.held[image.held_count++] = (struct held){request, written};
    atomic_store(&image.control->is_hanging, true);
    return true;
}

/* When the power is off: errors. Should the test have forgotten to cut it: as if nothing had been. */
static void let_go(void)
{
    bool is_dead = atomic_load(&image.control->is_dead);
    if (image.held_count == 0 || (!is_dead && now_ns() - image.held_since_ns < HELD_NS_MAX))
        return;
    bool flushed = !is_dead && disk_cache_flush(&image.cache);
    for (uint32_t i = 0; i < image.held_count; i++) {
        const struct held *held = &image.held[i];
        if (!flushed)
            fuse_reply_err(held->request, EIO);
        else if (held->written)
            fuse_reply_write(held->request, held->written);
        else
            fuse_reply_err(held->request, 0);
    }
    image.held_count = 0;
    atomic_store(&image.control->is_hanging, false);
}

/* ---- errors ---- */

static int fail_with(_Atomic int32_t *error, _Atomic uint32_t *skips)
{
    struct fuse_control *control = image.control;
    int32_t number = atomic_load(error);
    if (!number)
        return 0;
    if (atomic_load(skips) > 0) {
        atomic_fetch_sub(skips, 1);
        return 0;
    }
    if (atomic_load(&control->fails_once))
        atomic_store(error, 0);
    if (atomic_fetch_add(&control->failed, 1) == 0)
        atomic_store(&control->first_failed_ns, now_ns());
    return number;
}

static int fail_write(void)
{
    return fail_with(&image.control->write_error, &image.control->write_skips);
}

static int fail_flush(void)
{
    return fail_with(&image.control->flush_error, &image.control->flush_skips);
}

/* ---- operations ---- */

static struct stat stat_of(fuse_ino_t inode)
{
    struct stat st = {.st_ino = inode, .st_nlink = 1};
    if (inode == DISK_INODE) {
        st.st_mode = S_IFREG | 0600;
        st.st_size = (off_t)image.cache.bytes;
    } else {
        st.st_mode = S_IFDIR | 0700;
        st.st_nlink = 2;
    }
    return st;
}

static void op_lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param entry = {.ino = DISK_INODE, .attr_timeout = 1e6, .entry_timeout = 1e6};
    if (parent != FUSE_ROOT_ID || strcmp(name, "disk") != 0) {
        fuse_reply_err(request, ENOENT);
        return;
    }
    entry.attr = stat_of(DISK_INODE);
    fuse_reply_entry(request, &entry);
}

static void op_getattr(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *file)
{
    struct stat st = stat_of(inode);
    fuse_reply_attr(request, &st, 1e6);
}

static void op_open(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *file)
{
    if (inode != DISK_INODE) {
        fuse_reply_err(request, EISDIR);
        return;
    }
    file->direct_io = 1; // the kernel keeps no copy that would outlive a power cut
    fuse_reply_open(request, file);
}

static void op_read(fuse_req_t request, fuse_ino_t inode, size_t size, off_t offset,
                    struct fuse_file_info *file)
{
    static uint8_t bytes[READ_MAX + 2 * DISK_BLOCK];
    if (!look(request))
        return;
    uint64_t at = (uint64_t)offset, end = at + size, first = at / DISK_BLOCK;
    if (end > image.cache.bytes || size > READ_MAX) {
        fuse_reply_err(request, EINVAL);
        return;
    }
    for (uint64_t block = first; block * DISK_BLOCK < end; block++) {
        if (!disk_cache_read(&image.cache, block, bytes + (block - first) * DISK_BLOCK)) {
            fuse_reply_err(request, EIO);
            return;
        }
    }
    fuse_reply_buf(request, (const char *)bytes + at % DISK_BLOCK, size);
}

static void op_write(fuse_req_t request, fuse_ino_t inode, const char *bytes, size_t size,
                     off_t offset, struct fuse_file_info *file)
{
    if (!look(request))
        return;
    take_time();
    int error = fail_write();
    uint64_t at = (uint64_t)offset, bytes_max = image.cache.bytes;
    if (!error && (at + size > bytes_max || !disk_cache_write(&image.cache, at, bytes, size)))
        error = EIO;
    atomic_fetch_add(&image.control->writes, 1);
    if (error)
        fuse_reply_err(request, error);
    else if (!hold(request, &image.control->hang_at_write, size))
        fuse_reply_write(request, size);
}

static void op_fsync(fuse_req_t request, fuse_ino_t inode, int only_data,
                     struct fuse_file_info *file)
{
    if (!look(request))
        return;
    take_time();
    atomic_fetch_add(&image.control->flushes, 1);
    if (hold(request, &image.control->hang_at_flush, 0))
        return;
    int error = fail_flush();
    if (error && atomic_load(&image.control->flush_error))
        disk_cache_forget(&image.cache); // it gives up: no flush will ever succeed again
    else if (!error && !disk_cache_flush(&image.cache))
        error = EIO;
    fuse_reply_err(request, error);
}

static void op_flush(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *file)
{
    fuse_reply_err(request, 0); // a close of the file, no flush of the disk
}

static void op_release(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *file)
{
    fuse_reply_err(request, 0);
}

static const struct fuse_lowlevel_ops operations = {
    .lookup = op_lookup,
    .getattr = op_getattr,
    .open = op_open,
    .read = op_read,
    .write = op_write,
    .fsync = op_fsync,
    .flush = op_flush,
    .release = op_release,
};

/* ---- the server ---- */

static void serve_requests(struct fuse_session *session)
{
    struct fuse_buf buffer = {.mem = NULL};
    struct pollfd ready = {.fd = fuse_session_fd(session), .events = POLLIN};
    while (!fuse_session_exited(session)) {
        int count = poll(&ready, 1, 5);
        let_go();
        if (count <= 0)
            continue;
        int got = fuse_session_receive_buf(session, &buffer);
        if (got == -EINTR)
            continue;
        if (got <= 0)
            break;
        fuse_session_process_buf(session, &buffer);
    }
    free(buffer.mem);
}

static int serve(const char *image_path, const char *mount_point)
{
    char *arguments[] = {(char *)"soak-disk", NULL};
    struct fuse_args args = FUSE_ARGS_INIT(1, arguments);
    if (!disk_cache_open(&image.cache, image_path))
        return 1;
    struct fuse_session *session = fuse_session_new(&args, &operations, sizeof(operations), NULL);
    if (!session || fuse_session_mount(session, mount_point))
        return 1;
    /* What is mounted on the disk from now on must not be unmounted by this process when it dies: it would wait for itself. */
    if (unshare(CLONE_NEWNS))
        return 1;
    atomic_store(&image.control->is_ready, true);
    serve_requests(session);
    fuse_session_unmount(session);
    fuse_session_destroy(session);
    return 0;
}

const char *fuse_image_missing(void)
{
    return access("/dev/fuse", R_OK | W_OK) ? "no /dev/fuse here" : NULL;
}

pid_t fuse_image_start(const char *image_path, const char *mount_point,
                       struct fuse_control *control)
{
    fflush(stdout);
    pid_t parent = getpid(), pid = fork();
    if (pid < 0) {
        perror("fork");
        return 0;
    }
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); // never outlives the test
        if (getppid() != parent)
            _exit(1);
        image.control = control;
        _exit(serve(image_path, mount_point));
    }
    for (int tries = 0; tries < 1000 && !atomic_load(&control->is_ready); tries++)
        usleep(5000);
    if (atomic_load(&control->is_ready))
        return pid;
    printf("the FUSE disk does not begin to serve\n");
    kill(pid, SIGKILL);
    return 0;
}
