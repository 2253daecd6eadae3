/* One image of a disk judged: the real broker is started on it, in a world of its own.
 *
 * It must start. Each shard's log must reach at least as far as it was called committed before the crash, and its state must be,
 * to the bit, what the live state was when the log ended there. Within CHECK_SETTLE_NS no transaction is in doubt any
 * more; then everything that can be read is held against what the clients had been told (contents.h). A second start gives
 * the same again. */
#ifndef SLUICE_TESTS_CRASH_CHECK_H
#define SLUICE_TESTS_CRASH_CHECK_H

#include "tests/sim/crash/contents.h"
#include "tests/sim/crash/trace.h"

#define CHECK_SETTLE_NS (5 * NS_PER_S)

struct check_wish {
    uint64_t seed;
    bool twice;       // a second start
    bool in_recovery; // gives an image of a crash at some moment of this recovery
    uint16_t cores;
};
struct check_outcome {
    uint64_t ends[TRACE_SHARDS_MAX]; // of the logs, as found
    struct sim_disk *crashed;        // in_recovery; NULL: it wrote nothing
    uint32_t crash_things;           // that were not durable then
    bool was_new;                    // there was no store yet
};

/* Takes the disk. Fails (fail()) when the image is not recovered as it must be. `floor`: how far the logs must reach besides
 * (NULL: no more than what was known). */
void check_image(const struct trace *trace, const struct trace_known *known, struct sim_disk *disk,
                 const struct check_wish *wish, const uint64_t *floor,
                 struct check_outcome *outcome);

#endif
