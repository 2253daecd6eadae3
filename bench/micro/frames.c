/* A frame's way out of a stream: length, header, checksum. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "bench/micro/micro.h"
#include "proto/frame.h"

#define STREAM_FRAMES 64u

static uint8_t *stream;
static uint32_t stream_bytes;

static int open_frames(uint32_t meta_bytes, uint32_t data_bytes)
{
    uint32_t each = FRAME_HEADER_SIZE + meta_bytes + data_bytes;
    stream_bytes = each * STREAM_FRAMES;
    stream = calloc(1, stream_bytes);
    if (stream == NULL)
        return -1;
    for (uint32_t i = 0; i < STREAM_FRAMES; i++) {
        uint8_t *frame = stream + i * each;
        memset(frame + FRAME_HEADER_SIZE, (int)i, meta_bytes);
        frame_seal(frame, OP_PRODUCE, 0, i, meta_bytes, data_bytes);
    }
    return 0;
}

static int open_small(void)
{
    return open_frames(40, 100);
}

static int open_large(void)
{
    return open_frames(40, 64 * KIB);
}

static uint64_t parse_run(uint64_t count, uint64_t *ns)
{
    uint64_t done = 0, sum = 0;
    *ns = 0;
    while (done < count) {
        for (uint32_t at = 0; at < stream_bytes; done++) {
            struct frame frame;
            int64_t length = frame_peek(stream + at, stream_bytes - at, 16 * MIB);
            ASSERT(length > 0 && frame_decode(stream + at, &frame) == 0);
            sum += frame.correlation;
            at += (uint32_t)length;
        }
    }
    micro_use(sum);
    return done;
}

static void close_frames(void)
{
    free(stream);
}

static const struct micro_case cases[] = {
    {"parse_100", "frame", open_small, parse_run, close_frames},
    {"parse_64k", "frame", open_large, parse_run, close_frames},
};

const struct micro_group micro_frames = {"frames", cases, ARRAY_COUNT(cases)};
