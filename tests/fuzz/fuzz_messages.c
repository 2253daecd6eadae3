/* Every decoder of messages*.h over a meta and data that lie in blocks of exactly their size.
 *
 * Input: u16 op, u8 flags, u16 data length (the last bytes of the input), the meta. First the
 * decoder that op and flags name, and what it lets pass is written again and compared; then every
 * other one with the same bytes, so that each run is a run of each decoder. Held against: nothing
 * is read outside the frame; the answer is one of the three that a decoder may give; there is one
 * way to write a message; no memory is taken. */
#include "base/check.h"
#include "proto/messages.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/write_again.h"
#include "tests/unit/proto/read_any.h"

#define HEAD 5
#define AGAIN_BYTES (1u << 20)

static uint16_t read_as(struct frame *frame, uint16_t op, uint8_t flags);
static void compare_again(const struct frame *frame);
static void errors_again(const struct frame *frame);
static void read_with_all(struct frame *frame);
static void check_name(const struct frame *frame);

static const uint16_t ops[] = {
#define OP(name, number, version_min, version_max, sender) (number),
#include "proto/ops.def"
#undef OP
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < HEAD)
        return 0;
    uint16_t op = (uint16_t)(data[0] | data[1] << 8);
    uint16_t wish = (uint16_t)(data[3] | data[4] << 8);
    size_t rest = size - HEAD;
    size_t data_len = wish < rest ? wish : rest;
    struct frame frame = {
        .meta = exact_copy(0, data + HEAD, rest - data_len),
        .meta_length = (uint32_t)(rest - data_len),
        .data = exact_copy(1, data + size - data_len, data_len),
        .data_length = (uint32_t)data_len,
    };
    memory_bound_begin();
    if (read_as(&frame, op, data[2]) == PE_NONE)
        compare_again(&frame);
    check_name(&frame);
    read_with_all(&frame);
    memory_bound_end(size, 0);
    return 0;
}

static uint16_t read_as(struct frame *frame, uint16_t op, uint8_t flags)
{
    frame->op = op;
    frame->flags = flags;
    uint16_t error = read_any(frame);
    ASSERT(error == PE_NONE || error == PE_MALFORMED || error == PE_INVALID_ARGUMENT);
    return error;
}

static void compare_again(const struct frame *frame)
{
    static uint8_t bytes[AGAIN_BYTES];
    struct writer w = writer_make(bytes, sizeof(bytes));
    if (!write_again(frame, &w)) {
        errors_again(frame);
        return;
    }
    ASSERT(!w.failed && writer_length(&w) == frame->meta_length);
    ASSERT(frame->meta_length == 0 || memcmp(bytes, frame->meta, frame->meta_length) == 0);
}

/* The writer takes name and "may be retried" from its own table, so number and text must come back
 * and the rest be as that table says. */
static void errors_again(const struct frame *frame)
{
    static uint8_t bytes[2 * 65536 + 64];
    static char text[65536];
    struct writer w = writer_make(bytes, sizeof(bytes));
    struct msg_error first, back;
    struct msg_produce_failure failure;
    bool is_produce = frame->op == OP_PRODUCE;
    if (is_produce)
        ASSERT(read_produce_failure(frame, &failure) == PE_NONE);
    else
        ASSERT(read_error(frame, &first) == PE_NONE);
    struct msg_error *m = is_produce ? &failure.first : &first;
    if (m->text.len > 0)
        memcpy(text, m->text.bytes, m->text.len);
    text[m->text.len] = '\0';
    write_error(&w, m->error, text);
    ASSERT(!w.failed);
    struct frame again = {.op = OP_PING,
                          .flags = FRAME_REPLY | FRAME_ERROR,
                          .meta = bytes,
                          .meta_length = writer_length(&w)};
    ASSERT(read_error(&again, &back) == PE_NONE && back.error == m->error);
    ASSERT(slice_equals(back.text, m->text));
    ASSERT(slice_equals(back.name, slice_of_text(proto_error_name(m->error))));
    ASSERT(back.retriable == proto_error_is_retriable(m->error));
}

/* With these bytes as the meta of each operation: request, reply, and the two kinds of errors. */
static void read_with_all(struct frame *frame)
{
    static const uint8_t kinds[] = {0, FRAME_REPLY};
    for (size_t i = 0; i < ARRAY_COUNT(ops); i++)
        for (size_t k = 0; k < ARRAY_COUNT(kinds); k++)
            (void)read_as(frame, ops[i], kinds[k]);
    (void)read_as(frame, OP_PRODUCE, FRAME_REPLY | FRAME_ERROR);
    (void)read_as(frame, OP_PING, FRAME_REPLY | FRAME_ERROR);
}

static void check_name(const struct frame *frame)
{
    const char *why;
    struct slice name = {frame->meta, frame->meta_length};
    ASSERT((topic_name_check(name, &why) == PE_NONE) == (why == NULL));
    ASSERT(why || slice_is_utf8(name));
}
