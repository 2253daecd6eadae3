/* XXH3-64 compiled for AVX2. Only hash.c includes this: it asks the processor first. */
#ifndef SLUICE_BASE_HASH_AVX2_H
#define SLUICE_BASE_HASH_AVX2_H

#include <stddef.h>
#include <stdint.h>

uint64_t hash_xxh3_avx2(const void *data, size_t len);
uint64_t hash_xxh3_seeded_avx2(const void *data, size_t len, uint64_t seed);
void hash_xxh3_update_avx2(void *state, const void *data, size_t len); // an XXH3_state_t

#endif
