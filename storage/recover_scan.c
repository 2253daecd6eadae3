/* Reading one live segment again, group by group: what index rebuilding and verification share with
 * recovery.
 *
 * The segment was recovered or written by this process, so a group that does not check out, or does
 * not continue the one before it, is damage, with one exception: what `wal salvage` gave up. The scan
 * steps over those holes as recovery does, and begins a chain behind them. */
#include "storage/recover_private.h"

#include <stdlib.h>

struct scan {
    struct file_reader reader;
    const struct segment *segment;
    struct wal_position at; // group_number 0: what comes next begins a chain
    recover_group_fn visit;
    void *context;
};

struct entries { // of recover_scan_segment(): a visit of groups that visits their entries
    uint64_t file_number;
    recover_visit_fn visit;
    void *context;
};

static int scan_all(struct scan *scan, uint64_t to_lsn);
static bool step_over_hole(struct scan *scan, uint64_t to_lsn);
static int scan_group(struct scan *scan);
static bool follows(const struct wal_position *at, const struct group_head *head,
                    const uint8_t *bytes);

static int visit_entries(void *context, const struct group_head *head, uint8_t *bytes)
{
    struct entries *entries = context;
    return recover_visit_entries(head, bytes, entries->file_number, entries->visit,
                                 entries->context);
}

int recover_scan_segment(struct io *io, const struct segment *segment, uint64_t segment_bytes,
                         uint64_t from_lsn, uint64_t to_lsn,
                         int (*visit)(void *context, const struct wal_view *view), void *context,
                         struct wal_position *at)
{
    struct entries entries = {segment->number, visit, context};
    ASSERT(to_lsn <= segment->end_lsn);
    return recover_scan_groups(io, segment, segment_bytes, from_lsn, to_lsn, visit_entries,
                               &entries, at);
}

int recover_scan_groups(struct io *io, const struct segment *segment, uint64_t segment_bytes,
                        uint64_t from_lsn, uint64_t to_lsn, recover_group_fn visit, void *context,
                        struct wal_position *at)
{
    struct scan scan = {.segment = segment, .visit = visit, .context = context};
    ASSERT(from_lsn >= segment->base_lsn);
    scan.at = *at = (struct wal_position){.lsn = from_lsn, .file_number = segment->number};
    int status = file_reader_init(&scan.reader, io, recover_group_bytes_max(segment_bytes));
    if (status < 0)
        return status;
    uint64_t bytes = segment_bytes; // what lies behind to_lsn is not read
    if (to_lsn != UINT64_MAX)
        bytes = min_u64(bytes, segment_offset(segment, to_lsn));
    file_reader_open(&scan.reader, segment->fd, bytes);
    status = scan_all(&scan, to_lsn);
    *at = scan.at;
    file_reader_deinit(&scan.reader);
    return status;
}

static int scan_all(struct scan *scan, uint64_t to_lsn)
{
    int status = 0;
    while (status == 0 && scan->at.lsn < to_lsn)
        if (!step_over_hole(scan, to_lsn))
            status = scan_group(scan);
    return status;
}

static bool step_over_hole(struct scan *scan, uint64_t to_lsn)
{
    uint64_t lsn = segment_step_over(scan->segment, scan->at.lsn);
    if (lsn == scan->at.lsn)
        return false;
    scan->at =
        (struct wal_position){.lsn = min_u64(lsn, to_lsn), .file_number = scan->segment->number};
    return true;
}

static int scan_group(struct scan *scan)
{
    const struct segment *segment = scan->segment;
    uint64_t offset = segment_offset(segment, scan->at.lsn);
    struct group_head head;
    uint8_t *bytes;
    int status = file_reader_bytes(&scan->reader, offset, DISK_BLOCK, &bytes);
    if (status < 0)
        return status == E_TRUNCATED ? E_CORRUPT : status;
    if (group_head_parse(bytes, segment->generation, scan->reader.file_bytes - offset, &head) !=
            GROUP_VERDICT_TORN ||
        head.lsn != scan->at.lsn)
        return E_CORRUPT;
    status =
        file_reader_bytes(&scan->reader, offset, group_total_bytes(head.payload_bytes), &bytes);
    if (status < 0)
        return status == E_TRUNCATED ? E_CORRUPT : status;
    if (!group_payload_is_good(bytes, &head) || !follows(&scan->at, &head, bytes))
        return E_CORRUPT;
    status = scan->visit(scan->context, &head, bytes);
    if (status < 0)
        return status;
    scan->at.lsn += group_total_bytes(head.payload_bytes);
    scan->at.chain = head.chain;
    scan->at.group_number = head.number;
    scan->at.append_time_ms = head.append_time_ms;
    return 0;
}

static bool follows(const struct wal_position *at, const struct group_head *head,
                    const uint8_t *bytes)
{
    return at->group_number == 0 ||
           (head->number == at->group_number + 1 && head->append_time_ms >= at->append_time_ms &&
            head->chain == group_chain(at->chain, bytes));
}
