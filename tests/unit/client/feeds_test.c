/* A consumer's partitions and what was received for them (client/feeds.c), on a consumer made by hand; and
 * once through the whole client: a pause that has to give back what was received. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "client/consumer_private.h"
#include "tests/unit/client/user.h"

static struct sluice_consumer consumer;

static void make_consumer(void)
{
    list_init(&consumer.ready);
    pthread_mutex_init(&consumer.mutex, NULL);
    pthread_cond_init(&consumer.arrived, NULL);
    consumer.buffer_bytes = 4000; // 1,000 may be kept for what is paused
}

static void free_consumer(void)
{
    while (consumer.feed_count > 0)
        feeds_remove(&consumer, consumer.feeds[0]);
    free(consumer.feeds);
}
TestSuite(feeds, .init = make_consumer, .fini = free_consumer);

static struct feed *add(uint32_t topic_id, uint32_t partition)
{
    cr_assert(eq(int, feeds_add(&consumer, "t", topic_id, partition, 0, INT64_MIN), SLUICE_OK));
    return feeds_find(&consumer, topic_id, partition);
}

/* One frame with an item of `bytes` for each feed. */
static void deliver(struct feed *const *feeds, uint32_t count, uint32_t bytes)
{
    struct delivery *delivery = calloc(1, sizeof(*delivery) + (size_t)count * bytes);
    *delivery = (struct delivery){.consumer = &consumer,
                                  .on_heap = true,
                                  .frame_bytes = count * bytes,
                                  .items_left = count,
                                  .items = calloc(count, sizeof(struct item)),
                                  .bytes = (uint8_t *)(delivery + 1)};
    consumer.held_bytes += delivery->frame_bytes;
    for (uint32_t i = 0; i < count; i++) {
        struct feed *feed = feeds[i];
        struct item *item = &delivery->items[i];
        feed->refs++;
        feed->received += 10;
        *item = (struct item){.delivery = delivery,
                              .feed = feed,
                              .generation = feed->generation,
                              .batches = delivery->bytes + (size_t)i * bytes,
                              .bytes = bytes,
                              .next_offset = feed->received};
        list_init(&item->link);
        list_push_back(&consumer.ready, &item->link);
    }
}

static void take_ready(const struct feed *feed, uint64_t next_offset)
{
    struct list *link = list_pop_front(&consumer.ready);
    cr_assert_not_null(link);
    struct item *item = CONTAINER_OF(link, struct item, link);
    cr_assert(item->feed == feed && item->next_offset == next_offset, "%u: %lu",
              item->feed->partition, item->next_offset);
    feeds_item_done(&consumer, item);
}

/* ---- the table ---- */

Test(feeds, are_found_among_many_that_come_and_go)
{
    static bool model[20][20];
    struct random random;
    random_init(&random, 1);
    uint32_t count = 0;
    for (int step = 0; step < 5000; step++) {
        uint32_t topic = (uint32_t)random_below(&random, 20);
        uint32_t partition = (uint32_t)random_below(&random, 20);
        struct feed *feed = feeds_find(&consumer, topic, partition);
        cr_assert(eq(int, feed != NULL, model[topic][partition]));
        if (feed)
            feeds_remove(&consumer, feed);
        else
            add(topic, partition);
        count += feed ? -1u : 1u;
        model[topic][partition] = !feed;
        cr_assert(eq(u32, consumer.feed_count, count));
    }
    for (uint32_t i = 1; i < consumer.feed_count; i++) {
        const struct feed *a = consumer.feeds[i - 1], *b = consumer.feeds[i];
        cr_assert(a->topic_id < b->topic_id ||
                  (a->topic_id == b->topic_id && a->partition < b->partition));
    }
}

Test(feeds, adding_one_again_moves_it)
{
    struct feed *feed = add(1, 0);
    deliver(&feed, 1, 100);
    uint32_t generation = feed->generation;
    consumer.set_changed = false;
    cr_assert(eq(int, feeds_add(&consumer, "t", 1, 0, 77, 5), SLUICE_OK));
    cr_assert(eq(u32, consumer.feed_count, 1));
    cr_assert(feed->position == 77 && feed->received == 77 && feed->skip_before_ms == 5);
    cr_assert(ne(u32, feed->generation, generation));
    cr_assert(list_is_empty(&consumer.ready) && consumer.set_changed);
    cr_assert(eq(u64, consumer.credit_due, 100));
}

/* ---- credit ---- */

Test(feeds, a_frame_gives_its_credit_back_with_its_last_item)
{
    struct feed *feeds[] = {add(1, 0), add(1, 1)};
    deliver(feeds, 2, 100);
    take_ready(feeds[0], 10);
    cr_assert(consumer.held_bytes == 200 && consumer.credit_due == 0);
    take_ready(feeds[1], 10);
    cr_assert(consumer.held_bytes == 0 && consumer.credit_due == 200);
}

Test(feeds, credit_is_given_a_quarter_at_a_time_and_when_nothing_is_left_to_read)
{
    consumer.held_bytes = 500;
    consumer.credit_due = 999;
    cr_assert_not(feeds_credit_is_worth_it(&consumer));
    consumer.credit_due = 1000;
    cr_assert(feeds_credit_is_worth_it(&consumer));
    consumer.held_bytes = 0;
    consumer.credit_due = 1;
    cr_assert(feeds_credit_is_worth_it(&consumer));
    consumer.credit_due = 0;
    cr_assert_not(feeds_credit_is_worth_it(&consumer));
}

/* ---- pausing ---- */

Test(feeds, what_a_pause_sets_aside_comes_first_again_and_in_order)
{
    struct feed *paused = add(1, 0), *other = add(1, 1);
    for (int i = 0; i < 3; i++) {
        deliver(&paused, 1, 100);
        deliver(&other, 1, 100);
    }
    feeds_pause(&consumer, paused, true);
    cr_assert(consumer.kept_bytes == 300 && paused->kept_bytes == 300);
    cr_assert(consumer.held_bytes == 300 && consumer.credit_due == 300); // copied out of the frames
    take_ready(other, 10);
    feeds_pause(&consumer, paused, false);
    cr_assert(eq(u64, consumer.kept_bytes, 0));
    for (uint64_t i = 1; i <= 3; i++)
        take_ready(paused, 10 * i);
    take_ready(other, 20);
    take_ready(other, 30);
    cr_assert(list_is_empty(&consumer.ready));
    cr_assert(consumer.held_bytes == 0 && consumer.credit_due == 600);
}

Test(feeds, a_pause_with_more_than_may_be_kept_gives_all_back_and_asks_again_later)
{
    struct feed *paused = add(1, 0), *other = add(1, 1);
    paused->position = paused->received = 5;
    for (int i = 0; i < 5; i++)
        deliver(&paused, 1, 300);
    deliver(&other, 1, 100);
    uint32_t generation = paused->generation;
    consumer.set_changed = false;
    feeds_pause(&consumer, paused, true);
    cr_assert(paused->left_out && consumer.set_changed);
    cr_assert(eq(u64, paused->received, 5)); // the broker goes on behind what was returned
    cr_assert(ne(u32, paused->generation, generation));
    cr_assert(consumer.kept_bytes == 0 && paused->kept_bytes == 0);
    cr_assert(consumer.held_bytes == 100 && consumer.credit_due == 1500);
    cr_assert(eq(u32, paused->refs, 1));
    consumer.set_changed = false;
    feeds_pause(&consumer, paused, false);
    cr_assert(consumer.set_changed && !paused->left_out);
    take_ready(other, 10);
    cr_assert(list_is_empty(&consumer.ready));
}

Test(feeds, one_that_is_removed_while_paused_leaves_nothing_behind)
{
    struct feed *feed = add(1, 0);
    deliver(&feed, 1, 400);
    feeds_pause(&consumer, feed, true);
    cr_assert(eq(u64, consumer.kept_bytes, 400));
    feeds_remove(&consumer, feed);
    cr_assert(consumer.kept_bytes == 0 && consumer.held_bytes == 0);
    cr_assert(eq(u64, consumer.credit_due, 400));
}

/* ---- through the whole client ---- */

/* 4 MB are received, a few records returned, then a pause: more than the quarter of the buffer that may be kept. */
Test(feeds_client, a_pause_that_gives_back_what_was_received_loses_and_repeats_nothing)
{
    enum { COUNT = 40, BYTES = 100000 };
    static const struct fake_options plain;
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){.send_waits = true});
    char *value = calloc(1, BYTES);
    for (int i = 0; i < COUNT; i++) {
        struct sluice_record record = {.topic = "t", .value = value, .value_len = BYTES};
        cr_assert(eq(int, sluice_producer_send(user->producer, &record), SLUICE_OK));
    }
    user_flush(user);
    struct sluice_consumer *reader;
    struct sluice_consumer_options options = {.size = sizeof(options), .buffer_bytes = 5 << 20};
    cr_assert(eq(int, sluice_consumer_new(user->client, &options, &reader), SLUICE_OK));
    sluice_consumer_subscribe(reader, "t", 0, SLUICE_START_BEGINNING, 0);
    struct sluice_message messages[8];
    uint64_t next = 0;
    for (int round = 0; round < 4; round++) {
        for (uint64_t until = next + 3; next < until;) {
            int n = sluice_consumer_poll(reader, messages, (int)(until - next), 5000);
            cr_assert(gt(int, n, 0));
            for (int i = 0; i < n; i++)
                cr_assert(eq(u64, messages[i].offset, next++));
        }
        bool received = false;
        for (int i = 0; i < 500 && !received; i++, user_sleep_ms(10)) {
            pthread_mutex_lock(&reader->mutex);
            received = reader->feeds[0]->received == COUNT;
            pthread_mutex_unlock(&reader->mutex);
        }
        cr_assert(received);
        cr_assert(eq(int, sluice_consumer_pause(reader, "t", 0), SLUICE_OK));
        cr_assert(reader->feeds[0]->left_out, "round %d: nothing had to be given back", round);
        cr_assert(eq(int, sluice_consumer_poll(reader, messages, 1, 20), 0));
        cr_assert(eq(int, sluice_consumer_resume(reader, "t", 0), SLUICE_OK));
    }
    while (next < COUNT) {
        int n = sluice_consumer_poll(reader, messages, 8, 5000);
        cr_assert(gt(int, n, 0));
        for (int i = 0; i < n; i++)
            cr_assert(eq(u64, messages[i].offset, next++));
    }
    free(value);
    sluice_consumer_free(reader);
    user_free(user);
}
