/* Crashes and damage: what recovery keeps, drops and refuses. On the simulated disk. */
#include "tests/unit/storage/wal_fixture.h"

#include "storage/recover_private.h"
#include "tests/unit/seeds.h"

/* ---- crash points ---- */

/* A life: appends of random sizes with turns in between, now and then a roll, a group end, a pause,
 * a checkpoint. */
static void live(struct fixture *f, struct random *random, uint32_t steps)
{
    for (uint32_t i = 0; i < steps && !wal_is_failed(f->wal); i++) {
        uint64_t what = random_below(random, 100);
        uint32_t len = (uint32_t)random_below(random, what < 3    ? f->options.batch_bytes_max + 64
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
            cr_assert(status == 0 || status == E_IO, "seed %llu: %s %s %s",
                      (unsigned long long)seed, status_name(status), f.result.path, f.result.text);
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
        if (random_below(&random, 3) == 0)
            fixture_kill(&f, seed);
        else
            fixture_crash(&f, seed);
    }
    fixture_deinit(&f);
}

Test(recover, a_crash_at_any_point_keeps_all_that_was_committed, .timeout = 3000)
{
    for (uint64_t seed = 1; seed <= seeds(80); seed++)
        crash_run(seed, false);
}

Test(recover, a_crash_inside_recovery_changes_nothing, .timeout = 3000)
{
    for (uint64_t seed = 1; seed <= seeds(50); seed++)
        crash_run(seed + 1000000, true);
}

/* Recovery of the same image twice, and of what recovery left, gives the same log. */
Test(recover, twice_gives_the_same, .timeout = 3000)
{
    for (uint64_t seed = 2000000; seed < 2000000 + seeds(40); seed++) {
        struct fixture f;
        struct random random;
        random_init(&random, seed);
        fixture_init(&f, seed);
        cr_assert_eq(fixture_open(&f), 0);
        live(&f, &random, 200);
        fixture_crash(&f, seed);
        struct sim_disk *image = sim_disk_copy(f.disk, 1);
        uint64_t ends[3], counts[3];
        for (int i = 0; i < 3; i++) {
            if (i == 1) { // the untouched image again
                sim_disk_free(f.disk);
                f.disk = image;
                f.io->ops->free(f.io);
                fixture_io(&f, seed);
            }
            cr_assert_eq(fixture_open(&f), 0, "%s %s", f.result.path, f.result.text);
            ends[i] = f.result.end_lsn;
            counts[i] = f.count;
            fixture_crash(&f, seed); // nothing was appended
        }
        cr_assert_eq(ends[0], ends[1]);
        cr_assert_eq(counts[0], counts[1]);
        cr_assert_eq(counts[1], counts[2]);
        cr_assert_geq(ends[2], ends[1]); // behind its CUT, if there is one
        fixture_deinit(&f);
    }
}

/* ---- a filled log, for damage ---- */

#define FILLED_GROUPS 130 // of one entry of 100 KB each: three files full, the fourth is open

static char *file_path(uint64_t number)
{
    static char path[4][64];
    static int next;
    char *text = path[next++ % 4];
    snprintf(text, 64, "wal/%016llx.wal", (unsigned long long)number);
    return text;
}

static void fill(struct fixture *f, uint64_t seed)
{
    fixture_init(f, seed);
    cr_assert_eq(fixture_open(f), 0);
    for (int i = 0; i < FILLED_GROUPS; i++) {
        while (fixture_append(f, 100000) == E_FULL)
            fixture_turn(f);
        wal_group_end(f->wal);
        if (i % 3 == 0)
            fixture_turn(f);
    }
    fixture_flush(f);
    fixture_idle(f, 500 * NS_PER_MS); // a MARK, spares
    fixture_end_life(f, seed);
    sim_disk_settle(f->disk);
}

/* A copy of a filled log, so that each case begins with the same. */
static void fill_copy(struct fixture *f, const struct fixture *from)
{
    *f = *from;
    f->disk = sim_disk_copy(from->disk, 7);
    f->options.arena = &f->arena;
    f->options.random = &f->random;
    f->options.context = f->recover.context = f;
    f->entries = malloc(from->count * sizeof(*f->entries));
    memcpy(f->entries, from->entries, from->count * sizeof(*f->entries));
    f->capacity = f->count;
    f->payload = malloc(2 * MIB);
    fixture_io(f, 7);
}

/* Which file the LSN of an entry's group lies in, and where. */
struct spot_of {
    uint64_t number;
    uint64_t offset;
    uint64_t lsn;
};
static struct spot_of locate(struct fixture *f, uint32_t entry)
{
    uint64_t lsn = align_down(f->entries[entry].lsn, DISK_BLOCK);
    for (uint64_t number = 1; number < 100; number++) {
        struct sim_file *file = sim_disk_find(f->disk, file_path(number));
        struct disk_group group;
        if (file == NULL)
            continue;
        sim_file_read(file, (uint8_t *)&group, DISK_SEGMENT_DATA, sizeof(group));
        uint64_t base = le64_get(group.lsn);
        uint64_t offset = DISK_SEGMENT_DATA + lsn - base;
        if (lsn < base || offset >= file->size)
            continue;
        sim_file_read(file, (uint8_t *)&group, offset, sizeof(group));
        if (le64_get(group.lsn) == lsn)
            return (struct spot_of){number, offset, lsn};
    }
    cr_assert_fail("entry %u lies nowhere", entry);
    return (struct spot_of){0};
}

static uint64_t chain_before(struct fixture *f, uint32_t entry)
{
    struct spot_of spot = locate(f, entry - 1);
    struct disk_group disk;
    sim_file_read(sim_disk_find(f->disk, file_path(spot.number)), (uint8_t *)&disk, spot.offset,
                  sizeof(disk));
    return le64_get(disk.chain);
}

/* Takes an entry's group out of its file, lets `change` work on it, stamps it anew and puts it
 * back; with the right chain, or with the one that it had. */
static void rewrite_group(struct fixture *f, uint32_t entry, bool right_chain,
                          void (*change)(uint8_t *bytes, struct group_head *head))
{
    struct spot_of spot = locate(f, entry);
    struct sim_file *file = sim_disk_find(f->disk, file_path(spot.number));
    uint8_t *bytes = calloc(1, 2 * MIB);
    struct disk_group disk;
    sim_file_read(file, (uint8_t *)&disk, spot.offset, sizeof(disk));
    uint32_t payload = le32_get(disk.payload_bytes);
    sim_file_read(file, bytes, spot.offset, group_total_bytes(payload));
    struct group_head head = {.type = disk.type,
                              .payload_bytes = payload,
                              .entry_count = le32_get(disk.entry_count),
                              .lsn = le64_get(disk.lsn),
                              .number = le64_get(disk.number),
                              .append_time_ms = le64_get(disk.append_time_ms),
                              .generation = le64_get(disk.generation),
                              .durable_lsn = le64_get(disk.durable_lsn)};
    head.chain = chain_before(f, entry);
    change(bytes, &head);
    (void)group_stamp_replicated(bytes, &head, group_payload_checksum(bytes, head.payload_bytes));
    if (!right_chain)
        ((struct disk_group *)bytes)->chain = disk.chain;
    group_stamp_local(bytes, head.generation, head.durable_lsn);
    sim_disk_put(f->disk, file_path(spot.number), bytes, spot.offset,
                 group_total_bytes(head.payload_bytes));
    free(bytes);
}

/* ---- the decision table, case by case ---- */

static void rewrite_header(struct fixture *f, uint64_t number, uint16_t version, uint32_t shard,
                           uint64_t says)
{
    uint8_t blocks[DISK_SEGMENT_DATA];
    struct segment_head head;
    struct sim_file *file = sim_disk_find(f->disk, file_path(number));
    sim_file_read(file, blocks, 0, sizeof(blocks));
    cr_assert_eq(segment_head_parse(blocks, &head), 0);
    head.shard_id = shard;
    head.number = says;
    segment_head_make(blocks, &head, 0);
    for (int copy = 0; copy < 2; copy++) {
        struct disk_segment *disk = (struct disk_segment *)(blocks + copy * DISK_BLOCK);
        disk->common.version = le16_make(version);
        uint64_t checksum = hash_xxh3(disk, DISK_BLOCK - 8);
        memcpy((uint8_t *)disk + DISK_BLOCK - 8, &checksum, 8);
    }
    sim_disk_put(f->disk, file_path(number), blocks, 0, sizeof(blocks));
}

static void case_newer(struct fixture *f)
{
    rewrite_header(f, 2, DISK_FORMAT_VERSION + 1, 3, 2);
}

static void case_foreign_shard(struct fixture *f)
{
    rewrite_header(f, 3, DISK_FORMAT_VERSION, 4, 3);
}

static void case_swapped(struct fixture *f)
{
    sim_disk_move(f->disk, file_path(2), "wal/aside");
    sim_disk_move(f->disk, file_path(3), file_path(2));
    sim_disk_move(f->disk, "wal/aside", file_path(3));
}

static void case_foreign_spare(struct fixture *f)
{
    rewrite_header(f, 6, DISK_FORMAT_VERSION, 9, 6);
}

static void case_missing_first(struct fixture *f)
{
    sim_disk_remove(f->disk, file_path(1));
}

static void case_missing_middle(struct fixture *f)
{
    sim_disk_remove(f->disk, file_path(2));
}

static void case_missing_newest(struct fixture *f)
{
    for (uint64_t number = 100; number > 4; number--) // the spares, and the file in use
        if (sim_disk_find(f->disk, file_path(number)) && number > 5)
            sim_disk_remove(f->disk, file_path(number));
    sim_disk_remove(f->disk, file_path(4));
}

static void case_missing_successor(struct fixture *f)
{
    sim_disk_remove(f->disk, file_path(5));
}

static void case_truncated(struct fixture *f)
{
    sim_disk_resize(f->disk, file_path(2), 4 * MIB - DISK_BLOCK);
}

static void case_zero_length(struct fixture *f)
{
    sim_disk_resize(f->disk, file_path(3), 0);
}

static void case_one_byte(struct fixture *f)
{
    sim_disk_resize(f->disk, file_path(5), 1); // the successor
}

static void case_too_long(struct fixture *f)
{
    sim_disk_put(f->disk, file_path(2), "x", 4 * MIB, 1);
}

static void case_bad_header(struct fixture *f)
{
    sim_disk_flip(f->disk, file_path(2), 100, 1);
    sim_disk_flip(f->disk, file_path(2), DISK_BLOCK + 50, 1);
}

static void case_all_zero(struct fixture *f)
{
    sim_disk_remove(f->disk, file_path(5));
    static const uint8_t zeros[DISK_BLOCK];
    sim_disk_put(f->disk, file_path(5), zeros, 4 * MIB - DISK_BLOCK, DISK_BLOCK);
}

static void checkpoint_at(struct fixture *f, uint32_t entry)
{
    struct spot_of spot = locate(f, entry);
    struct disk_group before;
    struct sim_file *file;
    uint32_t i = entry;
    struct spot_of last = spot;
    do {
        last = locate(f, --i);
    } while (last.lsn == spot.lsn);
    file = sim_disk_find(f->disk, file_path(last.number));
    sim_file_read(file, (uint8_t *)&before, last.offset, sizeof(before));
    f->recover.has_checkpoint = true;
    f->recover.first_file = 1;
    f->recover.from = (struct wal_position){.lsn = spot.lsn,
                                            .chain = le64_get(before.chain),
                                            .group_number = le64_get(before.number),
                                            .append_time_ms = le64_get(before.append_time_ms),
                                            .file_number = last.number};
}

static void case_bad_start(struct fixture *f)
{
    checkpoint_at(f, 100);
    sim_disk_flip(f->disk, file_path(f->recover.from.file_number), DISK_SEGMENT_DATA + 30, 1);
}

static void case_bad_older_start(struct fixture *f)
{
    checkpoint_at(f, 100);
    sim_disk_flip(f->disk, file_path(2), DISK_SEGMENT_DATA + 30, 1);
}

static void unknown_type(uint8_t *bytes, struct group_head *head)
{
    (void)head;
    ((struct disk_entry *)(bytes + GROUP_HEADER_BYTES))->type = 200;
}

static void case_unknown_entry(struct fixture *f)
{
    rewrite_group(f, 50, true, unknown_type);
}

static void entry_too_long(uint8_t *bytes, struct group_head *head)
{
    (void)head;
    ((struct disk_entry *)(bytes + GROUP_HEADER_BYTES))->payload_bytes = le32_make(UINT32_MAX);
}

static void one_entry_more(uint8_t *bytes, struct group_head *head)
{
    (void)bytes;
    head->entry_count++;
}

static void case_bad_entry_length(struct fixture *f)
{
    rewrite_group(f, 50, true, entry_too_long);
}

static void case_bad_entry_count(struct fixture *f)
{
    rewrite_group(f, 50, true, one_entry_more);
}

static void case_bad_payload(struct fixture *f)
{
    struct spot_of spot = locate(f, 30);
    sim_disk_flip(f->disk, file_path(spot.number), spot.offset + 7000, 0x80);
}

static void case_bad_group_header(struct fixture *f)
{
    struct spot_of spot = locate(f, 30);
    sim_disk_flip(f->disk, file_path(spot.number), spot.offset + 41, 0x80);
}

static void case_bad_padding(struct fixture *f)
{
    struct spot_of spot = locate(f, 31);
    sim_disk_flip(f->disk, file_path(spot.number), spot.offset - 1, 1); // end of the group before
}

static void other_payload(uint8_t *bytes, struct group_head *head)
{
    (void)head;
    bytes[GROUP_HEADER_BYTES + 500] ^= 1; // with a right checksum, as an older write would have it
}

static void case_broken_chain(struct fixture *f)
{
    rewrite_group(f, 30, false, other_payload);
}

static void other_number(uint8_t *bytes, struct group_head *head)
{
    (void)bytes;
    head->number += 5;
}

static void case_broken_number(struct fixture *f)
{
    rewrite_group(f, 30, true, other_number);
}

/* A whole file falls back to what it was before: nothing at all. */
static void case_lost_file_content(struct fixture *f)
{
    struct sim_file *file = sim_disk_find(f->disk, file_path(3));
    uint8_t *zeros = calloc(1, file->size - DISK_SEGMENT_DATA);
    sim_disk_put(f->disk, file_path(3), zeros, DISK_SEGMENT_DATA, file->size - DISK_SEGMENT_DATA);
    free(zeros);
}

/* The newest groups are gone without a trace, but a checkpoint knows that they were there. */
static void case_lost_tail(struct fixture *f)
{
    struct spot_of spot = locate(f, FILLED_GROUPS - 2);
    struct sim_file *file = sim_disk_find(f->disk, file_path(spot.number));
    uint8_t *zeros = calloc(1, file->size - spot.offset);
    sim_disk_put(f->disk, file_path(spot.number), zeros, spot.offset, file->size - spot.offset);
    free(zeros);
    f->recover.proven_lsn = f->entries[FILLED_GROUPS - 1].lsn;
}

static void case_clean_but_damaged_behind(struct fixture *f)
{
    checkpoint_at(f, FILLED_GROUPS - 1);
    f->recover.clean = true;
    struct spot_of spot = locate(f, FILLED_GROUPS - 1);
    /* The MARK behind it has to go too, or it would be E < D. */
    struct sim_file *file = sim_disk_find(f->disk, file_path(spot.number));
    uint8_t *zeros = calloc(1, file->size - spot.offset);
    sim_disk_put(f->disk, file_path(spot.number), zeros, spot.offset + 5 * DISK_BLOCK,
                 file->size - spot.offset - 5 * DISK_BLOCK);
    free(zeros);
}

static void case_clean_but_went_on(struct fixture *f)
{
    checkpoint_at(f, FILLED_GROUPS - 1);
    f->recover.clean = true;
}

/* The last group is torn and no group behind it proves it: E is where it begins. */
static void case_torn_tail(struct fixture *f)
{
    struct spot_of spot = locate(f, FILLED_GROUPS - 1);
    struct sim_file *file = sim_disk_find(f->disk, file_path(spot.number));
    uint8_t *zeros = calloc(1, file->size - spot.offset);
    sim_disk_put(f->disk, file_path(spot.number), zeros, spot.offset + 5 * DISK_BLOCK,
                 file->size - spot.offset - 5 * DISK_BLOCK);
    free(zeros);
    f->committed = spot.lsn;
}

static void case_intact(struct fixture *f)
{
    (void)f;
}

static void case_one_header_copy(struct fixture *f)
{
    sim_disk_flip(f->disk, file_path(2), 100, 1);
    sim_disk_flip(f->disk, file_path(3), DISK_BLOCK + 100, 1);
}

static void case_damaged_spare(struct fixture *f)
{
    sim_disk_resize(f->disk, file_path(7), 12345);
    sim_disk_flip(f->disk, file_path(8), 100, 1);
    sim_disk_flip(f->disk, file_path(8), DISK_BLOCK + 100, 1);
}

static void case_missing_spare(struct fixture *f)
{
    sim_disk_remove(f->disk, file_path(6));
}

static void case_hole(struct fixture *f)
{
    static struct recover_hole hole;
    struct spot_of spot = locate(f, 30);
    case_bad_payload(f);
    hole = (struct recover_hole){spot.lsn, locate(f, 31).lsn};
    f->recover.hole = &hole;
}

static const struct {
    char letter;
    void (*damage)(struct fixture *f);
    enum damage_kind kind;
    uint64_t file; // that must be named; 0: any
} scenarios[] = {
    {'A', case_newer, DAMAGE_NEWER_FORMAT, 2},
    {'B', case_foreign_shard, DAMAGE_FOREIGN_FILE, 3},
    {'B', case_swapped, DAMAGE_FOREIGN_FILE, 2},
    {'B', case_foreign_spare, DAMAGE_FOREIGN_FILE, 6},
    {'C', case_missing_first, DAMAGE_MISSING_FILE, 1},
    {'C', case_missing_middle, DAMAGE_MISSING_FILE, 2},
    {'C', case_missing_newest, DAMAGE_MISSING_FILE, 4},
    {'C', case_missing_successor, DAMAGE_MISSING_FILE, 5},
    {'D', case_truncated, DAMAGE_TRUNCATED_FILE, 2},
    {'D', case_zero_length, DAMAGE_TRUNCATED_FILE, 3},
    {'D', case_one_byte, DAMAGE_TRUNCATED_FILE, 5},
    {'D', case_too_long, DAMAGE_TRUNCATED_FILE, 2},
    {'E', case_bad_header, DAMAGE_BAD_HEADER, 2},
    {'E', case_all_zero, DAMAGE_BAD_HEADER, 5},
    {'F', case_bad_start, DAMAGE_BAD_GROUP, 0},
    {'F', case_bad_older_start, DAMAGE_BAD_GROUP, 2},
    {'G', case_unknown_entry, DAMAGE_UNKNOWN_ENTRY, 2},
    {'H', case_bad_entry_length, DAMAGE_BAD_ENTRY, 2},
    {'H', case_bad_entry_count, DAMAGE_BAD_ENTRY, 2},
    {'I', case_bad_payload, DAMAGE_BAD_GROUP, 0},
    {'I', case_bad_group_header, DAMAGE_BAD_GROUP, 0},
    {'I', case_bad_padding, DAMAGE_BAD_GROUP, 0},
    {'J', case_broken_chain, DAMAGE_BROKEN_CHAIN, 0},
    {'J', case_broken_number, DAMAGE_BROKEN_CHAIN, 0},
    {'K', case_lost_file_content, DAMAGE_SHORT_OF_PROVEN, 2},
    {'K', case_lost_tail, DAMAGE_SHORT_OF_PROVEN, 4},
    {'L', case_clean_but_damaged_behind, DAMAGE_BAD_GROUP, 4},
    {'M', case_clean_but_went_on, DAMAGE_BROKEN_CHAIN, 4},
    {'N', case_hole, DAMAGE_NONE, 0},
    {'O', case_torn_tail, DAMAGE_NONE, 0},
    {'P', case_intact, DAMAGE_NONE, 0},
    {'P', case_one_header_copy, DAMAGE_NONE, 0},
    {'P', case_damaged_spare, DAMAGE_NONE, 0},
    {'P', case_missing_spare, DAMAGE_NONE, 0},
};

static const struct recover_case *case_of(char letter)
{
    for (uint32_t i = 0; i < recover_case_count; i++)
        if (recover_cases[i].letter == letter)
            return &recover_cases[i];
    return NULL;
}

/* A scenario that gives up or skips a group makes the model's check of replay meaningless. */
static int ignore_entry(void *context, const struct wal_view *view)
{
    (void)context;
    (void)view;
    return 0;
}

Test(recover, every_case_of_the_table_decides_as_it_says, .timeout = 120)
{
    struct fixture filled;
    uint32_t seen = 0;
    fill(&filled, 40);
    for (size_t i = 0; i < ARRAY_COUNT(scenarios); i++) {
        struct fixture f;
        const struct recover_case *rule = case_of(scenarios[i].letter);
        cr_assert_not_null(rule);
        seen |= 1u << (scenarios[i].letter - 'A');
        fill_copy(&f, &filled);
        scenarios[i].damage(&f);
        if (scenarios[i].letter == 'N')
            f.recover.apply = ignore_entry;
        uint64_t before = sim_disk_hash(f.disk);
        cr_assert_eq(arena_init(&f.arena, wal_arena_bytes(&f.options) + MIB, false), 0);
        int status = wal_open(&f.options, &f.recover, &f.result, &f.wal);
        cr_assert_eq(f.result.rule, rule->letter, "scenario %zu (%c) fell under %c: %s %s", i,
                     rule->letter, f.result.rule, f.result.path, f.result.text);
        cr_assert_eq(status, rule->status, "scenario %zu: %s", i, status_name(status));
        cr_assert_eq(f.result.damage, scenarios[i].kind, "scenario %zu: %s", i,
                     damage_kind_name(f.result.damage));
        if (status < 0) {
            cr_assert_eq(sim_disk_hash(f.disk), before, "scenario %zu wrote", i);
            cr_assert_neq(f.result.text[0], '\0');
            if (scenarios[i].file != 0)
                cr_assert_str_eq(f.result.path, file_path(scenarios[i].file));
            cr_assert_lt(f.result.lsn_from, f.result.lsn_to);
            cr_assert_null(f.wal);
            arena_deinit(&f.arena);
        } else {
            cr_assert_eq(f.result.cut, rule->action == RECOVER_CUT);
            cr_assert_eq(fixture_append(&f, 100), f.result.cut ? E_FULL : 0);
            fixture_idle(&f, NS_PER_S);
            cr_assert_eq(fixture_append(&f, 100), 0, "the log does not go on");
            fixture_flush(&f);
        }
        fixture_deinit(&f);
    }
    for (uint32_t i = 0; i < recover_case_count; i++)
        cr_assert(seen >> (recover_cases[i].letter - 'A') & 1, "case %c has no scenario",
                  recover_cases[i].letter);
    fixture_deinit(&filled);
}

/* ---- damage everywhere ---- */

/* A flipped bit below D is refused, names file and group; nothing is cut away. */
Test(recover, no_flipped_bit_below_the_proven_mark_goes_unnoticed, .timeout = 3000)
{
    struct fixture f;
    struct random random;
    random_init(&random, 77);
    fixture_init(&f, 41);
    cr_assert_eq(fixture_open(&f), 0);
    for (int i = 0; i < 30; i++) {
        cr_assert_eq(fixture_append(&f, (uint32_t)random_below(&random, 6000)), 0);
        fixture_flush(&f);
    }
    fixture_idle(&f, 100 * NS_PER_MS);
    uint64_t end = wal_marks(f.wal).durable - DISK_BLOCK; // below the MARK
    fixture_end_life(&f, 41);
    sim_disk_settle(f.disk);
    for (uint64_t i = 0; i < seeds(300); i++) {
        uint64_t at = random_below(&random, end);
        if (i % 3 == 0) // headers are small: aim at them
            at = align_down(f.entries[random_below(&random, 30)].lsn, DISK_BLOCK) +
                 random_below(&random, GROUP_HEADER_BYTES);
        uint8_t mask = (uint8_t)(1u << random_below(&random, 8));
        sim_disk_flip(f.disk, file_path(1), DISK_SEGMENT_DATA + at, mask);
        uint64_t before = sim_disk_hash(f.disk);
        struct recover_result result;
        struct recover_log log;
        int status = recover_run(&f.options, &f.recover, &result, &log);
        cr_assert(status == E_CORRUPT || status == E_NEWER, "byte %llu mask %u: %s",
                  (unsigned long long)at, mask, status_name(status));
        cr_assert_str_eq(result.path, file_path(1));
        cr_assert_leq(result.offset, DISK_SEGMENT_DATA + at);
        cr_assert_gt(result.offset + 3 * DISK_BLOCK, DISK_SEGMENT_DATA + at);
        cr_assert_eq(sim_disk_hash(f.disk), before);
        sim_disk_flip(f.disk, file_path(1), DISK_SEGMENT_DATA + at, mask);
    }
    fixture_deinit(&f);
}

/* In the window that no group proves, a flip costs what was never proven, and is counted. */
Test(recover, damage_in_the_unproven_tail_is_dropped_and_counted)
{
    struct fixture f;
    fixture_init(&f, 42);
    cr_assert_eq(fixture_open(&f), 0);
    fixture_idle(&f, NS_PER_S);
    for (int i = 0; i < 5; i++) { // five groups of one turn: all carry the same durable_lsn
        cr_assert_eq(fixture_append(&f, 1000), 0);
        wal_group_end(f.wal);
    }
    fixture_flush(&f);
    f.disk->crash_keep_percent = 100;
    fixture_crash(&f, 42); // before the MARK
    sim_disk_flip(f.disk, file_path(1), DISK_SEGMENT_DATA + 2 * DISK_BLOCK + 700, 1);
    f.committed = 0;
    cr_assert_eq(fixture_open(&f), 0, "%s %s", f.result.path, f.result.text);
    cr_assert_eq(f.result.rule, 'O');
    cr_assert_eq(f.count, 2);
    cr_assert_eq(f.result.torn_bytes, DISK_BLOCK);
    cr_assert_eq(f.result.stale_bytes, 2 * DISK_BLOCK);
    /* What was dropped stays dropped, whatever is appended and however often it restarts. */
    fixture_idle(&f, NS_PER_S);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(fixture_append(&f, 1000), 0);
        fixture_flush(&f);
        fixture_crash(&f, 43);
        cr_assert_eq(fixture_open(&f), 0, "%s %s", f.result.path, f.result.text);
        cr_assert_eq(f.count, 3u + (uint32_t)i);
    }
    fixture_deinit(&f);
}

Test(recover, a_bad_header_in_the_unproven_tail_is_counted_as_bad)
{
    struct fixture f;
    fixture_init(&f, 43);
    cr_assert_eq(fixture_open(&f), 0);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(fixture_append(&f, 1000), 0);
        wal_group_end(f.wal);
    }
    fixture_flush(&f);
    f.disk->crash_keep_percent = 100;
    fixture_crash(&f, 43);
    sim_disk_flip(f.disk, file_path(1), DISK_SEGMENT_DATA + 2 * DISK_BLOCK + 20, 1);
    f.committed = 0;
    cr_assert_eq(fixture_open(&f), 0);
    cr_assert_eq(f.result.bad_bytes, DISK_BLOCK);
    cr_assert_eq(f.count, 2);
    fixture_deinit(&f);
}

Test(recover, a_file_cut_off_at_any_block_is_refused, .timeout = 120)
{
    struct fixture filled;
    fill(&filled, 44);
    for (uint64_t blocks = 0; blocks < 4 * MIB / DISK_BLOCK; blocks += blocks < 6 ? 1 : 111) {
        for (uint64_t number = 1; number <= 5; number += 2) { // closed, closed, successor
            struct fixture f;
            fill_copy(&f, &filled);
            sim_disk_resize(f.disk, file_path(number), blocks * DISK_BLOCK);
            cr_assert_eq(fixture_open(&f), E_CORRUPT);
            cr_assert_str_eq(f.result.path, file_path(number));
            fixture_deinit(&f);
        }
    }
    fixture_deinit(&filled);
}

Test(recover, unknown_entries_that_may_be_ignored_are_stepped_over)
{
    struct fixture f;
    struct wal_view view;
    fixture_init(&f, 45);
    cr_assert_eq(fixture_open(&f), 0);
    struct wal_entry entry = {.type = 201,
                              .flags = ENTRY_IGNORABLE,
                              .pieces = {{"from the future", 15}},
                              .piece_count = 1};
    cr_assert_eq(fixture_append(&f, 100), 0);
    cr_assert_eq(wal_append(f.wal, &entry, &view), 0);
    cr_assert_eq(fixture_append(&f, 100), 0);
    fixture_flush(&f);
    fixture_end_life(&f, 45);
    cr_assert_eq(fixture_open(&f), 0, "%s %s", f.result.path, f.result.text);
    cr_assert_eq(f.count, 2);
    cr_assert_eq(f.result.entries, 3);
    fixture_deinit(&f);
}

static int refuse_entry(void *context, const struct wal_view *view)
{
    struct fixture *f = context;
    return view->lsn == f->entries[60].lsn ? E_CORRUPT : 0;
}

Test(recover, an_entry_that_apply_refuses_is_named)
{
    struct fixture f;
    fill(&f, 46);
    f.recover.apply = refuse_entry;
    struct spot_of spot = locate(&f, 60);
    cr_assert_eq(fixture_open(&f), E_CORRUPT);
    cr_assert_eq(f.result.damage, DAMAGE_BAD_ENTRY);
    cr_assert_eq(f.result.rule, 'H');
    cr_assert_str_eq(f.result.path, file_path(spot.number));
    cr_assert_eq(f.result.offset, spot.offset + GROUP_HEADER_BYTES);
    fixture_deinit(&f);
}

/* Groups of one size, so that a recycled file's old groups begin exactly where new ones would. */
Test(recover, old_groups_of_a_recycled_file_are_never_taken_for_new_ones)
{
    struct fixture f;
    fixture_init(&f, 47);
    f.options.bytes_budget = 16 * MIB;
    cr_assert_eq(fixture_open(&f), 0);
    uint32_t recycled_tails = 0;
    for (int life = 0; life < 12; life++) {
        for (int i = 0; i < 25 + life; i++) {
            while (fixture_append(&f, 250000) == E_FULL)
                fixture_turn(&f);
            wal_group_end(f.wal);
            fixture_flush(&f);
            fixture_checkpoint(&f);
        }
        struct segment *open = wal_segment_at(f.wal, wal_segment_count(f.wal) - 1);
        struct disk_group behind;
        char path[64];
        snprintf(path, sizeof(path), "wal/%016llx.wal", (unsigned long long)open->number);
        sim_file_read(sim_disk_find(f.disk, path), (uint8_t *)&behind,
                      segment_offset(open, open->end_lsn), sizeof(behind));
        recycled_tails += le32_get(behind.magic) == DISK_MAGIC_GROUP;
        fixture_crash(&f, 47);
        cr_assert_eq(fixture_open(&f), 0, "%s %s", f.result.path, f.result.text);
        cr_assert_eq(f.result.torn_bytes + f.result.bad_bytes + f.result.stale_bytes, 0);
        cr_assert_not(f.result.cut);
    }
    cr_assert_gt(recycled_tails, 3, "no old group ever lay behind the tail");
    fixture_deinit(&f);
}

/* A block that lands at another place is damage at both. */
Test(recover, a_misdirected_write_is_noticed_at_both_places)
{
    struct fixture f;
    fill(&f, 48);
    struct spot_of from = locate(&f, 20);
    struct spot_of to = locate(&f, 25);
    uint8_t block[DISK_BLOCK];
    sim_file_read(sim_disk_find(f.disk, file_path(from.number)), block, from.offset, DISK_BLOCK);
    sim_disk_put(f.disk, file_path(to.number), block, to.offset, DISK_BLOCK);
    cr_assert_eq(fixture_open(&f), E_CORRUPT);
    cr_assert_eq(f.result.lsn_from, to.lsn);
    cr_assert_eq(f.result.offset, to.offset);
    fixture_deinit(&f);
}

/* D20: a start on a full disk, also when it has to cut. */
Test(recover, a_torn_tail_on_a_full_disk_still_starts)
{
    struct fixture f;
    fill(&f, 49);
    case_torn_tail(&f);
    f.disk->capacity_blocks = f.disk->allocated_blocks; // nothing is free
    cr_assert_eq(fixture_open(&f), 0, "%s %s", f.result.path, f.result.text);
    cr_assert(f.result.cut);
    fixture_idle(&f, NS_PER_S); // void files become spares
    cr_assert_eq(fixture_append(&f, 100), 0);
    fixture_flush(&f);
    fixture_deinit(&f);
}

/* What a killed process left in flight holds its files until it has ended. */
Test(recover, waits_for_writes_of_a_process_that_was_killed)
{
    struct fixture f;
    fill(&f, 50);
    struct sim_file *file = sim_disk_find(f.disk, file_path(4));
    int other;
    file->lock = &other;
    uint64_t began = io_sim_now_ns(f.io);
    cr_assert_eq(fixture_open(&f), E_LOCKED);
    cr_assert_geq(io_sim_now_ns(f.io) - began, 2 * NS_PER_S);
    file->lock = NULL;
    cr_assert_eq(fixture_open(&f), 0);
    fixture_deinit(&f);
}

Test(recover, a_number_far_out_of_the_row_is_a_stranger)
{
    struct fixture f;
    fill(&f, 51);
    sim_disk_put(f.disk, "wal/fffffffffffffff0.wal", "x", 0, 1);
    cr_assert_eq(fixture_open(&f), E_FOREIGN);
    cr_assert_not_null(strstr(f.result.path, "fffffffffffffff0"));
    fixture_deinit(&f);
}

/* Found by fuzzing: the list of files had no memory then, and qsort() wants some. */
Test(recover, a_log_without_any_file_is_refused)
{
    struct fixture f;
    fill(&f, 52);
    while (f.disk->seen.count > 0) { // all but directories
        uint32_t i = 0;
        while (i < f.disk->seen.count && f.disk->seen.names[i].file->is_dir)
            i++;
        if (i == f.disk->seen.count)
            break;
        sim_disk_remove(f.disk, f.disk->seen.names[i].path);
    }
    cr_assert_eq(fixture_open(&f), E_CORRUPT);
    cr_assert_eq(f.result.damage, DAMAGE_MISSING_FILE);
    fixture_deinit(&f);
}
