/* The plan: a merge of the sources' directories, and the places of one band at a time.
 *
 * All sources are sorted the same way, so the output's order is a merge by (topic, partition);
 * within a partition the sources are taken in LSN order, which is offset order. Two passes: the
 * first counts what is still wanted and notes the log starts it saw, so that the second, which
 * fills the new index and lays out the bands, decides the same although log starts move meanwhile.
 *
 * Steps are bounded: some hundred partitions or some thousand batches, below 100 us.
 *
 * Failure modes: a source's index that contradicts itself or another one (overlapping offsets, a
 * position outside of the file, an impossible size): CORRUPT. */
#include "storage/unweave_private.h"

#include <stdlib.h>

#include "base/log.h"
#include "proto/batch.h"

#define COUNT_PARTITIONS 256u
#define PLAN_ENTRIES 2048u

static bool merge_next(struct unweave *unweave);
static uint32_t merge_enter(struct unweave *unweave, uint64_t log_start);
static uint64_t log_start_of(struct unweave *unweave);
static bool partition_enter(struct unweave *unweave);
static struct unweave_input *input_next(struct unweave *unweave);
static int entry_take(struct unweave *unweave, struct unweave_input *input);
static const char *entry_check(const struct unweave *unweave, const struct unweave_input *input,
                               const struct index_entry *entry);
static void entry_note(struct unweave *unweave, const struct index_entry *entry);
static bool fragments_add(struct unweave *unweave, const struct unweave_input *input,
                          const struct index_entry *entry, uint32_t to);
static int source_damaged(struct unweave *unweave, const struct unweave_input *input,
                          const struct index_entry *entry, const char *why);

void unweave_merge_begin(struct unweave *unweave)
{
    unweave->merge = (struct unweave_merge){0};
    for (uint32_t i = 0; i < unweave->input_count; i++)
        unweave->inputs[i].partition = unweave->inputs[i].entry = unweave->inputs[i].entry_end = 0;
}

/* ---- pass 1 ---- */

int unweave_count_step(struct unweave *unweave)
{
    struct unweave_merge *merge = &unweave->merge;
    for (uint32_t i = 0; i < COUNT_PARTITIONS; i++) {
        if (!merge_next(unweave))
            return 1;
        uint64_t log_start = log_start_of(unweave);
        uint32_t wanted = merge_enter(unweave, log_start);
        unweave->log_starts[merge->key_index++] = log_start;
        unweave->entry_count += wanted;
        unweave->partition_count += wanted > 0;
    }
    return 0;
}

static uint64_t log_start_of(struct unweave *unweave)
{
    const struct archives_options *options = &unweave->archives->options;
    return options->log_start(options->context, (uint32_t)(unweave->merge.key >> 32),
                              (uint32_t)unweave->merge.key);
}

/* The next partition of the output's order. False: that was the last. */
static bool merge_next(struct unweave *unweave)
{
    bool found = false;
    for (uint32_t i = 0; i < unweave->input_count; i++) {
        const struct unweave_input *input = &unweave->inputs[i];
        if (input->partition == input->image.partition_count)
            continue;
        uint64_t key = index_partition_key(&input->image.directory[input->partition]);
        unweave->merge.key = found ? min_u64(unweave->merge.key, key) : key;
        found = true;
    }
    return found;
}

/* Sets each source's cursor on what it holds of the partition at or above log_start. Returns how
 * many batches. */
static uint32_t merge_enter(struct unweave *unweave, uint64_t log_start)
{
    uint32_t wanted = 0;
    for (uint32_t i = 0; i < unweave->input_count; i++) {
        struct unweave_input *input = &unweave->inputs[i];
        input->entry = input->entry_end = 0;
        if (input->partition == input->image.partition_count)
            continue;
        const struct disk_index_partition *p = &input->image.directory[input->partition];
        if (index_partition_key(p) != unweave->merge.key)
            continue;
        input->partition++;
        uint32_t first = index_image_find(&input->image, p, log_start);
        if (first == INDEX_NONE)
            continue;
        input->entry = first;
        input->entry_end = le32_get(p->entry_start) + le32_get(p->entry_count);
        wanted += input->entry_end - input->entry;
    }
    return wanted;
}

/* ---- between the passes: memory, now that its size is known ---- */

int unweave_lists_make(struct unweave *unweave)
{
    struct index_identity identity = {
        .shard_id = unweave->archives->options.shard_id,
        .number = unweave->number,
        .base_lsn = unweave->base_lsn,
        .end_lsn = unweave->end_lsn,
        .append_ms_last = unweave->append_ms_last,
    };
    memcpy(identity.store_id, unweave->archives->options.store_id, sizeof(identity.store_id));
    unweave->fragment_max = unweave->entry_count + unweave->piece_count;
    unweave->pieces = malloc(unweave->piece_count * sizeof(*unweave->pieces));
    unweave->fragments = malloc(unweave->fragment_max * sizeof(*unweave->fragments));
    if (!unweave->pieces || !unweave->fragments)
        return E_NO_MEMORY;
    return index_image_make(&unweave->out, &identity, unweave->partition_count,
                            unweave->entry_count);
}

/* ---- pass 2 ---- */

void unweave_band_begin(struct unweave *unweave)
{
    for (uint32_t i = 0; i < unweave->piece_count; i++)
        unweave->pieces[i].fragments = UNWEAVE_NO_FRAGMENT;
    unweave->fragment_count = 0;
    unweave->piece_next = 0;
    unweave->band_entry = unweave->verify_next = unweave->merge.entry_out;
}

/* 1: the band is full, or everything is planned. */
int unweave_plan_step(struct unweave *unweave)
{
    for (uint32_t i = 0; i < PLAN_ENTRIES; i++) {
        if (!unweave->merge.in_partition && !partition_enter(unweave)) {
            unweave->all_planned = true;
            return 1;
        }
        struct unweave_input *input = input_next(unweave);
        if (!input)
            continue;
        int status = entry_take(unweave, input);
        if (status != 0)
            return status;
    }
    return 0;
}

/* Goes on to the next partition of which something is wanted. */
static bool partition_enter(struct unweave *unweave)
{
    struct unweave_merge *merge = &unweave->merge;
    while (merge_next(unweave)) {
        if (merge_enter(unweave, unweave->log_starts[merge->key_index++]) == 0)
            continue;
        struct disk_index_partition *p =
            &index_image_directory(&unweave->out)[merge->partition_out];
        p->topic_id = le32_make((uint32_t)(merge->key >> 32));
        p->partition = le32_make((uint32_t)merge->key);
        p->entry_start = le32_make(merge->entry_out);
        merge->in_partition = true;
        merge->input = 0;
        merge->end_offset = 0;
        return true;
    }
    return false;
}

/* NULL: the partition is complete. */
static struct unweave_input *input_next(struct unweave *unweave)
{
    struct unweave_merge *merge = &unweave->merge;
    for (; merge->input < unweave->input_count; merge->input++) {
        struct unweave_input *input = &unweave->inputs[merge->input];
        if (input->entry < input->entry_end)
            return input;
    }
    merge->in_partition = false;
    merge->partition_out++;
    return NULL;
}

static int entry_take(struct unweave *unweave, struct unweave_input *input)
{
    struct index_entry entry = index_image_at(&input->image, input->entry);
    struct unweave_input *holder = unweave_holder(unweave, input, entry.position);
    const char *why =
        holder ? entry_check(unweave, holder, &entry) : "batch lies in no segment that is there";
    if (why)
        return source_damaged(unweave, input, &entry, why);
    if (entry.size > unweave->band_capacity - unweave->band_fill)
        return 1;
    if (!fragments_add(unweave, holder, &entry, unweave->band_fill))
        return source_damaged(unweave, input, &entry, "batches lie on top of each other");
    input->entry++;
    entry_note(unweave, &entry);
    return 0;
}

static const char *entry_check(const struct unweave *unweave, const struct unweave_input *input,
                               const struct index_entry *entry)
{
    if (entry->size < BATCH_HEADER_SIZE || entry->size > unweave->band_capacity - DISK_BLOCK)
        return "batch of an impossible size";
    if (entry->size > input->end - input->origin || entry->position < input->origin ||
        entry->position > input->end - entry->size)
        return "batch lies outside of the file";
    if (entry->base_offset < unweave->merge.end_offset)
        return "offsets overlap those of an older source";
    return NULL;
}

/* Into the new index. */
static void entry_note(struct unweave *unweave, const struct index_entry *entry)
{
    struct unweave_merge *merge = &unweave->merge;
    struct index_entry moved = *entry;
    moved.position = unweave->band_at + unweave->band_fill;
    index_image_entries(&unweave->out)[merge->entry_out++] = index_entry_disk(&moved);
    index_directory_add(&index_image_directory(&unweave->out)[merge->partition_out], &moved);
    merge->end_offset = entry->base_offset + entry->record_count;
    unweave->band_fill += entry->size;
    unweave->data_bytes += entry->size;
}

static bool fragments_add(struct unweave *unweave, const struct unweave_input *input,
                          const struct index_entry *entry, uint32_t to)
{
    uint64_t at = input->file_at + (entry->position - input->origin);
    for (uint32_t left = entry->size; left > 0;) {
        uint32_t from = (uint32_t)(at % UNWEAVE_PIECE_BYTES);
        uint32_t len = (uint32_t)min_u64(left, UNWEAVE_PIECE_BYTES - from);
        struct unweave_piece *piece =
            &unweave->pieces[input->piece_first + at / UNWEAVE_PIECE_BYTES];
        if (unweave->fragment_count == unweave->fragment_max)
            return false;
        if (piece->fragments == UNWEAVE_NO_FRAGMENT)
            *piece = (struct unweave_piece){UNWEAVE_NO_FRAGMENT, UNWEAVE_PIECE_BYTES, 0};
        piece->low = (uint32_t)min_u64(piece->low, from);
        piece->high = (uint32_t)max_u64(piece->high, from + len);
        unweave->fragments[unweave->fragment_count] =
            (struct unweave_fragment){piece->fragments, from, len, to};
        piece->fragments = unweave->fragment_count++;
        at += len;
        to += len;
        left -= len;
    }
    return true;
}

static int source_damaged(struct unweave *unweave, const struct unweave_input *input,
                          const struct index_entry *entry, const char *why)
{
    LOG_ERROR("archive.source_damaged", LOG_STR("why", why),
              LOG_STR("path", input->segment ? input->segment->path : input->archive->path),
              LOG_U64("position", entry->position), LOG_U64("bytes", entry->size),
              LOG_U64("topic_id", unweave->merge.key >> 32),
              LOG_U64("partition", (uint32_t)unweave->merge.key),
              LOG_U64("base_offset", entry->base_offset));
    return E_CORRUPT;
}
