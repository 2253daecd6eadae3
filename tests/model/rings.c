/* base/ring_spsc.[ch] and base/ring_mpsc.c: every execution of a few pushes and pops.
 *
 * All begin just before the counts wrap. A payload is two words that belong together, written and read as plain memory:
 * one that is seen too early, too late or in halves is a race or a failed check. What is still in the ring when the
 * threads have ended is taken out by finish(), so nothing may be lost or doubled. */
#include "base/ring_mpsc.h"
#include "base/ring_spsc.h"
#include "tests/model/models.h"

#define PUSHES_MAX 8
#define START (UINT64_MAX - 1) // wraps at the second push

struct payload {
    uint32_t value, check;
};

enum { SAW_FULL, SAW_EMPTY, SAW_WRAP, SAW_LATE };
#define SIGHTS "full empty wrap"

static struct payload payload_of(uint32_t value)
{
    return (struct payload){value, ~value};
}

/* ---- SPSC ---- */

static struct ring_spsc *spsc;
static uint32_t pushes, pops, pushed,
    popped; // to do, done. Each belongs to one thread until the end

static void spsc_setup(uint32_t slot_count, uint32_t push_count, uint32_t pop_count)
{
    spsc = model_memory(sizeof(*spsc), CACHE_LINE);
    void *slots = model_memory(slot_count * sizeof(struct payload), CACHE_LINE);
    ring_spsc_init(spsc, slots, slot_count, sizeof(struct payload), START);
    pushes = push_count;
    pops = pop_count;
    pushed = popped = 0;
}

static bool spsc_push(uint32_t value)
{
    model_call("reserve");
    struct payload *slot = ring_spsc_reserve(spsc);
    if (!slot)
        return false;
    *slot = payload_of(value);
    model_call("commit");
    ring_spsc_commit(spsc);
    return true;
}

static bool spsc_pop(uint32_t value)
{
    model_call("peek");
    struct payload *slot = ring_spsc_peek(spsc);
    if (!slot)
        return false;
    MODEL_CHECK(slot->value == value && slot->check == ~value);
    model_call("release");
    ring_spsc_release(spsc);
    return true;
}

static void spsc_produce(void)
{
    for (uint32_t i = 0; i < pushes; i++) {
        if (!spsc_push(pushed)) {
            model_saw(SAW_FULL);
            continue;
        }
        pushed++;
        if (pushed > 2)
            model_saw(SAW_WRAP);
    }
}

static void spsc_consume(void)
{
    for (uint32_t i = 0; i < pops; i++) {
        if (spsc_pop(popped))
            popped++;
        else
            model_saw(SAW_EMPTY);
    }
}

/* Publishes two slots one after the other, then looks whether there is room again; the reader takes what it finds. */
static void spsc_threads(int self)
{
    if (self == 0)
        spsc_produce();
    else
        spsc_consume();
}

static void spsc_finish(void)
{
    MODEL_CHECK(ring_spsc_check(spsc));
    MODEL_CHECK(ring_spsc_count(spsc) == pushed - popped);
    while (spsc_pop(popped))
        popped++;
    MODEL_CHECK(popped == pushed);
    MODEL_CHECK(ring_spsc_count(spsc) == 0 && ring_spsc_check(spsc));
}

static void spsc_2_setup(void)
{
    spsc_setup(2, 5, 5);
}

static void spsc_4_setup(void)
{
    spsc_setup(4, 6, 5);
}

/* A third thread may ask how many there are at any time. */
static void spsc_count_setup(void)
{
    spsc_setup(2, 3, 2);
}

static void spsc_count_threads(int self)
{
    if (self < 2) {
        spsc_threads(self);
        return;
    }
    model_call("count");
    uint64_t count = ring_spsc_count(spsc);
    MODEL_CHECK(count <= 2);
    model_result(0, count);
}

/* No more was ever in it than one, so nobody may be told more. */
static void spsc_count_one_setup(void)
{
    spsc_setup(2, 1, 1);
}

static void spsc_count_one_threads(int self)
{
    if (self < 2) {
        spsc_threads(self);
        return;
    }
    model_call("count");
    MODEL_CHECK(ring_spsc_count(spsc) <= 1);
}

/* ---- MPSC ---- */

#define PRODUCERS_MAX 2

static struct ring_mpsc *mpsc;
static uint32_t mpsc_pushes[PRODUCERS_MAX], mpsc_pops, producers;
static uint32_t mpsc_pushed[PRODUCERS_MAX], mpsc_popped[PRODUCERS_MAX];

static void mpsc_setup(uint32_t slot_count, uint32_t first, uint32_t second, uint32_t pop_count)
{
    mpsc = ring_mpsc_new(slot_count, sizeof(struct payload), START);
    producers = second ? 2 : 1;
    mpsc_pushes[0] = first;
    mpsc_pushes[1] = second;
    mpsc_pops = pop_count;
    for (int i = 0; i < PRODUCERS_MAX; i++)
        mpsc_pushed[i] = mpsc_popped[i] = 0;
}

static void mpsc_produce(uint32_t self)
{
    for (uint32_t i = 0; i < mpsc_pushes[self]; i++) {
        struct payload payload = payload_of(self << 16 | mpsc_pushed[self]);
        model_call("push");
        if (ring_mpsc_push(mpsc, &payload))
            mpsc_pushed[self]++;
        else
            model_saw(SAW_FULL);
    }
}

/* What one producer pushed comes out in its order. */
static bool mpsc_take(void)
{
    struct payload payload;
    model_call("pop");
    if (!ring_mpsc_pop(mpsc, &payload))
        return false;
    uint32_t from = payload.value >> 16;
    MODEL_CHECK(payload.check == ~payload.value && from < producers);
    MODEL_CHECK((payload.value & 0xffff) == mpsc_popped[from]);
    mpsc_popped[from]++;
    if (mpsc_popped[0] + mpsc_popped[1] > 2)
        model_saw(SAW_WRAP);
    return true;
}

static void mpsc_consume(void)
{
    for (uint32_t i = 0; i < mpsc_pops; i++)
        if (!mpsc_take())
            model_saw(SAW_EMPTY);
}

static void mpsc_threads(int self)
{
    if ((uint32_t)self < producers)
        mpsc_produce((uint32_t)self);
    else
        mpsc_consume();
}

static void mpsc_finish(void)
{
    MODEL_CHECK(ring_mpsc_check(mpsc));
    uint32_t left = mpsc_pushed[0] + mpsc_pushed[1] - mpsc_popped[0] - mpsc_popped[1];
    MODEL_CHECK(ring_mpsc_count(mpsc) == left);
    MODEL_CHECK(ring_mpsc_is_empty(mpsc) == (left == 0));
    while (mpsc_take())
        left--;
    MODEL_CHECK(left == 0 && ring_mpsc_check(mpsc) && ring_mpsc_count(mpsc) == 0);
    MODEL_CHECK(mpsc_popped[0] == mpsc_pushed[0] && mpsc_popped[1] == mpsc_pushed[1]);
}

static void mpsc_one_setup(void)
{
    mpsc_setup(2, 4, 0, 4);
}

static void mpsc_2_setup(void)
{
    mpsc_setup(2, 2, 2, 3);
}

static void mpsc_4_setup(void)
{
    mpsc_setup(4, 2, 2, 3);
}

static void mpsc_count_setup(void)
{
    mpsc_setup(2, 1, 1, 2);
}

static void mpsc_count_threads(int self)
{
    if (self < 3) {
        mpsc_threads(self);
        return;
    }
    model_call("count");
    MODEL_CHECK(ring_mpsc_count(mpsc) <= 2);
}

static void mpsc_count_one_setup(void)
{
    mpsc_setup(2, 1, 0, 1);
}

static void mpsc_count_one_threads(int self)
{
    if (self < 2) {
        mpsc_threads(self);
        return;
    }
    model_call("count");
    MODEL_CHECK(ring_mpsc_count(mpsc) <= 1);
}

/* Not empty means that a pop succeeds. */
static void mpsc_empty_threads(int self)
{
    if ((uint32_t)self < producers) {
        mpsc_produce((uint32_t)self);
        return;
    }
    for (uint32_t i = 0; i < mpsc_pops; i++) {
        model_call("is_empty");
        bool empty = ring_mpsc_is_empty(mpsc);
        bool taken = mpsc_take();
        MODEL_CHECK(empty || taken);
        if (empty && taken)
            model_saw(SAW_LATE);
        if (empty && !taken)
            model_saw(SAW_EMPTY);
    }
    model_saw(SAW_FULL);
}

const struct model ring_models[] = {
    {"spsc_2", "2 slots, 5 pushes, 5 pops", 2, spsc_2_setup, spsc_threads, spsc_finish, NULL,
     SIGHTS},
    {"spsc_4", "4 slots, 6 pushes, 5 pops", 2, spsc_4_setup, spsc_threads, spsc_finish, NULL,
     SIGHTS},
    {"spsc_count", "2 slots, 3 pushes, 2 pops, and a count", 3, spsc_count_setup,
     spsc_count_threads, spsc_finish, NULL, SIGHTS},
    {"spsc_count_one", "1 push, 1 pop, and a count", 3, spsc_count_one_setup,
     spsc_count_one_threads, spsc_finish, NULL, NULL},
    {"mpsc_one_producer", "2 slots, 4 pushes, 4 pops", 2, mpsc_one_setup, mpsc_threads, mpsc_finish,
     NULL, SIGHTS},
    {"mpsc_2", "2 slots, 2 producers with 2 pushes, 3 pops", 3, mpsc_2_setup, mpsc_threads,
     mpsc_finish, NULL, SIGHTS},
    {"mpsc_4", "4 slots, 2 producers with 2 pushes, 3 pops", 3, mpsc_4_setup, mpsc_threads,
     mpsc_finish, NULL, NULL},
    {"mpsc_is_empty", "2 slots, 2 producers, is_empty before each pop", 3, mpsc_count_setup,
     mpsc_empty_threads, mpsc_finish, NULL, NULL},
    {"mpsc_count", "2 slots, 2 producers, 2 pops, and a count", 4, mpsc_count_setup,
     mpsc_count_threads, mpsc_finish, NULL, NULL},
    {"mpsc_count_one", "1 push, 1 pop, and a count", 3, mpsc_count_one_setup,
     mpsc_count_one_threads, mpsc_finish, NULL, NULL},
    {0},
};
