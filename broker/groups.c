/* Groups as the log has them: rows by name, and what ENTRY_GROUP and ENTRY_OFFSET_COMMIT do to the tables.
 *
 * Apply first looks whether all of an entry is possible, then changes something: so a damaged entry changes nothing, and one
 * that a handler appends has been asked about before. Members are not of this world: nothing here depends on them.
 *
 * Failure modes: an entry that no version of this program writes, or that the tables have no room for, is CORRUPT at
 * replay. */
#include "broker/groups_private.h"

#include <stdlib.h>

#include "base/hash.h"
#include "base/status.h"

struct group_entry { // an ENTRY_OFFSET_COMMIT, taken apart
    struct disk_offset_commit head;
    struct slice group, member;
    const struct offset_item *items;
    uint32_t item_count;
};

static bool allocate(struct groups *groups);
static int apply_plain(struct groups *groups, struct group *group, const struct group_entry *entry,
                       const struct wal_view *view);
static int apply_staged(struct groups *groups, struct group *group, const struct group_entry *entry,
                        const struct wal_view *view);
static bool read_commit(const struct wal_view *view, struct group_entry *entry);
static bool commit_has_room(const struct groups *groups, const struct group *group,
                            const struct group_entry *entry);
static uint32_t row_find(const struct groups *groups, struct slice name);
static void row_drop(struct groups *groups, struct group *group);

/* ---- life ---- */

static struct table *make_table(enum table_id id, size_t row_bytes, uint32_t row_count_max)
{
    return table_new(&(struct table_options){
        .id = id, .row_bytes = (uint32_t)row_bytes, .row_count_max = row_count_max});
}

struct groups *groups_new(void)
{
    struct groups *groups = calloc(1, sizeof(*groups));
    if (!groups)
        return NULL;
    list_init(&groups->due);
    list_init(&groups->members);
    list_init(&groups->joins);
    groups->sweep_row = groups->topic_free = TABLE_ROW_NONE;
    if (!allocate(groups)) {
        groups_free(groups);
        return NULL;
    }
    for (uint32_t row = 0; row < GROUPS_PER_SHARD; row++) {
        groups->groups[row].row = row;
        list_init(&groups->groups[row].members);
        list_init(&groups->groups[row].due_link);
        list_init(&groups->groups[row].leaving_link);
    }
    return groups;
}

static bool allocate(struct groups *groups)
{
    groups->table = make_table(TABLE_GROUPS, sizeof(struct disk_group_row), GROUPS_PER_SHARD);
    groups->offsets =
        make_table(TABLE_GROUP_OFFSETS, sizeof(struct disk_group_offset), GROUP_OFFSETS_PER_SHARD);
    groups->staged = make_table(TABLE_STAGED_OFFSETS, sizeof(struct disk_staged_offset),
                                STAGED_OFFSETS_PER_SHARD);
    groups->groups = calloc(GROUPS_PER_SHARD, sizeof(*groups->groups));
    groups->scratch = calloc(GROUP_OFFSETS_PER_SHARD, sizeof(*groups->scratch));
    groups->commit_items = calloc(GROUP_COMMIT_ITEMS_MAX, sizeof(*groups->commit_items));
    groups->by_id = calloc(GROUP_MEMBERS_PER_SHARD, sizeof(*groups->by_id));
    groups->work = calloc(1, sizeof(*groups->work));
    groups->work_partitions = calloc(GROUP_ASSIGNMENT_MAX, sizeof(*groups->work_partitions));
    groups->work_members = calloc(GROUP_MEMBERS_MAX, sizeof(*groups->work_members));
    groups->work_order = calloc(GROUP_MEMBERS_MAX, sizeof(struct group_member *));
    groups->topics = calloc(GROUP_TOPICS_PER_SHARD, sizeof(*groups->topics));
    groups->topic_ids = calloc(GROUP_TOPICS_PER_SHARD, sizeof(*groups->topic_ids));
    bool maps =
        row_map_init(&groups->by_name, GROUPS_PER_SHARD) == 0 &&
        row_map_init(&groups->offset_by_key, GROUP_OFFSETS_PER_SHARD) == 0 &&
        row_map_init(&groups->topic_by_id, GROUP_TOPICS_PER_SHARD) == 0 &&
        row_chains_init(&groups->offset_by_group, GROUPS_PER_SHARD, GROUP_OFFSETS_PER_SHARD) &&
        row_chains_init(&groups->staged_by_key, STAGED_OFFSETS_PER_SHARD,
                        STAGED_OFFSETS_PER_SHARD) &&
        row_chains_init(&groups->staged_by_txn, STAGED_OFFSETS_PER_SHARD, STAGED_OFFSETS_PER_SHARD);
    return maps && groups->table && groups->offsets && groups->staged && groups->groups &&
           groups->scratch && groups->commit_items && groups->by_id && groups->work &&
           groups->work_partitions && groups->work_members && groups->work_order &&
           groups->topics && groups->topic_ids;
}

void groups_free(struct groups *groups)
{
    if (!groups)
        return;
    LIST_EACH(node, &groups->members)
    {
        struct group_member *member = CONTAINER_OF(node, struct group_member, shard_link);
        free(member->topics);
        free(member->hints);
        free(member);
    }
    for (uint32_t row = 0; groups->groups && row < GROUPS_PER_SHARD; row++)
        free(groups->groups[row].slots);
    struct table *tables[GROUPS_TABLES];
    groups_tables(groups, tables);
    for (uint32_t i = 0; i < GROUPS_TABLES; i++)
        table_free(tables[i]);
    row_map_deinit(&groups->by_name);
    row_map_deinit(&groups->offset_by_key);
    row_map_deinit(&groups->topic_by_id);
    row_chains_deinit(&groups->offset_by_group);
    row_chains_deinit(&groups->staged_by_key);
    row_chains_deinit(&groups->staged_by_txn);
    void *blocks[] = {groups->groups,       groups->scratch,    groups->commit_items,
                      groups->by_id,        groups->work,       groups->work_partitions,
                      groups->work_members, groups->work_order, groups->topics,
                      groups->topic_ids};
    for (size_t i = 0; i < ARRAY_COUNT(blocks); i++)
        free(blocks[i]);
    free(groups);
}

/* Two for each row of a map, 8 bytes each; 4 for a chain's head and 8 for its links. */
#define MAP_ROW_BYTES 16u
#define CHAIN_ROW_BYTES 12u

uint64_t groups_bytes(void)
{
    uint64_t tables = GROUPS_PER_SHARD * sizeof(struct disk_group_row) +
                      GROUP_OFFSETS_PER_SHARD * sizeof(struct disk_group_offset) +
                      STAGED_OFFSETS_PER_SHARD * sizeof(struct disk_staged_offset);
    uint64_t maps =
        (GROUPS_PER_SHARD + GROUP_OFFSETS_PER_SHARD + GROUP_TOPICS_PER_SHARD) * MAP_ROW_BYTES +
        (GROUP_OFFSETS_PER_SHARD + 2 * STAGED_OFFSETS_PER_SHARD) * CHAIN_ROW_BYTES;
    uint64_t members =
        GROUP_MEMBERS_PER_SHARD * (sizeof(struct group_member) + sizeof(struct group_member *)) +
        GROUP_SUBSCRIPTIONS_PER_SHARD * sizeof(uint32_t) +
        GROUP_SLOTS_PER_SHARD * (sizeof(struct group_slot) + sizeof(struct group_item));
    uint64_t topics = GROUP_TOPICS_PER_SHARD * (sizeof(struct group_topic) + sizeof(uint32_t));
    uint64_t work = sizeof(struct assign_work) +
                    GROUP_ASSIGNMENT_MAX * sizeof(struct assign_partition) +
                    GROUP_MEMBERS_MAX * sizeof(struct assign_member) +
                    GROUP_MEMBERS_MAX * sizeof(struct group_member *) +
                    GROUP_OFFSETS_PER_SHARD * sizeof(uint32_t) +
                    GROUP_COMMIT_ITEMS_MAX * sizeof(struct offset_item) +
                    GROUP_ASSIGNMENT_MAX * sizeof(struct group_slot); // old and new at once
    return sizeof(struct groups) + GROUPS_PER_SHARD * sizeof(struct group) + 2 * tables + maps +
           members + topics + work;
}

void groups_tables(struct groups *groups, struct table *tables[GROUPS_TABLES])
{
    tables[0] = groups->table;
    tables[1] = groups->offsets;
    tables[2] = groups->staged;
}

int groups_rebuild(struct groups *groups, const char **why)
{
    for (uint32_t row = 0; row < table_row_count(groups->table); row++) {
        if (!table_row_is_used(groups->table, row))
            continue;
        const struct disk_group_row *group = table_row(groups->table, row);
        struct slice name = {group->name, group->name_length};
        if (name.len == 0 || name.len > GROUP_NAME_BYTES_MAX ||
            row_find(groups, name) != TABLE_ROW_NONE) {
            *why = "two consumer groups have one name, or one has none";
            return E_CORRUPT;
        }
        row_map_add(&groups->by_name, hash_xxh3(name.bytes, name.len), row);
    }
    int status = group_offsets_rebuild(groups, why);
    return status ? status : group_staged_rebuild(groups, why);
}

/* ---- rows ---- */

const struct disk_group_row *group_row(const struct groups *groups, const struct group *group)
{
    return table_row(groups->table, group->row);
}

struct slice group_name(const struct groups *groups, const struct group *group)
{
    const struct disk_group_row *row = group_row(groups, group);
    return (struct slice){row->name, row->name_length};
}

static uint32_t row_find(const struct groups *groups, struct slice name)
{
    uint32_t at;
    uint64_t hash = hash_xxh3(name.bytes, name.len);
    for (uint32_t row = row_map_first(&groups->by_name, hash, &at); row != ROW_MAP_NONE;
         row = row_map_next(&groups->by_name, hash, &at)) {
        const struct disk_group_row *group = table_row(groups->table, row);
        if (slice_equals((struct slice){group->name, group->name_length}, name))
            return row;
    }
    return TABLE_ROW_NONE;
}

struct group *group_find(const struct groups *groups, struct slice name)
{
    uint32_t row = row_find(groups, name);
    return row == TABLE_ROW_NONE ? NULL : &groups->groups[row];
}

bool group_can_be_made(const struct groups *groups)
{
    return !table_is_full(groups->table);
}

struct group *group_apply_make(struct groups *groups, struct slice name, uint64_t ms)
{
    struct group *group = group_find(groups, name);
    if (group) {
        ((struct disk_group_row *)table_row_mut(groups->table, group->row))->active_ms =
            le64_make(ms);
        return group;
    }
    uint32_t index;
    struct disk_group_row *row = table_row_new(groups->table, &index);
    if (!row)
        return NULL;
    row->used = le32_make(1);
    row->made_ms = row->active_ms = le64_make(ms);
    row->name_length = (uint8_t)name.len;
    memcpy(row->name, name.bytes, name.len);
    row_map_add(&groups->by_name, hash_xxh3(name.bytes, name.len), index);
    return &groups->groups[index];
}

static void row_drop(struct groups *groups, struct group *group)
{
    struct slice name = group_name(groups, group);
    group_offsets_apply_drop(groups, group, 0);
    row_map_remove(&groups->by_name, hash_xxh3(name.bytes, name.len), group->row);
    table_row_delete(groups->table, group->row);
    /* What was known of it in memory: the row may be another group's next. */
    groups->slots_reserved -= group->reserved;
    list_remove(&group->due_link);
    free(TAKE(group->slots));
    group->lsn = 0;
    group->slot_count = group->reserved = group->pending_count = 0;
    group->needs_assignment = false;
}

/* ---- ENTRY_GROUP ---- */

int group_log(struct shard *shard, struct slice name, enum group_change kind, uint32_t number)
{
    struct disk_group_change change = {.kind = (uint8_t)kind, .group_length = (uint8_t)name.len};
    if (kind == GROUP_CHANGE_GENERATION)
        change.generation = le32_make(number);
    if (kind == GROUP_CHANGE_TOPIC_GONE)
        change.topic_id = le32_make(number);
    struct wal_entry entry = {.type = ENTRY_GROUP,
                              .pieces = {{&change, sizeof(change)}, {name.bytes, name.len}},
                              .piece_count = 2};
    struct wal_view view;
    return store_append(shard->store, &entry, &view, NULL);
}

int groups_apply_group(struct groups *groups, const struct wal_view *view)
{
    struct disk_group_change change;
    if (view->payload_bytes < sizeof(change))
        return E_CORRUPT;
    memcpy(&change, view->payload, sizeof(change));
    struct slice name = {view->payload + sizeof(change), change.group_length};
    if (name.len == 0 || name.len > GROUP_NAME_BYTES_MAX ||
        view->payload_bytes != sizeof(change) + name.len)
        return E_CORRUPT;
    struct group *group = group_find(groups, name);
    switch ((enum group_change)change.kind) {
    case GROUP_CHANGE_GENERATION:
        if (group && le32_get(change.generation) < le32_get(group_row(groups, group)->generation))
            return E_CORRUPT;
        group = group_apply_make(groups, name, view->append_time_ms);
        if (!group)
            return E_CORRUPT;
        ((struct disk_group_row *)table_row_mut(groups->table, group->row))->generation =
            change.generation;
        return 0;
    case GROUP_CHANGE_DROP:
        if (!group || group->staged_count > 0)
            return E_CORRUPT;
        row_drop(groups, group);
        return 0;
    case GROUP_CHANGE_TOPIC_GONE:
        if (!group || le32_get(change.topic_id) == 0)
            return E_CORRUPT;
        group_offsets_apply_drop(groups, group, le32_get(change.topic_id));
        return 0;
    }
    return E_CORRUPT;
}

/* ---- ENTRY_OFFSET_COMMIT ---- */

int groups_apply_offset_commit(struct groups *groups, const struct wal_view *view)
{
    struct group_entry entry;
    if (!read_commit(view, &entry))
        return E_CORRUPT;
    if (!commit_has_room(groups, group_find(groups, entry.group), &entry))
        return E_CORRUPT;
    struct group *group = group_apply_make(groups, entry.group, view->append_time_ms);
    if (!group)
        return E_CORRUPT;
    return le64_get(entry.head.name.open_lsn) == 0 ? apply_plain(groups, group, &entry, view)
                                                   : apply_staged(groups, group, &entry, view);
}

static bool read_commit(const struct wal_view *view, struct group_entry *entry)
{
    struct disk_offset_commit *head = &entry->head;
    if (view->payload_bytes < sizeof(*head))
        return false;
    memcpy(head, view->payload, sizeof(*head));
    const uint8_t *names = view->payload + sizeof(*head);
    entry->group = (struct slice){names, head->group_length};
    entry->member = (struct slice){names + head->group_length, head->member_length};
    entry->item_count = le32_get(head->item_count);
    uint64_t items_at = align_up(sizeof(*head) + (uint64_t)entry->group.len + entry->member.len, 8);
    entry->items = (const struct offset_item *)(view->payload + items_at);
    return entry->group.len > 0 && entry->group.len <= GROUP_NAME_BYTES_MAX &&
           entry->member.len <= GROUP_MEMBER_BYTES_MAX && entry->item_count > 0 &&
           items_at + (uint64_t)entry->item_count * sizeof(struct offset_item) ==
               view->payload_bytes;
}

static bool commit_has_room(const struct groups *groups, const struct group *group,
                            const struct group_entry *entry)
{
    if (!group && !group_can_be_made(groups))
        return false;
    if (le64_get(entry->head.name.open_lsn) != 0)
        return group_staged_fits(groups, group, &entry->head.name, entry->items, entry->item_count);
    uint32_t fresh = 0;
    for (uint32_t i = 0; i < entry->item_count; i++) {
        const struct offset_item *item = &entry->items[i];
        fresh += !group || !group_offset_find(groups, group, le32_get(item->topic_id),
                                              le32_get(item->partition));
    }
    return group_offsets_have_room(groups, fresh);
}

static int apply_plain(struct groups *groups, struct group *group, const struct group_entry *entry,
                       const struct wal_view *view)
{
    for (uint32_t i = 0; i < entry->item_count; i++) {
        const struct offset_item *item = &entry->items[i];
        group_offset_apply(groups, group,
                           &(struct group_offset){
                               .topic_id = le32_get(item->topic_id),
                               .partition = le32_get(item->partition),
                               .offset = le64_get(item->offset),
                               .lsn = view->lsn,
                               .ms = view->append_time_ms,
                               .may_go_back = entry->head.flags & OFFSET_COMMIT_RESET,
                           });
    }
    return 0;
}

static int apply_staged(struct groups *groups, struct group *group, const struct group_entry *entry,
                        const struct wal_view *view)
{
    for (uint32_t i = 0; i < entry->item_count; i++) {
        struct disk_staged_offset staged = {
            .topic_id = entry->items[i].topic_id,
            .partition = entry->items[i].partition,
            .generation = entry->head.generation,
            .offset = entry->items[i].offset,
            .lsn = le64_make(view->lsn),
            .staged_ms = le64_make(view->append_time_ms),
            .name = entry->head.name,
            .member_length = (uint8_t)entry->member.len,
        };
        memcpy(staged.member, entry->member.bytes, entry->member.len);
        group_staged_apply(groups, group, &staged);
    }
    return 0;
}
