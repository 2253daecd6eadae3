/* OFFSETS requests under way: those that search by timestamp may have to read indexes from disk. */
#ifndef SLUICE_BROKER_OFFSETS_JOB_H
#define SLUICE_BROKER_OFFSETS_JOB_H

#include "broker/shard.h"

#define OFFSETS_JOBS_MAX 64 // at once per shard; more are answered OVERLOADED

struct offsets_jobs *offsets_jobs_new(void); // NULL: out of memory
void offsets_jobs_free(struct offsets_jobs *jobs);
/* Goes on with those that wait for a search. Returns work done. */
int offsets_jobs_turn(struct offsets_jobs *jobs);

#endif
