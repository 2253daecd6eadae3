/* broker/mailbox.c: two cores that send each other requests and sleep when there is nothing to do, and a thread that is no
 * core and posts. The loop of a core is that of broker/core.c: drain, flush, and after a turn without work a last look and sleep. */
#include "broker/mailbox.h"

#include <stdatomic.h>

#include "tests/model/models.h"
#include "tests/model/wake.h"

#define CORES 2

struct actor {
    struct mailbox mailbox;
    struct wake_io *io;
    uint32_t requests, replies, posts; // delivered to it
    uint32_t wanted;                   // deliveries after which it ends
    struct request *announces;         // sent when a request has been answered
};

enum { SAW_SLEEP, SAW_NO_SLEEP };
#define SIGHTS "sleep no-sleep"

static struct request *first, *second;
static bool is_announced;
static struct mesh *mesh;
static struct actor *actors;

static void setup(uint32_t wanted_0, uint32_t wanted_1)
{
    is_announced = false;
    first = second = NULL;
    mesh = mesh_new(CORES);
    actors = model_memory(CORES * sizeof(*actors), CACHE_LINE);
    for (uint16_t core = 0; core < CORES; core++) {
        actors[core].io = wake_io_new();
        mesh_set_io(mesh, core, &actors[core].io->io);
        MODEL_CHECK(mailbox_init(&actors[core].mailbox, mesh, core) == 0);
    }
    actors[0].wanted = wanted_0;
    actors[1].wanted = wanted_1;
}

static struct request *request_new(uint16_t from, uint16_t to)
{
    struct request *request = model_memory(sizeof(*request), CACHE_LINE);
    request->magic = REQUEST_MAGIC;
    request->origin_core = from;
    request->target_core = to;
    return request;
}

/* ---- a core ---- */

static void send(struct actor *actor, struct request *request)
{
    model_call("send");
    MODEL_CHECK(mailbox_send(&actor->mailbox, request) == 0);
}

/* The words of a request belong to who holds it: lsn is written at each station. */
static void on_request(void *context, struct request *request)
{
    struct actor *actor = context;
    actor->requests++;
    request->lsn++;
    MODEL_CHECK(request->target_core == actor->mailbox.self);
    if (request == second && is_announced) // its answer was sent before
        MODEL_CHECK(actor->replies == 1);
    mailbox_reply(&actor->mailbox, request);
    if (actor->announces)
        send(actor, TAKE(actor->announces));
}

static void on_reply(void *context, struct request *request)
{
    struct actor *actor = context;
    actor->replies++;
    MODEL_CHECK(request->lsn == 1 && request->origin_core == actor->mailbox.self);
}

static void on_inbox(void *context, const struct inbox_message *message)
{
    struct actor *actor = context;
    actor->posts++;
    MODEL_CHECK(message->kind == INBOX_RELOAD && message->value == 5);
}

static void run_core(struct actor *actor)
{
    const struct mailbox_handler handler = {actor, on_request, on_reply, on_inbox};
    while (actor->requests + actor->replies + actor->posts < actor->wanted) {
        model_call("drain");
        int work = mailbox_drain(&actor->mailbox, &handler);
        model_call("flush");
        mailbox_flush(&actor->mailbox);
        if (work > 0) {
            (void)io_poll(&actor->io->io, 0);
            continue;
        }
        model_call("prepare_wait");
        io_prepare_wait(&actor->io->io);
        bool is_idle = mailbox_is_idle(&actor->mailbox);
        model_saw(is_idle ? SAW_SLEEP : SAW_NO_SLEEP);
        (void)io_poll(&actor->io->io, is_idle ? UINT64_MAX : 0);
    }
    model_call("flush");
    mailbox_flush(&actor->mailbox);
}

/* ---- harnesses ---- */

/* Core 0 asks, core 1 answers. */
static void ask_setup(void)
{
    setup(1, 1);
    first = request_new(0, 1);
}

static void ask_threads(int self)
{
    if (self == 0)
        send(&actors[0], first);
    run_core(&actors[self]);
}

/* Core 1 answers, then sends a request of its own that must not overtake the answer. */
static void announce_setup(void)
{
    setup(2, 1);
    first = request_new(0, 1);
    second = request_new(1, 0);
    actors[1].announces = second;
    is_announced = true;
}

/* Both ask each other at the same time. */
static void cross_setup(void)
{
    setup(2, 2);
    first = request_new(0, 1);
    second = request_new(1, 0);
}

static void cross_threads(int self)
{
    send(&actors[self], self == 0 ? first : second);
    run_core(&actors[self]);
}

/* Core 0 is posted to by a thread that is no core, while core 1 answers it. */
static void post_setup(void)
{
    setup(2, 1);
    first = request_new(0, 1);
}

static void post_threads(int self)
{
    if (self < CORES) {
        ask_threads(self);
        return;
    }
    struct inbox_message message = {.kind = INBOX_RELOAD, .value = 5};
    model_call("post");
    MODEL_CHECK(mailbox_post(&actors[0].mailbox, &message));
}

static void finish(void)
{
    for (uint16_t core = 0; core < CORES; core++) {
        struct actor *actor = &actors[core];
        MODEL_CHECK(actor->requests + actor->replies + actor->posts == actor->wanted);
    }
}

const struct model mailbox_models[] = {
    {"mailbox_ask", "a request and its answer", 2, ask_setup, ask_threads, finish, NULL, SIGHTS},
    {"mailbox_announce", "an answer is not overtaken by a later request", 2, announce_setup,
     ask_threads, finish, NULL, SIGHTS},
    {"mailbox_cross", "two requests that cross each other", 2, cross_setup, cross_threads, finish,
     NULL, SIGHTS},
    {"mailbox_post", "and a post from outside", 3, post_setup, post_threads, finish, NULL, SIGHTS,
     true},
    {0},
};
