/* The load of an episode: processes that publish, make transactions, consume in groups, read everything, and make and delete
 * topics, all at once and all the time. What they do and see is a history (tests/checker); what a history can't say lies here.
 *
 *     topics of an episode        who writes                          who reads
 *     a  much, keys               producers                           readers
 *     b  less, keys               producers                           readers, groups "all" (at least once) and
 *                                                                     "move" (exactly once, into d)
 *     c  short                    transactions over 2 to 5 partitions readers, group "all"
 *     d                           members of "move"                   readers
 *        (transactions write to all four)
 *
 * The shares of operations: producers 70 %, transactions 10 %, groups 20 %; counted, and printed at the end.
 *
 * Each episode has topics of its own. At its end an auditor reads them from the beginning, and keeps a hash of each record; at
 * the end of the next episode, whose faults they have also survived, it reads them again and compares, and deletes them. */
#ifndef SLUICE_TESTS_SOAK_LOAD_H
#define SLUICE_TESTS_SOAK_LOAD_H

#include "tests/integration/history_client.h"

#define TOPICS 4u // a, b, c, d
#define PARTITIONS_PER_TOPIC 4u
#define PARTITIONS (TOPICS * PARTITIONS_PER_TOPIC)
#define OFFSETS_MAX (UINT64_C(1) << 22) // of a partition in an episode

#define TOPIC_A 0u
#define TOPIC_B 1u
#define TOPIC_D 3u
#define FIRST_READ PARTITIONS_PER_TOPIC // group "all" reads b and c,
#define END_READ (3 * PARTITIONS_PER_TOPIC)
#define END_MOVED (2 * PARTITIONS_PER_TOPIC) // group "move" b

#define PRODUCERS 3
#define TRANSACTORS 3
#define MOVERS 2
#define MEMBERS 2
#define READERS 2
#define LOAD_CHILDREN (PRODUCERS + TRANSACTORS + MOVERS + MEMBERS + READERS + 2)
/* Numbers in the history. Lives of producers count from the last one on. */
#define FIRST_TRANSACTOR 0
#define FIRST_MOVER TRANSACTORS
#define FIRST_PRODUCER (TRANSACTORS + MOVERS)
#define OBSERVER READERS
#define GROUP_ALL 0
#define GROUP_MOVE 1

struct kept_partition { // of the last episode: what must still be there
    uint64_t end;
    uint64_t hashes[OFFSETS_MAX];
};

struct kept { // by a round, two of them
    bool is_there;
    char topics[TOPICS][32];
    struct kept_partition partitions[PARTITIONS];
};

struct load { // in shared memory
    struct world *world;
    char topics[TOPICS][32];
    const char *topic_names[TOPICS];
    char group_all[32], group_move[32], churn[32];
    uint64_t seed;
    bool is_light; // for many cycles: less of everything

    _Atomic bool groups_stop;
    _Atomic uint64_t refused; // records with an error as their report
    _Atomic int32_t refused_last;
    _Atomic uint64_t processed, moved, group_commits, reads, churned;
    _Atomic uint64_t audited;
    _Atomic uint8_t all_seen[PARTITIONS][OFFSETS_MAX];   // by group "all"
    _Atomic uint8_t moved_once[PARTITIONS][OFFSETS_MAX]; // by group "move"
};

struct load *load_new(uint64_t seed, uint32_t episode, bool is_light);
void load_free(struct load *load);

/* Makes the episode's topics. No client may be left when children are started. */
void load_make_topics(struct load *load);
void load_children(struct load *load, struct child *children);
struct load *load_of(struct world *world); // of the process

/* When producers have ended: waits until the groups have everything. False after a message. */
bool load_wait_groups(struct load *load, double seconds);
/* Each record of the groups' topics was processed: at least once, exactly once. */
bool load_judge_groups(const struct load *load);

/* ---- load_publish.c: child processes ---- */

void produce_keys(struct world *world, uint32_t number);
void make_transactions(struct world *world, uint32_t number);
void churn_topics(struct world *world, uint32_t number);

/* ---- load_group.c ---- */

void consume_all(struct world *world, uint32_t number);
void move_records(struct world *world, uint32_t number);
void observe_offsets(struct world *world, uint32_t number);

/* ---- load_audit.c: in a process that ends with it ---- */

/* Reads what the last episode left, compares and deletes it; then reads this episode's into `now`. */
void audit(struct load *load, struct kept *last, struct kept *now);
/* The retention of the last episode's topic a becomes as small as can be, while this one goes on. */
void shrink_last(struct load *load, const struct kept *last);

bool is_passing(int status); // an answer that a fault explains: ask again

#endif
