/* Stamped values: what publish makes passes, and each kind of damage is found and told apart. */
#include "bench/engine/sequences.h"

#include <criterion/criterion.h>
#include <string.h>

#define VALUE_BYTES 200

static struct sequences sequences;
static struct payload payload;
static uint8_t value[VALUE_BYTES];

static void set_up(void)
{
    cr_assert_eq(sequences_init(&sequences), 0);
    cr_assert_eq(payload_init(&payload, VALUE_BYTES, false), 0);
}

static void tear_down(void)
{
    sequences_deinit(&sequences);
    payload_deinit(&payload);
}

TestSuite(bench_sequences, .init = set_up, .fini = tear_down);

static void make(uint64_t run, uint32_t producer, uint64_t sequence)
{
    struct payload_stamp stamp = {
        .run = le64_make(run), .producer = le32_make(producer), .sequence = le64_make(sequence)};
    payload_stamped(&payload, value, &stamp);
}

static void check(uint32_t partition)
{
    cr_assert_eq(sequences_check(&sequences, partition, 77, value, VALUE_BYTES), 0);
}

static void expect(uint64_t damaged, uint64_t missing, uint64_t duplicates)
{
    cr_expect_eq(sequences.damaged, damaged);
    cr_expect_eq(sequences.missing, missing);
    cr_expect_eq(sequences.duplicates, duplicates);
}

Test(bench_sequences, producers_and_partitions_and_runs_count_for_themselves)
{
    for (uint64_t sequence = 0; sequence < 5000; sequence++) {
        for (uint32_t who = 0; who < 8; who++) {
            make(1 + who / 4, who & 1, sequence);
            check(who >> 1 & 1);
        }
    }
    expect(0, 0, 0);
    cr_expect_eq(sequences.checked, 40000);
}

Test(bench_sequences, many_producers_make_the_table_grow)
{
    for (uint64_t sequence = 0; sequence < 2; sequence++) {
        for (uint32_t producer = 0; producer < 5000; producer++) {
            make(1, producer, sequence);
            check(0);
        }
    }
    expect(0, 0, 0);
    cr_expect_gt(sequences.capacity, 5000);
}

Test(bench_sequences, a_first_number_above_0_is_no_gap)
{
    make(1, 0, 1000);
    check(0);
    expect(0, 0, 0);
}

Test(bench_sequences, gaps_are_counted_by_records)
{
    make(1, 0, 0);
    check(0);
    make(1, 0, 4);
    check(0);
    expect(0, 3, 0);
}

Test(bench_sequences, what_comes_again_is_a_duplicate)
{
    make(1, 0, 0);
    check(0);
    check(0);
    make(1, 0, 1);
    check(0);
    expect(0, 0, 1);
}

Test(bench_sequences, every_flipped_byte_behind_the_stamp_is_found)
{
    make(1, 0, 0);
    for (size_t i = sizeof(struct payload_stamp); i < VALUE_BYTES; i++) {
        value[i] ^= 1;
        check(0);
        value[i] ^= 1;
    }
    expect(VALUE_BYTES - sizeof(struct payload_stamp), 0, 0);
    cr_expect_eq(sequences.first_damage_offset, 77);
}

Test(bench_sequences, what_has_no_stamp_is_damaged)
{
    memset(value, 0, sizeof(value));
    check(0);
    cr_assert_eq(sequences_check(&sequences, 0, 0, NULL, 0), 0);
    cr_assert_eq(sequences_check(&sequences, 0, 0, value, 31), 0);
    expect(3, 0, 0);
}

Test(bench_sequences, a_stamp_that_points_outside_the_pool_is_damage)
{
    make(1, 0, 0);
    struct payload_stamp stamp;
    memcpy(&stamp, value, sizeof(stamp));
    stamp.pool_at = le32_make(UINT32_MAX);
    memcpy(value, &stamp, sizeof(stamp));
    check(0);
    expect(1, 0, 0);
}

Test(bench_sequences, compressible_values_are_told_by_their_stamp)
{
    struct payload lines;
    cr_assert_eq(payload_init(&lines, VALUE_BYTES, true), 0);
    struct payload_stamp stamp = {.flags = le32_make(STAMP_COMPRESSIBLE)};
    for (int i = 0; i < 100; i++) {
        stamp.sequence = le64_make((uint64_t)i);
        payload_stamped(&lines, value, &stamp);
        check(0);
    }
    payload_deinit(&lines);
    expect(0, 0, 0);
}

Test(bench_payload, values_stay_inside_the_pool)
{
    for (uint64_t size = 1; size < 5 * MIB; size = size * 3 + 1) {
        struct payload other;
        cr_assert_eq(payload_init(&other, size, false), 0);
        for (int i = 0; i < 3000; i++) {
            const uint8_t *next = payload_next(&other);
            cr_assert(next >= other.pool && next < other.pool + PAYLOAD_POOL_BYTES);
        }
        payload_deinit(&other);
    }
}
