/* Metas of transactions and consumer groups whose values or counts are not allowed. What all
 * messages have in common (cuts, flips, bytes too many) is in messages_damage_test.c. */
#include <criterion/criterion.h>

#include "tests/unit/proto/read_any.h"
#include "tests/unit/proto/samples.h"

#define ID "transfer-\xc3\xa9" // 11 bytes, 13 with their length
#define TXN_BYTES (13 + 8 + 2 + 2 + 4 + 8)
#define GROUP_BYTES 9  // "billing"
#define MEMBER_BYTES 5 // "m-1"

static const struct sample *find(const char *name)
{
    for (size_t i = 0; i < ARRAY_COUNT(samples); i++) {
        if (strcmp(samples[i].name, name) == 0)
            return &samples[i];
    }
    cr_assert_fail("no sample %s", name);
    return NULL;
}

/* The verdict on a sample's meta of which `len` bytes at `at` have become `value`. The meta lies in
 * a block of exactly its size. */
static uint16_t read_set(const char *name, uint32_t at, uint8_t value, uint32_t len)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    struct frame frame;
    sample_encode(find(name), bytes);
    cr_assert_eq(frame_decode(bytes, &frame), PE_NONE);
    cr_assert_leq(at + len, frame.meta_length, "%s", name);
    uint8_t *meta = malloc(frame.meta_length);
    memcpy(meta, frame.meta, frame.meta_length);
    memset(meta + at, value, len);
    frame.meta = meta;
    uint16_t error = read_any(&frame);
    free(meta);
    return error;
}

static uint16_t read_changed(const char *name, uint32_t at, uint8_t value)
{
    return read_set(name, at, value, 1);
}

static struct frame made_frame(uint16_t op, const struct writer *w)
{
    cr_assert_not(w->failed);
    return (struct frame){
        .op = op, .meta = w->start, .meta_length = writer_length(w), .data = w->at};
}

Test(messages_txn_damage, counts_beyond_the_bytes_are_malformed)
{
    static const struct {
        const char *name;
        uint32_t at, width;
    } counts[] = {
        {"txn_offsets", GROUP_BYTES + MEMBER_BYTES + 4 + TXN_BYTES, 4},
        {"txn_prepare", TXN_BYTES, 4},
        {"txn_commit", TXN_BYTES, 4},
        {"txn_commit", TXN_BYTES + 4, 2},
        {"txn_commit_by_name", TXN_BYTES, 4},
        {"txn_commit_by_name", TXN_BYTES + 4, 2},
        {"txn_commit_reply", 0, 4},
        {"txn_list_reply", 6, 2},
        {"txn_describe_reply", 16, 4},
        {"group_join", GROUP_BYTES + MEMBER_BYTES + 8 + 2, 2},
        {"group_join", GROUP_BYTES + MEMBER_BYTES + 8 + 12, 4},
        {"group_join_reply", MEMBER_BYTES + 8, 3}, // all four bytes would be UNCHANGED
        {"offset_commit", GROUP_BYTES + MEMBER_BYTES + 8, 4},
        {"offset_commit_reply", 0, 4},
        {"offset_fetch", GROUP_BYTES, 4},
        {"offset_fetch_reply", 0, 4},
        {"group_list_reply", 6, 2},
        {"group_describe_reply", 2, 2},
        {"group_describe_reply", 8 + MEMBER_BYTES + 8 + 12, 4},
    };
    for (size_t i = 0; i < ARRAY_COUNT(counts); i++)
        cr_assert_eq(read_set(counts[i].name, counts[i].at, 0xff, counts[i].width), PE_MALFORMED,
                     "%s at %u", counts[i].name, counts[i].at);
}

/* UNCHANGED has no items, so those that are there are left over. */
Test(messages_txn_damage, an_unchanged_assignment_has_no_items)
{
    cr_assert_eq(read_set("group_join_reply", MEMBER_BYTES + 8, 0xff, 4), PE_MALFORMED);
}

Test(messages_txn_damage, reserved_bytes_must_be_zero)
{
    static const struct {
        const char *name;
        uint32_t at;
    } places[] = {
        {"txn_begin", 13 + 10},
        {"txn_abort", 13 + 10},
        {"txn_offsets", GROUP_BYTES + MEMBER_BYTES + 4 + TXN_BYTES + 4},
        {"txn_commit", TXN_BYTES + 6},
        {"txn_commit", TXN_BYTES + 8 + 12},
        {"txn_commit", TXN_BYTES + 8 + 16 + 15},
        {"txn_commit_reply", 4},
        {"txn_list_reply", 5},
        {"txn_list_reply", 8 + 13 + 11},
        {"txn_describe_reply", 1},
        {"txn_describe_reply", 3},
        {"txn_describe_reply", 20},
        {"group_join", GROUP_BYTES + MEMBER_BYTES + 8 + 1},
        {"offset_commit", GROUP_BYTES + MEMBER_BYTES + 6},
        {"offset_commit_reply", 4},
        {"offset_commit_reply", 8 + 10},
        {"offset_commit_reply", 8 + 24 + 15},
        {"offset_fetch", GROUP_BYTES + 4},
        {"group_list_reply", 5},
        {"group_list_reply", 8 + GROUP_BYTES + 1},
        {"group_list_reply", 8 + GROUP_BYTES + 3},
    };
    for (size_t i = 0; i < ARRAY_COUNT(places); i++)
        cr_assert_eq(read_changed(places[i].name, places[i].at, 1), PE_INVALID_ARGUMENT, "%s at %u",
                     places[i].name, places[i].at);
}

Test(messages_txn_damage, values_outside_their_range_are_named)
{
    static const struct {
        const char *name;
        uint32_t at;
        uint8_t value;
        const char *what;
    } cases[] = {
        {"txn_init_reply", 7, 0x80, "negative producer id"},
        {"txn_init_reply", 9, 0x80, "negative epoch"},
        {"txn_init_reply", 10, 2, "unknown state"},
        {"txn_begin", 13 + 7, 0x80, "negative producer id"},
        {"txn_begin", 13 + 9, 0x80, "negative epoch"},
        {"txn_abort", 13 + 7, 0x80, "negative producer id that is not BY_NAME"},
        {"txn_abort", 13 + 9, 0x80, "negative epoch"},
        {"txn_commit", 13 + 9, 0x80, "negative epoch"},
        {"txn_list_reply", 4, 2, "more is 0 or 1"},
        {"txn_list_reply", 8 + 13 + 10, 6, "unknown state"},
        {"txn_describe_reply", 0, 3, "unknown state"},
        {"group_join", GROUP_BYTES + MEMBER_BYTES + 8, 2, "unknown assignor"},
        {"group_leave", GROUP_BYTES + MEMBER_BYTES, 2, "for_ever is 0 or 1"},
        {"offset_commit", GROUP_BYTES + MEMBER_BYTES + 4, 2, "unknown flag"},
        {"offset_commit", GROUP_BYTES + MEMBER_BYTES + 5, 1, "unknown flag"},
        {"offset_commit", GROUP_BYTES + MEMBER_BYTES + 4, 1, "a member resets"},
        {"offset_commit", GROUP_BYTES + MEMBER_BYTES + 12 + 15, 0x80, "no place in a partition"},
        {"txn_offsets", GROUP_BYTES + MEMBER_BYTES + 4 + TXN_BYTES + 8 + 15, 0x80, "likewise"},
        {"group_list_reply", 4, 2, "more is 0 or 1"},
        {"group_list_reply", 8 + GROUP_BYTES, 3, "unknown state"},
        {"group_describe_reply", 0, 3, "unknown state"},
        {"group_describe_reply", 1, 2, "unknown assignor"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        cr_assert_eq(read_changed(cases[i].name, cases[i].at, cases[i].value), PE_INVALID_ARGUMENT,
                     "%s: %s", cases[i].name, cases[i].what);
}

/* Only an end can be asked for by an operator; what begins or stages is a producer's. */
Test(messages_txn_damage, by_name_is_for_ends_only)
{
    cr_assert_eq(read_set("txn_begin", 13, 0xff, 8), PE_INVALID_ARGUMENT);
    cr_assert_eq(read_set("txn_offsets", GROUP_BYTES + MEMBER_BYTES + 4 + 13, 0xff, 8),
                 PE_INVALID_ARGUMENT);
    cr_assert_eq(read_set("txn_abort", 13, 0xff, 8), PE_NONE);
    cr_assert_eq(read_set("txn_commit", 13, 0xff, 8), PE_INVALID_ARGUMENT, "with items");
}

/* ---- names ---- */

static uint16_t read_init(struct writer *w, struct slice name)
{
    struct msg_txn_init m;
    write_txn_init(w, &(struct msg_txn_init){.id = name});
    struct frame frame = made_frame(OP_TXN_INIT, w);
    return read_txn_init(&frame, &m);
}

static uint16_t read_delete(struct writer *w, struct slice name)
{
    struct slice group;
    write_group_delete(w, name);
    struct frame frame = made_frame(OP_GROUP_DELETE, w);
    return read_group_delete(&frame, &group);
}

static uint16_t read_beat(struct writer *w, struct slice name)
{
    struct msg_group_heartbeat m = {.group = slice_of_text("g"), .member = name};
    write_group_heartbeat(w, &m);
    struct frame frame = made_frame(OP_GROUP_HEARTBEAT, w);
    return read_group_heartbeat(&frame, &m);
}

static uint16_t read_instance(struct writer *w, struct slice name)
{
    const le32 topic_id = le32_make(1);
    struct msg_group_join m = {
        .group = slice_of_text("g"), .instance = name, .topic_count = 1, .topic_ids = &topic_id};
    write_group_join_begin(w, &m);
    struct frame frame = made_frame(OP_GROUP_JOIN, w);
    return read_group_join(&frame, &m);
}

Test(messages_txn_damage, names_are_text_of_a_limited_length)
{
    static const struct {
        uint16_t (*read)(struct writer *w, struct slice name);
        uint32_t bytes_max;
        bool may_be_empty;
    } names[] = {
        {read_init, 249, false},
        {read_delete, 249, false},
        {read_beat, 64, false},
        {read_instance, 128, true},
    };
    uint8_t bytes[1024];
    char text[300];
    memset(text, 'x', sizeof(text));
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        for (uint32_t len = 0; len < 300; len++) {
            struct writer w = writer_make(bytes, sizeof(bytes));
            bool good = len <= names[i].bytes_max && (len > 0 || names[i].may_be_empty);
            cr_assert_eq(names[i].read(&w, (struct slice){(const uint8_t *)text, len}),
                         good ? PE_NONE : PE_INVALID_ARGUMENT, "%zu: %u bytes", i, len);
        }
        struct writer w = writer_make(bytes, sizeof(bytes));
        cr_assert_eq(names[i].read(&w, slice_of_text("a\xff")), PE_INVALID_ARGUMENT, "%zu", i);
        w = writer_make(bytes, sizeof(bytes));
        cr_assert_eq(names[i].read(&w, (struct slice){(const uint8_t *)"a\0b", 3}),
                     PE_INVALID_ARGUMENT, "%zu", i);
    }
}

Test(messages_txn_damage, a_name_of_a_group_in_a_commit_is_a_name)
{
    static const struct {
        const char *name;
        uint16_t error;
    } cases[] = {{"g", PE_NONE}, {"", PE_INVALID_ARGUMENT}, {"\xed\xa0\x80", PE_INVALID_ARGUMENT}};
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        uint8_t bytes[256];
        struct msg_txn txn = sample_txn_name();
        struct msg_txn_end m;
        struct writer w = writer_make(bytes, sizeof(bytes));
        write_txn_end_begin(&w, &txn, 0, 1);
        write_text(&w, cases[i].name);
        struct frame frame = made_frame(OP_TXN_COMMIT, &w);
        cr_assert_eq(read_txn_end(&frame, &m), cases[i].error, "%zu", i);
    }
}

/* ---- how many ---- */

static uint16_t read_txn_items(struct writer *w, uint32_t count)
{
    struct msg_txn txn = sample_txn_name();
    struct msg_txn_end m;
    write_txn_end_begin(w, &txn, count, 0);
    for (uint32_t i = 0; i < count; i++)
        write_txn_item(w, 1, i, 1);
    struct frame frame = made_frame(OP_TXN_COMMIT, w);
    return read_txn_end(&frame, &m);
}

static uint16_t read_offset_items(struct writer *w, uint32_t count)
{
    struct msg_offset_commit m = {.group = slice_of_text("g"), .item_count = count};
    write_offset_commit_begin(w, &m);
    for (uint32_t i = 0; i < count; i++)
        write_offset_item(w, 1, i, 1);
    struct frame frame = made_frame(OP_OFFSET_COMMIT, w);
    return read_offset_commit(&frame, &m);
}

static uint16_t read_fetched(struct writer *w, uint32_t count)
{
    struct msg_offset_fetch m;
    write_offset_fetch_begin(w, slice_of_text("g"), count);
    for (uint32_t i = 0; i < count; i++)
        write_group_item(w, 1, i);
    struct frame frame = made_frame(OP_OFFSET_FETCH, w);
    return read_offset_fetch(&frame, &m);
}

static uint16_t read_assigned(struct writer *w, uint32_t count)
{
    struct msg_group_assignment m = {.member = slice_of_text("m"), .item_count = count};
    write_group_assignment_begin(w, &m);
    for (uint32_t i = 0; i < count; i++)
        write_group_item(w, 1, i);
    struct frame frame = made_frame(OP_GROUP_JOIN, w);
    return read_group_assignment(&frame, &m);
}

static uint16_t read_joined_topics(struct writer *w, uint32_t count)
{
    static le32 topic_ids[GROUP_TOPICS_MAX + 1];
    struct msg_group_join m = {
        .group = slice_of_text("g"), .topic_count = (uint16_t)count, .topic_ids = topic_ids};
    write_group_join_begin(w, &m);
    struct frame frame = made_frame(OP_GROUP_JOIN, w);
    return read_group_join(&frame, &m);
}

Test(messages_txn_damage, item_counts_have_a_range)
{
    static const struct {
        uint16_t (*read)(struct writer *w, uint32_t count);
        uint32_t min, max;
    } arrays[] = {
        {read_txn_items, 0, 16384}, {read_offset_items, 1, 16384}, {read_fetched, 0, 16384},
        {read_assigned, 0, 16384},  {read_joined_topics, 1, 256},
    };
    enum { ROOM = 512 * 1024 };
    uint8_t *bytes = malloc(ROOM);
    for (size_t i = 0; i < ARRAY_COUNT(arrays); i++) {
        const uint32_t counts[] = {0, 1, arrays[i].max, arrays[i].max + 1};
        for (size_t n = 0; n < ARRAY_COUNT(counts); n++) {
            struct writer w = writer_make(bytes, ROOM);
            bool good = counts[n] >= arrays[i].min && counts[n] <= arrays[i].max;
            cr_assert_eq(arrays[i].read(&w, counts[n]), good ? PE_NONE : PE_INVALID_ARGUMENT,
                         "%zu: %u items", i, counts[n]);
        }
    }
    free(bytes);
}
