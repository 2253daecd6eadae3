/* Reads every byte that a decoded message points to: a slice that leaves the frame is then found by
 * AddressSanitizer. */
#ifndef SLUICE_TESTS_PROTO_TOUCH_H
#define SLUICE_TESTS_PROTO_TOUCH_H

#include "proto/cursor.h"

static volatile uint8_t read_any_sink;

static inline void touch(const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    for (size_t i = 0; i < len; i++)
        read_any_sink ^= at[i];
}

static inline void touch_slice(struct slice s)
{
    touch(s.bytes, s.len);
}

#endif
