/* Stamped values: what is made passes, and each kind of damage is found and told apart. */
#include "bench/engine/checker.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define VALUE_BYTES 200

static struct checker checker;
static struct content content;
static uint8_t value[VALUE_BYTES];

static void set_up(void)
{
    cr_assert_eq(checker_init(&checker, MIB), 0);
    cr_assert_eq(content_init(&content, VALUE_BYTES, false), 0);
}

static void tear_down(void)
{
    checker_deinit(&checker);
    content_deinit(&content);
}

TestSuite(bench_checker, .init = set_up, .fini = tear_down);

static struct stamp stamp_of(uint32_t run, uint16_t producer, uint64_t sequence)
{
    return (struct stamp){.magic = STAMP_MAGIC,
                          .run = le32_make(run),
                          .producer = le16_make(producer),
                          .sequence = le64_make(sequence),
                          .due_ns = le64_make(sequence * 3)};
}

static void make(uint32_t run, uint16_t producer, uint64_t sequence)
{
    struct stamp stamp = stamp_of(run, producer, sequence);
    memcpy(value, content_value(&content, &stamp, sequence), VALUE_BYTES);
}

static struct stamp check(uint32_t partition)
{
    struct stamp stamp;
    cr_assert_eq(checker_check(&checker, partition, 77, value, VALUE_BYTES, &stamp), 0);
    return stamp;
}

static void pass(uint64_t sequence)
{
    make(1, 0, sequence);
    check(0);
}

static void expect(uint64_t damaged, uint64_t missing, uint64_t late, uint64_t duplicates)
{
    cr_expect_eq(checker.damaged, damaged);
    cr_expect_eq(checker.missing, missing);
    cr_expect_eq(checker.late, late);
    cr_expect_eq(checker.duplicates, duplicates);
}

Test(bench_checker, producers_and_partitions_and_runs_count_for_themselves)
{
    for (uint64_t sequence = 0; sequence < 5000; sequence++) {
        for (uint16_t who = 0; who < 8; who++) {
            make(1 + who / 4, who & 1, sequence);
            check(who >> 1 & 1);
        }
    }
    expect(0, 0, 0, 0);
    cr_expect_eq(checker.checked, 40000);
}

Test(bench_checker, many_producers_make_the_table_grow)
{
    for (uint64_t sequence = 0; sequence < 2; sequence++) {
        for (uint16_t producer = 0; producer < 5000; producer++) {
            make(1, producer, sequence);
            check(0);
        }
    }
    expect(0, 0, 0, 0);
    cr_expect_gt(checker.capacity, 5000);
}

Test(bench_checker, the_stamp_comes_back)
{
    make(7, 9, 1234);
    struct stamp stamp = check(0);
    cr_assert_eq(le32_get(stamp.run), 7);
    cr_assert_eq(le16_get(stamp.producer), 9);
    cr_assert_eq(le64_get(stamp.due_ns), 1234 * 3);
}

Test(bench_checker, a_first_number_above_0_is_a_gap_only_for_who_was_there_first)
{
    pass(1000);
    expect(0, 0, 0, 0);
    checker.must_begin_at_0 = true;
    make(2, 0, 5);
    check(0);
    expect(0, 5, 0, 0);
}

Test(bench_checker, gaps_are_counted_by_records)
{
    pass(0);
    pass(4);
    expect(0, 3, 0, 0);
}

Test(bench_checker, what_comes_again_is_a_duplicate)
{
    pass(0);
    pass(0);
    pass(1);
    expect(0, 0, 0, 1);
}

Test(bench_checker, what_was_missing_and_comes_later_is_late)
{
    pass(0);
    pass(3);
    pass(1);
    expect(0, 1, 1, 0);
    pass(2);
    pass(2);
    expect(0, 0, 2, 1);
}

Test(bench_checker, every_flipped_byte_behind_the_stamp_is_found)
{
    make(1, 0, 0);
    for (size_t i = sizeof(struct stamp); i < VALUE_BYTES; i++) {
        value[i] ^= 1;
        check(0);
        value[i] ^= 1;
    }
    expect(VALUE_BYTES - sizeof(struct stamp), 0, 0, 0);
    cr_expect_eq(checker.first_damage_offset, 77);
}

Test(bench_checker, what_has_no_stamp_is_damaged)
{
    struct stamp stamp;
    memset(value, 0, sizeof(value));
    check(0);
    cr_assert_eq(checker_check(&checker, 0, 0, NULL, 0, &stamp), 0);
    cr_assert_eq(checker_check(&checker, 0, 0, value, STAMP_BYTES_MIN - 1, &stamp), 0);
    expect(3, 0, 0, 0);
}

Test(bench_checker, a_value_larger_than_the_pool_is_damaged)
{
    struct stamp stamp = stamp_of(1, 0, 0), found;
    uint8_t *large = calloc(1, 2 * MIB);
    memcpy(large, &stamp, sizeof(stamp));
    cr_assert_eq(checker_check(&checker, 0, 0, large, 2 * MIB, &found), 0);
    expect(1, 0, 0, 0);
    free(large);
}

Test(bench_checker, compressible_values_are_told_by_their_stamp)
{
    struct content lines;
    cr_assert_eq(content_init(&lines, VALUE_BYTES, true), 0);
    for (uint64_t i = 0; i < 100; i++) {
        struct stamp stamp = stamp_of(1, 0, i);
        stamp.flags = STAMP_COMPRESSIBLE;
        memcpy(value, content_value(&lines, &stamp, i), VALUE_BYTES);
        check(0);
    }
    content_deinit(&lines);
    expect(0, 0, 0, 0);
}

/* Of every size, also those that leave no room for the due time, and those whose pool has two slots. */
Test(bench_checker, values_of_all_sizes_pass)
{
    static const uint64_t sizes[] = {16, 17, 23, 24, 25, 64, 65, 100, 1024, 65536, 200000, MIB};
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        struct content other;
        cr_assert_eq(content_init(&other, sizes[i], i % 2), 0);
        cr_assert_geq(other.slot_count, 2);
        for (uint64_t sequence = 0; sequence < 2 * other.slot_count; sequence++) {
            struct stamp stamp = stamp_of((uint32_t)i, 0, sequence), found;
            stamp.flags = i % 2;
            const uint8_t *made = content_value(&other, &stamp, sequence);
            cr_assert_eq(checker_check(&checker, 0, 0, made, sizes[i], &found), 0);
        }
        content_deinit(&other);
    }
    expect(0, 0, 0, 0);
}
