/* The log in life: appending, group commit, rolling, the tail, failure. On the simulated disk. */
#include "tests/unit/storage/wal_fixture.h"

Test(wal, new_log_opens_empty_and_takes_entries)
{
    struct fixture f;
    fixture_init(&f, 1);
    cr_assert_eq(fixture_open(&f), 0, "%s %s", f.result.path, f.result.text);
    cr_assert_eq(f.result.end_lsn, 0);
    cr_assert_eq(fixture_append(&f, 100), 0);
    fixture_flush(&f);
    cr_assert_eq(f.committed, 4096);
    cr_assert_eq(f.on_failed, 0);
    fixture_deinit(&f);
}

Test(wal, entries_come_back_after_a_clean_close)
{
    struct fixture f;
    fixture_init(&f, 2);
    cr_assert_eq(fixture_open(&f), 0);
    for (int i = 0; i < 500; i++)
        cr_assert_eq(fixture_append(&f, (uint32_t)(i * 7 % 900)), 0);
    fixture_flush(&f);
    fixture_end_life(&f, 2);
    cr_assert_eq(fixture_open(&f), 0, "%s %s", f.result.path, f.result.text);
    cr_assert_eq(f.count, 500);
    cr_assert_eq(f.result.cut, false);
    fixture_deinit(&f);
}
