/* What the files of the checker share.
 *
 *     checker.c          the public face: dispatch of events, findings, history_check()
 *     checker_table.c    arrays that grow, and the four kinds of rows in them
 *     checker_clients.c  what producers, transactions and groups said
 *     checker_reads.c    what readers saw
 *     checker_end.c      what only the end shows */
#ifndef SLUICE_TESTS_CHECKER_PRIVATE_H
#define SLUICE_TESTS_CHECKER_PRIVATE_H

#include <inttypes.h>

#include "tests/checker/checker.h"

/* A record's place: its offset, and what is known of it. 48 bits of offset are three years of a million a second in one
 * partition. */
#define PLACE_SENT ((uint64_t)1 << 63)  // else a number that was never used
#define PLACE_ACKED ((uint64_t)1 << 62) // with its offset, unless PLACE_NOWHERE
#define PLACE_SEEN ((uint64_t)1 << 61)
#define PLACE_REFUSED ((uint64_t)1 << 60) // definitely not stored
#define PLACE_TWICE ((uint64_t)1 << 59)   // a duplicate, and said so
#define PLACE_NOWHERE ((uint64_t)1 << 58) // acked, but where is not known
#define PLACE_OFFSET (((uint64_t)1 << 48) - 1)

struct span { // the records of a lane from here to the next span are of one transaction
    uint64_t sequence;
    uint64_t txn;
};

struct lane { // one producer in one partition
    uint32_t producer, partition;
    uint64_t *places; // by sequence
    uint64_t count, room;
    struct span *spans;
    uint64_t span_count, span_room;
};

struct transaction {
    uint8_t commit_asked, committed, abort_asked, aborted;
    uint8_t read_early; // and said so
    uint8_t known;      // mentioned at all
    uint64_t sent;      // records
    uint64_t seen;
    uint64_t committed_at; // event number
};

struct known_end { // an answer about a partition's visible end
    uint64_t asked_at;
    uint64_t end;
};

struct partition {
    uint64_t *seen; // a bit for each offset
    uint64_t seen_room;
    struct known_end *ends;
    uint64_t end_count, end_room;
    uint64_t visible; // everything below is known to be visible
    bool finished;    // a reader that was done has got there
};

struct reading { // one reader in one partition
    bool started, done;
    uint64_t position;
    uint64_t asked_at;  // END_ASKED
    uint64_t end_floor; // what was known to be visible then
    bool asks_end;
};

struct offset_commit {
    uint64_t offset;
    uint64_t txn;
    bool fetched; // somebody was told this offset
};

struct group_partition {
    struct offset_commit *commits;
    uint64_t commit_count, commit_room;
    uint64_t floor; // committed, as answered; or fetched before. An offset, plus one; 0: nothing
    uint64_t last_fetched;
    bool was_fetched;
    uint64_t *asked_floors; // by reader, while it asks
    uint64_t asked_room;
};

/* Two numbers to a row: rows[first][second], made when first asked for. */
struct grid {
    void ***rows;
    uint32_t row_count;
    uint32_t *column_counts;
};

struct checker {
    struct checker_options options;
    uint64_t event_count;
    uint64_t counts[ANOMALY_COUNT];
    struct checker_totals totals;
    struct grid lanes;    // producer, partition
    struct grid readings; // reader, partition
    struct grid groups;   // group, partition
    struct transaction *txns;
    uint64_t txn_room;
    struct partition **partitions;
    uint64_t partition_room;
};

#define NUMBER_MAX (1u << 20) // of producers, partitions, readers, groups
#define TXN_NUMBER_MAX ((uint64_t)1 << 32)

void found(struct checker *checker, enum anomaly anomaly, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- checker_table.c ---- */

/* Makes room for `count` items; what is new is zero. */
void *grown(void *items, uint64_t *room, uint64_t count, size_t item_bytes);
#define GROW(items, room, count) ((items) = grown((items), &(room), (count), sizeof(*(items))))

struct lane *lane_of(struct checker *checker, uint32_t producer, uint32_t partition);
struct lane *lane_if_any(const struct checker *checker, uint32_t producer, uint32_t partition);
struct reading *reading_of(struct checker *checker, uint32_t reader, uint32_t partition);
struct group_partition *group_of(struct checker *checker, uint32_t group, uint32_t partition);
struct transaction *txn_of(struct checker *checker, uint64_t txn);
struct partition *partition_of(struct checker *checker, uint32_t partition);
uint64_t lane_txn(const struct lane *lane, uint64_t sequence);
void tables_free(struct checker *checker);

/* Calls for each one there is. */
typedef void (*lane_fn)(struct checker *checker, struct lane *lane);
void each_lane(struct checker *checker, lane_fn fn);
void *grid_at(const struct grid *grid, uint32_t first, uint32_t second); // NULL: none

/* ---- events ---- */

typedef void (*event_fn)(struct checker *checker, const struct history_event *event);

void on_send(struct checker *checker, const struct history_event *event);
void on_refused(struct checker *checker, const struct history_event *event);
void on_acked(struct checker *checker, const struct history_event *event);
void on_txn(struct checker *checker, const struct history_event *event);
void on_offset_commit_asked(struct checker *checker, const struct history_event *event);
void on_offset_committed(struct checker *checker, const struct history_event *event);
void on_offset_asked(struct checker *checker, const struct history_event *event);
void on_offset_fetched(struct checker *checker, const struct history_event *event);
void on_offset_reset(struct checker *checker, const struct history_event *event);
void on_reader_start(struct checker *checker, const struct history_event *event);
void on_read(struct checker *checker, const struct history_event *event);
void on_read_foreign(struct checker *checker, const struct history_event *event);
void on_reader_done(struct checker *checker, const struct history_event *event);
void on_end_asked(struct checker *checker, const struct history_event *event);
void on_end(struct checker *checker, const struct history_event *event);

#endif
