/* Attacks on transactions: ends that are not theirs to ask for, batches under other names, two ends at once,
 * transactions that nobody ends. Whatever was refused is not there afterwards, and what was committed is there once. */
#include "tests/integration/hostile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void expect(uint16_t got, uint16_t wanted, const char *what)
{
    if (got != wanted)
        fail("%s: %s, expected %s", what, proto_error_name(got), proto_error_name(wanted));
}

static void expect_either(uint16_t got, uint16_t one, uint16_t other, const char *what)
{
    if (got != one && got != other)
        fail("%s: %s, expected %s or %s", what, proto_error_name(got), proto_error_name(one),
             proto_error_name(other));
}

static void expect_all(struct peer *peer, const struct txn *txn, uint16_t error, const char *what)
{
    static const uint16_t ops[] = {OP_TXN_COMMIT, OP_TXN_ABORT, OP_TXN_PREPARE};
    for (size_t i = 0; i < ARRAY_COUNT(ops); i++)
        expect(txn_end(peer, txn, ops[i], 0, 0), error, what);
}

/* ---- who may end what ---- */

static void attack_names(struct peer *peer)
{
    struct txn txn = txn_named("names"), lie = txn_named("nobody-at-all");
    expect_all(peer, &lie, PE_UNKNOWN_TRANSACTIONAL_ID, "an id that nobody opened");
    expect(txn_begin_for(peer, &lie, 0), PE_UNKNOWN_TRANSACTIONAL_ID, "begin of such an id");
    txn_open(peer, &txn);
    lie = txn;
    lie.open_lsn += 8;
    expect_all(peer, &lie, PE_UNKNOWN_TRANSACTION, "a name that was never given");
    lie.open_lsn = 0;
    expect_all(peer, &lie, PE_UNKNOWN_TRANSACTION, "name 0");
    lie = txn;
    lie.coordinator++;
    expect_all(peer, &lie, PE_UNKNOWN_TRANSACTION, "another coordinator");
    lie = txn;
    lie.producer_id += 1000000;
    expect_all(peer, &lie, PE_UNKNOWN_PRODUCER, "a producer id that was never this id's");
    lie = txn;
    lie.epoch++;
    expect_all(peer, &lie, PE_INVALID_ARGUMENT, "an epoch that is not given yet");
    lie = txn_by_name(&txn);
    expect(txn_end(peer, &lie, OP_TXN_COMMIT, 0, 0), PE_INVALID_ARGUMENT,
           "an operator's commit of what is open");
    expect(txn_end(peer, &lie, OP_TXN_PREPARE, 0, 0), PE_INVALID_ARGUMENT,
           "an operator's prepare of what is open");
    expect(txn_end(peer, &lie, OP_TXN_ABORT, 0, 0), PE_NONE, "an operator's abort");
    expect(txn_end(peer, &txn, OP_TXN_COMMIT, 0, 0), PE_TRANSACTION_ABORTED, "what was aborted");
}

static void attack_epochs(struct peer *peer)
{
    struct txn zombie = txn_named("epochs"), txn = zombie;
    txn_open(peer, &zombie);
    txn_stage_everywhere(peer, &zombie);
    txn_init(peer, &txn);
    if (txn.epoch != zombie.epoch + 1 || txn.init_state != TXN_INIT_NONE)
        fail("TXN_INIT: epoch %u behind %u, state %u", txn.epoch, zombie.epoch, txn.init_state);
    expect_all(peer, &zombie, PE_FENCED_PRODUCER, "an end by an old epoch");
    expect(txn_begin_for(peer, &zombie, 0), PE_FENCED_PRODUCER, "begin by an old epoch");
    for (uint32_t i = 0; i < LEDGER_PARTITIONS; i++)
        expect(txn_stage_as(peer, &zombie, i, zombie.sequences[i]), PE_UNKNOWN_TRANSACTION,
               "staging by an old epoch");
    expect(txn_begin_for(peer, &txn, 0), PE_NONE, "begin by the new epoch");
    struct txn mix = zombie; // the old epoch under the new name
    mix.open_lsn = txn.open_lsn;
    for (uint32_t i = 0; i < LEDGER_PARTITIONS; i++)
        expect(txn_stage_as(peer, &mix, i, zombie.sequences[i] + 1), PE_FENCED_PRODUCER,
               "staging by an old epoch under the new name");
    txn_stage_everywhere(peer, &txn);
    expect(txn_end(peer, &txn, OP_TXN_COMMIT, LEDGER_PARTITIONS, 1), PE_NONE, "the new epoch");
}

/* ---- what is in it ---- */

static void try_counts(struct peer *peer, struct txn *txn, uint32_t partitions, uint32_t count,
                       const char *what)
{
    expect(txn_begin_for(peer, txn, 0), PE_NONE, what);
    txn_stage_everywhere(peer, txn);
    txn_stage_everywhere(peer, txn);
    expect(txn_end(peer, txn, OP_TXN_COMMIT, partitions, count), PE_STAGED_MISMATCH, what);
    expect(txn_end(peer, txn, OP_TXN_COMMIT, LEDGER_PARTITIONS, 2), PE_TRANSACTION_ABORTED,
           "the right counts, too late");
    expect(txn_end(peer, txn, OP_TXN_ABORT, 0, 0), PE_NONE, "an abort of what was aborted");
}

static void attack_counted(struct peer *peer)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    struct txn txn = txn_named("counts");
    txn_init(peer, &txn);
    try_counts(peer, &txn, LEDGER_PARTITIONS, 1, "counts too low");
    try_counts(peer, &txn, LEDGER_PARTITIONS, 3, "counts too high");
    try_counts(peer, &txn, LEDGER_PARTITIONS, 0, "counts of 0");
    try_counts(peer, &txn, LEDGER_PARTITIONS, UINT32_MAX, "counts of 2^32 - 1");
    try_counts(peer, &txn, LEDGER_PARTITIONS - 1, 2, "a partition is missing");
    try_counts(peer, &txn, 0, 0, "all are missing");
    try_counts(peer, &txn, LEDGER_PARTITIONS + 1, 2, "a partition is there twice");
    expect(txn_begin_for(peer, &txn, 0), PE_NONE, "begin");
    expect(txn_end(peer, &txn, OP_TXN_COMMIT, 1, 1), PE_STAGED_MISMATCH,
           "a partition where nothing is");
    expect(txn_begin_for(peer, &txn, 0), PE_NONE, "begin");
    txn_stage_everywhere(peer, &txn);
    peer_send(peer, bytes,
              txn_make_end(bytes, &txn, OP_TXN_COMMIT, LEDGER_PARTITIONS, 1, "nobody"));
    expect(txn_take_end(peer, OP_TXN_COMMIT), PE_STAGED_MISMATCH, "a group of which nothing is");
}

/* ---- when ---- */

static void attack_finished(struct peer *peer)
{
    struct txn txn = txn_named("finished"), old;
    txn_open(peer, &txn);
    txn_stage_everywhere(peer, &txn);
    expect(txn_begin_for(peer, &txn, 0), PE_TRANSACTION_OPEN, "begin while one is open");
    expect(txn_end(peer, &txn, OP_TXN_COMMIT, LEDGER_PARTITIONS, 1), PE_NONE, "a commit");
    expect(txn_end(peer, &txn, OP_TXN_COMMIT, LEDGER_PARTITIONS, 1), PE_NONE, "a commit again");
    expect(txn_end(peer, &txn, OP_TXN_ABORT, 0, 0), PE_TRANSACTION_COMMITTED,
           "an abort of what is committed");
    expect(txn_end(peer, &txn, OP_TXN_PREPARE, LEDGER_PARTITIONS, 1), PE_TRANSACTION_COMMITTED,
           "a prepare of what is committed");
    for (uint32_t i = 0; i < LEDGER_PARTITIONS; i++)
        expect(txn_stage_as(peer, &txn, i, 1), PE_UNKNOWN_TRANSACTION, "a batch after the end");
    old = txn;
    expect(txn_begin_for(peer, &txn, UINT32_MAX), PE_INVALID_ARGUMENT, "a timeout of 2^32 - 1");
    expect(txn_begin_for(peer, &txn, 0), PE_NONE, "the next one");
    expect_all(peer, &old, PE_UNKNOWN_TRANSACTION, "the one before the last");
    old = txn;
    expect(txn_begin_for(peer, &txn, 0), PE_NONE, "begin again");
    if (old.open_lsn != txn.open_lsn)
        fail("begin again while nothing is staged: another name");
    expect(txn_end(peer, &txn, OP_TXN_ABORT, 0, 0), PE_NONE, "an abort");
    expect(txn_end(peer, &txn, OP_TXN_ABORT, 0, 0), PE_NONE, "an abort again");
    expect(txn_end(peer, &txn, OP_TXN_PREPARE, 0, 0), PE_TRANSACTION_ABORTED, "too late");
}

static void attack_prepared(struct peer *peer)
{
    struct txn txn = txn_named("prepared"), old;
    txn_open(peer, &txn);
    txn_stage_everywhere(peer, &txn);
    expect(txn_end(peer, &txn, OP_TXN_PREPARE, LEDGER_PARTITIONS, 1), PE_NONE, "a prepare");
    expect(txn_end(peer, &txn, OP_TXN_PREPARE, LEDGER_PARTITIONS, 1), PE_NONE, "again");
    expect(txn_begin_for(peer, &txn, 0), PE_TRANSACTION_PREPARED, "begin while one is prepared");
    for (uint32_t i = 0; i < LEDGER_PARTITIONS; i++)
        expect(txn_stage_as(peer, &txn, i, 1), PE_TRANSACTION_PREPARED, "a batch for it");
    old = txn;
    txn_init(peer, &txn);
    if (txn.init_state != TXN_INIT_PREPARED || txn.open_lsn != old.open_lsn)
        fail("TXN_INIT does not tell what is prepared");
    expect_all(peer, &old, PE_FENCED_PRODUCER, "an end by the old epoch");
    struct txn by_name = txn_by_name(&txn);
    expect(txn_end(peer, &by_name, OP_TXN_COMMIT, 1, 1), PE_INVALID_ARGUMENT, "counts by name");
    expect(txn_end(peer, &by_name, OP_TXN_COMMIT, 0, 0), PE_NONE, "a commit by name");
    expect(txn_end(peer, &by_name, OP_TXN_COMMIT, 0, 0), PE_NONE, "again");
    expect(txn_end(peer, &by_name, OP_TXN_ABORT, 0, 0), PE_TRANSACTION_COMMITTED, "too late");
}

void attack_txn_ends(void)
{
    struct peer peer;
    uint64_t before = txn_records();
    peer_open(&peer, "ends of transactions");
    attack_names(&peer);
    attack_epochs(&peer);
    attack_counted(&peer);
    attack_finished(&peer);
    attack_prepared(&peer);
    if (txn_count_open(&peer) != 0)
        fail("transactions are left open");
    peer_close(&peer);
    if (txn_records() != before + 3ull * LEDGER_PARTITIONS)
        fail("other records than those of the three committed transactions are there");
}

/* ---- staging ---- */

/* A shard that has to ask the coordinator has stored the batch by then: the liar's sequence goes on, nobody else's. */
static void attack_other_names(struct peer *peer)
{
    struct txn older = txn_named("older"), liar = txn_named("liar"), newer = txn_named("newer");
    const struct txn *victims[] = {&older, &newer};
    txn_open(peer, &older);
    txn_open(peer, &liar);
    txn_open(peer, &newer);
    for (uint32_t i = 0; i < LEDGER_PARTITIONS; i++) {
        if (i % 2)
            txn_stage(peer, &older, i); // there is something to mix with
        for (uint32_t k = 0; k < ARRAY_COUNT(victims); k++) {
            struct txn lie = liar;
            lie.coordinator = victims[k]->coordinator;
            lie.open_lsn = victims[k]->open_lsn;
            expect_either(txn_stage_as(peer, &lie, i, 0), PE_FENCED_PRODUCER,
                          k == 0 ? PE_UNKNOWN_PRODUCER : PE_DUPLICATE_SEQUENCE,
                          "a batch under another's name");
        }
        if (i % 2 == 0)
            txn_stage(peer, &older, i);
        txn_stage(peer, &newer, i);
    }
    expect(txn_end(peer, &older, OP_TXN_COMMIT, LEDGER_PARTITIONS, 1), PE_NONE,
           "a commit of who was disturbed");
    expect(txn_end(peer, &newer, OP_TXN_COMMIT, LEDGER_PARTITIONS, 1), PE_NONE,
           "a commit of who was disturbed");
    expect(txn_end(peer, &liar, OP_TXN_ABORT, 0, 0), PE_NONE, "the liar's own");
}

static void attack_invented_names(struct peer *peer)
{
    static const uint64_t lsns[] = {0, 1, 8, 4096, (uint64_t)1 << 63, UINT64_MAX - 7, UINT64_MAX};
    struct txn lie = {.producer_id = (uint64_t)1 << 41};
    for (size_t k = 0; k < ARRAY_COUNT(lsns); k++, lie.producer_id++) {
        lie.open_lsn = lsns[k];
        for (uint32_t i = 0; i < LEDGER_PARTITIONS; i++) {
            lie.coordinator = 0;
            expect(txn_stage_as(peer, &lie, i, 0), PE_UNKNOWN_TRANSACTION, "an invented name");
            lie.coordinator = 64;
            expect(txn_stage_as(peer, &lie, i, 0), PE_INVALID_ARGUMENT, "coordinator 64");
            lie.coordinator = UINT32_MAX;
            expect(txn_stage_as(peer, &lie, i, 0), PE_INVALID_ARGUMENT, "coordinator 2^32 - 1");
        }
    }
}

static void attack_sequences(struct peer *peer)
{
    struct txn txn = txn_named("sequences");
    txn_open(peer, &txn);
    txn_stage_everywhere(peer, &txn);
    for (uint32_t i = 0; i < LEDGER_PARTITIONS; i++) {
        expect(txn_stage_as(peer, &txn, i, 0), PE_NONE, "the same batch again");
        expect(txn_stage_as(peer, &txn, i, 2), PE_OUT_OF_ORDER_SEQUENCE, "a gap");
    }
    expect(txn_end(peer, &txn, OP_TXN_ABORT, 0, 0), PE_NONE, "an abort");
    expect(txn_begin_for(peer, &txn, 0), PE_NONE, "begin");
    for (uint32_t i = 0; i < LEDGER_PARTITIONS; i++)
        expect(txn_stage_as(peer, &txn, i, 0), PE_DUPLICATE_SEQUENCE,
               "a number that another transaction used");
    txn_stage_everywhere(peer, &txn);
    expect(txn_end(peer, &txn, OP_TXN_COMMIT, LEDGER_PARTITIONS, 1), PE_NONE, "a commit");
}

void attack_txn_staging(void)
{
    struct peer peer;
    uint64_t before = txn_records();
    peer_open(&peer, "staging");
    attack_other_names(&peer);
    attack_invented_names(&peer);
    attack_sequences(&peer);
    if (txn_count_open(&peer) != 0)
        fail("transactions are left open");
    peer_close(&peer);
    if (txn_records() != before + 3ull * LEDGER_PARTITIONS)
        fail("staged batches that were refused are there, or committed ones aren't");
}

/* ---- two at once ---- */

#define RACES 200u

static bool is_busy(uint16_t error)
{
    return error == PE_TRANSACTION_BUSY;
}

/* The answers to two ends that were asked for at once, and what is asked afterwards, tell one outcome. */
static bool check_outcome(struct peer *peer, const struct txn *txn, const uint16_t ops[2],
                          const uint16_t errors[2])
{
    uint16_t after = txn_end(peer, txn, OP_TXN_COMMIT, LEDGER_PARTITIONS, 1);
    bool committed = after == PE_NONE;
    if (!committed)
        expect(after, PE_TRANSACTION_ABORTED, "a commit after the race");
    for (int i = 0; i < 2; i++) {
        bool says_committed =
            ops[i] == OP_TXN_COMMIT ? errors[i] == PE_NONE : errors[i] == PE_TRANSACTION_COMMITTED;
        bool says_aborted =
            ops[i] == OP_TXN_ABORT ? errors[i] == PE_NONE : errors[i] == PE_TRANSACTION_ABORTED;
        if (!(committed ? says_committed : says_aborted) && !is_busy(errors[i]))
            fail("%s at once with another end: %s, and it was %s", op_name(ops[i]),
                 proto_error_name(errors[i]), committed ? "committed" : "aborted");
    }
    if (is_busy(errors[0]) && is_busy(errors[1]))
        fail("two ends at once, and both are told that the other one is busy");
    return committed;
}

void attack_txn_races(void)
{
    static const uint16_t pairs[][2] = {{OP_TXN_COMMIT, OP_TXN_ABORT},
                                        {OP_TXN_ABORT, OP_TXN_COMMIT},
                                        {OP_TXN_COMMIT, OP_TXN_COMMIT},
                                        {OP_TXN_ABORT, OP_TXN_ABORT}};
    struct txn txn = txn_named("races");
    struct peer peers[2];
    uint64_t before = txn_records(), committed = 0;
    for (int i = 0; i < 2; i++)
        peer_open(&peers[i], "two ends at once");
    txn_init(&peers[0], &txn);
    for (uint32_t round = 0; round < RACES; round++) {
        const uint16_t *ops = pairs[round % ARRAY_COUNT(pairs)];
        uint8_t bytes[2][SAMPLE_BYTES_MAX];
        uint16_t errors[2];
        expect(txn_begin_for(&peers[0], &txn, 0), PE_NONE, "begin");
        txn_stage_everywhere(&peers[0], &txn);
        for (int i = 0; i < 2; i++)
            peer_send(&peers[i], bytes[i],
                      txn_make_end(bytes[i], &txn, ops[i], LEDGER_PARTITIONS, 1, NULL));
        for (int i = 0; i < 2; i++)
            errors[i] = txn_take_end(&peers[i], ops[i]);
        committed += check_outcome(&peers[round % 2], &txn, ops, errors);
    }
    for (int i = 0; i < 2; i++)
        peer_close(&peers[i]);
    if (committed < RACES / 4 || txn_records() != before + committed * LEDGER_PARTITIONS)
        fail("%u races, %llu commits, %llu records", RACES, (unsigned long long)committed,
             (unsigned long long)(txn_records() - before));
}

/* ---- nobody ends them ---- */

#define ABANDONED 2000u
#define AT_ONCE 100u

static void abandon_name(struct txn *txn, uint32_t i)
{
    char id[32];
    snprintf(id, sizeof(id), "abandoned-%u", i);
    *txn = txn_named(id);
}

/* A connection each; the second half is gone before its batch can have been acked. */
static void abandon(uint32_t first)
{
    static struct peer peers[AT_ONCE];
    static struct txn txns[AT_ONCE];
    uint8_t bytes[SAMPLE_BYTES_MAX];
    for (uint32_t i = 0; i < AT_ONCE; i++) {
        abandon_name(&txns[i], first + i);
        peer_open(&peers[i], "transactions that nobody ends");
        peer_send(&peers[i], bytes, txn_make_init(bytes, &txns[i]));
    }
    for (uint32_t i = 0; i < AT_ONCE; i++) {
        txn_take_init(&peers[i], &txns[i]);
        peer_send(&peers[i], bytes, txn_make_begin(bytes, &txns[i], 0));
    }
    for (uint32_t i = 0; i < AT_ONCE; i++) {
        expect(txn_take_begin(&peers[i], &txns[i]), PE_NONE, "begin");
        uint32_t partition = (first + i) % LEDGER_PARTITIONS;
        peer_send(&peers[i], bytes, txn_make_stage(bytes, &txns[i], 1, partition, 0));
    }
    for (uint32_t i = 0; i < AT_ONCE; i++) {
        if (i >= AT_ONCE / 2) {
            peer_reset(&peers[i]);
            continue;
        }
        expect(txn_take_stage(&peers[i]), PE_NONE, "a staged batch");
        peer_close(&peers[i]);
    }
}

void attack_txn_abandoned(void)
{
    struct peer peer;
    struct txn txn;
    uint64_t before = txn_records();
    for (uint32_t first = 0; first < ABANDONED; first += AT_ONCE)
        abandon(first);
    peer_open(&peer, "transactions that nobody ended");
    uint32_t open = txn_count_open(&peer);
    if (open != ABANDONED)
        fail("%u transactions are open, expected %u", open, ABANDONED);
    for (uint32_t i = 0; i < ABANDONED; i++) {
        uint8_t bytes[SAMPLE_BYTES_MAX];
        abandon_name(&txn, i);
        peer_send(&peer, bytes, txn_make_init(bytes, &txn));
        for (uint32_t k = 0; (i + 1) % AT_ONCE == 0 && k < AT_ONCE; k++)
            txn_take_init(&peer, &txn); // in any order
    }
    txn_init(&peer, &txn);
    open = txn_count_open(&peer);
    if (open != 0)
        fail("%u transactions are open though TXN_INIT has been answered", open);
    expect(txn_begin_for(&peer, &txn, 0), PE_NONE, "the next one");
    txn_stage_everywhere(&peer, &txn);
    expect(txn_end(&peer, &txn, OP_TXN_COMMIT, LEDGER_PARTITIONS, 1), PE_NONE, "its commit");
    peer_close(&peer);
    if (txn_records() != before + LEDGER_PARTITIONS)
        fail("something of an abandoned transaction is there");
}

/* ---- resets ---- */

/* Gone between a staged batch and its ack, or between a commit and its answer: who comes back finds all of it or nothing. */
void attack_txn_resets(void)
{
    struct txn txn = txn_named("resets");
    struct peer peer;
    uint8_t bytes[SAMPLE_BYTES_MAX];
    uint64_t before = txn_records(), committed = 0;
    for (uint32_t round = 0; round < 100; round++) {
        peer_open(&peer, "resets");
        txn_open(&peer, &txn);
        txn_stage_everywhere(&peer, &txn);
        if (round % 2)
            peer_send(&peer, bytes,
                      txn_make_end(bytes, &txn, OP_TXN_COMMIT, LEDGER_PARTITIONS, 1, NULL));
        else
            peer_send(&peer, bytes, txn_make_stage(bytes, &txn, ++peer.publishes, 0, 1));
        peer_reset(&peer);
        peer_open(&peer, "back again");
        peer.publishes = 0;
        uint16_t error = txn_end(&peer, &txn, OP_TXN_COMMIT, LEDGER_PARTITIONS, 1);
        /* The last batch came, or it did not; the commit came, and is going on. */
        expect_either(error, PE_NONE, PE_STAGED_MISMATCH, "a commit after a reset");
        committed += error == PE_NONE;
        peer_close(&peer);
    }
    if (txn_records() != before + committed * LEDGER_PARTITIONS)
        fail("a transaction is there in part");
}

/* ---- huge ---- */

static uint32_t make_huge_end(uint8_t *bytes, uint32_t capacity, const struct txn *txn, uint16_t op,
                              uint32_t items, uint16_t groups)
{
    struct writer w = meta_writer(bytes, capacity);
    struct msg_txn m = {slice_of_text(txn->id), txn->producer_id, txn->epoch, txn->coordinator,
                        txn->open_lsn};
    write_txn_end_begin(&w, &m, items, groups);
    for (uint32_t i = 0; i < items; i++)
        write_txn_item(&w, txn_topic(), i, 1);
    for (uint32_t i = 0; i < groups; i++)
        write_text(&w, "g");
    if (w.failed)
        fail("a huge frame does not fit");
    return frame_seal(bytes, op, 0, 8, writer_length(&w), 0);
}

void attack_txn_huge(void)
{
    static const uint16_t ops[] = {OP_TXN_COMMIT, OP_TXN_PREPARE};
    static const struct {
        uint32_t items;
        uint16_t groups, error;
    } sizes[] = {{TXN_ITEM_COUNT_MAX, 0, PE_STAGED_MISMATCH},
                 {TXN_ITEM_COUNT_MAX + 1, 0, PE_INVALID_ARGUMENT},
                 {60000, 0, PE_INVALID_ARGUMENT},
                 {0, UINT16_MAX, PE_STAGED_MISMATCH},
                 {TXN_ITEM_COUNT_MAX, UINT16_MAX, PE_STAGED_MISMATCH}};
    uint32_t capacity = 2 << 20;
    uint8_t *bytes = malloc(capacity);
    struct txn txn = txn_named("huge");
    struct peer peer;
    uint64_t before = txn_records();
    if (!bytes)
        fail("out of memory");
    peer_open(&peer, "huge ends");
    txn_init(&peer, &txn);
    for (size_t i = 0; i < ARRAY_COUNT(sizes) * ARRAY_COUNT(ops); i++) {
        uint16_t op = ops[i % ARRAY_COUNT(ops)];
        size_t k = i / ARRAY_COUNT(ops);
        expect(txn_begin_for(&peer, &txn, 0), PE_NONE, "begin");
        txn_stage_everywhere(&peer, &txn);
        peer_send(&peer, bytes,
                  make_huge_end(bytes, capacity, &txn, op, sizes[k].items, sizes[k].groups));
        expect(txn_take_end(&peer, op), sizes[k].error, "a huge end");
        expect(txn_end(&peer, &txn, OP_TXN_ABORT, 0, 0), PE_NONE, "an abort");
    }
    peer_close(&peer);
    free(bytes);
    if (txn_records() != before)
        fail("something of a huge end is there");
}
