/* OFFSET_FETCH: where a group goes on reading.
 *
 * Of the partitions that are named, in their order; or, when none is, of all that have an offset, in order of topic and partition.
 * An item whose offset may still be moved by a transaction is answered OFFSETS_PENDING: its next owner must not begin at
 * the old one, and asks again. An unknown group has no offsets, which is no error. The answer waits until what it tells is
 * durable: nobody goes on from an offset that a crash takes back. */
#include <stdlib.h>

#include "broker/groups_private.h"

static bool write_named(struct shard *shard, struct writer *w, const struct msg_offset_fetch *m);
static bool write_all(struct shard *shard, struct writer *w, const struct group *group);
static uint32_t collect(struct groups *groups, const struct group *group);
static void write_one(const struct groups *groups, struct writer *w, const struct group *group,
                      uint32_t topic_id, uint32_t partition);

enum handled handle_offset_fetch(struct shard *shard, struct request *request)
{
    struct frame frame;
    struct msg_offset_fetch m;
    uint16_t error = frame_decode(request->frames, &frame);
    error = error ? error : read_offset_fetch(&frame, &m);
    if (error) {
        shard_reply_error(shard, request, error, "OFFSET_FETCH: 0..%u partitions",
                          TXN_ITEM_COUNT_MAX);
        return HANDLED;
    }
    const struct group *group = group_find(shard->groups, m.group);
    struct writer w = shard_reply_writer(request);
    bool fits = m.item_count > 0 ? write_named(shard, &w, &m) : write_all(shard, &w, group);
    if (!fits) {
        shard_reply_error(
            shard, request, PE_INVALID_ARGUMENT, "an answer has room for %u partitions",
            (unsigned)((request->reply->capacity - FRAME_HEADER_SIZE - OFFSET_RESULTS_FIXED) /
                       sizeof(struct offset_result_item)));
        return HANDLED;
    }
    shard_reply_seal(request, &w);
    shard_reply_when_durable(shard, request, store_reserved_lsn(shard->store));
    return HANDLED;
}

static bool write_named(struct shard *shard, struct writer *w, const struct msg_offset_fetch *m)
{
    const struct group *group = group_find(shard->groups, m->group);
    write_offset_results_begin(w, m->item_count);
    for (uint32_t i = 0; i < m->item_count && !w->failed; i++)
        write_one(shard->groups, w, group, le32_get(m->items[i].topic_id),
                  le32_get(m->items[i].partition));
    return !w->failed;
}

static void write_one(const struct groups *groups, struct writer *w, const struct group *group,
                      uint32_t topic_id, uint32_t partition)
{
    const struct disk_group_offset *row =
        group ? group_offset_find(groups, group, topic_id, partition) : NULL;
    bool is_pending = group && group_staged_is_pending(groups, group, topic_id, partition);
    write_offset_result(w, topic_id, partition, is_pending ? PE_OFFSETS_PENDING : PE_NONE,
                        row ? le64_get(row->offset) : UINT64_MAX);
}

/* ---- all ---- */

static const struct disk_group_offset *row_at(const struct groups *groups, uint32_t i)
{
    return table_row(groups->offsets, groups->scratch[i]);
}

static int compare_rows(const void *a, const void *b, void *context)
{
    const struct groups *groups = context;
    const struct disk_group_offset *x = table_row(groups->offsets, *(const uint32_t *)a);
    const struct disk_group_offset *y = table_row(groups->offsets, *(const uint32_t *)b);
    uint32_t topic_x = le32_get(x->topic_id), topic_y = le32_get(y->topic_id);
    uint32_t partition_x = le32_get(x->partition), partition_y = le32_get(y->partition);
    return topic_x != topic_y ? (topic_x > topic_y) - (topic_x < topic_y)
                              : (partition_x > partition_y) - (partition_x < partition_y);
}

static uint32_t collect(struct groups *groups, const struct group *group)
{
    uint32_t count = 0;
    for (uint32_t row = row_chains_first(&groups->offset_by_group, group->row);
         row != TABLE_ROW_NONE; row = row_chains_next(&groups->offset_by_group, row))
        groups->scratch[count++] = row;
    qsort_r(groups->scratch, count, sizeof(*groups->scratch), compare_rows, groups);
    return count;
}

static bool write_all(struct shard *shard, struct writer *w, const struct group *group)
{
    struct groups *groups = shard->groups;
    uint32_t count = group ? collect(groups, group) : 0;
    write_offset_results_begin(w, count);
    for (uint32_t i = 0; i < count && !w->failed; i++)
        write_one(groups, w, group, le32_get(row_at(groups, i)->topic_id),
                  le32_get(row_at(groups, i)->partition));
    return !w->failed;
}
