/* What the two halves of the spares share: spares.c (which job), spares_job.c (its steps). */
#ifndef SLUICE_STORAGE_SPARES_PRIVATE_H
#define SLUICE_STORAGE_SPARES_PRIVATE_H

#include "storage/spares.h"

#define SPARES_BACKOFF_NS_MIN (100 * NS_PER_MS)

/* Among the spares already, so that only its zeros are missing. */
static inline bool spares_is_named(const struct segment *segment)
{
    return segment->state == SEGMENT_PREPARING;
}

/* Starts the operation of the current step. False: not now. */
bool spares_step_start(struct spares *spares, const struct spares_load *load);
/* The operation has ended, well or badly: decides what comes next. */
void spares_step_next(struct spares *spares, const struct spares_load *load);
/* Gives the file up, or, if it has a number, leaves it for later; then a pause. */
void spares_back_off(struct spares *spares, const struct spares_load *load, int status,
                     int os_error);
void spares_segment_drop(struct spares *spares, struct segment *segment);

#endif
