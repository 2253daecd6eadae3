/* The mesh: order, credits, full rings, and what comes from outside. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "broker/mailbox.h"

#define CORES 3

static struct mesh *mesh;
static struct io *io;
static struct mailbox boxes[CORES];

struct seen {
    struct request *requests[2 * MESH_RING_SLOTS];
    struct request *replies[2 * MESH_RING_SLOTS];
    struct inbox_message inbox[2 * INBOX_SLOTS];
    char order[64]; // q = request, p = reply
    uint32_t request_count, reply_count, inbox_count, order_count;
};
static struct seen seen[CORES];

static void on_request(void *context, struct request *request)
{
    struct seen *s = context;
    s->requests[s->request_count++] = request;
    if (s->order_count < sizeof(s->order))
        s->order[s->order_count++] = 'q';
}

static void on_reply(void *context, struct request *request)
{
    struct seen *s = context;
    s->replies[s->reply_count++] = request;
    if (s->order_count < sizeof(s->order))
        s->order[s->order_count++] = 'p';
}

static void on_inbox(void *context, const struct inbox_message *message)
{
    struct seen *s = context;
    s->inbox[s->inbox_count++] = *message;
}

static int drain(uint16_t core)
{
    struct mailbox_handler handler = {&seen[core], on_request, on_reply, on_inbox};
    return mailbox_drain(&boxes[core], &handler);
}

static void drain_all(uint16_t core)
{
    while (drain(core) > 0)
        continue;
}

static void set_up(void)
{
    mesh = mesh_new(CORES);
    cr_assert_not_null(mesh);
    cr_assert_eq(io_new(&(struct io_options){.backend = IO_BACKEND_EPOLL, .ops_max = 64}, &io), 0);
    for (uint16_t i = 0; i < CORES; i++) {
        mesh_set_io(mesh, i, io);
        cr_assert_eq(mailbox_init(&boxes[i], mesh, i), 0);
    }
}

static void tear_down(void)
{
    for (uint16_t i = 0; i < CORES; i++)
        mailbox_deinit(&boxes[i]);
    mesh_free(mesh);
    io_free(io);
}

TestSuite(mailbox, .init = set_up, .fini = tear_down);

static struct request *request_new(uint16_t from, uint16_t to, uint64_t number)
{
    struct request *request = calloc(1, sizeof(*request));
    list_init(&request->link);
    request->magic = REQUEST_MAGIC;
    request->origin_core = from;
    request->target_core = to;
    request->correlation = number;
    return request;
}

static void free_replies(uint16_t core)
{
    for (uint32_t i = 0; i < seen[core].reply_count; i++)
        free(seen[core].replies[i]);
    seen[core].reply_count = 0;
}

Test(mailbox, a_request_goes_there_and_comes_back)
{
    struct request *request = request_new(0, 1, 42);
    cr_assert_eq(mailbox_send(&boxes[0], request), 0);
    cr_assert_eq(boxes[0].touched, 2);
    cr_assert(!mailbox_is_idle(&boxes[1]));
    cr_assert(mailbox_is_idle(&boxes[2]));
    cr_assert_eq(drain(1), 1);
    cr_assert_eq(seen[1].requests[0], request);
    cr_assert(!request->is_reply);
    mailbox_reply(&boxes[1], request);
    cr_assert_eq(drain(0), 1);
    cr_assert_eq(seen[0].replies[0], request);
    cr_assert(request->is_reply);
    cr_assert(mailbox_is_idle(&boxes[0]) && mailbox_is_idle(&boxes[1]));
    free_replies(0);
}

Test(mailbox, what_a_core_sends_itself_comes_back_in_order_and_without_limit)
{
    uint32_t count = MESH_RING_SLOTS + 100;
    for (uint32_t i = 0; i < count; i++)
        cr_assert_eq(mailbox_send(&boxes[2], request_new(2, 2, i)), 0);
    cr_assert_eq(mailbox_credits(&boxes[2], 2), UINT32_MAX);
    cr_assert_eq(drain(2), MAIL_DRAIN_MAX, "a drain is bounded");
    drain_all(2);
    cr_assert_eq(seen[2].request_count, count);
    for (uint32_t i = 0; i < count; i++) {
        cr_assert_eq(seen[2].requests[i]->correlation, i);
        mailbox_reply(&boxes[2], seen[2].requests[i]);
    }
    drain_all(2);
    cr_assert_eq(seen[2].reply_count, count);
    free_replies(2);
}

Test(mailbox, the_ring_is_full_after_its_slots_and_has_room_again_with_each_reply)
{
    struct request *extra = request_new(0, 1, 0);
    for (uint64_t i = 0; i < MESH_RING_SLOTS; i++)
        cr_assert_eq(mailbox_send(&boxes[0], request_new(0, 1, i)), 0);
    cr_assert_eq(mailbox_credits(&boxes[0], 1), 0);
    cr_assert_eq(mailbox_send(&boxes[0], extra), E_FULL);
    cr_assert_eq(drain(1), MAIL_DRAIN_MAX, "a drain is bounded");
    drain_all(1);
    cr_assert_eq(seen[1].request_count, MESH_RING_SLOTS);
    cr_assert_eq(mailbox_send(&boxes[0], extra), E_FULL, "taken out is not answered");
    mailbox_reply(&boxes[1], seen[1].requests[500]); // answers may come in any order
    drain_all(0);
    cr_assert_eq(mailbox_credits(&boxes[0], 1), 1);
    cr_assert_eq(mailbox_send(&boxes[0], extra), 0);
    for (uint32_t i = 0; i < MESH_RING_SLOTS; i++) {
        if (i != 500)
            mailbox_reply(&boxes[1], seen[1].requests[i]);
    }
    drain_all(1);
    mailbox_reply(&boxes[1], extra);
    drain_all(0);
    cr_assert_eq(mailbox_credits(&boxes[0], 1), MESH_RING_SLOTS);
    free_replies(0);
}

Test(mailbox, full_rings_in_both_directions_and_all_answers_at_once_do_not_stall)
{
    for (uint64_t i = 0; i < MESH_RING_SLOTS; i++) {
        cr_assert_eq(mailbox_send(&boxes[0], request_new(0, 1, i)), 0);
        cr_assert_eq(mailbox_send(&boxes[1], request_new(1, 0, i)), 0);
    }
    drain_all(0);
    drain_all(1);
    for (uint32_t i = 0; i < MESH_RING_SLOTS; i++) { // nobody takes anything out meanwhile
        mailbox_reply(&boxes[0], seen[0].requests[i]);
        mailbox_reply(&boxes[1], seen[1].requests[i]);
    }
    drain_all(0);
    drain_all(1);
    cr_assert_eq(seen[0].reply_count, MESH_RING_SLOTS);
    cr_assert_eq(seen[1].reply_count, MESH_RING_SLOTS);
    free_replies(0);
    free_replies(1);
}

Test(mailbox, a_reply_is_delivered_before_a_request_that_was_sent_after_it)
{
    struct request *asked = request_new(0, 1, 1), *own = request_new(1, 0, 2);
    cr_assert_eq(mailbox_send(&boxes[0], asked), 0);
    drain_all(1);
    mailbox_reply(&boxes[1], asked);
    cr_assert_eq(mailbox_send(&boxes[1], own), 0);
    drain_all(0);
    cr_assert_eq(seen[0].order_count, 2);
    cr_assert_eq(memcmp(seen[0].order, "pq", 2), 0);
    mailbox_reply(&boxes[0], own);
    drain_all(1);
    free_replies(0);
    free_replies(1);
}

Test(mailbox, a_handler_that_sends_to_its_own_core_does_not_keep_the_drain_going)
{
    struct request *request = request_new(1, 1, 1);
    cr_assert_eq(mailbox_send(&boxes[1], request), 0);
    cr_assert_eq(drain(1), 1);
    mailbox_reply(&boxes[1], request);
    cr_assert_eq(drain(1), 1);
    cr_assert_eq(seen[1].reply_count, 1);
    free_replies(1);
}

Test(mailbox, orders_from_outside_arrive_until_the_inbox_is_full)
{
    uint32_t posted = 0;
    while (mailbox_post(&boxes[0], &(struct inbox_message){.kind = INBOX_DRAIN, .value = posted}))
        posted++;
    cr_assert_eq(posted, INBOX_SLOTS);
    cr_assert(!mailbox_is_idle(&boxes[0]));
    drain_all(0);
    cr_assert_eq(seen[0].inbox_count, INBOX_SLOTS);
    for (uint64_t i = 0; i < INBOX_SLOTS; i++) {
        cr_assert_eq(seen[0].inbox[i].kind, INBOX_DRAIN);
        cr_assert_eq(seen[0].inbox[i].value, i);
    }
    cr_assert(mailbox_post(&boxes[0], &(struct inbox_message){.kind = INBOX_EXIT}));
    drain_all(0);
}

Test(mailbox, a_sleeping_core_is_woken_once_per_flush)
{
    struct request *request = request_new(0, 1, 1);
    cr_assert_eq(mailbox_send(&boxes[0], request), 0);
    io_prepare_wait(io);
    mailbox_flush(&boxes[0]);
    cr_assert_eq(boxes[0].touched, 0);
    cr_assert_eq(io_poll(io, 10 * NS_PER_S), 0, "must return at once");
    drain_all(1);
    mailbox_reply(&boxes[1], request);
    drain_all(0);
    free_replies(0);
}
