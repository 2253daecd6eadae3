/* Consuming: starts, positions, errors, credit, and what happens around seek, pause and lost
 * connections. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "client/consumer_private.h"
#include "proto/messages.h"
#include "tests/unit/client/user.h"

static const struct fake_options plain;

static struct sluice_consumer *new_consumer(struct user *user, uint64_t buffer_bytes)
{
    struct sluice_consumer *consumer;
    struct sluice_consumer_options options = {.size = sizeof(options),
                                              .buffer_bytes = buffer_bytes};
    cr_assert(eq(int, sluice_consumer_new(user->client, &options, &consumer), SLUICE_OK));
    return consumer;
}

/* A topic whose partition 0 holds the numbers 0..count-1, in batches of `batch_records`. */
static struct user *with_records(uint32_t count, uint32_t batch_records,
                                 enum sluice_compression compression)
{
    struct user *user = user_new(&plain, 4);
    user_produce(user, (struct sluice_producer_options){.batch_records = batch_records,
                                                        .compression = compression,
                                                        .send_waits = true,
                                                        .linger_us = 1000000});
    user_send_many(user, 0, count);
    user_flush(user);
    return user;
}

/* Polls until `count` messages have come; each must be the number that is next. */
static void expect_numbers(struct sluice_consumer *consumer, uint64_t first, uint64_t count)
{
    struct sluice_message messages[100];
    uint64_t deadline_ms = user_now_ms() + 10000;
    uint64_t next = first;
    while (next < first + count) {
        int n = sluice_consumer_poll(consumer, messages,
                                     (int)(first + count - next < 100 ? first + count - next : 100),
                                     1000);
        cr_assert(ge(int, n, 0));
        cr_assert(user_now_ms() < deadline_ms, "%lu of %lu came", next - first, count);
        for (int i = 0; i < n; i++, next++) {
            char expected[32];
            snprintf(expected, sizeof(expected), "%07lu", next);
            cr_assert(messages[i].value_len == 7 && memcmp(messages[i].value, expected, 7) == 0,
                      "offset %lu: %.7s, expected %s", messages[i].offset,
                      (const char *)messages[i].value, expected);
        }
    }
}

static void expect_nothing(struct sluice_consumer *consumer)
{
    struct sluice_message message;
    cr_expect(eq(int, sluice_consumer_poll(consumer, &message, 1, 50), 0));
}

/* ---- starts ---- */

Test(consumer, from_the_beginning_everything_comes_in_order)
{
    struct user *user = with_records(5000, 37, SLUICE_COMPRESSION_NONE);
    struct sluice_consumer *consumer = new_consumer(user, 0);
    cr_assert(
        eq(int, sluice_consumer_subscribe(consumer, "t", 0, SLUICE_START_BEGINNING, 0), SLUICE_OK));
    expect_numbers(consumer, 0, 5000);
    expect_nothing(consumer);
    uint64_t position, end;
    cr_expect(eq(int, sluice_consumer_position(consumer, "t", 0, &position, &end), SLUICE_OK));
    cr_expect(eq(u64, position, 5000));
    cr_expect(eq(u64, end, 5000));
    sluice_consumer_free(consumer);
    user_free(user);
}

Test(consumer, compressed_batches_are_read_like_others)
{
    struct user *user = with_records(5000, 250, SLUICE_COMPRESSION_LZ4);
    struct sluice_consumer *consumer = new_consumer(user, 0);
    cr_assert(
        eq(int, sluice_consumer_subscribe(consumer, "t", 0, SLUICE_START_BEGINNING, 0), SLUICE_OK));
    expect_numbers(consumer, 0, 5000);
    sluice_consumer_free(consumer);
    user_free(user);
}

Test(consumer, an_offset_in_the_middle_of_a_batch_is_where_reading_begins)
{
    struct user *user = with_records(1000, 100, SLUICE_COMPRESSION_NONE);
    struct sluice_consumer *consumer = new_consumer(user, 0);
    cr_assert(
        eq(int, sluice_consumer_subscribe(consumer, "t", 0, SLUICE_START_OFFSET, 357), SLUICE_OK));
    expect_numbers(consumer, 357, 643);
    sluice_consumer_free(consumer);
    user_free(user);
}

Test(consumer, from_the_end_only_what_comes_later_comes)
{
    struct user *user = with_records(1000, 100, SLUICE_COMPRESSION_NONE);
    struct sluice_consumer *consumer = new_consumer(user, 0);
    cr_assert(eq(int, sluice_consumer_subscribe(consumer, "t", 0, SLUICE_START_END, 0), SLUICE_OK));
    expect_nothing(consumer);
    user_send_many(user, 0, 50);
    user_flush(user);
    expect_numbers(consumer, 1000, 50);
    sluice_consumer_free(consumer);
    user_free(user);
}

Test(consumer, a_timestamp_start_passes_over_what_is_older_in_the_first_batch)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){.batch_records = 10, .linger_us = 1000000});
    for (int64_t i = 0; i < 100; i++) {
        char value[32];
        snprintf(value, sizeof(value), "%07ld", i);
        struct sluice_record record = {
            .topic = "t", .value = value, .value_len = 7, .timestamp_ms = 1000 + i};
        cr_assert(eq(int, sluice_producer_send(user->producer, &record), SLUICE_OK));
    }
    user_flush(user);
    struct sluice_consumer *consumer = new_consumer(user, 0);
    cr_assert(eq(int, sluice_consumer_subscribe(consumer, "t", 0, SLUICE_START_TIMESTAMP, 1034),
                 SLUICE_OK));
    expect_numbers(consumer, 34, 66);
    sluice_consumer_free(consumer);
    user_free(user);
}

Test(consumer, what_does_not_exist_is_refused_at_once)
{
    struct user *user = with_records(10, 5, SLUICE_COMPRESSION_NONE);
    struct sluice_consumer *c = new_consumer(user, 0);
    cr_expect(eq(int, sluice_consumer_subscribe(c, "nowhere", 0, SLUICE_START_END, 0),
                 SLUICE_E_UNKNOWN_TOPIC));
    cr_expect(eq(int, sluice_consumer_subscribe(c, "t", 4, SLUICE_START_END, 0),
                 SLUICE_E_UNKNOWN_PARTITION));
    cr_expect(eq(int, sluice_consumer_subscribe(c, "t", 0, SLUICE_START_OFFSET, 11),
                 SLUICE_E_OFFSET_OUT_OF_RANGE));
    cr_expect(strstr(sluice_last_error(), "0..10") != NULL);
    cr_expect(eq(int, sluice_consumer_subscribe(c, "t", 0, 9, 0), SLUICE_E_INVALID));
    cr_expect(eq(int, sluice_consumer_seek(c, "t", 0, SLUICE_START_END, 0), SLUICE_E_INVALID));
    cr_expect(eq(int, sluice_consumer_pause(c, "t", 0), SLUICE_E_INVALID));
    expect_nothing(c);
    sluice_consumer_free(c);
    user_free(user);
}

Test(consumer, all_partitions_of_a_topic_are_read_together)
{
    struct user *user = user_new(&plain, 50);
    user_produce(user, (struct sluice_producer_options){.batch_records = 3});
    for (uint32_t p = 0; p < 50; p++)
        user_send_many(user, p, 20);
    user_flush(user);
    struct sluice_consumer *consumer = new_consumer(user, 0);
    cr_assert(eq(
        int,
        sluice_consumer_subscribe(consumer, "t", SLUICE_PARTITION_ANY, SLUICE_START_BEGINNING, 0),
        SLUICE_OK));
    uint64_t next[50] = {0};
    struct sluice_message messages[64];
    for (int total = 0; total < 1000;) {
        int n = sluice_consumer_poll(consumer, messages, 64, 5000);
        cr_assert(gt(int, n, 0));
        total += n;
        for (int i = 0; i < n; i++)
            cr_assert(eq(u64, messages[i].offset, next[messages[i].partition]++));
    }
    expect_nothing(consumer);
    sluice_consumer_free(consumer);
    user_free(user);
}

/* ---- messages ---- */

Test(consumer, keys_values_headers_and_nulls_come_as_they_were_sent)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){0});
    struct sluice_header headers[20];
    for (int i = 0; i < 20; i++)
        headers[i] = (struct sluice_header){
            .key = i % 2 ? "odd" : "", .value = "12345", .value_len = (size_t)(i % 6)};
    headers[7].value = NULL;
    headers[7].value_len = 0;
    struct sluice_record sent[] = {
        {.topic = "t", .key = "k", .key_len = 1, .value = "v", .value_len = 1, .timestamp_ms = 77},
        {.topic = "t"},
        {.topic = "t", .key = "", .value = ""},
        {.topic = "t", .value = "x\0y", .value_len = 3, .headers = headers, .header_count = 20},
    };
    for (size_t i = 0; i < ARRAY_COUNT(sent); i++)
        cr_assert(eq(int, sluice_producer_send(user->producer, &sent[i]), SLUICE_OK));
    user_flush(user);
    struct sluice_consumer *consumer = new_consumer(user, 0);
    sluice_consumer_subscribe(consumer, "t", 0, SLUICE_START_BEGINNING, 0);
    struct sluice_message m[4];
    int count = 0;
    while (count < 4) {
        int n = sluice_consumer_poll(consumer, m + count, 1, 5000);
        cr_assert(eq(int, n, 1));
        const struct sluice_record *r = &sent[count];
        cr_expect(eq(u64, m[count].offset, (uint64_t)count));
        cr_expect(eq(int, m[count].key == NULL, r->key == NULL));
        cr_expect(eq(int, m[count].value == NULL, r->value == NULL));
        cr_expect(m[count].key_len == r->key_len && m[count].value_len == r->value_len);
        cr_expect(r->value_len == 0 || memcmp(m[count].value, r->value, r->value_len) == 0);
        cr_expect(eq(u32, m[count].header_count, r->header_count));
        cr_expect(r->timestamp_ms == 0 || m[count].timestamp_ms == r->timestamp_ms);
        cr_expect(gt(i64, m[count].timestamp_ms, 0));
        for (uint32_t h = 0; h < m[count].header_count; h++) {
            const char *key;
            const void *value;
            size_t key_len, value_len;
            cr_assert(eq(int,
                         sluice_message_header(&m[count], h, &key, &key_len, &value, &value_len),
                         SLUICE_OK));
            cr_expect(key_len == strlen(headers[h].key) &&
                      memcmp(key, headers[h].key, key_len) == 0);
            cr_expect(value_len == headers[h].value_len);
            cr_expect(eq(int, value == NULL, headers[h].value == NULL));
        }
        const char *none;
        size_t none_len;
        const void *none_value;
        cr_expect(eq(int,
                     sluice_message_header(&m[count], m[count].header_count, &none, &none_len,
                                           &none_value, &none_len),
                     SLUICE_E_INVALID));
        count++;
    }
    sluice_consumer_free(consumer);
    user_free(user);
}

/* With polls that end inside of batches, at their ends, and beyond. */
Test(consumer, messages_of_one_poll_stay_valid_until_the_next)
{
    static const int sizes[] = {1, 7, 70, 100, 150, 3000};
    static struct sluice_message messages[3000];
    struct user *user = with_records(3000, 100, SLUICE_COMPRESSION_LZ4);
    for (size_t s = 0; s < ARRAY_COUNT(sizes); s++) {
        struct sluice_consumer *consumer = new_consumer(user, 0);
        sluice_consumer_subscribe(consumer, "t", 0, SLUICE_START_BEGINNING, 0);
        uint64_t next = 0;
        while (next < 3000) {
            int n = sluice_consumer_poll(consumer, messages, sizes[s], 5000);
            cr_assert(gt(int, n, 0));
            for (int i = 0; i < n; i++) {
                char expected[32];
                snprintf(expected, sizeof(expected), "%07lu", next + (uint64_t)i);
                cr_assert(memcmp(messages[i].value, expected, 7) == 0);
            }
            next += (uint64_t)n;
        }
        sluice_consumer_free(consumer);
    }
    user_free(user);
}

/* ---- going elsewhere ---- */

Test(consumer, seek_goes_back_and_forth)
{
    struct user *user = with_records(1000, 10, SLUICE_COMPRESSION_NONE);
    struct sluice_consumer *consumer = new_consumer(user, 0);
    sluice_consumer_subscribe(consumer, "t", 0, SLUICE_START_BEGINNING, 0);
    expect_numbers(consumer, 0, 105);
    cr_assert(eq(int, sluice_consumer_seek(consumer, "t", 0, SLUICE_START_OFFSET, 903), SLUICE_OK));
    expect_numbers(consumer, 903, 97);
    cr_assert(
        eq(int, sluice_consumer_seek(consumer, "t", 0, SLUICE_START_BEGINNING, 0), SLUICE_OK));
    expect_numbers(consumer, 0, 1000);
    cr_assert(eq(int, sluice_consumer_seek(consumer, "t", 0, SLUICE_START_END, 0), SLUICE_OK));
    expect_nothing(consumer);
    cr_expect(eq(int, sluice_consumer_seek(consumer, "t", 0, SLUICE_START_OFFSET, 1001),
                 SLUICE_E_OFFSET_OUT_OF_RANGE));
    sluice_consumer_free(consumer);
    user_free(user);
}

/* 30 MB, of which a third is on its way at any time. */
Test(consumer, a_seek_in_the_middle_of_a_stream_returns_nothing_from_before)
{
    struct fake_options options = {.deliver_bytes_max = 50000};
    struct user *user = user_new(&options, 1);
    user_produce(user, (struct sluice_producer_options){.send_waits = true, .batch_bytes = 40000});
    char *value = calloc(1, 10000);
    for (int i = 0; i < 3000; i++) {
        struct sluice_record record = {.topic = "t", .value = value, .value_len = 10000};
        cr_assert(eq(int, sluice_producer_send(user->producer, &record), SLUICE_OK));
    }
    user_flush(user);
    struct sluice_consumer *consumer = new_consumer(user, 10 << 20);
    struct random random;
    random_init(&random, 3);
    sluice_consumer_subscribe(consumer, "t", 0, SLUICE_START_BEGINNING, 0);
    struct sluice_message messages[20];
    for (int round = 0; round < 50; round++) {
        uint64_t next = random_below(&random, 2800);
        cr_assert(
            eq(int, sluice_consumer_seek(consumer, "t", 0, SLUICE_START_OFFSET, next), SLUICE_OK));
        for (int polls = 0; polls < 4; polls++) {
            int n = sluice_consumer_poll(consumer, messages, 20, 5000);
            cr_assert(gt(int, n, 0));
            for (int i = 0; i < n; i++)
                cr_assert(eq(u64, messages[i].offset, next++));
        }
    }
    free(value);
    sluice_consumer_free(consumer);
    user_free(user);
}

Test(consumer, unsubscribing_stops_one_partition)
{
    struct user *user = with_records(100, 10, SLUICE_COMPRESSION_NONE);
    struct sluice_consumer *consumer = new_consumer(user, 0);
    sluice_consumer_subscribe(consumer, "t", 0, SLUICE_START_BEGINNING, 0);
    sluice_consumer_subscribe(consumer, "t", 1, SLUICE_START_END, 0);
    expect_numbers(consumer, 0, 35);
    cr_expect(eq(int, sluice_consumer_unsubscribe(consumer, "t", 0), SLUICE_OK));
    expect_nothing(consumer);
    user_send_many(user, 1, 5);
    user_flush(user);
    expect_numbers(consumer, 100, 5);
    cr_expect(eq(int, sluice_consumer_unsubscribe(consumer, "t", SLUICE_PARTITION_ANY), SLUICE_OK));
    cr_expect(eq(int, sluice_consumer_unsubscribe(consumer, "t", 1), SLUICE_E_INVALID));
    expect_nothing(consumer);
    sluice_consumer_subscribe(consumer, "t", 0, SLUICE_START_OFFSET, 60);
    expect_numbers(consumer, 60, 40);
    sluice_consumer_free(consumer);
    user_free(user);
}

Test(consumer, a_paused_partition_is_silent_and_goes_on_where_it_was)
{
    struct user *user = with_records(1000, 10, SLUICE_COMPRESSION_NONE);
    struct sluice_consumer *consumer = new_consumer(user, 0);
    sluice_consumer_subscribe(consumer, "t", 0, SLUICE_START_BEGINNING, 0);
    expect_numbers(consumer, 0, 55);
    cr_expect(eq(int, sluice_consumer_pause(consumer, "t", 0), SLUICE_OK));
    expect_nothing(consumer);
    cr_expect(eq(int, sluice_consumer_resume(consumer, "t", 0), SLUICE_OK));
    expect_numbers(consumer, 55, 945);
    sluice_consumer_free(consumer);
    user_free(user);
}

Test(consumer, what_comes_while_a_partition_is_paused_stays_in_order)
{
    struct user *user = with_records(1000, 10, SLUICE_COMPRESSION_NONE);
    struct sluice_consumer *consumer = new_consumer(user, 0);
    sluice_consumer_subscribe(consumer, "t", 0, SLUICE_START_BEGINNING, 0);
    uint64_t next = 0;
    for (int round = 0; round < 10; round++) {
        expect_numbers(consumer, next, 33); // leaves an item in the middle, and others behind it
        next += 33;
        sluice_consumer_pause(consumer, "t", 0);
        user_send_many(user, 0, 20);
        user_flush(user);
        if (round % 2)
            expect_nothing(consumer);
        user_sleep_ms(5);
        sluice_consumer_resume(consumer, "t", 0);
    }
    expect_numbers(consumer, next, 1200 - next);
    sluice_consumer_free(consumer);
    user_free(user);
}

/* 60 MB for a paused partition, and a buffer of 5 MiB: the other one must not notice. */
Test(consumer, a_paused_partition_never_holds_up_the_others)
{
    struct user *user = user_new(&plain, 2);
    user_produce(user, (struct sluice_producer_options){.send_waits = true});
    char *value = calloc(1, 100000);
    struct sluice_consumer *consumer = new_consumer(user, 5 << 20);
    sluice_consumer_subscribe(consumer, "t", SLUICE_PARTITION_ANY, SLUICE_START_BEGINNING, 0);
    cr_assert(eq(int, sluice_consumer_pause(consumer, "t", 0), SLUICE_OK));
    uint64_t seen = 0;
    struct sluice_message messages[16];
    for (uint64_t round = 0; round < 30; round++) {
        for (int i = 0; i < 20; i++) {
            struct sluice_record record = {
                .topic = "t", .partition = 0, .value = value, .value_len = 100000};
            cr_assert(eq(int, sluice_producer_send(user->producer, &record), SLUICE_OK));
        }
        struct sluice_record record = {.topic = "t", .partition = 1, .value = "x", .value_len = 1};
        cr_assert(eq(int, sluice_producer_send(user->producer, &record), SLUICE_OK));
        user_flush(user);
        uint64_t deadline_ms = user_now_ms() + 5000;
        while (seen <= round && user_now_ms() < deadline_ms) {
            int n = sluice_consumer_poll(consumer, messages, 16, 100);
            cr_assert(ge(int, n, 0));
            for (int i = 0; i < n; i++)
                cr_assert(eq(u32, messages[i].partition, 1));
            seen += (uint64_t)n;
        }
        cr_assert(eq(u64, seen, round + 1));
    }
    cr_expect(le(u64, consumer->kept_bytes, (5 << 20) / 4));
    sluice_consumer_resume(consumer, "t", 0);
    for (uint64_t next = 0; next < 600;) {
        int n = sluice_consumer_poll(consumer, messages, 16, 5000);
        cr_assert(gt(int, n, 0));
        for (int i = 0; i < n; i++)
            cr_assert(eq(u64, messages[i].offset, next++));
    }
    free(value);
    sluice_consumer_free(consumer);
    user_free(user);
}

/* ---- lost connections ---- */

Test(consumer, reading_goes_on_after_reconnects_without_loss_or_repetition)
{
    struct user *user = with_records(20000, 50, SLUICE_COMPRESSION_NONE);
    struct sluice_consumer *consumer = new_consumer(user, 0);
    sluice_consumer_subscribe(consumer, "t", 0, SLUICE_START_BEGINNING, 0);
    for (uint64_t next = 0; next < 20000; next += 1000) {
        expect_numbers(consumer, next, 1000);
        fake_drop_connections(user->broker);
        user_sleep_ms(2);
    }
    expect_nothing(consumer);
    sluice_consumer_free(consumer);
    user_free(user);
}

Test(consumer, a_start_at_the_end_is_not_asked_for_again_after_a_reconnect)
{
    struct user *user = with_records(100, 10, SLUICE_COMPRESSION_NONE);
    struct sluice_consumer *consumer = new_consumer(user, 0);
    sluice_consumer_subscribe(consumer, "t", 0, SLUICE_START_END, 0);
    fake_rule(user->broker, OP_SUBSCRIBE, 0, 3, FAKE_DROP_BEFORE, 0);
    fake_drop_connections(user->broker);
    user_send_many(user, 0, 30); // stored while there was no subscription
    user_flush(user);
    expect_numbers(consumer, 100, 30);
    sluice_consumer_free(consumer);
    user_free(user);
}

Test(consumer, a_refused_subscription_is_tried_again)
{
    struct user *user = with_records(100, 10, SLUICE_COMPRESSION_NONE);
    struct sluice_consumer *consumer = new_consumer(user, 0);
    fake_rule(user->broker, OP_SUBSCRIBE, 0, 2, FAKE_REFUSE, PE_OVERLOADED);
    sluice_consumer_subscribe(consumer, "t", 0, SLUICE_START_BEGINNING, 0);
    expect_numbers(consumer, 0, 100);
    sluice_consumer_free(consumer);
    user_free(user);
}

Test(consumer, changes_in_a_row_around_lost_connections_lose_nothing)
{
    struct user *user = with_records(3000, 10, SLUICE_COMPRESSION_NONE);
    struct sluice_consumer *consumer = new_consumer(user, 0);
    struct random random;
    random_init(&random, 7);
    sluice_consumer_subscribe(consumer, "t", 0, SLUICE_START_BEGINNING, 0);
    uint64_t next = 0;
    while (next < 2900) {
        switch (random_below(&random, 6)) {
        case 0:
            fake_drop_connections(user->broker);
            break;
        case 1:
            next = random_below(&random, 200) + next;
            cr_assert(eq(int, sluice_consumer_seek(consumer, "t", 0, SLUICE_START_OFFSET, next),
                         SLUICE_OK));
            break;
        case 2:
            sluice_consumer_subscribe(consumer, "t", 1, SLUICE_START_END, 0);
            break;
        case 3:
            sluice_consumer_unsubscribe(consumer, "t", 1);
            break;
        default:
            expect_numbers(consumer, next, 20);
            next += 20;
        }
    }
    expect_numbers(consumer, next, 3000 - next);
    sluice_consumer_free(consumer);
    user_free(user);
}

/* ---- errors ---- */

Test(consumer, a_damaged_batch_stops_its_partition_and_no_other)
{
    struct user *user = with_records(100, 10, SLUICE_COMPRESSION_NONE);
    fake_damage(user->broker, "t", 0, 55);
    struct sluice_consumer *consumer = new_consumer(user, 0);
    sluice_consumer_subscribe(consumer, "t", 0, SLUICE_START_BEGINNING, 0);
    sluice_consumer_subscribe(consumer, "t", 1, SLUICE_START_BEGINNING, 0);
    expect_numbers(consumer, 0, 50);
    struct sluice_message message;
    cr_assert(eq(int, sluice_consumer_poll(consumer, &message, 1, 5000), SLUICE_E_CORRUPT));
    const char *topic;
    uint32_t partition;
    sluice_consumer_error(consumer, &topic, &partition);
    cr_expect(strcmp(topic, "t") == 0);
    cr_expect(eq(u32, partition, 0));
    expect_nothing(consumer);
    user_send_many(user, 1, 3);
    user_flush(user);
    expect_numbers(consumer, 100, 3);
    cr_assert(eq(int, sluice_consumer_seek(consumer, "t", 0, SLUICE_START_OFFSET, 60), SLUICE_OK));
    expect_numbers(consumer, 60, 40);
    sluice_consumer_free(consumer);
    user_free(user);
}

Test(consumer, retention_that_passes_the_position_is_an_error_and_seek_goes_on)
{
    struct user *user = with_records(100, 10, SLUICE_COMPRESSION_NONE);
    struct sluice_consumer *consumer = new_consumer(user, 0);
    sluice_consumer_subscribe(consumer, "t", 0, SLUICE_START_END, 0);
    expect_nothing(consumer);
    fake_rule(user->broker, OP_SUBSCRIBE, 0, 1, FAKE_DELAY, 50);
    fake_drop_connections(user->broker);
    user_send_many(user, 0, 100);
    fake_set_log_start(user->broker, "t", 0, 150);
    struct sluice_message message;
    cr_assert(
        eq(int, sluice_consumer_poll(consumer, &message, 1, 5000), SLUICE_E_OFFSET_OUT_OF_RANGE));
    expect_nothing(consumer);
    cr_assert(
        eq(int, sluice_consumer_seek(consumer, "t", 0, SLUICE_START_BEGINNING, 0), SLUICE_OK));
    user_flush(user);
    expect_numbers(consumer, 150, 50);
    sluice_consumer_free(consumer);
    user_free(user);
}

/* ---- credit ---- */

Test(consumer, the_broker_sends_no_more_ahead_than_the_buffer_holds)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){.send_waits = true});
    char *value = calloc(1, 50000);
    for (uint64_t i = 0; i < 600; i++) { // 30 MB
        struct sluice_record record = {.topic = "t", .value = value, .value_len = 50000};
        cr_assert(eq(int, sluice_producer_send(user->producer, &record), SLUICE_OK));
    }
    user_flush(user);
    struct sluice_consumer *consumer = new_consumer(user, 6 << 20);
    sluice_consumer_subscribe(consumer, "t", 0, SLUICE_START_BEGINNING, 0);
    user_sleep_ms(200);
    cr_expect(le(u64, consumer->held_bytes, 6 << 20));
    cr_expect(ge(u64, consumer->held_bytes, 4 << 20));
    struct sluice_message messages[10];
    for (uint64_t next = 0; next < 600;) {
        int n = sluice_consumer_poll(consumer, messages, 10, 5000);
        cr_assert(gt(int, n, 0));
        for (int i = 0; i < n; i++)
            cr_assert(eq(u64, messages[i].offset, next++));
        cr_assert(le(u64, consumer->held_bytes, 6 << 20));
    }
    free(value);
    sluice_consumer_free(consumer);
    user_free(user);
}

Test(consumer, the_smallest_buffer_takes_the_largest_batches)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){
                           .send_waits = true, .batch_bytes = 4 << 20, .linger_us = 1000000});
    char *value = calloc(1, 1000000);
    for (uint64_t i = 0; i < 40; i++) {
        struct sluice_record record = {.topic = "t", .value = value, .value_len = 1000000};
        cr_assert(eq(int, sluice_producer_send(user->producer, &record), SLUICE_OK));
    }
    user_flush(user);
    struct sluice_consumer *consumer = new_consumer(user, 5 << 20);
    sluice_consumer_subscribe(consumer, "t", 0, SLUICE_START_BEGINNING, 0);
    struct sluice_message messages[3];
    for (uint64_t next = 0; next < 40;) {
        int n = sluice_consumer_poll(consumer, messages, 3, 5000);
        cr_assert(gt(int, n, 0));
        for (int i = 0; i < n; i++)
            cr_assert(eq(u64, messages[i].offset, next++));
    }
    free(value);
    sluice_consumer_free(consumer);
    user_free(user);
}

Test(consumer, can_be_freed_with_unread_data_and_a_busy_subscription)
{
    struct user *user = with_records(100000, 100, SLUICE_COMPRESSION_NONE);
    for (int i = 0; i < 10; i++) {
        struct sluice_consumer *consumer = new_consumer(user, 0);
        sluice_consumer_subscribe(consumer, "t", 0, SLUICE_START_BEGINNING, 0);
        expect_numbers(consumer, 0, 50);
        sluice_consumer_pause(consumer, "t", 0);
        sluice_consumer_free(consumer);
    }
    user_free(user);
}

Test(consumer, consumers_of_one_client_each_get_everything)
{
    struct user *user = with_records(2000, 20, SLUICE_COMPRESSION_NONE);
    struct sluice_consumer *consumers[5];
    for (int i = 0; i < 5; i++) {
        consumers[i] = new_consumer(user, 0);
        sluice_consumer_subscribe(consumers[i], "t", 0, SLUICE_START_BEGINNING, 0);
    }
    for (int i = 0; i < 5; i++) {
        expect_numbers(consumers[i], 0, 2000);
        sluice_consumer_free(consumers[i]);
    }
    user_free(user);
}
