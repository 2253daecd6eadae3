/* The row of files: which numbers the log needs, and whether they are there and fit.
 *
 *     first_file ... the checkpoint's file ... the file that holds E, its successor, spares ...
 *     \_ older _/    \______ replayed _______/                        needed  not needed
 *
 * A number that a CUT declares void need not be there. An older file that is damaged is excused
 * when a hole covers all LSNs that it can have held: then its loss is on record. */
#include "storage/recover_private.h"

static bool older_is_good(const struct recover *recover, const struct wal_file *file, uint64_t lsn);
static void older_is_bad(struct recover *recover, struct wal_file *previous, uint64_t number);
static int end_of_groups(struct recover *recover, const struct wal_file *file, uint64_t *lsn);
static uint64_t next_base(struct recover *recover, uint64_t number);
static bool excuse(struct recover *recover, uint64_t lsn_from, uint64_t lsn_to);

uint64_t recover_start_number(const struct recover *recover)
{
    return recover->options->has_checkpoint ? recover->options->from.file_number : 1;
}

/* Wherever it lies: what somebody else's file hides, nobody knows. */
void recover_check_strangers(struct recover *recover)
{
    for (uint32_t i = 0; i < recover->numbered; i++) {
        struct wal_file *file = &recover->files[i];
        if (file->fault == FILE_FOREIGN || file->fault == FILE_NEWER)
            (void)recover_file_is_usable(recover, file, file->pub.number);
    }
}

/* Each number from the oldest that the checkpoint needs up to the one it stands in is there, is
 * ours, and begins where a file in that place can begin. Its groups were checked when they were
 * written and will be when read. */
void recover_check_older(struct recover *recover)
{
    const struct recover_options *options = recover->options;
    uint64_t number = options->has_checkpoint ? options->first_file : 1;
    struct wal_file *previous = NULL;
    for (; number < recover_start_number(recover) && !(recover->facts & FACT_MISSING); number++) {
        if (recover_number_is_void(recover, number))
            continue;
        struct wal_file *file = recover_file_find(recover, number);
        if (!older_is_good(recover, file, previous ? previous->pub.base_lsn : 0)) {
            older_is_bad(recover, previous, number);
            continue;
        }
        (void)!recover_file_base(recover, file, &file->pub.base_lsn);
        file->pub.role = RECOVER_LIVE;
        previous = file;
    }
}

static bool older_is_good(const struct recover *recover, const struct wal_file *file, uint64_t lsn)
{
    uint64_t base;
    return file && file->fault == FILE_FINE && recover_file_base(recover, file, &base) &&
           base >= lsn && base < recover->options->from.lsn;
}

bool recover_file_base(const struct recover *recover, const struct wal_file *file, uint64_t *base)
{
    *base = file->first.lsn;
    if (file->first_verdict == GROUP_VERDICT_TORN)
        return true;
    for (uint32_t i = 0; i < recover->hole_count; i++) {
        const struct hole *hole = &recover->holes[i];
        *base = hole->to_lsn - (hole->to_offset - DISK_SEGMENT_DATA);
        if (hole->to_file == file->pub.number)
            return true;
    }
    return false;
}

static void older_is_bad(struct recover *recover, struct wal_file *previous, uint64_t number)
{
    struct wal_file *file = recover_file_find(recover, number);
    uint64_t lsn_from = 0;
    uint64_t lsn_to = next_base(recover, number);
    if (previous && end_of_groups(recover, previous, &lsn_from) < 0)
        lsn_from = previous->pub.base_lsn;
    if (excuse(recover, lsn_from, lsn_to))
        return;
    if (file && file->fault == FILE_FINE)
        recover_fact(recover, FACT_BAD_START, file, number, DISK_SEGMENT_DATA, lsn_from, lsn_to);
    else
        recover_file_blame(recover, file, number, lsn_from, lsn_to);
}

/* Where the good groups of a file end, by reading it: only to say what is lost behind. */
static int end_of_groups(struct recover *recover, const struct wal_file *file, uint64_t *lsn)
{
    struct place place = {.chain_unknown = true, .lsn = file->pub.base_lsn};
    uint64_t offset = DISK_SEGMENT_DATA;
    file_reader_open(&recover->reader, file->pub.fd, file->pub.size_bytes);
    for (;;) {
        struct group_head head;
        enum group_verdict verdict;
        uint8_t *bytes;
        int status = recover_group_at(recover, file, offset, &head, &bytes, &verdict);
        *lsn = place.lsn;
        if (status < 0 || verdict != GROUP_VERDICT_GOOD || head.lsn != place.lsn)
            return status;
        offset += group_total_bytes(head.payload_bytes);
        place.lsn += group_total_bytes(head.payload_bytes);
    }
}

/* Of the next file that says so; the checkpoint's LSN if none does. */
static uint64_t next_base(struct recover *recover, uint64_t number)
{
    while (++number <= recover_start_number(recover)) {
        struct wal_file *file = recover_file_find(recover, number);
        uint64_t base;
        if (file && !file->is_void && older_is_good(recover, file, 0) &&
            recover_file_base(recover, file, &base))
            return base;
    }
    return recover->options->from.lsn;
}

static bool excuse(struct recover *recover, uint64_t lsn_from, uint64_t lsn_to)
{
    for (uint32_t i = 0; i < recover->hole_count; i++) {
        const struct hole *hole = &recover->holes[i];
        if (hole->from_lsn <= lsn_from && hole->to_lsn >= lsn_to)
            return true;
    }
    const struct recover_hole *wish = recover->options->hole;
    if (wish == NULL || wish->from_lsn > lsn_from || wish->to_lsn < lsn_to)
        return false;
    recover_hole_record(recover,
                        &(struct hole){.from_lsn = wish->from_lsn, .to_lsn = wish->to_lsn});
    return true;
}

/* ---- one file ---- */

bool recover_number_is_void(const struct recover *recover, uint64_t number)
{
    for (uint32_t i = 0; i < recover->numbered; i++) {
        const struct wal_file *file = &recover->files[i];
        if (!file->is_cut || file->is_void)
            continue;
        for (uint32_t n = 0; n < le32_get(file->cut.void_count); n++)
            if (file->voids[n] == number)
                return true;
    }
    return false;
}

void recover_file_blame(struct recover *recover, const struct wal_file *file, uint64_t number,
                        uint64_t lsn_from, uint64_t lsn_to)
{
    static const enum fact facts[] = {[FILE_FOREIGN] = FACT_FOREIGN,
                                      [FILE_NEWER] = FACT_NEWER,
                                      [FILE_BAD_HEADER] = FACT_BAD_HEADER,
                                      [FILE_WRONG_SIZE] = FACT_WRONG_SIZE};
    if (file == NULL)
        recover_fact(recover, FACT_MISSING, NULL, number, 0, lsn_from, lsn_to);
    else if (file->fault != FILE_FINE)
        recover_fact(recover, facts[file->fault], file, number, 0, lsn_from, lsn_to);
}

bool recover_file_is_usable(struct recover *recover, struct wal_file *file, uint64_t number)
{
    recover_file_blame(recover, file, number, recover->place.lsn, 0);
    return file && file->fault == FILE_FINE;
}

/* The file behind the one that the log ends in, unless that one holds nothing but its CUT and is
 * the last: then it was never left, and its successor is still to be made. */
void recover_check_successor(struct recover *recover)
{
    const struct place *place = &recover->place;
    uint64_t number = place->file->pub.number + 1;
    if (place->file->is_cut && place->bare && recover_highest(recover) < number)
        return;
    if (!recover_number_is_void(recover, number))
        (void)recover_file_is_usable(recover, recover_file_find(recover, number), number);
}
