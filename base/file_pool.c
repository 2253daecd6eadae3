/* The file threads: take an operation, make its system calls, give it back. See file_pool.h.
 *
 * Failure is a result like any other. EINTR repeats a call that moves bytes, never an fdatasync:
 * what a second one would say is not about the same pages. */
#include "base/file_pool.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "base/io_private.h"

static int start_threads(struct file_pool *pool, uint32_t thread_count);
static void *run(void *argument);
static struct io_op *take_queued(struct file_pool *pool);
static void give_back(struct file_pool *pool, struct io_op *op);
static int32_t execute(struct io_op *op);
static int32_t transfer(struct io_op *op);
static int32_t sync_dir(const char *path);
static int32_t raw_of(int64_t result);

int file_pool_init(struct file_pool *pool, struct io *owner, uint32_t thread_count)
{
    ASSERT(thread_count > 0 && thread_count <= FILE_POOL_THREADS_MAX);
    pool->owner = owner;
    pool->thread_count = 0;
    pool->idle_count = 0;
    pool->stopping = false;
    atomic_init(&pool->done_count, 0);
    list_init(&pool->queued);
    list_init(&pool->done);
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->work, NULL);
    int status = start_threads(pool, thread_count);
    if (status != 0)
        file_pool_deinit(pool);
    return status;
}

void file_pool_deinit(struct file_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    ASSERT(list_is_empty(&pool->queued));
    pool->stopping = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
    for (uint32_t i = 0; i < pool->thread_count; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->mutex);
}

void file_pool_submit(struct file_pool *pool, struct list *ops)
{
    struct list *node;

    pthread_mutex_lock(&pool->mutex);
    /* Each signal takes a sleeper off the count, so that threads which are awake but have not
     * got the mutex yet are not counted twice. */
    while ((node = list_pop_front(ops))) {
        list_push_back(&pool->queued, node);
        if (pool->idle_count > 0) {
            pool->idle_count--;
            pthread_cond_signal(&pool->work);
        }
    }
    pthread_mutex_unlock(&pool->mutex);
}

void file_pool_take_done(struct file_pool *pool, struct list *ops)
{
    struct list *node;

    if (atomic_load_explicit(&pool->done_count, memory_order_acquire) == 0)
        return;
    pthread_mutex_lock(&pool->mutex);
    while ((node = list_pop_front(&pool->done)))
        list_push_back(ops, node);
    atomic_store_explicit(&pool->done_count, 0, memory_order_relaxed);
    pthread_mutex_unlock(&pool->mutex);
}

/* ---- threads ---- */

/* Signals belong to the main thread: the file threads inherit a mask that blocks all. */
static int start_threads(struct file_pool *pool, uint32_t thread_count)
{
    sigset_t all, before;
    int os_error = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool->thread_count < thread_count && os_error == 0) {
        os_error = pthread_create(&pool->threads[pool->thread_count], NULL, run, pool);
        pool->thread_count += os_error == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return os_error == 0 ? 0 : E_NO_MEMORY;
}

static void *run(void *argument)
{
    struct file_pool *pool = argument;
    struct io_op *op;
    cpu_set_t set;

    io_all_processors(&set);
    (void)sched_setaffinity(0, sizeof set, &set); // best effort: a cpuset may forbid it
    pthread_setname_np(pthread_self(), "sluice-file");
    while ((op = take_queued(pool))) {
        op->result = execute(op);
        give_back(pool, op);
    }
    return NULL;
}

/* Waits for an operation. NULL when the pool stops. */
static struct io_op *take_queued(struct file_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    while (list_is_empty(&pool->queued) && !pool->stopping) {
        pool->idle_count++;
        pthread_cond_wait(&pool->work, &pool->mutex);
    }
    struct list *node = list_pop_front(&pool->queued);
    pthread_mutex_unlock(&pool->mutex);
    return node ? IO_OP_OF_LINK(node) : NULL;
}

static void give_back(struct file_pool *pool, struct io_op *op)
{
    pthread_mutex_lock(&pool->mutex);
    list_push_back(&pool->done, &op->link);
    atomic_fetch_add_explicit(&pool->done_count, 1, memory_order_release);
    pthread_mutex_unlock(&pool->mutex);
    if (io_sleeping(pool->owner))
        io_wake(pool->owner, NULL);
}

/* ---- calls ---- */

static int32_t execute(struct io_op *op)
{
    switch (op->kind) {
    case IO_OPEN:
        return raw_of(open(op->path, (int)op->flags, (mode_t)op->mode));
    case IO_CLOSE:
        return close(op->fd) == 0 || errno == EINTR ? 0 : -errno; // gone in both cases
    case IO_READ:
    case IO_WRITE:
        return transfer(op);
    case IO_FDATASYNC:
        return raw_of(fdatasync(op->fd));
    case IO_RENAME:
        return raw_of(rename(op->path, op->path_to));
    case IO_UNLINK:
        return raw_of(unlink(op->path));
    case IO_SYNC_DIR:
        return sync_dir(op->path);
    default:
        ASSERT(!"not a file operation");
        return -EINVAL;
    }
}

static int32_t transfer(struct io_op *op)
{
    int32_t raw;

    do {
        off_t offset = (off_t)(op->offset + op->progress);
        raw = raw_of(op->kind == IO_READ
                         ? pread(op->fd, io_op_rest(op), io_op_rest_len(op), offset)
                         : pwrite(op->fd, io_op_rest(op), io_op_rest_len(op), offset));
    } while (io_op_advance(op, &raw));
    return raw;
}

static int32_t sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int32_t raw = raw_of(fsync(fd));
    close(fd);
    return raw;
}

static int32_t raw_of(int64_t result)
{
    return result < 0 ? -errno : (int32_t)result;
}
