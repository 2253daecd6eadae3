/* The soak: what its parts share. soak_main.c guards, round.c runs a round, episode.c an episode, fault_steps.c does the harm. */
#ifndef SLUICE_TESTS_SOAK_SOAK_H
#define SLUICE_TESTS_SOAK_SOAK_H

#include "storage/archive.h"
#include "tests/checker/checker.h"
#include "tests/soak/cgroup.h"
#include "tests/soak/load.h"
#include "tests/soak/place.h"
#include "tests/soak/watch.h"

/* What a broker of the soak is started with, and so may have open for each of its shards: the archive's files that are read, its segments, and
 * what a checkpoint and indexes are being written to. */
#define SEGMENT_MIB 4u
#define SEGMENTS_OF_SHARD 10u
#define FILES_OF_SHARD_MAX (ARCHIVE_FDS_MAX + SEGMENTS_OF_SHARD + 6)

#define RESTART_S_MAX 10.0         // from exec to the ready line
#define RESTART_STARVED_S_MAX 60.0 // with a tenth of a CPU, or a disk that takes its time
#define LIVENESS_S 30.0            // until everything gets on again, faults removed
#define EXIT_AFTER_ERROR_S 3.0     // 1 s is promised; the machine may be busy

struct soak_options {
    char bin[PATH_BYTES / 2], base[PATH_BYTES / 2];
    struct plan_options plan;
    double minutes;    // 0: not bounded by time
    int episode;       // that one alone; -1: all
    uint32_t episodes; // 0: not bounded by number
    uint32_t cycles;   // with `only`: so many kills or cuts in all
    int expected;      // enum anomaly that a planted bug must cause; -1: none
};

struct totals {               // in memory that all processes share
    _Atomic uint32_t episode; // now
    _Atomic bool has_seen;    // the anomaly that was expected
    _Atomic uint64_t passed, failed, skipped;
    _Atomic uint64_t faults[SOAK_FAULT_COUNT]; // done
    _Atomic uint64_t cuts[PLACE_COUNT];
    _Atomic uint64_t restarts, exits_on_error, errors_absorbed;
    _Atomic uint64_t sent, seen, acked, committed, aborted, undecided;
    _Atomic uint64_t group_commits, processed, moved, audited, churned, archives;
    _Atomic uint64_t txn_records;
    _Atomic uint64_t anomalies;
    _Atomic uint64_t rss_bytes, of_bound_permille, restart_ms, memcg_permille;
    _Atomic uint64_t connections, lost_blocks, torn_blocks;
};

struct active { // a fault under way
    const struct planned_fault *plan;
    uint32_t step;
    double next_s; // when its next step is
    bool is_done;
    pid_t pid; // stopped, or attacking
    struct attack *attack;
};

struct run { // of a round, in its process
    const struct soak_options *options;
    struct totals *totals;
    char dir[PATH_BYTES / 2];
    struct plan plan;
    struct place place;
    struct broker_process broker;
    struct watch watch;
    struct cgroup cgroup;
    bool has_cgroup;
    struct load *load;
    struct child children[LOAD_CHILDREN];
    struct kept *kept[2];
    struct active active[PLAN_FAULTS_MAX];
    struct random random;
    uint32_t restarts; // of this episode
    double restart_s;  // the longest
    bool is_starved;   // a restart may take its time
};

void raise_to(_Atomic uint64_t *most, uint64_t value);

/* ---- episode.c ---- */

void run_episode(struct run *run, uint32_t number);
/* Starts it, looks at its bound and how long it took; fails the test otherwise. */
void start_broker(struct run *run);
void look(struct run *run);                // at the broker, its memory, the load; fails the test
void nap(struct run *run, double seconds); // looking all the time

/* ---- fault_steps.c ---- */

/* Carries out the next step; returns the seconds until the one behind it, negative when it was the last. */
double fault_step(struct run *run, struct active *active);
void end_attacks(struct run *run); // that are left when an episode fails

/* ---- judge.c ---- */

/* The history of the episode, with its totals. The number of anomalies. */
uint64_t judge(struct run *run);
void save_history(const struct run *run);
/* When anything failed and a planted bug is there: does the history say what was expected? */
void look_for_expected(struct run *run);

/* ---- round.c ---- */

/* Episodes first..last of one store, as a process of its own; returns its exit code. */
int run_round(const struct soak_options *options, struct totals *totals, const char *dir,
              uint32_t first, uint32_t last, double deadline_s);
bool is_enough(const struct soak_options *options, const struct totals *totals);

#endif
