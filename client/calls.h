/* Calls: requests that have one reply, other than PRODUCE.
 *
 * A call is sent when a connection is up, and completes exactly once: with its reply, with the
 * deadline, or with the connection's or client's end. One that may be repeated without harm
 * (`repeatable`) outlives a connection and is sent again on the next. */
#ifndef SLUICE_CLIENT_CALLS_H
#define SLUICE_CLIENT_CALLS_H

#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "client/include/sluice.h"
#include "proto/cursor.h"
#include "proto/frame.h"

struct call;

/* status: OK with the reply (valid only inside), or a negative sluice_status; for the broker's
 * errors `reply` is the error frame. Thread: I/O. The call may be freed or started again inside. */
typedef void (*call_done_fn)(struct call *call, int status, const struct frame *reply);

struct call {
    struct list link; // in client->calls
    uint16_t op;
    bool repeatable;
    bool sent; // on this connection
    uint64_t correlation;
    uint64_t deadline_ns;
    uint8_t *meta; // owned by whoever made the call
    uint32_t meta_bytes;
    call_done_fn done;
};

/* Thread: I/O. */
void calls_start(struct sluice_client *client, struct call *call);
void calls_cancel(struct call *call); // done() will not run; no effect when it did
void calls_reply(struct sluice_client *client, const struct frame *frame);
void calls_connected(struct sluice_client *client);
void calls_lost(struct sluice_client *client); // the connection broke
void calls_expire(struct sluice_client *client);
void calls_end(struct sluice_client *client, int status); // the client ends
bool calls_are_out(struct sluice_client *client);         // sent and not answered
uint64_t calls_wake_ns(struct sluice_client *client);

static inline bool call_is_active(const struct call *call)
{
    return list_is_linked(&call->link);
}

/* ---- waiting for one: the application's threads ---- */

struct request { // built, sent and waited for by one thread
    struct call call;
    struct sluice_client *client;
    struct writer meta; // write the meta here
    struct frame reply; // after request_wait() returned OK
    uint8_t *reply_bytes;
    char error_text[256];
    uint64_t deadline_ns; // may be set before request_wait(); 0: the client's request timeout
    sem_t finished;       // its own, or each answer would wake every waiter
    int status;
};

/* meta_bytes: room for the meta. Returns OK or NO_MEMORY. */
int request_begin(struct request *request, struct sluice_client *client, enum op op,
                  uint32_t meta_bytes);

/* Sends and waits up to the deadline. Returns OK with request->reply, or an error;
 * the broker's text is in sluice_last_error() then. Not on the I/O thread (INVALID). */
int request_wait(struct request *request);

/* The two halves of it, when somebody else starts the call: OK or INVALID; then, once that is
 * arranged, wait. */
int request_ready(struct request *request);
int request_finish(struct request *request);

/* After request_wait(), in any case. */
void request_end(struct request *request);

/* ---- errors.c ---- */

/* Text for sluice_last_error() of this thread; "" for none. */
void error_set(const char *format, ...) PRINTF_LIKE(1, 2);
int error_from_broker(uint16_t error); // PE_NONE gives OK
int error_from_status(int status);     // of base/status.h

#endif
