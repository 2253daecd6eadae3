/* Attacks on what frames carry: counts and lengths that the bytes don't bear out (the connection ends), values that
 * aren't allowed (it goes on), topics that can't be. Every frame here has a right checksum. */
#include "tests/integration/hostile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- counts ---- */

static const struct field {
    uint16_t op; // of the sample
    const char *name;
    uint32_t offset, bytes; // in the meta
} fields[] = {
    {OP_HELLO, "length of client_id", 4, 2},
    {OP_HELLO, "length of software", 13, 2},
    {OP_METADATA, "name_count", 0, 2},
    {OP_METADATA, "length of after", 2, 2},
    {OP_METADATA, "length of a name", 4, 2},
    {OP_METADATA, "length of the last name", 12, 2},
    {OP_TOPIC_CREATE, "length of the name", 0, 2},
    {OP_TOPIC_CREATE, "count of settings", 12, 2},
    {OP_TOPIC_CREATE, "length of a key", 14, 2},
    {OP_TOPIC_CREATE, "length of a value", 28, 2},
    {OP_TOPIC_ALTER, "length of the name", 0, 2},
    {OP_TOPIC_ALTER, "count of settings", 12, 2},
    {OP_TOPIC_DELETE, "length of the name", 0, 2},
    {OP_PRODUCE, "batch_count", 0, 2},
    {OP_PRODUCE, "batch_bytes", 16, 4},
    {OP_FETCH, "item_count", 16, 4},
    {OP_SUBSCRIBE, "item_count", 16, 4},
    {OP_OFFSETS, "item_count", 0, 4},
    {OP_TXN_INIT, "length of id", 0, 2},
    {OP_TXN_BEGIN, "length of id", 0, 2},
    {OP_TXN_OFFSETS, "length of group", 0, 2},
    {OP_TXN_OFFSETS, "length of member", 6, 2},
    {OP_TXN_OFFSETS, "length of id", 18, 2},
    {OP_TXN_OFFSETS, "item_count", 50, 4},
    {OP_TXN_PREPARE, "length of id", 0, 2},
    {OP_TXN_PREPARE, "item_count", 32, 4},
    {OP_TXN_COMMIT, "length of id", 0, 2},
    {OP_TXN_COMMIT, "item_count", 32, 4},
    {OP_TXN_COMMIT, "group_count", 36, 2},
    {OP_TXN_COMMIT, "length of a group", 56, 2},
    {OP_TXN_ABORT, "length of id", 0, 2},
    {OP_TXN_LIST, "length of after", 4, 2},
    {OP_GROUP_JOIN, "length of group", 0, 2},
    {OP_GROUP_JOIN, "length of member", 6, 2},
    {OP_GROUP_JOIN, "length of instance", 8, 2},
    {OP_GROUP_JOIN, "topic_count", 15, 2},
    {OP_GROUP_JOIN, "item_count", 25, 4},
    {OP_GROUP_HEARTBEAT, "length of group", 0, 2},
    {OP_GROUP_HEARTBEAT, "length of member", 6, 2},
    {OP_GROUP_LEAVE, "length of group", 0, 2},
    {OP_GROUP_LEAVE, "length of member", 6, 2},
    {OP_OFFSET_COMMIT, "length of group", 0, 2},
    {OP_OFFSET_COMMIT, "length of member", 7, 2},
    {OP_OFFSET_COMMIT, "item_count", 17, 4},
    {OP_OFFSET_FETCH, "length of group", 0, 2},
    {OP_OFFSET_FETCH, "item_count", 7, 4},
    {OP_GROUP_LIST, "length of after", 4, 2},
    {OP_GROUP_DESCRIBE, "length of group", 0, 2},
    {OP_GROUP_DELETE, "length of group", 0, 2},
};

static uint32_t field_get(const uint8_t *at, uint32_t bytes)
{
    le32 value = {{0}};
    memcpy(&value, at, bytes);
    return le32_get(value);
}

static void try_field(const struct field *field, uint32_t value)
{
    const struct sample *sample = sample_of(field->op);
    uint8_t bytes[SAMPLE_BYTES_MAX];
    char what[128];
    struct peer peer;
    uint32_t length = sample->make(bytes, 1);
    uint8_t *at = bytes + FRAME_HEADER_SIZE + field->offset;
    le32 changed = le32_make(value);
    if (field_get(at, field->bytes) == value)
        return;
    snprintf(what, sizeof(what), "%s: %s = %u", sample->name, field->name, value);
    memcpy(at, &changed, field->bytes);
    reseal_frame(bytes);
    if (field->op == OP_HELLO)
        peer_connect(&peer, what);
    else
        peer_open(&peer, what);
    peer_send(&peer, bytes, length);
    peer_expect_error(&peer, PE_MALFORMED, field->op, 1);
    peer_expect_end(&peer);
    peer_close(&peer);
}

void attack_counts(void)
{
    static const uint32_t values[] = {0,
                                      1,
                                      3,
                                      5,
                                      0x7fff,
                                      0x8000,
                                      0xfffe,
                                      0xffff,
                                      0x10000,
                                      INT32_MAX,
                                      (uint32_t)1 << 31,
                                      UINT32_MAX - 1,
                                      UINT32_MAX};
    for (size_t i = 0; i < ARRAY_COUNT(fields); i++) {
        uint32_t most = fields[i].bytes == 2 ? UINT16_MAX : UINT32_MAX;
        for (size_t k = 0; k < ARRAY_COUNT(values) && values[k] <= most; k++)
            try_field(&fields[i], values[k]);
    }
}

/* ---- values ---- */

static void expect_refused(struct peer *peer, uint8_t *bytes, uint16_t op, const struct writer *w,
                           uint16_t error)
{
    if (w->failed)
        fail("%s: the frame does not fit", peer->what);
    peer_send(peer, bytes, frame_seal(bytes, op, 0, 3, writer_length(w), 0));
    peer_expect_error(peer, error, op, 3);
}

static void try_hello(uint16_t version_min, uint16_t version_max, struct slice client_id,
                      uint16_t error)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    struct peer peer;
    peer_connect(&peer, "a HELLO that is not allowed");
    struct writer w = meta_writer(bytes, sizeof(bytes));
    write_hello(&w, &(struct msg_hello){.version_min = version_min,
                                        .version_max = version_max,
                                        .client_id = client_id,
                                        .software = slice_of_text("test")});
    expect_refused(&peer, bytes, OP_HELLO, &w, error);
    peer_expect_end(&peer);
    peer_close(&peer);
}

static void attack_hello_values(void)
{
    uint8_t letters[300];
    memset(letters, 'x', sizeof(letters));
    try_hello(0, 1, slice_of_text(""), PE_INVALID_ARGUMENT);
    try_hello(2, 1, slice_of_text(""), PE_INVALID_ARGUMENT);
    try_hello(2, UINT16_MAX, slice_of_text(""), PE_UNSUPPORTED_VERSION);
    try_hello(1, 1, (struct slice){letters, 256}, PE_INVALID_ARGUMENT);
    try_hello(1, 1, (struct slice){(const uint8_t *)"a\0b", 3}, PE_INVALID_ARGUMENT);
    try_hello(1, 1, slice_of_text("\xff\xfe"), PE_INVALID_ARGUMENT);
    try_hello(1, 1, slice_of_text("\xed\xa0\x80"), PE_INVALID_ARGUMENT); // half of a surrogate pair
}

static void write_setting_change(struct writer *w, const char *key, struct slice value)
{
    write_topic_change(w, slice_of_text("settings"), 1);
    write_settings_begin(w, 1);
    write_text(w, key);
    write_string(w, value);
}

static void attack_setting_values(struct peer *peer)
{
    static const struct {
        const char *key, *value;
        uint16_t error;
    } settings[] = {
        {"", "1", PE_INVALID_ARGUMENT},
        {"retention_ms", "\xff", PE_INVALID_ARGUMENT},
        {"retention_ms", "", PE_INVALID_SETTING},
        {"retention_ms", "-1", PE_INVALID_SETTING},
        {"retention_ms", "18446744073709551616", PE_INVALID_SETTING},
        {"retention_ms", "18446744073709551615s", PE_INVALID_SETTING},
        {"retention_ms", "1e3", PE_INVALID_SETTING},
        {"retention_bytes", "1", PE_INVALID_SETTING},
        {"batch_bytes_max", "5MiB", PE_INVALID_SETTING},
        {"validation", "maybe", PE_INVALID_SETTING},
        {"timestamp_type", "0", PE_INVALID_SETTING},
        {"\n\x1b[2J", "1", PE_INVALID_SETTING},
    };
    uint8_t bytes[128 * 1024];
    static uint8_t letters[65535];
    for (size_t i = 0; i < ARRAY_COUNT(settings); i++) {
        struct writer w = meta_writer(bytes, sizeof(bytes));
        write_setting_change(&w, settings[i].key, slice_of_text(settings[i].value));
        expect_refused(peer, bytes, OP_TOPIC_CREATE, &w, settings[i].error);
    }
    memset(letters, '9', sizeof(letters));
    struct writer w = meta_writer(bytes, sizeof(bytes));
    write_setting_change(&w, "retention_ms", (struct slice){letters, sizeof(letters)});
    expect_refused(peer, bytes, OP_TOPIC_CREATE, &w, PE_INVALID_SETTING);
}

void attack_values(void)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    struct peer peer;
    attack_hello_values();
    peer_open(&peer, "a value that is not allowed");
    struct writer w = meta_writer(bytes, sizeof(bytes));
    write_metadata_begin(&w, 1, slice_of_text("behind"));
    write_text(&w, VICTIM);
    expect_refused(&peer, bytes, OP_METADATA, &w, PE_INVALID_ARGUMENT);
    static const uint64_t ids[] = {(uint64_t)1 << 63, ((uint64_t)1 << 63) + 1, UINT64_MAX - 1};
    for (size_t i = 0; i < ARRAY_COUNT(ids); i++) {
        w = meta_writer(bytes, sizeof(bytes));
        write_producer_init(&w, &(struct msg_producer_init){.producer_id = ids[i]});
        expect_refused(&peer, bytes, OP_PRODUCER_INIT, &w, PE_INVALID_ARGUMENT);
    }
    w = meta_writer(bytes, sizeof(bytes));
    write_producer_init(&w, &(struct msg_producer_init){.producer_id = INT64_MAX});
    expect_refused(&peer, bytes, OP_PRODUCER_INIT, &w, PE_UNKNOWN_PRODUCER);
    attack_setting_values(&peer);
    peer_expect_alive(&peer);
    peer_close(&peer);
}

/* ---- topics ---- */

static void try_name(struct peer *peer, uint16_t op, struct slice name)
{
    static uint8_t bytes[128 * 1024];
    struct writer w = meta_writer(bytes, sizeof(bytes));
    if (op == OP_TOPIC_DELETE) {
        write_topic_delete(&w, name);
    } else {
        write_topic_change(&w, name, 1);
        write_settings_begin(&w, 0);
    }
    expect_refused(peer, bytes, op, &w, PE_INVALID_TOPIC_NAME);
}

static void attack_names(struct peer *peer)
{
    static uint8_t letters[65535];
    const struct slice names[] = {
        slice_of_text(""),
        slice_of_text("."),
        slice_of_text(".."),
        slice_of_text("a/b"),
        slice_of_text("../../etc/passwd"),
        slice_of_text("a b"),
        slice_of_text("a\nb"),
        slice_of_text("caf\xc3\xa9"),
        slice_of_text("\xff\xff\xff"),
        slice_of_text("%s%n%99999d"),
        {(const uint8_t *)"a\0b", 3},
        {letters, 250},
        {letters, 65535},
    };
    memset(letters, 'x', sizeof(letters));
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        try_name(peer, OP_TOPIC_CREATE, names[i]);
        try_name(peer, OP_TOPIC_ALTER, names[i]);
        try_name(peer, OP_TOPIC_DELETE, names[i]);
    }
}

static uint32_t make_create(uint8_t *bytes, uint16_t op, uint64_t correlation, const char *name,
                            uint32_t partition_count)
{
    struct writer w = meta_writer(bytes, SAMPLE_BYTES_MAX);
    if (op == OP_TOPIC_DELETE) {
        write_topic_delete(&w, slice_of_text(name));
    } else {
        write_topic_change(&w, slice_of_text(name), partition_count);
        write_settings_begin(&w, 0);
    }
    return frame_seal(bytes, op, 0, correlation, writer_length(&w), 0);
}

static uint16_t call(struct peer *peer, uint16_t op, const char *name, uint32_t partition_count)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    struct frame frame;
    peer_send(peer, bytes, make_create(bytes, op, 8, name, partition_count));
    peer_expect_frame(peer, &frame);
    return error_of(&frame);
}

/* More changes at once than there are places for: each is done or OVERLOADED; then all are deleted again. */
static void attack_many_topics(struct peer *peer, uint16_t op)
{
    enum { COUNT = 300 };
    static uint8_t bytes[COUNT * 128];
    uint32_t length = 0;
    char name[32];
    for (uint32_t i = 0; i < COUNT; i++) {
        snprintf(name, sizeof(name), "many-%u", i);
        length += make_create(bytes + length, op, i, name, 1);
    }
    peer_send(peer, bytes, length);
    for (uint32_t i = 0; i < COUNT; i++) {
        struct frame frame;
        peer_expect_frame(peer, &frame);
        uint16_t error = error_of(&frame);
        bool allowed = error == PE_NONE || error == PE_OVERLOADED ||
                       (op == OP_TOPIC_DELETE && error == PE_UNKNOWN_TOPIC);
        if (!allowed || frame.op != op)
            fail("many topics at once: %s %s", op_name(frame.op), proto_error_name(error));
    }
}

static void delete_many(struct peer *peer)
{
    char name[32];
    for (uint32_t i = 0; i < 300; i++) {
        snprintf(name, sizeof(name), "many-%u", i);
        uint16_t error = call(peer, OP_TOPIC_DELETE, name, 0);
        if (error != PE_NONE && error != PE_UNKNOWN_TOPIC)
            fail("deleting topic %s: %s", name, proto_error_name(error));
    }
}

static const char *large_name(uint32_t number)
{
    static char name[32];
    snprintf(name, sizeof(name), number == 0 ? "large" : "large-%u", number);
    return name;
}

/* Who asks for more partitions than there can be leaves nothing behind: the name is free again. */
static void attack_partition_counts(struct peer *peer)
{
    static const uint32_t counts[] = {0, 16385, INT32_MAX, UINT32_MAX};
    for (size_t i = 0; i < ARRAY_COUNT(counts); i++) {
        if (call(peer, OP_TOPIC_CREATE, "large", counts[i]) != PE_INVALID_PARTITION_COUNT)
            fail("a topic of %u partitions was not refused", counts[i]);
    }
    /* Each shard has 16384 places, so of 64 shards the last such topic finds none. */
    uint32_t fit = 0;
    uint16_t error;
    while ((error = call(peer, OP_TOPIC_CREATE, large_name(fit), 16384)) == PE_NONE && fit < 64)
        fit++;
    if (error != PE_LIMIT_REACHED)
        fail("more partitions than shards have places for: %s", proto_error_name(error));
    while (fit > 0) {
        if (call(peer, OP_TOPIC_DELETE, large_name(--fit), 0) != PE_NONE)
            fail("a large topic can't be deleted");
    }
    if (call(peer, OP_TOPIC_CREATE, "large", 10) != PE_NONE)
        fail("a topic that was refused is in the way");
    error = call(peer, OP_TOPIC_ALTER, "large", 16384);
    if (error == PE_NONE) { // several shards
        if (call(peer, OP_TOPIC_DELETE, "large", 0) != PE_NONE ||
            call(peer, OP_TOPIC_CREATE, "large", 10) != PE_NONE)
            fail("a topic that grew can't be made anew");
    } else if (error != PE_LIMIT_REACHED) {
        fail("growing beyond the places of a shard: %s", proto_error_name(error));
    }
    if (call(peer, OP_TOPIC_ALTER, "large", 20) != PE_NONE)
        fail("a change that was refused is in the way");
    if (call(peer, OP_TOPIC_DELETE, "large", 0) != PE_NONE)
        fail("a topic that was to be too large can't be deleted");
}

void attack_topics(void)
{
    struct peer peer;
    peer_open(&peer, "topics");
    attack_names(&peer);
    attack_many_topics(&peer, OP_TOPIC_CREATE);
    attack_many_topics(&peer, OP_TOPIC_DELETE);
    delete_many(&peer);
    attack_partition_counts(&peer);
    peer_expect_alive(&peer);
    peer_close(&peer);
}
