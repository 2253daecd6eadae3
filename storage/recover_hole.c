/* Holes: what `wal salvage` gives up, when recovery has refused and there is no other way on.
 *
 * A hole [from, to) says: between these LSNs the log is lost; what lies at `to` and behind it
 * counts. It is used by the walk when it comes to `from`, and it is on record in the CUT that
 * salvage writes, so that every later recovery takes the same step. LSNs are never used twice:
 * whatever proved bytes below `to` (checkpoints, other shards) stays true of the log's positions,
 * though their content is gone. */
#include "storage/recover_private.h"

static int find_group(struct recover *recover, struct hole *hole);
static int find_in_file(struct recover *recover, struct wal_file *file, struct hole *hole);

const struct hole *recover_hole_at(const struct recover *recover, uint64_t lsn)
{
    for (uint32_t i = 0; i < recover->hole_count; i++)
        if (recover->holes[i].from_lsn == lsn)
            return &recover->holes[i];
    return NULL;
}

void recover_hole_record(struct recover *recover, const struct hole *hole)
{
    recover->facts |= FACT_SALVAGE;
    if (recover->hole_count < DISK_HOLES_MAX)
        recover->holes[recover->hole_count++] = *hole;
}

/* The operator's hole begins here: find what lies at its end. Nothing good there: the log ends at
 * `to`. */
int recover_hole_open(struct recover *recover)
{
    const struct recover_hole *wish = recover->options->hole;
    if (wish == NULL || wish->from_lsn != recover->place.lsn || recover->facts & FACT_SALVAGE)
        return 0;
    struct hole hole = {.from_lsn = wish->from_lsn, .to_lsn = wish->to_lsn};
    int status = find_group(recover, &hole);
    if (status < 0)
        return status;
    /* What was wrong with this place is what is given up. */
    recover->facts &= (uint32_t)(FACT_NEWER | FACT_FOREIGN);
    recover_hole_record(recover, &hole);
    return 1;
}

static int find_group(struct recover *recover, struct hole *hole)
{
    uint64_t number =
        recover->place.file ? recover->place.file->pub.number : recover_start_number(recover);
    int status = 0;
    for (uint32_t i = 0; i < recover->numbered && status == 0; i++) {
        struct wal_file *file = &recover->files[i];
        if (file->pub.number >= number && !file->is_void && file->fault == FILE_FINE)
            status = find_in_file(recover, file, hole);
    }
    return status < 0 ? status : 0;
}

/* 1: found. A group of this life at that LSN, intact. */
static int find_in_file(struct recover *recover, struct wal_file *file, struct hole *hole)
{
    uint64_t offset = DISK_SEGMENT_DATA;
    file_reader_open(&recover->reader, file->pub.fd, file->pub.size_bytes);
    while (offset + DISK_BLOCK <= file->pub.size_bytes) {
        struct group_head head;
        enum group_verdict verdict;
        uint8_t *bytes;
        int status = recover_group_at(recover, file, offset, &head, &bytes, &verdict);
        if (status < 0)
            return status;
        if (verdict == GROUP_VERDICT_GOOD && head.lsn == hole->to_lsn && head.type != GROUP_CUT) {
            hole->to_file = file->pub.number;
            hole->to_offset = offset;
            return 1;
        }
        offset +=
            verdict == GROUP_VERDICT_GOOD ? group_total_bytes(head.payload_bytes) : DISK_BLOCK;
    }
    return 0;
}
