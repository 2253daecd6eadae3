/* What publish and consume need of a broker before and after the load: connections, the topic, and
 * the broker's own figures. */
#ifndef SLUICE_BENCH_DRIVER_SESSION_H
#define SLUICE_BENCH_DRIVER_SESSION_H

#include "bench/report/report.h"
#include "client/include/sluice.h"

struct session {
    const struct bench_options *options;
    struct sluice_client **clients;
    uint32_t client_count;
    uint32_t partition_count; // as the topic really has
};

/* Connects and makes the topic if it is missing. Returns 0, or -1 after a message. */
MUST_USE int session_open(struct session *session, struct report *report);
void session_close(struct session *session);

/* The visible end of each partition, [partition_count]. Returns 0, or -1 after a message. */
MUST_USE int session_ends(struct session *session, uint64_t *ends);

/* Nothing lost, nothing twice: the topic has grown by exactly so many records, or that is an anomaly. Valid as long as
 * nobody else publishes to it. */
void session_check_growth(struct session *session, const uint64_t *ends_before, uint64_t records,
                          struct report *report);

/* The broker's figures now. A figure that the broker does not report stays unknown. */
void session_figures(struct session *session, struct broker_figures *now);

/* What happened between two calls: differences, and the last rss_bytes. */
void session_figures_between(const struct broker_figures *before,
                             const struct broker_figures *after, struct broker_figures *between);

/* Message on standard error: what failed, the status, the broker's own words. Returns -1. */
int session_fail(const char *what, int status);

#endif
