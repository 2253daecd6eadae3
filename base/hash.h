/* Checksums: XXH3-64 over groups and frames, CRC-32C (Castagnoli) over record batches.
 *
 * Both in one file because of a trap, measured: ISA-L's crc32_iscsi may leave the upper halves of
 * the vector registers dirty, after which SSE2 code (XXH3 among it) runs four times slower on
 * that thread. hash_crc32c() therefore ends with vzeroupper, and XXH3 is compiled in here with
 * AVX2 chosen at run time.
 *
 * Sources: xxHash (BSD-2), RFC 3720 appendix B.4 for CRC-32C test vectors. Thread: any. */
#ifndef SLUICE_BASE_HASH_H
#define SLUICE_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t hash_xxh3(const void *data, size_t len);
uint64_t hash_xxh3_seeded(const void *data, size_t len, uint64_t seed);

/* XXH3-64 of bytes that come in pieces, each hashed while it is still in the cache. The pieces may
 * be cut anywhere; the result is that of hash_xxh3() over all of them. */
struct hash_stream;
struct hash_stream *hash_stream_new(void); // NULL: out of memory. The caller frees it
void hash_stream_free(struct hash_stream *stream);
void hash_stream_begin(struct hash_stream *stream);
void hash_stream_add(struct hash_stream *stream, const void *data, size_t len);
uint64_t hash_stream_end(const struct hash_stream *stream); // of what was added since begin

/* The finished CRC-32C as stored in a record batch (initial and final inversion done). */
uint32_t hash_crc32c(const void *data, size_t len);
/* Continues: hash_crc32c_extend(hash_crc32c(a), b) == hash_crc32c(a then b). */
uint32_t hash_crc32c_extend(uint32_t crc, const void *data, size_t len);
/* The CRC of a then b from the CRCs of both and b's length, without their bytes: for parts that were
 * summed at different times. About half a microsecond. */
uint32_t hash_crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint32_t len_b);

#endif
