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
