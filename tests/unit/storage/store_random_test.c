/* Everything at once: random work, random ends, random disks; after each end the model decides.
 *
 * A failure names its seed: tests/unit/seeds.h. */
#include "tests/unit/storage/store_fixture.h"
#include "tests/unit/seeds.h"

struct shape { // of one seed: which kinds of trouble it has
    uint32_t partitions;
    uint64_t budget;
    uint64_t cache_bytes;
    bool drops, limits_size, limits_time, fills_disk, ages;
};

static struct shape shape_of(struct store_fixture *f)
{
    struct random *dice = &f->dice;
    return (struct shape){
        .partitions = 1 + (uint32_t)random_below(dice, 12),
        .budget = (4 + random_below(dice, 12)) * 4 * MIB,
        .cache_bytes = random_below(dice, 2) ? 4 * MIB : 20 * KIB,
        .drops = random_below(dice, 2),
        .limits_size = random_below(dice, 2),
        .limits_time = random_below(dice, 2),
        .fills_disk = random_below(dice, 4) == 0,
        .ages = random_below(dice, 2),
    };
}

static void open_some(struct store_fixture *f, const struct shape *shape, uint32_t count)
{
    for (uint32_t i = 0; i < count && f->partition_count < SF_PARTITIONS_MAX; i++) {
        uint64_t bytes = shape->limits_size ? 200 * KIB << random_below(&f->dice, 8) : UINT64_MAX;
        uint64_t ms = shape->limits_time ? 500ull << random_below(&f->dice, 12) : UINT64_MAX;
        if (sf_open_partition_as(f, 1 + f->partition_count, 0, sf_settings(1, ms, bytes)) < 0)
            return;
    }
}

/* As sf_load(), but a full disk is not an error. */
static void work(struct store_fixture *f, uint64_t bytes)
{
    uint64_t end = store_reserved_lsn(f->store) + bytes;
    while (store_reserved_lsn(f->store) < end && f->on_failed == 0) {
        uint32_t size = 1u << (6 + random_below(&f->dice, 13));
        int status = sf_produce(f, sf_any(f), 1 + (uint32_t)random_below(&f->dice, 9), size);
        if (status == E_NO_SPACE) {
            f->disk->capacity_blocks += 8 * MIB / SIM_BLOCK;
            sf_idle(f, 100 * NS_PER_MS);
        } else {
            cr_assert(status == 0 || f->on_failed > 0, "%s", status_name(status));
        }
        if (random_below(&f->dice, 3) == 0)
            sf_turn(f);
    }
}

static void read_somewhere(struct store_fixture *f)
{
    for (int i = 0; i < 6; i++) {
        struct sf_partition *p = sf_any(f);
        struct partition *partition = store_partition(f->store, p->topic_id, p->partition);
        uint64_t from = partition->log_start;
        uint64_t span = partition->visible_end - from;
        uint64_t offset = from + (span ? random_below(&f->dice, span) : 0);
        uint32_t hint = random_below(&f->dice, 2) ? INDEX_NONE : random_u32(&f->dice), at;
        at = sf_batch_at(p, offset);
        struct store_read read = sf_read(f, partition, offset, SF_READ_BYTES, &hint);
        if (read.status == E_INVALID && partition->log_start > offset)
            continue; // it expired meanwhile
        cr_assert_eq(read.status, 0, "seed %lu: %s", f->seed, status_name(read.status));
        sf_compare(f, p, &read, &at);
    }
}

static void end_somehow(struct store_fixture *f, const struct shape *shape)
{
    uint64_t how = random_below(&f->dice, 4);
    if (how == 0)
        cr_assert_eq(store_fixture_close(f), 0);
    else if (how == 1)
        store_fixture_kill(f);
    else
        store_fixture_crash(f);
    if (shape->ages && random_below(&f->dice, 2)) {
        f->now_ns += random_below(&f->dice, 600) * NS_PER_S;
        io_free(f->io);
        sf_io(f);
    }
}

static void drop_one(struct store_fixture *f)
{
    uint32_t open = 0;
    for (uint32_t i = 0; i < f->partition_count; i++)
        open += f->partitions[i].is_open;
    struct sf_partition *p = sf_any(f);
    if (open > 1)
        cr_assert_eq(sf_drop_partition(f, p->topic_id, p->partition), 0);
}

static void run(uint64_t seed)
{
    struct store_fixture *f = malloc(sizeof(*f));
    store_fixture_init(f, seed);
    struct shape shape = shape_of(f);
    f->options.wal_bytes_budget = shape.budget;
    f->options.index_cache_bytes = shape.cache_bytes;
    cr_assert_eq(store_fixture_open(f), 0, "seed %lu: %s", seed, f->text);
    open_some(f, &shape, shape.partitions);
    sf_flush(f);
    if (shape.fills_disk)
        f->disk->capacity_blocks = f->disk->allocated_blocks + 60 * MIB / SIM_BLOCK;
    uint32_t rounds = 3 + (uint32_t)random_below(&f->dice, 5);
    for (uint32_t round = 0; round < rounds; round++) {
        work(f, random_below(&f->dice, 24 * MIB));
        if (random_below(&f->dice, 2))
            store_checkpoint(f->store);
        if (shape.drops && random_below(&f->dice, 2))
            drop_one(f);
        if (random_below(&f->dice, 2))
            open_some(f, &shape, 1);
        sf_idle(f, random_below(&f->dice, 4) ? random_below(&f->dice, 5 * NS_PER_MS)
                                             : random_below(&f->dice, 4 * NS_PER_S));
        read_somewhere(f);
        cr_assert_eq(f->on_failed, 0);
        uint64_t committed = store_committed_lsn(f->store), digest = store_digest(f->store);
        bool is_quiet = committed == store_reserved_lsn(f->store);
        end_somehow(f, &shape);
        cr_assert_eq(store_fixture_open(f), 0, "seed %lu, round %u: %s", seed, round, f->text);
        if (is_quiet)
            cr_assert_eq(store_digest(f->store), digest, "seed %lu, round %u", seed, round);
        if (partitions_count(store_partitions(f->store)) == 0)
            open_some(f, &shape, 1);
        store_fixture_verify(f);
        cr_assert_leq(store_stats(f->store).index_cache_bytes, shape.cache_bytes + 64 * KIB);
    }
    store_fixture_deinit(f);
    free(f);
}

Test(store_random, survives_everything_at_once)
{
    uint64_t first = first_seed(1);
    uint64_t count = seeds(8);
    for (uint64_t seed = first; seed < first + count; seed++) {
        if (count > 50)
            fprintf(stderr, "seed %lu\n", seed);
        run(seed);
    }
}
