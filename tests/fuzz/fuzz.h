/* What fuzz targets share: blocks that end where the bytes end, the bound on memory, and an input
 * taken apart. */
#ifndef SLUICE_TESTS_FUZZ_H
#define SLUICE_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- blocks of exactly their size (exact.c) ---- */

/* A copy in a place whose neighbours AddressSanitizer guards, before and behind. It is there until
 * the same slot is used again. A heap block would do the same at ten times the cost, and these
 * targets run a hundred million times. */
#define EXACT_SLOTS 4
uint8_t *exact_copy(unsigned slot, const void *bytes, size_t len);
uint8_t *exact_block(unsigned slot, size_t len); // not filled

/* ---- memory: at most 64 KiB and 8 times the input (memory_bound.c) ---- */

/* Around the code under test and nothing else: what the target itself takes (copies, disks,
 * arenas) lies outside. `fixed` is what that code takes whatever the input is, measured by the
 * target and explained there. Builds without a sanitizer that tells of allocations check nothing.
 * Allocations of all threads count. */
void memory_bound_begin(void);
void memory_bound_end(size_t input_bytes, size_t fixed_bytes);
void memory_bound_check(size_t peak_bytes, size_t input_bytes, size_t fixed_bytes);
/* To measure: the peak since memory_bound_begin(), and no check. 0 where it can't be known. */
size_t memory_bound_stop(void);
/* Of an allocator of our own. */
void memory_bound_took(size_t bytes);
void memory_bound_gave(size_t bytes);

/* ---- the input, field by field: zeros behind its end ---- */

struct input_reader {
    const uint8_t *at;
    size_t left;
};

static inline const uint8_t *input_take(struct input_reader *input, size_t wish, size_t *len)
{
    const uint8_t *bytes = input->at;
    *len = wish < input->left ? wish : input->left;
    input->at += *len;
    input->left -= *len;
    return bytes;
}

static inline uint64_t input_number(struct input_reader *input, size_t bytes)
{
    uint64_t value = 0;
    size_t len;
    const uint8_t *at = input_take(input, bytes, &len);
    if (len > 0)
        memcpy(&value, at, len);
    return value;
}

#endif
