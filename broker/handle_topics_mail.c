/* MAIL_TOPICS_ASK at shard 0: how many partitions each of these topics has; 0 for one that is unknown or being deleted.
 *
 * Only confirmed partitions count: those that their owners serve. Answered when what is said is durable, since the
 * asker forgets offsets of deleted topics for ever. The arrays are the asker's, lent until the mail is home. */
#include "broker/groups.h"

static uint32_t partitions_of(const struct shard *shard, uint32_t topic_id)
{
    const struct disk_topic *topic = topics_find_id(shard->topics, topic_id);
    return topic && !topic->dropped ? (uint32_t)le64_get(topic->confirmed) : 0;
}

enum handled handle_topics_mail(struct shard *shard, struct request *mail)
{
    ASSERT(shard->topics);
    for (uint32_t i = 0; i < mail->u.topics.count; i++)
        mail->u.topics.partition_counts[i] = partitions_of(shard, mail->u.topics.topic_ids[i]);
    shard_reply_when_durable(shard, mail, store_reserved_lsn(shard->store));
    return HANDLED;
}
