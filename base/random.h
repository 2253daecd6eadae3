/* Randomness, behind a struct, so that a seed replays a run. PCG32 (O'Neill 2014) for choices;
 * random_seed_system() for identities. Not for secrets. */
#ifndef SLUICE_BASE_RANDOM_H
#define SLUICE_BASE_RANDOM_H

#include <stdint.h>

struct random {
    uint64_t state;
    uint64_t stream;
};

void random_init(struct random *random, uint64_t seed);
uint32_t random_u32(struct random *random);
uint64_t random_u64(struct random *random);
uint64_t random_below(struct random *random, uint64_t limit); // 0..limit-1, unbiased; limit > 0
uint64_t random_seed_system(void);                            // getrandom(2)

#endif
