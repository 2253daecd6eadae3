/* OFFSETS by time when the answer lies in a closed segment whose index has to be read first. */
#include "tests/unit/broker/shard_fixture.h"

static struct request *search_of(struct shard_fixture *f, uint32_t topic_id, const uint64_t *times,
                                 uint32_t count)
{
    struct request *request = shf_request(f, 0, OP_OFFSETS, 3);
    struct writer w = shf_writer(request);
    write_offsets_begin(&w, count);
    for (uint32_t i = 0; i < count; i++)
        write_fetch_item(&w, topic_id, 0, START_TIMESTAMP, 0, times[i]);
    shf_seal(request, &w, 0);
    return request;
}

/* Batches of 1 record (time 1000), then one of 3 (1000..1002), then 1 again, over more than one segment. */
static uint64_t publish_all(struct shard_fixture *f, struct shf_publish *publish)
{
    enum { COUNT = 1400, AT = 300 };
    uint64_t offset, found = 0;
    for (int i = 0; i < COUNT; i++) {
        publish->records = i == AT ? 3 : 1;
        cr_assert_eq(shf_publish(f, publish, &offset), PE_NONE);
        if (i == AT)
            found = offset;
    }
    return found;
}

Test(handle_offsets, a_search_that_must_read_an_index_goes_on_with_the_rest_of_its_request,
     .timeout = 60)
{
    static char value[2500];
    struct shard_fixture *f = malloc(sizeof(*f));
    shf_init(f, 31, 1);
    memset(value, 'x', sizeof(value) - 1);
    struct shf_publish publish = {.producer_id = PRODUCER_NONE, .value = value};
    cr_assert_eq(shf_topic(f, OP_TOPIC_CREATE, "t", 1, &publish.topic_id), PE_NONE);
    uint64_t large = publish_all(f, &publish);
    cr_assert_gt(store_stats(f->shards[0].store).segments, 1);
    shf_crash(f); // no index is in memory any more
    cr_assert_eq(shf_open(f), 0, "%s", f->text);

    uint64_t times[] = {1002, 0, 1001, 1003, 1002};
    struct request *request = shf_call(f, search_of(f, publish.topic_id, times, 5));
    struct frame frame;
    struct msg_offsets_reply m;
    cr_assert_eq(request->error, PE_NONE);
    cr_assert_eq(frame_decode(request->reply->bytes, &frame), PE_NONE);
    cr_assert_eq(read_offsets_reply(&frame, &m), PE_NONE);
    cr_assert_eq(m.item_count, 5);
    uint64_t end = store_partition(f->shards[0].store, publish.topic_id, 0)->visible_end;
    uint64_t expected[] = {large, 0, large, end, large};
    for (uint32_t i = 0; i < 5; i++) {
        cr_assert_eq(le16_get(m.items[i].error), PE_NONE);
        cr_assert_eq(le64_get(m.items[i].offset), expected[i], "time %lu: offset %lu", times[i],
                     le64_get(m.items[i].offset));
    }
    shf_release(f, request);
    shf_free(f);
}
