/* base/hash.h */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <time.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/hash_avx2.h"

#define BYTES_MAX (80u * 1024)

static uint8_t bytes[BYTES_MAX];
volatile uint64_t hash_test_sink; // not static: what only grows could be left out

static void fill(void)
{
    for (uint32_t i = 0; i < BYTES_MAX; i++)
        bytes[i] = (uint8_t)((i * UINT64_C(0x9e3779b97f4a7c15)) >> 40);
}

/* The register, bit by bit, from the definition of the polynomial. */
static uint32_t slow_crc32c(const uint8_t *at, size_t len)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < len; i++) {
        crc ^= at[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

/* RFC 3720, appendix B.4 (there as bytes in the order of the wire), and the usual check value. */
Test(hash, crc32c_gives_the_vectors_of_rfc_3720)
{
    uint8_t input[48];
    memset(input, 0, 32);
    cr_assert_eq(hash_crc32c(input, 32), 0x8a9136aa);
    memset(input, 0xff, 32);
    cr_assert_eq(hash_crc32c(input, 32), 0x62a8ab43);
    for (uint8_t i = 0; i < 32; i++)
        input[i] = i;
    cr_assert_eq(hash_crc32c(input, 32), 0x46dd794e);
    for (uint8_t i = 0; i < 32; i++)
        input[i] = 31 - i;
    cr_assert_eq(hash_crc32c(input, 32), 0x113fdb5c);
    static const uint8_t read_command[48] = {
        0x01, 0xc0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x00,
        0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x18, 0x28, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    };
    cr_assert_eq(hash_crc32c(read_command, 48), 0xd9963a56);
    cr_assert_eq(hash_crc32c("123456789", 9), 0xe3069283);
    cr_assert_eq(hash_crc32c("", 0), 0);
    cr_assert_eq(hash_crc32c(NULL, 0), 0);
}

Test(hash, crc32c_agrees_with_its_definition_at_every_length_and_alignment)
{
    fill();
    for (uint32_t len = 0; len < 1200; len += len < 300 ? 1 : 37) {
        uint32_t from = len % 64;
        uint8_t *exact = malloc(len + !len);
        memcpy(exact, bytes + from, len);
        cr_assert_eq(hash_crc32c(exact, len), slow_crc32c(bytes + from, len), "%u", len);
        free(exact);
    }
    cr_assert_eq(hash_crc32c(bytes, BYTES_MAX), slow_crc32c(bytes, BYTES_MAX));
}

Test(hash, crc32c_continues_where_it_stopped)
{
    fill();
    uint32_t whole = hash_crc32c(bytes, 1000);
    for (uint32_t cut = 0; cut <= 1000; cut++) {
        uint32_t first = hash_crc32c(bytes, cut);
        cr_assert_eq(hash_crc32c_extend(first, bytes + cut, 1000 - cut), whole, "%u", cut);
    }
}

/* Both variants, and the borders between their inner loops (16, 128, 240, blocks of 1,024). */
Test(hash, xxh3_is_the_library_s_at_every_length)
{
    fill();
    for (uint32_t len = 0; len < BYTES_MAX; len += len < 2100 ? 1 : 1021) {
        uint8_t *exact = malloc(len + !len);
        memcpy(exact, bytes, len);
        uint64_t plain = XXH3_64bits(exact, len);
        uint64_t seeded = XXH3_64bits_withSeed(exact, len, len * 77);
        cr_assert_eq(hash_xxh3(exact, len), plain, "%u", len);
        cr_assert_eq(hash_xxh3_seeded(exact, len, len * 77), seeded, "%u", len);
        if (__builtin_cpu_supports("avx2")) {
            cr_assert_eq(hash_xxh3_avx2(exact, len), plain, "%u", len);
            cr_assert_eq(hash_xxh3_seeded_avx2(exact, len, len * 77), seeded, "%u", len);
        }
        free(exact);
    }
}

/* Stored data depends on these numbers: they may not change with a library. */
Test(hash, xxh3_gives_the_published_values)
{
    cr_assert_eq(hash_xxh3("", 0), UINT64_C(0x2d06800538d394c2));
    cr_assert_eq(hash_xxh3_seeded("", 0, 0), UINT64_C(0x2d06800538d394c2));
    cr_assert_neq(hash_xxh3_seeded("", 0, 1), UINT64_C(0x2d06800538d394c2));
}

/* ---- the pair ---- */

#if defined(__x86_64__)

/* Sets every bit of ymm0..15, as a library might leave them. */
__attribute__((target("avx"))) static void soil_vectors(void)
{
    __asm__ volatile("vcmptrueps %%ymm0, %%ymm0, %%ymm0\n\t"
                     "vmovaps %%ymm0, %%ymm1\n\t vmovaps %%ymm0, %%ymm2\n\t"
                     "vmovaps %%ymm0, %%ymm3\n\t vmovaps %%ymm0, %%ymm4\n\t"
                     "vmovaps %%ymm0, %%ymm5\n\t vmovaps %%ymm0, %%ymm6\n\t"
                     "vmovaps %%ymm0, %%ymm7\n\t vmovaps %%ymm0, %%ymm8\n\t"
                     "vmovaps %%ymm0, %%ymm9\n\t vmovaps %%ymm0, %%ymm10\n\t"
                     "vmovaps %%ymm0, %%ymm11\n\t vmovaps %%ymm0, %%ymm12\n\t"
                     "vmovaps %%ymm0, %%ymm13\n\t vmovaps %%ymm0, %%ymm14\n\t"
                     "vmovaps %%ymm0, %%ymm15" ::
                         : "memory");
}

/* The upper halves of ymm0..15, or-ed together. Inlined, so that no return clears them first. */
__attribute__((always_inline)) static inline uint64_t upper_halves(void)
{
    uint64_t halves[32];
    __asm__ volatile(
        "vextractf128 $1, %%ymm0, 0(%0)\n\t vextractf128 $1, %%ymm1, 16(%0)\n\t"
        "vextractf128 $1, %%ymm2, 32(%0)\n\t vextractf128 $1, %%ymm3, 48(%0)\n\t"
        "vextractf128 $1, %%ymm4, 64(%0)\n\t vextractf128 $1, %%ymm5, 80(%0)\n\t"
        "vextractf128 $1, %%ymm6, 96(%0)\n\t vextractf128 $1, %%ymm7, 112(%0)\n\t"
        "vextractf128 $1, %%ymm8, 128(%0)\n\t vextractf128 $1, %%ymm9, 144(%0)\n\t"
        "vextractf128 $1, %%ymm10, 160(%0)\n\t vextractf128 $1, %%ymm11, 176(%0)\n\t"
        "vextractf128 $1, %%ymm12, 192(%0)\n\t vextractf128 $1, %%ymm13, 208(%0)\n\t"
        "vextractf128 $1, %%ymm14, 224(%0)\n\t vextractf128 $1, %%ymm15, 240(%0)" ::"r"(halves)
        : "memory");
    uint64_t any = 0;
    for (int i = 0; i < 32; i++)
        any |= halves[i];
    return any;
}

/* What the time below depends on, asked of the registers themselves: not every processor is slow
 * with dirty ones. */
Test(hash, a_crc_leaves_clean_vector_registers)
{
    static const uint32_t lengths[] = {0, 1, 100, 1000, 64 * 1024};
    if (!__builtin_cpu_supports("avx"))
        cr_skip_test("no AVX, no upper halves");
    soil_vectors();
    cr_assert_neq(upper_halves(), 0);
    for (size_t i = 0; i < ARRAY_COUNT(lengths); i++) {
        soil_vectors();
        hash_test_sink += hash_crc32c(bytes, lengths[i]);
        uint64_t dirty = upper_halves();
        cr_assert_eq(dirty, 0, "%u bytes", lengths[i]);
    }
}

#define ROUNDS 301

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static uint64_t median(uint64_t *values, size_t count)
{
    qsort(values, count, sizeof(*values), compare);
    return values[count / 2];
}

/* About 2 us of each variant. */
static uint64_t time_xxh3(void)
{
    uint64_t start = now_ns();
    hash_test_sink += hash_xxh3(bytes, 64 * 1024);
    return now_ns() - start;
}

static uint64_t time_xxh3_sse2(void)
{
    uint64_t start = now_ns();
    hash_test_sink += XXH3_64bits(bytes, 64 * 1024);
    return now_ns() - start;
}

/* XXH3 right behind a CRC, and the same alone; the rounds take turns, so that a noisy neighbour
 * hits both. Where dirty registers cost time, SSE2 XXH3 was measured at four times its own. */
static double slowdown(uint64_t (*time_one)(void))
{
    static uint64_t alone[ROUNDS], behind[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        if (__builtin_cpu_supports("avx"))
            __asm__ volatile("vzeroupper" ::: "memory");
        alone[i] = time_one();
        hash_test_sink += hash_crc32c(bytes, 16 * 1024);
        behind[i] = time_one();
    }
    return (double)median(behind, ROUNDS) / (double)median(alone, ROUNDS);
}

Test(hash, xxh3_is_as_fast_behind_a_crc_as_alone)
{
    fill();
    cr_expect_lt(slowdown(time_xxh3), 2.5);
    cr_expect_lt(slowdown(time_xxh3_sse2), 2.5);
}

#endif

/* ---- in pieces ---- */

Test(hash, xxh3_in_pieces_is_that_of_the_whole_wherever_it_is_cut)
{
    struct hash_stream *stream = hash_stream_new();
    fill();
    for (uint32_t len = 0; len < 3000; len += len < 600 ? 1 : 97) {
        uint32_t piece = 1 + len * 7 % 300;
        hash_stream_begin(stream);
        for (uint32_t at = 0; at < len; at += piece)
            hash_stream_add(stream, bytes + at, at + piece < len ? piece : len - at);
        cr_assert_eq(hash_stream_end(stream), hash_xxh3(bytes, len), "%u by %u", len, piece);
    }
    hash_stream_begin(stream);
    hash_stream_add(stream, bytes, 5);
    hash_stream_add(stream, bytes + 5, BYTES_MAX - 5);
    cr_assert_eq(hash_stream_end(stream), hash_xxh3(bytes, BYTES_MAX));
    cr_assert_eq(hash_stream_end(stream), hash_xxh3(bytes, BYTES_MAX), "asking changes nothing");
    hash_stream_free(stream);
}

Test(hash, crc32c_of_two_parts_follows_from_those_of_each)
{
    fill();
    for (uint32_t len = 0; len < BYTES_MAX; len += 1 + len / 3) {
        for (uint32_t cut = 0; cut <= len; cut += 1 + cut / 2) {
            uint32_t a = hash_crc32c(bytes, cut), b = hash_crc32c(bytes + cut, len - cut);
            cr_assert_eq(hash_crc32c_combine(a, b, len - cut), hash_crc32c(bytes, len),
                         "%u cut at %u", len, cut);
        }
    }
}

/* Longer than any buffer here: twice n bytes are n bytes twice. */
Test(hash, crc32c_combines_over_any_length)
{
    uint32_t crc = hash_crc32c("length", 6), once, twice;
    for (uint32_t bit = 1; bit < 1u << 31; bit <<= 1) {
        once = hash_crc32c_combine(crc, 0, 2 * bit);
        twice = hash_crc32c_combine(hash_crc32c_combine(crc, 0, bit), 0, bit);
        cr_assert_eq(once, twice, "%u", bit);
    }
}
