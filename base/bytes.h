/* Byte-order types for wire and disk structs: a plain integer can't be stored in them by mistake.
 *
 * Everything of our own is little-endian; record batches are Kafka's, and so big-endian. The types
 * have alignment 1, so a struct of them has no padding and may lie at any address. */
#ifndef SLUICE_BASE_BYTES_H
#define SLUICE_BASE_BYTES_H

#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "written for little-endian machines"
#endif

/* clang-format off */
typedef struct { uint8_t b[2]; } le16;
typedef struct { uint8_t b[4]; } le32;
typedef struct { uint8_t b[8]; } le64;
typedef struct { uint8_t b[2]; } be16;
typedef struct { uint8_t b[4]; } be32;
typedef struct { uint8_t b[8]; } be64;

static inline uint16_t le16_get(le16 v) { uint16_t x; memcpy(&x, v.b, 2); return x; }
static inline uint32_t le32_get(le32 v) { uint32_t x; memcpy(&x, v.b, 4); return x; }
static inline uint64_t le64_get(le64 v) { uint64_t x; memcpy(&x, v.b, 8); return x; }
static inline le16 le16_make(uint16_t x) { le16 v; memcpy(v.b, &x, 2); return v; }
static inline le32 le32_make(uint32_t x) { le32 v; memcpy(v.b, &x, 4); return v; }
static inline le64 le64_make(uint64_t x) { le64 v; memcpy(v.b, &x, 8); return v; }

static inline uint16_t be16_get(be16 v) { uint16_t x; memcpy(&x, v.b, 2); return __builtin_bswap16(x); }
static inline uint32_t be32_get(be32 v) { uint32_t x; memcpy(&x, v.b, 4); return __builtin_bswap32(x); }
static inline uint64_t be64_get(be64 v) { uint64_t x; memcpy(&x, v.b, 8); return __builtin_bswap64(x); }
static inline be16 be16_make(uint16_t x) { be16 v; x = __builtin_bswap16(x); memcpy(v.b, &x, 2); return v; }
static inline be32 be32_make(uint32_t x) { be32 v; x = __builtin_bswap32(x); memcpy(v.b, &x, 4); return v; }
static inline be64 be64_make(uint64_t x) { be64 v; x = __builtin_bswap64(x); memcpy(v.b, &x, 8); return v; }
/* clang-format on */

#endif
