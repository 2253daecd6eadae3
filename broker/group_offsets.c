/* Committed offsets: one row for each group and partition.
 *
 * The rule, in one place (group_offset_apply): an entry with a lower LSN than the row's says nothing new, and an offset that is
 * lower never replaces a higher one, unless an operator has said so (RESET). So a committed offset does not go back, live and
 * at replay alike, in whatever order plain commits and ends of transactions come.
 *
 * Room is promised before an entry is logged: rows in use and offsets staged together are never more than the table holds, so
 * the end of a transaction always finds a row. */
#include "base/hash.h"
#include "base/plant.h"
#include "base/status.h"
#include "broker/groups_private.h"

static uint32_t find(const struct groups *groups, uint32_t group_row, uint32_t topic_id,
                     uint32_t partition);
static struct disk_group_offset *row_make(struct groups *groups, struct group *group,
                                          uint32_t topic_id, uint32_t partition);
static void row_drop(struct groups *groups, struct group *group, uint32_t row);

uint64_t group_partition_hash(uint32_t group_row, uint32_t topic_id, uint32_t partition)
{
    uint32_t key[3] = {group_row, topic_id, partition};
    return hash_xxh3(key, sizeof(key));
}

static uint64_t hash_of(const struct disk_group_offset *offset)
{
    return group_partition_hash(le32_get(offset->group_plus_1) - 1, le32_get(offset->topic_id),
                                le32_get(offset->partition));
}

static uint32_t find(const struct groups *groups, uint32_t group_row, uint32_t topic_id,
                     uint32_t partition)
{
    uint32_t at;
    uint64_t hash = group_partition_hash(group_row, topic_id, partition);
    for (uint32_t row = row_map_first(&groups->offset_by_key, hash, &at); row != ROW_MAP_NONE;
         row = row_map_next(&groups->offset_by_key, hash, &at)) {
        const struct disk_group_offset *offset = table_row(groups->offsets, row);
        if (le32_get(offset->group_plus_1) == group_row + 1 &&
            le32_get(offset->topic_id) == topic_id && le32_get(offset->partition) == partition)
            return row;
    }
    return TABLE_ROW_NONE;
}

const struct disk_group_offset *group_offset_find(const struct groups *groups,
                                                  const struct group *group, uint32_t topic_id,
                                                  uint32_t partition)
{
    uint32_t row = find(groups, group->row, topic_id, partition);
    return row == TABLE_ROW_NONE ? NULL : table_row(groups->offsets, row);
}

bool group_offsets_have_room(const struct groups *groups, uint32_t count)
{
    return (uint64_t)table_used_count(groups->offsets) + table_used_count(groups->staged) + count <=
           GROUP_OFFSETS_PER_SHARD;
}

/* ---- apply ---- */

void group_offset_apply(struct groups *groups, struct group *group,
                        const struct group_offset *offset)
{
    uint32_t found = find(groups, group->row, offset->topic_id, offset->partition);
    struct disk_group_offset *row;
    if (found == TABLE_ROW_NONE) {
        row = row_make(groups, group, offset->topic_id, offset->partition);
    } else {
        const struct disk_group_offset *old = table_row(groups->offsets, found);
        if (offset->lsn < le64_get(old->lsn) ||
            (offset->offset < le64_get(old->offset) && !offset->may_go_back &&
             !PLANTED(OFFSET_GOES_BACK)))
            return;
        row = table_row_mut(groups->offsets, found);
    }
    row->offset = le64_make(offset->offset);
    row->lsn = le64_make(offset->lsn);
    row->committed_ms = le64_make(offset->ms);
}

static struct disk_group_offset *row_make(struct groups *groups, struct group *group,
                                          uint32_t topic_id, uint32_t partition)
{
    uint32_t index;
    struct disk_group_offset *row = table_row_new(groups->offsets, &index);
    ASSERT(row);
    row->group_plus_1 = le32_make(group->row + 1);
    row->topic_id = le32_make(topic_id);
    row->partition = le32_make(partition);
    row_map_add(&groups->offset_by_key, hash_of(row), index);
    row_chains_add(&groups->offset_by_group, group->row, index);
    group->offset_count++;
    return row;
}

static void row_drop(struct groups *groups, struct group *group, uint32_t row)
{
    row_map_remove(&groups->offset_by_key, hash_of(table_row(groups->offsets, row)), row);
    row_chains_remove(&groups->offset_by_group, group->row, row);
    table_row_delete(groups->offsets, row);
    group->offset_count--;
}

void group_offsets_apply_drop(struct groups *groups, struct group *group, uint32_t topic_id)
{
    uint32_t next;
    for (uint32_t row = row_chains_first(&groups->offset_by_group, group->row);
         row != TABLE_ROW_NONE; row = next) {
        next = row_chains_next(&groups->offset_by_group, row);
        const struct disk_group_offset *offset = table_row(groups->offsets, row);
        if (topic_id == 0 || le32_get(offset->topic_id) == topic_id)
            row_drop(groups, group, row);
    }
}

int group_offsets_rebuild(struct groups *groups, const char **why)
{
    for (uint32_t row = 0; row < table_row_count(groups->offsets); row++) {
        if (!table_row_is_used(groups->offsets, row))
            continue;
        const struct disk_group_offset *offset = table_row(groups->offsets, row);
        uint32_t group = le32_get(offset->group_plus_1) - 1;
        if (group >= GROUPS_PER_SHARD || !table_row_is_used(groups->table, group) ||
            find(groups, group, le32_get(offset->topic_id), le32_get(offset->partition)) !=
                TABLE_ROW_NONE) {
            *why = "an offset of no consumer group, or two of one partition";
            return E_CORRUPT;
        }
        row_map_add(&groups->offset_by_key, hash_of(offset), row);
        row_chains_add(&groups->offset_by_group, group, row);
        groups->groups[group].offset_count++;
    }
    return 0;
}

/* ---- log ---- */

int group_offsets_log(struct shard *shard, const struct disk_txn_name *name,
                      const struct msg_txn_offsets *m, uint8_t flags)
{
    uint8_t names[GROUP_NAME_BYTES_MAX + GROUP_MEMBER_BYTES_MAX + 7] = {0};
    struct disk_offset_commit head = {
        .item_count = le32_make(m->item_count),
        .generation = le32_make(m->generation),
        .group_length = (uint8_t)m->group.len,
        .member_length = (uint8_t)m->member.len,
        .flags = flags,
    };
    ASSERT(m->group.len <= GROUP_NAME_BYTES_MAX && m->member.len <= GROUP_MEMBER_BYTES_MAX);
    if (name)
        head.name = *name;
    memcpy(names, m->group.bytes, m->group.len);
    if (m->member.len > 0)
        memcpy(names + m->group.len, m->member.bytes, m->member.len);
    struct wal_entry entry = {
        .type = ENTRY_OFFSET_COMMIT,
        .pieces = {{&head, sizeof(head)},
                   {names, (uint32_t)align_up(m->group.len + m->member.len, 8)},
                   {m->items, m->item_count * (uint32_t)sizeof(struct offset_item)}},
        .piece_count = 3};
    struct wal_view view;
    return store_append(shard->store, &entry, &view, NULL);
}
