/* Offsets that transactions have staged: durable, and not committed before their transaction is.
 *
 * A row may still be committed as long as its transaction is prepared, or the member that staged it is one and has held the
 * partition ever since: then the next owner must not read the committed offset yet, and is told to come again. Once it
 * can't be, the transaction's vote is no, and nobody waits for it. So removing a member, or moving a partition away from it,
 * dooms what it has not prepared, and a wait lasts from PREPARE to the outcome only.
 *
 * At the end of a transaction rows are taken in order of their numbers: replay gives the same table. */
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/status.h"
#include "broker/groups_private.h"

static uint16_t may_commit(const struct groups *groups, const struct disk_staged_offset *staged);
static uint16_t check_items(const struct group *group, const struct group_member *member,
                            const struct msg_txn_offsets *m, char text[72]);
static uint32_t find(const struct groups *groups, uint32_t group_row,
                     const struct disk_txn_name *name, uint32_t topic_id, uint32_t partition,
                     uint32_t *others);
static void row_link(struct groups *groups, uint32_t row);
static void row_drop(struct groups *groups, uint32_t row);
static void commit_row(struct groups *groups, uint32_t row);

#define TEXT_BYTES 72

/* ---- rows ---- */

static const struct disk_staged_offset *row_of(const struct groups *groups, uint32_t row)
{
    return table_row(groups->staged, row);
}

static struct group *group_of(const struct groups *groups, const struct disk_staged_offset *staged)
{
    return &groups->groups[le32_get(staged->group_plus_1) - 1];
}

static uint64_t hash_of_name(const struct disk_txn_name *name)
{
    return hash_xxh3(name, sizeof(*name));
}

static uint64_t hash_of_key(const struct disk_staged_offset *staged)
{
    return group_partition_hash(le32_get(staged->group_plus_1) - 1, le32_get(staged->topic_id),
                                le32_get(staged->partition));
}

static bool is_of(const struct disk_staged_offset *staged, const struct disk_txn_name *name)
{
    return memcmp(&staged->name, name, sizeof(*name)) == 0;
}

static bool is_about(const struct disk_staged_offset *staged, uint32_t group_row, uint32_t topic_id,
                     uint32_t partition)
{
    return le32_get(staged->group_plus_1) == group_row + 1 &&
           le32_get(staged->topic_id) == topic_id && le32_get(staged->partition) == partition;
}

/* The transaction's row at or behind this one in its chain. */
static uint32_t of_txn(const struct groups *groups, const struct disk_txn_name *name, uint32_t row)
{
    while (row != TABLE_ROW_NONE && !is_of(row_of(groups, row), name))
        row = row_chains_next(&groups->staged_by_txn, row);
    return row;
}

uint32_t group_staged_first(const struct groups *groups, const struct disk_txn_name *name)
{
    return of_txn(groups, name, row_chains_first(&groups->staged_by_txn, hash_of_name(name)));
}

static uint32_t next_of_txn(const struct groups *groups, const struct disk_txn_name *name,
                            uint32_t row)
{
    return of_txn(groups, name, row_chains_next(&groups->staged_by_txn, row));
}

/* The transaction's row about a partition, else NONE; *others counts the rows that are of other transactions. */
static uint32_t find(const struct groups *groups, uint32_t group_row,
                     const struct disk_txn_name *name, uint32_t topic_id, uint32_t partition,
                     uint32_t *others)
{
    *others = 0;
    uint32_t row = row_chains_first(&groups->staged_by_key,
                                    group_partition_hash(group_row, topic_id, partition));
    for (; row != TABLE_ROW_NONE; row = row_chains_next(&groups->staged_by_key, row)) {
        const struct disk_staged_offset *staged = row_of(groups, row);
        if (!is_about(staged, group_row, topic_id, partition))
            continue;
        if (is_of(staged, name))
            return row;
        ++*others;
    }
    return TABLE_ROW_NONE;
}

/* ---- questions ---- */

/* PE_NONE, or why its transaction can't be committed any more. */
static uint16_t may_commit(const struct groups *groups, const struct disk_staged_offset *staged)
{
    const struct group *group = group_of(groups, staged);
    struct slice id = {staged->member, staged->member_length};
    struct group_member *member;
    if (staged->prepared)
        return PE_NONE;
    if (id.len == 0)
        return group_is_empty(group) ? PE_NONE : PE_UNKNOWN_MEMBER;
    uint16_t error = group_member_find(groups, group, id, &member);
    if (error)
        return error;
    const struct group_slot *slot =
        group_slot_find(group, le32_get(staged->topic_id), le32_get(staged->partition));
    bool has_held = slot && slot->owner == member && slot->granted <= le32_get(staged->generation);
    return has_held ? PE_NONE : PE_STALE_GENERATION;
}

bool group_staged_is_pending(const struct groups *groups, const struct group *group,
                             uint32_t topic_id, uint32_t partition)
{
    if (group->staged_count == 0)
        return false;
    uint32_t row = row_chains_first(&groups->staged_by_key,
                                    group_partition_hash(group->row, topic_id, partition));
    for (; row != TABLE_ROW_NONE; row = row_chains_next(&groups->staged_by_key, row)) {
        const struct disk_staged_offset *staged = row_of(groups, row);
        if (is_about(staged, group->row, topic_id, partition) &&
            may_commit(groups, staged) == PE_NONE)
            return true;
    }
    return false;
}

uint16_t groups_vote(const struct groups *groups, const struct disk_txn_name *name,
                     char text[TEXT_BYTES])
{
    for (uint32_t row = group_staged_first(groups, name); row != TABLE_ROW_NONE;
         row = next_of_txn(groups, name, row)) {
        const struct disk_staged_offset *staged = row_of(groups, row);
        uint16_t error = may_commit(groups, staged);
        if (error == PE_NONE)
            continue;
        snprintf(text, TEXT_BYTES, "the member that staged topic id %u partition %u %s",
                 le32_get(staged->topic_id), le32_get(staged->partition),
                 error == PE_STALE_GENERATION ? "has given it up" : "is none any more");
        return error;
    }
    return PE_NONE;
}

bool groups_has_staged(const struct groups *groups, const struct disk_txn_name *name,
                       struct slice group)
{
    for (uint32_t row = group_staged_first(groups, name); row != TABLE_ROW_NONE;
         row = next_of_txn(groups, name, row)) {
        if (slice_equals(group_name(groups, group_of(groups, row_of(groups, row))), group))
            return true;
    }
    return false;
}

uint32_t groups_staged_count(const struct groups *groups, const struct disk_txn_name *name)
{
    uint32_t count = 0;
    for (uint32_t row = group_staged_first(groups, name); row != TABLE_ROW_NONE;
         row = next_of_txn(groups, name, row))
        count++;
    return count;
}

/* ---- staging ---- */

uint16_t groups_check_stage(struct groups *groups, const struct msg_txn_offsets *m,
                            char text[TEXT_BYTES])
{
    struct group *group = group_find(groups, m->group);
    struct group_member *member = NULL;
    struct disk_txn_name name = {.coordinator = le32_make(m->txn.coordinator),
                                 .open_lsn = le64_make(m->txn.open_lsn)};
    uint16_t error = PE_NONE;
    *text = '\0';
    if (!group)
        return PE_UNKNOWN_GROUP;
    if (m->member.len > 0)
        error = group_member_find(groups, group, m->member, &member);
    else if (!group_is_empty(group))
        error = PE_UNKNOWN_MEMBER;
    if (error == PE_NONE && member)
        error = check_items(group, member, m, text);
    if (error)
        return error;
    if (!group_staged_fits(groups, group, &name, m->items, m->item_count)) {
        snprintf(text, TEXT_BYTES, "at most %u staged offsets, %u of a partition, %u in all",
                 STAGED_OFFSETS_PER_SHARD, GROUP_STAGED_PER_PARTITION, GROUP_OFFSETS_PER_SHARD);
        return PE_LIMIT_REACHED;
    }
    return PE_NONE;
}

static uint16_t check_items(const struct group *group, const struct group_member *member,
                            const struct msg_txn_offsets *m, char text[TEXT_BYTES])
{
    if (m->generation < member->confirmed) {
        snprintf(text, TEXT_BYTES, "generation %u, the member has confirmed %u", m->generation,
                 member->confirmed);
        return PE_STALE_GENERATION;
    }
    for (uint32_t i = 0; i < m->item_count; i++) {
        uint32_t topic_id = le32_get(m->items[i].topic_id);
        uint32_t partition = le32_get(m->items[i].partition);
        const struct group_slot *slot = group_slot_find(group, topic_id, partition);
        if (slot && slot->owner == member && slot->granted <= m->generation)
            continue;
        snprintf(text, TEXT_BYTES, "topic id %u partition %u is not this member's", topic_id,
                 partition);
        return PE_NOT_OWNER;
    }
    return PE_NONE;
}

bool group_staged_fits(const struct groups *groups, const struct group *group,
                       const struct disk_txn_name *name, const struct offset_item *items,
                       uint32_t count)
{
    uint32_t fresh = 0, others = 0;
    for (uint32_t i = 0; i < count; i++) {
        bool is_known = group && find(groups, group->row, name, le32_get(items[i].topic_id),
                                      le32_get(items[i].partition), &others) != TABLE_ROW_NONE;
        if (!is_known && others >= GROUP_STAGED_PER_PARTITION)
            return false;
        fresh += !is_known;
    }
    return (uint64_t)table_used_count(groups->staged) + fresh <= STAGED_OFFSETS_PER_SHARD &&
           group_offsets_have_room(groups, fresh);
}

/* Several entries when there are many. After FULL all of it is logged again: the same offsets under the same name. */
int groups_append_staged(struct shard *shard, const struct disk_txn_name *name,
                         const struct msg_txn_offsets *m)
{
    for (uint32_t at = 0; at < m->item_count; at += GROUP_COMMIT_ITEMS_MAX) {
        struct msg_txn_offsets part = *m;
        part.items += at;
        part.item_count = (uint32_t)min_u64(m->item_count - at, GROUP_COMMIT_ITEMS_MAX);
        int status = group_offsets_log(shard, name, &part, 0);
        if (status)
            return status;
    }
    return 0;
}

/* ---- apply ---- */

void group_staged_apply(struct groups *groups, struct group *group,
                        const struct disk_staged_offset *staged)
{
    uint32_t others;
    uint32_t row = find(groups, group->row, &staged->name, le32_get(staged->topic_id),
                        le32_get(staged->partition), &others);
    bool is_new = row == TABLE_ROW_NONE;
    struct disk_staged_offset *to =
        is_new ? table_row_new(groups->staged, &row) : table_row_mut(groups->staged, row);
    ASSERT(to);
    *to = *staged;
    to->group_plus_1 = le32_make(group->row + 1);
    if (is_new)
        row_link(groups, row);
}

void groups_apply_prepare(struct groups *groups, const struct disk_txn_name *name)
{
    for (uint32_t row = group_staged_first(groups, name); row != TABLE_ROW_NONE;
         row = next_of_txn(groups, name, row))
        ((struct disk_staged_offset *)table_row_mut(groups->staged, row))->prepared = 1;
}

static int compare_rows(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

void groups_apply_txn_end(struct groups *groups, const struct disk_txn_name *name, bool committed)
{
    uint32_t count = 0;
    for (uint32_t row = group_staged_first(groups, name); row != TABLE_ROW_NONE;
         row = next_of_txn(groups, name, row))
        groups->scratch[count++] = row;
    qsort(groups->scratch, count, sizeof(*groups->scratch), compare_rows);
    for (uint32_t i = 0; i < count; i++) {
        if (committed)
            commit_row(groups, groups->scratch[i]);
        row_drop(groups, groups->scratch[i]);
    }
}

static void commit_row(struct groups *groups, uint32_t row)
{
    const struct disk_staged_offset *staged = row_of(groups, row);
    group_offset_apply(groups, group_of(groups, staged),
                       &(struct group_offset){.topic_id = le32_get(staged->topic_id),
                                              .partition = le32_get(staged->partition),
                                              .offset = le64_get(staged->offset),
                                              .lsn = le64_get(staged->lsn),
                                              .ms = le64_get(staged->staged_ms)});
}

static void row_link(struct groups *groups, uint32_t row)
{
    const struct disk_staged_offset *staged = row_of(groups, row);
    row_chains_add(&groups->staged_by_key, hash_of_key(staged), row);
    row_chains_add(&groups->staged_by_txn, hash_of_name(&staged->name), row);
    group_of(groups, staged)->staged_count++;
}

static void row_drop(struct groups *groups, uint32_t row)
{
    const struct disk_staged_offset *staged = row_of(groups, row);
    row_chains_remove(&groups->staged_by_key, hash_of_key(staged), row);
    row_chains_remove(&groups->staged_by_txn, hash_of_name(&staged->name), row);
    group_of(groups, staged)->staged_count--;
    table_row_delete(groups->staged, row);
}

int group_staged_rebuild(struct groups *groups, const char **why)
{
    for (uint32_t row = 0; row < table_row_count(groups->staged); row++) {
        if (!table_row_is_used(groups->staged, row))
            continue;
        const struct disk_staged_offset *staged = row_of(groups, row);
        uint32_t group = le32_get(staged->group_plus_1) - 1, others;
        if (group >= GROUPS_PER_SHARD || !table_row_is_used(groups->table, group) ||
            staged->member_length > GROUP_MEMBER_BYTES_MAX ||
            find(groups, group, &staged->name, le32_get(staged->topic_id),
                 le32_get(staged->partition), &others) != TABLE_ROW_NONE) {
            *why = "a staged offset of no consumer group, or two of one transaction and partition";
            return E_CORRUPT;
        }
        row_link(groups, row);
    }
    if (!group_offsets_have_room(groups, 0)) {
        *why = "more committed and staged offsets than the limit";
        return E_CORRUPT;
    }
    return 0;
}
