/* Entries that can't be: a shard's part of replay refuses them, and nothing changes. And the id blocks and
 * expiries that come only after many producers. */
#include "broker/groups.h"
#include "broker/participants.h"
#include "broker/shard_state.h"
#include "broker/transactions.h"
#include "tests/unit/broker/shard_fixture.h"

static struct shard_fixture *f;

static void open_shards(void)
{
    f = malloc(sizeof(*f));
    shf_init(f, 1, 2);
}

static void free_shards(void)
{
    shf_free(f);
}
TestSuite(shard_state, .init = open_shards, .fini = free_shards, .timeout = 60);

/* ---- what replay refuses ---- */

static int apply(uint16_t shard, uint8_t type, uint8_t flags, const void *payload, uint32_t bytes)
{
    struct wal_view view = {.lsn = 1 << 20,
                            .append_time_ms = 1700000000000,
                            .type = type,
                            .flags = flags,
                            .topic_id = 1,
                            .payload = payload,
                            .payload_bytes = bytes};
    return shard_state_apply(&f->shards[shard], &view, NULL);
}

static void is_refused(uint16_t shard, uint8_t type, const void *payload, uint32_t bytes)
{
    uint64_t before = shard_digest(&f->shards[shard]);
    cr_assert_eq(apply(shard, type, 0, payload, bytes), E_CORRUPT, "type %u, %u bytes", type,
                 bytes);
    cr_assert_eq(shard_digest(&f->shards[shard]), before, "type %u, %u bytes", type, bytes);
}

static struct disk_topic topic(uint32_t id, const char *name)
{
    struct disk_topic topic = {.topic_id = le32_make(id),
                               .partition_count = le32_make(1),
                               .name_length = (uint8_t)strlen(name)};
    memcpy(topic.name, name, strlen(name));
    return topic;
}

Test(shard_state, an_entry_of_another_length_is_refused)
{
    static const uint8_t zeros[4096];
    struct disk_topic good = topic(5, "t");
    is_refused(0, ENTRY_PRODUCER_EXPIRE, zeros, sizeof(le64) - 1);
    is_refused(0, ENTRY_PRODUCER_EXPIRE, zeros, sizeof(le64) + 1);
    is_refused(0, ENTRY_TOPIC, &good, sizeof(good) - 1);
    is_refused(0, ENTRY_SLOT_TABLE, zeros, SLOT_COUNT * sizeof(le16) - 2);
    is_refused(0, ENTRY_PID_BLOCK, zeros, 0);
    is_refused(0, ENTRY_BATCH, zeros, 60);
}

Test(shard_state, a_topic_that_nobody_could_have_made_is_refused)
{
    struct disk_topic bad[] = {topic(0, "t"), topic(5, "a/b"), topic(5, ""), topic(5, "..")};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        is_refused(0, ENTRY_TOPIC, &bad[i], sizeof(bad[i]));
    struct disk_topic long_name = topic(5, "t");
    memset(long_name.name, 'x', sizeof(long_name.name));
    long_name.name_length = 255;
    is_refused(0, ENTRY_TOPIC, &long_name, sizeof(long_name));
}

Test(shard_state, a_slot_of_a_shard_that_cannot_be_is_refused)
{
    le16 owners[SLOT_COUNT] = {le16_make(SHARDS_MAX)};
    is_refused(0, ENTRY_SLOT_TABLE, owners, sizeof(owners));
}

Test(shard_state, what_belongs_to_shard_0_is_refused_by_others)
{
    static const uint8_t slots[SLOT_COUNT * sizeof(le16)];
    struct disk_topic good = topic(5, "t");
    is_refused(1, ENTRY_TOPIC, &good, sizeof(good));
    is_refused(1, ENTRY_TOPIC_DROP, NULL, 0);
    is_refused(1, ENTRY_SLOT_TABLE, slots, sizeof(slots));
}

Test(shard_state, an_unknown_type_is_refused_unless_it_says_that_it_may_be_ignored)
{
    is_refused(0, 200, NULL, 0);
    cr_assert_eq(apply(0, 200, ENTRY_IGNORABLE, NULL, 0), 0);
}

/* ---- producer ids ---- */

/* Returns the error; *id and *epoch: the wish, and what came. */
static uint16_t ask_id(uint64_t *id, uint16_t *epoch)
{
    struct request *request = shf_request(f, 0, OP_PRODUCER_INIT, 1);
    struct writer w = shf_writer(request);
    struct msg_producer_init wish = {*id, *epoch};
    write_producer_init(&w, &wish);
    shf_seal(request, &w, 0);
    shf_call(f, request);
    uint16_t error = request->error;
    if (!error) {
        struct frame frame;
        struct msg_producer_init_reply reply;
        cr_assert_eq(frame_decode(request->reply->bytes, &frame), PE_NONE);
        cr_assert_eq(read_producer_init_reply(&frame, &reply), PE_NONE);
        *id = reply.producer_id;
        *epoch = reply.epoch;
    }
    shf_release(f, request);
    return error;
}

static uint64_t new_id(void)
{
    uint64_t id = PRODUCER_NONE;
    uint16_t epoch = 0;
    cr_assert_eq(ask_id(&id, &epoch), PE_NONE);
    cr_assert_eq(epoch, 0);
    return id;
}

Test(shard_state, no_producer_id_is_given_twice_over_blocks_and_crashes)
{
    uint64_t last = new_id();
    for (uint32_t i = 0; i < PID_BLOCK_SIZE + 10; i++) {
        uint64_t id = new_id();
        cr_assert_gt(id, last);
        last = id;
    }
    for (int life = 0; life < 3; life++) {
        shf_crash(f);
        cr_assert_eq(shf_open(f), 0, "%s", f->text);
        uint64_t id = new_id();
        cr_assert_gt(id, last);
        last = id;
    }
}

Test(shard_state, a_known_producer_gets_its_next_epoch_and_an_unknown_one_an_error)
{
    uint64_t id = new_id(), unknown = id + 1;
    uint16_t epoch = 0;
    cr_assert_eq(ask_id(&id, &epoch), PE_NONE);
    cr_assert_eq(epoch, 1);
    cr_assert_eq(ask_id(&unknown, &epoch), PE_UNKNOWN_PRODUCER);
}

Test(shard_state, when_epochs_are_used_up_there_is_a_new_id)
{
    uint64_t id = new_id(), before = id;
    uint16_t epoch = INT16_MAX; // the field in a batch is signed
    cr_assert_eq(ask_id(&id, &epoch), PE_NONE);
    cr_assert_gt(id, before);
    cr_assert_eq(epoch, 0);
}

/* ---- expiry ---- */

static uint16_t publish(uint32_t topic_id, uint64_t producer_id, uint32_t sequence)
{
    uint64_t offset;
    return shf_publish(f,
                       &(struct shf_publish){.topic_id = topic_id,
                                             .producer_id = producer_id,
                                             .sequence = sequence,
                                             .records = 1,
                                             .value = "v"},
                       &offset);
}

Test(shard_state, the_producer_used_longest_ago_makes_room_for_a_new_one_and_replay_agrees)
{
    uint32_t topic_id = 0;
    cr_assert_eq(shf_topic(f, OP_TOPIC_CREATE, "t", 1, &topic_id), PE_NONE);
    uint16_t shard = shard_of_partition(f->slot_shard, topic_id, 0);
    struct shard *owner = &f->shards[shard];
    for (uint64_t id = 0; id < PRODUCERS_PER_SHARD; id++)
        cr_assert_eq(publish(topic_id, id, 0), PE_NONE);
    cr_assert_eq(publish(topic_id, 0, 1), PE_NONE); // used again: now 1 is the oldest
    cr_assert_eq(counter_get(&owner->counters.producers_expired_total), 0);
    cr_assert_eq(publish(topic_id, PRODUCERS_PER_SHARD, 0), PE_NONE);
    cr_assert_eq(counter_get(&owner->counters.producers_expired_total), 1);
    uint64_t digest = shard_digest(owner);
    shf_crash(f);
    cr_assert_eq(shf_open(f), 0, "%s", f->text);
    cr_assert_eq(shard_digest(owner), digest);
    cr_assert_eq(publish(topic_id, 1, 1), PE_UNKNOWN_PRODUCER);
    cr_assert_eq(publish(topic_id, 0, 2), PE_NONE);
    cr_assert_eq(publish(topic_id, 2, 1), PE_NONE);
    cr_assert_eq(publish(topic_id, PRODUCERS_PER_SHARD, 1), PE_NONE);
}

/* ---- transactions ---- */

#define COORDINATOR 1
#define OPEN_LSN 8000

static struct disk_txn_name name_of(uint32_t coordinator, uint64_t open_lsn)
{
    return (struct disk_txn_name){.coordinator = le32_make(coordinator),
                                  .open_lsn = le64_make(open_lsn)};
}

static int apply_at(uint64_t lsn, uint8_t type, const void *payload, uint32_t bytes)
{
    struct wal_view view = {.lsn = lsn,
                            .append_time_ms = 1700000000000,
                            .type = type,
                            .payload = payload,
                            .payload_bytes = bytes};
    return shard_state_apply(&f->shards[COORDINATOR], &view, NULL);
}

static int apply_open(uint64_t lsn, const char *id)
{
    uint8_t payload[64];
    struct disk_producer_open producer = {.producer_id = le64_make(40)};
    struct disk_txn_open open = {.producer_id = le64_make(40), .timeout_ms = le32_make(1000)};
    memcpy(payload, &producer, sizeof(producer));
    memcpy(payload + sizeof(producer), id, strlen(id));
    uint32_t bytes = (uint32_t)(sizeof(producer) + strlen(id));
    int status = apply_at(lsn - 8, ENTRY_PRODUCER_OPEN, payload, bytes);
    memcpy(payload, &open, sizeof(open));
    return status ? status : apply_at(lsn, ENTRY_TXN_OPEN, payload, bytes);
}

/* The payload of a STAGED entry. */
static uint32_t staged_payload(uint8_t *bytes, struct disk_txn_name name, uint64_t producer_id)
{
    uint8_t space[256], *batch;
    struct batch_builder builder;
    struct record record = {.timestamp_ms = 1000, .value = slice_of_text("v")};
    batch_builder_init(&builder, space, sizeof(space));
    cr_assert_eq(batch_builder_add(&builder, &record), 0);
    uint32_t size = batch_builder_finish(&builder, CODEC_NONE, producer_id, 0, 0, NULL, 0, &batch);
    memcpy(bytes, &name, sizeof(name));
    memcpy(bytes + sizeof(name), batch, size);
    return (uint32_t)sizeof(name) + size;
}

/* Every length but the right one. */
static void lengths_are_refused(uint8_t type, const uint8_t *payload, uint32_t bytes)
{
    uint8_t longer[512] = {0};
    memcpy(longer, payload, bytes);
    for (uint32_t len = 0; len < bytes; len++)
        is_refused(COORDINATOR, type, payload, len);
    is_refused(COORDINATOR, type, longer, bytes + 1);
    is_refused(COORDINATOR, type, longer, bytes + 16);
}

Test(shard_state, entries_of_transactions_of_another_length_are_refused)
{
    struct disk_txn_name name = name_of(COORDINATOR, OPEN_LSN);
    struct disk_txn_join join = {.name = name, .shard = le32_make(0)};
    struct disk_txn_decide decide = {.name = name, .decision = le32_make(TXN_DECIDE_COMMIT)};
    struct disk_prepare prepare = {.name = name};
    uint8_t staged[256];
    uint32_t staged_bytes = staged_payload(staged, name, 40);
    cr_assert_eq(apply_open(OPEN_LSN, "a"), 0);
    for (uint32_t len = 0; len < staged_bytes; len++)
        is_refused(COORDINATOR, ENTRY_STAGED, staged, len);
    cr_assert_eq(apply_at(OPEN_LSN + 8, ENTRY_STAGED, staged, staged_bytes), 0);
    lengths_are_refused(ENTRY_TXN_JOIN, (uint8_t *)&join, sizeof(join));
    lengths_are_refused(ENTRY_PREPARE, (uint8_t *)&prepare, sizeof(prepare));
    lengths_are_refused(ENTRY_DECIDE, (uint8_t *)&decide, sizeof(decide));
    cr_assert_eq(apply_at(OPEN_LSN + 16, ENTRY_TXN_JOIN, &join, sizeof(join)), 0);
    cr_assert_eq(apply_at(OPEN_LSN + 24, ENTRY_PREPARE, &prepare, sizeof(prepare)), 0);
    cr_assert_eq(apply_at(OPEN_LSN + 32, ENTRY_DECIDE, &decide, sizeof(decide)), 0);
    lengths_are_refused(ENTRY_TXN_END, (uint8_t *)&name, sizeof(name));
    cr_assert_eq(apply_at(OPEN_LSN + 40, ENTRY_TXN_END, &name, sizeof(name)), 0);
    for (uint32_t len = 0; len < sizeof(struct disk_txn_end); len++) {
        static const uint8_t zeros[sizeof(struct disk_txn_end)];
        is_refused(COORDINATOR, ENTRY_COMMIT, zeros, len);
        is_refused(COORDINATOR, ENTRY_ABORT, zeros, len);
    }
    for (uint32_t len = 0; len <= sizeof(struct disk_producer_open); len++) {
        static const uint8_t zeros[sizeof(struct disk_producer_open)];
        is_refused(COORDINATOR, ENTRY_PRODUCER_OPEN, zeros, len);
        is_refused(COORDINATOR, ENTRY_TXN_OPEN, zeros, len);
    }
    static const uint8_t long_id[16 + 250] = {0};
    is_refused(COORDINATOR, ENTRY_PRODUCER_OPEN, long_id, sizeof(long_id));
}

/* No shard can have given these out. */
Test(shard_state, names_that_no_transaction_has_are_refused)
{
    struct disk_txn_name names[] = {name_of(COORDINATOR, 0), name_of(SHARDS_MAX, OPEN_LSN),
                                    name_of(UINT32_MAX, OPEN_LSN), name_of(COORDINATOR, OPEN_LSN)};
    names[3].reserved = le32_make(1);
    cr_assert_eq(apply_open(OPEN_LSN, "a"), 0);
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        uint8_t staged[256];
        struct disk_txn_join join = {.name = names[i]};
        struct disk_txn_decide decide = {.name = names[i], .decision = le32_make(TXN_DECIDE_ABORT)};
        struct disk_prepare prepare = {.name = names[i]};
        struct disk_txn_end end = {.name = names[i]};
        is_refused(COORDINATOR, ENTRY_STAGED, staged, staged_payload(staged, names[i], 40));
        is_refused(COORDINATOR, ENTRY_TXN_JOIN, &join, sizeof(join));
        is_refused(COORDINATOR, ENTRY_PREPARE, &prepare, sizeof(prepare));
        is_refused(COORDINATOR, ENTRY_DECIDE, &decide, sizeof(decide));
        is_refused(COORDINATOR, ENTRY_COMMIT, &end, sizeof(end));
        is_refused(COORDINATOR, ENTRY_ABORT, &end, sizeof(end));
        is_refused(COORDINATOR, ENTRY_TXN_END, &names[i], sizeof(names[i]));
    }
    uint8_t staged[256];
    is_refused(COORDINATOR, ENTRY_STAGED, staged,
               staged_payload(staged, name_of(COORDINATOR, OPEN_LSN), PRODUCER_NONE));
}

Test(shard_state, what_another_shard_coordinates_is_not_decided_here)
{
    struct disk_txn_name other = name_of(0, OPEN_LSN); // the LSN is that of one of ours
    struct disk_txn_join join = {.name = other};
    struct disk_txn_decide decide = {.name = other, .decision = le32_make(TXN_DECIDE_COMMIT)};
    struct disk_txn_end end = {.name = other, .flags = le32_make(TXN_END_DECIDES)};
    cr_assert_eq(apply_open(OPEN_LSN, "a"), 0);
    is_refused(COORDINATOR, ENTRY_TXN_JOIN, &join, sizeof(join));
    is_refused(COORDINATOR, ENTRY_DECIDE, &decide, sizeof(decide));
    is_refused(COORDINATOR, ENTRY_COMMIT, &end, sizeof(end));
    is_refused(COORDINATOR, ENTRY_ABORT, &end, sizeof(end));
    is_refused(COORDINATOR, ENTRY_TXN_END, &other, sizeof(other));
}

Test(shard_state, values_that_no_transaction_has_are_refused)
{
    struct disk_txn_name name = name_of(COORDINATOR, OPEN_LSN);
    struct disk_txn_join join = {.name = name, .shard = le32_make(SHARDS_MAX)};
    struct disk_prepare prepare = {.name = name, .is_explicit = le32_make(2)};
    struct disk_txn_end end = {.name = name, .flags = le32_make(2)};
    struct {
        struct disk_txn_decide decide;
        struct disk_txn_participant participant;
    } decision = {.decide = {.name = name,
                             .decision = le32_make(TXN_DECIDE_COMMIT),
                             .participant_count = le32_make(1)},
                  .participant = {.shard = le32_make(SHARDS_MAX)}};
    uint8_t staged[256];
    uint32_t bytes = staged_payload(staged, name, 40);
    cr_assert_eq(apply_open(OPEN_LSN, "a"), 0);
    cr_assert_eq(apply_at(OPEN_LSN + 8, ENTRY_STAGED, staged, bytes), 0);
    is_refused(COORDINATOR, ENTRY_TXN_JOIN, &join, sizeof(join));
    is_refused(COORDINATOR, ENTRY_PREPARE, &prepare, sizeof(prepare));
    prepare = (struct disk_prepare){.name = name, .reserved = le32_make(1)};
    is_refused(COORDINATOR, ENTRY_PREPARE, &prepare, sizeof(prepare));
    is_refused(COORDINATOR, ENTRY_COMMIT, &end, sizeof(end));
    is_refused(COORDINATOR, ENTRY_DECIDE, &decision, sizeof(decision));
    decision.participant.shard = le32_make(0);
    static const uint32_t decisions[] = {0, 4, UINT32_MAX};
    for (size_t i = 0; i < ARRAY_COUNT(decisions); i++) {
        decision.decide.decision = le32_make(decisions[i]);
        is_refused(COORDINATOR, ENTRY_DECIDE, &decision, sizeof(decision));
    }
    decision.decide.decision = le32_make(TXN_DECIDE_COMMIT);
    decision.decide.participant_count = le32_make(UINT32_MAX);
    is_refused(COORDINATOR, ENTRY_DECIDE, &decision, sizeof(decision));

    uint8_t payload[17] = {0};
    struct disk_producer_open producer = {.producer_id = le64_make((uint64_t)1 << 63)};
    memcpy(payload, &producer, sizeof(producer));
    payload[16] = 'b';
    is_refused(COORDINATOR, ENTRY_PRODUCER_OPEN, payload, sizeof(payload));
    producer = (struct disk_producer_open){.epoch = le16_make(0x8000)};
    memcpy(payload, &producer, sizeof(producer));
    is_refused(COORDINATOR, ENTRY_PRODUCER_OPEN, payload, sizeof(payload));
}

/* Each step at the wrong time. */
Test(shard_state, steps_of_a_transaction_out_of_order_are_refused)
{
    struct disk_txn_name name = name_of(COORDINATOR, OPEN_LSN);
    struct disk_txn_join join = {.name = name};
    struct disk_prepare prepare = {.name = name};
    struct disk_txn_decide prepared = {.name = name, .decision = le32_make(TXN_DECIDE_PREPARED)};
    struct disk_txn_decide commit = {.name = name, .decision = le32_make(TXN_DECIDE_COMMIT)};
    is_refused(COORDINATOR, ENTRY_TXN_JOIN, &join, sizeof(join));
    is_refused(COORDINATOR, ENTRY_PREPARE, &prepare, sizeof(prepare));
    is_refused(COORDINATOR, ENTRY_DECIDE, &prepared, sizeof(prepared));
    is_refused(COORDINATOR, ENTRY_DECIDE, &commit, sizeof(commit));
    is_refused(COORDINATOR, ENTRY_TXN_END, &name, sizeof(name));
    cr_assert_eq(apply_open(OPEN_LSN, "a"), 0);
    is_refused(COORDINATOR, ENTRY_TXN_END, &name, sizeof(name));
    cr_assert_eq(apply_at(OPEN_LSN + 8, ENTRY_DECIDE, &prepared, sizeof(prepared)), 0);
    is_refused(COORDINATOR, ENTRY_DECIDE, &prepared, sizeof(prepared));
    is_refused(COORDINATOR, ENTRY_TXN_JOIN, &join, sizeof(join));
    is_refused(COORDINATOR, ENTRY_TXN_END, &name, sizeof(name));
    cr_assert_eq(apply_at(OPEN_LSN + 16, ENTRY_DECIDE, &commit, sizeof(commit)), 0);
    is_refused(COORDINATOR, ENTRY_DECIDE, &commit, sizeof(commit));
    is_refused(COORDINATOR, ENTRY_DECIDE, &prepared, sizeof(prepared));
    is_refused(COORDINATOR, ENTRY_TXN_JOIN, &join, sizeof(join));
    cr_assert_eq(apply_at(OPEN_LSN + 24, ENTRY_TXN_END, &name, sizeof(name)), 0);
    is_refused(COORDINATOR, ENTRY_TXN_END, &name, sizeof(name));
}

/* Offsets are looked at before the transaction is told of them. */
Test(shard_state, staged_offsets_that_are_malformed_leave_no_participant)
{
    struct {
        struct disk_offset_commit head;
        uint8_t group[8];
        struct offset_item item;
    } entry = {.head = {.name = name_of(COORDINATOR, OPEN_LSN),
                        .item_count = le32_make(1),
                        .group_length = 5},
               .group = "group",
               .item = {.topic_id = le32_make(1), .offset = le64_make(3)}};
    cr_assert_eq(apply_open(OPEN_LSN, "a"), 0);
    for (uint32_t len = 0; len < sizeof(entry); len++)
        is_refused(COORDINATOR, ENTRY_OFFSET_COMMIT, &entry, len);
    entry.head.item_count = le32_make(2);
    is_refused(COORDINATOR, ENTRY_OFFSET_COMMIT, &entry, sizeof(entry));
    entry.head.item_count = le32_make(1);
    entry.head.name.coordinator = le32_make(SHARDS_MAX);
    is_refused(COORDINATOR, ENTRY_OFFSET_COMMIT, &entry, sizeof(entry));
    entry.head.name.coordinator = le32_make(COORDINATOR);
    cr_assert_eq(apply_at(OPEN_LSN + 8, ENTRY_OFFSET_COMMIT, &entry, sizeof(entry)), 0);
    cr_assert_eq(participants_count(f->shards[COORDINATOR].participants), 1);
}
