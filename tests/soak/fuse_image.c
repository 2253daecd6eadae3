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

#include "base/random.h"

#define DISK_INODE 2
#define BLOCK 4096u
#define SECTOR 512u
#define CACHE_BLOCKS_MAX 65536u // 256 MiB: then the disk flushes by itself, as disks do

struct block {
    uint64_t number;
    uint8_t dirty; // a bit for each sector
    uint8_t bytes[BLOCK];
};

#define HELD_MAX 64
#define HELD_NS_MAX 3000000000u

struct held { // a request that is not answered yet
    fuse_req_t request;
    size_t written; // 0: it is a flush
};

struct image {
    struct fuse_control *control;
    int fd;
    uint64_t bytes;
    struct block **blocks; // by number; NULL: as in the file
    struct block **dirty;  // those that are not flushed
    uint32_t dirty_count;
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

/* ---- the cache ---- */

static bool read_block(uint64_t number, uint8_t *bytes)
{
    struct block *block = image.blocks[number];
    if (block) {
        memcpy(bytes, block->bytes, BLOCK);
        return true;
    }
    return pread(image.fd, bytes, BLOCK, (off_t)(number * BLOCK)) == BLOCK;
}

static struct block *dirty_block(uint64_t number)
{
    if (image.blocks[number])
        return image.blocks[number];
    struct block *block = malloc(sizeof(*block));
    if (!block || !read_block(number, block->bytes)) {
        free(block);
        return NULL;
    }
    block->number = number;
    block->dirty = 0;
    image.blocks[number] = block;
    image.dirty[image.dirty_count++] = block;
    return block;
}

static void write_part(struct block *block, uint32_t from, const void *bytes, uint32_t length)
{
    memcpy(block->bytes + from, bytes, length);
    for (uint32_t sector = from / SECTOR; sector <= (from + length - 1) / SECTOR; sector++)
        block->dirty |= (uint8_t)(1u << sector);
}

static void forget_all(void)
{
    for (uint32_t i = 0; i < image.dirty_count; i++) {
        image.blocks[image.dirty[i]->number] = NULL;
        free(image.dirty[i]);
    }
    image.dirty_count = 0;
}

static bool write_out(void)
{
    for (uint32_t i = 0; i < image.dirty_count; i++) {
        const struct block *block = image.dirty[i];
        if (pwrite(image.fd, block->bytes, BLOCK, (off_t)(block->number * BLOCK)) != BLOCK)
            return false;
    }
    forget_all();
    return true;
}

/* ---- power ---- */

static void keep_some(const struct block *block, uint8_t sectors)
{
    for (uint32_t i = 0; i < BLOCK / SECTOR; i++) {
        off_t at = (off_t)(block->number * BLOCK + i * SECTOR);
        if (sectors & block->dirty & 1u << i &&
            pwrite(image.fd, block->bytes + i * SECTOR, SECTOR, at) != SECTOR)
            perror("fuse image");
    }
}

static void lose_power(void)
{
    struct random random;
    struct fuse_control *control = image.control;
    random_init(&random, atomic_load(&control->cut_seed));
    uint64_t keeps_of_4 = random_below(&random, 5); // each cut has a leaning of its own
    for (uint32_t i = 0; i < image.dirty_count; i++) {
        if (random_below(&random, 16) == 0) {
            keep_some(image.dirty[i], (uint8_t)random_u32(&random));
            atomic_fetch_add(&control->torn_blocks, 1);
        } else if (random_below(&random, 4) < keeps_of_4) {
            keep_some(image.dirty[i], 0xff);
            atomic_fetch_add(&control->kept_blocks, 1);
        } else {
            atomic_fetch_add(&control->lost_blocks, 1);
        }
    }
    forget_all();
}

/* At the begin of each operation. False: it was answered. */
static bool look(fuse_req_t request)
{
    struct fuse_control *control = image.control;
    uint32_t cuts = atomic_load(&control->cuts);
    if (cuts != image.cuts_seen) {
        lose_power();
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
    bool flushed = !is_dead && write_out();
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
        st.st_size = (off_t)image.bytes;
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
    static uint8_t bytes[(1u << 20) + 2 * BLOCK];
    if (!look(request))
        return;
    uint64_t at = (uint64_t)offset, end = at + size;
    end = end < image.bytes ? end : image.bytes;
    if (at >= end || end - at > 1u << 20) {
        fuse_reply_err(request, at >= end ? 0 : EINVAL);
        return;
    }
    for (uint64_t block = at / BLOCK; block * BLOCK < end; block++) {
        if (!read_block(block, bytes + (block - at / BLOCK) * BLOCK)) {
            fuse_reply_err(request, EIO);
            return;
        }
    }
    fuse_reply_buf(request, (const char *)bytes + at % BLOCK, end - at);
}

static void op_write(fuse_req_t request, fuse_ino_t inode, const char *bytes, size_t size,
                     off_t offset, struct fuse_file_info *file)
{
    if (!look(request))
        return;
    take_time();
    int error = fail_write();
    uint64_t at = (uint64_t)offset, end = at + size;
    if (!error && (end > image.bytes ||
                   (image.dirty_count + size / BLOCK + 2 > CACHE_BLOCKS_MAX && !write_out())))
        error = EIO;
    while (!error && at < end) {
        uint32_t from = (uint32_t)(at % BLOCK), length = BLOCK - from;
        if (length > end - at)
            length = (uint32_t)(end - at);
        struct block *block = dirty_block(at / BLOCK);
        if (block)
            write_part(block, from, bytes + (at - (uint64_t)offset), length);
        else
            error = EIO;
        at += length;
    }
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
        forget_all(); // it gives up: no flush will ever succeed again
    else if (!error && !write_out())
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

static bool open_image(const char *path)
{
    struct stat st;
    image.fd = open(path, O_RDWR | O_CLOEXEC);
    if (image.fd < 0 || fstat(image.fd, &st)) {
        perror(path);
        return false;
    }
    image.bytes = (uint64_t)st.st_size / BLOCK * BLOCK;
    image.blocks = calloc(image.bytes / BLOCK, sizeof(*image.blocks));
    image.dirty = calloc(CACHE_BLOCKS_MAX, sizeof(*image.dirty));
    return image.blocks && image.dirty;
}

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
    if (!open_image(image_path))
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
