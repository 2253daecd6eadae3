/* What state a shard had at each LSN where its log may end, and what a start made of a log that ends there: the two are the same, or
 * replay is not what happened.
 *
 * A log ends between groups of entries. So the state is noted when the first entry of a group is appended, before it is applied, and
 * when a broker ends, for the end of its log. A start is compared with what an earlier life noted, at whatever of these places its
 * log ends; what lay behind is forgotten then, since other entries come there.
 *
 * Thread: the world's. */
#ifndef SLUICE_TESTS_STATE_LOG_H
#define SLUICE_TESTS_STATE_LOG_H

#include "tests/sim/simulation/sim_broker.h"

/* From here on, for this broker's lives. Ends with state_log_end(). */
void state_log_begin(struct sim_broker *broker);
void state_log_end(void);

/* A broker that serves is about to be killed. (Of one that ends by itself the end is noted without being told.) */
void state_log_note_end(void);
/* To be called when a shard was opened: what recovery gave is compared. Returns its end LSN when the states differ, else UINT64_MAX. */
uint64_t state_log_opened(uint16_t shard);

/* Below it everything was on stable storage when the last life ended, as far as that was noted. */
uint64_t state_log_durable_lsn(uint16_t shard);

/* How many starts of a shard there were, but the first, and how many found a state to be compared with. */
uint32_t state_log_starts(void);
uint32_t state_log_compared(void);

#endif
