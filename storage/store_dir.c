/* The data directory as a whole: whose it is, whether it is fit, and making a new store in it.
 *
 * The happy path of an existing store: look at the file system, take LOCK, read DIR/store, done. Of
 * a new one: the identity is written with state MAKING, then each shard's directories and first
 * files, then the identity again with state READY; each step durable before the next. A crash in
 * between leaves MAKING (or an empty directory): nothing can have been acked, so the store is
 * simply made anew.
 *
 * It refuses, and says in `text` what, where and what to do: a directory that holds something else
 * (FOREIGN), one in use (LOCKED), a file system without durable direct I/O (NO_DIRECT), another
 * format (NEWER), a damaged identity (CORRUPT), too little space (NO_SPACE, before anything is
 * made). */
#include "storage/store.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/disk_header.h"
#include "storage/store_dir.h"

#define LOCK_TRIES 100
#define LOCK_PAUSE_NS (20 * NS_PER_MS)
#define PATH_BYTES 4200
#define SHARDS_MAX 64
#define SEGMENT_BYTES_MIN (4 * MIB)
#define SEGMENT_BYTES_MAX (1 * GIB)
#define FILES_PER_SHARD 3 // see wal_create()

struct opening {
    struct io *io;
    const char *dir;
    bool no_direct;
    struct store_identity *identity;
    char *text;
    bool has_store;
    bool has_shards;
    char stranger[128]; // a name that is none of ours
    uint8_t *block;
};

static int dir_prepare(struct opening *opening);
static int dir_look(struct opening *opening);
static int dir_visit(void *context, const char *name, uint64_t size_bytes);
static int dir_lock(struct opening *opening, int *lock_fd);
static int dir_use(struct opening *opening);
static int store_make(struct opening *opening);
static int check_wish(struct opening *opening);
static int check_space(struct opening *opening);
static int store_write(struct opening *opening, enum disk_store_state state);
static int shard_make(struct opening *opening, struct random *random, uint32_t shard);
static int dir_make(struct opening *opening, const char *parent, const char *path);
static void parent_sync(struct opening *opening);
static int say(struct opening *opening, int status, const char *format, ...) PRINTF_LIKE(3, 4);

int store_dir_open(struct io *io, const char *dir, bool no_direct, struct store_identity *identity,
                   int *lock_fd, char text[512])
{
    struct opening opening = {
        .io = io, .dir = dir, .no_direct = no_direct, .identity = identity, .text = text};
    text[0] = '\0';
    *lock_fd = -1;
    opening.block = aligned_alloc(DISK_BLOCK, DISK_BLOCK);
    if (opening.block == NULL)
        return say(&opening, E_NO_MEMORY, "out of memory");
    int status = dir_prepare(&opening);
    if (status == 0)
        status = dir_lock(&opening, lock_fd);
    if (status == 0)
        status = dir_use(&opening);
    if (status < 0 && *lock_fd >= 0) {
        (void)io_close_wait(io, *lock_fd);
        *lock_fd = -1;
    }
    free(opening.block);
    return status;
}

/* ---- may we? ---- */

/* Nothing is written before it is clear that the directory is ours or empty. */
static int dir_prepare(struct opening *opening)
{
    struct io_fs_info info;
    int status = io_mkdir(opening->io, opening->dir);
    if (status < 0)
        return say(opening, status, "%s: cannot be made: %s", opening->dir, status_text(status));
    parent_sync(opening);
    status = io_fs_info(opening->io, opening->dir, &info);
    if (status < 0)
        return say(opening, status, "%s: file system unknown: %s", opening->dir,
                   status_text(status));
    if (info.is_memory && !opening->no_direct)
        return say(opening, E_NO_DIRECT,
                   "%s is on %s, which keeps nothing: use a disk, or --development for a test",
                   opening->dir, info.type);
    return dir_look(opening);
}

static int dir_look(struct opening *opening)
{
    opening->has_store = opening->has_shards = false;
    opening->stranger[0] = '\0';
    int status = io_list(opening->io, opening->dir, dir_visit, opening);
    if (status < 0)
        return say(opening, status, "%s: cannot be listed: %s", opening->dir, status_text(status));
    if (!opening->has_store && opening->stranger[0] != '\0')
        return say(opening, E_FOREIGN,
                   "%s holds no store but is not empty (it has \"%s\"): give an empty directory",
                   opening->dir, opening->stranger);
    /* The identity is durable before the first shard is made: without it the shards are somebody's
     * data. */
    if (!opening->has_store && opening->has_shards)
        return say(opening, E_CORRUPT,
                   "%s/store is missing, but there are shards: put it back from a copy",
                   opening->dir);
    return 0;
}

static bool name_is_ours(const char *name)
{
    return strcmp(name, "LOCK") == 0 || strcmp(name, "store.tmp") == 0 ||
           strcmp(name, "lost+found") == 0;
}

static int dir_visit(void *context, const char *name, uint64_t size_bytes)
{
    struct opening *opening = context;
    (void)size_bytes;
    if (strcmp(name, "store") == 0)
        opening->has_store = true;
    else if (strncmp(name, "shard-", 6) == 0)
        opening->has_shards = true;
    else if (!name_is_ours(name))
        snprintf(opening->stranger, sizeof(opening->stranger), "%.100s", name);
    return 0;
}

/* A broker that was just killed holds its lock until its last I/O has ended. io_poll() with nothing
 * in flight is a pause. */
static int dir_lock(struct opening *opening, int *lock_fd)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof(path), "%.4000s/LOCK", opening->dir);
    int fd = io_lock_file(opening->io, path);
    for (int i = 0; i < LOCK_TRIES && fd == E_LOCKED; i++) {
        (void)io_poll(opening->io, LOCK_PAUSE_NS);
        fd = io_lock_file(opening->io, path);
    }
    if (fd == E_LOCKED)
        return say(opening, E_LOCKED, "%s is in use by another broker (LOCK is held)",
                   opening->dir);
    if (fd < 0)
        return say(opening, fd, "%s: cannot be locked: %s", path, status_text(fd));
    *lock_fd = fd;
    return 0;
}

/* ---- the store that is there ---- */

static int dir_use(struct opening *opening)
{
    struct store_head head;
    int status = dir_look(opening); // again: another process may have made it while we waited
    if (status < 0)
        return status;
    if (!opening->has_store)
        return store_make(opening);
    status = store_head_read(opening->io, opening->dir, opening->no_direct, opening->block, &head,
                             opening->text);
    if (status < 0)
        return status;
    if (!head.is_ready)
        return store_make(opening);
    *opening->identity = head.identity;
    return 0;
}

int store_head_read(struct io *io, const char *dir, bool no_direct, uint8_t *block,
                    struct store_head *head, char text[512])
{
    struct opening opening = {.io = io, .dir = dir, .text = text};
    struct disk_store *disk = (struct disk_store *)block;
    char path[PATH_BYTES];
    const char *why = NULL;
    snprintf(path, sizeof(path), "%.4000s/store", dir);
    int fd = io_open_wait(io, path, O_RDONLY | (no_direct ? 0 : O_DIRECT), 0);
    int len = fd < 0 ? fd : io_read_wait(io, fd, block, DISK_BLOCK, 0);
    if (fd >= 0)
        (void)io_close_wait(io, fd);
    if (len == E_INVALID)
        return say(&opening, E_NO_DIRECT,
                   "%s: the file system has no O_DIRECT: use another, or --development for a test",
                   dir);
    if (len < 0)
        return say(&opening, len, "%s: cannot be read: %s", path, status_text(len));
    if (len < DISK_BLOCK)
        return say(&opening, E_CORRUPT, "%s: has %d bytes, not %d: put it back from a copy", path,
                   len, DISK_BLOCK);
    struct disk_expect expect = {
        .magic = DISK_MAGIC_STORE, .store_id = disk->common.store_id, .shard_id = UINT32_MAX};
    int status = disk_header_check(disk, &expect, &why);
    if (status == E_NEWER)
        return say(&opening, status, "%s: %s: start the version that wrote it", path, why);
    if (status < 0)
        return say(&opening, E_CORRUPT, "%s: %s: put it back from a copy", path, why);
    *head = (struct store_head){.is_ready = le32_get(disk->state) == DISK_STORE_READY,
                                .identity = {.shard_count = le32_get(disk->shard_count),
                                             .segment_bytes = le64_get(disk->segment_bytes)}};
    memcpy(head->identity.store_id, disk->common.store_id, sizeof(head->identity.store_id));
    bool possible = le32_get(disk->state) == DISK_STORE_MAKING || head->is_ready;
    if (!possible || !store_identity_is_valid(&head->identity))
        return say(&opening, E_CORRUPT,
                   "%s: says what can't be (%u shards, segments of %llu bytes)", path,
                   head->identity.shard_count, (unsigned long long)head->identity.segment_bytes);
    return 0;
}

bool store_identity_is_valid(const struct store_identity *identity)
{
    return identity->shard_count >= 1 && identity->shard_count <= SHARDS_MAX &&
           identity->segment_bytes >= SEGMENT_BYTES_MIN &&
           identity->segment_bytes <= SEGMENT_BYTES_MAX && identity->segment_bytes % MIB == 0;
}

/* ---- a new store ---- */

static int store_make(struct opening *opening)
{
    struct random random;
    struct store_identity *identity = opening->identity;
    random_init(&random, random_seed_system());
    for (size_t i = 0; i < sizeof(identity->store_id); i += sizeof(uint64_t)) {
        uint64_t word = random_seed_system();
        memcpy(identity->store_id + i, &word, sizeof(word));
    }
    int status = check_wish(opening);
    if (status == 0)
        status = check_space(opening);
    if (status == 0)
        status = store_write(opening, DISK_STORE_MAKING);
    for (uint32_t shard = 0; shard < identity->shard_count && status == 0; shard++)
        status = shard_make(opening, &random, shard);
    if (status == 0)
        status = store_write(opening, DISK_STORE_READY);
    return status;
}

static int check_wish(struct opening *opening)
{
    if (store_identity_is_valid(opening->identity))
        return 0;
    return say(
        opening, E_INVALID,
        "a store has 1..%d shards and segments of 4MiB..1GiB in whole MiB (asked for: %u, %llu)",
        SHARDS_MAX, opening->identity->shard_count,
        (unsigned long long)opening->identity->segment_bytes);
}

/* Better to say it now than half-way; what is there may still be too little for what others
 * reserve. */
static int check_space(struct opening *opening)
{
    struct io_fs_info info;
    const struct store_identity *identity = opening->identity;
    uint64_t need = identity->shard_count * FILES_PER_SHARD * identity->segment_bytes;
    if (io_fs_info(opening->io, opening->dir, &info) < 0 || info.free_bytes >= need)
        return 0;
    return say(opening, E_NO_SPACE,
               "%s: a new store of %u shards reserves %llu bytes, only %llu are free", opening->dir,
               identity->shard_count, (unsigned long long)need,
               (unsigned long long)info.free_bytes);
}

static int store_write(struct opening *opening, enum disk_store_state state)
{
    const struct store_identity *identity = opening->identity;
    struct disk_store *disk = (struct disk_store *)opening->block;
    char from[PATH_BYTES];
    char to[PATH_BYTES];
    memset(disk, 0, sizeof(*disk));
    disk_header_make(&disk->common,
                     &(struct disk_expect){.magic = DISK_MAGIC_STORE,
                                           .store_id = identity->store_id,
                                           .shard_id = UINT32_MAX},
                     0);
    disk->state = le32_make(state);
    disk->shard_count = le32_make(identity->shard_count);
    disk->segment_bytes = le64_make(identity->segment_bytes);
    disk_header_seal(disk);
    snprintf(from, sizeof(from), "%.4000s/store.tmp", opening->dir);
    snprintf(to, sizeof(to), "%.4000s/store", opening->dir);
    uint32_t direct = opening->no_direct ? 0 : O_DIRECT;
    int fd = io_open_wait(opening->io, from, O_RDWR | O_CREAT | O_TRUNC | direct, 0640);
    int status = fd < 0 ? fd : io_write_wait(opening->io, fd, disk, DISK_BLOCK, 0);
    if (status >= 0)
        status = io_fdatasync_wait(opening->io, fd);
    if (fd >= 0)
        (void)io_close_wait(opening->io, fd);
    if (status >= 0)
        status = io_rename_wait(opening->io, from, to);
    if (status >= 0)
        status = io_sync_dir_wait(opening->io, opening->dir);
    if (status == E_INVALID)
        return say(opening, E_NO_DIRECT,
                   "%s: the file system has no O_DIRECT: use another, or --development for a test",
                   opening->dir);
    return status < 0 ? say(opening, status, "%s: cannot be written: %s", to, status_text(status))
                      : 0;
}

static int shard_make(struct opening *opening, struct random *random, uint32_t shard)
{
    static const char *const names[] = {"checkpoint", "archive", "wal"};
    char base[PATH_BYTES];
    char path[PATH_BYTES];
    snprintf(base, sizeof(base), "%.4000s/shard-%03u", opening->dir, shard);
    int status = dir_make(opening, opening->dir, base);
    for (size_t i = 0; i < ARRAY_COUNT(names) && status == 0; i++) {
        snprintf(path, sizeof(path), "%.4000s/shard-%03u/%s", opening->dir, shard, names[i]);
        status = dir_make(opening, base, path);
    }
    if (status < 0)
        return status;
    struct wal_options options = {.io = opening->io,
                                  .random = random,
                                  .dir = path, // the last one made
                                  .shard_id = shard,
                                  .segment_bytes = opening->identity->segment_bytes,
                                  .no_direct = opening->no_direct};
    memcpy(options.store_id, opening->identity->store_id, sizeof(options.store_id));
    status = wal_create(&options);
    return status < 0 ? say(opening, status, "%s: cannot be made: %s", path, status_text(status))
                      : 0;
}

static int dir_make(struct opening *opening, const char *parent, const char *path)
{
    int status = io_mkdir(opening->io, path);
    if (status >= 0)
        status = io_sync_dir_wait(opening->io, parent);
    return status < 0 ? say(opening, status, "%s: cannot be made: %s", path, status_text(status))
                      : 0;
}

/* The name of DIR itself; best effort: the directory above may not be ours to open. */
static void parent_sync(struct opening *opening)
{
    char parent[PATH_BYTES];
    snprintf(parent, sizeof(parent), "%.4000s", opening->dir);
    char *slash = strrchr(parent, '/');
    if (slash == NULL)
        snprintf(parent, sizeof(parent), ".");
    else
        slash[slash == parent] = '\0';
    int status = io_sync_dir_wait(opening->io, parent);
    (void)status;
}

static int say(struct opening *opening, int status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(opening->text, 512, format, arguments);
    va_end(arguments);
    return status;
}
