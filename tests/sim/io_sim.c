/* The simulated backend: a list of operations in flight, each with the time at which it ends. See
 * io_sim.h. */
#include "tests/sim/io_sim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/io_private.h"

#define LATENCY_NS_MAX (200 * NS_PER_US)

static_assert(IO_SIM_CANCELING == (uint32_t)IO_OP_CANCELING, "the world looks at it");

struct rule {
    uint64_t first, last;
    int os_error;
};

struct io_sim {
    struct io io;
    struct clock clock;
    struct sim_disk *disk;
    struct random random;
    const struct io_sim_host *host;
    const uint64_t *now; // the host's clock, or its own
    uint64_t now_ns, wall_ms, start_ns, latency_ns_max;
    struct list in_flight;
    struct list sibling;
    struct io_sim_files *files, *own_files;
    uint64_t counts[IO_TIMER + 1];
    struct rule rules[IO_TIMER + 1];
    uint64_t trace;
    bool dead;
    bool woken;
};

/* The backend's words of an operation. */
enum { OP_READY_NS, OP_SEQUENCE, OP_HASH, OP_INJECTED };

static void sim_free(struct io *io);
static void sim_start(struct io *io, struct io_op *op);
static void sim_cancel(struct io *io, struct io_op *op);
static int sim_poll(struct io *io, uint64_t timeout_ns);
static void sim_wake(struct io *io, struct io *from);
static int sim_list(struct io *io, const char *path, io_visit_fn visit, void *context);
static int sim_mkdir(struct io *io, const char *path);
static int sim_fs_info(struct io *io, const char *path, struct io_fs_info *info);
static int sim_file_size(struct io *io, int fd, uint64_t *size_bytes);
static int sim_lock_file(struct io *io, const char *path);
static int sim_lock_fd(struct io *io, int fd);
static int sim_allocate(struct io *io, int fd, uint64_t size_bytes);
static void inject(struct io_sim *sim, struct io_op *op);
static int injected_call(struct io *io, enum io_sim_call call, const char *path, int fd);
static void deliver(struct io_sim *sim, struct io_op *op);
static int32_t perform(struct io_sim *sim, struct io_op *op);
static int32_t perform_open(struct io_sim *sim, struct io_op *op);
static int32_t perform_close(struct io_sim *sim, struct io_op *op);
static int32_t perform_read(struct io_sim *sim, struct io_op *op);
static int32_t advance(struct io_sim *sim, struct io_op *op, int32_t raw);
static int32_t perform_write(struct io_sim *sim, struct io_op *op);
static int32_t perform_sync(struct io_sim *sim, struct io_op *op);
static int32_t perform_sync_dir(struct io_sim *sim, struct io_op *op);
static bool is_socket_op(const struct io_op *op);
static uint64_t hash_of_buffer(const struct io_op *op);
static void observe_write(struct io_sim *sim, const struct io_op *op);
static uint32_t outside(struct io_sim *sim);
static void inside(struct io_sim *sim, uint32_t owner);
static struct sim_file *file_of(struct io_sim *sim, int fd);
static void leave_in_flight(struct io_sim *sim, struct io_op *op);
static void end_in_flight(struct io_sim *sim, struct io_op *op);

static const struct io_ops sim_ops = {
    .name = "sim",
    .free = sim_free,
    .start = sim_start,
    .cancel = sim_cancel,
    .poll = sim_poll,
    .wake = sim_wake,
    .list = sim_list,
    .mkdir = sim_mkdir,
    .fs_info = sim_fs_info,
    .file_size = sim_file_size,
    .lock_file = sim_lock_file,
    .lock_fd = sim_lock_fd,
    .allocate = sim_allocate,
};

static struct io_sim *sim_of(struct io *io)
{
    ASSERT(io->ops == &sim_ops);
    return CONTAINER_OF(io, struct io_sim, io);
}

/* ---- life ---- */

static uint64_t clock_mono(struct clock *clock)
{
    return *CONTAINER_OF(clock, struct io_sim, clock)->now;
}

static uint64_t clock_wall(struct clock *clock)
{
    return io_sim_now_wall_ms(&CONTAINER_OF(clock, struct io_sim, clock)->io);
}

struct io *io_sim_new(struct sim_disk *disk, const struct io_sim_options *options)
{
    struct io_sim *sim = calloc(1, sizeof(*sim));
    ASSERT(sim != NULL);
    sim->io.ops = &sim_ops;
    sim->clock = (struct clock){clock_mono, clock_wall};
    sim->disk = disk;
    sim->now_ns = sim->start_ns = options->start_ns;
    sim->wall_ms = options->wall_ms;
    sim->latency_ns_max = options->latency_ns_max ? options->latency_ns_max : LATENCY_NS_MAX;
    sim->host = options->host;
    sim->now = options->host ? options->host->now_ns : &sim->now_ns;
    sim->files = options->files;
    if (sim->files == NULL)
        sim->files = sim->own_files = calloc(1, sizeof(*sim->own_files));
    ASSERT(sim->files != NULL);
    random_init(&sim->random, options->seed);
    list_init(&sim->in_flight);
    list_init(&sim->sibling);
    if (options->siblings)
        list_push_back(options->siblings, &sim->sibling);
    return &sim->io;
}

struct io *io_sim_of_sibling(struct list *link)
{
    return &CONTAINER_OF(link, struct io_sim, sibling)->io;
}

static void sim_free(struct io *io)
{
    struct io_sim *sim = sim_of(io);
    ASSERT(list_is_empty(&sim->in_flight));
    io_sim_discard(io);
}

void io_sim_discard(struct io *io)
{
    struct io_sim *sim = sim_of(io);
    list_remove(&sim->sibling);
    if (sim->own_files)
        io_sim_files_close(sim->own_files, sim->disk);
    free(sim->own_files);
    free(sim);
}

void io_sim_files_close(struct io_sim_files *files, struct sim_disk *disk)
{
    for (int i = 0; i < IO_SIM_FILES_MAX; i++) {
        struct sim_file *file = files->slots[i].file;
        if (file == NULL)
            continue;
        if (file->lock == &files->slots[i])
            file->lock = NULL;
        files->slots[i].file = NULL;
        sim_file_release(disk, file);
    }
}

void io_sim_set_latency(struct io *io, uint64_t ns_max)
{
    sim_of(io)->latency_ns_max = ns_max ? ns_max : LATENCY_NS_MAX;
}

struct clock *io_sim_clock(struct io *io)
{
    return &sim_of(io)->clock;
}

uint64_t io_sim_now_ns(struct io *io)
{
    return *sim_of(io)->now;
}

uint64_t io_sim_now_wall_ms(struct io *io)
{
    struct io_sim *sim = sim_of(io);
    if (sim->host)
        return sim->host->wall_ms();
    return sim->wall_ms + (sim->now_ns - sim->start_ns) / NS_PER_MS;
}

void io_sim_crash(struct io *io)
{
    struct io_sim *sim = sim_of(io);
    io_sim_abandon(io, true);
    io_sim_files_close(sim->files, sim->disk);
    sim_disk_crash(sim->disk);
}

void io_sim_kill(struct io *io)
{
    io_sim_abandon(io, false);
    io_sim_files_close(sim_of(io)->files, sim_of(io)->disk);
}

void io_sim_abandon(struct io *io, bool power)
{
    struct io_sim *sim = sim_of(io);
    LIST_EACH(node, &sim->in_flight)
    {
        if (power)
            leave_in_flight(sim, IO_OP_OF_LINK(node));
        else
            end_in_flight(sim, IO_OP_OF_LINK(node));
    }
    sim->dead = true;
}

/* What a process that was killed has in flight ends as the kernel likes. */
static void end_in_flight(struct io_sim *sim, struct io_op *op)
{
    if (random_below(&sim->random, 2) == 0)
        return;
    if (op->kind == IO_WRITE)
        (void)perform_write(sim, op);
    else if (op->kind == IO_RENAME)
        (void)sim_disk_rename(sim->disk, op->path, op->path_to);
    else if (op->kind == IO_UNLINK)
        (void)sim_disk_unlink(sim->disk, op->path);
}

/* What the disk may or may not have of an operation that has not ended. */
static void leave_in_flight(struct io_sim *sim, struct io_op *op)
{
    if (op->kind == IO_RENAME && random_below(&sim->random, 2) == 0)
        (void)sim_disk_rename(sim->disk, op->path, op->path_to);
    else if (op->kind == IO_UNLINK && random_below(&sim->random, 2) == 0)
        (void)sim_disk_unlink(sim->disk, op->path);
    if (op->kind != IO_WRITE || file_of(sim, op->fd) == NULL)
        return;
    struct sim_file *file = file_of(sim, op->fd);
    if (op->offset % SIM_BLOCK != 0 || !sim_disk_allocate(sim->disk, file, op->offset, op->len))
        return;
    for (uint64_t at = 0; at + SIM_BLOCK <= op->len; at += SIM_BLOCK)
        sim_file_add_version(file, (op->offset + at) / SIM_BLOCK, (uint8_t *)op->buf + at, 0);
    file->size = max_u64(file->size, op->offset + op->len);
}

void io_sim_fail(struct io *io, enum io_kind kind, uint64_t first, uint64_t last, int os_error)
{
    struct io_sim *sim = sim_of(io);
    uint64_t count = sim->counts[kind];
    sim->rules[kind] = (struct rule){
        count + first, last > UINT64_MAX - count ? UINT64_MAX : count + last, os_error};
}

uint64_t io_sim_count(struct io *io, enum io_kind kind)
{
    return sim_of(io)->counts[kind];
}

uint64_t io_sim_trace(struct io *io)
{
    return sim_of(io)->trace;
}

/* ---- operations ---- */

static void trace_words(struct io_sim *sim, const uint64_t *words, size_t bytes)
{
    sim->trace = hash_xxh3_seeded(words, bytes, sim->trace);
    if (sim->host && sim->host->note)
        sim->host->note(IO_SIM_NOTE, words[0], sim->trace);
}

static bool has_path(const struct io_op *op)
{
    return op->kind == IO_OPEN || op->kind == IO_RENAME || op->kind == IO_UNLINK ||
           op->kind == IO_SYNC_DIR;
}

static uint64_t what_it_is_about(struct io_sim *sim, const struct io_op *op)
{
    if (has_path(op))
        return hash_xxh3(op->path, strlen(op->path));
    const struct sim_file *file = file_of(sim, op->fd);
    return file ? file->id : (uint64_t)op->fd;
}

/* When it starts and when it ends; of a write also what is written. Timers are the scheduler's. */
static void trace_operation(struct io_sim *sim, const struct io_op *op, uint64_t what,
                            uint64_t about, int32_t result)
{
    if (op->kind == IO_TIMER)
        return;
    bool is_place = op->kind == IO_READ || op->kind == IO_WRITE;
    uint64_t words[] = {what,
                        (uint64_t)op->kind,
                        about,
                        is_place ? op->offset : 0,
                        is_place ? op->len : 0,
                        (uint64_t)(int64_t)result,
                        *sim->now,
                        op->kind == IO_WRITE ? op->backend[OP_HASH] : 0};
    trace_words(sim, words, sizeof(words));
}

/* Of a call that blocks. */
static void trace_call(struct io_sim *sim, enum io_sim_call call, const char *path, uint64_t number,
                       int result)
{
    uint64_t words[] = {
        3,        call, path ? hash_xxh3(path, strlen(path)) : 0, number, (uint64_t)(int64_t)result,
        *sim->now};
    trace_words(sim, words, sizeof(words));
}

static int injected(struct io_sim *sim, const struct io_op *op)
{
    const struct rule *rule = &sim->rules[op->kind];
    uint64_t count = ++sim->counts[op->kind];
    if (rule->os_error != 0 && count >= rule->first && count <= rule->last)
        return rule->os_error;
    return sim->host && sim->host->fault ? sim->host->fault(&sim->io, op) : 0;
}

static void sim_start(struct io *io, struct io_op *op)
{
    struct io_sim *sim = sim_of(io);
    list_push_back(&sim->in_flight, &op->link);
    if (op->kind == IO_TIMER) { // io.c keeps an injected fault in its other words
        *io_sim_due(op) = max_u64(op->offset, *sim->now);
    } else if (is_socket_op(op) && sim->host) {
        sim->host->socket_start(io, op);
        inject(sim, op);
    } else {
        *io_sim_due(op) = *sim->now + 1 + random_below(&sim->random, sim->latency_ns_max);
        op->backend[OP_SEQUENCE] = sim->disk ? sim->disk->sequence : 0;
        op->backend[OP_HASH] = op->kind == IO_WRITE ? hash_of_buffer(op) : 0;
        if (op->kind == IO_WRITE && sim->disk && sim->disk->observe)
            observe_write(sim, op);
        inject(sim, op);
        trace_operation(sim, op, 1, what_it_is_about(sim, op), 0);
    }
}

static void inject(struct io_sim *sim, struct io_op *op)
{
    int error = injected(sim, op);
    op->backend[OP_INJECTED] = (uint64_t)(int64_t)error;
    if (error == IO_SIM_SHORT)
        op->flags |= IO_OP_SHORT;
}

/* A status, or 0. */
static int injected_call(struct io *io, enum io_sim_call call, const char *path, int fd)
{
    const struct io_sim_host *asked = sim_of(io)->host;
    struct io_op op = {.kind = IO_NONE, .len = call, .path = path, .fd = fd};
    int error = asked && asked->fault ? asked->fault(io, &op) : 0;
    bool is_lock = call == IO_SIM_LOCK_FILE || call == IO_SIM_LOCK_FD;
    return is_lock && error == EWOULDBLOCK ? E_LOCKED : status_from_errno(error);
}

/* Of large ones the two ends: the middle of a buffer is hardly touched alone. */
#define HASH_END_BYTES ((uint32_t)(64 * KIB))
static uint64_t hash_of_buffer(const struct io_op *op)
{
    if (op->len <= 2 * HASH_END_BYTES)
        return hash_xxh3(op->buf, op->len);
    const uint8_t *last = (const uint8_t *)op->buf + op->len - HASH_END_BYTES;
    return hash_xxh3_seeded(last, HASH_END_BYTES, hash_xxh3(op->buf, HASH_END_BYTES));
}

static void observe_write(struct io_sim *sim, const struct io_op *op)
{
    struct sim_file *file = file_of(sim, op->fd);
    if (file == NULL || op->offset % SIM_BLOCK != 0 || op->len % SIM_BLOCK != 0)
        return;
    uint32_t owner = outside(sim);
    (void)sim_file_write_start(sim->disk, file, op->buf, op->offset, op->len);
    inside(sim, owner);
}

static bool is_socket_op(const struct io_op *op)
{
    return op->kind == IO_ACCEPT || op->kind == IO_CONNECT || op->kind == IO_READABLE ||
           op->kind == IO_RECV || op->kind == IO_SEND;
}

static void sim_cancel(struct io *io, struct io_op *op)
{
    struct io_sim *sim = sim_of(io);
    if (op->kind != IO_TIMER && !(is_socket_op(op) && sim->host))
        return;
    op->flags |= IO_OP_CANCELING;
    *io_sim_due(op) = *sim->now;
}

static struct io_op *earliest(struct io_sim *sim)
{
    struct io_op *first = NULL;
    LIST_EACH(node, &sim->in_flight)
    {
        struct io_op *op = IO_OP_OF_LINK(node);
        if (first == NULL || *io_sim_due(op) < *io_sim_due(first))
            first = op;
    }
    return first;
}

/* Until something is ready, somebody wakes, or the time is over. Alone, time passes at once. */
static void pass_time(struct io_sim *sim, uint64_t limit)
{
    struct io_op *op = earliest(sim);
    uint64_t until = op ? min_u64(limit, *io_sim_due(op)) : limit;
    if (sim->woken)
        until = *sim->now;
    if (sim->host) {
        sim->host->wait(&sim->io, until);
    } else {
        ASSERT(until != UINT64_MAX); // would sleep for ever
        sim->now_ns = max_u64(sim->now_ns, sim->dead ? sim->now_ns : until);
    }
}

static int sim_poll(struct io *io, uint64_t timeout_ns)
{
    struct io_sim *sim = sim_of(io);
    int count = 0;
    struct io_op *op;
    pass_time(sim, timeout_ns > UINT64_MAX - *sim->now ? UINT64_MAX : *sim->now + timeout_ns);
    sim->woken = false;
    io_awake(io);
    while ((op = earliest(sim)) != NULL && (sim->dead || *io_sim_due(op) <= *sim->now)) {
        deliver(sim, op);
        count++;
        if (random_below(&sim->random, 4) == 0)
            break; // the rest in the next turn, as a real queue would at times
    }
    return count;
}

static void sim_wake(struct io *io, struct io *from)
{
    struct io_sim *sim = sim_of(io);
    (void)from;
    sim->woken = true;
    if (sim->host)
        sim->host->wake_at(io, *sim->now);
}

/* Around what takes memory for the disk or the network, which outlive the process. */
static uint32_t outside(struct io_sim *sim)
{
    return sim->host ? sim->host->outside() : 0;
}

static void inside(struct io_sim *sim, uint32_t owner)
{
    if (sim->host)
        sim->host->inside(owner);
}

static void deliver(struct io_sim *sim, struct io_op *op)
{
    uint32_t owner = outside(sim);
    if (op->kind == IO_WRITE) // the buffer was the backend's
        ASSERT(hash_of_buffer(op) == op->backend[OP_HASH]);
    uint64_t about = what_it_is_about(sim, op); // a close forgets it
    int32_t result = sim->dead ? -ECANCELED : perform(sim, op);
    trace_operation(sim, op, 2, about, result);
    if (result != IO_SIM_LATER)
        list_remove(&op->link);
    inside(sim, owner);
    if (result != IO_SIM_LATER)
        io_op_finish(op, result);
}

static int32_t perform(struct io_sim *sim, struct io_op *op)
{
    if (is_socket_op(op))
        return sim->host ? sim->host->socket_perform(&sim->io, op) : -EOPNOTSUPP;
    int error = op->kind == IO_TIMER ? 0 : io_sim_injected(op);
    if (op->kind == IO_CLOSE && error > 0)
        (void)perform_close(sim, op); // the descriptor is gone whatever close() says
    if (error > 0 && op->kind != IO_WRITE && op->kind != IO_FDATASYNC)
        return -error;
    switch (op->kind) {
    case IO_OPEN:
        return perform_open(sim, op);
    case IO_CLOSE:
        return perform_close(sim, op);
    case IO_READ:
        return perform_read(sim, op);
    case IO_WRITE:
        return perform_write(sim, op);
    case IO_FDATASYNC:
        return perform_sync(sim, op);
    case IO_RENAME:
        return -sim_disk_rename(sim->disk, op->path, op->path_to);
    case IO_UNLINK:
        return -sim_disk_unlink(sim->disk, op->path);
    case IO_SYNC_DIR:
        return perform_sync_dir(sim, op);
    case IO_TIMER:
        return op->flags & IO_OP_CANCELING ? -ECANCELED : 0;
    default:
        return -EOPNOTSUPP;
    }
}

int io_sim_files_add(struct io_sim_files *files, struct sim_file *file, void *socket,
                     uint32_t flags)
{
    for (int i = 0; i < IO_SIM_FILES_MAX; i++) {
        if (files->slots[i].file || files->slots[i].socket)
            continue;
        if (file)
            file->references++;
        files->slots[i].file = file;
        files->slots[i].socket = socket;
        files->slots[i].flags = flags;
        return i + IO_SIM_FD_BASE;
    }
    return -EMFILE;
}

static int fd_new(struct io_sim *sim, struct sim_file *file, uint32_t flags)
{
    return io_sim_files_add(sim->files, file, NULL, flags);
}

static bool is_fd(int fd)
{
    return fd >= IO_SIM_FD_BASE && fd < IO_SIM_FD_BASE + IO_SIM_FILES_MAX;
}

static struct sim_file *file_of(struct io_sim *sim, int fd)
{
    return is_fd(fd) ? sim->files->slots[fd - IO_SIM_FD_BASE].file : NULL;
}

static uint32_t flags_of(struct io_sim *sim, int fd)
{
    return sim->files->slots[fd - IO_SIM_FD_BASE].flags;
}

static int32_t perform_open(struct io_sim *sim, struct io_op *op)
{
    struct sim_file *file = sim_disk_find(sim->disk, op->path);
    if (op->flags & O_DIRECT && sim->disk->no_direct)
        return -EINVAL;
    if (file && op->flags & O_CREAT && op->flags & O_EXCL)
        return -EEXIST;
    if (file == NULL && !(op->flags & O_CREAT))
        return -ENOENT;
    if (file == NULL)
        file = sim_disk_create(sim->disk, op->path, false);
    if (op->flags & O_TRUNC)
        sim_file_truncate(sim->disk, file, 0);
    return fd_new(sim, file, op->flags);
}

static int32_t perform_close(struct io_sim *sim, struct io_op *op)
{
    struct sim_file *file = file_of(sim, op->fd);
    if (is_fd(op->fd) && sim->files->slots[op->fd - IO_SIM_FD_BASE].socket) {
        sim->host->socket_close(TAKE(sim->files->slots[op->fd - IO_SIM_FD_BASE].socket));
        return 0;
    }
    if (file == NULL)
        return -EBADF;
    if (file->lock == &sim->files->slots[op->fd - IO_SIM_FD_BASE])
        file->lock = NULL;
    sim->files->slots[op->fd - IO_SIM_FD_BASE].file = NULL;
    sim_file_release(sim->disk, file);
    return 0;
}

static bool is_aligned(struct io_sim *sim, const struct io_op *op)
{
    if (!(flags_of(sim, op->fd) & O_DIRECT))
        return true;
    return (uintptr_t)op->buf % SIM_BLOCK == 0 && op->offset % SIM_BLOCK == 0 &&
           op->len % SIM_BLOCK == 0;
}

/* Another block of the same file: what a disk does that mistakes an address. Mostly one in which something is. */
static uint64_t elsewhere(struct io_sim *sim, const struct sim_file *file, const struct io_op *op)
{
    uint64_t last = file->size > op->len ? (file->size - op->len) / SIM_BLOCK : 0;
    uint64_t block = 0;
    for (int tries = 0; tries < 16; tries++) {
        block = random_below(&sim->random, last + 1);
        if (block < file->block_count && file->seen[block])
            break;
    }
    return block * SIM_BLOCK + op->offset % SIM_BLOCK;
}

static void note_lie(struct io_sim *sim, enum sim_lie lie, bool has_bit)
{
    sim->disk->struck[lie]++;
    sim->disk->bit[lie] += has_bit;
    if (has_bit)
        sim->disk->last_bit = lie;
}

static bool holds(const struct sim_file *file, const struct io_op *op, uint64_t offset)
{
    uint8_t *there = malloc(op->len);
    ASSERT(there != NULL);
    bool same = sim_file_read(file, there, offset, op->len) == op->len &&
                memcmp(there, op->buf, op->len) == 0;
    free(there);
    return same;
}

static int32_t read_stale(struct io_sim *sim, const struct sim_file *file, const struct io_op *op)
{
    uint32_t count = sim_file_stale_blocks(file, op->offset, op->len);
    uint32_t only = UINT32_MAX;
    if (count > 0 && random_below(&sim->random, 2) == 0)
        only = (uint32_t)random_below(&sim->random, count);
    note_lie(sim, SIM_STALE_READ, count > 0);
    return (int32_t)sim_file_read_stale(sim->disk, file, op->buf, op->offset, op->len, only);
}

static int32_t read_elsewhere(struct io_sim *sim, const struct sim_file *file,
                              const struct io_op *op)
{
    uint64_t got = sim_file_read(file, op->buf, elsewhere(sim, file, op), op->len);
    bool has_bit = !holds(file, op, op->offset);
    note_lie(sim, SIM_MISDIRECTED_READ, has_bit);
    if (has_bit)
        sim_disk_note_lie(sim->disk, file, op->offset, got);
    return (int32_t)got;
}

static int32_t write_elsewhere(struct io_sim *sim, struct sim_file *file, const struct io_op *op)
{
    uint64_t offset = elsewhere(sim, file, op);
    note_lie(sim, SIM_MISDIRECTED_WRITE, !holds(file, op, op->offset) || !holds(file, op, offset));
    sim_file_write(sim->disk, file, op->buf, offset, op->len);
    return (int32_t)op->len;
}

static int32_t perform_read(struct io_sim *sim, struct io_op *op)
{
    struct sim_file *file = file_of(sim, op->fd);
    if (file == NULL)
        return -EBADF;
    if (!is_aligned(sim, op))
        return -EINVAL;
    int error = io_sim_injected(op);
    if (error == IO_SIM_STALE)
        return read_stale(sim, file, op);
    if (error == IO_SIM_MISDIRECTED)
        return read_elsewhere(sim, file, op);
    return advance(sim, op,
                   (int32_t)sim_file_read(file, io_op_rest(op), op->offset + op->progress,
                                          io_op_rest_len(op)));
}

/* By the rules of the kernel's backends; but what stops short by itself stops at the end of the file, without asking again. */
static int32_t advance(struct io_sim *sim, struct io_op *op, int32_t raw)
{
    if (!(op->flags & IO_OP_SHORT))
        return (int32_t)op->progress + raw;
    if (!io_op_advance(op, &raw))
        return raw;
    *io_sim_due(op) = *sim->now + 1 + random_below(&sim->random, sim->latency_ns_max);
    return IO_SIM_LATER;
}

static int32_t perform_write(struct io_sim *sim, struct io_op *op)
{
    struct sim_file *file = file_of(sim, op->fd);
    if (file == NULL)
        return -EBADF;
    if (!is_aligned(sim, op) || (flags_of(sim, op->fd) & O_ACCMODE) == O_RDONLY)
        return -EINVAL;
    bool room = sim_disk_allocate(sim->disk, file, op->offset, op->len);
    int error = io_sim_injected(op);
    if (error == IO_SIM_MISDIRECTED && room)
        return write_elsewhere(sim, file, op);
    if (error <= 0 && room) {
        uint32_t length = io_op_rest_len(op);
        sim_file_write(sim->disk, file, io_op_rest(op), op->offset + op->progress, length);
        return advance(sim, op, (int32_t)length);
    }
    for (uint64_t at = 0; room && at + SIM_BLOCK <= op->len; at += SIM_BLOCK)
        if (random_below(&sim->random, 2) == 0)
            sim_file_write(sim->disk, file, (uint8_t *)op->buf + at, op->offset + at, SIM_BLOCK);
    return room ? -error : -ENOSPC;
}

static int32_t perform_sync(struct io_sim *sim, struct io_op *op)
{
    struct sim_file *file = file_of(sim, op->fd);
    if (file == NULL)
        return -EBADF;
    if (io_sim_injected(op) > 0) {
        sim_file_sync_failed(sim->disk, file, op->backend[OP_SEQUENCE],
                             flags_of(sim, op->fd) & O_DIRECT);
        return -io_sim_injected(op);
    }
    sim_file_sync(sim->disk, file, op->backend[OP_SEQUENCE]);
    return 0;
}

static int32_t perform_sync_dir(struct io_sim *sim, struct io_op *op)
{
    struct sim_file *dir = sim_disk_find(sim->disk, op->path);
    if (dir == NULL || !dir->is_dir)
        return -ENOENT;
    sim_disk_sync_dir(sim->disk, op->path, op->backend[OP_SEQUENCE]);
    return 0;
}

/* ---- calls that block ---- */

/* One that fails has given half of the names. */
static int sim_list(struct io *io, const char *path, io_visit_fn visit, void *context)
{
    struct sim_disk *disk = sim_of(io)->disk;
    size_t len = strlen(path);
    int failure = injected_call(io, IO_SIM_LIST, path, -1);
    uint32_t count = failure ? disk->seen.count / 2 : disk->seen.count;
    struct sim_file *dir = sim_disk_find(disk, path);
    if (dir == NULL || !dir->is_dir)
        return E_NOT_FOUND;
    for (uint32_t i = 0; i < count; i++) {
        const struct sim_name *name = &disk->seen.names[i];
        if (strncmp(name->path, path, len) != 0 || name->path[len] != '/' ||
            strchr(name->path + len + 1, '/'))
            continue;
        int status = visit(context, name->path + len + 1, name->file->size);
        if (status != 0)
            return status;
    }
    return failure;
}

static int perform_mkdir(struct io *io, const char *path)
{
    struct sim_disk *disk = sim_of(io)->disk;
    struct sim_file *file = sim_disk_find(disk, path);
    if (sim_of(io)->dead)
        return E_CANCELED;
    if (file)
        return file->is_dir ? 0 : E_EXISTS;
    (void)sim_disk_create(disk, path, true);
    return 0;
}

static int sim_fs_info(struct io *io, const char *path, struct io_fs_info *info)
{
    struct sim_disk *disk = sim_of(io)->disk;
    int failure = injected_call(io, IO_SIM_FS_INFO, path, -1);
    if (failure)
        return failure;
    *info = (struct io_fs_info){
        .total_bytes = disk->capacity_blocks * SIM_BLOCK,
        .free_bytes = sim_disk_free_blocks(disk) * SIM_BLOCK,
        .is_memory = disk->is_memory,
    };
    snprintf(info->type, sizeof(info->type), "%s", disk->is_memory ? "tmpfs" : "sim");
    return 0;
}

static int sim_file_size(struct io *io, int fd, uint64_t *size_bytes)
{
    struct sim_file *file = file_of(sim_of(io), fd);
    int failure = injected_call(io, IO_SIM_FILE_SIZE, NULL, fd);
    if (failure)
        return failure;
    if (file == NULL)
        return E_INVALID;
    *size_bytes = file->size;
    return 0;
}

static int perform_lock_fd(struct io *io, int fd)
{
    struct io_sim *sim = sim_of(io);
    struct sim_file *file = file_of(sim, fd);
    const void *owner = is_fd(fd) ? &sim->files->slots[fd - IO_SIM_FD_BASE] : NULL;
    if (file == NULL)
        return E_INVALID;
    if (file->lock != NULL && file->lock != owner)
        return E_LOCKED;
    file->lock = owner;
    return 0;
}

static int sim_lock_fd(struct io *io, int fd)
{
    int failure = injected_call(io, IO_SIM_LOCK_FD, NULL, fd);
    return failure ? failure : perform_lock_fd(io, fd);
}

static int perform_lock_file(struct io *io, const char *path)
{
    struct io_sim *sim = sim_of(io);
    struct sim_file *file = sim_disk_find(sim->disk, path);
    if (file == NULL)
        file = sim_disk_create(sim->disk, path, false);
    int fd = fd_new(sim, file, O_RDWR);
    int status = perform_lock_fd(io, fd);
    if (status == 0)
        return fd;
    (void)perform_close(sim, &(struct io_op){.fd = fd});
    return status;
}

static int perform_allocate(struct io *io, int fd, uint64_t size_bytes)
{
    struct io_sim *sim = sim_of(io);
    struct sim_file *file = file_of(sim, fd);
    if (file == NULL || sim->dead)
        return E_INVALID;
    if (!sim_disk_allocate(sim->disk, file, 0, size_bytes))
        return E_NO_SPACE;
    sim_file_extend(sim->disk, file, size_bytes);
    return 0;
}

static int sim_mkdir(struct io *io, const char *path)
{
    int failure = injected_call(io, IO_SIM_MKDIR, path, -1);
    if (failure)
        return failure;
    uint32_t owner = outside(sim_of(io));
    int result = perform_mkdir(io, path);
    trace_call(sim_of(io), IO_SIM_MKDIR, path, 0, result);
    inside(sim_of(io), owner);
    return result;
}

static int sim_lock_file(struct io *io, const char *path)
{
    int failure = injected_call(io, IO_SIM_LOCK_FILE, path, -1);
    if (failure)
        return failure;
    uint32_t owner = outside(sim_of(io));
    int result = perform_lock_file(io, path);
    trace_call(sim_of(io), IO_SIM_LOCK_FILE, path, 0, result);
    inside(sim_of(io), owner);
    return result;
}

static int sim_allocate(struct io *io, int fd, uint64_t size_bytes)
{
    int failure = injected_call(io, IO_SIM_ALLOCATE, NULL, fd);
    if (failure)
        return failure;
    uint32_t owner = outside(sim_of(io));
    int result = perform_allocate(io, fd, size_bytes);
    trace_call(sim_of(io), IO_SIM_ALLOCATE, NULL, size_bytes, result);
    inside(sim_of(io), owner);
    return result;
}
