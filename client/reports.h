/* Delivery reports: from a batch's result to one call per record. */
#ifndef SLUICE_CLIENT_REPORTS_H
#define SLUICE_CLIENT_REPORTS_H

#include <stdint.h>

#include "client/include/sluice.h"

struct parcel;

/* The parcel has its result. It is reported and released by reports_run() or a poller, in the order
 * of these calls. Thread: I/O. */
void reports_done(struct parcel *parcel, int status, uint64_t offset);

/* Runs what is due, or hands it to pollers. Thread: I/O, at points where everything is consistent.
 */
void reports_run(struct sluice_client *client);

/* Tells threads that wait for memory or reports, when it is worth waking them. Thread: I/O, once a
 * turn. */
void reports_progress(struct sluice_client *client);

/* Runs up to max reports that wait for a poller. Returns how many. Thread: any. */
int reports_poll(struct sluice_producer *producer, int max);

#endif
