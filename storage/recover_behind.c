/* What lies behind E: read to learn how far the log was proven durable (D), and to say what is
 * dropped.
 *
 * Read are the rest of the file that holds E, and of the files behind it at least as many bytes as
 * can have been in flight, more while groups of this life turn up. Files that were never entered
 * are not read to their end: there may be gigabytes of them, and a file is entered only at its
 * beginning. */
#include "storage/recover_private.h"

static int look_through(struct recover *recover, struct wal_file *file, uint64_t offset,
                        uint64_t limit, bool *found);
static void count_behind(struct recover *recover, enum group_verdict verdict,
                         const struct group_head *head);

/* What lies where the next group should be: in this file, or, when nothing does, at the next one's
 * start. But when groups of this life go on in this file, the one that is missing lay here. */
int recover_look_at_end(struct recover *recover)
{
    struct place *place = &recover->place;
    struct wal_file *files[2] = {place->file, recover_file_after(recover, place->file)};
    uint64_t offsets[2] = {place->offset, DISK_SEGMENT_DATA};
    for (int i = 0; i < 2; i++) {
        struct group_head head;
        enum group_verdict verdict;
        uint8_t *bytes;
        if (files[i] == NULL || files[i]->fault != FILE_FINE)
            continue;
        if (i == 1 && recover->behind_file == place->file)
            break;
        file_reader_open(&recover->reader, files[i]->pub.fd, files[i]->pub.size_bytes);
        int status = recover_group_at(recover, files[i], offsets[i], &head, &bytes, &verdict);
        if (status < 0)
            return status;
        if (verdict == GROUP_VERDICT_NONE || verdict == GROUP_VERDICT_NEWER)
            continue;
        if (i == 1 && verdict != GROUP_VERDICT_BAD && head.lsn > place->lsn)
            break; // and so it does when the next file begins further on
        bool good = verdict == GROUP_VERDICT_GOOD;
        recover_fact(recover, good ? FACT_AT_STALE : FACT_AT_BAD, files[i], 0, offsets[i],
                     place->lsn, 0);
        return 0;
    }
    return 0;
}

/* The most that can have been submitted and not durable: every slot full. A group further behind E
 * than that proves by its durable_lsn that E was durable. */
static uint64_t flight_bytes_max(const struct recover *recover)
{
    const struct wal_options *wal = recover->wal;
    uint64_t slots = max_u64(wal->group_slot_count, 64);
    return slots * GROUP_BYTES_MAX + 4 * (uint64_t)max_u64(wal->batch_bytes_max, 4 * MIB);
}

int recover_look_behind(struct recover *recover)
{
    struct place *place = &recover->place;
    uint64_t left = flight_bytes_max(recover);
    uint64_t size = recover->wal->segment_bytes;
    bool found = false;
    int status = look_through(recover, place->file, place->offset, size, &found);
    left -= min_u64(left, size - min_u64(place->offset, size));
    struct wal_file *file = place->file;
    while (status == 0 && (file = recover_file_after(recover, file)) != NULL) {
        if (file->fault != FILE_FINE)
            continue;
        if (left == 0 && file->first_verdict == GROUP_VERDICT_NONE)
            continue;
        uint64_t limit = min_u64(size, DISK_SEGMENT_DATA + max_u64(left, DISK_BLOCK));
        found = false;
        status = look_through(recover, file, DISK_SEGMENT_DATA, limit, &found);
        if (status == 0 && found && limit < size)
            status = look_through(recover, file, limit, size, &found);
        left -= min_u64(left, limit);
    }
    return status;
}

/* Every block may begin a group. A good one is skipped as a whole: what a producer sent can't pose
 * as one. */
static int look_through(struct recover *recover, struct wal_file *file, uint64_t offset,
                        uint64_t limit, bool *found)
{
    file_reader_open(&recover->reader, file->pub.fd, file->pub.size_bytes);
    while (offset + DISK_BLOCK <= limit) {
        struct group_head head;
        enum group_verdict verdict;
        uint8_t *bytes;
        int status = recover_group_at(recover, file, offset, &head, &bytes, &verdict);
        if (status < 0)
            return status;
        offset +=
            verdict == GROUP_VERDICT_GOOD ? group_total_bytes(head.payload_bytes) : DISK_BLOCK;
        if (verdict == GROUP_VERDICT_NONE || verdict == GROUP_VERDICT_NEWER)
            continue;
        *found = true;
        recover->behind_file = recover->behind_file ? recover->behind_file : file;
        count_behind(recover, verdict, &head);
    }
    return 0;
}

static void count_behind(struct recover *recover, enum group_verdict verdict,
                         const struct group_head *head)
{
    struct recover_result *result = recover->result;
    recover->facts |= FACT_BEHIND;
    if (verdict == GROUP_VERDICT_BAD) {
        result->bad_bytes += DISK_BLOCK;
        return;
    }
    uint32_t total = group_total_bytes(head->payload_bytes);
    if (verdict == GROUP_VERDICT_TORN) {
        result->torn_bytes += total;
        return;
    }
    result->stale_bytes += total;
    if (head->lsn > recover->place.lsn)
        recover->behind_from = min_u64(recover->behind_from, head->lsn);
}
