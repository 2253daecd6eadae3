/* LZ4 frames, block by block.
 *
 * The happy path of reading: the frame's descriptor is checked, then each block is taken in place
 * and handed to liblz4's bounded block decoder with exactly the room that is left, then the end
 * mark must be the last thing. The library's own frame functions are not used, because they
 * allocate a context and give no size before decompressing; the blocks are the part that is hard
 * to get right, and those are the library's.
 *
 * Whatever doesn't fit together is CORRUPT. A bomb (much content from few bytes) ends where the
 * caller's room ends, as TOO_LARGE; no work is done for content that would not fit. */
#include "proto/lz4_frame.h"

#include <stdbool.h>
#include <string.h>

#include <lz4.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/status.h"

#define LZ4_MAGIC 0x184d2204u
#define BLOCK_BYTES (64 * 1024)
#define BLOCK_STORED 0x80000000u // in a block's length: not compressed
#define CONTENT_PER_BYTE_MAX 255 // a byte of input adds at most this to a match

enum flg { // first byte of the descriptor
    FLG_VERSION_MASK = 0xc0,
    FLG_VERSION_1 = 0x40,
    FLG_INDEPENDENT = 0x20,
    FLG_BLOCK_CHECKSUM = 0x10,
    FLG_CONTENT_SIZE = 0x08,
    FLG_CONTENT_CHECKSUM = 0x04,
    FLG_RESERVED = 0x02,
    FLG_DICTIONARY = 0x01,
};

/* Magic, FLG 0x60, BD 0x40 (64 KiB), and the second byte of XXH32 over these two. */
static const uint8_t frame_head[] = {0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82};

struct lz4_frame {
    const uint8_t *at;  // next block
    const uint8_t *end; // of the input
    uint32_t block_bytes_max;
    uint8_t flg;
    uint64_t content_size; // when flg & FLG_CONTENT_SIZE
};

struct lz4_block {
    const uint8_t *bytes;
    uint32_t len;
    bool stored;
};

static int frame_open(struct lz4_frame *frame, const uint8_t *src, size_t len);
static int frame_next(struct lz4_frame *frame, struct lz4_block *block);
static int frame_finish(const struct lz4_frame *frame);
static int64_t frame_total(const struct lz4_frame *frame, uint64_t total);
static int64_t block_size(const struct lz4_block *block, uint32_t limit);
static bool take_length(const uint8_t **at, const uint8_t *end, uint64_t *length);
static int64_t block_decode(const struct lz4_block *block, uint8_t *dst, uint64_t room,
                            uint32_t block_bytes_max);
static uint32_t block_encode(const uint8_t *src, uint32_t len, uint8_t *dst, uint64_t room);
static uint32_t load_u32(const uint8_t *bytes);
static void store_u32(uint8_t *bytes, uint32_t value);

uint32_t lz4_frame_encode(const uint8_t *src, uint32_t len, uint8_t *dst, uint32_t capacity)
{
    if (capacity < sizeof(frame_head) + sizeof(uint32_t))
        return 0;
    memcpy(dst, frame_head, sizeof(frame_head));
    uint64_t used = sizeof(frame_head);
    uint64_t used_max = capacity - sizeof(uint32_t); // room for the end mark
    for (uint32_t done = 0; done < len;) {
        uint32_t piece = (uint32_t)min_u64(len - done, BLOCK_BYTES);
        uint32_t written = block_encode(src + done, piece, dst + used, used_max - used);
        if (written == 0)
            return 0;
        used += written;
        done += piece;
    }
    store_u32(dst + used, 0);
    return (uint32_t)(used + sizeof(uint32_t));
}

int64_t lz4_frame_bound(const uint8_t *src, size_t len)
{
    struct lz4_frame frame;
    struct lz4_block block;
    int64_t bound = 0;
    int status = frame_open(&frame, src, len);
    if (status < 0)
        return status;
    while ((status = frame_next(&frame, &block)) > 0) {
        uint64_t content = block.stored ? block.len : (uint64_t)block.len * CONTENT_PER_BYTE_MAX;
        bound += (int64_t)min_u64(content, frame.block_bytes_max);
    }
    return status < 0 ? status : bound;
}

int64_t lz4_frame_size(const uint8_t *src, size_t len, uint32_t limit)
{
    struct lz4_frame frame;
    struct lz4_block block;
    uint64_t total = 0;
    int status = frame_open(&frame, src, len);
    if (status < 0)
        return status;
    while ((status = frame_next(&frame, &block)) > 0) {
        int64_t size = block_size(&block, frame.block_bytes_max);
        if (size < 0)
            return size;
        total += (uint64_t)size;
        if (total > limit)
            return E_TOO_LARGE;
    }
    return status < 0 ? status : frame_total(&frame, total);
}

int64_t lz4_frame_decode(const uint8_t *src, size_t len, uint8_t *dst, uint32_t capacity)
{
    struct lz4_frame frame;
    struct lz4_block block;
    uint64_t total = 0;
    int status = frame_open(&frame, src, len);
    if (status < 0)
        return status;
    while ((status = frame_next(&frame, &block)) > 0) {
        int64_t size = block_decode(&block, dst + total, capacity - total, frame.block_bytes_max);
        if (size < 0)
            return size;
        total += (uint64_t)size;
    }
    return status < 0 ? status : frame_total(&frame, total);
}

/* ---- the frame ---- */

/*   magic (4)  FLG  BD  [content size (8)]  second byte of XXH32(FLG .. content size)   */
static int frame_open(struct lz4_frame *frame, const uint8_t *src, size_t len)
{
    if (len < sizeof(frame_head) || load_u32(src) != LZ4_MAGIC)
        return E_CORRUPT;
    uint8_t flg = src[4];
    uint8_t bd = src[5];
    size_t descriptor_len = flg & FLG_CONTENT_SIZE ? 10 : 2;
    if ((flg & FLG_VERSION_MASK) != FLG_VERSION_1 || flg & FLG_RESERVED || (bd & 0x8f) || bd < 0x40)
        return E_CORRUPT;
    if (!(flg & FLG_INDEPENDENT) || flg & FLG_DICTIONARY)
        return E_UNSUPPORTED;
    if (len < 4 + descriptor_len + 1)
        return E_CORRUPT;
    if (src[4 + descriptor_len] != (uint8_t)(XXH32(src + 4, descriptor_len, 0) >> 8))
        return E_CORRUPT;
    *frame = (struct lz4_frame){
        .at = src + 4 + descriptor_len + 1,
        .end = src + len,
        .block_bytes_max = 1u << (8 + 2 * (bd >> 4)), // 4: 64 KiB ... 7: 4 MiB
        .flg = flg,
    };
    if (flg & FLG_CONTENT_SIZE)
        memcpy(&frame->content_size, src + 6, sizeof(frame->content_size));
    return E_OK;
}

/* 1: a block; 0: the end mark, and the input ends with it; CORRUPT. */
static int frame_next(struct lz4_frame *frame, struct lz4_block *block)
{
    if (frame->end - frame->at < (ptrdiff_t)sizeof(uint32_t))
        return E_CORRUPT;
    uint32_t word = load_u32(frame->at);
    frame->at += sizeof(word);
    if (word == 0)
        return frame_finish(frame);
    *block = (struct lz4_block){
        .bytes = frame->at, .len = word & ~BLOCK_STORED, .stored = word & BLOCK_STORED};
    uint64_t checksum_len = frame->flg & FLG_BLOCK_CHECKSUM ? sizeof(uint32_t) : 0;
    if (block->len == 0 || block->len > frame->block_bytes_max ||
        block->len + checksum_len > (uint64_t)(frame->end - frame->at))
        return E_CORRUPT;
    frame->at += block->len + checksum_len;
    return 1;
}

static int frame_finish(const struct lz4_frame *frame)
{
    ptrdiff_t rest = frame->flg & FLG_CONTENT_CHECKSUM ? sizeof(uint32_t) : 0;
    return frame->end - frame->at == rest ? 0 : E_CORRUPT;
}

static int64_t frame_total(const struct lz4_frame *frame, uint64_t total)
{
    if (frame->flg & FLG_CONTENT_SIZE && frame->content_size != total)
        return E_CORRUPT;
    return (int64_t)total;
}

/* ---- blocks ---- */

/* A block is a row of sequences: a token (4 bits of literal length, 4 of match length), literals,
 * then a match as offset (2) and length - 4. A nibble of 15 goes on in bytes, as long as they are
 * 255. The last sequence ends behind its literals. */
static int64_t block_size(const struct lz4_block *block, uint32_t limit)
{
    const uint8_t *at = block->bytes;
    const uint8_t *end = at + block->len;
    uint64_t total = 0;
    if (block->stored)
        return block->len;
    while (at < end) {
        uint8_t token = *at++;
        uint64_t literals = token >> 4;
        uint64_t match = token & 15;
        if (!take_length(&at, end, &literals) || literals > (uint64_t)(end - at))
            return E_CORRUPT;
        at += literals;
        total += literals;
        if (at == end)
            return total <= limit ? (int64_t)total : E_CORRUPT;
        if (end - at < 2)
            return E_CORRUPT;
        at += 2;
        if (!take_length(&at, end, &match))
            return E_CORRUPT;
        total += match + 4;
        if (total > limit)
            return E_CORRUPT;
    }
    return E_CORRUPT;
}

static bool take_length(const uint8_t **at, const uint8_t *end, uint64_t *length)
{
    uint8_t byte = 255;
    if (*length < 15)
        return true;
    while (byte == 255) {
        if (*at == end)
            return false;
        byte = *(*at)++;
        *length += byte;
    }
    return true;
}

static int64_t block_decode(const struct lz4_block *block, uint8_t *dst, uint64_t room,
                            uint32_t block_bytes_max)
{
    int64_t size = 0;
    if (room < block_bytes_max) {
        size = block_size(block, block_bytes_max);
        if (size < 0 || (uint64_t)size > room)
            return size < 0 ? size : E_TOO_LARGE;
    }
    if (block->stored) {
        memcpy(dst, block->bytes, block->len);
        return block->len;
    }
    size = LZ4_decompress_safe((const char *)block->bytes, (char *)dst, (int)block->len,
                               (int)min_u64(room, block_bytes_max));
    return size < 0 ? E_CORRUPT : size;
}

/* Length and data of one block, stored as it is when compressing doesn't make it shorter. 0: no
 * room. */
static uint32_t block_encode(const uint8_t *src, uint32_t len, uint8_t *dst, uint64_t room)
{
    if (room <= sizeof(uint32_t))
        return 0;
    room -= sizeof(uint32_t);
    int size = LZ4_compress_default((const char *)src, (char *)dst + sizeof(uint32_t), (int)len,
                                    (int)min_u64(room, len - 1));
    if (size > 0) {
        store_u32(dst, (uint32_t)size);
        return (uint32_t)size + sizeof(uint32_t);
    }
    if (room < len)
        return 0;
    store_u32(dst, len | BLOCK_STORED);
    memcpy(dst + sizeof(uint32_t), src, len);
    return len + sizeof(uint32_t);
}

/* ---- little-endian words ---- */

static uint32_t load_u32(const uint8_t *bytes)
{
    uint32_t value;
    memcpy(&value, bytes, sizeof(value));
    return value;
}

static void store_u32(uint8_t *bytes, uint32_t value)
{
    memcpy(bytes, &value, sizeof(value));
}
