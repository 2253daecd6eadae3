/* Entries that can't be: a shard's part of replay refuses them, and nothing changes. And the id blocks and
 * expiries that come only after many producers. */
#include "broker/shard_state.h"
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
