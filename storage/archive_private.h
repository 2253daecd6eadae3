/* What the parts of the archive share.
 *
 *     archive.c          the set: rows, order, what checkpoints know, unlinking, the turn
 *     archive_open.c     start-up: is every named file there and whole?
 *     archive_read.c     descriptors and reads
 *     archive_image.c    index images of files
 *     archive_survey.c   what of each file is still live
 *     archive_verify.c   a whole file, for tools
 *     archive_reserve.c  space kept back for a run on a full disk
 *     unweave*.c         making a run (unweave.h) */
#ifndef SLUICE_STORAGE_ARCHIVE_PRIVATE_H
#define SLUICE_STORAGE_ARCHIVE_PRIVATE_H

#include <stdio.h>

#include "storage/archive.h"
#include "storage/disk_header.h"

#define ARCHIVE_PATH_MAX 4200

enum archive_fd_state {
    ARCHIVE_FD_CLOSED,
    ARCHIVE_FD_OPENING,
    ARCHIVE_FD_OPEN,
    ARCHIVE_FD_CLOSING
};

struct archive {
    struct list dropped_link; // in archives->dropped, when dropped
    struct archives *archives;
    uint32_t row;
    uint64_t number;
    uint64_t base_lsn, end_lsn;
    uint64_t file_bytes;
    uint64_t data_bytes;
    uint64_t live_bytes;
    uint64_t append_ms_last;
    uint64_t index_offset;
    uint64_t index_bytes;
    uint64_t surveyed; // archives->log_starts_moved that live_bytes answers to
    bool dropped;
    uint64_t dropped_after; // checkpoints begun before it was dropped

    uint32_t pins; // reads and image loads: not closed, not unlinked
    enum archive_fd_state fd_state;
    int fd;
    struct io_op fd_op;  // open and close
    struct list fd_link; // in archives->open_files, used last in front
    struct list waiting; // reads that wait for the descriptor
    char path[];         // as long as it is: there may be thousands of these
};

struct archives_checkpoint { // what a checkpoint knows of the set
    uint64_t number;         // of archives_checkpoint_begin() calls up to it; 0: nothing known
    uint64_t end_lsn;
};

enum archive_reserve_state {
    RESERVE_NONE,
    RESERVE_OPENING,
    RESERVE_TAKING, // blocks, no operation in flight
    RESERVE_CLOSING,
    RESERVE_READY,
    RESERVE_FAILING, // closing, then releasing
    RESERVE_RELEASING,
};

struct archive_reserve {
    enum archive_reserve_state state;
    bool wanted;
    int fd;
    uint64_t taken; // bytes so far
    struct io_op op;
    char path[ARCHIVE_PATH_MAX];
};

enum archive_survey_state { SURVEY_RESTING, SURVEY_LOADING, SURVEY_COUNTING };

struct archive_survey {
    enum archive_survey_state state;
    struct archive_image_load load; // of the file that is looked at
    uint32_t partition;             // of its directory, next
    uint64_t live_bytes;            // so far
    bool in_round;
    uint64_t round;   // archives->log_starts_moved when this round began
    uint64_t next_ns; // not before
};

struct unweave;

struct archives {
    struct archives_options options;
    struct table *table;
    struct archive **used; // by base_lsn
    uint32_t count;
    struct list dropped;
    uint64_t next_number;
    uint64_t end_lsn; // of the last run, also of one that left no file
    uint64_t wall_ms; // as told last; for people
    uint64_t now_ns;
    enum archive_pressure pressure;

    uint32_t ops; // in flight, of all parts
    bool quiesced;
    uint32_t fd_count; // opening, open, closing
    struct list open_files;

    uint64_t checkpoints_begun;
    struct archives_checkpoint checkpoint_running, checkpoint_newest, checkpoint_older;

    uint64_t log_starts_moved; // calls
    struct archive_survey survey;
    struct archive *unlinking;
    struct io_op unlink_op;
    struct archive_reserve reserve;
    struct unweave *unweave;
    struct archives_stats stats;
};

static inline struct disk_expect archive_expect(const struct archives_options *options,
                                                uint64_t number)
{
    return (struct disk_expect){
        .magic = DISK_MAGIC_ARCHIVE,
        .store_id = options->store_id,
        .shard_id = options->shard_id,
        .number = number,
    };
}

/* Both give `path` back. */
char *archive_path(char path[ARCHIVE_PATH_MAX], const char *dir, uint64_t number);
char *archive_tmp_path(char path[ARCHIVE_PATH_MAX], const char *dir, uint64_t number);

/* ---- archive.c ---- */

/* A file object, not in the set. NULL: no memory. */
struct archive *archive_new(struct archives *archives, uint64_t number);
void archive_free(struct archive *archive);
/* Puts it in its place in the order. */
void archives_insert(struct archives *archives, struct archive *archive);
/* The first in the order that begins above base_lsn. */
uint32_t archives_place_above(const struct archives *archives, uint64_t base_lsn);
/* Into the table. False: no row. */
bool archives_row_add(struct archives *archives, struct archive *archive);
/* Out of use: the row says so. */
void archives_drop(struct archives *archives, struct archive *archive);
void archives_live_set(struct archives *archives, struct archive *archive, uint64_t live_bytes);

/* ---- archive_open.c ---- */

/* Footer against what the row says; fills index_offset and index_bytes. 0, CORRUPT, FOREIGN,
 * NEWER. */
MUST_USE int archive_footer_check(const struct archives_options *options, const uint8_t *block,
                                  struct archive *archive, const char **why);

/* ---- archive_read.c ---- */

void archive_pin(struct archive *archive);
void archive_unpin(struct archive *archive);
/* Closes the descriptor if it is open; nothing may be pinned. */
void archive_close(struct archive *archive);

/* ---- archive_image.c ---- */

static inline uint64_t archive_image_key(const struct archive *archive)
{
    return archive->number * 2 + 1;
}
/* Loads into load->own, whatever the cache holds; the caller frees it. */
void archive_image_start_private(struct archives *archives, struct archive_image_load *load);

/* ---- archive_survey.c, archive_reserve.c: parts of the turn ---- */

int archive_survey_turn(struct archives *archives);
uint64_t archive_survey_deadline_ns(const struct archives *archives);
void archive_survey_deinit(struct archives *archives);
int archive_reserve_turn(struct archives *archives);
/* At start: true when this is the reserve, whole. */
bool archive_reserve_found(struct archives *archives, const char *name, uint64_t size_bytes);
/* Gives the space back, which takes some turns. False: there is no reserve. */
bool archive_reserve_release(struct archives *archives);
void archive_reserve_deinit(struct archives *archives);

#endif
