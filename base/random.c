/* PCG32 (XSH RR 64/32): 64 bits of state, 32 bits of output, period 2^64 for each odd stream.
 *
 * The numbers that a seed gives are part of the contract: a failing simulation is replayed by its
 * seed alone, so neither the generator nor the seeding may change without need. */
#include "base/random.h"

#include <errno.h>
#include <sys/random.h>

#include "base/check.h"

#define PCG_MULTIPLIER 6364136223846793005u

static uint64_t split_mix(uint64_t *state);
static uint64_t next_u32_below(struct random *random, uint32_t limit);

/* Seeds 1, 2, 3 ... are what people type; mixing makes their runs unrelated from the first number. */
void random_init(struct random *random, uint64_t seed)
{
    random->state = split_mix(&seed);
    random->stream = split_mix(&seed) | 1;
    (void)random_u32(random);
}

uint32_t random_u32(struct random *random)
{
    uint64_t old = random->state;
    random->state = old * PCG_MULTIPLIER + random->stream;
    uint32_t xor_shifted = (uint32_t)(((old >> 18) ^ old) >> 27);
    uint32_t rotation = (uint32_t)(old >> 59);
    return (xor_shifted >> rotation) | (xor_shifted << (-rotation & 31));
}

uint64_t random_u64(struct random *random)
{
    uint64_t high = random_u32(random);
    return high << 32 | random_u32(random);
}

/* Of the 2^64 numbers the lowest 2^64 % limit are thrown away; the rest divides evenly. */
uint64_t random_below(struct random *random, uint64_t limit)
{
    ASSERT(limit > 0);
    if (limit <= UINT32_MAX)
        return next_u32_below(random, (uint32_t)limit);
    uint64_t threshold = -limit % limit;
    uint64_t value;
    do {
        value = random_u64(random);
    } while (value < threshold);
    return value % limit;
}

/* Without a source of randomness two stores could get the same identity: better not to start. */
uint64_t random_seed_system(void)
{
    uint64_t seed = 0;
    ssize_t n;
    do {
        n = getrandom(&seed, sizeof(seed), 0);
    } while (n < 0 && errno == EINTR);
    ASSERT(n == (ssize_t)sizeof(seed));
    return seed;
}

/* The same in 32 bits: one number instead of two, and cheaper divisions. */
static uint64_t next_u32_below(struct random *random, uint32_t limit)
{
    uint32_t threshold = -limit % limit;
    uint32_t value;
    do {
        value = random_u32(random);
    } while (value < threshold);
    return value % limit;
}

/* SplitMix64 (Steele, Lea, Flood 2014): spreads a seed over all bits. */
static uint64_t split_mix(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
