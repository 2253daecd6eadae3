/* What waits on which descriptor, for the epoll backend: an array by descriptor number, made in
 * chunks on first use, so that entries never move (they hold list heads) and an idle process stays
 * small.
 *
 * Thread: the owner. */
#ifndef SLUICE_BASE_FD_TABLE_H
#define SLUICE_BASE_FD_TABLE_H

#include "base/check.h"
#include "base/list.h"

#define FD_CHUNK_SIZE 1024
#define FD_CHUNK_COUNT 1024 // 2^20 descriptors, the kernel's default fs.nr_open

struct fd_entry {
    struct list readers; // operations that wait for input, in order
    struct list writers; // ... for output
    bool is_registered;  // epoll knows it
};

struct fd_table {
    struct fd_entry *chunks[FD_CHUNK_COUNT];
};

/* The entry of fd, made if missing. NULL when fd is out of range or memory is short. */
struct fd_entry *fd_table_get(struct fd_table *table, int fd);

/* The entry of fd, or NULL when there never was one. */
static inline struct fd_entry *fd_table_find(struct fd_table *table, int fd)
{
    if (fd < 0 || fd >= FD_CHUNK_SIZE * FD_CHUNK_COUNT || !table->chunks[fd / FD_CHUNK_SIZE])
        return NULL;
    return &table->chunks[fd / FD_CHUNK_SIZE][fd % FD_CHUNK_SIZE];
}

void fd_table_deinit(struct fd_table *table);

#endif
