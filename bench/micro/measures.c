/* What measuring costs: a histogram's sample, a moment of the schedule, the clock, a stamped value. */
#include "base/clock.h"
#include "base/histogram.h"
#include "base/random.h"
#include "bench/engine/checker.h"
#include "bench/engine/schedule.h"
#include "bench/micro/micro.h"

static struct histogram histogram;
static struct content content;
static struct checker checker;

static uint64_t histogram_run(uint64_t count, uint64_t *ns)
{
    uint64_t value = 12345;
    *ns = 0;
    for (uint64_t i = 0; i < count; i++) {
        value = value * 6364136223846793005u + 1442695040888963407u;
        histogram_add(&histogram, value >> 44); // up to a millisecond
    }
    return count;
}

static uint64_t schedule_run(uint64_t count, uint64_t *ns)
{
    struct schedule schedule;
    *ns = 0;
    schedule_init(&schedule, 0, 1e6, 0, true, 1);
    for (uint64_t i = 0; i < count; i++)
        schedule_advance(&schedule);
    micro_use(schedule_due(&schedule));
    return count;
}

static uint64_t clock_run(uint64_t count, uint64_t *ns)
{
    *ns = 0;
    for (uint64_t i = 0; i < count; i++)
        micro_use(clock_mono_ns(clock_system()));
    return count;
}

static int content_open(void)
{
    if (content_init(&content, 1024, false))
        return -1;
    return checker_init(&checker, 4 * MIB);
}

static void content_close(void)
{
    content_deinit(&content);
    checker_deinit(&checker);
}

static struct stamp stamp_of(uint64_t number)
{
    return (struct stamp){.magic = STAMP_MAGIC, .run = le32_make(1), .sequence = le64_make(number)};
}

static uint64_t stamp_run(uint64_t count, uint64_t *ns)
{
    *ns = 0;
    for (uint64_t i = 0; i < count; i++) {
        struct stamp stamp = stamp_of(i);
        micro_use((uintptr_t)content_value(&content, &stamp, i));
    }
    return count;
}

/* Making is in it: the values that are checked must be right. */
static uint64_t check_run(uint64_t count, uint64_t *ns)
{
    *ns = 0;
    for (uint64_t i = 0; i < count; i++) {
        struct stamp stamp = stamp_of(i), found;
        const uint8_t *value = content_value(&content, &stamp, i);
        ASSERT(checker_check(&checker, 0, i, value, 1024, &found) == 0);
    }
    ASSERT(checker.damaged == 0);
    return count;
}

static const struct micro_case cases[] = {
    {"histogram", "sample", NULL, histogram_run, NULL},
    {"poisson", "record", NULL, schedule_run, NULL},
    {"clock", "look", NULL, clock_run, NULL},
    {"stamp_1024", "record", content_open, stamp_run, content_close},
    {"stamp_and_check_1024", "record", content_open, check_run, content_close},
};

const struct micro_group micro_measures = {"measures", cases, ARRAY_COUNT(cases)};
