/* See segment_scan.h. Happy path: header, payload checksum, then entry by entry, until the bytes or the range end.
 * Failure modes: a group that isn't where the log says, or isn't intact; an entry that leaves its group. */
#include "storage/segment_scan.h"

#include <string.h>

#include "base/status.h"
#include "proto/batch.h"
#include "storage/group.h"

static int group_show(struct segment_scan *scan, uint8_t *bytes, const struct group_head *head);

int64_t segment_scan_feed(struct segment_scan *scan, uint8_t *bytes, uint32_t len)
{
    uint32_t done = 0;
    while (scan->lsn < scan->end_lsn && len - done >= DISK_BLOCK) {
        struct group_head head;
        uint64_t room = scan->end_lsn - scan->lsn;
        enum group_verdict verdict = group_head_parse(bytes + done, scan->generation, room, &head);
        if (verdict != GROUP_VERDICT_TORN || head.lsn != scan->lsn)
            return E_CORRUPT;
        uint32_t total = group_total_bytes(head.payload_bytes);
        if (total > room)
            return E_CORRUPT;
        if (total > len - done)
            break;
        if (!group_payload_is_good(bytes + done, &head))
            return E_CORRUPT;
        int status = group_show(scan, bytes + done, &head);
        if (status < 0)
            return status;
        scan->append_ms_last = head.append_time_ms;
        scan->lsn += total;
        done += total;
    }
    return done;
}

bool segment_scan_batch(const struct wal_view *view, struct index_entry *entry)
{
    struct batch_info info;
    if (!batch_peek(view->payload, view->payload_bytes, &info) ||
        info.size != view->payload_bytes || info.record_count == 0 ||
        info.base_offset > UINT64_MAX - info.record_count)
        return false;
    *entry = (struct index_entry){
        .base_offset = info.base_offset,
        .position = view->lsn + sizeof(struct disk_entry),
        .max_timestamp = info.max_timestamp,
        .size = info.size,
        .record_count = info.record_count,
    };
    return true;
}

/* ---- transactions ---- */

bool segment_scan_commit(const struct wal_view *view, uint32_t *batch_count)
{
    struct disk_txn_end end;
    if (view->payload_bytes < sizeof(end))
        return false;
    memcpy(&end, view->payload, sizeof(end));
    uint64_t items = view->payload_bytes - sizeof(end);
    *batch_count = le32_get(end.batch_count);
    if (items != (uint64_t)*batch_count * sizeof(struct disk_committed))
        return false;
    for (uint32_t i = 0; i < *batch_count; i++) {
        struct committed batch = segment_scan_committed(view, i);
        if (batch.topic_id == 0 || batch.entry.record_count == 0 ||
            batch.entry.size < BATCH_HEADER_SIZE || batch.entry.position == 0 ||
            batch.entry.position > view->lsn ||
            batch.entry.base_offset > STAGED_OFFSET - batch.entry.record_count)
            return false;
    }
    return true;
}

struct committed segment_scan_committed(const struct wal_view *view, uint32_t i)
{
    struct disk_committed disk;
    memcpy(&disk, view->payload + sizeof(struct disk_txn_end) + i * sizeof(disk), sizeof(disk));
    return (struct committed){.topic_id = le32_get(disk.topic_id),
                              .partition = le32_get(disk.partition),
                              .entry = {.base_offset = le64_get(disk.base_offset),
                                        .position = le64_get(disk.position),
                                        .max_timestamp = (int64_t)le64_get(disk.max_timestamp),
                                        .size = le32_get(disk.size),
                                        .record_count = le32_get(disk.record_count)}};
}

int segment_scan_index(const struct wal_view *view, const struct segment_hole *holes,
                       uint32_t hole_count,
                       int (*add)(void *context, const struct committed *batch), void *context)
{
    struct committed batch = {.topic_id = view->topic_id, .partition = view->partition};
    uint32_t batch_count = 0;
    int status = 0;
    if (view->type == ENTRY_BATCH)
        return segment_scan_batch(view, &batch.entry) ? add(context, &batch) : E_CORRUPT;
    if (view->type != ENTRY_COMMIT)
        return 0;
    if (!segment_scan_commit(view, &batch_count))
        return E_CORRUPT;
    for (uint32_t i = 0; i < batch_count && status >= 0; i++) {
        batch = segment_scan_committed(view, i);
        if (!segment_hole_has(holes, hole_count, batch.entry.position))
            status = add(context, &batch);
    }
    return status;
}

bool segment_scan_staged_batch(const struct wal_view *view, uint64_t *position,
                               struct batch_info *info)
{
    uint32_t before = view->type == ENTRY_STAGED ? sizeof(struct disk_txn_name)
                                                 : sizeof(struct disk_staged_moved);
    if (view->payload_bytes < before)
        return false;
    *position = view->lsn + sizeof(struct disk_entry) + before;
    return batch_peek(view->payload + before, view->payload_bytes - before, info) &&
           info->size == view->payload_bytes - before && info->record_count > 0 &&
           info->base_offset == STAGED_OFFSET;
}

bool segment_scan_staged(const struct wal_view *view, struct disk_staged *row)
{
    struct batch_info info;
    uint64_t position;
    if (!segment_scan_staged_batch(view, &position, &info))
        return false;
    *row = (struct disk_staged){.position = le64_make(position),
                                .topic_id = le32_make(view->topic_id),
                                .partition = le32_make(view->partition),
                                .max_timestamp = le64_make((uint64_t)info.max_timestamp),
                                .size = le32_make(info.size),
                                .record_count = le32_make(info.record_count),
                                .producer_id = le64_make(info.producer_id),
                                .base_sequence = le32_make(info.base_sequence),
                                .producer_epoch = le16_make(info.producer_epoch)};
    memcpy(&row->name, view->payload, sizeof(row->name));
    row->name.reserved = le32_make(0);
    return true;
}

static int group_show(struct segment_scan *scan, uint8_t *bytes, const struct group_head *head)
{
    uint32_t at = GROUP_HEADER_BYTES, end = GROUP_HEADER_BYTES + head->payload_bytes;
    for (uint32_t i = 0; i < head->entry_count; i++) {
        struct disk_entry entry;
        if (end - at < sizeof(entry))
            return E_CORRUPT;
        memcpy(&entry, bytes + at, sizeof(entry));
        uint32_t payload_bytes = le32_get(entry.payload_bytes);
        if (payload_bytes > end - at - sizeof(entry))
            return E_CORRUPT;
        struct wal_view view = {
            .lsn = head->lsn + at,
            .append_time_ms = head->append_time_ms,
            .file_number = scan->file_number,
            .type = entry.type,
            .flags = entry.flags,
            .topic_id = le32_get(entry.topic_id),
            .partition = le32_get(entry.partition),
            .payload = bytes + at + sizeof(entry),
            .payload_bytes = payload_bytes,
        };
        int status = scan->entry(scan->context, &view);
        if (status < 0)
            return status;
        at += (uint32_t)min_u64(sizeof(entry) + align_up(payload_bytes, 8), end - at);
    }
    return 0;
}
