/* Unweaving: the background job that makes one archive file of the oldest closed segments. See
 * unweave.c. Used by archive.c only. */
#ifndef SLUICE_STORAGE_UNWEAVE_H
#define SLUICE_STORAGE_UNWEAVE_H

#include <stdbool.h>
#include <stdint.h>

struct archives;
struct unweave;

/* Takes job_bytes of arena. NULL: no memory. */
struct unweave *unweave_new(struct archives *archives);
void unweave_free(struct unweave *unweave);

/* The next bounded step. Returns work done. */
int unweave_turn(struct unweave *unweave);
uint64_t unweave_deadline_ns(const struct unweave *unweave);
bool unweave_is_running(const struct unweave *unweave);

/* Lets go of segments and files. Nothing of it may be in flight. */
void unweave_give_up(struct unweave *unweave);

#endif
