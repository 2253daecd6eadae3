/* The mesh of rings between cores, and one core's end of it.
 *
 * For the pair (from, to) there are two rings, both filled by `from` and emptied by `to`:
 *
 *     requests(from, to)   what `from` asks of `to`; at most MESH_RING_SLOTS unanswered
 *     replies(from, to)    answers of `from` to what `to` had asked; as many slots, so they fit
 *
 * A credit is taken when a request is sent and given back when its reply is taken out. What a core
 * sends itself goes through a list, in order, and needs neither.
 *
 * Failure modes: none but FULL. The inbox may be full, too; its senders are no cores and try
 * again. */
#include "broker/mailbox.h"

#include <stdlib.h>

#include "base/plant.h"

struct mesh_pair {
    struct ring_spsc requests;
    struct ring_spsc replies;
};

struct mesh {
    uint16_t core_count;
    uint8_t *slots;          // of all rings
    struct mesh_pair *pairs; // [from * core_count + to]
    struct io *io[CORES_MAX];
};

#define RING_BYTES ((size_t)MESH_RING_SLOTS * sizeof(struct request *))

static struct mesh_pair *pair_of(const struct mesh *mesh, uint16_t from, uint16_t to);
static void push(struct ring_spsc *ring, struct request *request);
static int drain_local(struct mailbox *mailbox, const struct mailbox_handler *handler);
static int drain_core(struct mailbox *mailbox, uint16_t from,
                      const struct mailbox_handler *handler);
static int drain_inbox(struct mailbox *mailbox, const struct mailbox_handler *handler);
static void deliver(struct mailbox *mailbox, struct request *request,
                    const struct mailbox_handler *handler);

/* ---- mesh ---- */

struct mesh *mesh_new(uint16_t core_count)
{
    ASSERT(core_count >= 1 && core_count <= CORES_MAX);
    size_t pair_count = (size_t)core_count * core_count;
    struct mesh *mesh = calloc(1, sizeof(*mesh));
    if (!mesh)
        return NULL;
    mesh->core_count = core_count;
    mesh->pairs = aligned_alloc(CACHE_LINE, pair_count * sizeof(*mesh->pairs));
    mesh->slots = aligned_alloc(CACHE_LINE, pair_count * 2 * RING_BYTES);
    if (!mesh->pairs || !mesh->slots) {
        mesh_free(mesh);
        return NULL;
    }
    for (size_t i = 0; i < pair_count; i++) {
        uint8_t *slots = mesh->slots + i * 2 * RING_BYTES;
        ring_spsc_init(&mesh->pairs[i].requests, slots, MESH_RING_SLOTS, sizeof(struct request *),
                       0);
        ring_spsc_init(&mesh->pairs[i].replies, slots + RING_BYTES, MESH_RING_SLOTS,
                       sizeof(struct request *), 0);
    }
    return mesh;
}

void mesh_free(struct mesh *mesh)
{
    if (!mesh)
        return;
    free(mesh->pairs);
    free(mesh->slots);
    free(mesh);
}

size_t mesh_bytes(uint16_t core_count)
{
    return (size_t)core_count * core_count * (2 * RING_BYTES + sizeof(struct mesh_pair));
}

void mesh_set_io(struct mesh *mesh, uint16_t core, struct io *io)
{
    ASSERT(core < mesh->core_count);
    mesh->io[core] = io;
}

static struct mesh_pair *pair_of(const struct mesh *mesh, uint16_t from, uint16_t to)
{
    return &mesh->pairs[(size_t)from * mesh->core_count + to];
}

/* ---- one core's end ---- */

int mailbox_init(struct mailbox *mailbox, struct mesh *mesh, uint16_t self)
{
    ASSERT(self < mesh->core_count);
    *mailbox = (struct mailbox){.core_count = mesh->core_count, .self = self, .mesh = mesh};
    list_init(&mailbox->local);
    for (uint16_t core = 0; core < mesh->core_count; core++)
        mailbox->credits[core] = MESH_RING_SLOTS;
    mailbox->inbox = ring_mpsc_new(INBOX_SLOTS, sizeof(struct inbox_message), 0);
    return mailbox->inbox ? 0 : E_NO_MEMORY;
}

void mailbox_deinit(struct mailbox *mailbox)
{
    ring_mpsc_free(TAKE(mailbox->inbox));
}

uint32_t mailbox_credits(const struct mailbox *mailbox, uint16_t target_core)
{
    ASSERT(target_core < mailbox->core_count);
    return target_core == mailbox->self ? UINT32_MAX : mailbox->credits[target_core];
}

int mailbox_send(struct mailbox *mailbox, struct request *request)
{
    uint16_t target = request->target_core;
    ASSERT(request->magic == REQUEST_MAGIC && request->origin_core == mailbox->self);
    ASSERT(target < mailbox->core_count);
    request->is_reply = false;
    if (target == mailbox->self) {
        list_push_back(&mailbox->local, &request->link);
        return 0;
    }
    if (mailbox->credits[target] == 0)
        return E_FULL;
    mailbox->credits[target]--;
    push(&pair_of(mailbox->mesh, mailbox->self, target)->requests, request);
    mailbox->touched |= (uint64_t)1 << target;
    return 0;
}

void mailbox_reply(struct mailbox *mailbox, struct request *request)
{
    uint16_t home = request->origin_core;
    ASSERT(request->magic == REQUEST_MAGIC && request->target_core == mailbox->self);
    ASSERT(!request->is_reply && home < mailbox->core_count);
    request->is_reply = true;
    if (home == mailbox->self) {
        list_push_back(&mailbox->local, &request->link);
        return;
    }
    push(&pair_of(mailbox->mesh, mailbox->self, home)->replies, request);
    mailbox->touched |= (uint64_t)1 << home;
}

int mailbox_drain(struct mailbox *mailbox, const struct mailbox_handler *handler)
{
    int count = drain_local(mailbox, handler);
    for (uint16_t core = 0; core < mailbox->core_count; core++) {
        if (core != mailbox->self)
            count += drain_core(mailbox, core, handler);
    }
    return count + drain_inbox(mailbox, handler);
}

bool mailbox_is_idle(struct mailbox *mailbox)
{
    if (!list_is_empty(&mailbox->local) || !ring_mpsc_is_empty(mailbox->inbox))
        return false;
    for (uint16_t core = 0; core < mailbox->core_count; core++) {
        struct mesh_pair *pair = pair_of(mailbox->mesh, core, mailbox->self);
        if (core != mailbox->self &&
            (ring_spsc_peek(&pair->requests) || ring_spsc_peek(&pair->replies)))
            return false;
    }
    return true;
}

bool mailbox_post(struct mailbox *mailbox, const struct inbox_message *message)
{
    if (!ring_mpsc_push(mailbox->inbox, message))
        return false;
    struct io *io = mailbox->mesh->io[mailbox->self];
    if (io_sleeping(io))
        io_wake(io, NULL);
    return true;
}

void mailbox_flush(struct mailbox *mailbox)
{
    struct mesh *mesh = mailbox->mesh;
    while (mailbox->touched != 0) {
        uint16_t core = (uint16_t)__builtin_ctzll(mailbox->touched);
        mailbox->touched &= mailbox->touched - 1;
        if (io_sleeping(mesh->io[core]))
            io_wake(mesh->io[core], mesh->io[mailbox->self]);
    }
}

/* ---- rings ---- */

/* Credits are what makes room certain. */
static void push(struct ring_spsc *ring, struct request *request)
{
    struct request **slot = ring_spsc_reserve(ring);
    ASSERT(slot);
    *slot = request;
    ring_spsc_commit(ring);
}

/* What the handlers add meanwhile waits for the next turn, or two of them could keep it here for
 * ever. */
static int drain_local(struct mailbox *mailbox, const struct mailbox_handler *handler)
{
    struct list batch;
    int count = 0;
    list_init(&batch);
    while (count < MAIL_DRAIN_MAX && !list_is_empty(&mailbox->local)) {
        list_push_back(&batch, list_pop_front(&mailbox->local));
        count++;
    }
    while (!list_is_empty(&batch))
        deliver(mailbox, CONTAINER_OF(list_pop_front(&batch), struct request, link), handler);
    return count;
}

/* Where the requests end is read before the replies are: so what `from` answered before it sent one
 * of these requests is delivered first, and an answer is never overtaken by what it announces. */
static int drain_core(struct mailbox *mailbox, uint16_t from, const struct mailbox_handler *handler)
{
    struct mesh_pair *pair = pair_of(mailbox->mesh, from, mailbox->self);
    /* A1: sees the requests, and all that `from` published before them; pairs with R1 in
     * ring_spsc_commit(). */
    uint64_t end = atomic_load_explicit(&pair->requests.tail, memory_order_acquire);
    uint64_t begin = atomic_load_explicit(&pair->requests.head, memory_order_relaxed);
    int count = 0;
    struct request **slot;
    for (; count < MESH_RING_SLOTS && (slot = ring_spsc_peek(&pair->replies)); count++) {
        struct request *request = *slot;
        ring_spsc_release(&pair->replies);
        ASSERT(mailbox->credits[from] < MESH_RING_SLOTS);
        mailbox->credits[from] += !PLANTED(CREDIT_LEAK);
        deliver(mailbox, request, handler);
    }
    for (int left = (int)min_u64(end - begin, MAIL_DRAIN_MAX); left > 0; left--, count++) {
        slot = ring_spsc_peek(&pair->requests);
        ASSERT(slot);
        struct request *request = *slot;
        ring_spsc_release(&pair->requests);
        deliver(mailbox, request, handler);
    }
    return count;
}

static void deliver(struct mailbox *mailbox, struct request *request,
                    const struct mailbox_handler *handler)
{
    ASSERT(request->magic == REQUEST_MAGIC);
    list_init(&request->link);
    if (request->is_reply) {
        ASSERT(request->origin_core == mailbox->self);
        handler->on_reply(handler->context, request);
    } else {
        ASSERT(request->target_core == mailbox->self);
        handler->on_request(handler->context, request);
    }
}

static int drain_inbox(struct mailbox *mailbox, const struct mailbox_handler *handler)
{
    struct inbox_message message;
    int count = 0;
    while (count < MAIL_DRAIN_MAX && ring_mpsc_pop(mailbox->inbox, &message)) {
        handler->on_inbox(handler->context, &message);
        count++;
    }
    return count;
}
