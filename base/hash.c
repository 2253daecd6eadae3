/* XXH3-64 and CRC-32C, with the vector units kept clean for each other.
 *
 * The happy path is one call into code that was chosen for this processor: XXH3 is compiled in
 * twice, here for SSE2 (each x86-64 has it) and in hash_avx2.c for AVX2; ISA-L chooses its CRC by
 * itself. Up to 240 bytes XXH3 uses no vectors, so short input (most frames) stays here whatever
 * the processor.
 *
 * Nothing here can fail. A wrong choice costs time only: both variants give the same numbers. */
#include "base/hash.h"

#include <limits.h>
#include <stdbool.h>

#include <isa-l/crc.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/check.h"
#include "base/hash_avx2.h"

/* XXH3 switches to its vector loop above this length (XXH3_MIDSIZE_MAX of the algorithm). */
#define SHORT_BYTES_MAX 240

static inline bool cpu_has_avx2(void);
static inline void vectors_clean(void);

uint64_t hash_xxh3(const void *data, size_t len)
{
    if (len <= SHORT_BYTES_MAX || !cpu_has_avx2())
        return XXH3_64bits(data, len);
    return hash_xxh3_avx2(data, len);
}

uint64_t hash_xxh3_seeded(const void *data, size_t len, uint64_t seed)
{
    if (len <= SHORT_BYTES_MAX || !cpu_has_avx2())
        return XXH3_64bits_withSeed(data, len, seed);
    return hash_xxh3_seeded_avx2(data, len, seed);
}

uint32_t hash_crc32c(const void *data, size_t len)
{
    return hash_crc32c_extend(0, data, len);
}

/* ISA-L takes and gives the bare shift register, without the inversions of RFC 3720, and an int as
 * length. */
uint32_t hash_crc32c_extend(uint32_t crc, const void *data, size_t len)
{
    const uint8_t *at = data;
    uint32_t state = ~crc;
    while (len > 0) {
        int piece = len < INT_MAX ? (int)len : INT_MAX;
        state = crc32_iscsi((unsigned char *)(uintptr_t)at, piece, state);
        at += piece;
        len -= (size_t)piece;
    }
    vectors_clean();
    return ~state;
}

#if defined(__x86_64__)

static inline bool cpu_has_avx2(void)
{
    return LIKELY(__builtin_cpu_supports("avx2"));
}

/* Upper halves that a library left dirty make each later SSE instruction of this thread wait for
 * them: measured, SSE2 XXH3 then runs at a quarter of its speed. The instruction itself costs
 * about 1 ns. */
static inline void vectors_clean(void)
{
    if (LIKELY(__builtin_cpu_supports("avx")))
        __asm__ volatile("vzeroupper" ::: "memory");
}

#else

static inline bool cpu_has_avx2(void)
{
    return false;
}

static inline void vectors_clean(void)
{
}

#endif
