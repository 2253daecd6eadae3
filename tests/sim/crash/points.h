/* Crash points of a trace, and the images of each.
 *
 * A crash point lies right before each event that makes something durable for good (a flush of a file or a directory, a file
 * cut short), and behind the last event. Where more than POINTS_THINGS_ALL things are not durable there, another one lies
 * before it: where there were that many, or fewer, for the last time. Every disk that can be left with so few things
 * not durable is an image of a point that is complete; README.md says why.
 *
 * A thing is a block written and not flushed, or a directory operation not synced. With at most POINTS_THINGS_ALL of them
 * each subset is an image, and each block torn or spoilt in six ways, the others by chance. With more: none, all, each last
 * one alone, all but one, and POINTS_SAMPLES by chance, torn ones among them. */
#ifndef SLUICE_TESTS_CRASH_POINTS_H
#define SLUICE_TESTS_CRASH_POINTS_H

#include "tests/sim/crash/trace.h"

#define POINTS_THINGS_ALL 10u
#define POINTS_SAMPLES 64u
#define POINTS_THINGS_MAX 65536u

struct point_place {
    uint32_t event;  // the disk is the one before it
    uint64_t images; // that it has
    bool is_small;   // they are all there are
    bool is_early;   // for the sake of a large one behind it
};
struct points {
    struct point_place *places; // in the order of events
    uint32_t count, capacity;
};
void points_find(struct points *points, const struct trace *trace);
void points_free(struct points *points);

/* What an image of the disk before this event is held against. It may as well be left at the next flush, when more was
 * answered; but nothing can be there that was asked for later. */
struct trace_known point_known(const struct trace *trace, uint32_t event);

/* What can be chosen on this disk. */
struct point {
    uint32_t thing_count;  // of the disk: sim_disk_things()
    uint32_t choice_count; // of these, those that change anything
    uint32_t dir_op_count; // the first of the things
    uint32_t *choices;     // their numbers
    uint8_t *fates;        // of all things, as the last point_fates() made them
};
void point_of(struct point *point, const struct sim_disk *disk);
uint64_t point_image_count(const struct point *point);
/* Fills point->fates for image number `image`; the rest is chosen by the seed. */
void point_fates(struct point *point, uint64_t image, uint64_t seed);
/* Each thing by chance, torn ones among them. */
void point_fates_by_chance(struct point *point, struct random *random);

#endif
