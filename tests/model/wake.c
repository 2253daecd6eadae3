/* Sleeping without losing a wake-up: io_prepare_wait(), io_sleeping() and io_wake() of base/io.c, with a ring. A wake-up that is
 * lost shows as an owner that waits for ever. */
#include "tests/model/wake.h"

#include <stdatomic.h>

#include "base/io_private.h"
#include "base/ring_mpsc.h"
#include "base/ring_spsc.h"
#include "tests/model/models.h"

enum { SAW_SLEEP, SAW_NO_SLEEP, SAW_WAKE, SAW_NO_WAKE };
#define SIGHTS "sleep no-sleep wake no-wake"

/* ---- the kernel ---- */

static int kernel_poll(struct io *io, uint64_t timeout_ns)
{
    struct wake_io *wake_io = CONTAINER_OF(io, struct wake_io, io);
    model_call(timeout_ns ? "poll: wait" : "poll");
    if (timeout_ns)
        wake_io->seen = model_await(&wake_io->kicks, wake_io->seen, memory_order_acquire);
    else
        wake_io->seen = atomic_load_explicit(&wake_io->kicks, memory_order_acquire);
    io_awake(io);
    return 0;
}

static void kernel_wake(struct io *io, struct io *from)
{
    (void)from;
    struct wake_io *wake_io = CONTAINER_OF(io, struct wake_io, io);
    atomic_fetch_add_explicit(&wake_io->kicks, 1, memory_order_release);
}

struct wake_io *wake_io_new(void)
{
    static const struct io_ops ops = {.name = "model", .poll = kernel_poll, .wake = kernel_wake};
    struct wake_io *wake_io = model_memory(sizeof(*wake_io), CACHE_LINE);
    wake_io->io.ops = &ops;
    return wake_io;
}

/* ---- an owner and its producers ---- */

static struct wake_io *owner;
static struct ring_mpsc *mpsc;
static struct ring_spsc *spsc;
static _Atomic uint32_t *pending;
static uint32_t expected, per_producer;

static void setup(uint32_t producers, uint32_t pushes)
{
    owner = wake_io_new();
    mpsc = ring_mpsc_new(2, sizeof(uint64_t), 0);
    spsc = model_memory(sizeof(*spsc), CACHE_LINE);
    ring_spsc_init(spsc, model_memory(2 * sizeof(uint64_t), CACHE_LINE), 2, sizeof(uint64_t), 0);
    pending = model_memory(sizeof(*pending), CACHE_LINE);
    per_producer = pushes;
    expected = producers * pushes;
}

static void wake_if_asleep(void)
{
    model_call("sleeping?");
    if (!io_sleeping(&owner->io)) {
        model_saw(SAW_NO_WAKE);
        return;
    }
    model_saw(SAW_WAKE);
    model_call("wake");
    io_wake(&owner->io, NULL);
}

static bool mpsc_take(void)
{
    uint64_t value;
    model_call("pop");
    return ring_mpsc_pop(mpsc, &value);
}

static bool mpsc_has_some(void)
{
    model_call("is_empty");
    return !ring_mpsc_is_empty(mpsc);
}

static bool spsc_take(void)
{
    model_call("peek");
    uint64_t *slot = ring_spsc_peek(spsc);
    if (!slot)
        return false;
    MODEL_CHECK(*slot == 7);
    ring_spsc_release(spsc);
    return true;
}

static bool spsc_has_some(void)
{
    model_call("peek");
    return ring_spsc_peek(spsc) != NULL;
}

/* The turn of a core: work, and after a turn without work a last look and sleep. */
static void own(bool (*take)(void), bool (*has_some)(void))
{
    uint32_t taken = 0;
    while (taken < expected) {
        if (take()) {
            taken++;
            (void)io_poll(&owner->io, 0);
            continue;
        }
        model_call("prepare_wait");
        io_prepare_wait(&owner->io);
        bool again = has_some();
        model_saw(again ? SAW_NO_SLEEP : SAW_SLEEP);
        (void)io_poll(&owner->io, again ? 0 : UINT64_MAX);
    }
}

static void mpsc_threads(int self)
{
    if (self == 0) {
        own(mpsc_take, mpsc_has_some);
        return;
    }
    for (uint32_t i = 0; i < per_producer; i++) {
        uint64_t value = (uint64_t)self;
        model_call("push");
        MODEL_CHECK(ring_mpsc_push(mpsc, &value));
        wake_if_asleep();
    }
}

static void spsc_threads(int self)
{
    if (self == 0) {
        own(spsc_take, spsc_has_some);
        return;
    }
    for (uint32_t i = 0; i < per_producer; i++) {
        model_call("reserve");
        uint64_t *slot = ring_spsc_reserve(spsc);
        MODEL_CHECK(slot);
        *slot = 7;
        ring_spsc_commit(spsc);
        wake_if_asleep();
    }
}

static void one_setup(void)
{
    setup(1, 1);
}

static void two_setup(void)
{
    setup(1, 2);
}

static void pair_setup(void)
{
    setup(2, 1);
}

/* ---- the client's variation: of many senders one pays for the wake-up (client/client.c, restated) ---- */

static void client_own(void)
{
    uint32_t taken = 0;
    while (taken < expected) {
        if (mpsc_take()) {
            taken++;
            continue;
        }
        model_call("prepare_wait");
        io_prepare_wait(&owner->io);
        bool again = mpsc_has_some();
        model_saw(again ? SAW_NO_SLEEP : SAW_SLEEP);
        (void)io_poll(&owner->io, again ? 0 : UINT64_MAX);
        atomic_store(&owner->io.sleeping, 0);
        atomic_store_explicit(pending, 0, memory_order_relaxed);
    }
}

static void client_threads(int self)
{
    if (self == 0) {
        client_own();
        return;
    }
    for (uint32_t i = 0; i < per_producer; i++) {
        uint64_t value = (uint64_t)self;
        model_call("push");
        MODEL_CHECK(ring_mpsc_push(mpsc, &value));
        model_call("sleeping?");
        if (io_sleeping(&owner->io) && atomic_exchange(pending, 1) == 0) {
            model_saw(SAW_WAKE);
            io_wake(&owner->io, NULL);
        } else {
            model_saw(SAW_NO_WAKE);
        }
    }
}

const struct model wake_models[] = {
    {"wake_spsc", "an owner, a producer with 1 message", 2, one_setup, spsc_threads, NULL, NULL,
     SIGHTS},
    {"wake_spsc_2", "an owner, a producer with 2 messages", 2, two_setup, spsc_threads, NULL, NULL,
     SIGHTS},
    {"wake_mpsc", "an owner, a producer with 1 message", 2, one_setup, mpsc_threads, NULL, NULL,
     SIGHTS},
    {"wake_mpsc_2", "an owner, a producer with 2 messages", 2, two_setup, mpsc_threads, NULL, NULL,
     SIGHTS},
    {"wake_mpsc_pair", "an owner, two producers with 1 message each", 3, pair_setup, mpsc_threads,
     NULL, NULL, SIGHTS, true},
    {"wake_client", "the client's wake_pending, two senders", 3, pair_setup, client_threads, NULL,
     NULL, SIGHTS, true},
    {0},
};
