/* Retention: which batches have lived long enough, by time and by size of each topic.
 *
 * It decides; the decision is a LOG_START entry, so that a replay never has to ask a clock. What is decided:
 *
 *     time, closed files   a file's data has expired for a topic when its last group was appended longer ago than the
 *                          topic keeps data: the log starts of its partitions move behind the file
 *     time, open segment   batch by batch, by time marks (time_marks.h), so that a silent broker forgets too
 *     size                 batch by batch, oldest first, while the partition is larger than its limit
 *
 * Time is the log's own (append time), never a producer's timestamp. A log start always lies at a batch's border, at
 * or below the visible end. An entry is only made when it moves an eighth of the limit or so, so that a
 * partition at its limit doesn't get an entry for each batch.
 *
 * Classes: partitions with the same retention_ms expire together; a class remembers up to where files have been
 * looked at and when the next one is due, so a pass costs nothing until then. Beyond RETENTION_CLASSES_MAX different values
 * a partition's data lives as long as the next longer class's. */
#ifndef SLUICE_STORAGE_RETENTION_H
#define SLUICE_STORAGE_RETENTION_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/partitions.h"
#include "storage/segment_index.h"

#define RETENTION_CLASSES_MAX 32u
#define RETENTION_PASS_NS (1 * NS_PER_S)
#define RETENTION_KICK_NS (20 * NS_PER_MS) // after a segment was closed: bytes come fast
#define RETENTION_SLICE 1024u              // partitions looked at, or entries made, in one turn
#define RETENTION_FOR_EVER UINT64_MAX

struct retention_class {
    uint64_t retention_ms;
    uint64_t done_lsn; // files that end at or below have been looked at
    uint64_t due_ms;   // nothing of this class expires in a closed file before
};

enum retention_phase {
    RETENTION_RESTS,
    RETENTION_FILES,      // class by class, file by file
    RETENTION_PARTITIONS, // each once: open segment, size
};
enum retention_step {
    RETENTION_MORE, // there is more to do: next turn
    RETENTION_WAIT, // for an image, or for room in the log
    RETENTION_NEXT, // this phase, or this partition, is through
};

struct lookup;
struct retention {
    struct store *store;
    struct retention_class classes[RETENTION_CLASSES_MAX]; // by rising retention_ms
    uint32_t class_count;
    bool classes_are_old;  // collect them again
    bool files_are_undone; // and look at all files again
    enum retention_phase phase;
    uint32_t class_index; // RETENTION_FILES: which class,
    uint32_t row;         //     and which partition of the file
    uint32_t partition;   // RETENTION_PARTITIONS: which
    uint64_t next_pass_ns;
    bool loading; // an image; nothing happens until it is there
    bool moved;   // a log start moved in this pass
    struct image_load load;
    struct lookup *lookup; // of a partition's log start
    bool in_lookup;        // it waited for an image and goes on
    uint64_t entries;      // LOG_START entries made: total
};

MUST_USE int retention_init(struct retention *retention, struct store *store);
void retention_deinit(struct retention *retention);

/* The next bounded step. Returns work done. */
int retention_turn(struct retention *retention);
uint64_t retention_deadline_ns(const struct retention *retention);

/* A partition was opened, or one that may have data has new settings (is_new: false). */
void retention_settings_changed(struct retention *retention, bool is_new);
/* A segment was closed: sizes have grown. */
void retention_kick(struct retention *retention, uint64_t now_ns);

/* ---- retention_partition.c ---- */

/* Open segment and size of one partition. MORE: what is too much lies in the next file, too; again, please. */
enum retention_step retention_check_partition(struct retention *retention,
                                              struct partition *partition);

/* ---- retention.c, for it ---- */

/* Makes the entry. NEXT; or WAIT: the log takes none now. */
enum retention_step retention_move(struct retention *retention, struct partition *partition,
                                   uint64_t log_start, uint64_t bytes_gone);
void retention_image_loaded(struct image_load *load);

#endif
