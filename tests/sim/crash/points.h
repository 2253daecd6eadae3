/* Crash points of a trace, and the images of each.
 *
 * A crash point lies right before each event that makes something durable for good (a flush of a file or a directory, a file
 * cut short), and behind the last event. What could be on the disk at any moment between two of them can be at the later one,
 * too: only writes and directory operations are added meanwhile, and each of them may be missing. And nobody outside knew more
 * at the earlier moment. So these points are all there are.
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

bool point_is_one(const struct trace *trace, uint32_t event);

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
