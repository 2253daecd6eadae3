/* Runs whose disk lies: it gives old blocks or blocks of other places, or writes to other places, and says that all is well.
 * The broker need not survive that, but it must see it wherever the format can show it. Where it can't (docs/testing.md,
 * "A disk that lies") a run ends as well, and is counted.
 *
 * Thread: any of the simulated. */
#ifndef SLUICE_TESTS_LIES_H
#define SLUICE_TESTS_LIES_H

#include <stdio.h>

#include "tests/sim/sim_disk.h"

enum lie_end {    // what became of a run whose disk has lied, by its last lie
    LIE_REFUSED,  // a start was refused, with the file's name
    LIE_READ,     // a consumer was told STORAGE_ERROR
    LIE_ENDED,    // the broker ended by itself
    LIE_BEYOND,   // durable bytes are gone that nothing else in the log proves
    LIE_HARMLESS, // everything came to its end, and all was there
    LIE_ENDS
};

struct lies {             // of one kind
    uint64_t armed;       // one waits for the next operation that suits
    uint64_t struck, bit; // see sim_disk.h
    uint64_t ends[LIE_ENDS];
};
void lies_add(struct lies sum[SIM_LIES], const struct lies more[SIM_LIES]);
void lies_print(const struct lies lies[SIM_LIES], FILE *file);
/* NULL, or what is wrong with the sums of many runs: a kind that never did anything, or never was seen. */
const char *lies_fault(const struct lies lies[SIM_LIES]);

/* The highest LSN below which everything was durable, as the headers of a shard's groups say: those that lie on the disk, but for
 * the blocks about which it has lied. Whoever recovers that shard up to less must say so. */
uint64_t lies_proven_lsn(const struct sim_disk *disk, const char *shard_dir);

#endif
