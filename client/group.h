/* A consumer's membership in a group.
 *
 * The I/O thread keeps the membership (group.c): it joins, sends heartbeats also while the
 * application computes, and takes down what the broker assigns ("told"). The polling thread applies
 * it (group_poll.c): it gives up what was revoked, says so ("applied", confirmed by the next
 * heartbeat), and starts what was added where OFFSET_FETCH says. So a partition is given up only
 * between two polls, when its records that were returned have been processed, and nothing of it is
 * returned afterwards. Offsets are committed by group_offsets.c.
 *
 * A membership is lost when the broker says so (UNKNOWN_MEMBER), when no heartbeat was answered for
 * the session's time-out, as then others may have the partitions, and when the application has not
 * polled for max_poll_interval. Then everything is given up by the next poll, and joining begins
 * anew. */
#ifndef SLUICE_CLIENT_GROUP_H
#define SLUICE_CLIENT_GROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "client/calls.h"
#include "client/include/sluice.h"
#include "proto/messages_group.h"

struct feed;

struct group_topic {
    char *name;
    uint32_t topic_id;
};

struct group {
    /* ---- constant ---- */
    struct sluice_consumer *consumer;
    char name[GROUP_NAME_BYTES_MAX + 1];
    char instance[GROUP_INSTANCE_BYTES_MAX + 1]; // "": none
    enum group_assignor assignor;
    uint32_t session_timeout_ms; // 0: the broker's default
    uint64_t max_poll_ns;
    uint64_t auto_commit_ns; // 0: the application commits
    enum sluice_start start; // where nothing is committed
    uint64_t start_value;
    void (*on_rebalance)(void *context, enum sluice_rebalance what,
                         const struct sluice_partition *partitions, uint32_t count);
    void *context;

    /* ---- consumer->mutex; consumer->arrived tells of changes ---- */
    bool wanted; // joined by the application and not left
    bool idle;   // it does not poll: left until it does
    struct group_topic *topics;
    uint32_t topic_count;
    char member[GROUP_MEMBER_BYTES_MAX + 1]; // "": none now
    uint32_t told;                           // generation of `target`
    uint32_t applied, confirmed;             // likewise, by the polling thread and by the broker
    struct group_item *target;               // what it may read
    uint32_t target_count;
    bool target_new;         // and the polling thread has not taken it
    bool rejoin;             // as this member, with other topics
    bool join_out;           // a JOIN without an answer: it may become a member
    bool lost;               // likewise: all that is held must be given up first
    uint64_t alive_until_ns; // the membership surely lasts
    uint64_t polled_ns;
    int failure; // joining can't succeed
    char failure_text[256];
    bool commit_out;  // commit_call is on its way
    bool commit_next; // commit_meta waits for it

    /* ---- polling thread ---- */
    struct group_item *held; // the target it has taken, sorted
    uint32_t held_count;
    struct group_item *starting; // assigned, and not read yet: where to is not known
    uint32_t starting_count;
    struct feed **leaving;          // being given up by this poll
    struct sluice_partition *names; // that the application is being told
    uint32_t list_room;             // of these three
    uint64_t start_at_ns;
    uint64_t commit_at_ns;

    /* ---- I/O thread ---- */
    char log_line[320];     // to be logged when the mutex is free; "": none
    struct call *starts[3]; // to be started then
    uint32_t start_count;
    struct call call; // JOIN or HEARTBEAT
    uint8_t *call_meta;
    bool is_joining;
    uint32_t called_generation;
    uint64_t called_ns;
    uint64_t call_at_ns; // the next one
    uint64_t beat_ns;
    struct call leave_call;
    uint8_t leave_meta[512];
    struct call commit_call; // auto commit
    uint8_t *commit_meta;
    uint32_t commit_meta_bytes;
};

/* ---- group_options.c ---- */

/* Returns OK, INVALID (the options), NO_MEMORY. */
int group_new(struct sluice_consumer *consumer, const struct sluice_consumer_options *options);
void group_free(struct group *group); // NULL: nothing
const char *group_topic_name(const struct group *group, uint32_t topic_id);

/* ---- group.c. Thread: I/O ---- */

/* Returns when to come back. */
uint64_t group_turn(struct sluice_consumer *consumer);
void group_remove(struct sluice_consumer *consumer);

/* ---- group_poll.c. Thread: polling ---- */

/* Brings the feeds in line with the assignment, commits when that is due. May take until
 * deadline_ns when there is something to ask. Returns OK or an error for the poll to return. */
int group_poll(struct sluice_consumer *consumer, uint64_t deadline_ns);
/* Under the mutex: it has something to do. */
bool group_needs_poll(const struct group *group);
/* When it has something to do without being told. */
uint64_t group_poll_at_ns(struct sluice_consumer *consumer);
/* The consumer is being freed: commits and leaves, as far as the broker answers at once. */
void group_abandon(struct sluice_consumer *consumer);

/* ---- group_offsets.c. Thread: any but I/O ---- */

struct group_positions { // for OFFSET_COMMIT and TXN_OFFSETS
    struct slice group, member;
    uint32_t generation;
    uint32_t count;
    struct offset_item *items;
    char member_text[GROUP_MEMBER_BYTES_MAX + 1];
};

/* Positions behind what was returned; `only_changed`: where they differ from what is committed.
 * Returns OK, UNKNOWN_MEMBER, NO_MEMORY; to be freed in any case. */
int group_positions(struct sluice_consumer *consumer, bool only_changed,
                    struct group_positions *positions);
void group_positions_free(struct group_positions *positions);
int group_commit(struct sluice_consumer *consumer, const struct group_positions *positions,
                 uint64_t deadline_ns);
/* Starts committing what has changed, and does not wait. */
void group_commit_later(struct sluice_consumer *consumer);
/* OFFSET_FETCH of `count` items: offsets[i] is UINT64_MAX when nothing is committed, and pending[i]
 * says that it is not known yet. */
int group_fetch(struct sluice_client *client, struct slice group, const struct group_item *items,
                uint32_t count, uint64_t deadline_ns, uint64_t *offsets, bool *pending);
/* Where nothing is committed (offsets[i] UINT64_MAX, not pending), the group's start takes its
 * place; committed[i] keeps what the offset was. Partitions of a topic lie one behind the other. */
int64_t group_skip_before(const struct group *group); // of a feed that begins at the start
int group_resolve(struct sluice_consumer *consumer, const struct group_item *items, uint32_t count,
                  uint64_t *offsets, const bool *pending, uint64_t *committed);
/* The reply to a commit: what is committed is noted with its feed. Returns OK or the first error of
 * an item. */
int group_note_committed(struct sluice_consumer *consumer, const struct frame *reply);

#endif
