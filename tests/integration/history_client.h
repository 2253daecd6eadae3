/* Clients of libsluice that write down what they do and see (tests/checker), and how tests run them: as child processes that
 * may be killed with SIGKILL at any time and started again.
 *
 * All of a test's processes share one struct world. The test forks while it has no client of its own, so no child inherits
 * a thread's half-done work. */
#ifndef SLUICE_TESTS_HISTORY_CLIENT_H
#define SLUICE_TESTS_HISTORY_CLIENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/random.h"
#include "client/include/sluice.h"
#include "tests/checker/history.h"
#include "tests/checker/value.h"

#define WORLD_PARTITIONS_MAX 64
#define WORLD_PRODUCERS_MAX 4096
#define WORLD_READERS_MAX 8

struct world {
    struct history *history;
    const char *const *topics;
    uint32_t topic_count;
    uint32_t partitions_per_topic;
    char server[64];

    /* ---- any process ---- */
    _Atomic bool stop;     // producers: finish and end
    _Atomic bool drain;    // readers: read to the end, and end
    _Atomic uint64_t txns; // given out so far
    _Atomic uint32_t producers;
    _Atomic uint64_t commits; // answered
    _Atomic uint64_t acks;
    /* by producer and partition: sequences used so far. Raised before the event is written, so one that is killed in
     * between has left out a number and not used it twice. */
    _Atomic uint64_t sequences[WORLD_PRODUCERS_MAX][WORLD_PARTITIONS_MAX];
    _Atomic uint64_t positions[WORLD_READERS_MAX][WORLD_PARTITIONS_MAX];
    _Atomic uint64_t open_txn[WORLD_PRODUCERS_MAX]; // what a producer has prepared; 0: nothing
};

/* In shared memory. */
struct world *world_new(const char *const *topics, uint32_t topic_count,
                        uint32_t partitions_per_topic, uint64_t event_count_max);
void *world_share(size_t bytes); // more such memory, zeros
uint32_t world_partitions(const struct world *world);
/* Its topics, made by a client that is gone when this returns. */
void world_make_topics(struct world *world);

/* Ends the process with a message and code 1 unless status is SLUICE_OK. */
void must(int status, const char *what);
/* A test may set this: called by fail() behind its message, in whatever process failed. */
extern void (*on_fail)(void);
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
double now_s(void);
struct sluice_client *client_of(struct world *world);

/* ---- producing ---- */

/* One record with a value that names it. Returns what send() returned; a refusal is in the history. */
int send_one(struct world *world, struct sluice_producer *producer, uint32_t number,
             uint32_t partition, uint64_t txn, uint32_t length, uint64_t *sequence);

/* Commits, asking again for up to 60 s while nobody knows; writes down what the answer proves. True: committed. */
bool commit(struct world *world, struct sluice_producer *producer, uint64_t txn);
/* Behind a commit: writes down where the library says that the records of a partition lie. */
void note_offset(struct world *world, struct sluice_producer *producer, uint32_t number,
                 uint32_t partition, uint64_t first_sequence, uint32_t count);
/* The same as commit() for an abort. */
void abort_txn(struct world *world, struct sluice_producer *producer, uint64_t txn);

/* A new life of a producer: a transaction that it prepared in an earlier one may wait for its end. */
void end_waiting(struct world *world, struct sluice_producer *producer, uint32_t number,
                 bool commits);
/* Prepares. False: it could not be, and is aborted. */
bool prepare(struct world *world, struct sluice_producer *producer, uint32_t number, uint64_t txn);

/* ---- reading ---- */

/* All partitions, from where this reader was, until the world says drain; then to the ends. One process each. */
void read_all(struct world *world, uint32_t reader);
/* The visible end of each partition, asked for once, in their order, and written down. ends (may be NULL) of those that
 * could not be told, because the broker was being restarted, stay as they are. */
void ask_ends(struct world *world, struct sluice_client *client, uint32_t reader, uint64_t *ends);

/* The parts of read_all(), for readers that do more. */
void begin_reading(struct world *world, struct sluice_consumer *consumer, uint32_t reader);
void note_messages(struct world *world, uint32_t reader, const struct sluice_message *messages,
                   int count);
bool has_read_to(const struct world *world, uint32_t reader, const uint64_t *ends);
void note_done(struct world *world, uint32_t reader);
uint32_t number_of(const struct world *world, const char *topic, uint32_t partition);

/* ---- processes ---- */

struct child {
    pid_t pid; // 0: not running
    uint32_t number;
    void (*run)(struct world *world, uint32_t number); // returns when the world says so
};

void child_start(struct child *child, struct world *world);
void child_kill(struct child *child);
/* Waits; a child that did not end well, or not in time, fails the test. */
void child_wait(struct child *child, double seconds);
/* Waits, whatever becomes of it, until now_s() is that; then it is killed. */
void child_end(struct child *child, double deadline_s);
/* Fails the test if it ended by itself. */
void child_check(struct child *child);

/* Within 5 s nothing that is being ended now is so any longer. Fails the test otherwise. */
void check_nothing_in_doubt(struct world *world);
/* When no client has anything open: within 5 s the broker holds nothing of any transaction. */
void check_nothing_left(struct world *world);

/* Checks the history; one with anomalies is written to DATA_DIR.history. True: there are none. */
bool judge_history(const struct world *world, const char *data_dir);

#endif
