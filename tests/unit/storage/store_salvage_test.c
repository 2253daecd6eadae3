/* A store whose log was given up in part: what is lost, what is not, and that it goes on. */
#include "tests/unit/storage/store_txn_fixture.h"

#include "storage/disk_header.h"
#include "storage/inspect.h"

/* Inspection and salvage want the identity that store_dir_open() would have written. */
static void identity_put(struct store_fixture *f)
{
    uint8_t block[DISK_BLOCK] = {0};
    struct disk_store *disk = (struct disk_store *)block;
    disk_header_make(&disk->common,
                     &(struct disk_expect){.magic = DISK_MAGIC_STORE,
                                           .store_id = f->options.store_id,
                                           .shard_id = UINT32_MAX},
                     0);
    disk->state = le32_make(DISK_STORE_READY);
    disk->shard_count = le32_make(f->options.shard_id + 1);
    disk->segment_bytes = le64_make(f->options.segment_bytes);
    disk_header_seal(block);
    sim_disk_put(f->disk, SF_DIR "/store", block, 0, sizeof(block));
}

/* The segment file and offset of an LSN, by the first groups of the files. */
static uint64_t locate(struct store_fixture *f, uint64_t lsn, char path[128])
{
    for (uint64_t number = 64; number > 0; number--) {
        struct disk_group group;
        snprintf(path, 128, SF_DIR "/shard-002/wal/%016llx.wal", (unsigned long long)number);
        struct sim_file *file = sim_disk_find(f->disk, path);
        if (file == NULL)
            continue;
        sim_file_read(file, (uint8_t *)&group, DISK_SEGMENT_DATA, sizeof(group));
        if (le32_get(group.magic) == DISK_MAGIC_GROUP && le64_get(group.lsn) <= lsn)
            return DISK_SEGMENT_DATA + lsn - le64_get(group.lsn);
    }
    cr_assert_fail("LSN %llu lies nowhere", (unsigned long long)lsn);
    return 0;
}

/* Takes the batches in the hole out of the model. Returns how many there were. */
static uint32_t model_forget(struct store_fixture *f, uint64_t from_lsn, uint64_t to_lsn)
{
    uint32_t gone = 0;
    for (uint32_t i = 0; i < f->partition_count; i++) {
        struct sf_partition *p = &f->partitions[i];
        uint32_t kept = 0;
        for (uint32_t b = 0; b < p->count; b++) {
            if (p->batches[b].lsn >= from_lsn && p->batches[b].lsn < to_lsn)
                gone++;
            else
                p->batches[kept++] = p->batches[b];
        }
        p->count = kept;
    }
    return gone;
}

static void check_batch(struct store_fixture *f, struct sf_partition *p, uint64_t at_offset,
                        const struct sf_batch *want)
{
    struct partition *partition = store_partition(f->store, p->topic_id, p->partition);
    uint32_t hint = INDEX_NONE;
    struct store_read read = sf_read(f, partition, at_offset, SF_READ_BYTES, &hint);
    cr_assert_eq(read.status, 0);
    struct batch_info info;
    cr_assert(batch_peek(f->buffer, read.bytes, &info));
    cr_assert_eq(info.base_offset, want->base_offset);
}

/* Twelve batches; the seventh is lost. `roll_before`, `roll_behind`: it is the first, the last of its
 * segment. */
static void lose_one(bool roll_before, bool roll_behind)
{
    struct store_fixture f;
    char path[128];
    store_fixture_init(&f, 71);
    cr_assert_eq(store_fixture_open(&f), 0, "%s", f.text);
    sf_idle(&f, NS_PER_S);
    cr_assert_eq(sf_open_partition(&f, 1, 0), 0);
    struct sf_partition *p = &f.partitions[0];
    for (int i = 0; i < 12; i++) {
        if ((i == 6 && roll_before) || (i == 7 && roll_behind))
            wal_roll(f.store->wal);
        cr_assert_eq(sf_produce(&f, p, 5, 3000), 0);
        sf_flush(&f);
    }
    sf_idle(&f, 50 * NS_PER_MS);
    store_fixture_crash(&f);
    identity_put(&f);
    uint64_t from = align_down(p->batches[6].lsn, DISK_BLOCK);
    uint64_t to = align_down(p->batches[7].lsn, DISK_BLOCK);
    uint64_t offset = locate(&f, from, path);
    sim_disk_flip(f.disk, path, offset + 700, 1);
    cr_assert_eq(store_fixture_open(&f), E_CORRUPT);
    cr_assert_not_null(strstr(f.text, path));

    struct recover_result result;
    char text[512];
    cr_assert_eq(inspect_salvage(f.io, SF_DIR, 2, from, to, false, &result, text), 0, "%s", text);
    struct sf_batch before = p->batches[5], after = p->batches[7], lost = p->batches[6];
    cr_assert_eq(model_forget(&f, from, to), 1);
    for (uint32_t life = 0; life < 4; life++) {
        cr_assert_eq(arena_init(&f.arena, store_arena_bytes(&f.options) + MIB, false), 0);
        cr_assert_eq(store_open(&f.options, &f.result, f.text, &f.store), 0, "life %u: %s", life,
                     f.text);
        cr_assert_eq(store_partition(f.store, 1, 0)->next_offset, 60 + 5 * life);
        check_batch(&f, p, before.base_offset, &before);
        check_batch(&f, p, lost.base_offset, &after); // the next record behind the hole
        check_batch(&f, p, lost.base_offset + 3, &after);
        check_batch(&f, p, after.base_offset, &after);
        cr_assert_eq(sf_produce(&f, p, 5, 3000), 0);
        sf_flush(&f);
        if (life == 1)
            sf_checkpoint(&f);
        store_fixture_crash(&f);
    }
    store_fixture_deinit(&f);
}

Test(store, a_salvaged_log_loses_the_batches_in_the_hole_and_goes_on)
{
    lose_one(false, false);
}

Test(store, a_hole_at_the_end_of_a_segment_is_read_over)
{
    lose_one(false, true);
}

Test(store, a_hole_at_the_start_of_a_segment_is_read_over)
{
    lose_one(true, false);
}

Test(store, a_hole_that_is_all_of_a_segment_is_read_over)
{
    lose_one(true, true);
}

/* ---- transactions ---- */

/* What lies between is damaged, the start refuses, and salvage does what an operator would let it do. */
static void crash_and_give_up(struct store_fixture *f, uint64_t from_lsn, uint64_t to_lsn)
{
    char path[128], text[512];
    struct recover_result result;
    sf_idle(f, 50 * NS_PER_MS);
    store_fixture_crash(f);
    identity_put(f);
    uint64_t offset = locate(f, from_lsn, path);
    sim_disk_flip(f->disk, path, offset + 700, 1);
    cr_assert_eq(store_fixture_open(f), E_CORRUPT);
    cr_assert_eq(inspect_salvage(f->io, SF_DIR, 2, from_lsn, to_lsn, false, &result, text), 0, "%s",
                 text);
}

/* The COMMIT lies behind the hole and lists five batches, one of them in it. */
static void lose_staged(bool index_is_lost)
{
    struct tx_fixture *t = calloc(1, sizeof(*t));
    struct store_fixture *f = &t->f;
    char path[128];
    tx_init(t, 72);
    tx_open(t);
    sf_idle(f, NS_PER_S);
    tx_open_partitions(t, 2);
    struct sf_partition *p = tx_partition(t, 0);
    struct tx *tx = tx_begin(t);
    uint64_t lsns[6];
    for (uint32_t i = 0; i < 5; i++) {
        lsns[i] = store_reserved_lsn(f->store);
        cr_assert_eq(tx_stage(t, tx, p, 4, 3000), 0);
        sf_flush(f);
    }
    cr_assert_eq(tx_end(t, tx, true), 0);
    sf_flush(f);
    cr_assert_eq(sf_produce(f, p, 5, 3000), 0);
    if (index_is_lost)
        tx_fill(t, tx_partition(t, 1), 5 * MIB);
    sf_flush(f);
    crash_and_give_up(f, lsns[2], lsns[3]);
    struct sf_batch before = p->batches[1], lost = p->batches[2], after = p->batches[3];
    for (uint32_t life = 0; life < 4; life++) {
        snprintf(path, sizeof(path), SF_DIR "/shard-002/wal/%016x.idx", 1);
        if (index_is_lost)
            cr_assert_neq(io_unlink_wait(f->io, path), E_IO);
        cr_assert_eq(arena_init(&f->arena, store_arena_bytes(&f->options) + MIB, false), 0);
        cr_assert_eq(store_open(&f->options, &f->result, f->text, &f->store), 0, "life %u: %s",
                     life, f->text);
        cr_assert_eq(store_partition(f->store, 1, 0)->next_offset, 25 + 5 * life);
        cr_assert_eq(staged_sum_all(store_staged(f->store)).batch_count, 0);
        check_batch(f, p, before.base_offset, &before);
        check_batch(f, p, lost.base_offset, &after);
        check_batch(f, p, lost.base_offset + 3, &after);
        check_batch(f, p, after.base_offset, &after);
        cr_assert_eq(sf_produce(f, p, 5, 3000), 0);
        sf_flush(f);
        if (life == 1)
            sf_checkpoint(f);
        store_fixture_crash(f);
    }
    tx_deinit(t);
    free(t);
}

Test(store, a_commit_behind_a_hole_commits_what_is_left)
{
    lose_staged(false);
}

Test(store, an_index_made_anew_leaves_out_what_was_staged_in_a_hole)
{
    lose_staged(true);
}

/* Three batches, then the COMMIT and nothing more; the last one is lost. */
Test(store, a_batch_that_was_lost_at_the_end_of_its_partition_is_read_over)
{
    struct tx_fixture *t = calloc(1, sizeof(*t));
    struct store_fixture *f = &t->f;
    uint64_t lsns[4];
    tx_init(t, 74);
    tx_open(t);
    sf_idle(f, NS_PER_S);
    tx_open_partitions(t, 1);
    struct tx *tx = tx_begin(t);
    for (uint32_t i = 0; i < 4; i++) {
        lsns[i] = store_reserved_lsn(f->store);
        if (i < 3)
            cr_assert_eq(tx_stage(t, tx, tx_partition(t, 0), 4, 3000), 0);
        else
            cr_assert_eq(tx_end(t, tx, true), 0);
        sf_flush(f);
    }
    crash_and_give_up(f, lsns[2], lsns[3]);
    for (uint32_t life = 0; life < 2; life++) {
        uint32_t hint = INDEX_NONE;
        cr_assert_eq(arena_init(&f->arena, store_arena_bytes(&f->options) + MIB, false), 0);
        cr_assert_eq(store_open(&f->options, &f->result, f->text, &f->store), 0, "%s", f->text);
        struct partition *partition = store_partition(f->store, 1, 0);
        cr_assert_eq(partition->next_offset, 12);
        struct store_read read = sf_read(f, partition, 9, SF_READ_BYTES, &hint);
        cr_assert_eq(read.status, 0);
        cr_assert_eq(read.bytes, 0);
        cr_assert_eq(read.next_offset, 12);
        sf_checkpoint(f);
        store_fixture_crash(f);
    }
    tx_deinit(t);
    free(t);
}
