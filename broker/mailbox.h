/* How requests travel: between cores through SPSC rings, on one core through its queue.
 *
 * Between each two cores and direction there is a request ring and a reply ring. Sending a request takes a credit, which is
 * its reply's slot, so a reply never waits and no cycle of full rings can stall. No credit: mailbox_send()
 * says FULL, and the caller stops reading that connection.
 *
 *   struct request * is what a slot holds: ownership goes with it (request.h). */
#ifndef SLUICE_BROKER_MAILBOX_H
#define SLUICE_BROKER_MAILBOX_H

#include "base/io.h"
#include "base/ring_mpsc.h"
#include "base/ring_spsc.h"
#include "broker/request.h"

struct core;

struct mailbox { // one per core
    uint16_t core_count;
    uint16_t self;
    struct mesh *mesh;               // shared by all cores
    uint32_t credits[CORES_MAX];     // requests that may still be sent to each core
    struct list local;               // requests to and replies from this core itself
    struct ring_mpsc *inbox;         // struct inbox_message, from threads that are no core
};

enum inbox_kind { INBOX_DRAIN, INBOX_EXIT, INBOX_RELOAD };
struct inbox_message {
    enum inbox_kind kind;
    uint64_t value;
};

struct mesh;
/* All rings among core_count cores. NULL: out of memory. Thread: main. */
struct mesh *mesh_new(uint16_t core_count);
void mesh_free(struct mesh *mesh);
/* Tells the mesh whose io to wake. Thread: main, before the cores run. */
void mesh_set_io(struct mesh *mesh, uint16_t core, struct io *io);

MUST_USE int mailbox_init(struct mailbox *mailbox, struct mesh *mesh, uint16_t self);
void mailbox_deinit(struct mailbox *mailbox);

/* Hands the request to request->target_core. 0, or FULL (nothing happened). Thread: origin core. */
MUST_USE int mailbox_send(struct mailbox *mailbox, struct request *request);

/* Sends it home. Never fails. Thread: target core. */
void mailbox_reply(struct mailbox *mailbox, struct request *request);

/* Calls on_request / on_reply for what arrived, at most MAIL_DRAIN_MAX from each ring. Returns how many. */
struct mailbox_handler {
    void *context;
    void (*on_request)(void *context, struct request *request);
    void (*on_reply)(void *context, struct request *request);
    void (*on_inbox)(void *context, const struct inbox_message *message);
};
int mailbox_drain(struct mailbox *mailbox, const struct mailbox_handler *handler);
bool mailbox_is_idle(struct mailbox *mailbox); // nothing waits in any ring: may sleep

/* From a thread that is no core: false when the inbox is full (try again). Wakes the core. */
bool mailbox_post(struct mailbox *mailbox, const struct inbox_message *message);

/* Once per turn: wakes the cores that got something and sleep. */
void mailbox_flush(struct mailbox *mailbox);

#endif
