/* Transactions of a producer: what is committed is visible as a whole, what is not is gone, whatever
 * happens in between. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <string.h>

#include "client/producer_private.h"
#include "proto/messages.h"
#include "tests/unit/client/user.h"

static const struct fake_options plain;

static struct user *start_with(struct sluice_producer_options options)
{
    struct user *user = user_new(&plain, 4);
    options.transactional_id = "transfer";
    user_produce(user, options);
    return user;
}

static struct user *start(void)
{
    return start_with((struct sluice_producer_options){.batch_records = 1});
}

static void begin(struct user *user)
{
    cr_assert(eq(int, sluice_txn_begin(user->producer), SLUICE_OK), "%s", sluice_last_error());
}

static void commit(struct user *user)
{
    cr_assert(eq(int, sluice_txn_commit(user->producer, 10000), SLUICE_OK), "%s",
              sluice_last_error());
}

static uint64_t visible(struct user *user)
{
    return fake_record_count(user->broker, "t", 0);
}

/* ---- the way it should be ---- */

Test(txn, what_is_sent_becomes_visible_with_the_commit)
{
    struct user *user = start();
    begin(user);
    user_send_many(user, 0, 50);
    user_flush(user);
    cr_expect(eq(u64, visible(user), 0));
    cr_expect(eq(u64, user->report_count, 50));
    cr_expect(eq(u64, user->failed_count, 0));
    cr_expect(eq(u64, user->last_offset, SLUICE_OFFSET_STAGED));
    commit(user);
    user_expect_all_stored(user);
    user_free(user);
}

Test(txn, commit_flushes_by_itself)
{
    struct user *user = start_with((struct sluice_producer_options){.linger_us = 60000000});
    begin(user);
    user_send_many(user, 0, 1000);
    commit(user);
    user_expect_all_stored(user);
    user_free(user);
}

Test(txn, one_follows_the_other_with_one_sequence)
{
    struct user *user = start();
    for (int i = 0; i < 30; i++) {
        begin(user);
        user_send_many(user, 0, 7);
        commit(user);
    }
    user_expect_all_stored(user);
    cr_expect(eq(int, fake_last_epoch(user->broker), 0));
    cr_expect(eq(u64, fake_seen(user->broker, OP_TXN_INIT), 1));
    user_free(user);
}

Test(txn, compressed_and_large_batches_are_staged_too)
{
    struct user *user =
        start_with((struct sluice_producer_options){.compression = SLUICE_COMPRESSION_LZ4});
    static char value[200000];
    struct sluice_record record = {
        .topic = "t", .partition = 0, .value = value, .value_len = sizeof(value)};
    memset(value, 'x', sizeof(value));
    begin(user);
    for (int i = 0; i < 20; i++)
        cr_assert(eq(int, sluice_producer_send(user->producer, &record), SLUICE_OK));
    commit(user);
    cr_expect(eq(u64, visible(user), 20));
    user_free(user);
    user = start();
    for (size_t i = 0; i < sizeof(value); i++)
        value[i] = (char)(i * 2654435761u >> 11);
    begin(user);
    for (int i = 0; i < 20; i++)
        cr_assert(eq(int, sluice_producer_send(user->producer, &record), SLUICE_OK));
    commit(user);
    cr_expect(eq(u64, visible(user), 20));
    user_free(user);
}

Test(txn, several_partitions_and_where_their_records_begin)
{
    struct user *user = start();
    uint64_t offset;
    begin(user);
    user_send_many(user, 0, 5);
    commit(user);
    begin(user);
    user_send_many(user, 1, 3);
    user_send_many(user, 0, 2);
    commit(user);
    cr_expect(eq(int, sluice_txn_offset(user->producer, "t", 0, &offset), SLUICE_OK));
    cr_expect(eq(u64, offset, 5));
    cr_expect(eq(int, sluice_txn_offset(user->producer, "t", 1, &offset), SLUICE_OK));
    cr_expect(eq(u64, offset, 0));
    cr_expect(eq(int, sluice_txn_offset(user->producer, "t", 2, &offset), SLUICE_E_INVALID));
    cr_expect(eq(int, sluice_txn_offset(user->producer, "u", 0, &offset), SLUICE_E_INVALID));
    cr_expect(eq(u64, fake_record_count(user->broker, "t", 1), 3));
    user_free(user);
}

Test(txn, an_empty_one_is_committed_and_aborted)
{
    struct user *user = start();
    begin(user);
    commit(user);
    begin(user);
    cr_expect(eq(int, sluice_txn_abort(user->producer, 5000), SLUICE_OK));
    begin(user);
    user_send_many(user, 0, 1);
    commit(user);
    cr_expect(eq(u64, visible(user), 1));
    user_free(user);
}

Test(txn, reports_may_be_polled_for)
{
    struct user *user = start_with((struct sluice_producer_options){.report_poll = true});
    begin(user);
    user_send_many(user, 0, 100);
    commit(user);
    user_expect_all_stored(user);
    user_free(user);
}

Test(txn, a_producer_beside_it_shares_no_frame_with_it)
{
    struct user *user = start();
    struct sluice_producer *other;
    struct sluice_producer_options options = {.size = sizeof(options), .batch_records = 1};
    struct sluice_record record = {.topic = "t", .partition = 1, .value = "x", .value_len = 1};
    cr_assert(eq(int, sluice_producer_new(user->client, &options, &other), SLUICE_OK));
    begin(user);
    for (int i = 0; i < 500; i++) {
        user_send_many(user, 0, 1);
        cr_assert(eq(int, sluice_producer_send(other, &record), SLUICE_OK));
    }
    cr_assert(eq(int, sluice_producer_flush(other, 10000), SLUICE_OK));
    cr_expect(eq(u64, fake_record_count(user->broker, "t", 1), 500));
    cr_expect(eq(u64, visible(user), 0));
    commit(user);
    cr_expect(eq(u64, visible(user), 500));
    sluice_producer_free(other);
    user_free(user);
}

/* ---- abort ---- */

Test(txn, an_abort_leaves_nothing_and_the_next_one_goes_on)
{
    struct user *user = start();
    begin(user);
    user_send_many(user, 0, 20);
    user_flush(user);
    cr_expect(eq(int, sluice_txn_abort(user->producer, 5000), SLUICE_OK));
    cr_expect(eq(u64, visible(user), 0));
    cr_expect(eq(int, (int)fake_txn_staged_count(user->broker, "transfer"), 0));
    begin(user);
    user_send_many(user, 0, 10);
    commit(user);
    cr_expect(eq(u64, visible(user), 10));
    user_expect_values(user, 0, 20, 30);
    cr_expect(eq(int, fake_last_epoch(user->broker), 0));
    user_free(user);
}

/* It does not wait for answers that may never come. */
Test(txn, an_abort_drops_what_is_on_its_way)
{
    struct user *user = start();
    begin(user);
    user_send_many(user, 0, 3);
    user_flush(user);
    fake_rule(user->broker, OP_PRODUCE, 0, 1000, FAKE_IGNORE, 0);
    user_send_many(user, 0, 100);
    uint64_t start_ms = user_now_ms();
    cr_expect(eq(int, sluice_txn_abort(user->producer, 5000), SLUICE_OK));
    cr_expect(lt(u64, user_now_ms() - start_ms, 2000));
    cr_expect(eq(u64, user->report_count, 103));
    cr_expect(eq(u64, user->failed_count, 100));
    cr_expect(eq(int, user->last_failure, SLUICE_E_TRANSACTION_ABORTED));
    fake_clear_rules(user->broker);
    begin(user);
    user_send_many(user, 0, 10);
    commit(user);
    cr_expect(eq(u64, visible(user), 10));
    user_expect_values(user, 0, 103, 113);
    user_free(user);
}

Test(txn, freeing_the_producer_aborts)
{
    struct user *user = start();
    begin(user);
    user_send_many(user, 0, 5);
    user_flush(user);
    sluice_producer_free(TAKE(user->producer));
    cr_expect_not(fake_txn_is_open(user->broker, "transfer"));
    cr_expect(eq(u64, fake_seen(user->broker, OP_TXN_ABORT), 1));
    cr_expect(eq(u64, visible(user), 0));
    user_free(user);
}

/* ---- what is not allowed ---- */

Test(txn, sends_need_an_open_transaction)
{
    struct user *user = start();
    cr_expect(eq(int, user_send(user, 0), SLUICE_E_INVALID));
    cr_expect(strlen(sluice_last_error()) > 0);
    cr_expect(eq(int, sluice_txn_commit(user->producer, 100), SLUICE_E_INVALID));
    cr_expect(eq(int, sluice_txn_abort(user->producer, 100), SLUICE_E_INVALID));
    begin(user);
    cr_expect(eq(int, sluice_txn_begin(user->producer), SLUICE_E_INVALID));
    user_send_many(user, 0, 1);
    commit(user);
    cr_expect(eq(int, user_send(user, 0), SLUICE_E_INVALID));
    user_free(user);
}

Test(txn, other_producers_have_none)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){0});
    cr_expect(eq(int, sluice_txn_begin(user->producer), SLUICE_E_INVALID));
    cr_expect(eq(int, sluice_txn_commit(user->producer, 100), SLUICE_E_INVALID));
    cr_expect(eq(int, sluice_txn_recover(user->producer, 100, NULL), SLUICE_E_INVALID));
    user_free(user);
}

Test(txn, ids_are_text_of_a_limited_length)
{
    struct user *user = user_new(&plain, 1);
    char id[260];
    struct sluice_producer *producer;
    memset(id, 'x', sizeof(id));
    id[250] = '\0';
    const char *const ids[] = {"", id, "a\xff"};
    for (size_t i = 0; i < ARRAY_COUNT(ids); i++) {
        struct sluice_producer_options options = {.size = sizeof(options),
                                                  .transactional_id = ids[i]};
        cr_expect(
            eq(int, sluice_producer_new(user->client, &options, &producer), SLUICE_E_INVALID));
    }
    user_free(user);
}

/* ---- what fails ---- */

Test(txn, a_record_that_fails_ruins_it)
{
    struct user *user = start();
    begin(user);
    user_send_many(user, 0, 10);
    user_flush(user);
    fake_rule(user->broker, OP_PRODUCE, 0, 1, FAKE_REFUSE, PE_INVALID_RECORD);
    user_send_many(user, 0, 1);
    user_flush(user);
    cr_expect(eq(int, user_send(user, 0), SLUICE_E_TRANSACTION_ABORTED));
    cr_expect(
        eq(int, sluice_txn_commit(user->producer, 5000), SLUICE_E_BROKER - PE_INVALID_RECORD));
    cr_expect(eq(u64, visible(user), 0));
    cr_expect_not(fake_txn_is_open(user->broker, "transfer"));
    begin(user);
    user_send_many(user, 0, 10);
    commit(user);
    cr_expect(eq(u64, visible(user), 10));
    user_free(user);
}

Test(txn, errors_that_pass_do_not_matter)
{
    struct user *user = start();
    begin(user);
    fake_rule(user->broker, OP_PRODUCE, 3, 2, FAKE_REFUSE, PE_OVERLOADED);
    fake_rule(user->broker, OP_TXN_COMMIT, 0, 3, FAKE_REFUSE, PE_TRANSACTION_BUSY);
    user_send_many(user, 0, 50);
    commit(user);
    fake_rule(user->broker, OP_TXN_BEGIN, 0, 3, FAKE_REFUSE, PE_TRANSACTION_BUSY);
    begin(user);
    user_send_many(user, 0, 50);
    commit(user);
    user_expect_all_stored(user);
    user_free(user);
}

Test(txn, one_whose_time_is_over_is_lost)
{
    struct user *user = start();
    begin(user);
    user_send_many(user, 0, 10);
    user_flush(user);
    fake_txn_time_out(user->broker, "transfer");
    cr_expect(eq(int, sluice_txn_commit(user->producer, 5000), SLUICE_E_TRANSACTION_ABORTED));
    begin(user);
    user_send_many(user, 0, 10);
    fake_txn_time_out(user->broker, "transfer");
    for (int i = 0; i < 5000 && user_send(user, 0) == SLUICE_OK; i++)
        user_sleep_ms(1);
    cr_expect(eq(int, user_send(user, 0), SLUICE_E_TRANSACTION_ABORTED));
    int status = sluice_txn_commit(user->producer, 5000);
    cr_expect(status == SLUICE_E_UNKNOWN_TRANSACTION || status == SLUICE_E_TRANSACTION_ABORTED);
    begin(user);
    commit(user);
    cr_expect(eq(u64, visible(user), 0));
    user_free(user);
}

Test(txn, a_batch_too_few_at_the_broker_is_never_committed_in_part)
{
    struct user *user = start();
    begin(user);
    fake_rule(user->broker, OP_PRODUCE, 2, 1, FAKE_WRONG_ACK, 0); // done, and acked twice
    user_send_many(user, 0, 1);
    user_flush(user);
    fake_rule(user->broker, OP_TXN_COMMIT, 0, 1, FAKE_REFUSE, PE_STAGED_MISMATCH);
    cr_expect(
        eq(int, sluice_txn_commit(user->producer, 5000), SLUICE_E_BROKER - PE_STAGED_MISMATCH));
    cr_expect_not(fake_txn_is_open(user->broker, "transfer"));
    user_free(user);
}

Test(txn, a_record_whose_time_is_over_ruins_it)
{
    struct user *user = start_with(
        (struct sluice_producer_options){.batch_records = 1, .delivery_timeout_ms = 200});
    begin(user);
    fake_rule(user->broker, OP_PRODUCE, 0, 1000, FAKE_IGNORE, 0);
    user_send_many(user, 0, 3);
    cr_assert(user_wait_reports(user, 3));
    cr_expect(eq(int, sluice_txn_commit(user->producer, 5000), SLUICE_E_TIMED_OUT));
    fake_clear_rules(user->broker);
    cr_expect(eq(int, sluice_txn_abort(user->producer, 5000), SLUICE_OK));
    begin(user);
    user_send_many(user, 0, 3);
    commit(user);
    cr_expect(eq(u64, visible(user), 3));
    user_free(user);
}

/* The commit has said why; what the broker didn't hear is made up for by the next begin. */
Test(txn, an_abort_that_was_not_answered_does_not_hold_up_the_next_one)
{
    struct user *user = start();
    begin(user);
    fake_rule(user->broker, OP_PRODUCE, 0, 1, FAKE_REFUSE, PE_INVALID_RECORD);
    fake_rule(user->broker, OP_TXN_ABORT, 0, 1, FAKE_IGNORE, 0);
    user_send_many(user, 0, 1);
    user_flush(user);
    cr_expect(eq(int, sluice_txn_commit(user->producer, 200), SLUICE_E_BROKER - PE_INVALID_RECORD));
    cr_expect(fake_txn_is_open(user->broker, "transfer"));
    begin(user);
    user_send_many(user, 0, 1);
    commit(user);
    cr_expect(eq(u64, visible(user), 1));
    user_free(user);
}

/* ---- lost answers, lost connections ---- */

Test(txn, staged_batches_are_sent_again_under_the_same_name)
{
    struct user *user = start();
    for (int i = 0; i < 5; i++) {
        begin(user);
        fake_rule(user->broker, OP_PRODUCE, 10, 1, FAKE_DROP_AFTER, 0);
        fake_rule(user->broker, OP_PRODUCE, 10, 1, FAKE_DROP_BEFORE, 0);
        user_send_many(user, 0, 100);
        commit(user);
    }
    user_expect_all_stored(user);
    cr_expect(eq(u64, fake_seen(user->broker, OP_TXN_BEGIN), 5));
    user_free(user);
}

Test(txn, a_commit_whose_answer_is_lost_is_asked_again)
{
    struct user *user = start();
    uint64_t offset;
    begin(user);
    user_send_many(user, 0, 10);
    fake_rule(user->broker, OP_TXN_COMMIT, 0, 1, FAKE_DROP_AFTER, 0);
    commit(user);
    user_expect_all_stored(user);
    cr_expect(eq(u64, fake_seen(user->broker, OP_TXN_COMMIT), 2));
    cr_expect(eq(int, sluice_txn_offset(user->producer, "t", 0, &offset), SLUICE_OK));
    cr_expect(eq(u64, offset, SLUICE_OFFSET_UNKNOWN));
    user_free(user);
}

Test(txn, a_commit_that_is_not_answered_in_time_can_be_asked_again)
{
    struct user *user = start();
    begin(user);
    user_send_many(user, 0, 10);
    fake_rule(user->broker, OP_TXN_COMMIT, 0, 1, FAKE_SILENT, 0);
    cr_expect(eq(int, sluice_txn_commit(user->producer, 100), SLUICE_E_TIMED_OUT));
    cr_expect(eq(int, user_send(user, 0), SLUICE_E_INVALID));
    commit(user);
    user_expect_all_stored(user);
    begin(user);
    user_send_many(user, 0, 10);
    fake_rule(user->broker, OP_TXN_COMMIT, 0, 1, FAKE_SILENT, 0);
    cr_expect(eq(int, sluice_txn_commit(user->producer, 100), SLUICE_E_TIMED_OUT));
    cr_expect(eq(int, sluice_txn_abort(user->producer, 5000), SLUICE_E_TRANSACTION_COMMITTED));
    user_expect_all_stored(user);
    begin(user);
    commit(user);
    user_free(user);
}

/* It may have been carried out by the try whose answer was lost: nobody can tell, whatever the next answers say. */
Test(txn, an_end_that_a_draining_broker_refuses_after_a_lost_answer_is_undecided)
{
    struct user *user = start();
    begin(user);
    user_send_many(user, 0, 10);
    fake_rule(user->broker, OP_TXN_COMMIT, 0, 1, FAKE_DROP_AFTER, 0);
    fake_rule(user->broker, OP_TXN_COMMIT, 0, 1000, FAKE_REFUSE, PE_SHUTTING_DOWN);
    cr_expect(eq(int, sluice_txn_commit(user->producer, 300), SLUICE_E_TIMED_OUT));
    cr_expect(ge(u64, fake_seen(user->broker, OP_TXN_COMMIT), 2));
    fake_clear_rules(user->broker);
    commit(user);
    user_expect_all_stored(user);
    begin(user);
    user_send_many(user, 0, 10);
    user_flush(user); // else a batch may be lost with the connection, and a new epoch ends it all
    fake_rule(user->broker, OP_TXN_ABORT, 0, 1, FAKE_DROP_AFTER, 0);
    fake_rule(user->broker, OP_TXN_ABORT, 0, 1000, FAKE_REFUSE, PE_SHUTTING_DOWN);
    cr_expect(eq(int, sluice_txn_abort(user->producer, 300), SLUICE_E_TIMED_OUT));
    fake_clear_rules(user->broker);
    user_free(user);
}

Test(txn, a_begin_whose_answer_is_lost_begins_anew)
{
    struct user *user = start();
    begin(user);
    commit(user);
    fake_rule(user->broker, OP_TXN_BEGIN, 0, 1, FAKE_DROP_AFTER, 0);
    begin(user);
    user_send_many(user, 0, 10);
    commit(user);
    user_expect_all_stored(user);
    cr_expect(eq(int, fake_last_epoch(user->broker), 1));
    user_free(user);
}

Test(txn, an_id_that_the_broker_forgot_is_made_anew)
{
    struct user *user = start();
    begin(user);
    commit(user);
    fake_txn_forget_id(user->broker, "transfer");
    begin(user);
    user_send_many(user, 0, 10);
    commit(user);
    user_expect_all_stored(user);
    user_free(user);
}

/* It can only be of one that has ended. */
Test(txn, a_transaction_of_a_forgotten_id_is_lost)
{
    struct user *user = start();
    for (int i = 0; i < 2; i++) {
        begin(user);
        user_send_many(user, 0, 5);
        user_flush(user);
        fake_txn_forget_id(user->broker, "transfer");
        if (i == 0)
            cr_expect(
                eq(int, sluice_txn_commit(user->producer, 5000), SLUICE_E_TRANSACTION_ABORTED));
        else
            cr_expect(eq(int, sluice_txn_abort(user->producer, 5000), SLUICE_OK));
    }
    begin(user);
    user_send_many(user, 0, 5);
    commit(user);
    cr_expect(eq(u64, visible(user), 5));
    user_free(user);
}

/* Whatever the broker has against it: a new epoch ends it. */
Test(txn, an_abort_that_is_refused_takes_a_new_epoch)
{
    struct user *user = start();
    begin(user);
    user_send_many(user, 0, 5);
    user_flush(user);
    fake_rule(user->broker, OP_TXN_ABORT, 0, 1, FAKE_REFUSE, PE_UNKNOWN_PRODUCER);
    cr_expect(eq(int, sluice_txn_abort(user->producer, 5000), SLUICE_OK));
    cr_expect_not(fake_txn_is_open(user->broker, "transfer"));
    begin(user);
    user_send_many(user, 0, 5);
    commit(user);
    cr_expect(eq(u64, visible(user), 5));
    user_free(user);
}

Test(txn, without_a_broker_a_begin_says_so)
{
    struct user *user = start();
    begin(user);
    commit(user);
    fake_go_down(user->broker);
    user->client->request_timeout_ms = 200;
    cr_expect(eq(int, sluice_txn_begin(user->producer), SLUICE_E_CONNECT));
    fake_come_back(user->broker);
    user->client->request_timeout_ms = 5000;
    begin(user);
    commit(user);
    user_free(user);
}

/* ---- who is who ---- */

Test(txn, the_next_life_of_an_id_takes_over)
{
    struct user *user = start();
    begin(user);
    user_send_many(user, 0, 10);
    user_flush(user);
    struct sluice_producer *first = user->producer;
    user_produce(user, (struct sluice_producer_options){.transactional_id = "transfer"});
    begin(user);
    struct sluice_producer *second = user->producer;
    user->producer = first;
    cr_expect(eq(int, sluice_txn_commit(first, 5000), SLUICE_E_FENCED_PRODUCER));
    cr_expect(eq(int, sluice_txn_begin(first), SLUICE_E_FENCED_PRODUCER));
    cr_expect(eq(int, user_send(user, 0), SLUICE_E_FENCED_PRODUCER));
    cr_expect(eq(u64, visible(user), 0));
    sluice_producer_free(first);
    user->producer = second;
    user_send_many(user, 0, 5);
    commit(user);
    cr_expect(eq(u64, visible(user), 5));
    user_free(user);
}

Test(txn, a_prepared_one_is_ended_by_its_next_life)
{
    for (int commits = 0; commits < 2; commits++) {
        struct user *user = start();
        struct sluice_txn_name name, found;
        cr_expect(eq(int, sluice_txn_recover(user->producer, 5000, &found), 0));
        begin(user);
        user_send_many(user, 0, 10);
        cr_assert(eq(int, sluice_txn_prepare(user->producer, 5000, &name), SLUICE_OK));
        cr_expect(eq(int, user_send(user, 0), SLUICE_E_INVALID));
        cr_expect_str_eq(name.id, "transfer");
        sluice_producer_free(TAKE(user->producer));
        user_produce(user, (struct sluice_producer_options){.transactional_id = "transfer"});
        cr_assert(eq(int, sluice_txn_recover(user->producer, 5000, &found), 1));
        cr_expect_str_eq(found.id, name.id);
        cr_expect(eq(u64, found.open_lsn, name.open_lsn));
        cr_expect(eq(int, sluice_txn_begin(user->producer), SLUICE_E_TRANSACTION_PREPARED));
        if (commits)
            commit(user);
        else
            cr_assert(eq(int, sluice_txn_abort(user->producer, 5000), SLUICE_OK));
        cr_expect(eq(u64, visible(user), commits ? 10 : 0));
        cr_expect(eq(int, sluice_txn_recover(user->producer, 5000, &found), 0));
        begin(user);
        user_send_many(user, 0, 1);
        commit(user);
        user_free(user);
    }
}

Test(txn, a_prepared_one_is_committed_by_its_own_producer)
{
    struct user *user = start();
    uint64_t offset;
    begin(user);
    user_send_many(user, 0, 10);
    cr_assert(eq(int, sluice_txn_prepare(user->producer, 5000, NULL), SLUICE_OK));
    cr_expect(eq(u64, visible(user), 0));
    commit(user);
    user_expect_all_stored(user);
    cr_expect(eq(int, sluice_txn_offset(user->producer, "t", 0, &offset), SLUICE_OK));
    cr_expect(eq(u64, offset, 0));
    begin(user);
    user_send_many(user, 0, 10);
    cr_assert(eq(int, sluice_txn_prepare(user->producer, 5000, NULL), SLUICE_OK));
    cr_expect(eq(int, sluice_txn_abort(user->producer, 5000), SLUICE_OK));
    cr_expect(eq(u64, visible(user), 10));
    user_free(user);
}

/* ---- for tools ---- */

Test(txn, tools_list_describe_and_end)
{
    struct user *user = start();
    struct sluice_txn *txns;
    uint32_t count;
    struct sluice_txn_description description;
    begin(user);
    user_send_many(user, 2, 3);
    user_flush(user);
    cr_assert(eq(int, sluice_txn_list(user->client, &txns, &count), SLUICE_OK));
    cr_assert(eq(int, (int)count, 1));
    cr_expect_str_eq(txns[0].name.id, "transfer");
    cr_expect(eq(int, txns[0].state, SLUICE_TXN_OPEN));
    struct sluice_txn_name name = txns[0].name;
    sluice_txns_free(txns, count);
    cr_assert(eq(int, sluice_txn_describe(user->client, "transfer", &description), SLUICE_OK));
    cr_expect(eq(int, (int)description.part_count, 3));
    cr_expect_str_eq(description.parts[0].topic, "t");
    cr_expect(eq(int, (int)description.parts[0].partition, 2));
    cr_expect(eq(int, (int)description.parts[0].record_count, 1));
    sluice_txn_description_free(&description);
    cr_expect(eq(int, sluice_txn_describe(user->client, "none", &description),
                 SLUICE_E_UNKNOWN_TRANSACTION));
    cr_expect(eq(int, sluice_txn_end(user->client, &name, false), SLUICE_OK));
    cr_expect(eq(int, sluice_txn_commit(user->producer, 5000), SLUICE_E_TRANSACTION_ABORTED));
    user_free(user);
}

/* ---- all of it together ---- */

/* Whatever the broker does, what was committed is there once and in order, and nothing else is. */
Test(txn, random_mishaps_never_show_a_part)
{
    struct random random;
    random_init(&random, 20261121);
    struct user *user = start_with((struct sluice_producer_options){.batch_records = 3});
    uint64_t expected = 0;
    for (int round = 0; round < 60; round++) {
        static const uint16_t ops[] = {OP_PRODUCE,   OP_PRODUCE,   OP_TXN_COMMIT,
                                       OP_TXN_BEGIN, OP_TXN_ABORT, OP_TXN_INIT};
        uint16_t op = ops[random_below(&random, ARRAY_COUNT(ops))];
        static const enum fake_action actions[] = {FAKE_DROP_BEFORE, FAKE_DROP_AFTER, FAKE_REFUSE};
        enum fake_action action = actions[random_below(&random, ARRAY_COUNT(actions))];
        fake_rule(user->broker, op, (uint32_t)random_below(&random, op == OP_PRODUCE ? 5 : 1), 1,
                  action, PE_OVERLOADED);
        cr_assert(eq(int, sluice_txn_begin(user->producer), SLUICE_OK));
        uint32_t count = 1 + (uint32_t)random_below(&random, 40);
        user_send_many(user, 0, count);
        if (random_below(&random, 3) == 0) {
            cr_assert(eq(int, sluice_txn_abort(user->producer, 10000), SLUICE_OK));
        } else {
            commit(user);
            expected += count;
        }
        fake_clear_rules(user->broker);
        cr_assert(eq(u64, visible(user), expected), "round %d", round);
    }
    cr_expect(eq(u64, user->twice_count, 0));
    cr_expect(eq(u64, user->backward_count, 0));
    cr_expect(eq(u64, user->report_count, user->sent));
    user_free(user);
}
