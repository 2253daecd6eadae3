/* Rings in one thread: the cost without the other side's cache lines. Between threads: sluice-ring-bench. */
#include <stdlib.h>

#include "base/check.h"
#include "base/ring_mpsc.h"
#include "base/ring_spsc.h"
#include "bench/micro/micro.h"

#define SLOT_COUNT 256u
#define SLOT_BYTES 16u
#define TOGETHER 32u // pushed, then popped: the ring is never full nor empty for long

static struct ring_spsc spsc;
static struct ring_mpsc *mpsc;
static void *slots;

static int spsc_open(void)
{
    slots = aligned_alloc(CACHE_LINE, SLOT_COUNT * SLOT_BYTES);
    if (slots == NULL)
        return -1;
    ring_spsc_init(&spsc, slots, SLOT_COUNT, SLOT_BYTES, 0);
    return 0;
}

static uint64_t spsc_run(uint64_t count, uint64_t *ns)
{
    uint64_t sum = 0;
    *ns = 0;
    for (uint64_t done = 0; done < count; done += TOGETHER) {
        for (uint32_t i = 0; i < TOGETHER; i++) {
            *(uint64_t *)ring_spsc_reserve(&spsc) = done + i;
            ring_spsc_commit(&spsc);
        }
        for (uint32_t i = 0; i < TOGETHER; i++) {
            sum += *(const uint64_t *)ring_spsc_peek(&spsc);
            ring_spsc_release(&spsc);
        }
    }
    micro_use(sum);
    return align_up(count, TOGETHER);
}

static void spsc_close(void)
{
    free(slots);
}

static int mpsc_open(void)
{
    mpsc = ring_mpsc_new(SLOT_COUNT, SLOT_BYTES, 0);
    return mpsc ? 0 : -1;
}

static uint64_t mpsc_run(uint64_t count, uint64_t *ns)
{
    uint64_t message[SLOT_BYTES / 8] = {0}, sum = 0;
    *ns = 0;
    for (uint64_t done = 0; done < count; done += TOGETHER) {
        for (uint32_t i = 0; i < TOGETHER; i++) {
            message[0] = done + i;
            ASSERT(ring_mpsc_push(mpsc, message));
        }
        for (uint32_t i = 0; i < TOGETHER; i++) {
            ASSERT(ring_mpsc_pop(mpsc, message));
            sum += message[0];
        }
    }
    micro_use(sum);
    return align_up(count, TOGETHER);
}

static void mpsc_close(void)
{
    ring_mpsc_free(mpsc);
}

static const struct micro_case cases[] = {
    {"spsc", "message", spsc_open, spsc_run, spsc_close},
    {"mpsc", "message", mpsc_open, mpsc_run, mpsc_close},
};

const struct micro_group micro_rings = {"rings", cases, ARRAY_COUNT(cases)};
