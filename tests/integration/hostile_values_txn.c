/* Values that no field of a request about transactions or groups may have: each is answered, and the connection goes
 * on. Every frame here has a right checksum and the right shape. */
#include "tests/integration/hostile.h"

#include <string.h>

/* A field of a sample, changed to what it may not be. Names of text are changed in their first byte. */
static const struct forbidden {
    uint16_t op;
    const char *name;
    uint32_t offset, bytes; // in the meta
    uint64_t value;
    uint16_t error;
} forbidden[] = {
    {OP_TXN_INIT, "id with a NUL", 2, 1, 0, PE_INVALID_ARGUMENT},
    {OP_TXN_INIT, "id that is no text", 2, 1, 0xff, PE_INVALID_ARGUMENT},
    {OP_TXN_BEGIN, "id that is no text", 2, 1, 0xff, PE_INVALID_ARGUMENT},
    {OP_TXN_BEGIN, "producer_id 2^63", 8, 8, (uint64_t)1 << 63, PE_INVALID_ARGUMENT},
    {OP_TXN_BEGIN, "by name", 8, 8, TXN_BY_NAME, PE_INVALID_ARGUMENT},
    {OP_TXN_BEGIN, "epoch 2^15", 16, 2, 0x8000, PE_INVALID_ARGUMENT},
    {OP_TXN_BEGIN, "reserved", 18, 2, 1, PE_INVALID_ARGUMENT},
    {OP_TXN_OFFSETS, "group that is no text", 2, 1, 0xff, PE_INVALID_ARGUMENT},
    {OP_TXN_OFFSETS, "member that is no text", 8, 1, 0xff, PE_INVALID_ARGUMENT},
    {OP_TXN_OFFSETS, "id that is no text", 20, 1, 0xff, PE_INVALID_ARGUMENT},
    {OP_TXN_OFFSETS, "producer_id 2^63", 26, 8, (uint64_t)1 << 63, PE_INVALID_ARGUMENT},
    {OP_TXN_OFFSETS, "by name", 26, 8, TXN_BY_NAME, PE_INVALID_ARGUMENT},
    {OP_TXN_OFFSETS, "epoch 2^15", 34, 2, 0x8000, PE_INVALID_ARGUMENT},
    {OP_TXN_OFFSETS, "reserved", 36, 2, 1, PE_INVALID_ARGUMENT},
    {OP_TXN_OFFSETS, "coordinator 64", 38, 4, 64, PE_INVALID_ARGUMENT},
    {OP_TXN_OFFSETS, "coordinator 2^32 - 1", 38, 4, UINT32_MAX, PE_INVALID_ARGUMENT},
    {OP_TXN_OFFSETS, "reserved behind the count", 54, 4, 1, PE_INVALID_ARGUMENT},
    {OP_TXN_OFFSETS, "offset 2^63", 66, 8, (uint64_t)1 << 63, PE_INVALID_ARGUMENT},
    {OP_TXN_PREPARE, "producer_id 2^63", 8, 8, (uint64_t)1 << 63, PE_INVALID_ARGUMENT},
    {OP_TXN_PREPARE, "items by name", 8, 8, TXN_BY_NAME, PE_INVALID_ARGUMENT},
    {OP_TXN_PREPARE, "reserved of an item", 52, 4, 1, PE_INVALID_ARGUMENT},
    {OP_TXN_COMMIT, "id that is no text", 2, 1, 0xff, PE_INVALID_ARGUMENT},
    {OP_TXN_COMMIT, "producer_id 2^64 - 2", 8, 8, UINT64_MAX - 1, PE_INVALID_ARGUMENT},
    {OP_TXN_COMMIT, "items by name", 8, 8, TXN_BY_NAME, PE_INVALID_ARGUMENT},
    {OP_TXN_COMMIT, "epoch 2^16 - 1", 16, 2, UINT16_MAX, PE_INVALID_ARGUMENT},
    {OP_TXN_COMMIT, "reserved", 18, 2, 1, PE_INVALID_ARGUMENT},
    {OP_TXN_COMMIT, "reserved behind the counts", 38, 2, 1, PE_INVALID_ARGUMENT},
    {OP_TXN_COMMIT, "reserved of an item", 52, 4, 1, PE_INVALID_ARGUMENT},
    {OP_TXN_COMMIT, "group that is no text", 58, 1, 0xff, PE_INVALID_ARGUMENT},
    {OP_TXN_ABORT, "id that is no text", 2, 1, 0xff, PE_INVALID_ARGUMENT},
    {OP_TXN_ABORT, "producer_id 2^63", 8, 8, (uint64_t)1 << 63, PE_INVALID_ARGUMENT},
    {OP_TXN_ABORT, "reserved", 18, 2, 1, PE_INVALID_ARGUMENT},
    {OP_TXN_LIST, "shard 64", 0, 4, 64, PE_UNKNOWN_SHARD},
    {OP_TXN_LIST, "shard 2^32 - 1", 0, 4, UINT32_MAX, PE_UNKNOWN_SHARD},
    {OP_TXN_LIST, "after that is no text", 6, 1, 0xff, PE_INVALID_ARGUMENT},
    {OP_TXN_DESCRIBE, "shard 64", 0, 4, 64, PE_UNKNOWN_SHARD},
    {OP_GROUP_JOIN, "group that is no text", 2, 1, 0xff, PE_INVALID_ARGUMENT},
    {OP_GROUP_JOIN, "instance that is no text", 10, 1, 0xff, PE_INVALID_ARGUMENT},
    {OP_GROUP_JOIN, "assignor 2", 13, 1, 2, PE_INVALID_ARGUMENT},
    {OP_GROUP_JOIN, "reserved", 14, 1, 1, PE_INVALID_ARGUMENT},
    {OP_GROUP_JOIN, "session_timeout_ms 1", 17, 4, 1, PE_INVALID_ARGUMENT},
    {OP_GROUP_JOIN, "session_timeout_ms 2^32 - 1", 17, 4, UINT32_MAX, PE_INVALID_ARGUMENT},
    {OP_GROUP_JOIN, "rebalance_timeout_ms 1", 21, 4, 1, PE_INVALID_ARGUMENT},
    {OP_GROUP_JOIN, "topic id 2^32 - 1", 29, 4, UINT32_MAX, PE_UNKNOWN_TOPIC},
    {OP_GROUP_HEARTBEAT, "group that is no text", 2, 1, 0xff, PE_INVALID_ARGUMENT},
    {OP_GROUP_HEARTBEAT, "member that is no text", 8, 1, 0xff, PE_INVALID_ARGUMENT},
    {OP_GROUP_LEAVE, "member that is no text", 8, 1, 0xff, PE_INVALID_ARGUMENT},
    {OP_GROUP_LEAVE, "for_ever 2", 14, 1, 2, PE_INVALID_ARGUMENT},
    {OP_OFFSET_COMMIT, "group that is no text", 2, 1, 0xff, PE_INVALID_ARGUMENT},
    {OP_OFFSET_COMMIT, "flags 2", 13, 2, 2, PE_INVALID_ARGUMENT},
    {OP_OFFSET_COMMIT, "reserved", 15, 2, 1, PE_INVALID_ARGUMENT},
    {OP_OFFSET_COMMIT, "offset 2^63", 29, 8, (uint64_t)1 << 63, PE_INVALID_ARGUMENT},
    {OP_OFFSET_COMMIT, "offset 2^64 - 1", 29, 8, UINT64_MAX, PE_INVALID_ARGUMENT},
    {OP_OFFSET_FETCH, "group that is no text", 2, 1, 0xff, PE_INVALID_ARGUMENT},
    {OP_OFFSET_FETCH, "reserved", 11, 4, 1, PE_INVALID_ARGUMENT},
    {OP_GROUP_LIST, "shard 64", 0, 4, 64, PE_UNKNOWN_SHARD},
    {OP_GROUP_LIST, "after that is no text", 6, 1, 0xff, PE_INVALID_ARGUMENT},
    {OP_GROUP_DESCRIBE, "group that is no text", 2, 1, 0xff, PE_INVALID_ARGUMENT},
    {OP_GROUP_DELETE, "group that is no text", 2, 1, 0xff, PE_INVALID_ARGUMENT},
};

static void try_forbidden(struct peer *peer, const struct forbidden *field)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    const struct sample *sample = sample_of(field->op);
    uint32_t length = sample->make(bytes, 3);
    le64 changed = le64_make(field->value);
    memcpy(bytes + FRAME_HEADER_SIZE + field->offset, &changed, field->bytes);
    reseal_frame(bytes);
    peer->what = field->name;
    peer_send(peer, bytes, length);
    peer_expect_error(peer, field->error, field->op, 3);
}

static void expect_refused(struct peer *peer, uint8_t *bytes, uint16_t op, const struct writer *w)
{
    if (w->failed)
        fail("%s: the frame does not fit", peer->what);
    peer_send(peer, bytes, frame_seal(bytes, op, 0, 3, writer_length(w), 0));
    peer_expect_error(peer, PE_INVALID_ARGUMENT, op, 3);
}

/* Names of every length that is none. */
static void attack_name_lengths(struct peer *peer)
{
    static uint8_t bytes[128 * 1024], letters[65535];
    static const uint32_t lengths[] = {0, 250, 1000, 65535};
    memset(letters, 'x', sizeof(letters));
    for (size_t i = 0; i < ARRAY_COUNT(lengths); i++) {
        struct slice name = {letters, lengths[i]};
        struct writer w = meta_writer(bytes, sizeof(bytes));
        write_txn_init(&w, &(struct msg_txn_init){name});
        expect_refused(peer, bytes, OP_TXN_INIT, &w);
        w = meta_writer(bytes, sizeof(bytes));
        write_txn_abort(&w, &(struct msg_txn){.id = name, .open_lsn = 4096});
        expect_refused(peer, bytes, OP_TXN_ABORT, &w);
        w = meta_writer(bytes, sizeof(bytes));
        write_group_describe(&w, &(struct msg_group_describe){name});
        expect_refused(peer, bytes, OP_GROUP_DESCRIBE, &w);
        w = meta_writer(bytes, sizeof(bytes));
        write_group_heartbeat(&w, &(struct msg_group_heartbeat){slice_of_text("team"), name, 0});
        expect_refused(peer, bytes, OP_GROUP_HEARTBEAT, &w);
    }
}

void attack_txn_values(void)
{
    struct peer peer;
    peer_open(&peer, "a value that is not allowed");
    for (size_t i = 0; i < ARRAY_COUNT(forbidden); i++)
        try_forbidden(&peer, &forbidden[i]);
    peer.what = "a name that is none";
    attack_name_lengths(&peer);
    peer_expect_alive(&peer);
    peer_close(&peer);
}
