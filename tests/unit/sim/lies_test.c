/* tests/sim/simulation/lies.h: what the log proves, and that each stale read of a recovery is seen or changes nothing that it
 * proves. */
#include "tests/unit/storage/wal_fixture.h"

#include "tests/sim/simulation/lies.h"
#include "tests/unit/seeds.h"

#define GROUPS 12

/* Groups in two segments, each durable before the next. */
static void make_log(struct fixture *f, uint64_t seed)
{
    fixture_init(f, seed);
    io_free(f->io);
    sim_disk_free(f->disk);
    f->disk = sim_disk_new(seed, 256 * MIB);
    f->disk->keeps_previous = true;
    fixture_io(f, seed);
    cr_assert_eq(io_mkdir(f->io, FIXTURE_DIR), 0);
    sim_disk_settle(f->disk);
    cr_assert_eq(wal_create(&f->options), 0);
    cr_assert_eq(fixture_open(f), 0);
    for (int i = 0; i < GROUPS; i++) {
        while (fixture_append(f, 100 + (uint32_t)random_below(&f->random, 20000)) != 0)
            fixture_turn(f); // a spare is being made
        fixture_flush(f);
        if (i == GROUPS / 2)
            wal_roll(f->wal);
    }
}

Test(lies, a_log_proves_what_its_last_group_found_durable)
{
    struct fixture f;
    make_log(&f, 1);
    uint64_t durable = wal_marks(f.wal).durable;
    uint64_t proven = lies_proven_lsn(f.disk, FIXTURE_DIR);
    cr_assert(proven > 0 && proven < durable); // the last one proves itself by the MARK
    fixture_idle(&f, 50 * NS_PER_MS);
    cr_assert_geq(lies_proven_lsn(f.disk, FIXTURE_DIR), durable);
    cr_assert_eq(lies_proven_lsn(f.disk, "/elsewhere"), 0);
    fixture_deinit(&f);
}

Test(lies, blocks_that_were_not_told_as_they_are_prove_nothing)
{
    struct fixture f;
    make_log(&f, 1);
    uint64_t before = lies_proven_lsn(f.disk, FIXTURE_DIR);
    for (uint32_t i = 0; i < f.disk->seen.count; i++)
        sim_disk_note_lie(f.disk, f.disk->seen.names[i].file, DISK_SEGMENT_DATA, 2 * MIB);
    cr_assert_lt(lies_proven_lsn(f.disk, FIXTURE_DIR), before);
    fixture_deinit(&f);
}

/* Recovers with the n-th read stale. False: there are not so many reads. */
static bool recover_stale(uint64_t seed, uint64_t n, uint32_t *refused)
{
    struct fixture f;
    make_log(&f, seed);
    fixture_crash(&f, seed);
    f.committed = 0; // what nothing proves may go
    io_sim_fail(f.io, IO_READ, n, n, IO_SIM_STALE);
    int status = fixture_open(&f);
    bool was_read = f.disk->struck[SIM_STALE_READ] == 1;
    if (status != 0) {
        cr_assert(status == E_CORRUPT || status == E_FOREIGN, "seed %lu, read %lu: %s", seed, n,
                  status_name(status));
        cr_assert(strstr(f.result.path, FIXTURE_DIR) != NULL, "seed %lu, read %lu", seed, n);
        cr_assert_eq(f.disk->bit[SIM_STALE_READ], 1);
        (*refused)++;
    } else {
        cr_assert_geq(f.result.end_lsn, lies_proven_lsn(f.disk, FIXTURE_DIR), "seed %lu, read %lu",
                      seed, n);
    }
    fixture_deinit(&f);
    return was_read;
}

Test(lies, each_stale_read_of_a_recovery_is_refused_or_takes_nothing_that_the_log_proves)
{
    uint32_t refused = 0, reads = 0;
    uint64_t first = first_seed(1);
    for (uint64_t seed = first; seed < first + seeds(6); seed++) {
        for (uint64_t n = 1; recover_stale(seed, n, &refused); n++)
            reads++;
    }
    cr_assert(reads > 10 && refused > 0, "%u reads, %u refused", reads, refused);
}
