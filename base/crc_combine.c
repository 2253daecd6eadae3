/* The CRC-32C of two parts from the CRCs of each, without the bytes (as zlib has it for its CRC-32).
 *
 * A CRC is a remainder modulo a polynomial P over bits. Putting n bytes behind the first part
 * multiplies its remainder by x^(8n), and what they hold is added: so
 *
 *     crc(a then b) = crc(a) * x^(8 * len(b)) + crc(b)        modulo P; + is exclusive or
 *
 * and the power is a product of at most 32 known ones: some 40 ns for each bit set in the length.
 * Bits are reversed, as everywhere in CRC-32C: the highest one is x^0. Nothing fails. */
#include "base/hash.h"

#define POLYNOMIAL 0x82f63b78u

/* x^(8 * 2^k). */
static const uint32_t powers[32] = {
    0x00800000, 0x00008000, 0x82f63b78, 0x6ea2d55c, 0x18b8ea18, 0x510ac59a, 0xb82be955, 0xb8fdb1e7,
    0x88e56f72, 0x74c360a4, 0xe4172b16, 0x0d65762a, 0x35d73a62, 0x28461564, 0xbf455269, 0xe2ea32dc,
    0xfe7740e6, 0xf946610b, 0x3c204f8f, 0x538586e3, 0x59726915, 0x734d5309, 0xbc1ac763, 0x7d0722cc,
    0xd289cabe, 0xe94ca9bc, 0x05b74f3f, 0xa51e1f42, 0x40000000, 0x20000000, 0x08000000, 0x00800000,
};

static uint32_t multiply(uint32_t a, uint32_t b);

uint32_t hash_crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint32_t len_b)
{
    for (uint32_t k = 0; k < 32; k++) {
        if (len_b >> k & 1)
            crc_a = multiply(powers[k], crc_a);
    }
    return crc_a ^ crc_b;
}

static uint32_t multiply(uint32_t a, uint32_t b)
{
    uint32_t product = 0;
    for (uint32_t bit = 1u << 31; bit > 0; bit >>= 1) {
        product ^= a & bit ? b : 0;
        b = b >> 1 ^ (b & 1 ? POLYNOMIAL : 0);
    }
    return product;
}
