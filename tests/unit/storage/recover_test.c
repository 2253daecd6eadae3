/* Crashes and damage: what recovery keeps, drops and refuses. On the simulated disk. */
#include "tests/unit/storage/wal_fixture.h"

#include "storage/recover_private.h"

/* ---- crash points ---- */

/* A life: appends of random sizes with turns in between, now and then a roll, a group end, a pause, a checkpoint. */
static void live(struct fixture *f, struct random *random, uint32_t steps)
{
    for (uint32_t i = 0; i < steps && !wal_is_failed(f->wal); i++) {
        uint64_t what = random_below(random, 100);
        uint32_t len = (uint32_t)random_below(random, what < 3 ? f->options.batch_bytes_max + 64
                                                       : what < 20 ? 200000
                                                                   : 3000);
        if (what < 70)
            (void)fixture_append(f, len);
        else if (what < 72)
            wal_roll(f->wal);
        else if (what < 74)
            wal_group_end(f->wal);
        else if (what < 75)
            fixture_idle(f, random_below(random, 20) * NS_PER_MS);
        else if (what < 77)
            fixture_checkpoint(f);
        else
            fixture_turn(f);
    }
}

static void crash_run(uint64_t seed, bool relaxed_recovery_crash)
{
    struct fixture f;
    struct random random;
    random_init(&random, seed * 77);
    fixture_init(&f, seed);
    f.options.bytes_budget = (4 + random_below(&random, 5)) * f.options.segment_bytes;
    f.disk->crash_keep_percent = (uint32_t)random_below(&random, 101);
    for (int life = 0; life < 4; life++) {
        if (relaxed_recovery_crash && life > 0) { // recovery crashes too, at some operation
            enum io_kind kinds[] = {IO_WRITE, IO_FDATASYNC, IO_RENAME, IO_SYNC_DIR, IO_OPEN};
            io_sim_fail(f.io, kinds[random_below(&random, 5)], 1 + random_below(&random, 6),
                        UINT64_MAX, 5);
            int status = fixture_open(&f);
            cr_assert(status == 0 || status == E_IO, "seed %llu: %s %s %s", (unsigned long long)seed,
                      status_name(status), f.result.path, f.result.text);
            fixture_crash(&f, seed);
        }
        int status = fixture_open(&f);
        cr_assert_eq(status, 0, "seed %llu life %d: %s: %s: %s offset %llu lsn %llu..%llu rule %c",
                     (unsigned long long)seed, life, status_name(status), f.result.path,
                     f.result.text, (unsigned long long)f.result.offset,
                     (unsigned long long)f.result.lsn_from, (unsigned long long)f.result.lsn_to,
                     f.result.rule);
        live(&f, &random, 20 + (uint32_t)random_below(&random, 300));
        cr_assert_eq(f.on_failed, 0);
        fixture_crash(&f, seed);
    }
    fixture_deinit(&f);
}

Test(recover, a_crash_at_any_point_keeps_all_that_was_committed, .timeout = 300)
{
    for (uint64_t seed = 1; seed <= 150; seed++)
        crash_run(seed, false);
}

Test(recover, a_crash_inside_recovery_changes_nothing, .timeout = 300)
{
    for (uint64_t seed = 1000; seed <= 1100; seed++)
        crash_run(seed, true);
}
