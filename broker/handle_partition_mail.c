/* PARTITION_OPEN and PARTITION_DROP mails from shard 0: the owner logs them in its own log and answers when
 * they are durable. Idempotent: what is so already is not logged again, so a mail may be re-sent at will.
 *
 * A mail names a range of partitions of one topic; this shard takes those whose slot it owns. When it has no room for
 * all of them it opens none: half of a topic would only have to be taken back. */
#include "broker/shard.h"

static bool has_room(struct shard *shard, const struct request *mail);
static int log_partition(struct shard *shard, uint8_t type, const struct request *mail,
                         uint32_t partition);

static bool is_ours(const struct shard *shard, const struct request *mail, uint32_t number)
{
    return shard_of_partition(shard->slot_shard, mail->u.partitions.topic_id, number) == shard->id;
}

static bool is_done(struct shard *shard, const struct request *mail, uint32_t number)
{
    const struct partition *partition =
        store_partition(shard->store, mail->u.partitions.topic_id, number);
    if (mail->mail == MAIL_PARTITION_DROP)
        return !partition;
    return partition &&
           le64_get(partition->settings.revision) >= le64_get(mail->u.partitions.settings.revision);
}

enum handled handle_partition_mail(struct shard *shard, struct request *mail)
{
    uint8_t type = mail->mail == MAIL_PARTITION_OPEN ? ENTRY_PARTITION_OPEN : ENTRY_PARTITION_DROP;
    if (mail->progress == 0 && !has_room(shard, mail)) {
        shard_reply_error(shard, mail, PE_LIMIT_REACHED, "shard %u: at most %u partitions",
                          shard->id, partitions_count_max(store_partitions(shard->store)));
        return HANDLED;
    }
    for (; mail->progress < mail->u.partitions.partition_count; mail->progress++) {
        uint32_t number = mail->u.partitions.partition_first + mail->progress;
        if (!is_ours(shard, mail, number) || is_done(shard, mail, number))
            continue;
        int status = log_partition(shard, type, mail, number);
        if (status)
            return shard_not_appended(shard, mail, status);
    }
    shard_reply_when_durable(shard, mail, store_reserved_lsn(shard->store));
    return HANDLED;
}

static bool has_room(struct shard *shard, const struct request *mail)
{
    struct partitions *partitions = store_partitions(shard->store);
    uint32_t left = partitions_count_max(partitions) - partitions_count(partitions);
    uint32_t first = mail->u.partitions.partition_first, count = mail->u.partitions.partition_count;
    if (mail->mail == MAIL_PARTITION_DROP || count <= left)
        return true;
    for (uint32_t number = first; number < first + count; number++) {
        bool is_new = is_ours(shard, mail, number) &&
                      !store_partition(shard->store, mail->u.partitions.topic_id, number);
        if (is_new && left-- == 0)
            return false;
    }
    return true;
}

static int log_partition(struct shard *shard, uint8_t type, const struct request *mail,
                         uint32_t partition)
{
    const struct disk_partition_open *settings = &mail->u.partitions.settings;
    struct wal_entry entry = {.type = type,
                              .topic_id = mail->u.partitions.topic_id,
                              .partition = partition,
                              .pieces = {{settings, sizeof(*settings)}},
                              .piece_count = 1};
    struct wal_view view;
    return store_append(shard->store, &entry, &view, NULL);
}
