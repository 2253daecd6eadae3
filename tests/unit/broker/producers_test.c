/* Idempotence state: order, duplicates, gaps, epochs, wrap, expiry, and that rebuilding gives the same answers. */
#include <criterion/criterion.h>

#include "base/random.h"
#include "base/status.h"
#include "broker/producers.h"

static struct batch_info batch(uint64_t producer_id, uint16_t epoch, uint32_t sequence,
                               uint32_t count, uint64_t base_offset)
{
    return (struct batch_info){.producer_id = producer_id,
                               .producer_epoch = epoch,
                               .base_sequence = sequence,
                               .record_count = count,
                               .base_offset = base_offset};
}

static uint64_t lsn = 100;

static void apply(struct producers *p, struct batch_info info)
{
    lsn += 64;
    cr_assert_eq(producers_apply_batch(p, 1, 0, &info, lsn, 1000), 0);
}

static void expect(struct producers *p, struct batch_info info, enum producer_verdict verdict,
                   uint64_t offset_or_error)
{
    uint64_t offset = 0;
    uint16_t error = 0;
    cr_assert_eq(producers_check(p, 1, 0, &info, &offset, &error), verdict);
    if (verdict == PRODUCER_DUPLICATE)
        cr_assert_eq(offset, offset_or_error);
    if (verdict == PRODUCER_REFUSE)
        cr_assert_eq(error, offset_or_error, "error %u", error);
}

Test(producers, batches_without_identity_are_always_appended)
{
    struct producers *p = producers_new(4);
    expect(p, batch(PRODUCER_NONE, 0, 0, 5, 0), PRODUCER_APPEND, 0);
    apply(p, batch(PRODUCER_NONE, 0, 0, 5, 0));
    cr_assert_eq(producers_count(p), 0);
    producers_free(p);
}

Test(producers, an_unknown_producer_must_begin_at_sequence_zero)
{
    struct producers *p = producers_new(4);
    expect(p, batch(7, 0, 1, 1, 0), PRODUCER_REFUSE, PE_UNKNOWN_PRODUCER);
    expect(p, batch(7, 0, 0, 1, 0), PRODUCER_APPEND, 0);
    producers_free(p);
}

Test(producers, a_retry_of_the_last_five_batches_gets_its_original_offset)
{
    struct producers *p = producers_new(4);
    for (uint32_t i = 0; i < 8; i++)
        apply(p, batch(7, 0, i * 10, 10, 1000 + i));
    for (uint32_t i = 3; i < 8; i++)
        expect(p, batch(7, 0, i * 10, 10, 0), PRODUCER_DUPLICATE, 1000 + i);
    for (uint32_t i = 0; i < 3; i++)
        expect(p, batch(7, 0, i * 10, 10, 0), PRODUCER_REFUSE, PE_DUPLICATE_SEQUENCE);
    expect(p, batch(7, 0, 80, 1, 0), PRODUCER_APPEND, 0);
    expect(p, batch(7, 0, 81, 1, 0), PRODUCER_REFUSE, PE_OUT_OF_ORDER_SEQUENCE);
    producers_free(p);
}

Test(producers, a_batch_that_overlaps_stored_ones_but_is_none_of_them_is_refused)
{
    struct producers *p = producers_new(4);
    apply(p, batch(7, 0, 0, 10, 50));
    expect(p, batch(7, 0, 0, 9, 0), PRODUCER_REFUSE, PE_DUPLICATE_SEQUENCE);
    expect(p, batch(7, 0, 5, 10, 0), PRODUCER_REFUSE, PE_DUPLICATE_SEQUENCE);
    producers_free(p);
}

Test(producers, a_higher_epoch_begins_anew_and_fences_the_lower_one)
{
    struct producers *p = producers_new(4);
    apply(p, batch(7, 3, 0, 10, 50));
    expect(p, batch(7, 4, 10, 1, 0), PRODUCER_REFUSE, PE_OUT_OF_ORDER_SEQUENCE);
    expect(p, batch(7, 4, 0, 1, 0), PRODUCER_APPEND, 0);
    apply(p, batch(7, 4, 0, 1, 60));
    expect(p, batch(7, 3, 10, 1, 0), PRODUCER_REFUSE, PE_FENCED_PRODUCER);
    expect(p, batch(7, 4, 0, 1, 0), PRODUCER_DUPLICATE, 60);
    producers_free(p);
}

Test(producers, sequences_wrap_from_the_largest_31_bit_number_to_zero)
{
    struct producers *p = producers_new(4);
    apply(p, batch(7, 0, INT32_MAX - 2, 2, 50)); // ends one below the largest
    expect(p, batch(7, 0, INT32_MAX, 3, 0), PRODUCER_APPEND, 0);
    apply(p, batch(7, 0, INT32_MAX, 3, 52)); // the largest, 0, 1
    expect(p, batch(7, 0, 2, 1, 0), PRODUCER_APPEND, 0);
    expect(p, batch(7, 0, INT32_MAX, 3, 0), PRODUCER_DUPLICATE, 52);
    expect(p, batch(7, 0, 3, 1, 0), PRODUCER_REFUSE, PE_OUT_OF_ORDER_SEQUENCE);
    producers_free(p);
}

Test(producers, a_full_table_names_the_one_used_longest_ago)
{
    struct producers *p = producers_new(3);
    apply(p, batch(1, 0, 0, 1, 0));
    apply(p, batch(2, 0, 0, 1, 1));
    apply(p, batch(3, 0, 0, 1, 2));
    apply(p, batch(1, 0, 1, 1, 3)); // 2 is now the oldest
    struct disk_producer victim;
    struct batch_info fresh = batch(4, 0, 0, 1, 0), known = batch(2, 0, 1, 1, 0);
    cr_assert_not(producers_must_expire(p, 1, 0, &known, &victim));
    cr_assert(producers_must_expire(p, 1, 0, &fresh, &victim));
    cr_assert_eq(le64_get(victim.producer_id_plus_1), 3);
    lsn += 64;
    cr_assert_eq(producers_apply_batch(p, 1, 0, &fresh, lsn, 0), E_FULL);
    producers_apply_expire(p, 2, 1, 0);
    expect(p, known, PRODUCER_REFUSE, PE_UNKNOWN_PRODUCER);
    apply(p, fresh);
    cr_assert_eq(producers_count(p), 3);
    producers_free(p);
}

Test(producers, dropping_a_partition_forgets_its_producers_only)
{
    struct producers *p = producers_new(8);
    struct batch_info info = batch(7, 0, 0, 1, 0);
    cr_assert_eq(producers_apply_batch(p, 1, 0, &info, 1, 0), 0);
    cr_assert_eq(producers_apply_batch(p, 1, 1, &info, 2, 0), 0);
    cr_assert_eq(producers_apply_batch(p, 2, 0, &info, 3, 0), 0);
    producers_apply_partition_drop(p, 1, 0);
    cr_assert_eq(producers_count(p), 2);
    uint64_t offset;
    uint16_t error;
    cr_assert_eq(producers_check(p, 1, 1, &info, &offset, &error), PRODUCER_DUPLICATE);
    cr_assert_eq(producers_check(p, 1, 0, &info, &offset, &error), PRODUCER_APPEND);
    producers_free(p);
}

static struct producers *reload(struct producers *p)
{
    struct table *from = producers_table(p);
    table_snapshot_begin(from);
    uint64_t len = table_snapshot_bytes(from);
    uint8_t *image = malloc(len);
    cr_assert_eq(table_snapshot_read(from, image, (uint32_t)len), len);
    table_snapshot_end(from);
    struct producers *copy = producers_new(64);
    const char *why = "";
    cr_assert_eq(table_load(producers_table(copy), image, len, &why), (int64_t)len, "%s", why);
    cr_assert_eq(producers_rebuild(copy, &why), 0, "%s", why);
    free(image);
    return copy;
}

/* Random work on a small table, against the plain rule "last sequence per producer"; now and then it is written and
 * loaded again, which must change neither answers nor the order of expiry. */
Test(producers, random_work_with_reloads_behaves_like_a_plain_model)
{
    struct random random;
    random_init(&random, 42);
    struct producers *p = producers_new(64);
    int64_t next[200];
    for (int i = 0; i < 200; i++)
        next[i] = -1;
    for (int step = 0; step < 20000; step++) {
        uint64_t id = random_below(&random, 200);
        uint32_t sequence = next[id] < 0 ? 0 : (uint32_t)next[id];
        struct batch_info info =
            batch(id, 0, sequence, 1 + (uint32_t)random_below(&random, 3), step);
        expect(p, info, PRODUCER_APPEND, 0);
        struct disk_producer victim;
        if (producers_must_expire(p, 1, 0, &info, &victim)) {
            uint64_t gone = le64_get(victim.producer_id_plus_1) - 1;
            producers_apply_expire(p, gone, 1, 0);
            next[gone] = -1;
        }
        apply(p, info);
        next[id] = sequence + info.record_count;
        expect(p, info, PRODUCER_DUPLICATE, step);
        if (step % 500 == 499) {
            struct producers *copy = reload(p);
            cr_assert_eq(table_digest(producers_table(copy)), table_digest(producers_table(p)));
            producers_free(p);
            p = copy;
        }
    }
    producers_free(p);
}
