/* Publishing when all goes well: batching, partitions, reports, memory, topics. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/client_private.h"
#include "proto/messages.h"
#include "tests/unit/client/user.h"

static const struct fake_options plain;

static void send_and_check(struct user *user)
{
    user_produce(user, (struct sluice_producer_options){0});
    user_send_many(user, 0, 10000);
    user_flush(user);
    user_expect_all_stored(user);
    cr_expect(eq(u64, user->last_offset, 9999));
    user_free(user);
}

Test(publish, what_is_sent_is_stored_in_order_and_reported_with_its_offset)
{
    send_and_check(user_new(&plain, 1));
}

Test(publish, the_epoll_backend_does_the_same)
{
    send_and_check(user_new_epoll(&plain, 1));
}

Test(publish, without_idempotence_all_is_stored_as_well)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){
                           .not_idempotent = true, .batches_in_flight = 64, .batch_records = 7});
    user_send_many(user, 0, 7000);
    user_flush(user);
    user_expect_all_stored(user);
    cr_expect(eq(u64, fake_seen(user->broker, OP_PRODUCER_INIT), 0));
    user_free(user);
}

/* ---- batches ---- */

Test(publish, batch_records_bounds_a_batch_exactly)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){.batch_records = 10, .linger_us = 5000000});
    user_send_many(user, 0, 1000);
    user_flush(user);
    user_expect_all_stored(user);
    cr_expect(eq(u64, fake_batch_count(user->broker, "t", 0), 100));
    user_free(user);
}

Test(publish, batch_records_of_one_gives_each_record_a_frame_of_its_own)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){.batch_records = 1});
    user_send_many(user, 0, 500);
    user_flush(user);
    user_expect_all_stored(user);
    cr_expect(eq(u64, fake_batch_count(user->broker, "t", 0), 500));
    cr_expect(eq(u64, fake_seen(user->broker, OP_PRODUCE), 500));
    user_free(user);
}

Test(publish, records_gather_into_few_batches_while_there_is_no_connection)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){0});
    user_send_many(user, 0, 1);
    user_flush(user);
    fake_go_down(user->broker);
    user_send_many(user, 0, 5000);
    fake_come_back(user->broker);
    user_flush(user);
    user_expect_all_stored(user);
    cr_expect(le(u64, fake_batch_count(user->broker, "t", 0), 1 + 5 + 1)); // window, and the rest
    user_free(user);
}

Test(publish, a_full_batch_is_closed_before_its_bytes_exceed_the_limit)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){.batch_bytes = 4096, .linger_us = 5000000});
    user_send_many(user, 0, 2000); // 14 bytes each in a batch: about 280 fit
    user_flush(user);
    user_expect_all_stored(user);
    cr_expect(ge(u64, fake_batch_count(user->broker, "t", 0), 2000 * 14 / 4096));
    cr_expect(le(u64, fake_batch_count(user->broker, "t", 0), 12));
    user_free(user);
}

Test(publish, a_lingering_batch_waits_for_its_time)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){.linger_us = 100000});
    uint64_t start_ms = user_now_ms();
    for (int i = 0; i < 20; i++) {
        user_send_many(user, 0, 1);
        user_sleep_ms(1);
    }
    cr_assert(user_wait_reports(user, 20));
    cr_expect(ge(u64, user_now_ms() - start_ms, 95));
    cr_expect(le(u64, fake_batch_count(user->broker, "t", 0), 3));
    user_expect_all_stored(user);
    user_free(user);
}

Test(publish, a_record_larger_than_batch_bytes_is_a_batch_of_its_own)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){.batch_bytes = 1024});
    char *value = malloc(500000);
    memset(value, 'x', 500000);
    struct sluice_record record = {.topic = "t", .value = value, .value_len = 500000};
    for (int i = 0; i < 5; i++) {
        cr_assert(eq(int, sluice_producer_send(user->producer, &record), SLUICE_OK));
        record.opaque = (void *)(uintptr_t)++user->sent;
    }
    user_flush(user);
    cr_expect(eq(u64, fake_record_count(user->broker, "t", 0), 5));
    cr_expect(eq(u64, user->report_count, 5));
    free(value);
    user_free(user);
}

static void send_large(uint32_t batch_bytes)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){
                           .batch_bytes = batch_bytes, .linger_us = 100000, .send_waits = true});
    char *value = malloc(100000), *read = malloc(100000);
    for (uint32_t i = 0; i < 300; i++) {
        memset(value, (int)('a' + i % 26), 100000);
        struct sluice_record record = {
            .topic = "t", .value = value, .value_len = 100000, .opaque = (void *)(uintptr_t)i};
        cr_assert(eq(int, sluice_producer_send(user->producer, &record), SLUICE_OK));
    }
    user_flush(user);
    cr_expect(le(u64, fake_batch_count(user->broker, "t", 0), 3 * 300 * 100000 / batch_bytes));
    for (uint32_t i = 0; i < 300; i++) {
        cr_assert(eq(i64, fake_value(user->broker, "t", 0, i, read, 100000), 100000));
        memset(value, (int)('a' + i % 26), 100000);
        cr_assert(memcmp(read, value, 100000) == 0);
    }
    free(value);
    free(read);
    user_free(user);
}

Test(publish, large_batches_arrive_as_they_were_sent)
{
    send_large(1 << 20);
}

Test(publish, the_buffer_is_large_enough_for_the_largest_batches)
{
    send_large(4 << 20);
}

/* ---- partitions ---- */

Test(publish, a_key_always_goes_to_the_same_partition)
{
    struct user *user = user_new(&plain, 7);
    user_produce(user, (struct sluice_producer_options){0});
    struct sluice_record record = {.topic = "t",
                                   .partition = SLUICE_PARTITION_ANY,
                                   .key = "abc",
                                   .key_len = 3,
                                   .value = "v",
                                   .value_len = 1};
    for (int i = 0; i < 50; i++)
        cr_assert(eq(int, sluice_producer_send(user->producer, &record), SLUICE_OK));
    user_flush(user);
    uint32_t partition = (uint32_t)(0x78af5f94892f3950 % 7); // XXH3-64 of "abc"
    cr_expect(eq(u64, fake_record_count(user->broker, "t", partition), 50));
    user_free(user);
}

Test(publish, records_without_a_key_fill_one_partition_per_batch_and_reach_all)
{
    struct user *user = user_new(&plain, 4);
    user_produce(user, (struct sluice_producer_options){.batch_records = 50});
    user_send_many(user, SLUICE_PARTITION_ANY, 50 * 40);
    user_flush(user);
    uint64_t sum = 0;
    for (uint32_t p = 0; p < 4; p++) {
        cr_expect(gt(u64, fake_record_count(user->broker, "t", p), 0));
        sum += fake_record_count(user->broker, "t", p);
    }
    cr_expect(eq(u64, sum, 2000));
    user_free(user);
}

/* ---- many at once ---- */

static void send_in_chunks(struct user *user, uint32_t count, uint32_t chunk)
{
    static char values[4000][32];
    static struct sluice_record records[4000];
    for (uint32_t i = 0; i < count; i++) {
        uint64_t number = user->sent + i;
        int len = snprintf(values[i], sizeof(values[i]), "%07lu", number);
        records[i] = (struct sluice_record){.topic = "t",
                                            .value = values[i],
                                            .value_len = (size_t)len,
                                            .opaque = (void *)(uintptr_t)number};
    }
    for (uint32_t i = 0; i < count;) {
        uint32_t taken, some = count - i < chunk ? count - i : chunk;
        cr_assert(eq(int, sluice_producer_send_many(user->producer, &records[i], some, &taken),
                     SLUICE_OK));
        cr_assert(eq(u32, taken, some));
        i += taken;
        user->sent += taken;
    }
}

Test(publish, many_records_at_once_are_taken_in_their_order)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){
                           .batch_bytes = 2048, .buffer_bytes = 8192, .send_waits = true});
    send_in_chunks(user, 4000, 1000);
    send_in_chunks(user, 3000, 7);
    send_in_chunks(user, 100, 1);
    user_flush(user);
    user_expect_all_stored(user);
    user_free(user);
}

/* Each batch is compressed by the thread that closes it, so a run must stop where one is closed. */
Test(publish, many_at_once_may_fill_several_compressed_batches)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){.batch_records = 10,
                                                        .compression = SLUICE_COMPRESSION_LZ4});
    send_in_chunks(user, 1000, 64);
    user_flush(user);
    cr_expect(eq(u64, user->report_count, 1000));
    cr_expect(eq(u64, user->failed_count, 0));
    cr_expect(eq(u64, fake_record_count(user->broker, "t", 0), 1000));
    user_free(user);
}

Test(publish, many_at_once_stops_at_the_first_that_is_not_taken)
{
    struct user *user = user_new(&plain, 3);
    user_produce(user, (struct sluice_producer_options){0});
    struct sluice_header header = {.key = "h", .value = "v", .value_len = 1};
    struct sluice_record records[] = {
        {.topic = "t", .partition = 0, .value = "a", .value_len = 1},
        {.topic = "t", .partition = 1, .value = "b", .value_len = 1},
        {.topic = "t", .partition = 1, .headers = &header, .header_count = 1},
        {.topic = "t", .partition = 1, .value = "c", .value_len = 1},
        {.topic = "t", .partition = 3},
        {.topic = "t", .partition = 2},
    };
    for (size_t i = 0; i < ARRAY_COUNT(records); i++)
        records[i].opaque = (void *)(uintptr_t)i;
    uint32_t taken;
    cr_expect(eq(int, sluice_producer_send_many(user->producer, records, 6, &taken),
                 SLUICE_E_UNKNOWN_PARTITION));
    cr_expect(eq(u32, taken, 4));
    user_flush(user);
    cr_expect(eq(u64, user->report_count, 4));
    cr_expect(eq(u64, fake_record_count(user->broker, "t", 0), 1));
    cr_expect(eq(u64, fake_record_count(user->broker, "t", 1), 3));
    cr_expect(eq(u64, fake_record_count(user->broker, "t", 2), 0));
    cr_expect(eq(int, sluice_producer_send_many(user->producer, records, 0, &taken), SLUICE_OK));
    user_free(user);
}

/* ---- what is not taken ---- */

Test(publish, bad_records_are_refused_and_nothing_is_taken)
{
    struct user *user = user_new(&plain, 2);
    user_produce(user, (struct sluice_producer_options){0});
    char *large = calloc(1, 2000000);
    struct sluice_record unknown = {.topic = "nowhere"};
    struct sluice_record no_topic = {.topic = NULL};
    struct sluice_record bad_name = {.topic = "a/b"};
    struct sluice_record beyond = {.topic = "t", .partition = 2};
    struct sluice_record no_value = {.topic = "t", .value_len = 5};
    struct sluice_record old = {.topic = "t", .timestamp_ms = -1};
    struct sluice_record too_large = {.topic = "t", .value = large, .value_len = 2000000};
    struct sluice_header no_key = {.value = "x", .value_len = 1};
    struct sluice_header not_utf8 = {.key = "\xff", .value = "x", .value_len = 1};
    struct sluice_record bad_header = {.topic = "t", .headers = &no_key, .header_count = 1};
    struct sluice_record bad_text = {.topic = "t", .headers = &not_utf8, .header_count = 1};
    struct sluice_producer *p = user->producer;
    cr_expect(eq(int, sluice_producer_send(p, &unknown), SLUICE_E_UNKNOWN_TOPIC));
    cr_expect(eq(int, sluice_producer_send(p, &no_topic), SLUICE_E_INVALID));
    cr_expect(eq(int, sluice_producer_send(p, &bad_name), SLUICE_E_INVALID));
    cr_expect(eq(int, sluice_producer_send(p, &beyond), SLUICE_E_UNKNOWN_PARTITION));
    cr_expect(eq(int, sluice_producer_send(p, &no_value), SLUICE_E_INVALID));
    cr_expect(eq(int, sluice_producer_send(p, &old), SLUICE_E_INVALID));
    cr_expect(eq(int, sluice_producer_send(p, &too_large), SLUICE_E_TOO_LARGE));
    cr_expect(eq(int, sluice_producer_send(p, &bad_header), SLUICE_E_INVALID));
    cr_expect(eq(int, sluice_producer_send(p, &bad_text), SLUICE_E_INVALID));
    cr_expect(eq(u64, sluice_producer_pending(p), 0));
    user_flush(user);
    cr_expect(eq(u64, user->report_count, 0));
    free(large);
    user_free(user);
}

Test(publish, options_out_of_range_are_refused_with_the_range)
{
    struct user *user = user_new(&plain, 1);
    struct sluice_producer *none;
    struct sluice_producer_options options = {.size = sizeof(options), .batches_in_flight = 6};
    cr_expect(eq(int, sluice_producer_new(user->client, &options, &none), SLUICE_E_INVALID));
    cr_expect(strstr(sluice_last_error(), "1..5") != NULL);
    options = (struct sluice_producer_options){.size = sizeof(options), .batch_bytes = 512};
    cr_expect(eq(int, sluice_producer_new(user->client, &options, &none), SLUICE_E_INVALID));
    options = (struct sluice_producer_options){.size = sizeof(options), .buffer_bytes = 400000};
    cr_expect(eq(int, sluice_producer_new(user->client, &options, &none), SLUICE_E_INVALID));
    options = (struct sluice_producer_options){.size = sizeof(options), .compression = 7};
    cr_expect(eq(int, sluice_producer_new(user->client, &options, &none), SLUICE_E_UNSUPPORTED));
    user_free(user);
}

Test(publish, a_full_buffer_says_so_and_takes_again_after_reports)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user,
                 (struct sluice_producer_options){.batch_bytes = 4096, .buffer_bytes = 16384});
    user_send_many(user, 0, 1);
    user_flush(user);
    fake_go_down(user->broker);
    int status = SLUICE_OK;
    while (status == SLUICE_OK && user->sent < 10000)
        status = user_send(user, 0);
    cr_expect(eq(int, status, SLUICE_E_FULL));
    cr_expect(lt(u64, user->sent, 2000)); // 16 KiB hold no more
    fake_come_back(user->broker);
    user_flush(user);
    cr_expect(eq(int, user_send(user, 0), SLUICE_OK));
    user_flush(user);
    user_expect_all_stored(user);
    user_free(user);
}

Test(publish, send_waits_until_there_is_room)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){
                           .batch_bytes = 4096, .buffer_bytes = 16384, .send_waits = true});
    user_send_many(user, 0, 50000);
    user_flush(user);
    user_expect_all_stored(user);
    user_free(user);
}

Test(publish, send_gives_up_waiting_at_the_delivery_timeout)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){.batch_bytes = 1024,
                                                        .buffer_bytes = 8192,
                                                        .send_waits = true,
                                                        .report_poll = true,
                                                        .delivery_timeout_ms = 200});
    uint64_t start_ms = user_now_ms();
    int status = SLUICE_OK;
    while (status == SLUICE_OK) // reports keep their memory until they are polled, and nobody polls
        status = user_send(user, 0);
    cr_expect(eq(int, status, SLUICE_E_TIMED_OUT));
    cr_expect(ge(u64, user_now_ms() - start_ms, 190));
    user_flush(user);
    cr_expect(eq(u64, user->report_count, user->sent));
    user_free(user);
}

/* ---- reports ---- */

static void send_another(struct user *user, const struct sluice_report *report)
{
    if (user->sent < 2000)
        user_send(user, 0);
}

Test(publish, a_report_may_send)
{
    struct user *user = user_new(&plain, 1);
    user->on_report = send_another;
    user_produce(user, (struct sluice_producer_options){0});
    user_send_many(user, 0, 1);
    cr_expect(user_wait_reports(user, 2000));
    user_flush(user);
    user_expect_all_stored(user);
    user_free(user);
}

Test(publish, with_report_poll_reports_come_from_poll_alone)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){.report_poll = true, .batch_records = 100});
    user_send_many(user, 0, 1000);
    cr_assert(fake_wait_records(user->broker, "t", 0, 1000));
    user_sleep_ms(50);
    cr_expect(eq(u64, user->report_count, 0));
    cr_expect(eq(int, sluice_producer_poll(user->producer, 30, 1000), 30));
    cr_expect(eq(u64, user->report_count, 30));
    while (sluice_producer_poll(user->producer, 77, 100) > 0)
        continue;
    user_expect_all_stored(user);
    cr_expect(eq(int, sluice_producer_poll(user->producer, 10, 20), 0));
    user_free(user);
}

Test(publish, flush_runs_waiting_reports_itself_with_report_poll)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){.report_poll = true});
    user_send_many(user, 0, 3000);
    user_flush(user);
    user_expect_all_stored(user);
    user_free(user);
}

Test(publish, flush_times_out_while_the_broker_is_silent)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){0});
    fake_rule(user->broker, OP_PRODUCE, 0, 1000, FAKE_IGNORE, 0);
    user_send_many(user, 0, 10);
    cr_expect(eq(int, sluice_producer_flush(user->producer, 50), SLUICE_E_TIMED_OUT));
    cr_expect(eq(u64, sluice_producer_pending(user->producer), 10));
    user_free(user);
}

Test(publish, freeing_a_producer_reports_what_is_pending_as_closed)
{
    struct user *user = user_new(&plain, 3);
    user_produce(user, (struct sluice_producer_options){.batch_records = 3});
    user_send_many(user, 0, 20);
    user_flush(user);
    fake_rule(user->broker, OP_PRODUCE, 0, 1000, FAKE_IGNORE, 0);
    for (uint32_t p = 0; p < 3; p++)
        user_send_many(user, p, 100);
    fake_wait_seen(user->broker, OP_PRODUCE, 8);
    sluice_producer_free(user->producer);
    user->producer = NULL;
    cr_expect(eq(u64, user->report_count, 320));
    cr_expect(eq(u64, user->failed_count, 300));
    cr_expect(eq(u64, user->twice_count, 0));
    cr_expect(eq(int, user->last_failure, SLUICE_E_CLOSED));
    user_free(user);
}

Test(publish, freeing_works_in_the_middle_of_a_large_send_and_with_polled_reports)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){.report_poll = true,
                                                        .batch_bytes = 4 * 1024 * 1024});
    char *value = calloc(1, 1000000);
    fake_rule(user->broker, OP_PRODUCE, 0, 1, FAKE_DELAY, 300);
    for (uint64_t i = 0; i < 12; i++) {
        struct sluice_record record = {
            .topic = "t", .value = value, .value_len = 1000000, .opaque = (void *)(uintptr_t)i};
        if (sluice_producer_send(user->producer, &record) == SLUICE_OK)
            user->sent++;
    }
    user_sleep_ms(20);
    sluice_producer_free(user->producer);
    user->producer = NULL;
    cr_expect(eq(u64, user->report_count, user->sent));
    cr_expect(eq(u64, user->twice_count, 0));
    free(value);
    user_free(user);
}

/* ---- topics ---- */

Test(publish, a_topic_made_anew_is_found_under_its_new_id)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){0});
    user_send_many(user, 0, 100);
    user_flush(user);
    fake_delete_topic(user->broker, "t");
    fake_topic(user->broker, "t", 1);
    cr_assert(eq(int, user_send(user, 0), SLUICE_OK)); // goes to the old id, and fails
    user_flush(user);
    cr_expect(eq(u64, user->failed_count, 1));
    cr_expect(eq(int, user->last_failure, SLUICE_E_UNKNOWN_TOPIC));
    user_send_many(user, 0, 50);
    user_flush(user);
    cr_expect(eq(u64, user->failed_count, 1));
    cr_expect(eq(u64, fake_record_count(user->broker, "t", 0), 50));
    user_expect_values(user, 0, 101, 151);
    user_free(user);
}

/* A topic is found by the name's address first; its letters decide. */
Test(publish, names_of_topics_may_lie_anywhere_and_change_between_sends)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){0});
    fake_topic(user->broker, "u", 2);
    char names[64][2] = {0};
    for (uint32_t i = 0; i < 6400; i++) {
        char *name = names[i % 64];
        name[0] = i / 64 % 2 ? 'u' : 't';
        struct sluice_record record = {.topic = name, .value = "v", .value_len = 1};
        cr_assert(eq(int, sluice_producer_send(user->producer, &record), SLUICE_OK));
    }
    struct sluice_record record = {.topic = "u", .partition = 1, .value = "v", .value_len = 1};
    cr_assert(eq(int, sluice_producer_send(user->producer, &record), SLUICE_OK));
    user_flush(user);
    cr_expect(eq(u64, fake_record_count(user->broker, "t", 0), 3200));
    cr_expect(eq(u64, fake_record_count(user->broker, "u", 0), 3200));
    cr_expect(eq(u64, fake_record_count(user->broker, "u", 1), 1));
    user_free(user);
}

Test(publish, a_partition_that_was_added_is_found_when_it_is_asked_for)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){0});
    user_send_many(user, 0, 10);
    cr_expect(eq(int, user_send(user, 1), SLUICE_E_UNKNOWN_PARTITION));
    fake_add_partition(user->broker, "t");
    user_send_many(user, 1, 10);
    user_send_many(user, 0, 10);
    user_flush(user);
    cr_expect(eq(u64, fake_record_count(user->broker, "t", 0), 20));
    cr_expect(eq(u64, fake_record_count(user->broker, "t", 1), 10));
    cr_expect(eq(u64, user->failed_count, 0));
    user_free(user);
}

Test(publish, added_partitions_and_topics_made_anew_are_noticed_in_time)
{
    struct user *user = user_new(&plain, 1);
    user->client->refresh_interval_ns = 20 * NS_PER_MS; // before there is a producer to read it
    user_produce(user, (struct sluice_producer_options){.batch_records = 5});
    user_send_many(user, SLUICE_PARTITION_ANY, 10);
    user_flush(user);
    fake_add_partition(user->broker, "t");
    cr_assert(fake_wait_seen(user->broker, OP_METADATA, fake_seen(user->broker, OP_METADATA) + 2));
    user_send_many(user, SLUICE_PARTITION_ANY, 100);
    user_flush(user);
    cr_expect(gt(u64, fake_record_count(user->broker, "t", 1), 0));
    fake_delete_topic(user->broker, "t");
    fake_topic(user->broker, "t", 1);
    cr_assert(fake_wait_seen(user->broker, OP_METADATA, fake_seen(user->broker, OP_METADATA) + 2));
    user_send_many(user, SLUICE_PARTITION_ANY, 10);
    user_flush(user);
    cr_expect(eq(u64, user->failed_count, 0));
    cr_expect(eq(u64, fake_record_count(user->broker, "t", 0), 10));
    user_free(user);
}

Test(publish, producers_of_one_client_do_not_disturb_each_other)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){0});
    struct sluice_producer *others[20];
    struct sluice_producer_options options = {.size = sizeof(options), .buffer_bytes = 1 << 20};
    struct sluice_record record = {.topic = "t", .value = "other", .value_len = 5};
    for (int i = 0; i < 20; i++)
        cr_assert(eq(int, sluice_producer_new(user->client, &options, &others[i]), SLUICE_OK));
    for (int n = 0; n < 100; n++) {
        user_send_many(user, 0, 10);
        for (int i = 0; i < 20; i++)
            cr_assert(eq(int, sluice_producer_send(others[i], &record), SLUICE_OK));
    }
    for (int i = 0; i < 20; i++) {
        cr_expect(eq(int, sluice_producer_flush(others[i], 10000), SLUICE_OK));
        sluice_producer_free(others[i]);
    }
    user_flush(user);
    cr_expect(eq(u64, user->report_count, 1000));
    cr_expect(eq(u64, user->failed_count, 0));
    cr_expect(eq(u64, fake_record_count(user->broker, "t", 0), 1000 + 20 * 100));
    user_free(user);
}

enum { TURN_BATCHES = 64, TURN_LANES = 4, TURN_RECORDS = TURN_BATCHES * TURN_LANES };

struct turns {
    uint32_t count;
    uint8_t lanes[TURN_LANES + TURN_RECORDS]; // in the order of the answers, which is the broker's
};

static void note_lane(void *context, const struct sluice_report *report)
{
    struct turns *turns = context;
    if (report->status == SLUICE_OK && turns->count < sizeof(turns->lanes))
        turns->lanes[turns->count++] = (uint8_t)(uintptr_t)report->opaque;
}

/* Two producers have 64 batches of 1 KiB for each of two partitions when the connection is there: they come in turns of 16 KiB. */
Test(publish, producers_and_partitions_take_turns_by_bytes)
{
    struct user *user = user_new(&plain, 2);
    struct turns turns = {0};
    struct sluice_producer *producers[2];
    struct sluice_producer_options options = {.size = sizeof(options),
                                              .not_idempotent = true,
                                              .batches_in_flight = TURN_BATCHES,
                                              .batch_records = 1,
                                              .on_report = note_lane,
                                              .context = &turns};
    char value[1000] = {0};
    struct sluice_record record = {.topic = "t", .value = value, .value_len = sizeof(value)};
    for (int i = 0; i < 2; i++)
        cr_assert(eq(int, sluice_producer_new(user->client, &options, &producers[i]), SLUICE_OK));
    for (uint32_t n = 0; n < TURN_LANES + TURN_RECORDS; n++) {
        record.opaque = (void *)(uintptr_t)(n % TURN_LANES);
        record.partition = (int32_t)(n / 2 % 2);
        cr_assert(eq(int, sluice_producer_send(producers[n % 2], &record), SLUICE_OK));
        if (n + 1 != TURN_LANES)
            continue;
        for (int i = 0; i < 2; i++)
            cr_assert(eq(int, sluice_producer_flush(producers[i], 10000), SLUICE_OK));
        fake_go_down(user->broker); // what follows is there at once
    }
    fake_come_back(user->broker);
    for (int i = 0; i < 2; i++)
        cr_expect(eq(int, sluice_producer_flush(producers[i], 10000), SLUICE_OK));
    cr_assert(eq(u32, turns.count, sizeof(turns.lanes)));
    uint32_t seen = 0;
    for (uint32_t n = 0; n < TURN_RECORDS; n++) {
        const uint8_t *lane = turns.lanes + TURN_LANES + n;
        if (n % 16 > 0)
            cr_assert(eq(u8, lane[0], lane[-1]), "a turn ends early, at %u", n);
        else if (n >= 64)
            cr_assert(eq(u8, lane[0], lane[-64]), "another round's turn is over, at %u", n);
        else
            cr_assert(zero(u32, seen & 1u << lane[0]), "a lane is served twice, at %u", n);
        seen |= 1u << lane[0];
    }
    for (int i = 0; i < 2; i++)
        sluice_producer_free(producers[i]);
    user_free(user);
}

/* ---- threads ---- */

#define THREADS 6
#define RECORDS_PER_THREAD 5000

struct sending_thread {
    struct user *user;
    uint32_t id;
    pthread_t thread;
};

static void *send_from_thread(void *argument)
{
    struct sending_thread *self = argument;
    for (uint32_t i = 0; i < RECORDS_PER_THREAD; i++) {
        uint32_t number = self->id * RECORDS_PER_THREAD + i;
        char value[16];
        int len = snprintf(value, sizeof(value), "%07u", number);
        struct sluice_record record = {.topic = "t",
                                       .partition = 0,
                                       .value = value,
                                       .value_len = (size_t)len,
                                       .opaque = (void *)(uintptr_t)number};
        if (sluice_producer_send(self->user->producer, &record) != SLUICE_OK)
            return argument;
    }
    return NULL;
}

Test(publish, threads_share_a_producer_and_each_keeps_its_order)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){.batch_bytes = 2048,
                                                        .buffer_bytes = 65536,
                                                        .send_waits = true,
                                                        .compression = SLUICE_COMPRESSION_NONE});
    struct sending_thread threads[THREADS];
    for (uint32_t i = 0; i < THREADS; i++) {
        threads[i] = (struct sending_thread){.user = user, .id = i};
        pthread_create(&threads[i].thread, NULL, send_from_thread, &threads[i]);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        void *failure;
        pthread_join(threads[i].thread, &failure);
        cr_expect(failure == NULL);
    }
    user_flush(user);
    uint64_t total = THREADS * RECORDS_PER_THREAD;
    cr_expect(eq(u64, user->report_count, total));
    cr_expect(eq(u64, user->twice_count, 0));
    cr_expect(eq(u64, user->failed_count, 0));
    cr_assert(eq(u64, fake_record_count(user->broker, "t", 0), total));
    uint32_t next[THREADS] = {0};
    for (uint64_t offset = 0; offset < total; offset++) {
        char value[16] = {0};
        fake_value(user->broker, "t", 0, offset, value, sizeof(value) - 1);
        uint32_t number = (uint32_t)strtoul(value, NULL, 10);
        uint32_t id = number / RECORDS_PER_THREAD;
        cr_assert(id < THREADS && number % RECORDS_PER_THREAD == next[id]);
        next[id]++;
    }
    user_free(user);
}
