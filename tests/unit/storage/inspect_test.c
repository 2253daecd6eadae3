/* Inspection and salvage: what is shown, what is never written, what a hole costs. On the simulated
 * disk. */
#include "tests/unit/storage/wal_fixture.h"

#include "storage/inspect.h"
#include "storage/store.h"

/* A store of one shard made by store_dir_open(), with a log that the fixture's model knows. */
struct site {
    struct fixture f;
    struct store_identity identity;
    int lock_fd;
    char text[512];
    /* what inspection reported */
    uint32_t counts[INSPECT_LOG + 1];
    uint32_t damaged;
    struct inspect_item log, last_damage;
    struct recover_result result;
    char damage_path[INSPECT_LOG * 1000];
    uint64_t groups;
};

static void site_init(struct site *s, uint64_t seed)
{
    memset(s, 0, sizeof(*s));
    fixture_init(&s->f, seed);
    s->identity = (struct store_identity){.shard_count = 1, .segment_bytes = 4 * MIB};
    cr_assert_eq(store_dir_open(s->f.io, "data", false, &s->identity, &s->lock_fd, s->text), 0);
    memcpy(s->f.options.store_id, s->identity.store_id, 16);
    s->f.options.shard_id = 0;
    s->f.options.dir = "data/shard-000/wal";
    s->f.entry_type = ENTRY_TOPIC;
}

/* Appends `count` entries, ends the life; the disk is quiet. */
static void site_fill(struct site *s, uint32_t count, uint32_t len)
{
    cr_assert_eq(fixture_open(&s->f), 0, "%s %s", s->f.result.path, s->f.result.text);
    for (uint32_t i = 0; i < count; i++) {
        while (fixture_append(&s->f, len) == E_FULL)
            fixture_turn(&s->f);
        wal_group_end(s->f.wal);
        if (i % 4 == 3)
            fixture_flush(&s->f);
    }
    fixture_flush(&s->f);
    fixture_idle(&s->f, 50 * NS_PER_MS);
    fixture_end_life(&s->f, 1);
    sim_disk_settle(s->f.disk);
}

static void site_report(void *context, const struct inspect_item *item)
{
    struct site *s = context;
    s->counts[item->kind]++;
    cr_assert_not_null(item->path);
    cr_assert_not_null(item->text);
    if (item->is_damage) {
        s->damaged++;
        s->last_damage = *item;
        snprintf(s->damage_path, sizeof(s->damage_path), "%s", item->path);
    }
    if (item->kind == INSPECT_LOG) {
        s->log = *item;
        s->result = *item->result;
    }
    if (item->kind == INSPECT_SEGMENT)
        s->groups += item->groups;
}

static int site_inspect(struct site *s, bool verify)
{
    uint64_t before = sim_disk_hash(s->f.disk);
    memset(s->counts, 0, sizeof(s->counts));
    s->damaged = 0;
    s->groups = 0;
    struct inspect_options options = {.dir = "data",
                                      .shard = INSPECT_ALL_SHARDS,
                                      .verify = verify,
                                      .groups = verify,
                                      .context = s,
                                      .report = site_report};
    int status = inspect_run(s->f.io, &options, s->text);
    cr_assert_eq(sim_disk_hash(s->f.disk), before, "inspection wrote");
    return status;
}

static void site_deinit(struct site *s)
{
    fixture_deinit(&s->f);
}

/* Where the i-th entry of the model lies in the (first) segment file. */
static uint64_t offset_of(const struct site *s, uint32_t i)
{
    return DISK_SEGMENT_DATA + s->f.entries[i].lsn;
}

static const char *const first_file = "data/shard-000/wal/0000000000000001.wal";

Test(inspect, an_intact_store_is_shown_whole)
{
    struct site s;
    site_init(&s, 1);
    site_fill(&s, 40, 1000);
    cr_assert_eq(site_inspect(&s, true), 0, "%s", s.text);
    cr_assert_eq(s.counts[INSPECT_STORE], 1);
    cr_assert_eq(s.counts[INSPECT_LOG], 1);
    cr_assert_geq(s.counts[INSPECT_SEGMENT], 2);
    cr_assert_geq(s.counts[INSPECT_GROUP], 40);
    cr_assert_eq(s.groups, s.counts[INSPECT_GROUP]);
    cr_assert_eq(s.result.entries, 40);
    cr_assert_eq(s.damaged, 0);
    site_deinit(&s);
}

/* ---- transactions ---- */

enum spoil { SPOIL_NOTHING, SPOIL_RECORD, SPOIL_OFFSET, SPOIL_COUNT };

static int site_append(struct site *s, uint8_t type, const void *head, uint32_t head_len,
                       const void *rest, uint32_t rest_len)
{
    struct wal_view view;
    struct wal_entry entry = {.type = type,
                              .topic_id = type == ENTRY_COMMIT ? 0 : 1,
                              .pieces = {{head, head_len}, {rest, rest_len}},
                              .piece_count = rest ? 2 : 1};
    return wal_append(s->f.wal, &entry, &view);
}

/* A transaction as storage writes it, or with one thing wrong in it. Returns what inspection says. */
static int inspect_transaction(struct site *s, uint8_t spoiled_type, enum spoil spoil)
{
    uint8_t batch[3][400], *out;
    struct disk_staged_moved name = {.name.open_lsn = le64_make(128), .from = le64_make(144)};
    struct disk_txn_end end = {.name = name.name, .batch_count = le32_make(1)};
    struct disk_committed item = {.topic_id = le32_make(1),
                                  .position = le64_make(160),
                                  .size = le32_make(300),
                                  .record_count = le32_make(1)};
    uint32_t size = 0;
    for (int i = 0; i < 3; i++) {
        struct batch_builder builder;
        batch_builder_init(&builder, batch[i], sizeof(batch[i]));
        struct record record = {.timestamp_ms = 1, .value = {(const uint8_t *)"value", 5}};
        cr_assert_eq(batch_builder_add(&builder, &record), 0);
        size = batch_builder_finish(&builder, CODEC_NONE, PRODUCER_NONE, 0, 0, NULL, 0, &out);
        batch_set_head(batch[i], i == 0 ? 5 : STAGED_OFFSET, 0);
    }
    int which = spoiled_type == ENTRY_BATCH ? 0 : spoiled_type == ENTRY_STAGED ? 1 : 2;
    if (spoil == SPOIL_RECORD)
        batch[which][size - 2] ^= 1;
    if (spoil == SPOIL_OFFSET)
        batch_set_head(batch[which], 7, 0);
    if (spoil == SPOIL_COUNT)
        end.batch_count = le32_make(2);
    cr_assert_eq(fixture_open(&s->f), 0);
    cr_assert_eq(site_append(s, ENTRY_BATCH, batch[0], size, NULL, 0), 0);
    cr_assert_eq(site_append(s, ENTRY_STAGED, &name.name, sizeof(name.name), batch[1], size), 0);
    cr_assert_eq(site_append(s, ENTRY_STAGED_MOVED, &name, sizeof(name), batch[2], size), 0);
    cr_assert_eq(site_append(s, ENTRY_COMMIT, &end, sizeof(end), &item, sizeof(item)), 0);
    end.batch_count = le32_make(0);
    cr_assert_eq(site_append(s, ENTRY_ABORT, &end, sizeof(end), NULL, 0), 0);
    fixture_flush(&s->f);
    fixture_idle(&s->f, 50 * NS_PER_MS);
    fixture_end_life(&s->f, 1);
    sim_disk_settle(s->f.disk);
    return site_inspect(s, true);
}

Test(inspect, transactions_are_verified_entry_by_entry)
{
    static const struct {
        uint8_t type;
        enum spoil spoil;
        const char *text;
    } cases[] = {
        {ENTRY_STAGED, SPOIL_NOTHING, NULL},
        {ENTRY_BATCH, SPOIL_RECORD, "a batch in it fails its CRC-32C"},
        {ENTRY_STAGED, SPOIL_RECORD, "a staged batch in it fails its CRC-32C"},
        {ENTRY_STAGED_MOVED, SPOIL_RECORD, "a staged batch in it fails its CRC-32C"},
        {ENTRY_STAGED, SPOIL_OFFSET, "a staged batch in it is not well-formed"},
        {ENTRY_COMMIT, SPOIL_COUNT, "a COMMIT or ABORT in it is not well-formed"},
    };
    for (uint32_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct site s;
        site_init(&s, 1);
        int status = inspect_transaction(&s, cases[i].type, cases[i].spoil);
        cr_assert_eq(status, cases[i].text ? E_CORRUPT : 0, "%u: %s", i, s.text);
        cr_assert_eq(s.damaged, cases[i].text ? 1 : 0);
        if (cases[i].text)
            cr_assert_str_eq(s.last_damage.text, cases[i].text);
        site_deinit(&s);
    }
}

Test(inspect, a_running_broker_is_left_in_peace)
{
    struct site s;
    site_init(&s, 1);
    cr_assert_eq(
        inspect_run(s.f.io,
                    &(struct inspect_options){.dir = "data", .report = site_report, .context = &s},
                    s.text),
        E_LOCKED);
    cr_assert_not_null(strstr(s.text, "in use"));
    site_deinit(&s);
}

Test(inspect, no_store_and_no_shard_are_errors_with_a_text)
{
    struct site s;
    site_init(&s, 1);
    fixture_end_life(&s.f, 2);
    struct inspect_options options = {.dir = "wal", .report = site_report, .context = &s};
    cr_assert_eq(inspect_run(s.f.io, &options, s.text), E_NOT_FOUND);
    cr_assert_neq(s.text[0], '\0');
    options.dir = "data";
    options.shard = 5;
    cr_assert_eq(inspect_run(s.f.io, &options, s.text), E_INVALID);
    cr_assert_not_null(strstr(s.text, "0..0"));
    site_deinit(&s);
}

Test(inspect, damage_below_the_proven_mark_is_named_with_place_and_range)
{
    struct site s;
    site_init(&s, 1);
    site_fill(&s, 40, 1000);
    sim_disk_flip(s.f.disk, first_file, offset_of(&s, 17) + 100, 4);
    cr_assert_eq(site_inspect(&s, false), E_CORRUPT);
    uint64_t group = align_down(s.f.entries[17].lsn, DISK_BLOCK);
    cr_assert_eq(s.result.damage, DAMAGE_BAD_GROUP);
    cr_assert_str_eq(s.result.path, first_file);
    cr_assert_eq(s.result.offset, DISK_SEGMENT_DATA + group);
    cr_assert_eq(s.result.lsn_from, group);
    cr_assert_eq(s.result.lsn_to, group + DISK_BLOCK);
    site_deinit(&s);
}

Test(inspect, verify_finds_damage_that_a_start_does_not_read)
{
    struct site s;
    site_init(&s, 1);
    site_fill(&s, 40, 100000); // 4 MB: the log has gone on to the second file
    cr_assert_eq(site_inspect(&s, true), 0, "%s", s.text);
    /* A file that a checkpoint has left behind. */
    sim_disk_flip(s.f.disk, first_file, offset_of(&s, 3) + 5000, 1);
    cr_assert_eq(site_inspect(&s, true), E_CORRUPT);
    cr_assert_geq(s.damaged, 1);
    site_deinit(&s);
}

/* ---- salvage ---- */

/* Takes entries [from, from + count) out of the model, as the hole did with the log. */
static void model_remove(struct fixture *f, uint32_t from, uint32_t count)
{
    memmove(&f->entries[from], &f->entries[from + count],
            (f->count - from - count) * sizeof(*f->entries));
    f->count -= count;
}

Test(salvage, an_intact_log_has_nothing_to_give_up_behind_its_end)
{
    struct site s;
    site_init(&s, 1);
    site_fill(&s, 10, 1000);
    uint64_t before = sim_disk_hash(s.f.disk);
    uint64_t end = 10 * DISK_BLOCK;
    cr_assert_eq(
        inspect_salvage(s.f.io, "data", 0, end, end + 40 * DISK_BLOCK, false, &s.result, s.text),
        E_INVALID);
    cr_assert_not_null(strstr(s.text, "intact"));
    cr_assert_eq(sim_disk_hash(s.f.disk), before);
    site_deinit(&s);
}

/* The way past a group whose checksums are right and whose entries the broker refuses. */
Test(salvage, a_good_group_is_given_up_when_the_operator_names_it)
{
    struct site s;
    site_init(&s, 1);
    site_fill(&s, 10, 1000);
    uint64_t from = align_down(s.f.entries[4].lsn, DISK_BLOCK);
    cr_assert_eq(
        inspect_salvage(s.f.io, "data", 0, from, from + DISK_BLOCK, false, &s.result, s.text), 0,
        "%s", s.text);
    model_remove(&s.f, 4, 1);
    cr_assert_eq(fixture_open(&s.f), 0, "%s %s", s.f.result.path, s.f.result.text);
    cr_assert_eq(s.f.count, 9);
    site_deinit(&s);
}

Test(salvage, the_range_must_be_a_range_and_begin_at_the_damage)
{
    struct site s;
    site_init(&s, 1);
    site_fill(&s, 40, 1000);
    sim_disk_flip(s.f.disk, first_file, offset_of(&s, 17) + 100, 4);
    uint64_t group = align_down(s.f.entries[17].lsn, DISK_BLOCK);
    uint64_t before = sim_disk_hash(s.f.disk);
    uint64_t ranges[][2] = {
        {group, group}, {group + 1, group + 4097}, {group + 4096, group + 8192}};
    for (size_t i = 0; i < ARRAY_COUNT(ranges); i++)
        cr_assert_eq(inspect_salvage(s.f.io, "data", 0, ranges[i][0], ranges[i][1], false,
                                     &s.result, s.text),
                     E_INVALID, "%zu: %s", i, s.text);
    cr_assert_eq(inspect_salvage(s.f.io, "data", 3, group, group + 4096, false, &s.result, s.text),
                 E_INVALID);
    cr_assert_eq(sim_disk_hash(s.f.disk), before);
    site_deinit(&s);
}

Test(salvage, loses_exactly_the_group_that_was_named)
{
    struct site s;
    site_init(&s, 1);
    site_fill(&s, 40, 1000);
    sim_disk_flip(s.f.disk, first_file, offset_of(&s, 17) + 100, 4);
    cr_assert_eq(fixture_open(&s.f), E_CORRUPT);
    uint64_t group = align_down(s.f.entries[17].lsn, DISK_BLOCK);
    cr_assert_eq(inspect_salvage(s.f.io, "data", 0, group, group + 4096, true, &s.result, s.text),
                 0, "%s", s.text);
    cr_assert_eq(fixture_open(&s.f), E_CORRUPT, "a dry run changed something");
    cr_assert_eq(inspect_salvage(s.f.io, "data", 0, group, group + 4096, false, &s.result, s.text),
                 0, "%s", s.text);
    cr_assert_eq(s.result.lost_bytes, 4096);
    model_remove(&s.f, 17, 1);
    /* Every later life takes the same step over the hole, also after more appends and a crash. */
    for (int life = 0; life < 3; life++) {
        cr_assert_eq(fixture_open(&s.f), 0, "life %d: %s %s", life, s.f.result.path,
                     s.f.result.text);
        cr_assert_eq(s.f.result.lost_bytes, 4096);
        cr_assert_eq(s.f.count, 39u + (uint32_t)life);
        while (fixture_append(&s.f, 500) == E_FULL)
            fixture_turn(&s.f);
        fixture_flush(&s.f);
        fixture_crash(&s.f, 7);
    }
    cr_assert_eq(site_inspect(&s, true), 0, "%s: %s", s.damage_path, s.text);
    site_deinit(&s);
}

Test(salvage, a_hole_to_the_end_drops_all_that_lies_behind)
{
    struct site s;
    site_init(&s, 1);
    site_fill(&s, 40, 1000);
    uint64_t group = align_down(s.f.entries[30].lsn, DISK_BLOCK);
    uint64_t end = align_up(s.f.entries[39].lsn, DISK_BLOCK) + DISK_BLOCK;
    sim_disk_flip(s.f.disk, first_file, offset_of(&s, 30) + 100, 4);
    /* Far behind everything that was ever written: nothing good lies at its end. */
    cr_assert_eq(inspect_salvage(s.f.io, "data", 0, group, group + 2 * DISK_BLOCK + 40960000, false,
                                 &s.result, s.text),
                 0, "%s", s.text);
    model_remove(&s.f, 30, 10);
    s.f.committed = group;
    cr_assert_eq(fixture_open(&s.f), 0, "%s %s", s.f.result.path, s.f.result.text);
    cr_assert_gt(s.f.result.end_lsn, end);
    cr_assert_eq(s.f.count, 30);
    while (fixture_append(&s.f, 500) == E_FULL)
        fixture_turn(&s.f);
    fixture_flush(&s.f);
    fixture_crash(&s.f, 9);
    cr_assert_eq(fixture_open(&s.f), 0, "%s %s", s.f.result.path, s.f.result.text);
    cr_assert_eq(s.f.count, 31);
    site_deinit(&s);
}

Test(salvage, a_range_that_ends_inside_proven_bytes_is_refused)
{
    struct site s;
    site_init(&s, 1);
    site_fill(&s, 40, 6000); // groups of two blocks
    uint64_t group = align_down(s.f.entries[20].lsn, DISK_BLOCK);
    sim_disk_flip(s.f.disk, first_file, offset_of(&s, 20) + 100, 4);
    uint64_t before = sim_disk_hash(s.f.disk);
    cr_assert_eq(
        inspect_salvage(s.f.io, "data", 0, group, group + DISK_BLOCK, false, &s.result, s.text),
        E_CORRUPT);
    cr_assert_not_null(strstr(s.text, "more damage"));
    cr_assert_eq(sim_disk_hash(s.f.disk), before);
    site_deinit(&s);
}

Test(salvage, a_missing_middle_file_can_be_given_up)
{
    struct site s;
    site_init(&s, 1);
    site_fill(&s, 120, 100000); // three files and more
    const char *gone = "data/shard-000/wal/0000000000000002.wal";
    sim_disk_remove(s.f.disk, gone);
    cr_assert_eq(site_inspect(&s, false), E_CORRUPT);
    cr_assert_eq(s.result.damage, DAMAGE_MISSING_FILE);
    cr_assert_str_eq(s.result.path, gone);
    uint64_t from = s.result.lsn_from, to = s.result.lsn_to;
    cr_assert_eq(inspect_salvage(s.f.io, "data", 0, from, to, false, &s.result, s.text), 0, "%s",
                 s.text);
    uint32_t first = fixture_index_at(&s.f, from), next = fixture_index_at(&s.f, to);
    cr_assert_gt(next, first);
    model_remove(&s.f, first, next - first);
    cr_assert_eq(fixture_open(&s.f), 0, "%s %s", s.f.result.path, s.f.result.text);
    cr_assert_eq(s.f.count, 120 - (next - first));
    site_deinit(&s);
}

Test(inspect, a_batch_that_fails_its_own_checksum_is_damage_even_in_a_good_group)
{
    struct site s;
    site_init(&s, 1);
    s.f.entry_type = ENTRY_BATCH; // the fixture's content is none
    site_fill(&s, 3, 1000);
    cr_assert_eq(site_inspect(&s, false), 0, "%s", s.text);
    cr_assert_eq(site_inspect(&s, true), E_CORRUPT);
    cr_assert_eq(s.last_damage.kind, INSPECT_SEGMENT);
    cr_assert_eq(s.last_damage.lsn_from, s.f.entries[0].lsn);
    site_deinit(&s);
}

/* Found by fuzzing: an empty list has no memory, and qsort() wants some. */
Test(inspect, a_log_without_any_file_is_damaged)
{
    struct site s;
    site_init(&s, 90);
    site_fill(&s, 4, 100);
    for (uint32_t i = 0; i < s.f.disk->seen.count;) {
        const struct sim_name *name = &s.f.disk->seen.names[i];
        if (!name->file->is_dir && strstr(name->path, "/wal/")) {
            sim_disk_remove(s.f.disk, name->path);
            i = 0;
        } else {
            i++;
        }
    }
    cr_assert_eq(site_inspect(&s, true), E_CORRUPT);
    cr_assert_eq(s.counts[INSPECT_SEGMENT], 0);
    site_deinit(&s);
}
