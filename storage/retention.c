/* Passes of retention, and expiry of closed files by time. What is decided: retention.h. A pass:
 *
 *     RESTS -> FILES (class by class, file by file, partition by partition) -> PARTITIONS (each once) -> RESTS
 *
 * Happy path: no class is due and no partition is above its limit; a pass over 10,000 partitions is then 10,000
 * comparisons in ten turns, once a second.
 *
 * Failure modes: the log is full: the step is tried again in the next turn; an index image can't be had: this pass
 * leaves the file out, the next one tries again. */
#include "storage/retention.h"

#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "storage/store_lookup.h"
#include "storage/store_private.h"

static void pass_begin(struct retention *retention);
static void pass_end(struct retention *retention);
static void classes_collect(struct retention *retention);
static void class_add(struct retention *retention, uint64_t retention_ms);
static uint64_t class_of(const struct retention *retention, uint64_t retention_ms);
static enum retention_step files_step(struct retention *retention);
static void class_next(struct retention *retention);
static bool place_due(struct store *store, const struct retention_class *class,
                      struct place *place);
static enum retention_step file_step(struct retention *retention, struct retention_class *class,
                                     struct place place, const struct index_image *image);
static enum retention_step file_expire(struct retention *retention,
                                       const struct retention_class *class,
                                       const struct index_image *image);
static uint64_t bytes_from(const struct index_image *image, const struct disk_index_partition *p,
                           uint64_t offset);
static enum retention_step partitions_step(struct retention *retention);

int retention_init(struct retention *retention, struct store *store)
{
    *retention = (struct retention){.store = store, .classes_are_old = true};
    retention->lookup = calloc(1, sizeof(*retention->lookup));
    return retention->lookup ? 0 : E_NO_MEMORY;
}

void retention_deinit(struct retention *retention)
{
    free(TAKE(retention->lookup));
}

int retention_turn(struct retention *retention)
{
    if (retention->loading)
        return 0;
    if (retention->phase == RETENTION_RESTS) {
        if (retention->store->now_ns < retention->next_pass_ns)
            return 0;
        pass_begin(retention);
    }
    bool in_files = retention->phase == RETENTION_FILES;
    enum retention_step step = in_files ? files_step(retention) : partitions_step(retention);
    if (step == RETENTION_NEXT && in_files)
        retention->phase = RETENTION_PARTITIONS;
    else if (step == RETENTION_NEXT)
        pass_end(retention);
    return step == RETENTION_WAIT ? 0 : 1;
}

uint64_t retention_deadline_ns(const struct retention *retention)
{
    bool rests = retention->phase == RETENTION_RESTS && !retention->loading;
    return rests ? retention->next_pass_ns : UINT64_MAX;
}

void retention_settings_changed(struct retention *retention, bool is_new)
{
    retention->classes_are_old = true;
    retention->files_are_undone |= !is_new;
}

void retention_kick(struct retention *retention, uint64_t now_ns)
{
    retention->next_pass_ns = min_u64(retention->next_pass_ns, now_ns + RETENTION_KICK_NS);
}

enum retention_step retention_move(struct retention *retention, struct partition *partition,
                                   uint64_t log_start, uint64_t bytes_gone)
{
    ASSERT(log_start > partition->log_start && log_start <= partition->visible_end);
    struct disk_log_start payload = {le64_make(log_start), le64_make(bytes_gone)};
    struct wal_entry entry = {.type = ENTRY_LOG_START,
                              .topic_id = partition->topic_id,
                              .partition = partition->partition,
                              .pieces = {{&payload, sizeof(payload)}},
                              .piece_count = 1};
    struct wal_view view;
    if (store_append(retention->store, &entry, &view, NULL) < 0)
        return RETENTION_WAIT;
    retention->moved = true;
    retention->entries++;
    return RETENTION_NEXT;
}

/* A file whose index can't be had is left to the next pass, and with it the rest of its class. */
void retention_image_loaded(struct image_load *load)
{
    struct retention *retention = CONTAINER_OF(load, struct retention, load);
    retention->loading = false;
    if (load->status != 0)
        class_next(retention);
}

/* ---- a pass ---- */

static void pass_begin(struct retention *retention)
{
    if (retention->classes_are_old)
        classes_collect(retention);
    retention->phase = RETENTION_FILES;
    retention->class_index = 0;
    retention->row = 0;
    retention->partition = 0;
    retention->moved = false;
}

static void pass_end(struct retention *retention)
{
    retention->phase = RETENTION_RESTS;
    retention->next_pass_ns = retention->store->now_ns + RETENTION_PASS_NS;
    if (retention->moved)
        archives_log_start_moved(retention->store->archives);
}

/* A class goes on where it was, unless a partition with data in old files may have come into it. */
static void classes_collect(struct retention *retention)
{
    struct partitions *partitions = retention->store->partitions;
    struct retention_class before[RETENTION_CLASSES_MAX];
    uint32_t before_count = retention->files_are_undone ? 0 : retention->class_count;
    memcpy(before, retention->classes, sizeof(before));
    retention->class_count = 0;
    for (uint32_t i = 0; i < partitions_count(partitions); i++)
        class_add(retention, le64_get(partitions_at(partitions, i)->settings.retention_ms));
    for (uint32_t i = 0; i < retention->class_count; i++)
        for (uint32_t k = 0; k < before_count; k++)
            if (before[k].retention_ms == retention->classes[i].retention_ms)
                retention->classes[i] = before[k];
    retention->classes_are_old = retention->files_are_undone = false;
}

static void class_add(struct retention *retention, uint64_t retention_ms)
{
    struct retention_class *classes = retention->classes;
    struct retention_class added = {.retention_ms = retention_ms};
    uint32_t at = 0;
    while (at < retention->class_count && classes[at].retention_ms < retention_ms)
        at++;
    if (retention_ms == RETENTION_FOR_EVER ||
        (at < retention->class_count && classes[at].retention_ms == retention_ms))
        return;
    if (retention->class_count == RETENTION_CLASSES_MAX) {
        if (at == RETENTION_CLASSES_MAX)
            classes[at - 1] = added; // the longest: others must not live shorter than they may
        return;
    }
    for (uint32_t i = retention->class_count++; i > at; i--)
        classes[i] = classes[i - 1];
    classes[at] = added;
}

/* What the partition's data really lives: its class's time. */
static uint64_t class_of(const struct retention *retention, uint64_t retention_ms)
{
    for (uint32_t i = 0; i < retention->class_count; i++)
        if (retention->classes[i].retention_ms >= retention_ms)
            return retention->classes[i].retention_ms;
    return RETENTION_FOR_EVER;
}

/* ---- time, closed files ---- */

static enum retention_step files_step(struct retention *retention)
{
    struct place place;
    if (retention->class_index == retention->class_count)
        return RETENTION_NEXT;
    struct retention_class *class = &retention->classes[retention->class_index];
    if (!place_due(retention->store, class, &place)) {
        class_next(retention);
        return RETENTION_MORE;
    }
    retention->load.done = retention_image_loaded;
    retention->loading = true;
    if (place_image(retention->store, place, &retention->load) == 0)
        return RETENTION_WAIT;
    retention_image_loaded(&retention->load);
    if (retention->load.status != 0)
        return RETENTION_MORE;
    return file_step(retention, class, place, retention->load.image);
}

static void class_next(struct retention *retention)
{
    retention->class_index++;
    retention->row = 0;
}

/* The oldest file that the class has not done with, if it may have expired and all of it is visible. */
static bool place_due(struct store *store, const struct retention_class *class, struct place *place)
{
    uint32_t i = places_first_behind(store, class->done_lsn);
    if (store->now_wall_ms < class->due_ms || i >= places_count(store))
        return false;
    *place = places_at(store, i);
    struct segment_index *index = place->segment ? place->segment->index : NULL;
    return !index || !index->open;
}

static enum retention_step file_step(struct retention *retention, struct retention_class *class,
                                     struct place place, const struct index_image *image)
{
    class->due_ms = image->append_ms_last + class->retention_ms;
    bool overflows = class->due_ms < class->retention_ms;
    if (overflows || retention->store->now_wall_ms < class->due_ms) {
        class->due_ms = overflows ? UINT64_MAX : class->due_ms;
        return RETENTION_MORE; // and place_due() will say no
    }
    if (file_expire(retention, class, image) == RETENTION_WAIT)
        return RETENTION_WAIT;
    if (retention->row == image->partition_count) {
        class->done_lsn = place.end_lsn;
        retention->row = 0;
    }
    return RETENTION_MORE;
}

/* Moves the log starts of the class's partitions behind this file, a slice of them at a time. */
static enum retention_step file_expire(struct retention *retention,
                                       const struct retention_class *class,
                                       const struct index_image *image)
{
    struct partitions *partitions = retention->store->partitions;
    uint64_t end = min_u64(image->partition_count, (uint64_t)retention->row + RETENTION_SLICE);
    for (; retention->row < end; retention->row++) {
        const struct disk_index_partition *p = &image->directory[retention->row];
        uint64_t end_offset = le64_get(p->end_offset);
        struct partition *partition =
            partitions_find(partitions, le32_get(p->topic_id), le32_get(p->partition));
        if (!partition || partition->log_start >= end_offset ||
            class_of(retention, le64_get(partition->settings.retention_ms)) != class->retention_ms)
            continue;
        uint64_t bytes = bytes_from(image, p, partition->log_start);
        if (retention_move(retention, partition, end_offset, bytes) == RETENTION_WAIT)
            return RETENTION_WAIT;
    }
    return RETENTION_NEXT;
}

static uint64_t bytes_from(const struct index_image *image, const struct disk_index_partition *p,
                           uint64_t offset)
{
    if (offset <= le64_get(p->first_offset))
        return le64_get(p->bytes);
    uint32_t end = le32_get(p->entry_start) + le32_get(p->entry_count);
    uint64_t bytes = 0;
    for (uint32_t i = index_image_find(image, p, offset); i < end; i++)
        bytes += index_image_at(image, i).size;
    return bytes;
}

/* ---- partition by partition ---- */

static enum retention_step partitions_step(struct retention *retention)
{
    struct partitions *partitions = retention->store->partitions;
    for (uint32_t n = 0; n < RETENTION_SLICE; n++) {
        if (retention->partition >= partitions_count(partitions))
            return RETENTION_NEXT;
        struct partition *partition = partitions_at(partitions, retention->partition);
        enum retention_step step = retention_check_partition(retention, partition);
        if (step != RETENTION_NEXT)
            return step;
        retention->partition++;
    }
    return RETENTION_MORE;
}
