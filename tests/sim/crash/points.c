#include "tests/sim/crash/points.h"

#include <stdlib.h>
#include <string.h>

static const enum sim_fate torn[] = {SIM_FATE_HALF_NEW,      SIM_FATE_HALF_OLD,
                                     SIM_FATE_MIXED,         SIM_FATE_GARBAGE_LEFT,
                                     SIM_FATE_GARBAGE_RIGHT, SIM_FATE_GARBAGE};

static uint32_t choices[POINTS_THINGS_MAX];
static uint8_t fates[POINTS_THINGS_MAX];

static bool is_small(const struct point *point);
static bool makes_durable(const struct trace *trace, uint32_t event);
static void add(struct points *points, struct point_place place);

/* ---- where they are ---- */

/* From one flush to the next things are only added: so the last small place is behind all other small ones. */
void points_find(struct points *points, const struct trace *trace)
{
    struct replay replay;
    struct point point;
    struct point_place early = {0};
    *points = (struct points){0};
    replay_begin(&replay, trace);
    for (uint32_t event = trace->first; event <= trace->count; event++) {
        replay_to(&replay, event);
        point_of(&point, replay.disk);
        struct point_place here = {event, point_image_count(&point), is_small(&point), false};
        if (makes_durable(trace, event)) {
            if (!here.is_small && early.is_early)
                add(points, early);
            add(points, here);
            early.is_early = false;
        } else if (here.is_small) {
            early = here;
            early.is_early = true;
        }
    }
    replay_end(&replay);
}

void points_free(struct points *points)
{
    free(points->places);
    *points = (struct points){0};
}

static void add(struct points *points, struct point_place place)
{
    if (points->count == points->capacity) {
        points->capacity = points->capacity * 2 + 1024;
        points->places = realloc(points->places, points->capacity * sizeof(*points->places));
        ASSERT(points->places != NULL);
    }
    points->places[points->count++] = place;
}

static bool makes_durable(const struct trace *trace, uint32_t event)
{
    if (event == trace->count)
        return true;
    enum sim_event_kind kind = trace->events[event].event.kind;
    return kind == SIM_SYNC || kind == SIM_SYNC_DIR || kind == SIM_TRUNCATE ||
           kind == SIM_LIFE_ENDS;
}

struct trace_known point_known(const struct trace *trace, uint32_t event)
{
    const struct trace_known *here = trace_known_at(trace, event);
    while (!makes_durable(trace, event))
        event++;
    struct trace_known known = *trace_known_at(trace, event);
    known.asked = here->history;
    known.two_phase = here->two_phase;
    return known;
}

/* ---- one of them ---- */

/* A block of zeros over a block of zeros changes nothing, whatever becomes of it. */
static bool changes(const struct sim_file *file, const struct sim_version *version)
{
    const uint8_t *old = version->block < file->block_count ? file->durable[version->block] : NULL;
    if (old == version->bytes)
        return false;
    return !old || !version->bytes || memcmp(old, version->bytes, SIM_BLOCK) != 0;
}

void point_of(struct point *point, const struct sim_disk *disk)
{
    *point = (struct point){.thing_count = sim_disk_things(disk),
                            .dir_op_count = disk->dir_op_count,
                            .choices = choices,
                            .fates = fates};
    ASSERT(point->thing_count <= POINTS_THINGS_MAX);
    uint32_t thing = 0;
    for (; thing < disk->dir_op_count; thing++)
        choices[point->choice_count++] = thing;
    for (uint32_t i = 0; i < disk->files_alive; i++) {
        const struct sim_file *file = disk->files[i];
        for (uint32_t k = 0; k < file->version_count; k++, thing++)
            if (changes(file, &file->versions[k]))
                choices[point->choice_count++] = thing;
    }
}

static bool is_small(const struct point *point)
{
    return point->choice_count <= POINTS_THINGS_ALL;
}

static uint64_t torn_count(const struct point *point)
{
    uint32_t dirs = 0;
    while (dirs < point->choice_count && point->choices[dirs] < point->dir_op_count)
        dirs++;
    return (uint64_t)(point->choice_count - dirs) * ARRAY_COUNT(torn);
}

uint64_t point_image_count(const struct point *point)
{
    uint64_t count = point->choice_count;
    if (is_small(point))
        return (UINT64_C(1) << count) + torn_count(point);
    return 2 + 1 + 4 + POINTS_SAMPLES;
}

void point_fates_by_chance(struct point *point, struct random *random)
{
    memset(point->fates, SIM_FATE_LOST, point->thing_count);
    bool may_tear = random_below(random, 2) == 0;
    uint64_t kept_percent = 10 + random_below(random, 90);
    for (uint32_t i = 0; i < point->choice_count; i++) {
        uint8_t *fate = &point->fates[point->choices[i]];
        if (may_tear && random_below(random, 5) == 0)
            *fate = torn[random_below(random, ARRAY_COUNT(torn))];
        else
            *fate = random_below(random, 100) < kept_percent ? SIM_FATE_KEPT : SIM_FATE_LOST;
    }
}

static void keep(struct point *point, uint32_t choice, enum sim_fate fate)
{
    point->fates[point->choices[choice]] = (uint8_t)fate;
}

/* Subset number `image`; behind them, each block in each way. */
static void small_fates(struct point *point, uint64_t image, struct random *random)
{
    uint64_t subsets = UINT64_C(1) << point->choice_count;
    uint64_t kept = image < subsets ? image : random_u64(random);
    for (uint32_t i = 0; i < point->choice_count; i++)
        keep(point, i, kept >> i & 1 ? SIM_FATE_KEPT : SIM_FATE_LOST);
    if (image < subsets)
        return;
    uint32_t blocks = (uint32_t)(torn_count(point) / ARRAY_COUNT(torn));
    uint64_t which = image - subsets;
    keep(point, point->choice_count - blocks + (uint32_t)(which / ARRAY_COUNT(torn)),
         torn[which % ARRAY_COUNT(torn)]);
}

/* 0: none, 1: all, 2: only the last, 3..6: all but one, then by chance. */
static void large_fates(struct point *point, uint64_t image, struct random *random)
{
    uint32_t count = point->choice_count;
    if (image == 2)
        keep(point, count - 1, SIM_FATE_KEPT);
    if (image > 6)
        point_fates_by_chance(point, random);
    if (image != 1 && (image < 3 || image > 6))
        return;
    for (uint32_t i = 0; i < count; i++)
        keep(point, i, SIM_FATE_KEPT);
    if (image >= 3)
        keep(point, (uint32_t)random_below(random, count), SIM_FATE_LOST);
}

void point_fates(struct point *point, uint64_t image, uint64_t seed)
{
    struct random random;
    random_init(&random, seed * UINT64_C(0x9e3779b97f4a7c15) + image);
    memset(point->fates, SIM_FATE_LOST, point->thing_count);
    if (is_small(point))
        small_fates(point, image, &random);
    else
        large_fates(point, image, &random);
}
