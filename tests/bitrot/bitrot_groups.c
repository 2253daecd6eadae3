/* What lies where in the log: its groups and entries, as recovery finds them while it is intact. */
#include <stdlib.h>
#include <string.h>

#include "storage/recover_private.h"
#include "tests/bitrot/bitrot.h"

struct finder {
    struct bitrot *rot;
    uint64_t hash;
    struct segment segment;
};

static void group_note(struct bitrot *rot, const struct bitrot_group *group)
{
    if ((rot->group_count & (rot->group_count + 1)) == 0) {
        size_t capacity = 2 * ((size_t)rot->group_count + 1);
        rot->groups = realloc(rot->groups, capacity * sizeof(*rot->groups));
    }
    rot->groups[rot->group_count++] = *group;
}

static int visit_entry(void *context, const struct wal_view *view)
{
    struct bitrot *rot = context;
    if ((rot->entry_count & (rot->entry_count + 1)) == 0) {
        size_t capacity = 2 * ((size_t)rot->entry_count + 1);
        rot->entries = realloc(rot->entries, capacity * sizeof(*rot->entries));
    }
    rot->entries[rot->entry_count++] =
        (struct bitrot_entry){.lsn = view->lsn,
                              .bytes = (uint32_t)sizeof(struct disk_entry) + view->payload_bytes,
                              .type = view->type};
    return 0;
}

static int visit_group(void *context, const struct group_head *head, uint8_t *bytes)
{
    struct finder *finder = context;
    group_note(finder->rot,
               &(struct bitrot_group){.file = finder->segment.number,
                                      .offset = segment_offset(&finder->segment, head->lsn),
                                      .lsn = head->lsn,
                                      .bytes = group_total_bytes(head->payload_bytes)});
    return recover_visit_entries(head, bytes, finder->segment.number, visit_entry, finder->rot);
}

void bitrot_groups_find(struct bitrot *rot)
{
    struct io *io = io_sim_new(rot->disk, &(struct io_sim_options){.seed = 3});
    struct wal_options wal = {.io = io, .dir = rot->wal_dir, .segment_bytes = BITROT_SEGMENT_BYTES};
    struct recover_options recover = {.read_only = true};
    struct recover_result *result = calloc(1, sizeof(*result));
    struct recover_log log;
    memcpy(wal.store_id, rot->options.store_id, sizeof(wal.store_id));
    if (recover_run(&wal, &recover, result, &log) < 0)
        bitrot_fail("the log is damaged as it was made: %s %s", result->path, result->text);
    if (result->end_lsn != rot->end_lsn || result->proven_lsn != rot->durable_lsn)
        bitrot_fail("E is %llu, written was %llu; D is %llu, acked was %llu",
                    (unsigned long long)result->end_lsn, (unsigned long long)rot->end_lsn,
                    (unsigned long long)result->proven_lsn, (unsigned long long)rot->durable_lsn);
    for (uint32_t i = 0; i < log.count; i++) {
        const struct recover_file *file = &log.files[i];
        struct finder finder = {.rot = rot,
                                .segment = {.fd = file->fd,
                                            .number = file->number,
                                            .generation = file->generation,
                                            .base_lsn = file->base_lsn,
                                            .end_lsn = file->end_lsn}};
        struct wal_position at;
        if (file->role != RECOVER_LIVE && file->role != RECOVER_OPEN)
            continue;
        if (recover_scan_groups(io, &finder.segment, BITROT_SEGMENT_BYTES, file->base_lsn,
                                file->end_lsn, visit_group, &finder, &at) < 0)
            bitrot_fail("file %llu is damaged as it was made", (unsigned long long)file->number);
    }
    recover_log_free(io, &log);
    free(result);
    io_free(io);
}
