/* The admin port: GET /healthz (the process lives), /readyz (it serves; else 503 and why), /metrics
 * (Prometheus text).
 *
 * On a thread of libmicrohttpd's own, which allocates and makes its own system calls: nothing of
 * the data path runs here, and nothing here waits for the data path. Bounded: connections, time,
 * bytes of headers and body (limits.h). */
#ifndef SLUICE_BROKER_HTTP_H
#define SLUICE_BROKER_HTTP_H

#include "base/address.h"

struct broker;
struct http;

/* Serves at once, before the broker is ready. Returns 0 with *bound, or a status (EXISTS: the
 * address is in use). */
MUST_USE int http_start(struct broker *broker, const struct address *address, struct address *bound,
                        struct http **http);
void http_stop(struct http *http);

#endif
