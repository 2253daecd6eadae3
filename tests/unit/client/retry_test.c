/* Publishing when things go wrong: errors, lost answers, lost connections, deadlines. Whatever
 * happens, a record that was accepted is reported once, what is reported as stored is stored once,
 * and order holds. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "client/producer_private.h"
#include "proto/messages.h"
#include "tests/unit/client/user.h"

static const struct fake_options plain;

/* One record to a batch, so that each rule strikes exactly one record. */
static struct user *start(void)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){.batch_records = 1});
    user_send_many(user, 0, 1);
    user_flush(user);
    return user;
}

static void send_and_expect_all(struct user *user)
{
    user_send_many(user, 0, 200);
    user_flush(user);
    user_expect_all_stored(user);
}

/* ---- errors that pass ---- */

Test(retry, a_retriable_error_is_tried_again_and_order_holds)
{
    struct user *user = start();
    fake_rule(user->broker, OP_PRODUCE, 20, 1, FAKE_REFUSE, PE_OVERLOADED);
    fake_rule(user->broker, OP_PRODUCE, 50, 3, FAKE_REFUSE, PE_STORAGE_FULL);
    fake_rule(user->broker, OP_PRODUCE, 10, 1, FAKE_REFUSE, PE_NOT_READY);
    send_and_expect_all(user);
    cr_expect(eq(int, fake_last_epoch(user->broker), 0)); // no new epoch was needed
    cr_expect(eq(u64, fake_connections(user->broker), 1));
    user_free(user);
}

Test(retry, it_waits_longer_each_time)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){.retry_backoff_ms = 20});
    fake_rule(user->broker, OP_PRODUCE, 0, 4, FAKE_REFUSE, PE_OVERLOADED);
    uint64_t start_ms = user_now_ms();
    user_send_many(user, 0, 1);
    user_flush(user);
    cr_expect(ge(u64, user_now_ms() - start_ms, 20 + 40 + 80 + 160 - 4));
    cr_expect(eq(u64, fake_seen(user->broker, OP_PRODUCE), 5));
    user_expect_all_stored(user);
    user_free(user);
}

Test(retry, without_idempotence_a_retriable_error_is_tried_again_too)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){
                           .not_idempotent = true, .batches_in_flight = 1, .batch_records = 1});
    fake_rule(user->broker, OP_PRODUCE, 20, 2, FAKE_REFUSE, PE_OVERLOADED);
    send_and_expect_all(user);
    user_free(user);
}

/* The lane checks itself that nothing of it is on the wire then. */
Test(retry, all_answers_are_waited_for_before_anything_is_sent_again)
{
    struct user *user = start();
    fake_rule(user->broker, OP_PRODUCE, 0, 1, FAKE_REFUSE, PE_OVERLOADED);
    fake_rule(user->broker, OP_PRODUCE, 0, 1, FAKE_DELAY, 100); // longer than the backoff
    user_send_many(user, 0, 2);
    send_and_expect_all(user);
    user_free(user);
}

/* ---- errors that stay ---- */

Test(retry, a_refused_batch_fails_and_those_behind_it_are_stored)
{
    struct user *user = start();
    fake_rule(user->broker, OP_PRODUCE, 20, 1, FAKE_REFUSE, PE_INVALID_RECORD);
    user_send_many(user, 0, 200);
    user_flush(user);
    cr_expect(eq(u64, user->report_count, 201));
    cr_expect(eq(u64, user->twice_count, 0));
    cr_expect(eq(u64, user->backward_count, 0));
    cr_expect(eq(u64, user->failed_count, 1));
    cr_expect(eq(int, user->last_failure, SLUICE_E_BROKER - PE_INVALID_RECORD));
    cr_expect(eq(u64, fake_record_count(user->broker, "t", 0), 200));
    user_expect_values(user, 0, 0, 21);
    user_expect_values(user, 21, 22, 201);
    cr_expect(eq(int, fake_last_epoch(user->broker), 0));
    user_free(user);
}

Test(retry, a_duplicate_that_the_broker_forgot_is_stored_at_an_unknown_offset)
{
    struct user *user = start();
    fake_rule(user->broker, OP_PRODUCE, 0, 1, FAKE_DROP_AFTER, 0);
    fake_rule(user->broker, OP_PRODUCE, 0, 1, FAKE_REFUSE, PE_DUPLICATE_SEQUENCE);
    user_send_many(user, 0, 1);
    user_flush(user);
    cr_expect(eq(u64, user->failed_count, 0));
    cr_expect(eq(u64, user->last_offset, SLUICE_OFFSET_UNKNOWN));
    send_and_expect_all(user);
    user_free(user);
}

Test(retry, a_fenced_producer_can_not_go_on)
{
    struct user *user = start();
    fake_rule(user->broker, OP_PRODUCE, 2, 1, FAKE_REFUSE, PE_FENCED_PRODUCER);
    int status = SLUICE_OK;
    for (int i = 0; i < 5000 && status == SLUICE_OK; i++) {
        status = user_send(user, 0);
        user_sleep_ms(1);
    }
    cr_expect(eq(int, status, SLUICE_E_FENCED_PRODUCER));
    cr_expect(sluice_is_fatal(status));
    cr_expect(not(sluice_is_retriable(status)));
    user_flush(user);
    cr_expect(eq(u64, user->report_count, user->sent));
    cr_expect(eq(u64, user->twice_count, 0));
    cr_expect(
        eq(u64, user->report_count - user->failed_count, fake_record_count(user->broker, "t", 0)));
    user_free(user);
}

/* ---- lost connections ---- */

Test(retry, a_lost_ack_does_not_make_a_second_copy)
{
    struct user *user = start();
    fake_rule(user->broker, OP_PRODUCE, 10, 1, FAKE_DROP_AFTER, 0);
    fake_rule(user->broker, OP_PRODUCE, 3, 1, FAKE_DROP_AFTER, 0);
    fake_rule(user->broker, OP_PRODUCE, 70, 1, FAKE_DROP_AFTER, 0);
    send_and_expect_all(user);
    cr_expect(eq(u64, fake_connections(user->broker), 4));
    cr_expect(eq(u64, fake_seen(user->broker, OP_PRODUCER_INIT), 1));
    user_free(user);
}

/* Publishes that went to several shards are answered later than those behind them that went to one. */
Test(retry, answers_that_overtook_a_lost_one_do_not_make_a_second_copy)
{
    for (uint32_t silent = 1; silent <= 4; silent++) {
        struct user *user = start();
        fake_rule(user->broker, OP_PRODUCE, 0, silent, FAKE_SILENT, 0);
        user_send_many(user, 0, 5);
        cr_assert(fake_wait_records(user->broker, "t", 0, 6));
        user_sleep_ms(20); // for the answers of the others
        fake_drop_connections(user->broker);
        user_send_many(user, 0, 20);
        user_flush(user);
        cr_expect(eq(u64, user->last_offset, 25));
        cr_expect(eq(int, fake_last_epoch(user->broker), 0));
        user_expect_all_stored(user);
        user_free(user);
    }
}

Test(retry, a_lost_request_is_sent_again)
{
    struct user *user = start();
    fake_rule(user->broker, OP_PRODUCE, 10, 2, FAKE_DROP_BEFORE, 0);
    fake_rule(user->broker, OP_PRODUCE, 30, 1, FAKE_GARBAGE, 0);
    send_and_expect_all(user);
    user_free(user);
}

Test(retry, a_wrong_ack_ends_the_connection_and_harms_nothing)
{
    for (uint32_t how = 0; how < 4; how++) {
        struct user *user = start();
        fake_rule(user->broker, OP_PRODUCE, 10, 1, FAKE_WRONG_ACK, how);
        send_and_expect_all(user);
        cr_expect(ge(u64, fake_connections(user->broker), 2), "wrong in way %u", how);
        user_free(user);
    }
}

static void expect_offset_six(struct user *user, const struct sluice_report *report)
{
    if (user->sent > 8 * 6) // the second round
        cr_assert(eq(u64, report->offset, 6));
}

/* Eight batches in one frame, and an ACK with one offset for them all. */
Test(retry, an_ack_with_too_few_offsets_reports_none_of_them)
{
    struct user *user = user_new(&plain, 8);
    user_produce(user, (struct sluice_producer_options){0});
    for (uint32_t p = 0; p < 8; p++)
        user_send_many(user, p, 6);
    user_flush(user);
    fake_go_down(user->broker);
    user->on_report = expect_offset_six;
    for (uint32_t p = 0; p < 8; p++)
        user_send_many(user, p, 1);
    fake_rule(user->broker, OP_PRODUCE, 0, 1, FAKE_WRONG_ACK, 1);
    fake_come_back(user->broker);
    user_flush(user);
    cr_expect(eq(u64, user->failed_count, 0));
    cr_expect(eq(u64, user->report_count, 56));
    user_free(user);
}

Test(retry, records_sent_while_the_broker_is_away_are_stored_when_it_is_back)
{
    struct user *user = start();
    fake_go_down(user->broker);
    user_send_many(user, 0, 300);
    user_sleep_ms(50);
    cr_expect(eq(u64, user->report_count, 1));
    fake_come_back(user->broker);
    send_and_expect_all(user);
    user_free(user);
}

/* The same topic ids name other topics there, and the same producer ids other producers. */
Test(retry, another_store_at_the_same_address_gets_nothing)
{
    struct user *user = start();
    struct sluice_consumer_options options = {.size = sizeof(options)};
    struct sluice_consumer *consumer;
    struct sluice_message message;
    cr_assert(eq(int, sluice_consumer_new(user->client, &options, &consumer), SLUICE_OK));
    cr_assert(eq(int, sluice_consumer_subscribe(consumer, "t", 0, SLUICE_START_END, 0), SLUICE_OK));
    fake_go_down(user->broker);
    fake_set_store(user->broker, 1);
    user_send_many(user, 0, 20);
    fake_come_back(user->broker);
    cr_assert(fake_wait_seen(user->broker, OP_HELLO, 3)); // it keeps asking
    cr_expect(eq(int, sluice_client_wait(user->client, 5000), SLUICE_E_OTHER_STORE));
    cr_expect(eq(u64, fake_seen(user->broker, OP_PRODUCE), 1));
    cr_expect(eq(int, sluice_consumer_poll(consumer, &message, 1, 5000), SLUICE_E_OTHER_STORE));
    fake_go_down(user->broker);
    fake_set_store(user->broker, 0);
    fake_come_back(user->broker);
    user_flush(user);
    int got = 0;
    for (int i = 0; i < 100 && got < 1; i++)
        got = sluice_consumer_poll(consumer, &message, 1, 100);
    cr_expect(eq(int, got, 1)); // and goes on when its own store is back
    sluice_consumer_free(consumer);
    user_expect_all_stored(user);
    user_free(user);
}

Test(retry, a_broker_that_goes_away_politely_is_left_and_its_successor_found)
{
    struct user *user = start();
    for (int i = 0; i < 5; i++) {
        user_send_many(user, 0, 40);
        fake_goaway(user->broker, 5000);
        user_sleep_ms(20);
    }
    send_and_expect_all(user);
    cr_expect(eq(u64, fake_connections(user->broker), 6));
    user_free(user);
}

Test(retry, large_batches_survive_lost_connections)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user,
                 (struct sluice_producer_options){.batch_bytes = 128 * 1024, .send_waits = true});
    fake_rule(user->broker, OP_PRODUCE, 3, 1, FAKE_DROP_AFTER, 0);
    fake_rule(user->broker, OP_PRODUCE, 3, 1, FAKE_DROP_BEFORE, 0);
    fake_rule(user->broker, OP_PRODUCE, 3, 1, FAKE_REFUSE, PE_OVERLOADED);
    fake_rule(user->broker, OP_PRODUCE, 3, 1, FAKE_DROP_AFTER, 0);
    user_send_many(user, 0, 200000);
    user_flush(user);
    user_expect_all_stored(user);
    user_free(user);
}

/* ---- deadlines ---- */

Test(retry, a_batch_of_unknown_fate_times_out_and_the_next_epoch_goes_on_in_order)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user,
                 (struct sluice_producer_options){.batch_records = 1, .delivery_timeout_ms = 200});
    user_send_many(user, 0, 5);
    user_flush(user);
    fake_rule(user->broker, OP_PRODUCE, 0, 1, FAKE_SILENT, 0); // stored, but who knows
    user_send_many(user, 0, 1);
    cr_assert(user_wait_reports(user, 6));
    cr_expect(eq(int, user->last_failure, SLUICE_E_TIMED_OUT));
    user_send_many(user, 0, 10);
    user_flush(user);
    cr_expect(eq(u64, user->failed_count, 1));
    cr_expect(eq(int, fake_last_epoch(user->broker), 1));
    cr_expect(eq(u64, fake_record_count(user->broker, "t", 0), 16));
    user_expect_values(user, 0, 0, 16);
    user_free(user);
}

Test(retry, what_is_behind_a_batch_of_unknown_fate_is_stored_once)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user,
                 (struct sluice_producer_options){.batch_records = 1, .delivery_timeout_ms = 300});
    user_send_many(user, 0, 1);
    user_flush(user);
    fake_rule(user->broker, OP_PRODUCE, 0, 1, FAKE_IGNORE, 0); // not stored, but who knows
    user_send_many(user, 0, 1);
    user_sleep_ms(200);
    user_send_many(user, 0, 3); // refused for the gap, until the first has timed out
    user_flush(user);
    cr_expect(eq(u64, user->report_count, 5));
    cr_expect(eq(u64, user->failed_count, 1));
    cr_expect(eq(u64, user->backward_count, 0));
    cr_expect(eq(int, fake_last_epoch(user->broker), 1));
    cr_expect(eq(u64, fake_record_count(user->broker, "t", 0), 4));
    user_expect_values(user, 1, 2, 5);
    user_free(user);
}

Test(retry, the_next_epoch_waits_until_no_other_batch_is_without_an_answer)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user,
                 (struct sluice_producer_options){.batch_records = 1, .delivery_timeout_ms = 300});
    user_send_many(user, 0, 1);
    user_flush(user);
    fake_rule(user->broker, OP_PRODUCE, 0, 2, FAKE_IGNORE, 0);
    user_send_many(user, 0, 1);
    user_sleep_ms(150);
    user_send_many(user, 0, 1);
    cr_assert(user_wait_reports(user, 2));
    user_send_many(user, 0, 5);
    user_sleep_ms(50);
    cr_expect(eq(u64, fake_seen(user->broker, OP_PRODUCER_INIT), 1)); // the second is still out
    user_flush(user);
    cr_expect(eq(u64, user->failed_count, 2));
    cr_expect(eq(u64, fake_seen(user->broker, OP_PRODUCER_INIT), 2));
    cr_expect(eq(int, fake_last_epoch(user->broker), 1));
    cr_expect(eq(u64, fake_record_count(user->broker, "t", 0), 6));
    user_expect_values(user, 1, 3, 8);
    user_free(user);
}

Test(retry, before_the_next_epoch_batches_in_doubt_are_sent_under_the_old_one)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user,
                 (struct sluice_producer_options){.batch_records = 1, .delivery_timeout_ms = 400});
    user_send_many(user, 0, 1);
    user_flush(user);
    fake_rule(user->broker, OP_PRODUCE, 0, 2, FAKE_SILENT, 0); // both stored, nobody knows
    user_send_many(user, 0, 1);
    user_sleep_ms(200);
    user_send_many(user, 0, 1);
    cr_assert(user_wait_reports(user, 2));
    fake_drop_connections(user->broker); // the second is in doubt now
    user_send_many(user, 0, 5);
    user_flush(user);
    cr_expect(eq(u64, user->failed_count, 1));
    cr_expect(eq(int, fake_last_epoch(user->broker), 1));
    cr_expect(eq(u64, fake_record_count(user->broker, "t", 0), 8));
    user_expect_values(user, 0, 0, 8); // the second only once
    user_free(user);
}

Test(retry, a_batch_that_is_surely_not_stored_times_out_without_a_new_epoch)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){.batch_records = 1,
                                                        .delivery_timeout_ms = 1000,
                                                        .retry_backoff_ms = 10});
    user_send_many(user, 0, 1);
    user_flush(user);
    fake_rule(user->broker, OP_PRODUCE, 0, 1000000, FAKE_REFUSE, PE_OVERLOADED);
    user_send_many(user, 0, 1);
    user_sleep_ms(800);
    user_send_many(user, 0, 3);
    cr_assert(user_wait_reports(user, 2));
    cr_expect(eq(int, user->last_failure, SLUICE_E_TIMED_OUT));
    fake_clear_rules(user->broker);
    user_flush(user);
    cr_expect(eq(u64, user->failed_count, 1));
    cr_expect(eq(u64, fake_record_count(user->broker, "t", 0), 4));
    user_expect_values(user, 1, 2, 5);
    cr_expect(eq(int, fake_last_epoch(user->broker), 0));
    cr_expect(eq(u64, fake_seen(user->broker, OP_PRODUCER_INIT), 1));
    user_free(user);
}

Test(retry, records_that_were_never_sent_time_out_too)
{
    struct user *user = user_new(&plain, 2);
    user_produce(user,
                 (struct sluice_producer_options){.delivery_timeout_ms = 150, .batch_records = 10});
    user_send_many(user, 0, 1);
    user_flush(user);
    fake_go_down(user->broker);
    uint64_t start_ms = user_now_ms();
    user_send_many(user, 0, 95);
    user_send_many(user, 1, 5);
    cr_assert(user_wait_reports(user, 101));
    cr_expect(ge(u64, user_now_ms() - start_ms, 140));
    cr_expect(le(u64, user_now_ms() - start_ms, 2000));
    cr_expect(eq(u64, user->failed_count, 100));
    fake_come_back(user->broker);
    user_send_many(user, 0, 20);
    user_flush(user);
    cr_expect(eq(u64, user->failed_count, 100));
    user_expect_values(user, 1, 101, 121);
    user_free(user);
}

Test(retry, batches_lost_with_a_connection_time_out_and_fence_their_late_arrival)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user,
                 (struct sluice_producer_options){.delivery_timeout_ms = 150, .batch_records = 1});
    user_send_many(user, 0, 1);
    user_flush(user);
    fake_rule(user->broker, OP_PRODUCE, 0, 1, FAKE_DROP_AFTER, 0);
    fake_rule(user->broker, OP_HELLO, 0, 1000, FAKE_DROP_BEFORE, 0);
    user_send_many(user, 0, 3);
    cr_assert(user_wait_reports(user, 4));
    cr_expect(eq(u64, user->failed_count, 3));
    cr_expect(eq(int, user->last_failure, SLUICE_E_TIMED_OUT));
    fake_clear_rules(user->broker);
    user_send_many(user, 0, 3);
    user_flush(user);
    cr_expect(eq(u64, user->failed_count, 3));
    cr_expect(eq(int, fake_last_epoch(user->broker), 1));
    cr_expect(eq(u64, fake_record_count(user->broker, "t", 0), 5));
    user_expect_values(user, 0, 0, 2); // the first of the three was stored, its ack was lost
    user_expect_values(user, 2, 4, 7);
    user_free(user);
}

/* ---- identities ---- */

Test(retry, a_broker_that_forgot_the_producer_gives_it_a_new_id)
{
    struct user *user = start();
    uint64_t id = fake_last_producer(user->broker);
    fake_forget_producers(user->broker);
    send_and_expect_all(user);
    cr_expect(ne(u64, fake_last_producer(user->broker), id));
    user_free(user);
}

Test(retry, a_batch_of_unknown_fate_fails_when_the_broker_forgot_the_producer)
{
    struct user *user = start();
    fake_rule(user->broker, OP_PRODUCE, 0, 1, FAKE_DROP_AFTER, 0);
    fake_rule(user->broker, OP_PRODUCE, 0, 1, FAKE_REFUSE, PE_UNKNOWN_PRODUCER);
    user_send_many(user, 0, 1);
    user_flush(user);
    cr_expect(eq(u64, user->failed_count, 1));
    cr_expect(eq(int, user->last_failure, SLUICE_E_UNKNOWN_PRODUCER));
    user_send_many(user, 0, 10);
    user_flush(user);
    cr_expect(eq(u64, user->failed_count, 1));
    cr_expect(eq(u64, fake_record_count(user->broker, "t", 0), 12));
    user_expect_values(user, 0, 0, 12);
    user_free(user);
}

/* The disk is full for the first batch of a partition, so it knows no producer when the second comes. */
Test(retry, an_unknown_producer_behind_a_batch_that_is_not_stored_follows_from_that_one)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){.batch_records = 1});
    fake_rule(user->broker, OP_PRODUCE, 0, 1, FAKE_DROP_BEFORE, 0);
    fake_rule(user->broker, OP_PRODUCE, 0, 1, FAKE_REFUSE, PE_STORAGE_FULL);
    fake_rule(user->broker, OP_PRODUCE, 3, 1, FAKE_REFUSE, PE_STORAGE_FULL);
    user_send_many(user, 0, 20);
    user_flush(user);
    cr_expect(eq(u64, user->failed_count, 0));
    cr_expect(eq(u64, fake_seen(user->broker, OP_PRODUCER_INIT), 1)); // it kept its id
    user_expect_values(user, 0, 0, 20);
    user_free(user);
}

Test(retry, a_broker_that_lost_the_sequence_gets_a_new_epoch)
{
    struct user *user = start();
    fake_rule(user->broker, OP_PRODUCE, 0, 1, FAKE_REFUSE, PE_OUT_OF_ORDER_SEQUENCE);
    send_and_expect_all(user);
    cr_expect(eq(int, fake_last_epoch(user->broker), 1));
    user_free(user);
}

Test(retry, a_fenced_renewal_means_a_new_id)
{
    struct user *user = start();
    uint64_t id = fake_last_producer(user->broker);
    fake_rule(user->broker, OP_PRODUCE, 0, 1, FAKE_REFUSE, PE_OUT_OF_ORDER_SEQUENCE);
    fake_rule(user->broker, OP_PRODUCER_INIT, 0, 1, FAKE_REFUSE, PE_FENCED_PRODUCER);
    send_and_expect_all(user);
    cr_expect(ne(u64, fake_last_producer(user->broker), id));
    cr_expect(eq(int, fake_last_epoch(user->broker), 0));
    user_free(user);
}

Test(retry, an_identity_is_asked_for_until_there_is_one)
{
    struct user *user = user_new(&plain, 1);
    fake_rule(user->broker, OP_PRODUCER_INIT, 0, 2, FAKE_REFUSE, PE_OVERLOADED);
    fake_rule(user->broker, OP_PRODUCER_INIT, 0, 1, FAKE_REFUSE, PE_LIMIT_REACHED);
    fake_rule(user->broker, OP_PRODUCER_INIT, 0, 1, FAKE_DROP_AFTER, 0);
    user_produce(user, (struct sluice_producer_options){0});
    send_and_expect_all(user);
    user_free(user);
}

Test(retry, sequences_wrap_to_zero_behind_their_last)
{
    struct fake_options options = {.any_first_sequence = true};
    struct user *user = user_new(&options, 1);
    user_produce(user, (struct sluice_producer_options){.batch_records = 7});
    user_send_many(user, 0, 1);
    user_flush(user);
    user_sleep_ms(20); // the I/O thread is at rest now, so its lane may be touched
    struct topic *topic = NULL;
    for (int i = 0; i < (int)RECENT_TOPIC_COUNT && !topic; i++)
        topic = atomic_load(&user->producer->recent[i]);
    struct lane *lane = atomic_load(&topic->lanes)->lane[0];
    lane->next_sequence = lane->stored_sequence = SEQUENCE_MODULUS - 10;
    fake_forget_producers(user->broker);
    fake_rule(user->broker, OP_PRODUCE, 1, 1, FAKE_REFUSE, PE_OVERLOADED);
    fake_rule(user->broker, OP_PRODUCE, 1, 1, FAKE_DROP_AFTER, 0);
    send_and_expect_all(user);
    cr_expect(eq(int, fake_last_epoch(user->broker), 0));
    cr_expect(eq(u32, lane->next_sequence, 190));
    user_free(user);
}

/* ---- windows ---- */

Test(retry, no_more_than_five_batches_of_a_partition_are_in_flight)
{
    struct user *user = user_new(&plain, 2);
    user_produce(user, (struct sluice_producer_options){.batch_records = 1});
    user_send_many(user, 0, 1);
    user_flush(user);
    fake_rule(user->broker, OP_PRODUCE, 0, 1000, FAKE_IGNORE, 0);
    user_send_many(user, 0, 50);
    cr_assert(fake_wait_seen(user->broker, OP_PRODUCE, 6));
    user_sleep_ms(50);
    cr_expect(eq(u64, fake_seen(user->broker, OP_PRODUCE), 6));
    user_send_many(user, 1, 50); // the other partition has a window of its own
    cr_assert(fake_wait_seen(user->broker, OP_PRODUCE, 11));
    user_sleep_ms(50);
    cr_expect(eq(u64, fake_seen(user->broker, OP_PRODUCE), 11));
    user_free(user);
}

Test(retry, no_more_publishes_are_in_flight_than_the_broker_allows)
{
    struct fake_options options = {.publishes_max = 3};
    struct user *user = user_new(&options, 8);
    user_produce(user, (struct sluice_producer_options){.batch_records = 1});
    user_send_many(user, 0, 1);
    user_flush(user);
    fake_rule(user->broker, OP_PRODUCE, 0, 3, FAKE_IGNORE, 0);
    for (uint32_t p = 0; p < 8; p++)
        user_send_many(user, p, 10);
    cr_assert(fake_wait_seen(user->broker, OP_PRODUCE, 4));
    user_sleep_ms(50);
    cr_expect(eq(u64, fake_seen(user->broker, OP_PRODUCE), 4));
    fake_drop_connections(user->broker);
    user_flush(user);
    cr_expect(eq(u64, user->failed_count, 0));
    cr_expect(eq(u64, fake_record_count(user->broker, "t", 0), 11));
    user_free(user);
}

/* ---- everything at once ---- */

static const struct {
    enum fake_action action;
    uint32_t argument;
} mishaps[] = {
    {FAKE_REFUSE, PE_OVERLOADED},
    {FAKE_REFUSE, PE_NOT_READY},
    {FAKE_DROP_BEFORE, 0},
    {FAKE_DROP_AFTER, 0},
    {FAKE_DELAY, 3},
    {FAKE_GARBAGE, 0},
    {FAKE_REFUSE, PE_STORAGE_FULL},
};

static void misbehave(struct user *user, struct random *random)
{
    for (int i = 0; i < 12; i++) {
        uint64_t mishap = random_below(random, ARRAY_COUNT(mishaps));
        fake_rule(user->broker, OP_PRODUCE, (uint32_t)random_below(random, 30),
                  1 + (uint32_t)random_below(random, 2), mishaps[mishap].action,
                  mishaps[mishap].argument);
    }
    fake_rule(user->broker, OP_HELLO, (uint32_t)random_below(random, 3), 1, FAKE_DROP_BEFORE, 0);
}

Test(retry, nothing_is_lost_doubled_or_reordered_whatever_happens)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct random random;
        random_init(&random, seed);
        struct user *user = user_new(&plain, 1);
        user_produce(user, (struct sluice_producer_options){
                               .batch_records = 1 + (uint32_t)random_below(&random, 4),
                               .batches_in_flight = 1 + (uint32_t)random_below(&random, 5),
                               .retry_backoff_ms = 1,
                               .compression = seed % 3 == 0 ? SLUICE_COMPRESSION_LZ4
                                                            : SLUICE_COMPRESSION_NONE});
        misbehave(user, &random);
        for (int i = 0; i < 30; i++) {
            user_send_many(user, 0, 1 + (uint32_t)random_below(&random, 30));
            if (random_below(&random, 4) == 0)
                user_sleep_ms((uint32_t)random_below(&random, 5));
        }
        user_flush(user);
        cr_expect(user->report_count == user->sent && user->failed_count == 0 &&
                      user->twice_count == 0 && user->backward_count == 0,
                  "seed %lu: %lu of %lu reported, %lu failed, %lu twice, %lu backward", seed,
                  user->report_count, user->sent, user->failed_count, user->twice_count,
                  user->backward_count);
        cr_assert(fake_record_count(user->broker, "t", 0) == user->sent, "seed %lu", seed);
        if (seed % 3 != 0)
            user_expect_values(user, 0, 0, user->sent);
        user_free(user);
    }
}

/* With deadlines: what is reported as stored is there, once and in order; what failed for sure is
 * not; what timed out may be there, in its place. */
Test(retry, with_deadlines_what_is_reported_as_stored_is_there_once_and_in_order)
{
    for (uint64_t seed = 100; seed < 110; seed++) {
        struct random random;
        random_init(&random, seed);
        struct user *user = user_new(&plain, 1);
        user_produce(user, (struct sluice_producer_options){.batch_records = 1,
                                                            .delivery_timeout_ms = 120,
                                                            .retry_backoff_ms = 2});
        misbehave(user, &random);
        for (int i = 0; i < 4; i++)
            fake_rule(user->broker, OP_PRODUCE, (uint32_t)random_below(&random, 20), 1,
                      i % 2 ? FAKE_SILENT : FAKE_IGNORE, 0);
        for (int i = 0; i < 60; i++) {
            user_send_many(user, 0, 5);
            user_sleep_ms((uint32_t)random_below(&random, 8));
        }
        user_flush(user);
        cr_expect(user->report_count == user->sent && user->twice_count == 0, "seed %lu", seed);
        uint64_t stored = fake_record_count(user->broker, "t", 0), before = 0;
        cr_expect(stored >= user->report_count - user->failed_count, "seed %lu", seed);
        for (uint64_t offset = 0; offset < stored; offset++) {
            char value[16] = {0};
            fake_value(user->broker, "t", 0, offset, value, sizeof(value) - 1);
            uint64_t number = strtoul(value, NULL, 10);
            cr_assert(offset == 0 || number > before, "seed %lu: %lu behind %lu", seed, number,
                      before);
            before = number;
        }
        user_free(user);
    }
}
