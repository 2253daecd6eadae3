/* See consume_group.h. */
#include "tools/consume_group.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"

#define COMMIT_MS 1000u
#define TIMEOUT_MS 10000u

static int commit(struct consume_group *group);
static void on_rebalance(void *context, enum sluice_rebalance what,
                         const struct sluice_partition *partitions, uint32_t count);
static uint64_t now_ms(void);

int consume_group_join(struct consume_group *group, struct sluice_client *client,
                       const struct where *from)
{
    struct sluice_topic *topics;
    uint32_t count;
    int status = sluice_topic_list(client, &group->topic, 1, &topics, &count);
    if (status)
        return ctl_fail_status(group->ctl, status, group->topic);
    group->partition_count = topics[0].partition_count;
    sluice_topics_free(topics, count);
    group->printed = calloc(group->partition_count, sizeof(*group->printed));
    group->committed = calloc(group->partition_count, sizeof(*group->committed));
    if (!group->printed || !group->committed)
        return ctl_fail(group->ctl, "out of memory");
    struct sluice_consumer_options options = {.size = sizeof(options),
                                              .group = group->name,
                                              .manual_commit = true,
                                              .start = from->start,
                                              .start_value = from->value,
                                              .on_rebalance = on_rebalance,
                                              .context = group};
    status = sluice_consumer_new(client, &options, &group->consumer);
    if (status == SLUICE_OK)
        status = sluice_consumer_join(group->consumer, &group->topic, 1);
    group->commit_at_ms = now_ms() + COMMIT_MS;
    return status ? ctl_fail_status(group->ctl, status, group->name) : EXIT_DONE;
}

/* A partition that the topic got since is committed, too, from here on. */
void consume_group_printed(struct consume_group *group, const struct sluice_message *message)
{
    uint32_t partition = message->partition;
    if (partition >= group->partition_count) {
        size_t bytes = (partition + 1u) * sizeof(uint64_t);
        uint64_t *printed = realloc(group->printed, bytes);
        group->printed = printed ? printed : group->printed;
        uint64_t *committed = realloc(group->committed, bytes);
        group->committed = committed ? committed : group->committed;
        if (!printed || !committed)
            return; // it is printed again by the next one
        for (; group->partition_count <= partition; group->partition_count++)
            printed[group->partition_count] = committed[group->partition_count] = 0;
    }
    group->printed[partition] = message->offset + 1;
}

void consume_group_turn(struct consume_group *group)
{
    if (!group->name || now_ms() < group->commit_at_ms)
        return;
    group->commit_at_ms = now_ms() + COMMIT_MS;
    int status = commit(group);
    if (status && sluice_is_retriable(status))
        ctl_fail_status(group->ctl, status, "committing");
}

int consume_group_end(struct consume_group *group, int exit_code)
{
    if (group->consumer && exit_code == EXIT_DONE) {
        int status = commit(group);
        if (status)
            exit_code = ctl_fail_status(group->ctl, status, "committing");
    }
    sluice_consumer_free(group->consumer);
    free(group->printed);
    free(group->committed);
    return exit_code;
}

bool consume_group_is_at(struct consume_group *group, uint32_t partition, uint64_t begin,
                         uint64_t end)
{
    uint64_t position;
    if (begin == end)
        return true;
    if (sluice_consumer_position(group->consumer, group->topic, partition, &position, NULL) ==
        SLUICE_OK)
        return position >= end;
    int status =
        sluice_consumer_committed(group->consumer, group->topic, partition, &position, TIMEOUT_MS);
    return status == SLUICE_OK && position != SLUICE_OFFSET_UNKNOWN && position >= end;
}

/* What has been printed must have left this process before it counts. */
static int commit(struct consume_group *group)
{
    struct sluice_partition_offset *offsets = calloc(group->partition_count + 1u, sizeof(*offsets));
    uint32_t count = 0;
    if (!offsets || fflush(stdout)) {
        free(offsets);
        return offsets ? SLUICE_OK : SLUICE_E_NO_MEMORY;
    }
    for (uint32_t p = 0; p < group->partition_count; p++) {
        if (group->printed[p] != group->committed[p])
            offsets[count++] = (struct sluice_partition_offset){group->topic, p, group->printed[p]};
    }
    int status = count > 0
                     ? sluice_consumer_commit_offsets(group->consumer, offsets, count, TIMEOUT_MS)
                     : SLUICE_OK;
    for (uint32_t i = 0; i < count && status == SLUICE_OK; i++)
        group->committed[offsets[i].partition] = offsets[i].offset;
    free(offsets);
    return status;
}

/* What another member reads from now on is none of ours to commit. */
static void on_rebalance(void *context, enum sluice_rebalance what,
                         const struct sluice_partition *partitions, uint32_t count)
{
    struct consume_group *group = context;
    if (what == SLUICE_REVOKED) {
        int status = commit(group);
        if (status)
            ctl_fail_status(group->ctl, status, "committing what is revoked");
    }
    for (uint32_t i = 0; i < count && what != SLUICE_ASSIGNED; i++) {
        if (partitions[i].partition < group->partition_count)
            group->printed[partitions[i].partition] = group->committed[partitions[i].partition];
    }
}

static uint64_t now_ms(void)
{
    return clock_mono_ns(clock_system()) / NS_PER_MS;
}
