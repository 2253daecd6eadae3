/* Frames: from a byte stream to checked views, and back.
 *
 * The happy path of receiving is: frame_peek() until a whole frame is there, frame_decode(),
 * read_X() of messages.h. A length is believed only within the caller's limit, meta_length only
 * within the length, and nothing else before the checksum is right. Whatever fails here ends the
 * connection: the stream has no mark at which one could start again. */
#include "proto/frame.h"

#include "base/hash.h"

#define FRAME_FLAGS_ALL (FRAME_REPLY | FRAME_ERROR | FRAME_PUSH)

static bool flags_are_valid(uint8_t flags);
static uint64_t frame_checksum(const uint8_t *bytes, uint32_t meta_length);

int64_t frame_peek(const uint8_t *bytes, size_t available, uint32_t length_max)
{
    le32 field;
    if (available < sizeof(field))
        return 0;
    memcpy(&field, bytes, sizeof(field));
    uint32_t length = le32_get(field);
    if (UNLIKELY(length < FRAME_HEADER_SIZE))
        return -PE_MALFORMED;
    if (UNLIKELY(length > length_max))
        return -PE_REQUEST_TOO_LARGE;
    if (available >= FRAME_HEADER_SIZE) {
        memcpy(&field, bytes + offsetof(struct frame_header, meta_length), sizeof(field));
        if (UNLIKELY(le32_get(field) > length - FRAME_HEADER_SIZE))
            return -PE_MALFORMED;
    }
    return length;
}

uint16_t frame_decode(const uint8_t *bytes, struct frame *frame)
{
    const struct frame_header *header = (const struct frame_header *)bytes;
    uint32_t meta_length = le32_get(header->meta_length);
    *frame = (struct frame){
        .length = le32_get(header->length),
        .op = le16_get(header->op),
        .version = header->version,
        .flags = header->flags,
        .correlation = le64_get(header->correlation),
        .meta = bytes + FRAME_HEADER_SIZE,
        .meta_length = meta_length,
    };
    if (frame->length < FRAME_HEADER_SIZE || meta_length > frame->length - FRAME_HEADER_SIZE)
        return PE_MALFORMED;
    frame->data = frame->meta + meta_length;
    frame->data_length = frame->length - FRAME_HEADER_SIZE - meta_length;
    if (UNLIKELY(frame_checksum(bytes, meta_length) != le64_get(header->checksum)))
        return PE_MALFORMED;
    if (UNLIKELY(le32_get(header->reserved) != 0 || !flags_are_valid(frame->flags)))
        return PE_MALFORMED;
    return PE_NONE;
}

uint32_t frame_seal(uint8_t *bytes, uint16_t op, uint8_t flags, uint64_t correlation,
                    uint32_t meta_length, uint32_t data_length)
{
    uint64_t length = (uint64_t)FRAME_HEADER_SIZE + meta_length + data_length;
    ASSERT(length <= UINT32_MAX);
    ASSERT(flags_are_valid(flags));
    /* In words, as the checksum reads them: what was just written in smaller pieces could not be read before all stores are done. */
    le64 first = le64_make(length | (uint64_t)op << 32 | (uint64_t)PROTO_VERSION_MAX << 48 |
                           (uint64_t)flags << 56);
    le64 second = le64_make(correlation), third = le64_make(meta_length);
    memcpy(bytes, &first, sizeof(first));
    memcpy(bytes + offsetof(struct frame_header, correlation), &second, sizeof(second));
    memcpy(bytes + offsetof(struct frame_header, meta_length), &third, sizeof(third));
    le64 checksum = le64_make(frame_checksum(bytes, meta_length));
    memcpy(bytes + offsetof(struct frame_header, checksum), &checksum, sizeof(checksum));
    return (uint32_t)length;
}

const char *op_name(uint16_t op)
{
    switch (op) {
#define OP(name, number, version_min, version_max, sender)                                         \
    case number:                                                                                   \
        return #name;
#include "proto/ops.def"
#undef OP
    default:
        return "UNKNOWN";
    }
}

bool op_is_known(uint16_t op)
{
    switch (op) {
#define OP(name, number, version_min, version_max, sender) case number:
#include "proto/ops.def"
#undef OP
        return true;
    default:
        return false;
    }
}

bool op_version_is_supported(uint16_t op, uint8_t version)
{
    switch (op) {
#define OP(name, number, version_min, version_max, sender)                                         \
    case number:                                                                                   \
        return version >= (version_min) && version <= (version_max);
#include "proto/ops.def"
#undef OP
    default:
        return false;
    }
}

/* An answer is no push, and only an answer can be an error. */
static bool flags_are_valid(uint8_t flags)
{
    bool reply = flags & FRAME_REPLY;
    bool error = flags & FRAME_ERROR;
    bool push = flags & FRAME_PUSH;
    return !(flags & ~FRAME_FLAGS_ALL) && !(reply && push) && (reply || !error);
}

/* The checksum lies between what it covers. Seeding the meta's hash with the header's chains the
 * two without copying them together; for an ordinary meta that is about 10 ns. */
static uint64_t frame_checksum(const uint8_t *bytes, uint32_t meta_length)
{
    uint64_t seed = hash_xxh3(bytes, offsetof(struct frame_header, checksum));
    return hash_xxh3_seeded(bytes + FRAME_HEADER_SIZE, meta_length, seed);
}
