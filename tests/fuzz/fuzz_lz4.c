/* LZ4 frames: what they announce, what they hold, and that no more comes out than there is room for.
 *
 * Input: u8 flags, u16 room, then the frame. Flags: 1 = give the frame's descriptor a right
 * checksum; 2 = the rest is one block of a frame made here; 4 = the rest is content, compressed and
 * decompressed here. Held against: nothing is written behind the room; size, bound and content agree;
 * room for the size and some slack is enough, a byte less than the size is not; no memory is taken. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/status.h"
#include "proto/lz4_frame.h"
#include "tests/fuzz/fuzz.h"

enum { FLAG_SEAL = 1, FLAG_BLOCK = 2, FLAG_CONTENT = 4, FLAG_STORED = 8 };

#define SIZE_LIMIT (128u * 1024)
#define FLG_CONTENT_SIZE 0x08
#define HEAD_BYTES 7

static size_t make_frame(struct input_reader *input, uint8_t flags, uint8_t **frame);
static void seal(uint8_t *frame, size_t len);
static void check_frame(const uint8_t *frame, size_t len, uint32_t room);
static void check_room(const uint8_t *frame, size_t len, const uint8_t *content, uint32_t size);
static void round_trip(const uint8_t *content, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input_reader input = {data, size};
    uint8_t flags = (uint8_t)input_number(&input, 1), *frame;
    uint32_t room = (uint32_t)input_number(&input, 2);
    if (flags & FLAG_CONTENT) {
        round_trip(input.at, input.left);
        return 0;
    }
    size_t len = make_frame(&input, flags, &frame);
    check_frame(frame, len, room);
    return 0;
}

static size_t make_frame(struct input_reader *input, uint8_t flags, uint8_t **frame)
{
    static const uint8_t head[HEAD_BYTES] = {0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82};
    if (!(flags & FLAG_BLOCK)) {
        *frame = exact_copy(0, input->at, input->left);
        if (flags & FLAG_SEAL)
            seal(*frame, input->left);
        return input->left;
    }
    size_t len = HEAD_BYTES + 4 + input->left + 4;
    uint32_t word = (uint32_t)input->left | (flags & FLAG_STORED ? 1u << 31 : 0), end = 0;
    *frame = exact_block(0, len);
    memcpy(*frame, head, HEAD_BYTES);
    memcpy(*frame + HEAD_BYTES, &word, 4);
    memcpy(*frame + HEAD_BYTES + 4, input->at, input->left);
    memcpy(*frame + len - 4, &end, 4);
    return len;
}

static void seal(uint8_t *frame, size_t len)
{
    size_t descriptor = len > 4 && frame[4] & FLG_CONTENT_SIZE ? 10 : 2;
    if (len >= 4 + descriptor + 1)
        frame[4 + descriptor] = (uint8_t)(XXH32(frame + 4, descriptor, 0) >> 8);
}

static void check_frame(const uint8_t *frame, size_t len, uint32_t room)
{
    memory_bound_begin();
    int64_t bound = lz4_frame_bound(frame, len);
    int64_t size = lz4_frame_size(frame, len, SIZE_LIMIT);
    ASSERT(bound >= 0 || bound == E_CORRUPT || bound == E_UNSUPPORTED);
    ASSERT(bound <= (int64_t)len * 255 && size <= (int64_t)SIZE_LIMIT);
    ASSERT(bound >= 0 || size == bound);
    uint8_t *content = exact_block(1, room);
    int64_t got = lz4_frame_decode(frame, len, content, room);
    ASSERT(got <= (int64_t)room);
    if (got < 0) {
        ASSERT(got == E_CORRUPT || got == E_UNSUPPORTED || got == E_TOO_LARGE);
        ASSERT(got != E_TOO_LARGE || size == E_TOO_LARGE || size > (int64_t)room || size < 0);
    } else {
        ASSERT(got == size && got <= bound);
        if (got > 0)
            check_room(frame, len, content, (uint32_t)got);
    }
    memory_bound_end(len, 0);
}

/* Exactly its size may be too little for a block that ends against the rules: see lz4_frame.h. */
static void check_room(const uint8_t *frame, size_t len, const uint8_t *content, uint32_t size)
{
    uint8_t *again = exact_block(2, size + LZ4_FRAME_SLACK), *tight = exact_block(3, size);
    ASSERT(lz4_frame_decode(frame, len, again, size + LZ4_FRAME_SLACK) == size);
    ASSERT(memcmp(again, content, size) == 0);
    int64_t got = lz4_frame_decode(frame, len, tight, size);
    ASSERT(got == size || got == E_CORRUPT);
    tight = exact_block(3, size - 1);
    ASSERT(lz4_frame_decode(frame, len, tight, size - 1) < 0);
}

static void round_trip(const uint8_t *content, size_t len)
{
    uint32_t capacity = (uint32_t)(len + len / 64 + 64);
    uint8_t *frame = exact_block(0, capacity), *back = exact_block(1, len);
    memory_bound_begin();
    uint32_t frame_len = lz4_frame_encode(content, (uint32_t)len, frame, capacity);
    ASSERT(frame_len > 0 && frame_len <= capacity);
    ASSERT(lz4_frame_size(frame, frame_len, (uint32_t)len) == (int64_t)len);
    ASSERT(lz4_frame_decode(frame, frame_len, back, (uint32_t)len) == (int64_t)len);
    ASSERT(len == 0 || memcmp(back, content, len) == 0);
    uint8_t *tight = exact_block(2, frame_len - 1);
    ASSERT(lz4_frame_encode(content, (uint32_t)len, tight, frame_len - 1) == 0);
    memory_bound_end(len, 0);
}
