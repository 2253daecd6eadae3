/* The inside of recovery: gather (recover_files.c) -> walk (recover_walk.c) -> decide and act
 * (recover.c, recover_cut.c). Everything here blocks and runs once, at start. */
#ifndef SLUICE_STORAGE_RECOVER_PRIVATE_H
#define SLUICE_STORAGE_RECOVER_PRIVATE_H

#include "storage/group.h"
#include "storage/file_reader.h"
#include "storage/recover.h"
#include "storage/segment.h"

#define RECOVER_FILES_MAX 65536u // numbers further apart than this are no row
#define RECOVER_CUT_NAME "cut.tmp"

enum file_fault { // of a numbered file, seen on its own
    FILE_FINE,
    FILE_FOREIGN,
    FILE_NEWER,
    FILE_BAD_HEADER,
    FILE_WRONG_SIZE,
};

struct wal_file {
    struct recover_file pub;
    enum file_fault fault;
    bool is_void; // a CUT behind it says so
    enum group_verdict first_verdict;
    struct group_head first; // of the group at DISK_SEGMENT_DATA, when its header is intact
    bool is_cut;             // and it is a good CUT
    struct disk_cut cut;
    uint64_t *voids; // cut.void_count numbers, heap
};

/* One hole of the log that `wal salvage` made, or is about to make. */
struct hole {
    uint64_t from_lsn, to_lsn;
    uint64_t to_file, to_offset; // 0, 0: nothing good lies at to_lsn but a CUT
    uint64_t owner;              // number of the file whose CUT records it; 0: none yet
};

/* Things that may be true of a log; recover_cases says what follows from them. */
enum fact {
    FACT_NEWER = 1 << 0,      // a needed file or group of a newer format
    FACT_FOREIGN = 1 << 1,    // a file of another store or shard, or under another number
    FACT_MISSING = 1 << 2,    // a number of the row is not there
    FACT_BAD_HEADER = 1 << 3, // both header copies of a file of the row are bad
    FACT_WRONG_SIZE = 1 << 4, // a file of the row has not the length of a segment
    FACT_BAD_START = 1 << 5,  // the first group of an older file of the row is bad
    FACT_BAD_ENTRY = 1 << 6,  // a good group holds what can't be
    FACT_UNKNOWN_ENTRY = 1 << 7,
    FACT_BELOW_PROVEN = 1 << 8, // E < D
    FACT_AT_BAD = 1 << 9,       // at E: a group whose header or payload fails its checksum
    FACT_AT_STALE = 1 << 10,    // at E: a good group that doesn't continue the chain
    FACT_NOT_CLEAN = 1 << 11, // the checkpoint says drained, but there is something behind its LSN
    FACT_BEHIND = 1 << 12,    // groups of this life behind E, none of them proven
    FACT_SALVAGE = 1 << 13,   // the operator's hole was needed and reached
};

enum recover_action { RECOVER_REFUSE, RECOVER_CUT, RECOVER_GO_ON };

struct recover_case { // one row of the decision table
    char letter;
    uint32_t facts; // that all hold
    enum recover_action action;
    int status;
    enum damage_kind damage;
    const char *text; // for people
};
extern const struct recover_case recover_cases[];
extern const uint32_t recover_case_count;

struct spot { // where a fact was seen
    char name[64];
    uint64_t offset;
    uint64_t lsn_from, lsn_to;
};

struct place {             // where the walk is
    struct wal_file *file; // NULL: nowhere yet
    uint64_t offset;
    uint64_t lsn;
    uint64_t chain;  // of the group before
    uint64_t number; // of the group before
    uint64_t append_time_ms;
    bool chain_unknown; // behind a hole: the next group is taken as it is
    bool bare;          // nothing but a CUT was seen in this file
};

struct recover {
    const struct wal_options *wal;
    const struct recover_options *options;
    struct recover_result *result;
    struct wal_file *files; // numbered ones in order, then *.tmp
    uint32_t count;         // of all
    uint32_t numbered;      // of the first kind
    uint32_t capacity;
    struct file_reader reader;
    struct hole holes[DISK_HOLES_MAX];
    uint32_t hole_count;
    struct place place;
    uint64_t data_end_lsn;
    uint64_t proven_lsn;  // D so far
    uint64_t behind_from; // first LSN behind E at which a good group lies; UINT64_MAX: none
    const struct wal_file *behind_file; // the first with groups of its life behind E; NULL: none
    uint32_t facts;
    struct spot spots[16]; // by bit number of the fact
};

/* ---- recover_files.c ---- */

/* Lists, opens, locks, makes durable and reads the heads of all files; finds the CUTs. */
MUST_USE int recover_gather(struct recover *recover);
void recover_files_free(struct recover *recover);
struct wal_file *recover_file_find(struct recover *recover, uint64_t number); // NULL: not there
/* The numbered file behind this one that is not void, or NULL. */
struct wal_file *recover_file_after(struct recover *recover, const struct wal_file *file);
void recover_path(const struct recover *recover, const char *name, char *path);
uint64_t recover_highest(const struct recover *recover); // number; 0: none

/* Records a fact and, the first time, where. file: NULL when it is about `number`, which is
 * missing. */
void recover_fact(struct recover *recover, enum fact fact, const struct wal_file *file,
                  uint64_t number, uint64_t offset, uint64_t lsn_from, uint64_t lsn_to);

/* ---- recover_row.c ---- */

/* Where a file begins: its first group says so, or, when that was given up, the hole that ends in it. */
MUST_USE bool recover_file_base(const struct recover *recover, const struct wal_file *file,
                                uint64_t *base);
uint64_t
recover_start_number(const struct recover *recover); // of the checkpoint's file; 1 without one
void recover_check_strangers(struct recover *recover);
void recover_check_older(struct recover *recover);
void recover_check_successor(struct recover *recover);
bool recover_number_is_void(const struct recover *recover, uint64_t number);
/* Notes what is wrong with a file that the log needs (NULL: it is missing), and whether it can be
 * used. */
bool recover_file_is_usable(struct recover *recover, struct wal_file *file, uint64_t number);
void recover_file_blame(struct recover *recover, const struct wal_file *file, uint64_t number,
                        uint64_t lsn_from, uint64_t lsn_to);

/* ---- recover_walk.c ---- */

/* No group is longer: batch_bytes_max may have been larger once, but never above a quarter of a
 * segment. */
static inline uint64_t recover_group_bytes_max(uint64_t segment_bytes)
{
    return max_u64(GROUP_BYTES_MAX, segment_bytes / 4 + 2 * DISK_BLOCK);
}

/* Checks the older files of the row, replays from the checkpoint to E, and looks at what lies
 * behind it. */
MUST_USE int recover_walk(struct recover *recover);
/* Reads and judges what lies at an offset of the file that the reader has open; *bytes is the whole
 * group, valid until the next read, when the verdict is GOOD. D rises by what an intact header
 * says. */
MUST_USE int recover_group_at(struct recover *recover, const struct wal_file *file, uint64_t offset,
                              struct group_head *head, uint8_t **bytes,
                              enum group_verdict *verdict);

/* ---- recover_entries.c ---- */

/* Gives each entry of a good group to visit(). Returns 0, its negative status, or CORRUPT: the
 * entries do not add up to the group. */
typedef int (*recover_visit_fn)(void *context, const struct wal_view *view);
MUST_USE int recover_visit_entries(const struct group_head *head, uint8_t *bytes,
                                   uint64_t file_number, recover_visit_fn visit, void *context);
/* Checks the group at the walk's place as a whole, then applies it. What is wrong becomes a fact;
 * returns 0 or the status of apply. */
MUST_USE int recover_replay_group(struct recover *recover, const struct group_head *head,
                                  uint8_t *bytes);

/* ---- recover_behind.c ---- */

MUST_USE int recover_look_behind(struct recover *recover);
MUST_USE int recover_look_at_end(struct recover *recover); // after look_behind

/* ---- recover_hole.c ---- */

const struct hole *recover_hole_at(const struct recover *recover,
                                   uint64_t lsn); // NULL: none begins there
void recover_hole_record(struct recover *recover, const struct hole *hole);
/* If the operator's hole begins at the walk's place: 1, and it is on record. */
MUST_USE int recover_hole_open(struct recover *recover);

/* ---- recover_scan.c ---- */

/* As recover_scan_segment(), group by group. to_lsn may be UINT64_MAX: then it ends with CORRUPT
 * where no good group follows. */
typedef int (*recover_group_fn)(void *context, const struct group_head *head, uint8_t *bytes);
MUST_USE int recover_scan_groups(struct io *io, const struct segment *segment,
                                 uint64_t segment_bytes, uint64_t from_lsn, uint64_t to_lsn,
                                 recover_group_fn visit, void *context, struct wal_position *at);

/* ---- recover_cut.c ---- */

/* Ends the log at the walk's place by a CUT in a new file, which becomes the place. */
MUST_USE int recover_cut(struct recover *recover);

#endif
