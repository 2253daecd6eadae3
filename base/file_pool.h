/* Threads that make blocking file calls for the epoll backend.
 *
 * The owner hands over operations; a thread makes the calls of one from beginning to end (partial
 * transfers included) and puts it into the done list with the raw result, then wakes the owner if
 * that sleeps. One mutex, held for a few pointer assignments: on this path a call to the disk
 * follows.
 *
 * A file thread must not be bound to the owner's processor: it would wait for the owner to
 * sleep. */
#ifndef SLUICE_BASE_FILE_POOL_H
#define SLUICE_BASE_FILE_POOL_H

#include <pthread.h>

#include "base/io.h"

#define FILE_POOL_THREADS_MAX 64

struct file_pool {
    struct io *owner; // to be woken
    uint32_t thread_count;
    pthread_t threads[FILE_POOL_THREADS_MAX];

    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t work;
    struct list queued;
    struct list done; // op->result is a count, descriptor, or -errno
    uint32_t idle_count;
    bool stopping;

    _Alignas(CACHE_LINE) _Atomic uint32_t
        done_count; // length of `done`, readable without the mutex
};

/* Returns 0 or NO_MEMORY. */
MUST_USE int file_pool_init(struct file_pool *pool, struct io *owner, uint32_t thread_count);

/* Nothing may be queued. Joins the threads. */
void file_pool_deinit(struct file_pool *pool);

/* Hands over all operations of the list, which is empty afterwards. Thread: owner. */
void file_pool_submit(struct file_pool *pool, struct list *ops);

/* Moves what is done to the end of the list. Thread: owner. */
void file_pool_take_done(struct file_pool *pool, struct list *ops);

#endif
