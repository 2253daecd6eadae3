/* What the parts of the unweaving job share.
 *
 *     unweave.c         the table of steps, pace, end
 *     unweave_begin.c   what goes into a run
 *     unweave_plan.c    what goes into the run, in which order, and where it lies now
 *     unweave_read.c    fetching one band of it
 *     unweave_write.c   the output file
 *     unweave_end.c     into the set with it, or away
 *
 * A band is a stretch of the output file as large as the job's buffer:
 *
 *     output  [header|..batches, by partition and offset...................|index|footer]
 *             |<-- band 0 -->|<-- band 1 -->|<-- band 2 -->|
 *
 * Sources are cut into pieces of UNWEAVE_PIECE_BYTES. Planning a band hangs each batch, or its
 * part, into the list of the piece where it lies now; reading goes through the pieces in order,
 * takes of each the stretch from its first to its last wanted byte, and copies the fragments to
 * their places. So reads are few and in file order, and what no band needs of a source is passed
 * over. */
#ifndef SLUICE_STORAGE_UNWEAVE_PRIVATE_H
#define SLUICE_STORAGE_UNWEAVE_PRIVATE_H

#include "storage/archive_private.h"
#include "storage/index_private.h"
#include "storage/unweave.h"

#define UNWEAVE_PIECE_BYTES ((uint32_t)(256 * KIB))
#define UNWEAVE_READS_MAX 8
#define UNWEAVE_WRITES_MAX 4
#define UNWEAVE_WRITE_BYTES ((uint32_t)(1 * MIB))
#define UNWEAVE_ARCHIVES_MAX 8
#define UNWEAVE_INPUTS_MAX (ARCHIVE_RUN_SEGMENTS_MAX + UNWEAVE_ARCHIVES_MAX)
#define UNWEAVE_NO_FRAGMENT UINT32_MAX

enum unweave_step {
    UNWEAVE_IDLE,
    UNWEAVE_LOAD,  // images of archive files that are rewritten
    UNWEAVE_COUNT, // partitions and batches that are still wanted
    UNWEAVE_OPEN,
    UNWEAVE_PLAN, // one band
    UNWEAVE_READ,
    UNWEAVE_VERIFY,
    UNWEAVE_WRITE,
    UNWEAVE_RESERVE, // the disk is full: waits until the reserve is given back
    UNWEAVE_INDEX,   // the index goes through the buffer too
    UNWEAVE_SYNC,
    UNWEAVE_CLOSE,
    UNWEAVE_RENAME,
    UNWEAVE_SYNC_DIR,
    UNWEAVE_FAIL_DRAIN,
    UNWEAVE_FAIL_CLOSE,
    UNWEAVE_FAIL_UNLINK,
};

struct unweave_input { // a source: a segment or an archive file
    struct segment *segment;
    struct archive *archive;
    struct index_image image;
    uint64_t origin;      // lowest position that a batch may have
    uint64_t end;         // one behind the highest byte
    uint64_t file_at;     // where `origin` lies in the file
    uint32_t piece_first; // in unweave->pieces
    uint32_t partition;   // cursor in the directory
    uint32_t entry;       // cursor in the entries of the partition that is merged
    uint32_t entry_end;
};

struct unweave_piece {
    uint32_t fragments; // the list's first; UNWEAVE_NO_FRAGMENT: nothing wanted
    uint32_t low, high; // the stretch that is wanted, within the piece
};

struct unweave_fragment { // a batch, or the part of it that lies in one piece
    uint32_t next;
    uint32_t from; // in the piece
    uint32_t len;
    uint32_t to; // in the band
};

enum unweave_read_state { UNWEAVE_READ_FREE, UNWEAVE_READ_FLYING, UNWEAVE_READ_DONE };

struct unweave_read {
    struct unweave *unweave;
    enum unweave_read_state state;
    struct io_op op;             // of a segment
    struct archive_read archive; // of an archive file
    int status;
    int os_error;
    uint32_t piece;
    uint32_t low; // of the piece, where the buffer begins
    uint32_t len;
    uint8_t *buffer;
};

struct unweave_write {
    struct unweave *unweave;
    struct io_op op;
    uint32_t at; // in the band
};

struct unweave_merge { // cursor over the output order
    uint64_t key;      // of the partition that is merged
    bool in_partition;
    uint32_t key_index;  // of the key, in log_starts
    uint32_t input;      // whose entries come next
    uint64_t end_offset; // of the last batch taken
    uint32_t partition_out, entry_out;
};

struct unweave {
    struct archives *archives;
    enum unweave_step step;
    bool is_rewrite;     // of archive files only: nobody asked for it
    bool rewrite_wanted; // a run went well: look for files that are mostly dead
    uint64_t begun_ns;
    uint64_t number;
    uint64_t base_lsn, end_lsn, append_ms_last;
    uint64_t log_starts_moved; // as of the count
    int failure;

    struct unweave_input inputs[UNWEAVE_INPUTS_MAX];
    uint32_t input_count;
    struct unweave_input *older; // segments in front of the sources: bytes only, no image; heap
    uint32_t older_count;
    uint32_t load_next;
    struct archive_image_load load;

    struct unweave_merge merge;
    uint64_t *log_starts;                  // of each partition, as seen by the count
    uint32_t partition_count, entry_count; // of the output
    struct index_image out;

    struct unweave_piece *pieces;
    uint32_t piece_count, piece_next;
    struct unweave_fragment *fragments;
    uint32_t fragment_count, fragment_max;

    uint8_t *band; // arena
    uint32_t band_capacity;
    uint64_t band_at; // offset in the file of band[0]
    uint32_t band_fill;
    uint32_t band_entry; // first of the output's entries in this band
    uint32_t verify_next;
    bool all_planned;
    uint64_t data_bytes;
    uint64_t index_copied;
    bool footer_done;

    struct unweave_read reads[UNWEAVE_READS_MAX];
    struct unweave_write writes[UNWEAVE_WRITES_MAX];
    uint32_t write_at, write_end; // in the band
    uint32_t write_failed_at;
    uint64_t unsynced; // bytes given to write and not yet known to be safe
    uint64_t written;  // of these: ended, and no sync was started since
    uint64_t syncing;  // of these: covered by the sync in flight
    int write_status;

    /* ---- pace ---- */
    uint32_t in_flight;
    bool was_in_flight;
    uint64_t io_began_ns;
    uint64_t pause_until_ns;

    int fd;
    struct io_op op; // open, fdatasync, close, rename, sync dir, unlink
    char tmp_path[ARCHIVE_PATH_MAX];
    char path[ARCHIVE_PATH_MAX];
};

/* ---- unweave.c ---- */

/* Where a batch of the input's index lies: in itself, or in an older segment, where it was staged. NULL: in none of them. */
struct unweave_input *unweave_holder(struct unweave *unweave, struct unweave_input *input,
                                     uint64_t position);
/* I/Os that may be started now; `most`: when nothing holds back. */
uint32_t unweave_room(struct unweave *unweave, uint32_t calm, uint32_t most);
void unweave_io_begin(struct unweave *unweave);
void unweave_io_end(struct unweave *unweave);

/* ---- unweave_end.c ---- */

/* The file is durable under its name: into the set with it. */
void unweave_install(struct unweave *unweave);
/* Begins to fail: what is in flight ends first. */
void unweave_fail(struct unweave *unweave, int status);
/* Lets go of everything and tells. */
void unweave_report(struct unweave *unweave, int status);

/* ---- unweave_begin.c ---- */

/* Starts a run over archive files that are mostly dead. False: there are none. */
bool unweave_rewrite_begin(struct unweave *unweave);

/* ---- unweave_plan.c ---- */

void unweave_merge_begin(struct unweave *unweave);
/* Steps: 1 done with it, 0 not yet, < 0 failed (told). */
int unweave_count_step(struct unweave *unweave);
MUST_USE int unweave_lists_make(struct unweave *unweave);
void unweave_band_begin(struct unweave *unweave);
int unweave_plan_step(struct unweave *unweave);

/* ---- unweave_read.c ---- */

int unweave_read_step(struct unweave *unweave, int *work);
int unweave_verify_step(struct unweave *unweave);

/* ---- unweave_write.c ---- */

void unweave_header_make(struct unweave *unweave);
void unweave_write_begin(struct unweave *unweave, bool is_last);
int unweave_write_step(struct unweave *unweave, int *work);
void unweave_index_begin(struct unweave *unweave);
int unweave_index_step(struct unweave *unweave);

#endif
