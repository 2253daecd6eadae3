/* Four cores that send each other requests and answer them in any order, sleeping when there is
 * nothing to do, while an outsider posts into their inboxes. Ends when every core has had all its
 * answers; a lost wake-up shows as time running out.
 *
 * Each request carries its sender's count; a shadow word in memory that only its holder touches is
 * what ThreadSanitizer checks the hand-over by. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/random.h"
#include "broker/mailbox.h"

#define CORES 4
#define REQUESTS_PER_CORE_SENT 60000u
#define POSTS 2000u
#define HELD_MAX 64
#define SECONDS_MAX 120

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                                \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

struct actor {
    pthread_t thread;
    uint16_t index;
    struct mesh *mesh;
    struct io *io;
    struct mailbox mailbox;
    struct random random;
    struct request *held[HELD_MAX]; // of others, to be answered later
    uint32_t held_count;
    uint32_t sent, answered, posts;
    uint64_t next_from[CORES]; // correlation expected from each other core: requests stay in order
    bool is_ending;
};

static struct actor actors[CORES];
static _Atomic uint32_t ready_count, finished_count;
static _Atomic bool first_is_through;

static void answer(struct actor *actor, struct request *request)
{
    request->lsn = request->correlation * 3 + request->origin_core;
    mailbox_reply(&actor->mailbox, request);
}

static void on_request(void *context, struct request *request)
{
    struct actor *actor = context;
    CHECK(request->magic == REQUEST_MAGIC && request->target_core == actor->index);
    CHECK(request->correlation == actor->next_from[request->origin_core]++);
    request->progress += 1; // the shadow word: written by each holder
    if (actor->held_count < HELD_MAX && random_below(&actor->random, 4) == 0)
        actor->held[actor->held_count++] = request;
    else
        answer(actor, request);
}

static void on_reply(void *context, struct request *request)
{
    struct actor *actor = context;
    CHECK(request->origin_core == actor->index && request->progress == 1);
    CHECK(request->lsn == request->correlation * 3 + actor->index);
    actor->answered++;
    free(request);
}

static void on_inbox(void *context, const struct inbox_message *message)
{
    struct actor *actor = context;
    if (message->kind == INBOX_EXIT)
        actor->is_ending = true;
    else
        actor->posts++;
}

static uint64_t sent_to[CORES][CORES];

/* Returns false when the mailbox was full. */
static bool send_one(struct actor *actor)
{
    struct request *request = calloc(1, sizeof(*request));
    CHECK(request);
    list_init(&request->link);
    request->magic = REQUEST_MAGIC;
    request->origin_core = actor->index;
    request->target_core = (uint16_t)random_below(&actor->random, CORES);
    request->correlation = sent_to[actor->index][request->target_core];
    if (mailbox_send(&actor->mailbox, request) != 0) {
        free(request);
        return false;
    }
    sent_to[actor->index][request->target_core]++;
    actor->sent++;
    return true;
}

static int turn(struct actor *actor)
{
    struct mailbox_handler handler = {actor, on_request, on_reply, on_inbox};
    int work = mailbox_drain(&actor->mailbox, &handler);
    uint64_t burst = random_below(&actor->random, 40);
    while (actor->sent < REQUESTS_PER_CORE_SENT && burst-- > 0 && send_one(actor))
        work++;
    while (actor->held_count > 0 && random_below(&actor->random, 3) != 0) {
        uint64_t i = random_below(&actor->random, actor->held_count);
        struct request *request = actor->held[i];
        actor->held[i] = actor->held[--actor->held_count];
        answer(actor, request);
        work++;
    }
    mailbox_flush(&actor->mailbox);
    return work;
}

static void *actor_main(void *argument)
{
    struct actor *actor = argument;
    struct io_options options = {.backend = IO_BACKEND_EPOLL, .ops_max = 64};
    bool finished = false;
    CHECK(io_new(&options, &actor->io) == 0);
    mesh_set_io(actor->mesh, actor->index, actor->io);
    atomic_fetch_add(&ready_count, 1);
    while (atomic_load(&ready_count) < CORES)
        usleep(100);
    while (!actor->is_ending) {
        int work = turn(actor);
        if (!finished && actor->answered == REQUESTS_PER_CORE_SENT) {
            finished = true;
            atomic_fetch_add(&finished_count, 1);
            if (actor->index == 0) {
                atomic_store(&first_is_through, true);
                for (int i = 1; i < CORES; i++)
                    io_wake(actors[i].io, actor->io);
            }
        }
        uint64_t timeout_ns = 0;
        /* Until core 0 is through, the others sleep whenever they can, though they have more to
         * send: core 0 never gets its answers if one of its requests fails to wake them. */
        bool may_sleep = actor->sent == REQUESTS_PER_CORE_SENT ||
                         (actor->index != 0 && !atomic_load(&first_is_through));
        if (work == 0 && actor->held_count == 0 && may_sleep) {
            io_prepare_wait(actor->io);
            timeout_ns = mailbox_is_idle(&actor->mailbox) ? UINT64_MAX : 0;
        }
        (void)io_poll(actor->io, timeout_ns);
    }
    return NULL;
}

static void post(uint16_t core, enum inbox_kind kind)
{
    struct inbox_message message = {.kind = kind};
    while (!mailbox_post(&actors[core].mailbox, &message))
        usleep(10);
}

int main(void)
{
    struct mesh *mesh = mesh_new(CORES);
    CHECK(mesh);
    alarm(SECONDS_MAX);
    for (uint16_t i = 0; i < CORES; i++) {
        actors[i].index = i;
        actors[i].mesh = mesh;
        random_init(&actors[i].random, 4711 + i);
        CHECK(mailbox_init(&actors[i].mailbox, mesh, i) == 0);
    }
    for (uint16_t i = 0; i < CORES; i++)
        CHECK(pthread_create(&actors[i].thread, NULL, actor_main, &actors[i]) == 0);
    while (atomic_load(&ready_count) < CORES)
        usleep(100);
    for (uint32_t i = 0; i < POSTS; i++)
        post((uint16_t)(i % CORES), INBOX_RELOAD);
    while (atomic_load(&finished_count) < CORES)
        usleep(1000);
    for (uint16_t i = 0; i < CORES; i++)
        post(i, INBOX_EXIT);
    for (uint16_t i = 0; i < CORES; i++) {
        CHECK(pthread_join(actors[i].thread, NULL) == 0);
        CHECK(actors[i].posts == POSTS / CORES);
        for (uint16_t other = 0; other < CORES; other++)
            CHECK(mailbox_credits(&actors[i].mailbox, other) ==
                  (other == i ? UINT32_MAX : MESH_RING_SLOTS));
        mailbox_deinit(&actors[i].mailbox);
        io_free(actors[i].io);
    }
    mesh_free(mesh);
    printf("%u requests between %u cores, all answered\n", CORES * REQUESTS_PER_CORE_SENT, CORES);
    return 0;
}
