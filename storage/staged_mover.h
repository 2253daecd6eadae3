/* Staged batches that hold back the log are copied forward, so that a transaction may stay open for as long as it likes. See
 * staged_mover.c. */
#ifndef SLUICE_STORAGE_STAGED_MOVER_H
#define SLUICE_STORAGE_STAGED_MOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct store;
struct staged_mover;

struct staged_mover *
staged_mover_new(struct store *store); // takes its share of the arena; NULL: no memory
void staged_mover_free(struct staged_mover *mover);
size_t staged_mover_arena_bytes(void);

/* The next bounded step. Returns work done. */
int staged_mover_turn(struct staged_mover *mover);
uint64_t staged_mover_deadline_ns(const struct staged_mover *mover);
bool staged_mover_is_idle(const struct staged_mover *mover); // nothing in flight

struct staged_mover_stats { // totals since open
    uint64_t batches, bytes;
};
struct staged_mover_stats staged_mover_stats(const struct staged_mover *mover);

#endif
