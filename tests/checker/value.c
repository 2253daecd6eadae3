#include "tests/checker/value.h"

#include <string.h>

#define VALUE_MAGIC 0x76a1e5edu

static uint8_t filler(const struct value *value, uint32_t i)
{
    return (uint8_t)(value->sequence * 31 + value->producer * 7 + value->partition + i * 13);
}

void value_write(uint8_t *bytes, const struct value *value)
{
    struct value head = *value;
    head.magic = VALUE_MAGIC;
    memcpy(bytes, &head, sizeof(head));
    for (uint32_t i = sizeof(head); i < head.length; i++)
        bytes[i] = filler(&head, i);
}

bool value_read(const void *bytes, size_t length, struct value *value)
{
    if (length < sizeof(*value) || length > VALUE_BYTES_MAX)
        return false;
    memcpy(value, bytes, sizeof(*value));
    if (value->magic != VALUE_MAGIC || value->length != length)
        return false;
    for (uint32_t i = sizeof(*value); i < length; i++) {
        if (((const uint8_t *)bytes)[i] != filler(value, i))
            return false;
    }
    return true;
}
