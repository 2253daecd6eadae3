/* The coordinator's table of states, the page that shows it, and rows of transactional ids. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/status.h"
#include "broker/transactions.h"

static const char *const states[] = {"EMPTY",    "OPEN",       "PREPARING",
                                     "PREPARED", "COMMITTING", "ABORTING"};
static const char *const events[] = {"INIT",   "BEGIN", "JOIN",     "PREPARE",
                                     "COMMIT", "ABORT", "DEADLINE", "ASK"};
static const char *const actions[] = {"NONE",   "EPOCH", "OPEN", "JOIN", "VOTE",  "COMMIT", "ABORT",
                                      "ATTACH", "LAST",  "WAIT", "TELL", "ALARM", "SAY"};

/* A row of the page's table, as the code would write it. */
static void row_of(enum txn_state state, char *row, size_t capacity)
{
    size_t at = (size_t)snprintf(row, capacity, "| %s |", states[state]);
    for (int event = 0; event < TXN_EVENT_COUNT; event++) {
        struct txn_rule rule = transaction_rule(state, (enum txn_event)event);
        at += (size_t)snprintf(row + at, capacity - at, " %s |",
                               rule.action == TXN_DO_SAY ? proto_error_name(rule.error)
                                                         : actions[rule.action]);
    }
    snprintf(row + at, capacity - at, "\n");
}

Test(transactions, the_table_of_states_is_the_one_in_the_documentation)
{
    char row[512];
    char *text = calloc(1, 1 << 20);
    FILE *file = fopen(SLUICE_SOURCE_DIR "/docs/transactions.md", "r");
    cr_assert_not_null(file);
    cr_assert_gt(fread(text, 1, (1 << 20) - 1, file), 1000);
    fclose(file);
    for (int state = TXN_STATE_EMPTY; state <= TXN_STATE_ABORTING; state++) {
        row_of((enum txn_state)state, row, sizeof(row));
        cr_expect(strstr(text, row), "docs/transactions.md lacks the row\n%s", row);
    }
    free(text);
}

Test(transactions, every_state_has_a_rule_for_every_event)
{
    for (int state = TXN_STATE_EMPTY; state <= TXN_STATE_ABORTING; state++) {
        for (int event = 0; event < TXN_EVENT_COUNT; event++) {
            struct txn_rule rule = transaction_rule((enum txn_state)state, (enum txn_event)event);
            bool says = rule.action == TXN_DO_SAY;
            cr_expect_eq(says, rule.error != PE_NONE, "%s %s", states[state], events[event]);
            cr_expect(rule.action != TXN_DO_NONE || event == TXN_EVENT_DEADLINE, "%s %s",
                      states[state], events[event]);
        }
    }
}

/* ---- rows ---- */

static uint64_t clock_ms = 1000;

static int apply_producer(struct transactions *transactions, const char *id, uint64_t producer_id,
                          uint16_t epoch)
{
    uint8_t payload[300];
    struct disk_producer_open head = {.producer_id = le64_make(producer_id),
                                      .epoch = le16_make(epoch)};
    memcpy(payload, &head, sizeof(head));
    memcpy(payload + sizeof(head), id, strlen(id));
    struct wal_view view = {.type = ENTRY_PRODUCER_OPEN,
                            .append_time_ms = clock_ms++,
                            .payload = payload,
                            .payload_bytes = (uint32_t)(sizeof(head) + strlen(id))};
    return transactions_apply_producer(transactions, &view);
}

static int apply_open(struct transactions *transactions, const char *id, uint64_t lsn)
{
    uint8_t payload[300];
    struct disk_txn_open head = {.timeout_ms = le32_make(1000)};
    memcpy(payload, &head, sizeof(head));
    memcpy(payload + sizeof(head), id, strlen(id));
    struct wal_view view = {.type = ENTRY_TXN_OPEN,
                            .lsn = lsn,
                            .append_time_ms = clock_ms++,
                            .payload = payload,
                            .payload_bytes = (uint32_t)(sizeof(head) + strlen(id))};
    return transactions_apply_open(transactions, &view);
}

static int apply_decide(struct transactions *transactions, uint64_t lsn, uint32_t decision)
{
    struct disk_txn_decide payload = {.name = {.open_lsn = le64_make(lsn)},
                                      .decision = le32_make(decision)};
    struct wal_view view = {.type = ENTRY_DECIDE,
                            .append_time_ms = clock_ms++,
                            .payload = (const uint8_t *)&payload,
                            .payload_bytes = sizeof(payload)};
    return transactions_apply_decide(transactions, &view);
}

static int apply_end(struct transactions *transactions, uint64_t lsn)
{
    struct disk_txn_name name = {.open_lsn = le64_make(lsn)};
    struct wal_view view = {.type = ENTRY_TXN_END,
                            .append_time_ms = clock_ms++,
                            .payload = (const uint8_t *)&name,
                            .payload_bytes = sizeof(name)};
    return transactions_apply_end(transactions, &view);
}

static const struct disk_transaction *find(struct transactions *transactions, const char *id)
{
    uint32_t row = transactions_find(transactions, slice_of_text(id));
    return row == TABLE_ROW_NONE ? NULL : transactions_row(transactions, row);
}

Test(transactions, a_life_through_the_log)
{
    struct transactions *transactions = transactions_new(4);
    cr_assert_null(find(transactions, "a"));
    cr_assert_eq(apply_producer(transactions, "a", 7, 0), 0);
    cr_assert_eq(apply_open(transactions, "a", 500), 0);
    cr_assert_eq(transactions_open_count(transactions), 1);
    cr_assert_eq(find(transactions, "a")->state, TXN_STATE_OPEN);
    transactions_apply_staged_here(transactions, 500, 3);
    cr_assert_eq(le64_get(find(transactions, "a")->shards), 8);
    cr_assert_eq(apply_decide(transactions, 500, TXN_DECIDE_PREPARED), 0);
    cr_assert_eq(find(transactions, "a")->state, TXN_STATE_PREPARED);
    cr_assert_eq(apply_decide(transactions, 500, TXN_DECIDE_COMMIT), 0);
    cr_assert_eq(apply_end(transactions, 500), 0);
    cr_assert_eq(find(transactions, "a")->state, TXN_STATE_EMPTY);
    cr_assert_eq(find(transactions, "a")->last_outcome, TXN_COMMITTED);
    cr_assert_eq(le64_get(find(transactions, "a")->last_open_lsn), 500);
    cr_assert_eq(transactions_open_count(transactions), 0);
    cr_assert_eq(transactions_find_open(transactions, 500), TABLE_ROW_NONE);
    transactions_free(transactions);
}

Test(transactions, what_no_log_can_hold_is_damage)
{
    struct transactions *transactions = transactions_new(4);
    cr_assert_eq(apply_open(transactions, "a", 500), E_CORRUPT, "an id that nobody opened");
    cr_assert_eq(apply_producer(transactions, "", 7, 0), E_CORRUPT, "no id");
    cr_assert_eq(apply_producer(transactions, "a", 7, 0), 0);
    cr_assert_eq(apply_decide(transactions, 500, TXN_DECIDE_COMMIT), E_CORRUPT);
    cr_assert_eq(apply_decide(transactions, 500, TXN_DECIDE_ABORT), 0, "of one that is not known");
    cr_assert_eq(apply_end(transactions, 500), E_CORRUPT);
    cr_assert_eq(apply_open(transactions, "a", 500), 0);
    cr_assert_eq(apply_open(transactions, "a", 600), E_CORRUPT, "a second one");
    cr_assert_eq(apply_end(transactions, 500), E_CORRUPT, "not decided");
    cr_assert_eq(apply_decide(transactions, 500, 4), E_CORRUPT);
    cr_assert_eq(apply_decide(transactions, 500, TXN_DECIDE_ABORT), 0);
    cr_assert_eq(apply_decide(transactions, 500, TXN_DECIDE_COMMIT), E_CORRUPT, "decided twice");
    transactions_free(transactions);
}

Test(transactions, the_idlest_is_forgotten_first_and_an_open_one_never)
{
    struct transactions *transactions = transactions_new(3);
    cr_assert_eq(apply_producer(transactions, "a", 1, 0), 0);
    cr_assert_eq(apply_producer(transactions, "b", 2, 0), 0);
    cr_assert_eq(apply_producer(transactions, "c", 3, 0), 0);
    cr_assert(transactions_is_full(transactions));
    cr_assert_eq(apply_open(transactions, "a", 500), 0);
    uint32_t idlest = transactions_idlest(transactions);
    cr_assert_eq(transactions_find(transactions, slice_of_text("b")), idlest);
    transactions_apply_forget(transactions, 2);
    cr_assert_null(find(transactions, "b"));
    transactions_apply_forget(transactions, 1);
    cr_assert_not_null(find(transactions, "a"), "it has something open");
    cr_assert_eq(apply_producer(transactions, "d", 4, 0), 0);
    transactions_free(transactions);
}

Test(transactions, ids_are_listed_in_the_order_of_their_bytes)
{
    struct transactions *transactions = transactions_new(8);
    const char *ids[] = {"b", "a", "ab", "B", "c"};
    uint32_t rows[4];
    for (uint64_t i = 0; i < 5; i++)
        cr_assert_eq(apply_producer(transactions, ids[i], i, 0), 0);
    const char *expected[] = {"B", "a", "ab", "b"};
    cr_assert_eq(transactions_next_many(transactions, slice_of_text(""), rows, 4), 4);
    for (int i = 0; i < 4; i++)
        cr_assert_eq(rows[i], transactions_find(transactions, slice_of_text(expected[i])));
    cr_assert_eq(transactions_next_many(transactions, slice_of_text("b"), rows, 4), 1);
    cr_assert_eq(transactions_next_many(transactions, slice_of_text("c"), rows, 4), 0);
    transactions_free(transactions);
}

Test(transactions, who_is_not_the_producer_is_told_why)
{
    char text[72];
    struct transactions *transactions = transactions_new(2);
    cr_assert_eq(apply_producer(transactions, "a", 7, 3), 0);
    cr_assert_eq(transactions_check_producer(transactions, 0, 7, 3, text), PE_NONE);
    cr_assert_eq(transactions_check_producer(transactions, 0, 7, 2, text), PE_FENCED_PRODUCER);
    cr_assert_eq(transactions_check_producer(transactions, 0, 7, 4, text), PE_INVALID_ARGUMENT);
    cr_assert_eq(transactions_check_producer(transactions, 0, 6, 3, text), PE_FENCED_PRODUCER,
                 "an id of before the epochs were used up");
    cr_assert_eq(transactions_check_producer(transactions, 0, 8, 3, text), PE_UNKNOWN_PRODUCER);
    transactions_free(transactions);
}

Test(transactions, deadlines_come_in_any_order_and_once_each)
{
    struct transactions *transactions = transactions_new(4);
    const char *ids[] = {"a", "b", "c"};
    uint64_t deadlines[] = {300, 100, 200};
    for (uint64_t i = 0; i < 3; i++) {
        cr_assert_eq(apply_producer(transactions, ids[i], i, 0), 0);
        cr_assert_eq(apply_open(transactions, ids[i], 1000 + i), 0);
        transactions_arm(transactions, (uint32_t)i, deadlines[i]);
    }
    cr_assert_eq(transactions_deadline_ns(transactions), 100);
    cr_assert_eq(transactions_due(transactions, 99), TABLE_ROW_NONE);
    cr_assert_eq(transactions_due(transactions, 150), 1);
    cr_assert_eq(transactions_due(transactions, 150), TABLE_ROW_NONE);
    cr_assert_eq(transactions_deadline_ns(transactions), 200);
    transactions_apply_decided_here(transactions, 1002, TXN_COMMITTED, 5);
    cr_assert_eq(transactions_due(transactions, 250), TABLE_ROW_NONE, "it ended in time");
    cr_assert_eq(transactions_due(transactions, 300), 0);
    cr_assert_eq(transactions_due(transactions, UINT64_MAX - 1), TABLE_ROW_NONE);
    transactions_free(transactions);
}
