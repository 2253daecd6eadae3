/* Who gets which partition of a group: pure functions over arrays, the same answer for the same question.
 *
 * RANGE: each topic's partitions in order, cut into contiguous pieces, the remainder to the first members.
 * STICKY: everybody keeps what he had, as far as loads allow that differ by at most one; so as few partitions
 * as possible move. When members subscribe to different topics, no partition could go from a member to another that
 * has two fewer, directly or through others; on very large groups of that kind up to a fixed amount of work.
 *
 * Thread: the caller's. No memory but what the caller lends. */
#ifndef SLUICE_BROKER_GROUP_ASSIGN_H
#define SLUICE_BROKER_GROUP_ASSIGN_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/messages_group.h"

#define ASSIGN_NONE UINT32_MAX
#define ASSIGN_MEMBERS_MAX 1000u
#define ASSIGN_EDGES_MAX 131072u // subscriptions of all members together, a topic each

struct assign_partition { // in order of topic id, then partition
    uint32_t topic_id;
    uint32_t partition;
    uint32_t before; // in: member whose it was, or NONE
    uint32_t target; // out: whose it shall be; NONE: nobody subscribes
};

struct assign_member {         // in the order that decides ties
    const uint32_t *topic_ids; // rising
    uint32_t topic_count;
    uint32_t load; // out: partitions
};

struct assign_edge { // a member subscribes to a topic that has partitions
    uint16_t member;
    uint16_t topic;
    uint16_t owned;
};

struct assign_topic {
    uint32_t first, end;           // its partitions
    uint32_t edge_first, edge_end; // its subscribers, in by_topic
};

struct assign_work { // what the functions need for a while; some 2 MiB, from the caller
    struct assign_edge edges[ASSIGN_EDGES_MAX]; // by member, then topic
    uint32_t by_topic[ASSIGN_EDGES_MAX];        // numbers of edges, by topic, then member
    uint32_t edge_count;
    uint32_t member_edge[ASSIGN_MEMBERS_MAX + 1]; // where its edges begin
    struct assign_topic topics[GROUP_ASSIGNMENT_MAX];
    uint32_t topic_count;
    uint32_t order[GROUP_ASSIGNMENT_MAX]; // topics, or members, in some order
    uint32_t quota[ASSIGN_MEMBERS_MAX];   // or heads of chains
    uint32_t heap[ASSIGN_MEMBERS_MAX];
    /* the search for a way from a loaded member to one with less */
    uint32_t queue[ASSIGN_MEMBERS_MAX];
    uint32_t member_via[ASSIGN_MEMBERS_MAX];  // topic it was reached through
    uint32_t topic_via[GROUP_ASSIGNMENT_MAX]; // member it was reached from
    uint64_t budget;                          // steps left
};

struct assign {
    struct assign_partition *partitions;
    uint32_t partition_count; // at most GROUP_ASSIGNMENT_MAX
    struct assign_member *members;
    uint32_t member_count; // at most ASSIGN_MEMBERS_MAX; all subscriptions at most ASSIGN_EDGES_MAX
    struct assign_work *work;
};

void group_assign_range(struct assign *a);
void group_assign_sticky(struct assign *a);

/* For both: finds topics and who subscribes to them. */
void group_assign_prepare(struct assign *a);

#endif
