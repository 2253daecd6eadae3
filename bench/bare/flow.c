/* The loop of a bare flow. A turn: take what completed, receive into free buffers, write full ones,
 * start a sync round if none is under way, submit everything with one system call and wait for one
 * completion.
 *
 *     free --recv--> full --write--> free, and its bytes count as written
 *     written bytes --fdatasync round--> durable bytes
 *     free --read--> free, when the log is read
 *
 * Buffers are taken from a stack (last freed first), so that few of them are hot in the cache.
 *
 * It can fail at start (no io_uring, no memory) and at any completion (a write or sync error is the
 * end of the measurement). Either way all operations in flight are waited for before buffers go. */
#include "bench/bare/flow.h"

#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/random.h"
#include "bench/engine/place.h"
#include "bench/bare/socket_pair.h"

#define BUFFER_COUNT 32
#define IN_FLIGHT_MAX 16 // writes, or reads
#define RING_ENTRIES 256
#define CONNECTIONS_MAX 16
#define DIRTY_MAX                                                                                  \
    (IN_FLIGHT_MAX + 1) // a write in flight can dirty one file, the last round left one
#define SEND_BUFFER_BYTES (4 * MIB)

enum op { OP_RECV, OP_WRITE, OP_SYNC, OP_READ };

struct sender {
    pthread_t thread;
    int fd;
    int cpu;
    const uint8_t *bytes; // SEND_BUFFER_BYTES
};

struct flow {
    const struct flow_options *options;
    struct io_uring ring;
    bool ring_open;
    struct arena arena;
    uint8_t *send_bytes;
    uint32_t in_flight; // operations of any kind
    int error;          // errno of the first failure

    /* ---- buffers ---- */
    uint8_t *buffers[BUFFER_COUNT];
    uint8_t free[BUFFER_COUNT], full[BUFFER_COUNT]; // stack; ring
    uint32_t free_count, full_head, full_count;

    /* ---- connections ---- */
    struct socket_pair pairs[CONNECTIONS_MAX];
    uint32_t pair_count;
    bool receiving[CONNECTIONS_MAX];
    uint8_t receive_buffer[CONNECTIONS_MAX];
    struct sender senders[CONNECTIONS_MAX];
    uint32_t sender_count; // started
    uint64_t received_bytes;
    bool stopping;

    /* ---- log ---- */
    uint32_t writes_in_flight, syncs_in_flight, reads_in_flight;
    uint32_t file; // being written or read
    uint64_t file_at;
    uint32_t buffer_file[BUFFER_COUNT]; // where a buffer is being written to
    uint64_t written_bytes;             // writes completed
    uint64_t syncing_bytes;             // of them, covered by the round under way
    uint64_t durable_bytes;
    uint64_t read_bytes;
    uint32_t dirty[DIRTY_MAX]; // files with writes completed since their last sync began
    uint32_t dirty_count;
};

static void *receive_main(void *context);
static void *send_main(void *context);
static int flow_open(struct flow *flow);
static int open_ring(struct flow *flow);
static void free_workers(struct flow *flow);
static int open_memory(struct flow *flow);
static int open_connections(struct flow *flow);
static void flow_close(struct flow *flow);
static double flow_run(struct flow *flow);
static void flow_turn(struct flow *flow);
static void flow_drain(struct flow *flow);
static void complete(struct flow *flow, enum op op, uint32_t index, int result);
static void start_receives(struct flow *flow);
static void fill_buffers(struct flow *flow);
static void start_writes(struct flow *flow);
static void start_sync_round(struct flow *flow);
static void start_reads(struct flow *flow);
static uint64_t next_block(struct flow *flow);
static void mark_dirty(struct flow *flow, uint32_t file);
static struct io_uring_sqe *get_sqe(struct flow *flow);
static void tag(struct io_uring_sqe *sqe, enum op op, uint32_t index);

struct receive_job {
    struct flow *flow;
    int status;
    double bytes_per_s;
};

int flow_measure(const struct flow_options *options, double *bytes_per_s)
{
    static struct flow flow;
    flow = (struct flow){.options = options};
    struct receive_job job = {.flow = &flow};
    pthread_t thread;
    int error = pthread_create(&thread, NULL, receive_main, &job);
    if (error) {
        fprintf(stderr, "sluice-bench: limits: pthread_create: %s\n", strerror(error));
        return -1;
    }
    pthread_join(thread, NULL);
    *bytes_per_s = job.bytes_per_s;
    return job.status;
}

/* A thread of its own, so that pinning it leaves the rest of the program where it is. */
static void *receive_main(void *context)
{
    struct receive_job *job = context;
    struct flow *flow = job->flow;
    place_thread(flow->options->cpu_receive);
    job->status = flow_open(flow);
    if (job->status == 0) {
        job->bytes_per_s = flow_run(flow);
        flow_drain(flow);
    }
    if (flow->error) {
        fprintf(stderr, "sluice-bench: limits: bare flow: %s\n", strerror(flow->error));
        job->status = -1;
    }
    flow_close(flow);
    return NULL;
}

static void *send_main(void *context)
{
    struct sender *sender = context;
    place_thread(sender->cpu);
    for (uint64_t at = 0;; at = (at + FLOW_BLOCK_BYTES) % SEND_BUFFER_BYTES) {
        if (socket_send_all(sender->fd, sender->bytes + at, FLOW_BLOCK_BYTES))
            return NULL; // the receiver has had enough
    }
}

/* ---- set-up ---- */

static int flow_open(struct flow *flow)
{
    if (open_ring(flow) || open_memory(flow))
        return -1;
    return flow->options->from_socket ? open_connections(flow) : 0;
}

static int open_ring(struct flow *flow)
{
    struct io_uring_params params = {.flags =
                                         IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
    int result = io_uring_queue_init_params(RING_ENTRIES, &flow->ring, &params);
    if (result == -EINVAL) { // before Linux 6.1
        params = (struct io_uring_params){.flags = 0};
        result = io_uring_queue_init_params(RING_ENTRIES, &flow->ring, &params);
    }
    if (result < 0) {
        fprintf(stderr, "sluice-bench: limits: io_uring: %s\n", strerror(-result));
        return -1;
    }
    flow->ring_open = true;
    (void)io_uring_register_ring_fd(&flow->ring);
    free_workers(flow);
    return 0;
}

/* The workers that run fdatasync must not queue behind this thread on its own processor. They inherit
 * its pinning, and since Linux 6.2 the kernel narrows the mask given here to that, unless nothing
 * would be left: so the processor itself must not be in the mask (measured: pipeline +4 to +24 %). */
static void free_workers(struct flow *flow)
{
    cpu_set_t set;
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    CPU_ZERO(&set);
    for (int cpu = 0; cpu < count && cpu < CPU_SETSIZE; cpu++) {
        if (count == 1 || cpu != flow->options->cpu_receive)
            CPU_SET((size_t)cpu, &set);
    }
    (void)io_uring_register_iowq_aff(&flow->ring, sizeof(set), &set);
}

static int open_memory(struct flow *flow)
{
    if (arena_init(&flow->arena, BUFFER_COUNT * FLOW_BLOCK_BYTES + SEND_BUFFER_BYTES, true)) {
        fprintf(stderr, "sluice-bench: limits: out of memory\n");
        return -1;
    }
    struct random random;
    random_init(&random, 1);
    flow->send_bytes = arena_alloc(&flow->arena, SEND_BUFFER_BYTES, 2 * MIB);
    for (size_t i = 0; i < SEND_BUFFER_BYTES / sizeof(uint64_t); i++)
        ((uint64_t *)flow->send_bytes)[i] = random_u64(&random);
    for (uint32_t i = 0; i < BUFFER_COUNT; i++) {
        flow->buffers[i] = arena_alloc(&flow->arena, FLOW_BLOCK_BYTES, 4 * KIB);
        memcpy(flow->buffers[i], flow->send_bytes + i % 16 * FLOW_BLOCK_BYTES, FLOW_BLOCK_BYTES);
        flow->free[flow->free_count++] = (uint8_t)i;
    }
    return 0;
}

static int open_connections(struct flow *flow)
{
    for (uint32_t i = 0; i < flow->options->connection_count; i++) {
        if (socket_pair_open(&flow->pairs[i]))
            return -1;
        flow->pair_count++;
        struct sender *sender = &flow->senders[i];
        *sender = (struct sender){.fd = flow->pairs[i].send_fd,
                                  .cpu = flow->options->cpu_send,
                                  .bytes = flow->send_bytes};
        int error = pthread_create(&sender->thread, NULL, send_main, sender);
        if (error) {
            fprintf(stderr, "sluice-bench: limits: pthread_create: %s\n", strerror(error));
            return -1;
        }
        flow->sender_count++;
    }
    return 0;
}

static void flow_close(struct flow *flow)
{
    for (uint32_t i = 0; i < flow->pair_count; i++)
        shutdown(flow->pairs[i].receive_fd, SHUT_RDWR);
    for (uint32_t i = 0; i < flow->sender_count; i++)
        pthread_join(flow->senders[i].thread, NULL);
    for (uint32_t i = 0; i < flow->pair_count; i++)
        socket_pair_close(&flow->pairs[i]);
    if (flow->ring_open)
        io_uring_queue_exit(&flow->ring);
    arena_deinit(&flow->arena);
}

/* ---- the loop ---- */

static double flow_run(struct flow *flow)
{
    const struct flow_options *options = flow->options;
    uint64_t *amount = options->is_reading ? &flow->read_bytes
                       : options->wal_set  ? &flow->durable_bytes
                                           : &flow->received_bytes;
    uint64_t begin = now_ns() + options->warm_up_ns, now;
    while ((now = now_ns()) < begin && !flow->error)
        flow_turn(flow);
    uint64_t amount_before = *amount, end = now + options->duration_ns;
    begin = now;
    while ((now = now_ns()) < end && !flow->error)
        flow_turn(flow);
    return (double)(*amount - amount_before) / ((double)(now - begin) / 1e9);
}

static void start_operations(struct flow *flow)
{
    const struct flow_options *options = flow->options;
    if (options->is_reading) {
        start_reads(flow);
        return;
    }
    if (options->from_socket)
        start_receives(flow);
    else
        fill_buffers(flow);
    if (options->wal_set) {
        start_writes(flow);
        start_sync_round(flow);
    }
}

static void flow_turn(struct flow *flow)
{
    start_operations(flow);
    int result = io_uring_submit_and_wait(&flow->ring, 1);
    if (result < 0 && result != -EINTR && result != -EBUSY)
        flow->error = -result;
    struct io_uring_cqe *cqe;
    unsigned head, count = 0;
    io_uring_for_each_cqe(&flow->ring, head, cqe)
    {
        complete(flow, (enum op)(cqe->user_data >> 32), (uint32_t)cqe->user_data, cqe->res);
        count++;
    }
    io_uring_cq_advance(&flow->ring, count);
}

/* Nothing new is started; the receives end because their sockets do. */
static void flow_drain(struct flow *flow)
{
    flow->stopping = true;
    for (uint32_t i = 0; i < flow->pair_count; i++)
        shutdown(flow->pairs[i].receive_fd, SHUT_RDWR);
    while (flow->in_flight > 0) {
        struct io_uring_cqe *cqe;
        int result = io_uring_submit_and_wait(&flow->ring, 1);
        if (result < 0 && result != -EINTR)
            break; // the ring is closed next, which waits too
        while (io_uring_peek_cqe(&flow->ring, &cqe) == 0) {
            complete(flow, (enum op)(cqe->user_data >> 32), (uint32_t)cqe->user_data, cqe->res);
            io_uring_cqe_seen(&flow->ring, cqe);
        }
    }
}

static void complete(struct flow *flow, enum op op, uint32_t index, int result)
{
    flow->in_flight--;
    bool whole = op == OP_SYNC ? result == 0 : result == (int)FLOW_BLOCK_BYTES;
    if (!whole && !flow->stopping && !flow->error)
        flow->error = result < 0 ? -result : EIO;
    switch (op) {
    case OP_RECV:
        flow->receiving[index] = false;
        flow->received_bytes += FLOW_BLOCK_BYTES;
        if (flow->options->wal_set)
            flow->full[(flow->full_head + flow->full_count++) % BUFFER_COUNT] =
                flow->receive_buffer[index];
        else
            flow->free[flow->free_count++] = flow->receive_buffer[index];
        break;
    case OP_WRITE:
        flow->writes_in_flight--;
        flow->written_bytes += FLOW_BLOCK_BYTES;
        flow->free[flow->free_count++] = (uint8_t)index;
        mark_dirty(flow, flow->buffer_file[index]);
        break;
    case OP_READ:
        flow->reads_in_flight--;
        flow->read_bytes += FLOW_BLOCK_BYTES;
        flow->free[flow->free_count++] = (uint8_t)index;
        break;
    case OP_SYNC:
        if (--flow->syncs_in_flight == 0)
            flow->durable_bytes = flow->syncing_bytes;
        break;
    }
}

static void start_receives(struct flow *flow)
{
    for (uint32_t i = 0; i < flow->pair_count && flow->free_count > 0; i++) {
        if (flow->receiving[i])
            continue;
        uint8_t buffer = flow->free[--flow->free_count];
        flow->receiving[i] = true;
        flow->receive_buffer[i] = buffer;
        struct io_uring_sqe *sqe = get_sqe(flow);
        io_uring_prep_recv(sqe, flow->pairs[i].receive_fd, flow->buffers[buffer], FLOW_BLOCK_BYTES,
                           MSG_WAITALL);
        tag(sqe, OP_RECV, i);
    }
}

/* Without a socket every free buffer is a full one: it holds random bytes from the start. */
static void fill_buffers(struct flow *flow)
{
    while (flow->free_count > 0)
        flow->full[(flow->full_head + flow->full_count++) % BUFFER_COUNT] =
            flow->free[--flow->free_count];
}

static void start_writes(struct flow *flow)
{
    const struct wal_set *set = flow->options->wal_set;
    while (flow->full_count > 0 && flow->writes_in_flight < IN_FLIGHT_MAX) {
        uint64_t offset = next_block(flow);
        uint8_t buffer = flow->full[flow->full_head];
        flow->full_head = (flow->full_head + 1) % BUFFER_COUNT;
        flow->full_count--;
        flow->writes_in_flight++;
        flow->buffer_file[buffer] = flow->file;
        struct io_uring_sqe *sqe = get_sqe(flow);
        io_uring_prep_write(sqe, set->fds[flow->file], flow->buffers[buffer], FLOW_BLOCK_BYTES,
                            offset);
        tag(sqe, OP_WRITE, buffer);
    }
}

static void start_reads(struct flow *flow)
{
    const struct wal_set *set = flow->options->wal_set;
    while (flow->reads_in_flight < IN_FLIGHT_MAX) {
        uint64_t offset = next_block(flow);
        uint8_t buffer = flow->free[--flow->free_count];
        flow->reads_in_flight++;
        struct io_uring_sqe *sqe = get_sqe(flow);
        io_uring_prep_read(sqe, set->fds[flow->file], flow->buffers[buffer], FLOW_BLOCK_BYTES,
                           offset);
        tag(sqe, OP_READ, buffer);
    }
}

/* Its offset in flow->file: one behind the other, from file to file, round and round. */
static uint64_t next_block(struct flow *flow)
{
    if (flow->file_at == WAL_FILE_BYTES) {
        flow->file_at = 0;
        flow->file = (flow->file + 1) % flow->options->wal_set->file_count;
    }
    flow->file_at += FLOW_BLOCK_BYTES;
    return flow->file_at - FLOW_BLOCK_BYTES;
}

static void mark_dirty(struct flow *flow, uint32_t file)
{
    for (uint32_t i = 0; i < flow->dirty_count; i++) {
        if (flow->dirty[i] == file)
            return;
    }
    ASSERT(flow->dirty_count < DIRTY_MAX);
    flow->dirty[flow->dirty_count++] = file;
}

/* One fdatasync for each file with completed writes that no earlier round covered: one, at a roll two. */
static void start_sync_round(struct flow *flow)
{
    if (flow->syncs_in_flight > 0 || flow->dirty_count == 0)
        return;
    flow->syncing_bytes = flow->written_bytes;
    while (flow->dirty_count > 0) {
        int fd = flow->options->wal_set->fds[flow->dirty[--flow->dirty_count]];
        struct io_uring_sqe *sqe = get_sqe(flow);
        io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
        tag(sqe, OP_SYNC, 0);
        flow->syncs_in_flight++;
    }
}

/* There is always an entry: what can be in flight is fewer than the ring has. */
static struct io_uring_sqe *get_sqe(struct flow *flow)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&flow->ring);
    ASSERT(sqe);
    flow->in_flight++;
    return sqe;
}

static void tag(struct io_uring_sqe *sqe, enum op op, uint32_t index)
{
    io_uring_sqe_set_data64(sqe, (uint64_t)op << 32 | index);
}
