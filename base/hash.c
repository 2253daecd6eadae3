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
#include <stdlib.h>

#include <isa-l/crc.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/check.h"
#include "base/hash_avx2.h"

/* XXH3 switches to its vector loop above this length (XXH3_MIDSIZE_MAX of the algorithm). */
#define SHORT_BYTES_MAX 240

struct hash_stream {
    XXH3_state_t state; // of the same layout, whatever vectors work on it
};

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

/* ---- in pieces ---- */

struct hash_stream *hash_stream_new(void)
{
    struct hash_stream *stream = aligned_alloc(_Alignof(struct hash_stream), sizeof(*stream));
    if (stream)
        hash_stream_begin(stream);
    return stream;
}

void hash_stream_free(struct hash_stream *stream)
{
    free(stream);
}

void hash_stream_begin(struct hash_stream *stream)
{
    XXH3_INITSTATE(&stream->state);
    (void)XXH3_64bits_reset(&stream->state);
}

void hash_stream_add(struct hash_stream *stream, const void *data, size_t len)
{
    if (cpu_has_avx2())
        hash_xxh3_update_avx2(&stream->state, data, len);
    else
        (void)XXH3_64bits_update(&stream->state, data, len);
}

uint64_t hash_stream_end(const struct hash_stream *stream)
{
    return XXH3_64bits_digest(&stream->state);
}

/* ---- CRC-32C ---- */

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
