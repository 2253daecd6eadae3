/* Varints of both kinds: those of frames (one form only) and those of records (padded forms too),
 * and single records and headers.
 *
 * Input: first byte: 1 = the rest are numbers to be written and read back; else the rest is read
 * from each of its bytes on. Held against: a reader without the short cuts; nothing is read behind
 * the end; what was written comes back in as many bytes as were promised. */
#include "proto/cursor.h"
#include "proto/record.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/proto/touch.h"

static void read_everywhere(const uint8_t *bytes, size_t len);
static struct taken take_plainly(const uint8_t *at, const uint8_t *end, unsigned bits);
static void check_frame_varint(const uint8_t *at, const uint8_t *end);
static void check_record(const uint8_t *at, const uint8_t *end);
static void write_and_read(struct input_reader *input);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input_reader input = {data, size};
    uint8_t kind = (uint8_t)input_number(&input, 1);
    memory_bound_begin();
    while (kind == 1 && input.left > 0)
        write_and_read(&input);
    if (kind != 1)
        read_everywhere(exact_copy(0, input.at, input.left), input.left);
    memory_bound_end(size, 0);
    return 0;
}

static void read_everywhere(const uint8_t *bytes, size_t len)
{
    const uint8_t *end = bytes + len;
    for (const uint8_t *at = bytes; at <= end; at++) {
        for (unsigned bits = 32; bits <= 64; bits += 32) {
            struct taken taken = record_take_varint(at, end, bits);
            struct taken plain = take_plainly(at, end, bits);
            ASSERT(taken.at == plain.at);
            ASSERT(taken.at == NULL || taken.raw == plain.raw);
            ASSERT(taken.at == NULL || taken.at <= end);
        }
        check_frame_varint(at, end);
        check_record(at, end);
    }
}

/* As the specification says it: seven bits a byte, at most `bits` of them, no shift that drops one. */
static struct taken take_plainly(const uint8_t *at, const uint8_t *end, unsigned bits)
{
    unsigned __int128 sum = 0;
    for (unsigned i = 0; i * 7 < bits; i++) {
        if (at == end)
            return (struct taken){NULL, 0};
        sum |= (unsigned __int128)(*at & 0x7f) << (7 * i);
        if (*at++ < 0x80)
            return sum >> bits == 0 ? (struct taken){at, (uint64_t)sum} : (struct taken){NULL, 0};
    }
    return (struct taken){NULL, 0};
}

/* Frames allow one form: what is read is what would be written. */
static void check_frame_varint(const uint8_t *at, const uint8_t *end)
{
    uint8_t again[16];
    struct reader r = reader_make(at, (size_t)(end - at)), signed_r = r;
    struct writer w = writer_make(again, sizeof(again)), signed_w = w;
    uint64_t value = read_varint(&r);
    int64_t number = read_zigzag(&signed_r);
    struct taken plain = take_plainly(at, end, 64);
    ASSERT(r.failed == signed_r.failed);
    if (r.failed) {
        ASSERT(r.at == r.end && value == 0);
        ASSERT(plain.at == NULL || plain.at[-1] == 0); // padded
        return;
    }
    ASSERT(plain.at == r.at && plain.raw == value && zigzag_decode(value) == number);
    write_varint(&w, value);
    ASSERT(writer_length(&w) == r.at - at && memcmp(again, at, writer_length(&w)) == 0);
    write_zigzag(&signed_w, number);
    ASSERT(writer_length(&signed_w) == r.at - at && memcmp(again, at, writer_length(&w)) == 0);
}

static void check_record(const uint8_t *at, const uint8_t *end)
{
    struct record_fields f;
    struct slice bytes;
    const uint8_t *behind = record_take_bytes(at, end, &bytes);
    ASSERT(behind == NULL || (behind > at && behind <= end));
    if (behind)
        touch_slice(bytes);
    if (!record_parse(at, end, &f))
        return;
    ASSERT(f.end > at && f.end <= end && f.headers <= f.end);
    touch_slice(f.key);
    touch_slice(f.value);
    ASSERT(f.payload_bytes <= (uint64_t)(f.end - at));
    int64_t headers = record_walk_headers(f.headers, f.end, f.header_count);
    ASSERT(headers >= 0 && f.payload_bytes == (uint64_t)headers + f.key.len + f.value.len);
}

static void write_and_read(struct input_reader *input)
{
    uint8_t bytes[10];
    uint64_t value = input_number(input, 8);
    value >>= value % 64; // numbers of every length
    struct writer w = writer_make(bytes, sizeof(bytes));
    write_varint(&w, value);
    uint32_t len = writer_length(&w);
    ASSERT(!w.failed && len == varint_size(value));
    uint8_t *exact = exact_copy(1, bytes, len);
    struct taken taken = record_take_varint(exact, exact + len, 64);
    ASSERT(taken.at == exact + len && taken.raw == value);
    taken = record_take_varint(exact, exact + len, 32);
    ASSERT((taken.at != NULL) == (value <= UINT32_MAX));
    ASSERT(zigzag_encode(zigzag_decode(value)) == value);
    for (uint32_t cut = 0; cut < len; cut++) {
        uint8_t *less = exact_copy(2, bytes, cut);
        ASSERT(record_take_varint(less, less + cut, 64).at == NULL);
        struct reader r = reader_make(less, cut);
        ASSERT(read_varint(&r) == 0 && r.failed);
    }
}
