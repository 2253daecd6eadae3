/* Every decoder of messages.h, chosen by op and flags, over a meta and data that lie in blocks of
 * exactly their size.
 *
 * Input: u16 op, u8 flags, u16 data length (the last bytes of the input), the meta. Held against:
 * nothing is read outside the frame, and the answer is one of the three that a decoder may give. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "proto/messages.h"
#include "tests/unit/proto/read_any.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEAD 5

static void *copy(const uint8_t *bytes, size_t len)
{
    uint8_t *block = malloc(len + !len);
    memcpy(block, bytes, len);
    return block;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *why;
    if (size < HEAD)
        return 0;
    uint16_t op = (uint16_t)(data[0] | data[1] << 8);
    uint16_t wish = (uint16_t)(data[3] | data[4] << 8);
    size_t rest = size - HEAD;
    size_t data_len = wish < rest ? wish : rest;
    uint8_t *meta = copy(data + HEAD, rest - data_len);
    uint8_t *batches = copy(data + size - data_len, data_len);
    struct frame frame = {
        .op = op,
        .flags = data[2],
        .meta = meta,
        .meta_length = (uint32_t)(rest - data_len),
        .data = batches,
        .data_length = (uint32_t)data_len,
    };
    uint16_t error = read_any(&frame);
    ASSERT(error == PE_NONE || error == PE_MALFORMED || error == PE_INVALID_ARGUMENT);
    struct slice name = {meta, frame.meta_length};
    ASSERT((topic_name_check(name, &why) == PE_NONE) == (why == NULL));
    ASSERT(why || slice_is_utf8(name));
    free(batches);
    free(meta);
    return 0;
}
