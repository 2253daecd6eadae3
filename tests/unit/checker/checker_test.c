/* For each kind of anomaly histories that are good and one event away from them histories that are not. */
#include "tests/checker/checker.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/checker/value.h"

/* ---- how histories are written here: one producer 0, one reader 0, partition given first ---- */

#define SEND(p, s, n, t)                                                                           \
    {                                                                                              \
        HISTORY_SEND, .partition = p, .sequence = s, .count = n, .txn = t                          \
    }
#define SEND_BY(w, p, s, n, t)                                                                     \
    {                                                                                              \
        HISTORY_SEND, .producer = w, .partition = p, .sequence = s, .count = n, .txn = t           \
    }
#define ACKED(p, s, n, o)                                                                          \
    {                                                                                              \
        HISTORY_ACKED, .partition = p, .sequence = s, .count = n, .offset = o                      \
    }
#define FAILED(p, s)                                                                               \
    {                                                                                              \
        HISTORY_FAILED, .partition = p, .sequence = s, .count = 1                                  \
    }
#define REFUSED(p, s)                                                                              \
    {                                                                                              \
        HISTORY_REFUSED, .partition = p, .sequence = s, .count = 1                                 \
    }
#define TXN(what, t)                                                                               \
    {                                                                                              \
        HISTORY_##what, .txn = t                                                                   \
    }
#define START(p)                                                                                   \
    {                                                                                              \
        HISTORY_READER_START, .partition = p                                                       \
    }
#define START_BY(r, p)                                                                             \
    {                                                                                              \
        HISTORY_READER_START, .partition = p, .reader = r                                          \
    }
#define READ(p, o, s, n, t)                                                                        \
    {                                                                                              \
        HISTORY_READ, .partition = p, .offset = o, .sequence = s, .count = n, .txn = t             \
    }
#define READ_BY(r, p, o, s, n, t)                                                                  \
    {                                                                                              \
        HISTORY_READ, .partition = p, .offset = o, .sequence = s, .count = n, .txn = t,            \
                      .reader = r                                                                  \
    }
#define DONE(p)                                                                                    \
    {                                                                                              \
        HISTORY_READER_DONE, .partition = p                                                        \
    }
#define DONE_BY(r, p)                                                                              \
    {                                                                                              \
        HISTORY_READER_DONE, .partition = p, .reader = r                                           \
    }
#define END_ASKED(p)                                                                               \
    {                                                                                              \
        HISTORY_END_ASKED, .partition = p                                                          \
    }
#define END(p, o)                                                                                  \
    {                                                                                              \
        HISTORY_END, .partition = p, .offset = o                                                   \
    }
#define OFFSET_COMMIT(p, o, t)                                                                     \
    {                                                                                              \
        HISTORY_OFFSET_COMMIT_ASKED, .partition = p, .offset = o, .txn = t                         \
    }
#define OFFSET_COMMITTED(p, o)                                                                     \
    {                                                                                              \
        HISTORY_OFFSET_COMMITTED, .partition = p, .offset = o                                      \
    }
#define OFFSET_ASKED(p)                                                                            \
    {                                                                                              \
        HISTORY_OFFSET_ASKED, .partition = p                                                       \
    }
#define OFFSET_FETCHED(p, o)                                                                       \
    {                                                                                              \
        HISTORY_OFFSET_FETCHED, .partition = p, .offset = o                                        \
    }
#define OFFSET_RESET(p)                                                                            \
    {                                                                                              \
        HISTORY_OFFSET_RESET, .partition = p                                                       \
    }

struct verdict {
    uint64_t counts[ANOMALY_COUNT];
    char first[512];
};

static void note(void *context, enum anomaly anomaly, const char *sentence)
{
    struct verdict *verdict = context;
    verdict->counts[anomaly]++;
    if (!verdict->first[0])
        snprintf(verdict->first, sizeof(verdict->first), "%s: %s", anomaly_name(anomaly), sentence);
}

static void judge(const struct history_event *events, size_t count, int only, const char *file,
                  int line)
{
    static struct verdict verdict;
    memset(&verdict, 0, sizeof(verdict));
    struct checker_options options = {.on_anomaly = note, .context = &verdict};
    struct checker *checker = checker_new(&options);
    for (size_t i = 0; i < count; i++)
        checker_add(checker, &events[i]);
    checker_finish(checker);
    checker_free(checker);
    for (int i = 0; i < ANOMALY_COUNT; i++) {
        bool wanted = i == only;
        cr_expect_eq(verdict.counts[i] > 0, wanted, "%s:%d: %s %s; first: %s", file, line,
                     anomaly_name((enum anomaly)i), wanted ? "not found" : "found", verdict.first);
    }
}

#define GOOD(...) JUDGE(-1, __VA_ARGS__)
#define BAD(only, ...) JUDGE(ANOMALY_##only, __VA_ARGS__)
#define JUDGE(only, ...)                                                                           \
    do {                                                                                           \
        static const struct history_event events[] = {__VA_ARGS__};                                \
        judge(events, sizeof(events) / sizeof(*events), only, __FILE__, __LINE__);                 \
    } while (0)

/* ---- plain records ---- */

Test(checker, a_plain_history_is_good)
{
    GOOD(SEND(0, 0, 3, 0), ACKED(0, 0, 2, 0), START(0), END_ASKED(0), END(0, 2),
         READ(0, 0, 0, 2, 0), DONE(0));
}

Test(checker, an_unanswered_record_may_be_there_or_not)
{
    GOOD(SEND(0, 0, 1, 0), START(0), DONE(0));
    GOOD(SEND(0, 0, 1, 0), START(0), READ(0, 0, 0, 1, 0), DONE(0));
}

Test(checker, a_refused_record_is_not_missed)
{
    GOOD(SEND(0, 0, 1, 0), REFUSED(0, 0), SEND(0, 1, 1, 0), ACKED(0, 1, 1, 0), START(0),
         READ(0, 0, 1, 1, 0), DONE(0));
}

Test(checker, an_acked_record_that_is_missing_at_the_end_is_lost)
{
    BAD(LOST, SEND(0, 0, 3, 0), ACKED(0, 0, 3, HISTORY_NO_OFFSET), START(0), READ(0, 0, 0, 2, 0),
        DONE(0));
}

Test(checker, an_acked_record_whose_offset_holds_another_is_lost)
{
    BAD(LOST, SEND(0, 0, 2, 0), ACKED(0, 0, 1, 0), START(0), READ(0, 0, 1, 1, 0), DONE(0));
}

Test(checker, a_record_at_two_offsets_is_a_duplicate)
{
    GOOD(SEND(0, 0, 2, 0), START(0), READ(0, 0, 0, 1, 0), READ(0, 1, 1, 1, 0), DONE(0));
    BAD(DUPLICATE, SEND(0, 0, 2, 0), START(0), READ(0, 0, 0, 2, 0), READ(0, 2, 1, 1, 0), DONE(0));
}

Test(checker, reading_again_from_an_earlier_offset_is_no_duplicate)
{
    GOOD(SEND(0, 0, 2, 0), START(0), READ(0, 0, 0, 2, 0), START(0), READ(0, 0, 0, 2, 0), DONE(0));
    GOOD(SEND(0, 0, 2, 0), START(0), READ(0, 0, 0, 2, 0), START_BY(1, 0), READ_BY(1, 0, 0, 0, 2, 0),
         DONE(0), DONE_BY(1, 0));
}

Test(checker, records_of_a_producer_must_lie_in_the_order_of_sending)
{
    BAD(REORDERED, SEND(0, 0, 2, 0), START(0), READ(0, 0, 1, 1, 0), READ(0, 1, 0, 1, 0), DONE(0));
    GOOD(SEND(0, 0, 1, 0), SEND_BY(1, 0, 0, 1, 0), START(0),
         {HISTORY_READ, .producer = 1, .count = 1}, READ(0, 1, 0, 1, 0), DONE(0));
}

Test(checker, a_reader_must_not_be_led_backwards)
{
    BAD(REORDERED, SEND(0, 0, 2, 0), START(0), READ(0, 0, 0, 2, 0), READ(0, 1, 1, 1, 0), DONE(0));
}

Test(checker, offsets_as_read_must_be_dense)
{
    BAD(HOLE, SEND(0, 0, 2, 0), START(0), READ(0, 0, 0, 1, 0), READ(0, 2, 1, 1, 0), DONE(0));
    BAD(HOLE, SEND(0, 0, 1, 0), START(0), READ(0, 1, 0, 1, 0), DONE(0));
}

Test(checker, a_record_reported_as_not_stored_must_not_be_read)
{
    GOOD(SEND(0, 0, 1, 0), FAILED(0, 0), START(0), DONE(0));
    BAD(ABORTED_READ, SEND(0, 0, 1, 0), FAILED(0, 0), START(0), READ(0, 0, 0, 1, 0), DONE(0));
    BAD(ABORTED_READ, SEND(0, 0, 1, 0), START(0), READ(0, 0, 0, 1, 0), FAILED(0, 0), DONE(0));
}

Test(checker, two_readers_must_find_the_same_record_at_an_offset)
{
    BAD(INCONSISTENT, SEND(0, 0, 2, 0), START(0), READ(0, 0, 0, 1, 0), DONE(0), START_BY(1, 0),
        READ_BY(1, 0, 0, 1, 1, 0), DONE_BY(1, 0));
}

Test(checker, a_record_must_be_where_its_ack_said)
{
    BAD(INCONSISTENT, SEND(0, 0, 2, 0), ACKED(0, 1, 1, 0), START(0), READ(0, 0, 0, 2, 0), DONE(0));
    BAD(INCONSISTENT, SEND(0, 0, 2, 0), START(0), READ(0, 0, 0, 2, 0), ACKED(0, 1, 1, 0), DONE(0));
}

Test(checker, a_record_that_nobody_sent_is_foreign)
{
    BAD(FOREIGN, SEND(0, 0, 1, 0), START(0), READ(0, 0, 0, 2, 0), DONE(0));
    BAD(FOREIGN, SEND(0, 0, 1, 0), START(0), READ(0, 0, 0, 1, 7), DONE(0));
    BAD(FOREIGN, SEND(0, 0, 1, 0), START(0), {HISTORY_READ_FOREIGN, .offset = 0}, DONE(0));
    BAD(FOREIGN, SEND(0, 0, 1, 0), START(0), READ(0, 0, 0, 1, 0), DONE(0), START(1),
        READ(1, 0, 0, 1, 0), DONE(1));
}

/* ---- ends ---- */

Test(checker, a_reader_that_is_done_must_have_reached_the_known_end)
{
    BAD(STUCK, SEND(0, 0, 2, 0), START(0), END_ASKED(0), END(0, 2), READ(0, 0, 0, 1, 0), DONE(0));
    BAD(STUCK, SEND(0, 0, 2, 0), ACKED(0, 0, 2, 0), START(0), READ(0, 0, 0, 1, 0), DONE(0));
    GOOD(SEND(0, 0, 2, 0), ACKED(0, 0, 2, 0), START_BY(1, 0), READ_BY(1, 0, 0, 0, 1, 0), START(0),
         READ(0, 0, 0, 2, 0), DONE(0));
}

Test(checker, the_visible_end_must_not_go_back)
{
    GOOD(SEND(0, 0, 2, 0), END_ASKED(0), END(0, 0), END_ASKED(0), END(0, 2), START(0),
         READ(0, 0, 0, 2, 0), DONE(0));
    BAD(OFFSET_BACK, SEND(0, 0, 2, 0), END_ASKED(0), END(0, 2), END_ASKED(0), END(0, 1), START(0),
        READ(0, 0, 0, 2, 0), DONE(0));
}

Test(checker, an_answer_that_was_asked_for_earlier_may_be_lower)
{
    GOOD(SEND(0, 0, 2, 0), END_ASKED(0), {HISTORY_END_ASKED, .reader = 1},
         {HISTORY_END, .reader = 1, .offset = 2}, END(0, 1), START(0), READ(0, 0, 0, 2, 0),
         DONE(0));
}

Test(checker, what_is_acked_is_below_the_end_that_is_asked_for_afterwards)
{
    BAD(OFFSET_BACK, SEND(0, 0, 1, 0), ACKED(0, 0, 1, 0), END_ASKED(0), END(0, 0), START(0),
        READ(0, 0, 0, 1, 0), DONE(0));
}

/* ---- transactions: two partitions, one record in each ---- */

#define OPENED SEND(0, 0, 1, 1), SEND(1, 0, 1, 1)
#define READ_BOTH START(0), START(1), READ(0, 0, 0, 1, 1), READ(1, 0, 0, 1, 1), DONE(0), DONE(1)
#define READ_ONE START(0), START(1), READ(0, 0, 0, 1, 1), DONE(0), DONE(1)
#define READ_NONE START(0), START(1), DONE(0), DONE(1)

Test(checker, a_committed_transaction_is_there)
{
    GOOD(OPENED, TXN(COMMIT_ASKED, 1), TXN(COMMITTED, 1), READ_BOTH);
    BAD(LOST, OPENED, TXN(COMMIT_ASKED, 1), TXN(COMMITTED, 1), READ_NONE);
    BAD(TORN, OPENED, TXN(COMMIT_ASKED, 1), TXN(COMMITTED, 1), READ_ONE);
}

Test(checker, an_aborted_transaction_is_not_there)
{
    GOOD(OPENED, TXN(ABORT_ASKED, 1), TXN(ABORTED, 1), READ_NONE);
    GOOD(OPENED, TXN(ABORT_ASKED, 1), READ_NONE);
    GOOD(OPENED, TXN(COMMIT_ASKED, 1), TXN(ABORTED, 1), READ_NONE);
    BAD(ABORTED_READ, OPENED, TXN(ABORT_ASKED, 1), TXN(ABORTED, 1), READ_BOTH);
    BAD(ABORTED_READ, OPENED, TXN(ABORT_ASKED, 1), READ_BOTH);
    BAD(ABORTED_READ, OPENED, TXN(COMMIT_ASKED, 1), TXN(ABORTED, 1), READ_BOTH);
    BAD(ABORTED_READ, OPENED, TXN(COMMIT_ASKED, 1), READ_ONE, TXN(ABORTED, 1));
}

Test(checker, an_abort_whose_commit_was_asked_for_before_proves_nothing_without_answer)
{
    GOOD(OPENED, TXN(COMMIT_ASKED, 1), TXN(ABORT_ASKED, 1), READ_NONE);
    GOOD(OPENED, TXN(COMMIT_ASKED, 1), TXN(ABORT_ASKED, 1), READ_BOTH);
}

Test(checker, nothing_is_visible_before_the_commit_is_asked_for)
{
    BAD(UNCOMMITTED_READ, OPENED, READ_BOTH);
    BAD(UNCOMMITTED_READ, OPENED, START(0), START(1), READ(0, 0, 0, 1, 1), TXN(COMMIT_ASKED, 1),
        TXN(COMMITTED, 1), READ(1, 0, 0, 1, 1), DONE(0), DONE(1));
    GOOD(OPENED, TXN(COMMIT_ASKED, 1), START(0), START(1), READ(0, 0, 0, 1, 1), TXN(COMMITTED, 1),
         READ(1, 0, 0, 1, 1), DONE(0), DONE(1));
}

Test(checker, a_commit_without_answer_is_all_or_nothing)
{
    GOOD(OPENED, TXN(COMMIT_ASKED, 1), READ_BOTH);
    GOOD(OPENED, TXN(COMMIT_ASKED, 1), READ_NONE);
    BAD(TORN, OPENED, TXN(COMMIT_ASKED, 1), READ_ONE);
}

Test(checker, whoever_asks_after_the_answer_sees_all_of_a_transaction)
{
    GOOD(OPENED, TXN(COMMIT_ASKED, 1), END_ASKED(0), TXN(COMMITTED, 1), END(0, 0), READ_BOTH);
    GOOD(OPENED, TXN(COMMIT_ASKED, 1), TXN(COMMITTED, 1), END_ASKED(0), END(0, 1), READ_BOTH);
    BAD(TORN, OPENED, TXN(COMMIT_ASKED, 1), TXN(COMMITTED, 1), END_ASKED(0), END(0, 0), READ_BOTH);
}

Test(checker, a_transaction_is_not_answered_both_ways)
{
    BAD(INCONSISTENT, OPENED, TXN(COMMIT_ASKED, 1), TXN(COMMITTED, 1), TXN(ABORTED, 1), READ_NONE);
}

Test(checker, a_stuck_reader_proves_nothing_about_transactions)
{
    BAD(STUCK, OPENED, TXN(COMMIT_ASKED, 1), TXN(COMMITTED, 1), END_ASKED(1), END(1, 1), READ_ONE);
}

/* ---- offsets of groups ---- */

Test(checker, a_committed_offset_must_not_go_back)
{
    GOOD(OFFSET_COMMIT(0, 5, 0), OFFSET_COMMITTED(0, 5), OFFSET_ASKED(0), OFFSET_FETCHED(0, 5));
    GOOD(OFFSET_COMMIT(0, 5, 0), OFFSET_ASKED(0), OFFSET_COMMITTED(0, 5),
         OFFSET_FETCHED(0, HISTORY_NO_OFFSET));
    GOOD(OFFSET_COMMIT(0, 5, 0), OFFSET_COMMITTED(0, 5), OFFSET_RESET(0), OFFSET_ASKED(0),
         OFFSET_FETCHED(0, HISTORY_NO_OFFSET));
    BAD(OFFSET_BACK, OFFSET_COMMIT(0, 5, 0), OFFSET_COMMITTED(0, 5), OFFSET_ASKED(0),
        OFFSET_FETCHED(0, HISTORY_NO_OFFSET));
    BAD(OFFSET_BACK, OFFSET_COMMIT(0, 5, 0), OFFSET_COMMITTED(0, 5), OFFSET_COMMIT(0, 7, 0),
        OFFSET_ASKED(0), OFFSET_FETCHED(0, 7), OFFSET_ASKED(0), OFFSET_FETCHED(0, 5));
}

Test(checker, an_offset_that_nobody_committed_is_foreign)
{
    BAD(FOREIGN, OFFSET_COMMIT(0, 5, 0), OFFSET_COMMITTED(0, 5), OFFSET_ASKED(0),
        OFFSET_FETCHED(0, 6));
}

Test(checker, an_offset_shares_the_fate_of_its_transaction)
{
    GOOD(OPENED, OFFSET_COMMIT(2, 5, 1), TXN(COMMIT_ASKED, 1), TXN(COMMITTED, 1), READ_BOTH,
         OFFSET_ASKED(2), OFFSET_FETCHED(2, 5));
    GOOD(OPENED, OFFSET_COMMIT(2, 5, 1), TXN(COMMIT_ASKED, 1), READ_NONE, OFFSET_ASKED(2),
         OFFSET_FETCHED(2, HISTORY_NO_OFFSET));
    BAD(TORN, OPENED, OFFSET_COMMIT(2, 5, 1), TXN(COMMIT_ASKED, 1), READ_BOTH, OFFSET_ASKED(2),
        OFFSET_FETCHED(2, HISTORY_NO_OFFSET));
    BAD(TORN, OPENED, OFFSET_COMMIT(2, 5, 1), TXN(COMMIT_ASKED, 1), READ_NONE, OFFSET_ASKED(2),
        OFFSET_FETCHED(2, 5));
    BAD(ABORTED_READ, OPENED, OFFSET_COMMIT(2, 5, 1), TXN(COMMIT_ASKED, 1), OFFSET_ASKED(2),
        OFFSET_FETCHED(2, 5), TXN(ABORTED, 1), READ_NONE);
    BAD(UNCOMMITTED_READ, OPENED, OFFSET_COMMIT(2, 5, 1), OFFSET_ASKED(2), OFFSET_FETCHED(2, 5),
        TXN(COMMIT_ASKED, 1), TXN(COMMITTED, 1), READ_BOTH);
}

Test(checker, an_offset_of_a_committed_transaction_must_not_go_back)
{
    BAD(OFFSET_BACK, OFFSET_COMMIT(0, 5, 1), TXN(COMMIT_ASKED, 1), TXN(COMMITTED, 1),
        OFFSET_ASKED(0), OFFSET_FETCHED(0, HISTORY_NO_OFFSET), OFFSET_ASKED(0),
        OFFSET_FETCHED(0, 5));
}

/* ---- the test itself ---- */

Test(checker, a_history_that_says_too_little_is_no_good_history)
{
    BAD(MALFORMED, SEND(0, 0, 1, 0));
    BAD(MALFORMED, SEND(0, 0, 1, 0), START(0), READ(0, 0, 0, 1, 0));
    BAD(MALFORMED, SEND(0, 0, 1, 0), READ(0, 0, 0, 1, 0), DONE(0));
    BAD(MALFORMED, SEND(0, 5, 1, 0), SEND(0, 3, 1, 0), START(0), DONE(0));
    BAD(MALFORMED, SEND(0, 0, 1, 0), ACKED(0, 1, 1, 0), START(0), READ(0, 0, 0, 1, 0), DONE(0));
    BAD(MALFORMED, OPENED, TXN(COMMITTED, 1), READ_NONE);
    BAD(MALFORMED, {HISTORY_SEND, .partition = UINT32_MAX});
    BAD(MALFORMED, {4711, .partition = 0});
}

Test(checker, an_event_that_its_process_did_not_finish_is_none)
{
    GOOD(SEND(0, 0, 1, 0), {HISTORY_NONE}, START(0), READ(0, 0, 0, 1, 0), DONE(0));
}

Test(checker, totals_say_what_was_looked_at)
{
    static const struct history_event events[] = {SEND(0, 0, 2, 1),     TXN(COMMIT_ASKED, 1),
                                                  TXN(COMMITTED, 1),    SEND(0, 2, 1, 2),
                                                  TXN(ABORT_ASKED, 2),  SEND(0, 3, 1, 3),
                                                  TXN(COMMIT_ASKED, 3), START(0),
                                                  READ(0, 0, 0, 2, 1),  DONE(0)};
    struct checker *checker = checker_new(NULL);
    for (size_t i = 0; i < sizeof(events) / sizeof(*events); i++)
        checker_add(checker, &events[i]);
    checker_finish(checker);
    struct checker_totals totals = checker_totals(checker);
    cr_expect_eq(totals.records_sent, 4);
    cr_expect_eq(totals.records_seen, 2);
    cr_expect_eq(totals.committed, 1);
    cr_expect_eq(totals.aborted, 1);
    cr_expect_eq(totals.unknown_seen, 0);
    cr_expect_eq(totals.unknown_unseen, 1);
    checker_free(checker);
}

Test(checker, a_value_is_read_back_and_nothing_else_is)
{
    uint8_t bytes[VALUE_BYTES_MAX];
    struct value value = {.producer = 3, .partition = 4, .length = 100, .sequence = 5, .txn = 6};
    struct value back;
    value_write(bytes, &value);
    cr_expect(value_read(bytes, 100, &back));
    cr_expect_eq(back.producer, 3);
    cr_expect_eq(back.txn, 6);
    cr_expect_not(value_read(bytes, 99, &back));
    bytes[99] ^= 1;
    cr_expect_not(value_read(bytes, 100, &back));
    bytes[99] ^= 1;
    bytes[0] ^= 1;
    cr_expect_not(value_read(bytes, 100, &back));
    cr_expect_not(value_read(bytes, 8, &back));
}
