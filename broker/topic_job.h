/* Changes of topics under way, at shard 0.
 *
 *   LOGGING   ENTRY_TOPIC (with its intent: made, altered, dropped) is on its way to the disk
 *   TELLING   every shard has a mail with the range of partitions; waiting for all answers
 *   SETTLING  ENTRY_TOPIC (confirmed, settled) or ENTRY_TOPIC_DROP is on its way to the disk
 *   done      the client is answered
 *
 * Mails go out only when the intent is durable: no owner's log may name a topic that shard 0 could forget. A crash
 * in between leaves an unsettled topic; topic_jobs_resume() tells its owners again.
 *
 * When an owner refuses (it has no place for more partitions), what the change added is taken back: TELLING once more,
 * to drop the partitions behind those that were confirmed before, then SETTLING without them; a topic that was
 * being made goes altogether. Nothing is logged about that beforehand: after a crash in between the same refusal leads
 * to the same end. */
#ifndef SLUICE_BROKER_TOPIC_JOB_H
#define SLUICE_BROKER_TOPIC_JOB_H

#include "broker/shard.h"

#define TOPIC_JOBS_MAX 64 // changes at once; more are answered OVERLOADED

struct topic_jobs *topic_jobs_new(void); // NULL: out of memory
void topic_jobs_free(struct topic_jobs *jobs);

bool topic_jobs_is_full(const struct topic_jobs *jobs);
bool topic_jobs_is_busy(const struct topic_jobs *jobs, uint32_t topic_id);
bool topic_jobs_is_idle(const struct topic_jobs *jobs); // nor does one wait for its turn

/* The intent was appended just now (and so applied). request: answered at the end; NULL at resume. */
void topic_job_begin(struct topic_jobs *jobs, struct shard *shard, uint32_t topic_id,
                     struct request *request);

/* Starts a job for each unsettled topic; more than fit are started as others end. */
void topic_jobs_resume(struct topic_jobs *jobs, struct shard *shard);

/* Once per turn. Returns work done. */
int topic_jobs_turn(struct topic_jobs *jobs, struct shard *shard);

/* A mail came home (core.c routes REQUEST_SHARD replies here). */
void topic_job_on_reply(struct topic_jobs *jobs, struct shard *shard, struct request *mail);

#endif
