/* Transactions over the store fixture, and their model: what each has staged, and what became of it.
 *
 * A committed batch moves into the partition's list (store_fixture.h), with the base offset that the model counts itself. So
 * what readers get is held against the model as ever. After a crash tx_check() holds the rows against it. */
#ifndef SLUICE_TESTS_STORE_TXN_FIXTURE_H
#define SLUICE_TESTS_STORE_TXN_FIXTURE_H

#include "tests/unit/storage/store_fixture.h"

#define TX_MAX 4096u

struct tx_batch {
    struct sf_partition *p;
    uint8_t *bytes;
    uint32_t size, record_count;
    uint64_t end_lsn;
};

enum tx_state { TX_OPEN, TX_COMMITTED, TX_ABORTED };

struct tx {
    struct disk_txn_name name;
    struct tx_batch *batches;
    uint32_t count, capacity;
    enum tx_state state;
    uint64_t end_lsn; // of COMMIT or ABORT
};

struct tx_fixture {
    struct store_fixture f;
    struct tx transactions[TX_MAX];
    uint32_t count;
};

static inline void tx_init_as(struct tx_fixture *t, uint64_t seed, uint64_t segment_bytes)
{
    memset(t, 0, sizeof(*t));
    store_fixture_init_as(&t->f, seed, segment_bytes);
}

static inline void tx_init(struct tx_fixture *t, uint64_t seed)
{
    tx_init_as(t, seed, 4 * MIB);
}

static inline void tx_deinit(struct tx_fixture *t)
{
    store_fixture_deinit(&t->f);
    for (uint32_t i = 0; i < t->count; i++) {
        for (uint32_t k = 0; k < t->transactions[i].count; k++)
            free(t->transactions[i].batches[k].bytes);
        free(t->transactions[i].batches);
    }
}

static inline struct tx *tx_begin(struct tx_fixture *t)
{
    cr_assert_lt(t->count, TX_MAX);
    struct tx *tx = &t->transactions[t->count++];
    tx->name = (struct disk_txn_name){.coordinator = le32_make(t->count % 3),
                                      .open_lsn = le64_make(4096 + 128 * (uint64_t)t->count)};
    return tx;
}

static inline int tx_stage(struct tx_fixture *t, struct tx *tx, struct sf_partition *p,
                           uint32_t records, uint32_t bytes)
{
    struct store_fixture *f = &t->f;
    uint32_t size = sf_make_batch(f, records, bytes, 1000);
    struct wal_entry entry = {.type = ENTRY_STAGED,
                              .topic_id = p->topic_id,
                              .partition = p->partition,
                              .pieces = {{&tx->name, sizeof(tx->name)}, {f->batch, size}},
                              .piece_count = 2};
    struct wal_view view;
    struct partition *partition = store_partition(f->store, p->topic_id, p->partition);
    uint64_t next_offset = partition ? partition->next_offset : 0;
    int status = sf_append(f, &entry, &view, NULL);
    if (status < 0)
        return status;
    cr_assert_eq(partition->next_offset, next_offset, "staging moves no offset");
    if (tx->count == tx->capacity) {
        tx->capacity = tx->capacity * 2 + 16;
        tx->batches = realloc(tx->batches, tx->capacity * sizeof(*tx->batches));
    }
    struct tx_batch *batch = &tx->batches[tx->count++];
    *batch = (struct tx_batch){.p = p,
                               .bytes = malloc(size),
                               .size = size,
                               .record_count = records,
                               .end_lsn = store_reserved_lsn(f->store)};
    memcpy(batch->bytes, f->batch, size);
    struct staged_sum sum = staged_sum(store_staged(f->store), &tx->name);
    cr_assert_eq(sum.batch_count, tx->count);
    return 0;
}

static inline void tx_batch_place(struct tx_batch *batch, uint64_t lsn)
{
    struct sf_partition *p = batch->p;
    uint64_t base_offset = 0;
    if (p->count > 0)
        base_offset = p->batches[p->count - 1].base_offset + p->batches[p->count - 1].record_count;
    if (p->count == p->capacity) {
        p->capacity = p->capacity * 2 + 64;
        p->batches = realloc(p->batches, p->capacity * sizeof(*p->batches));
    }
    batch_set_head(batch->bytes, base_offset, 0);
    p->batches[p->count++] = (struct sf_batch){.base_offset = base_offset,
                                               .digest = hash_xxh3(batch->bytes, batch->size),
                                               .size = batch->size,
                                               .record_count = batch->record_count,
                                               .lsn = lsn};
}

static inline int tx_end(struct tx_fixture *t, struct tx *tx, bool commit)
{
    struct store_fixture *f = &t->f;
    struct wal_view view;
    int status = E_FULL;
    for (int i = 0; i < 200000 && status == E_FULL && !f->on_failed; i++) {
        status = commit ? store_append_commit(f->store, &tx->name, 0, &view)
                        : store_append_abort(f->store, &tx->name, 0, &view);
        if (status == E_FULL)
            sf_turn(f);
    }
    if (status < 0) {
        cr_assert(f->on_failed, "%s", status_name(status));
        return status;
    }
    tx->state = commit ? TX_COMMITTED : TX_ABORTED;
    tx->end_lsn = store_reserved_lsn(f->store);
    cr_assert_eq(staged_sum(store_staged(f->store), &tx->name).batch_count, 0);
    for (uint32_t i = 0; commit && i < tx->count; i++)
        if (tx->batches[i].p->is_open)
            tx_batch_place(&tx->batches[i], view.lsn);
    return 0;
}

/* After a life: what was not durable may be gone, everything else is as it was. */
static inline void tx_check(struct tx_fixture *t)
{
    const struct staged *staged = store_staged(t->f.store);
    struct staged_sum all = {0};
    for (uint32_t i = 0; i < t->count; i++) {
        struct tx *tx = &t->transactions[i];
        uint32_t row = staged_first(staged, &tx->name), count = 0;
        if (row != TABLE_ROW_NONE && tx->state != TX_OPEN) {
            cr_assert_gt(tx->end_lsn, t->f.committed, "an end that was durable is gone");
            tx->state = TX_OPEN;
        }
        if (tx->state != TX_OPEN)
            continue;
        for (; row != TABLE_ROW_NONE; row = staged_next(staged, row), count++) {
            const struct disk_staged *disk = staged_row(staged, row);
            cr_assert_lt(count, tx->count);
            cr_assert_eq(le32_get(disk->order), count);
            cr_assert_eq(le32_get(disk->size), tx->batches[count].size);
            cr_assert_eq(le32_get(disk->topic_id), tx->batches[count].p->topic_id);
            cr_assert_eq(le32_get(disk->partition), tx->batches[count].p->partition);
            all.bytes += le32_get(disk->size);
        }
        all.batch_count += count;
        while (tx->count > count) {
            cr_assert_gt(tx->batches[tx->count - 1].end_lsn, t->f.committed);
            free(tx->batches[--tx->count].bytes);
        }
    }
    cr_assert_eq(staged_sum_all(staged).batch_count, all.batch_count);
    cr_assert_eq(staged_sum_all(staged).bytes, all.bytes);
}

static inline void tx_open(struct tx_fixture *t)
{
    cr_assert_eq(store_fixture_open(&t->f), 0, "seed %lu: %s", t->f.seed, t->f.text);
    tx_check(t);
}

static inline struct sf_partition *tx_partition(struct tx_fixture *t, uint32_t i)
{
    return &t->f.partitions[i];
}

static inline void tx_open_partitions(struct tx_fixture *t, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        cr_assert_eq(sf_open_partition(&t->f, 1 + i / 4, i % 4), 0);
}

/* Plain batches of one partition, so that the log goes on in other segments. */
static inline void tx_fill(struct tx_fixture *t, struct sf_partition *p, uint64_t bytes)
{
    uint64_t end = store_reserved_lsn(t->f.store) + bytes;
    while (store_reserved_lsn(t->f.store) < end) {
        cr_assert_eq(sf_produce(&t->f, p, 4, 200 * KIB), 0);
        sf_turn(&t->f);
    }
}

#endif
