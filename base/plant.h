/* Bugs planted on purpose, to see that a test notices them. In a build with -DSLUICE_PLANTS=ON each is a point of fault.def
 * (PLANT_ and its name; armed by SLUICE_FAULT with the action ON, at the hits that are wanted); in every other build there
 * is nothing of it. Which check sees which: tests/plants/plants.txt.
 *
 *     if (PLANTED(LOSE_BATCH))
 *         return ITEM_DONE; */
#ifndef SLUICE_BASE_PLANT_H
#define SLUICE_BASE_PLANT_H

#include "base/fault.h"

#ifdef SLUICE_PLANTS
#define PLANTED(name) (fault_check(FAULT_PLANT_##name) != 0)
#else
#define PLANTED(name) false
#endif

#endif
