/* The values of test records: each names its producer, transaction and sequence, and the bytes behind follow from those, so
 * a reader knows what it has read and that it is whole. */
#ifndef SLUICE_TESTS_VALUE_H
#define SLUICE_TESTS_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct value {
    uint32_t magic; // filled in
    uint32_t producer;
    uint32_t partition;
    uint32_t length; // in all, VALUE_BYTES_MIN..VALUE_BYTES_MAX
    uint64_t sequence;
    uint64_t txn;
};
#define VALUE_BYTES_MIN sizeof(struct value)
#define VALUE_BYTES_MAX 8192

/* Writes value->length bytes. */
void value_write(uint8_t *bytes, const struct value *value);

/* False: nobody wrote that. */
bool value_read(const void *bytes, size_t length, struct value *value);

#endif
