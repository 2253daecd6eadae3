/* Is a slice well-formed UTF-8? For names and texts that end up in logs and on terminals.
 *
 * The table of well-formed byte sequences of the Unicode standard (chapter 3, table 3-7): no
 * overlong form, no surrogate, nothing above U+10FFFF. NUL is refused, too: C code on either side
 * would end there. */
#include "proto/cursor.h"

static size_t sequence_length(const uint8_t *at, size_t available);
static bool is_in(uint8_t byte, uint8_t low, uint8_t high);

bool slice_is_utf8(struct slice s)
{
    size_t i = 0;
    while (i < s.len) {
        size_t len = sequence_length(s.bytes + i, s.len - i);
        if (len == 0)
            return false;
        i += len;
    }
    return true;
}

/* Length of the well-formed sequence that starts here; 0: there is none. The second byte's range
 * depends on the first one; later bytes are always 80..BF. */
static size_t sequence_length(const uint8_t *at, size_t available)
{
    uint8_t first = at[0];
    if (first < 0x80)
        return first != 0;
    if (first < 0xc2 || first > 0xf4)
        return 0;
    size_t len = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    uint8_t low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    uint8_t high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (len > available || !is_in(at[1], low, high))
        return 0;
    for (size_t i = 2; i < len; i++) {
        if (!is_in(at[i], 0x80, 0xbf))
            return 0;
    }
    return len;
}

static bool is_in(uint8_t byte, uint8_t low, uint8_t high)
{
    return byte >= low && byte <= high;
}
