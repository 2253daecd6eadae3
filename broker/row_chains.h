/* Chains of row numbers: rows that have something in common, found from a number, and taken out anywhere in O(1).
 *
 * `heads` is chosen by a hash or a number (masked); who walks a chain compares. Unlike base/row_map.h it does
 * not mind thousands of rows under one key. Thread: the owner. Memory: at init. */
#ifndef SLUICE_BROKER_ROW_CHAINS_H
#define SLUICE_BROKER_ROW_CHAINS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "storage/table.h"

struct row_links {
    uint32_t next, prev; // TABLE_ROW_NONE: none
};
struct row_chains {
    uint32_t *heads;
    struct row_links *links; // by row
    uint32_t mask;
};

/* head_count: a power of two. False: out of memory; row_chains_deinit() is still right. */
static inline bool row_chains_init(struct row_chains *chains, uint32_t head_count,
                                   uint32_t row_count_max)
{
    ASSERT((head_count & (head_count - 1)) == 0);
    chains->heads = malloc(head_count * sizeof(*chains->heads));
    chains->links = calloc(row_count_max, sizeof(*chains->links));
    chains->mask = head_count - 1;
    if (chains->heads)
        memset(chains->heads, 0xff, head_count * sizeof(*chains->heads));
    return chains->heads && chains->links;
}

static inline void row_chains_deinit(struct row_chains *chains)
{
    free(TAKE(chains->heads));
    free(TAKE(chains->links));
}

static inline uint32_t row_chains_first(const struct row_chains *chains, uint64_t hash)
{
    return chains->heads[(uint32_t)hash & chains->mask];
}

static inline uint32_t row_chains_next(const struct row_chains *chains, uint32_t row)
{
    return chains->links[row].next;
}

static inline void row_chains_add(struct row_chains *chains, uint64_t hash, uint32_t row)
{
    uint32_t *head = &chains->heads[(uint32_t)hash & chains->mask];
    chains->links[row] = (struct row_links){.next = *head, .prev = TABLE_ROW_NONE};
    if (*head != TABLE_ROW_NONE)
        chains->links[*head].prev = row;
    *head = row;
}

static inline void row_chains_remove(struct row_chains *chains, uint64_t hash, uint32_t row)
{
    struct row_links links = chains->links[row];
    if (links.prev == TABLE_ROW_NONE)
        chains->heads[(uint32_t)hash & chains->mask] = links.next;
    else
        chains->links[links.prev].next = links.next;
    if (links.next != TABLE_ROW_NONE)
        chains->links[links.next].prev = links.prev;
}

#endif
