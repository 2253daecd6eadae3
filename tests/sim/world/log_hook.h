/* What happens to the logs of the simulated world, in the place of wal_append() and store_free().
 *
 * Appended: told before the state knows of the entry. So an observer sees, at each LSN, the state that all entries below it make.
 * Freed: told while everything is still there. A killed process frees nothing.
 *
 * Thread: the one that appends or frees, with its memory. */
#ifndef SLUICE_TESTS_LOG_HOOK_H
#define SLUICE_TESTS_LOG_HOOK_H

#include "storage/store.h"
#include "storage/wal.h"

struct log_observer { // NULL: not wanted
    void (*appended)(const struct wal *wal, const struct wal_view *view);
    void (*freed)(struct store *store);
};
void log_observe(struct log_observer observer);

#endif
