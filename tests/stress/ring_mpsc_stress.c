/* Many threads at one MPSC ring: ring_mpsc_stress [PRODUCERS 1..128 [SECONDS]]
 *
 * Without arguments 1, 2, 8, 32 and 128 producers run for about two seconds together. Each producer
 * numbers its messages; the consumer demands of each producer exactly the next number, so loss,
 * doubling and reordering fail, and a check word finds torn messages. Everybody gives up the
 * processor at random; rings are small, so that full and empty occur all the time. In the end the
 * sums of both sides must agree. Counts start where the 64 bits wrap. */
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/random.h"
#include "base/ring_mpsc.h"

#define PRODUCER_COUNT_MAX 128
#define WRAP_AFTER 1000 // messages

struct message {
    uint32_t producer;
    uint32_t salt;
    uint64_t number;
    uint64_t check; // of the others
};

struct producer {
    pthread_t thread;
    uint32_t index;
    uint64_t pushed;   // read after the join
    uint64_t expected; // consumer: next number
};

static struct ring_mpsc *ring;
static struct producer producers[PRODUCER_COUNT_MAX];
static _Atomic bool stopping;

static uint64_t run(uint32_t producer_count, uint32_t slot_count, uint64_t duration_ns);
static void start(uint32_t producer_count);
static uint64_t consume_until(uint32_t producer_count, uint64_t end_ns, struct random *random);
static uint64_t finish(uint32_t producer_count);
static bool consume_one(uint32_t producer_count);
static void *produce(void *context);
static uint64_t check_of(const struct message *message);
static void yield_sometimes(struct random *random);
static void fail(const char *what, uint64_t expected, uint64_t found);

int main(int argc, char **argv)
{
    static const uint32_t all[] = {1, 2, 8, 32, PRODUCER_COUNT_MAX};
    uint64_t chosen = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    uint64_t seconds = argc > 2 ? strtoull(argv[2], NULL, 10) : 2;
    if (argc > 1 && (chosen < 1 || chosen > PRODUCER_COUNT_MAX)) {
        fprintf(stderr, "producers: %s, allowed 1..%d\n", argv[1], PRODUCER_COUNT_MAX);
        return 2;
    }
    alarm((unsigned)seconds + 120); // a ring that hangs fails too
    uint64_t total = 0;
    if (chosen > 0) {
        total = run((uint32_t)chosen, 64, seconds * NS_PER_S);
    } else {
        for (size_t i = 0; i < ARRAY_COUNT(all); i++)
            total += run(all[i], 4u << (2 * i), seconds * NS_PER_S / ARRAY_COUNT(all));
    }
    printf("%" PRIu64 " messages, none lost, in order\n", total);
    return total > WRAP_AFTER ? 0 : 1;
}

static uint64_t run(uint32_t producer_count, uint32_t slot_count, uint64_t duration_ns)
{
    struct random random;
    random_init(&random, 0);
    ring = ring_mpsc_new(slot_count, sizeof(struct message), (uint64_t)0 - WRAP_AFTER);
    ASSERT(ring != NULL);
    atomic_store(&stopping, false);
    start(producer_count);
    uint64_t end_ns = clock_mono_ns(clock_system()) + duration_ns;
    uint64_t popped = consume_until(producer_count, end_ns, &random);
    atomic_store(&stopping, true);
    popped += finish(producer_count);
    if (!ring_mpsc_is_empty(ring) || ring_mpsc_count(ring) != 0 || !ring_mpsc_check(ring))
        fail("left in the ring", 0, ring_mpsc_count(ring));
    ring_mpsc_free(ring);
    return popped;
}

static void start(uint32_t producer_count)
{
    for (uint32_t i = 0; i < producer_count; i++) {
        producers[i] = (struct producer){.index = i};
        ASSERT(pthread_create(&producers[i].thread, NULL, produce, &producers[i]) == 0);
    }
}

static uint64_t consume_until(uint32_t producer_count, uint64_t end_ns, struct random *random)
{
    uint64_t popped = 0;
    while (clock_mono_ns(clock_system()) < end_ns) {
        for (int i = 0; i < 256; i++) {
            bool got = consume_one(producer_count);
            popped += got;
            if (!got)
                sched_yield();
            else
                yield_sometimes(random);
        }
    }
    return popped;
}

/* Producers may be waiting for room: keep popping until each has ended and the ring is empty. */
static uint64_t finish(uint32_t producer_count)
{
    uint64_t popped = 0;
    for (uint32_t i = 0; i < producer_count; i++) {
        while (pthread_tryjoin_np(producers[i].thread, NULL) != 0) {
            bool got = consume_one(producer_count);
            popped += got;
            if (!got)
                sched_yield();
        }
    }
    while (consume_one(producer_count))
        popped++;
    for (uint32_t i = 0; i < producer_count; i++) {
        if (producers[i].expected != producers[i].pushed)
            fail("messages of one producer", producers[i].pushed, producers[i].expected);
    }
    return popped;
}

static bool consume_one(uint32_t producer_count)
{
    struct message message;
    if (!ring_mpsc_pop(ring, &message))
        return false;
    if (message.check != check_of(&message) || message.producer >= producer_count)
        fail("check word", check_of(&message), message.check);
    struct producer *producer = &producers[message.producer];
    if (message.number != producer->expected)
        fail("order", producer->expected, message.number);
    producer->expected++;
    return true;
}

static void *produce(void *context)
{
    struct producer *producer = context;
    struct random random;
    random_init(&random, producer->index + 1);
    uint64_t number = 0;
    while (!atomic_load_explicit(&stopping, memory_order_relaxed)) {
        struct message message = {
            .producer = producer->index,
            .salt = random_u32(&random),
            .number = number,
        };
        message.check = check_of(&message);
        if (ring_mpsc_push(ring, &message))
            number++;
        else
            sched_yield();
        yield_sometimes(&random);
    }
    producer->pushed = number;
    return NULL;
}

static uint64_t check_of(const struct message *message)
{
    uint64_t mixed = ((uint64_t)message->producer << 32 | message->salt) ^ message->number;
    return mixed * UINT64_C(0x9e3779b97f4a7c15) + 1;
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
