/* One connection to RabbitMQ with one channel. The library is not made for several threads, so each producer and each consumer
 * has a link of its own. */
#ifndef SLUICE_BENCH_DRIVER_RABBITMQ_LINK_H
#define SLUICE_BENCH_DRIVER_RABBITMQ_LINK_H

#include <amqp.h>
#include <amqp_framing.h>
#include <sys/types.h>

#include "bench/driver/driver.h"

#define RABBIT_CHANNEL 1

struct rabbit_link {
    struct driver_session *session;
    amqp_connection_state_t connection; // NULL: not open
    int fd;
    bool is_broken; // nothing more is said over it
};

/* Connects, logs in and opens the channel. */
MUST_USE int rabbit_link_open(struct rabbit_link *link, struct driver_session *session);
void rabbit_link_close(struct rabbit_link *link);

/* Of the call just made, whose answer has been waited for: 0, or DRIVER_FAILED with the server's words noted. */
MUST_USE int rabbit_link_answer(struct rabbit_link *link, const char *what);
/* For calls that give a status of the library. */
MUST_USE int rabbit_link_status(struct rabbit_link *link, const char *what, int status);

/* The next frame that has come: 1, or 0 if there is none, without waiting. A channel or connection that the server closes or blocks
 * is an error. The frame is valid until rabbit_link_release(). */
MUST_USE int rabbit_link_next(struct rabbit_link *link, amqp_frame_t *frame);
void rabbit_link_release(struct rabbit_link *link);

/* Until there is something to read, or with to_write room to write. */
void rabbit_link_wait(struct rabbit_link *link, bool to_write, uint64_t timeout_ns);

/* Writes what fits now. Returns the bytes, or DRIVER_FAILED. */
MUST_USE ssize_t rabbit_link_write(struct rabbit_link *link, const void *bytes, size_t length);

#endif
