/* The splitter of a byte stream: input arrives in two pieces and is taken apart as a connection
 * does it.
 *
 * Input: first byte: where the cut is, in 256ths; the rest is the stream. Whole frames get a
 * right checksum every second time, because a fuzzer doesn't find one by itself. Held against:
 * whatever the cut, the same frames come out, and no frame leaves the stream. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "proto/frame.h"
#include "tests/fuzz/fuzz.h"

#define LENGTH_MAX 4096

static uint64_t split(const uint8_t *stream, size_t size, size_t arrived);
static void check_view(const uint8_t *bytes, const struct frame *frame);
static void seal_whole_frames(uint8_t *stream, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    uint8_t cut = data[0];
    size_t len = size - 1;
    uint8_t *stream = exact_copy(0, data + 1, len);
    memory_bound_begin();
    if (cut & 1)
        seal_whole_frames(stream, len);
    ASSERT(split(stream, len, len) == split(stream, len, len * cut / 256));
    memory_bound_end(size, 0);
    return 0;
}

/* Takes frames off the stream, of which `arrived` bytes are there at first and all of it later.
 * Returns a digest of what came out. */
static uint64_t split(const uint8_t *stream, size_t size, size_t arrived)
{
    uint64_t digest = 0;
    size_t at = 0;
    for (;;) {
        struct frame frame;
        int64_t len = frame_peek(stream + at, arrived - at, LENGTH_MAX);
        if (len < 0)
            return hash_xxh3_seeded(&len, sizeof(len), digest);
        if (len == 0 || (size_t)len > arrived - at) {
            if (arrived == size)
                return digest;
            arrived = size;
            continue;
        }
        ASSERT(len >= FRAME_HEADER_SIZE && len <= LENGTH_MAX);
        uint16_t error = frame_decode(stream + at, &frame);
        ASSERT(error == PE_NONE || error == PE_MALFORMED);
        if (error)
            return hash_xxh3_seeded(&error, sizeof(error), digest);
        check_view(stream + at, &frame);
        digest = hash_xxh3_seeded(stream + at, (size_t)len, digest);
        at += (size_t)len;
    }
}

static void check_view(const uint8_t *bytes, const struct frame *frame)
{
    ASSERT(frame->meta == bytes + FRAME_HEADER_SIZE);
    ASSERT(frame->data == frame->meta + frame->meta_length);
    ASSERT(frame->data + frame->data_length == bytes + frame->length);
    ASSERT(*op_name(frame->op) != '\0');
    ASSERT(op_is_known(frame->op) || !op_version_is_supported(frame->op, frame->version));
}

static void seal_whole_frames(uint8_t *stream, size_t size)
{
    int64_t len;
    for (size_t at = 0; (len = frame_peek(stream + at, size - at, LENGTH_MAX)) > 0;
         at += (size_t)len) {
        if ((size_t)len > size - at || size - at < FRAME_HEADER_SIZE)
            return;
        struct frame_header *header = (struct frame_header *)(stream + at);
        uint64_t seed = hash_xxh3(header, offsetof(struct frame_header, checksum));
        header->checksum = le64_make(
            hash_xxh3_seeded(stream + at + FRAME_HEADER_SIZE, le32_get(header->meta_length), seed));
    }
}
