/* sluice-ring-bench: what a message through the rings costs.
 *
 *     sluice-ring-bench [MILLIONS]        messages per measurement, default 4
 *
 * SPSC: one producer, one consumer. MPSC: 1, 2, 4 ... 128 producers, one consumer. Each producer sends its own number
 * with its own count; the consumer checks that every producer's counts arrive in order and complete, so a
 * fast wrong answer does not count. With more threads than processors the figures show the price of
 * being preempted, which is what many producers on a small machine get. Exit: 0, or 1 when a message
 * was lost or out of order. */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/ring_mpsc.h"
#include "base/ring_spsc.h"

#define SLOT_COUNT 4096u
#define PRODUCERS_MAX 128u
#define SPINS_MAX 256 // then let somebody else run

struct message {
    uint64_t producer;
    uint64_t count;
};

struct run {
    struct ring_spsc spsc;
    struct ring_mpsc *mpsc; // NULL: SPSC
    uint64_t per_producer;
    uint32_t producer_count;
    _Atomic bool go;
};

struct producer {
    pthread_t thread;
    struct run *run;
    uint32_t index;
};

static double measure(struct run *run, bool *correct);
static void *produce(void *context);
static bool consume(struct run *run);

int main(int argc, char **argv)
{
    double millions = argc > 1 ? atof(argv[1]) : 4;
    if (argc > 2 || millions <= 0 || millions > 1e6) {
        fprintf(stderr, "usage: sluice-ring-bench [MILLIONS]\n");
        return 2;
    }
    uint64_t messages = (uint64_t)(millions * 1e6);
    bool correct = true;
    static struct run run;
    void *slots = aligned_alloc(CACHE_LINE, SLOT_COUNT * sizeof(struct message));
    if (!slots)
        return 1;
    printf("%-6s %9s %12s %10s\n", "ring", "producers", "messages/s", "ns each");
    for (uint32_t count = 0; count <= PRODUCERS_MAX && correct; count = count ? count * 2 : 1) {
        run.producer_count = count ? count : 1;
        run.per_producer = messages / run.producer_count;
        ring_spsc_init(&run.spsc, slots, SLOT_COUNT, sizeof(struct message), 0);
        run.mpsc = count ? ring_mpsc_new(SLOT_COUNT, sizeof(struct message), 0) : NULL;
        if (count && !run.mpsc)
            return 1;
        double seconds = measure(&run, &correct);
        double total = (double)(run.per_producer * run.producer_count);
        printf("%-6s %9u %12.0f %10.1f%s\n", count ? "mpsc" : "spsc", run.producer_count,
               total / seconds, seconds / total * 1e9, correct ? "" : "   WRONG");
        if (run.mpsc)
            ring_mpsc_free(run.mpsc);
    }
    free(slots);
    return correct ? 0 : 1;
}

static double measure(struct run *run, bool *correct)
{
    static struct producer producers[PRODUCERS_MAX];
    struct clock *clock = clock_system();
    atomic_store(&run->go, false);
    for (uint32_t i = 0; i < run->producer_count; i++) {
        producers[i] = (struct producer){.run = run, .index = i};
        if (pthread_create(&producers[i].thread, NULL, produce, &producers[i]) != 0) {
            fprintf(stderr, "sluice-ring-bench: no thread for producer %u\n", i);
            exit(1);
        }
    }
    uint64_t begin = clock_mono_ns(clock);
    atomic_store(&run->go, true);
    *correct = consume(run);
    double seconds = (double)(clock_mono_ns(clock) - begin) / 1e9;
    for (uint32_t i = 0; i < run->producer_count; i++)
        pthread_join(producers[i].thread, NULL);
    return seconds;
}

static void pause_briefly(int *spins)
{
    if (++*spins < SPINS_MAX) {
        __builtin_ia32_pause();
        return;
    }
    *spins = 0;
    sched_yield();
}

static bool push(struct run *run, const struct message *message)
{
    if (run->mpsc)
        return ring_mpsc_push(run->mpsc, message);
    struct message *slot = ring_spsc_reserve(&run->spsc);
    if (!slot)
        return false;
    *slot = *message;
    ring_spsc_commit(&run->spsc);
    return true;
}

static bool pop(struct run *run, struct message *message)
{
    if (run->mpsc)
        return ring_mpsc_pop(run->mpsc, message);
    struct message *slot = ring_spsc_peek(&run->spsc);
    if (!slot)
        return false;
    *message = *slot;
    ring_spsc_release(&run->spsc);
    return true;
}

static void *produce(void *context)
{
    struct producer *producer = context;
    struct message message = {.producer = producer->index};
    int spins = 0;
    while (!atomic_load_explicit(&producer->run->go, memory_order_acquire))
        pause_briefly(&spins);
    for (; message.count < producer->run->per_producer; message.count++) {
        while (!push(producer->run, &message))
            pause_briefly(&spins);
    }
    return NULL;
}

/* All of them are taken, also after a wrong one, so that the producers can end. */
static bool consume(struct run *run)
{
    uint64_t next[PRODUCERS_MAX] = {0};
    uint64_t left = run->per_producer * run->producer_count;
    bool correct = true;
    int spins = 0;
    while (left > 0) {
        struct message message;
        if (!pop(run, &message)) {
            pause_briefly(&spins);
            continue;
        }
        correct &= message.producer < run->producer_count &&
                   next[message.producer % PRODUCERS_MAX]++ == message.count;
        left--;
    }
    return correct;
}
