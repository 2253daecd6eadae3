/* The entries of one group: split, checked, replayed. A group whose checksums are right still has
 * to make sense; lengths are held against the bytes that are left, types against those that this
 * version knows. */
#include "base/poison.h"
#include "storage/recover_private.h"

struct replay {
    struct recover *recover;
    uint64_t lsn; // of the entry looked at last
    bool unknown;
};

static int visit_all(const struct group_head *head, uint8_t *payload, uint64_t file_number,
                     recover_visit_fn visit, void *context);
static bool entry_parse(const struct group_head *head, uint8_t *payload, uint32_t at,
                        struct wal_view *view, uint32_t *next);
static bool entry_type_is_known(uint8_t type);
static int check_entry(void *context, const struct wal_view *view);
static int apply_entry(void *context, const struct wal_view *view);

int recover_visit_entries(const struct group_head *head, uint8_t *bytes, uint64_t file_number,
                          recover_visit_fn visit, void *context)
{
    uint8_t *padding = bytes + GROUP_HEADER_BYTES + head->payload_bytes;
    uint64_t len =
        group_total_bytes(head->payload_bytes) - GROUP_HEADER_BYTES - head->payload_bytes;
    poison(padding, len); // an entry that reaches into it is caught under ASan
    int status = visit_all(head, bytes + GROUP_HEADER_BYTES, file_number, visit, context);
    unpoison(padding, len);
    return status;
}

static int visit_all(const struct group_head *head, uint8_t *payload, uint64_t file_number,
                     recover_visit_fn visit, void *context)
{
    uint32_t at = 0;
    uint32_t count = 0;
    for (; at < head->payload_bytes; count++) {
        struct wal_view view;
        if (!entry_parse(head, payload, at, &view, &at))
            return E_CORRUPT;
        view.file_number = file_number;
        int status = visit(context, &view);
        if (status < 0)
            return status;
    }
    return count == head->entry_count ? 0 : E_CORRUPT;
}

/* The view of the entry at `at`, or false when it can't be: nothing is believed of it but through
 * this. */
static bool entry_parse(const struct group_head *head, uint8_t *payload, uint32_t at,
                        struct wal_view *view, uint32_t *next)
{
    struct disk_entry entry;
    if (head->payload_bytes - at < sizeof(entry))
        return false;
    memcpy(&entry, payload + at, sizeof(entry));
    uint64_t len = le32_get(entry.payload_bytes);
    if (align_up(len, 8) > head->payload_bytes - at - sizeof(entry))
        return false;
    *view = (struct wal_view){.lsn = head->lsn + GROUP_HEADER_BYTES + at,
                              .append_time_ms = head->append_time_ms,
                              .type = entry.type,
                              .flags = entry.flags,
                              .topic_id = le32_get(entry.topic_id),
                              .partition = le32_get(entry.partition),
                              .payload = payload + at + sizeof(entry),
                              .payload_bytes = (uint32_t)len};
    *next = at + (uint32_t)sizeof(entry) + (uint32_t)align_up(len, 8);
    return true;
}

/* What this version can read; the rest is refused unless flagged ignorable. */
static bool entry_type_is_known(uint8_t type)
{
    switch (type) {
    case ENTRY_MARK:
    case ENTRY_CUT:
    case ENTRY_EPOCH_START:
    case ENTRY_CONFIG:
    case ENTRY_TIER:
        return false;
    default:
        return type >= ENTRY_BATCH && type <= ENTRY_STAGED_MOVED;
    }
}

/* ---- replay ---- */

int recover_replay_group(struct recover *recover, const struct group_head *head, uint8_t *bytes)
{
    struct place *place = &recover->place;
    struct replay replay = {.recover = recover, .lsn = head->lsn};
    uint64_t number = place->file->pub.number;
    uint64_t entries = recover->result->entries;
    int status = recover_visit_entries(head, bytes, number, check_entry, &replay);
    int applied = 0;
    if (status == 0)
        applied = recover_visit_entries(head, bytes, number, apply_entry, &replay);
    if (status == 0 && applied == 0)
        return 0;
    recover->result->entries = entries;
    recover_fact(recover, replay.unknown ? FACT_UNKNOWN_ENTRY : FACT_BAD_ENTRY, place->file, 0,
                 place->offset + (replay.lsn - place->lsn), place->lsn,
                 place->lsn + group_total_bytes(head->payload_bytes));
    return applied;
}

/* The whole group is checked before its first entry is applied. */
static int check_entry(void *context, const struct wal_view *view)
{
    struct replay *replay = context;
    replay->lsn = view->lsn;
    if (entry_type_is_known(view->type) || view->flags & ENTRY_IGNORABLE)
        return 0;
    replay->unknown = true;
    return E_NEWER;
}

static int apply_entry(void *context, const struct wal_view *view)
{
    struct replay *replay = context;
    struct recover *recover = replay->recover;
    replay->lsn = view->lsn;
    recover->result->entries++;
    if (!entry_type_is_known(view->type) || recover->options->apply == NULL)
        return 0;
    return recover->options->apply(recover->options->context, view);
}
