/* The log decides: after every entry, tables that are replayed from the start, and tables that were loaded from a checkpoint's
 * image in between, have the digest of those that lived. And entries that nobody can have written change nothing. */
#include "base/random.h"
#include "tests/unit/broker/group_fixture.h"

#define ENTRIES_MAX 400
#define BYTES_MAX 256

struct entry {
    enum { PLAIN, STAGED, GENERATION, DROP, TOPIC_GONE, PREPARE, END_COMMIT, END_ABORT } kind;
    uint64_t lsn, txn;
    uint8_t payload[BYTES_MAX];
    uint32_t payload_bytes;
};

static struct random rnd;
static struct entry entries[ENTRIES_MAX];
static uint32_t entry_count;
static uint32_t generations[5];

static uint64_t digest(struct groups *groups)
{
    struct table *tables[GROUPS_TABLES];
    uint64_t sum = 0;
    groups_tables(groups, tables);
    for (int i = 0; i < GROUPS_TABLES; i++)
        sum = sum * 1000003 + table_digest(tables[i]);
    return sum;
}

static int apply(struct groups *groups, const struct entry *entry)
{
    struct disk_txn_name name = {.coordinator = le32_make((uint32_t)entry->txn % 3),
                                 .open_lsn = le64_make(entry->txn)};
    struct wal_view view = {.lsn = entry->lsn,
                            .append_time_ms = 1700000000000 + entry->lsn / 1000,
                            .payload = entry->payload,
                            .payload_bytes = entry->payload_bytes};
    switch (entry->kind) {
    case PLAIN:
    case STAGED:
        return groups_apply_offset_commit(groups, &view);
    case GENERATION:
    case DROP:
    case TOPIC_GONE:
        return groups_apply_group(groups, &view);
    case PREPARE:
        groups_apply_prepare(groups, &name);
        return 0;
    case END_COMMIT:
    case END_ABORT:
        groups_apply_txn_end(groups, &name, entry->kind == END_COMMIT);
        return 0;
    }
    return E_INVALID;
}

/* ---- entries at random ---- */

static void make_commit(struct entry *entry)
{
    struct disk_offset_commit head = {
        .item_count = le32_make(1 + (uint32_t)random_below(&rnd, 4)),
        .generation = le32_make((uint32_t)random_below(&rnd, 5)),
        .group_length = 2,
        .member_length = (uint8_t)random_below(&rnd, 40),
        .flags = entry->kind == PLAIN && random_below(&rnd, 8) == 0 ? OFFSET_COMMIT_RESET : 0};
    if (entry->kind == STAGED)
        head.name = (struct disk_txn_name){.coordinator = le32_make((uint32_t)entry->txn % 3),
                                           .open_lsn = le64_make(entry->txn)};
    memset(entry->payload, 0, sizeof(entry->payload));
    memcpy(entry->payload, &head, sizeof(head));
    entry->payload[sizeof(head)] = 'g';
    entry->payload[sizeof(head) + 1] = (uint8_t)('0' + random_below(&rnd, 5));
    memset(entry->payload + sizeof(head) + 2, 'm', head.member_length);
    uint32_t at = (uint32_t)align_up(sizeof(head) + 2u + head.member_length, 8);
    for (uint32_t i = 0; i < le32_get(head.item_count); i++) {
        struct offset_item item = {le32_make(1 + (uint32_t)random_below(&rnd, 3)),
                                   le32_make((uint32_t)random_below(&rnd, 3)),
                                   le64_make(random_below(&rnd, 100))};
        memcpy(entry->payload + at, &item, sizeof(item));
        at += (uint32_t)sizeof(item);
    }
    entry->payload_bytes = at;
}

static void make_change(struct entry *entry)
{
    uint32_t group = (uint32_t)random_below(&rnd, 5);
    struct disk_group_change change = {.group_length = 2};
    change.kind = entry->kind == GENERATION ? GROUP_CHANGE_GENERATION
                  : entry->kind == DROP     ? GROUP_CHANGE_DROP
                                            : GROUP_CHANGE_TOPIC_GONE;
    if (entry->kind == GENERATION)
        change.generation = le32_make(++generations[group]);
    if (entry->kind == TOPIC_GONE)
        change.topic_id = le32_make(1 + (uint32_t)random_below(&rnd, 3));
    memcpy(entry->payload, &change, sizeof(change));
    entry->payload[sizeof(change)] = 'g';
    entry->payload[sizeof(change) + 1] = (uint8_t)('0' + group);
    entry->payload_bytes = sizeof(change) + 2;
}

static struct entry *make_entry(void)
{
    static const uint8_t kinds[] = {PLAIN,      PLAIN, PLAIN,      STAGED,  STAGED,     STAGED,
                                    GENERATION, DROP,  TOPIC_GONE, PREPARE, END_COMMIT, END_ABORT};
    struct entry *entry = &entries[entry_count];
    *entry = (struct entry){.kind = kinds[random_below(&rnd, sizeof(kinds))],
                            .lsn = 1000 * (entry_count + 1ull),
                            .txn = 1 + random_below(&rnd, 6)};
    if (entry->kind == PLAIN || entry->kind == STAGED)
        make_commit(entry);
    else if (entry->kind <= TOPIC_GONE)
        make_change(entry);
    return entry;
}

/* ---- the same again ---- */

static uint64_t replayed(uint32_t count)
{
    struct groups *groups = groups_new();
    const char *why;
    cr_assert_eq(groups_rebuild(groups, &why), 0);
    for (uint32_t i = 0; i < count; i++)
        cr_assert_eq(apply(groups, &entries[i]), 0);
    uint64_t sum = digest(groups);
    groups_free(groups);
    return sum;
}

/* As a checkpoint writes and loads it. */
static struct groups *reloaded(struct groups *from)
{
    struct groups *to = groups_new();
    struct table *old[GROUPS_TABLES], *fresh[GROUPS_TABLES];
    const char *why = "";
    groups_tables(from, old);
    groups_tables(to, fresh);
    for (int i = 0; i < GROUPS_TABLES; i++) {
        table_snapshot_begin(old[i]);
        uint64_t len = table_snapshot_bytes(old[i]);
        uint8_t *image = malloc(len);
        for (uint64_t at = 0; at < len;)
            at += table_snapshot_read(old[i], image + at, (uint32_t)(len - at));
        table_snapshot_end(old[i]);
        cr_assert_eq(table_load(fresh[i], image, len, &why), (int64_t)len, "%s", why);
        free(image);
    }
    cr_assert_eq(groups_rebuild(to, &why), 0, "%s", why);
    cr_assert_eq(digest(to), digest(from));
    return to;
}

Test(group_replay, after_every_entry_the_replayed_state_is_the_live_one, .timeout = 100)
{
    for (uint64_t seed = 1; seed <= 3; seed++) {
        random_init(&rnd, seed);
        entry_count = 0;
        memset(generations, 0, sizeof(generations));
        struct groups *live = groups_new(), *loaded = groups_new();
        for (int i = 0; i < 120; i++) {
            struct entry *entry = make_entry();
            uint64_t before = digest(live);
            int status = apply(live, entry);
            if (status) { // a drop of what does not exist, or of what a transaction holds
                cr_assert_eq(status, E_CORRUPT);
                cr_assert_eq(digest(live), before, "refused, and yet changed");
                continue;
            }
            if (entry->kind == DROP)
                generations[entry->payload[sizeof(struct disk_group_change) + 1] - '0'] = 0;
            cr_assert_eq(apply(loaded, entry), 0);
            entry_count++;
            cr_assert_eq(replayed(entry_count), digest(live), "seed %lu entry %u", seed,
                         entry_count);
            cr_assert_eq(digest(loaded), digest(live), "seed %lu entry %u", seed, entry_count);
            if (i % 7 == 0) {
                struct groups *next = reloaded(loaded);
                groups_free(loaded);
                loaded = next;
            }
        }
        cr_assert_gt(table_used_count(live->offsets), 0);
        groups_free(live);
        groups_free(loaded);
    }
}

/* One item, of the transaction or plain. */
static struct entry staged_item(uint64_t lsn, uint64_t txn, uint32_t partition)
{
    struct entry entry = {.kind = STAGED, .lsn = lsn, .txn = txn};
    struct disk_offset_commit head = {.item_count = le32_make(1), .group_length = 8};
    struct offset_item item = {le32_make(1), le32_make(partition), le64_make(7)};
    head.name = (struct disk_txn_name){.coordinator = le32_make((uint32_t)txn % 3),
                                       .open_lsn = le64_make(txn)};
    memcpy(entry.payload, &head, sizeof(head));
    memcpy(entry.payload + sizeof(head), "thegroup", 8);
    memcpy(entry.payload + sizeof(head) + 8, &item, sizeof(item));
    entry.payload_bytes = sizeof(head) + 8 + sizeof(item);
    return entry;
}

/* A row that was free is used again, so the order of staging is not that of rows, which is all that a loaded state knows. */
Test(group_replay, a_transaction_ends_alike_where_its_rows_were_loaded)
{
    struct groups *live = groups_new();
    struct entry steps[] = {staged_item(1000, 1, 0),
                            staged_item(2000, 2, 1),
                            staged_item(3000, 2, 2),
                            {.kind = END_ABORT, .lsn = 4000, .txn = 1},
                            staged_item(5000, 2, 3)};
    struct entry end = {.kind = END_COMMIT, .lsn = 6000, .txn = 2};
    for (size_t i = 0; i < ARRAY_COUNT(steps); i++)
        cr_assert_eq(apply(live, &steps[i]), 0);
    struct groups *loaded = reloaded(live);
    cr_assert_eq(apply(live, &end), 0);
    cr_assert_eq(apply(loaded, &end), 0);
    cr_assert_eq(table_used_count(live->offsets), 3);
    cr_assert_eq(digest(live), digest(loaded));
    groups_free(live);
    groups_free(loaded);
}

/* ---- damage ---- */

static void is_refused(struct groups *groups, const struct entry *entry)
{
    uint64_t before = digest(groups);
    cr_assert_eq(apply(groups, entry), E_CORRUPT);
    cr_assert_eq(digest(groups), before);
}

Test(group_replay, entries_that_nobody_can_have_written_are_refused)
{
    struct groups *groups = groups_new();
    random_init(&rnd, 4);
    struct entry good = {.kind = PLAIN, .lsn = 5}, bad;
    make_commit(&good);
    cr_assert_eq(apply(groups, &good), 0);
    for (uint32_t len = 0; len < good.payload_bytes; len++) {
        bad = good;
        bad.payload_bytes = len;
        is_refused(groups, &bad);
    }
    bad = good;
    bad.payload[offsetof(struct disk_offset_commit, group_length)] = 0;
    is_refused(groups, &bad);
    bad.payload[offsetof(struct disk_offset_commit, group_length)] = 255;
    is_refused(groups, &bad);
    bad = good;
    memset(bad.payload + offsetof(struct disk_offset_commit, item_count), 0xff, 4);
    is_refused(groups, &bad);
    bad = good;
    bad.payload[offsetof(struct disk_offset_commit, member_length)] = 200;
    is_refused(groups, &bad);
    struct entry change = {.kind = GENERATION, .lsn = 6};
    make_change(&change);
    cr_assert_eq(apply(groups, &change), 0);
    for (uint32_t len = 0; len < change.payload_bytes; len++) {
        bad = change;
        bad.payload_bytes = len;
        is_refused(groups, &bad);
    }
    bad = change;
    bad.payload[0] = 77; // a kind
    is_refused(groups, &bad);
    bad = change; // a generation that goes back
    memset(bad.payload + offsetof(struct disk_group_change, generation), 0, 4);
    is_refused(groups, &bad);
    bad = change;
    bad.payload[0] = GROUP_CHANGE_DROP;
    bad.payload[bad.payload_bytes - 1] = 'x'; // no such group
    is_refused(groups, &bad);
    bad.payload[0] = GROUP_CHANGE_TOPIC_GONE;
    is_refused(groups, &bad);
    groups_free(groups);
}

Test(group_replay, tables_that_do_not_fit_together_are_refused)
{
    random_init(&rnd, 5);
    struct entry plain = {.kind = PLAIN, .lsn = 5}, staged = {.kind = STAGED, .lsn = 6, .txn = 3};
    make_commit(&plain);
    make_commit(&staged);
    for (int damage = 0; damage < 5; damage++) {
        struct groups *groups = groups_new(), *to = groups_new();
        cr_assert_eq(apply(groups, &plain), 0);
        cr_assert_eq(apply(groups, &staged), 0);
        struct table *old[GROUPS_TABLES], *fresh[GROUPS_TABLES];
        const char *why = NULL;
        groups_tables(groups, old);
        groups_tables(to, fresh);
        for (int i = 0; i < GROUPS_TABLES; i++) {
            uint32_t index;
            uint32_t row_bytes[] = {sizeof(struct disk_group_row), sizeof(struct disk_group_offset),
                                    sizeof(struct disk_staged_offset)};
            for (uint32_t row = 0; row < table_row_count(old[i]); row++)
                memcpy(table_row_new(fresh[i], &index), table_row(old[i], row), row_bytes[i]);
        }
        switch (damage) {
        case 0:
            ((struct disk_group_offset *)table_row_mut(to->offsets, 0))->group_plus_1 =
                le32_make(9);
            break;
        case 1:
            ((struct disk_staged_offset *)table_row_mut(to->staged, 0))->group_plus_1 =
                le32_make(UINT32_MAX);
            break;
        case 2:
            ((struct disk_group_row *)table_row_mut(to->table, 0))->name_length = 0;
            break;
        case 3:
            ((struct disk_group_row *)table_row_mut(to->table, 0))->name_length = 255;
            break;
        case 4: {
            uint32_t index;
            memcpy(table_row_new(to->offsets, &index), table_row(to->offsets, 0),
                   sizeof(struct disk_group_offset));
            break;
        }
        }
        cr_assert_eq(groups_rebuild(to, &why), E_CORRUPT, "damage %d", damage);
        cr_assert_not_null(why);
        groups_free(groups);
        groups_free(to);
    }
}
