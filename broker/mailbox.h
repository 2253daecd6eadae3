/* How requests travel: between cores through SPSC rings, on one core through its queue.
 *
 * Between each two cores and direction there is a request ring and a reply ring. Sending a request takes a credit, which is
 * its reply's slot, so a reply never waits and no cycle of full rings can stall. No credit: mailbox_send()
 * says FULL, and the caller stops reading that connection.
 *
 * Order: what one core sends another stays in order within a ring, and a reply is delivered before a request
 * that was sent after it. (A request may be delivered after replies that were sent later.)
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
    struct mesh *mesh;           // shared by all cores
    uint32_t credits[CORES_MAX]; // requests that may still be sent to each core
    struct list local;           // requests to and replies from this core itself
    uint64_t touched;            // cores that got something since mailbox_flush(), a bit each
    struct ring_mpsc *inbox;     // struct inbox_message, from threads that are no core
};

enum inbox_kind {
    INBOX_START,  // the store is whole: serve
    INBOX_DRAIN,  // value: until when (monotonic ns)
    INBOX_EXIT,   // value: until when clean ends may take
    INBOX_RELOAD, // SIGHUP
};
struct inbox_message {
    enum inbox_kind kind;
    uint64_t value;
};

struct mesh;
/* All rings among core_count cores. NULL: out of memory. Thread: main. */
struct mesh *mesh_new(uint16_t core_count);
void mesh_free(struct mesh *mesh);
size_t mesh_bytes(uint16_t core_count); // what mesh_new() takes
/* Tells the mesh whose io to wake. Thread: main, before the cores run. */
void mesh_set_io(struct mesh *mesh, uint16_t core, struct io *io);

MUST_USE int mailbox_init(struct mailbox *mailbox, struct mesh *mesh, uint16_t self);
void mailbox_deinit(struct mailbox *mailbox);

/* How many requests to this core would be taken now. Only the origin core's own sends lower it, so what it says
 * holds until then. */
uint32_t mailbox_credits(const struct mailbox *mailbox, uint16_t target_core);

/* Hands the request to request->target_core. 0, or FULL (nothing happened). Thread: origin core. */
MUST_USE int mailbox_send(struct mailbox *mailbox, struct request *request);

/* Sends it home. Never fails. Thread: target core. */
void mailbox_reply(struct mailbox *mailbox, struct request *request);

/* Calls on_request / on_reply for what arrived, at most MAIL_DRAIN_MAX from each ring (all replies, there are at
 * most MESH_RING_SLOTS). Returns how many. */
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
