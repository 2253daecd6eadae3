/* Two threads at one SPSC ring: ring_spsc_stress [SECONDS, default 2]
 *
 * The producer numbers its messages and repeats the number over the whole slot; the consumer demands
 * the next number each time, in every word. A lost, doubled, reordered or torn message fails, and so
 * does a data race when built with ThreadSanitizer. Both sides give up the processor at random
 * places, also between reserve and commit and between peek and release, so that full and empty rings
 * and every overlap occur. Counts start where the 64 bits wrap. */
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/random.h"
#include "base/ring_spsc.h"

#define SLOT_COUNT_MAX 1024
#define SLOT_WORDS 4
#define WRAP_AFTER 5000 // messages

static struct ring_spsc ring;
static alignas(CACHE_LINE) uint64_t slots[SLOT_COUNT_MAX][SLOT_WORDS];
static _Atomic bool stopping;
static uint64_t produced; // read after the join

static uint64_t run(uint32_t slot_count, uint64_t duration_ns);
static void *produce(void *context);
static void *consume(void *context);
static void yield_sometimes(struct random *random);
static void fail(const char *what, uint64_t expected, uint64_t found);

int main(int argc, char **argv)
{
    static const uint32_t slot_counts[] = {2, 4, 64, SLOT_COUNT_MAX};
    uint64_t seconds = argc > 1 ? strtoull(argv[1], NULL, 10) : 2;
    alarm((unsigned)seconds + 120); // a ring that hangs fails too
    uint64_t total = 0;
    for (size_t i = 0; i < ARRAY_COUNT(slot_counts); i++)
        total += run(slot_counts[i], seconds * NS_PER_S / ARRAY_COUNT(slot_counts));
    printf("%" PRIu64 " messages in order\n", total);
    return total > 2 * WRAP_AFTER ? 0 : 1;
}

static uint64_t run(uint32_t slot_count, uint64_t duration_ns)
{
    pthread_t producer, consumer;
    ring_spsc_init(&ring, slots, slot_count, sizeof(slots[0]), (uint64_t)0 - WRAP_AFTER);
    atomic_store(&stopping, false);
    ASSERT(pthread_create(&producer, NULL, produce, NULL) == 0);
    ASSERT(pthread_create(&consumer, NULL, consume, NULL) == 0);
    uint64_t end = clock_mono_ns(clock_system()) + duration_ns;
    while (clock_mono_ns(clock_system()) < end) {
        uint64_t count = ring_spsc_count(&ring);
        if (count > slot_count)
            fail("count seen from outside", slot_count, count);
        usleep(1000);
    }
    atomic_store(&stopping, true);
    pthread_join(producer, NULL);
    pthread_join(consumer, NULL);
    if (ring_spsc_count(&ring) != 0 || !ring_spsc_check(&ring))
        fail("left in the ring", 0, ring_spsc_count(&ring));
    return produced;
}

static void *produce(void *context)
{
    struct random random;
    random_init(&random, 1);
    uint64_t next = 0;
    while (!atomic_load_explicit(&stopping, memory_order_relaxed)) {
        uint64_t *slot = ring_spsc_reserve(&ring);
        if (slot == NULL) {
            sched_yield();
            continue;
        }
        for (int i = 0; i < SLOT_WORDS; i++)
            slot[i] = next;
        yield_sometimes(&random);
        ring_spsc_commit(&ring);
        next++;
    }
    produced = next;
    /* The last message tells the consumer that it is the last. */
    uint64_t *slot;
    while ((slot = ring_spsc_reserve(&ring)) == NULL)
        sched_yield();
    for (int i = 0; i < SLOT_WORDS; i++)
        slot[i] = UINT64_MAX;
    ring_spsc_commit(&ring);
    return NULL;
}

static void *consume(void *context)
{
    struct random random;
    random_init(&random, 2);
    for (uint64_t next = 0;; next++) {
        const uint64_t *slot;
        while ((slot = ring_spsc_peek(&ring)) == NULL)
            sched_yield();
        uint64_t number = slot[0];
        yield_sometimes(&random);
        for (int i = 0; i < SLOT_WORDS; i++) {
            if (slot[i] != number)
                fail("torn or overwritten message", number, slot[i]);
        }
        ring_spsc_release(&ring);
        if (number == UINT64_MAX)
            return NULL;
        if (number != next)
            fail("order", next, number);
    }
}

static void yield_sometimes(struct random *random)
{
    if (random_below(random, 64) == 0)
        sched_yield();
}

static void fail(const char *what, uint64_t expected, uint64_t found)
{
    fprintf(stderr, "%s: expected %" PRIu64 ", found %" PRIu64 "\n", what, expected, found);
    exit(1);
}
