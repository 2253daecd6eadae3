/* The AVX2 variant of XXH3, in a file of its own, because the compiler must take every inlined
 * function of xxhash.h for an AVX2 one. Nothing else may be included behind the pragma: its
 * inline functions would become AVX2 code, too. On other processors the functions give the
 * portable variant. */
#include "base/hash_avx2.h"

#if defined(__x86_64__)
#include <immintrin.h> // before the pragma: intrinsics carry their own targets
#include <stdlib.h>
#include <string.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2")
#endif
#define XXH_VECTOR XXH_AVX2
#endif

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t hash_xxh3_avx2(const void *data, size_t len)
{
    return XXH3_64bits(data, len);
}

uint64_t hash_xxh3_seeded_avx2(const void *data, size_t len, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, len, seed);
}

void hash_xxh3_update_avx2(void *state, const void *data, size_t len)
{
    (void)XXH3_64bits_update(state, data, len);
}

#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
