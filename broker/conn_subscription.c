/* What a connection knows of its subscriptions: which shards serve them, and who is owed credit.
 *
 * The cursors live in the shards. A subscription over several shards has its credit divided among
 * them when it begins; from then on each CREDIT goes to the shards in the measure of what they
 * delivered, so that a busy shard gets back what it spent, however quiet the others are. */
#include "broker/broker.h"

size_t conn_subscription_bytes(uint16_t shard_count)
{
    return sizeof(struct conn_subscription) + shard_count * sizeof(uint64_t);
}

struct conn_subscription *conn_subscription_add(struct conn *conn, uint64_t id, uint64_t shards)
{
    struct core *core = conn->core;
    struct conn_subscription *subscription = pool_acquire(&core->conns.subscriptions);
    if (!subscription)
        return NULL;
    memset(subscription, 0, conn_subscription_bytes(core->broker->shard_count));
    subscription->id = id;
    subscription->shards = shards;
    subscription->state = SUBSCRIPTION_BEGINNING;
    list_init(&subscription->held);
    list_push_back(&conn->subscriptions, &subscription->link);
    conn->subscription_count++;
    return subscription;
}

struct conn_subscription *conn_subscription_find(const struct conn *conn, uint64_t id)
{
    LIST_EACH(node, &conn->subscriptions)
    {
        struct conn_subscription *subscription = CONTAINER_OF(node, struct conn_subscription, link);
        if (subscription->id == id)
            return subscription;
    }
    return NULL;
}

void conn_subscription_activate(struct conn *conn, struct conn_subscription *subscription)
{
    subscription->state = SUBSCRIPTION_ACTIVE;
    for (struct list *node; (node = list_pop_front(&subscription->held));) {
        struct request *delivery = CONTAINER_OF(node, struct request, link);
        conn_subscription_delivered(conn, subscription, delivery);
        conn_deliver(conn, delivery);
    }
}

void conn_subscription_delivered(struct conn *conn, struct conn_subscription *subscription,
                                 const struct request *delivery)
{
    ASSERT(delivery->shard < conn->core->broker->shard_count);
    subscription->owed[delivery->shard] += delivery->frame_bytes;
}

/* They would leave behind the answer to UNSUBSCRIBE, which goes in the first lane. One that is being sent can't be
 * called back, but its buffer is finished before the lane changes. */
static void drop_unsent(struct conn *conn, uint64_t id)
{
    LIST_EACH(node, &conn->deliveries)
    {
        struct request *delivery = CONTAINER_OF(node, struct request, link);
        if (delivery->kind != REQUEST_DELIVER || delivery->u.deliver.subscription != id)
            continue;
        list_remove(&delivery->link);
        delivery_finish(conn->core, delivery);
    }
}

void conn_subscription_remove(struct conn *conn, struct conn_subscription *subscription)
{
    struct core *core = conn->core;
    for (struct list *node; (node = list_pop_front(&subscription->held));)
        mailbox_reply(&core->mailbox, CONTAINER_OF(node, struct request, link));
    drop_unsent(conn, subscription->id);
    list_remove(&subscription->link);
    conn->subscription_count--;
    pool_release(&core->conns.subscriptions, subscription);
}

void conn_subscriptions_clear(struct conn *conn)
{
    LIST_EACH(node, &conn->subscriptions)
    conn_subscription_remove(conn, CONTAINER_OF(node, struct conn_subscription, link));
}

void conn_subscription_share(struct conn_subscription *subscription, uint64_t bytes,
                             uint64_t share[SHARDS_MAX])
{
    uint64_t count = (uint64_t)__builtin_popcountll(subscription->shards);
    memset(share, 0, SHARDS_MAX * sizeof(share[0]));
    for (uint64_t left = subscription->shards; left != 0; left &= left - 1) {
        int shard = __builtin_ctzll(left);
        share[shard] = min_u64(bytes, subscription->owed[shard]);
        subscription->owed[shard] -= share[shard];
        bytes -= share[shard];
    }
    uint64_t part = bytes / count, rest = bytes % count; // beyond what was delivered: more window
    for (uint64_t left = subscription->shards; left != 0; left &= left - 1) {
        share[__builtin_ctzll(left)] += part + rest;
        rest = 0;
    }
}
