/* Requests over several shards: a parent that stays here, a child to each shard, and one answer.
 *
 *   PRODUCE       children share the frame; each shard handles the items that carry its number
 *   UNSUBSCRIBE   children share the frame
 *   SUBSCRIBE     each child has a frame of its own: its partitions, its share of the credit;
 *                 when one is refused, the others are unsubscribed: all or nothing
 *   OFFSETS       each child has a frame and a reply buffer of its own; replies are merged in the
 *                 order asked for
 *
 * A parent is answered when its last child is home; the first error among them is its error. The
 * children of a parent are chained by `context`, which no shard touches once a request is
 * answered. */
#include "broker/broker.h"
#include "broker/dispatch.h"

struct split { // everything that is taken before anything is done
    struct request *parent;
    struct request *children[SHARDS_MAX]; // by shard
    uint32_t item_counts[SHARDS_MAX];     // SUBSCRIBE, OFFSETS
};

static bool take_frames(struct conn *conn, const struct frame *frame, uint64_t shards,
                        struct split *split);
static void count_items(const struct conn *conn, const struct frame *frame, struct split *split);
static bool take_buffers(struct conn *conn, uint16_t op, uint64_t shards, struct split *split);
static void give_back(struct conn *conn, uint64_t shards, struct split *split);
static struct request *make_child(struct conn *conn, struct request *parent, uint16_t shard);
static void write_child_frame(struct conn *conn, const struct frame *frame, struct split *split,
                              uint64_t shards, uint16_t shard);
static void merge_offsets(struct core *core, struct request *parent, struct request *child);
static void finish_children(struct core *core, struct request *parent);
static bool has_own_frames(uint16_t op);

#define FETCH_HEAD_BYTES (FRAME_HEADER_SIZE + 24u)
#define OFFSETS_HEAD_BYTES (FRAME_HEADER_SIZE + 8u)

static uint32_t child_frame_bytes(uint16_t op, uint32_t item_count)
{
    uint32_t head = op == OP_OFFSETS ? OFFSETS_HEAD_BYTES : FETCH_HEAD_BYTES;
    return head + item_count * (uint32_t)sizeof(struct fetch_item);
}

static uint32_t offsets_reply_bytes(uint32_t item_count)
{
    return OFFSETS_HEAD_BYTES + item_count * (uint32_t)sizeof(struct offsets_item);
}

static bool has_own_frames(uint16_t op)
{
    return op == OP_SUBSCRIBE || op == OP_OFFSETS;
}

#define EACH_SHARD(shard, shards)                                                                  \
    for (uint64_t left_ = (shards), shard = 0;                                                     \
         left_ != 0 && (shard = (uint64_t)__builtin_ctzll(left_), true); left_ &= left_ - 1)

bool dispatch_can_split(const struct conn *conn, uint64_t shards)
{
    const struct core *core = conn->core;
    uint32_t per_core[CORES_MAX] = {0};
    uint32_t count = 1;
    EACH_SHARD(shard, shards)
    {
        uint16_t target = dispatch_core_of(conn, (uint16_t)shard);
        if (++per_core[target] > mailbox_credits(&core->mailbox, target))
            return false;
        count++;
    }
    return core->requests.free_count >= REQUESTS_RESERVED + count;
}

enum conn_step dispatch_split(struct conn *conn, uint8_t *bytes, const struct frame *frame,
                              uint64_t shards)
{
    struct split split = {0};
    if (!dispatch_can_split(conn, shards))
        return CONN_WAITS;
    split.parent = dispatch_request(conn, bytes, frame, (uint16_t)__builtin_ctzll(shards));
    ASSERT(split.parent);
    EACH_SHARD(shard, shards)
    split.children[shard] = make_child(conn, split.parent, (uint16_t)shard);
    if (has_own_frames(frame->op) && !take_frames(conn, frame, shards, &split)) {
        give_back(conn, shards, &split);
        return CONN_WAITS;
    }
    dispatch_lend(conn, split.parent, split.parent->reply);
    split.parent->shard = UINT16_MAX; // several
    EACH_SHARD(shard, shards)
    {
        split.parent->children++;
        dispatch_send(conn, split.children[shard]);
    }
    return CONN_TAKEN;
}

static struct request *make_child(struct conn *conn, struct request *parent, uint16_t shard)
{
    struct core *core = conn->core;
    struct request *child = request_acquire(&core->requests, REQUEST_CLIENT, core->index);
    ASSERT(child); // dispatch_can_split() counted
    child->op = parent->op;
    child->target_core = dispatch_core_of(conn, shard);
    child->shard = shard;
    child->conn = parent->conn;
    child->started_ns = parent->started_ns;
    child->correlation = parent->correlation;
    child->parent = parent;
    child->frame_count = 1;
    if (!has_own_frames(parent->op)) {
        child->buffer = parent->buffer;
        buffer_ref(child->buffer);
        child->frames = parent->frames;
        child->frame_bytes = parent->frame_bytes;
        child->offset_count = parent->offset_count;
    }
    return child;
}

/* ---- SUBSCRIBE, OFFSETS: a frame for each child ---- */

static bool take_frames(struct conn *conn, const struct frame *frame, uint64_t shards,
                        struct split *split)
{
    count_items(conn, frame, split);
    if (!take_buffers(conn, frame->op, shards, split))
        return false;
    EACH_SHARD(shard, shards)
    write_child_frame(conn, frame, split, shards, (uint16_t)shard);
    return true;
}

/* Both metas end in an array of struct fetch_item. */
static const struct fetch_item *items_of(const struct frame *frame, uint32_t *count)
{
    struct msg_offsets offsets = {0};
    struct msg_fetch fetch = {0};
    if (frame->op == OP_OFFSETS) {
        ASSERT(read_offsets(frame, &offsets) == PE_NONE); // as before
        *count = offsets.item_count;
        return offsets.items;
    }
    ASSERT(read_fetch(frame, &fetch) == PE_NONE);
    *count = fetch.item_count;
    return fetch.items;
}

static uint16_t shard_of_item(const struct core *core, const struct fetch_item *item)
{
    return shard_of_partition(core->broker->slot_shard, le32_get(item->topic_id),
                              le32_get(item->partition));
}

static void count_items(const struct conn *conn, const struct frame *frame, struct split *split)
{
    uint32_t count;
    const struct fetch_item *items = items_of(frame, &count);
    for (uint32_t i = 0; i < count; i++)
        split->item_counts[shard_of_item(conn->core, &items[i])]++;
}

static bool take_buffers(struct conn *conn, uint16_t op, uint64_t shards, struct split *split)
{
    struct buffers *buffers = &conn->core->buffers;
    uint32_t item_count = 0;
    EACH_SHARD(shard, shards)
    {
        struct request *child = split->children[shard];
        uint32_t count = split->item_counts[shard];
        item_count += count;
        child->buffer =
            buffer_acquire_for(buffers, child_frame_bytes(op, count), BUFFER_FOR_RECEIVE);
        if (!child->buffer)
            return false;
        if (op != OP_OFFSETS)
            continue;
        child->reply = buffer_acquire_for(buffers, offsets_reply_bytes(count), BUFFER_FOR_RECEIVE);
        if (!child->reply)
            return false;
    }
    if (op != OP_OFFSETS)
        return true;
    split->parent->reply =
        buffer_acquire_for(buffers, offsets_reply_bytes(item_count), BUFFER_FOR_RECEIVE);
    return split->parent->reply != NULL;
}

static void give_back(struct conn *conn, uint64_t shards, struct split *split)
{
    EACH_SHARD(shard, shards)
    request_drop(conn->core, split->children[shard]);
    conn->requests--;
    conn_unpin(conn, TAKE(split->parent->buffer));
    request_drop(conn->core, split->parent);
}

static void write_child_frame(struct conn *conn, const struct frame *frame, struct split *split,
                              uint64_t shards, uint16_t shard)
{
    struct request *child = split->children[shard];
    uint32_t count, own = split->item_counts[shard];
    const struct fetch_item *items = items_of(frame, &count);
    struct writer w = writer_make(child->buffer->bytes + FRAME_HEADER_SIZE,
                                  child->buffer->capacity - FRAME_HEADER_SIZE);
    if (frame->op == OP_OFFSETS) {
        write_offsets_begin(&w, own);
    } else {
        struct msg_fetch m;
        ASSERT(read_fetch(frame, &m) == PE_NONE);
        write_fetch_begin(&w, m.bytes_max, m.wait_ms,
                          m.credit / (uint64_t)__builtin_popcountll(shards), own);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (shard_of_item(conn->core, &items[i]) == shard)
            write_bytes(&w, &items[i], sizeof(items[i]));
    }
    ASSERT(!w.failed);
    child->frames = child->buffer->bytes;
    child->frame_bytes =
        frame_seal(child->frames, frame->op, 0, frame->correlation, writer_length(&w), 0);
}

/* ---- CREDIT ---- */

enum conn_step dispatch_credit_split(struct conn *conn, struct conn_subscription *subscription,
                                     const struct msg_credit *m)
{
    struct core *core = conn->core;
    uint64_t share[SHARDS_MAX];
    uint32_t frame_bytes = FRAME_HEADER_SIZE + 16;
    if (!dispatch_can_split(conn, subscription->shards))
        return CONN_WAITS;
    struct buffer *buffer =
        buffer_acquire_for(&core->buffers, SHARDS_MAX * frame_bytes, BUFFER_FOR_RECEIVE);
    if (!buffer)
        return CONN_WAITS;
    conn_subscription_share(subscription, m->bytes, share);
    EACH_SHARD(shard, subscription->shards)
    {
        if (share[shard] == 0)
            continue;
        struct msg_credit part = {.subscription = m->subscription, .bytes = share[shard]};
        uint8_t *bytes = buffer->bytes + buffer->used;
        struct writer w = writer_make(bytes + FRAME_HEADER_SIZE, 16);
        write_credit(&w, &part);
        ASSERT(!w.failed);
        struct frame frame = {.op = OP_CREDIT};
        frame.length = frame_seal(bytes, OP_CREDIT, 0, m->subscription, writer_length(&w), 0);
        buffer->used += frame.length;
        struct request *request = dispatch_request(conn, bytes, &frame, (uint16_t)shard);
        ASSERT(request);
        conn_unpin(conn, request->buffer); // not the receive buffer ...
        request->buffer = buffer;          // ... but this one
        buffer_ref(buffer);
        dispatch_send(conn, request);
    }
    conn->pinned_bytes += buffer->capacity; // as every buffer of its requests
    conn_unpin(conn, buffer);
    return CONN_TAKEN;
}

/* ---- coming home ---- */

struct request *dispatch_merge(struct core *core, struct request *child)
{
    struct request *parent = child->parent;
    if (parent == child) { // an UNSUBSCRIBE that took a SUBSCRIBE back
        request_drop(core, child);
        return NULL;
    }
    ASSERT(parent->magic == REQUEST_MAGIC && parent->children > 0);
    if (child->error && (!parent->error || parent->error == PE_UNKNOWN_SUBSCRIPTION)) {
        parent->error = child->error;
        memcpy(parent->text, child->text, sizeof(parent->text));
    }
    if (parent->op == OP_OFFSETS && !child->error)
        merge_offsets(core, parent, child);
    child->context = parent->context;
    parent->context = child;
    if (--parent->children > 0)
        return NULL;
    finish_children(core, parent);
    if (parent->op == OP_OFFSETS && !parent->error)
        parent->reply_bytes = frame_seal(parent->reply->bytes, OP_OFFSETS, FRAME_REPLY,
                                         parent->correlation, parent->reply_bytes, 0);
    return parent;
}

/* The child's answers to where their questions stand in the parent's frame. Until the frame is
 * sealed, parent->reply_bytes is the length of its meta. */
static void merge_offsets(struct core *core, struct request *parent, struct request *child)
{
    struct frame question, answer;
    struct msg_offsets_reply m;
    uint32_t count, next = 0;
    ASSERT(frame_decode(parent->frames, &question) == PE_NONE);
    ASSERT(frame_decode(child->reply->bytes, &answer) == PE_NONE);
    ASSERT(read_offsets_reply(&answer, &m) == PE_NONE);
    const struct fetch_item *items = items_of(&question, &count);
    struct writer w = writer_make(parent->reply->bytes + FRAME_HEADER_SIZE, 8);
    write_offsets_begin(&w, count);
    struct offsets_item *merged =
        (struct offsets_item *)(parent->reply->bytes + OFFSETS_HEAD_BYTES);
    for (uint32_t i = 0; i < count; i++) {
        if (shard_of_item(core, &items[i]) != child->shard)
            continue;
        ASSERT(next < m.item_count);
        merged[i] = m.items[next++];
    }
    parent->reply_bytes = 8 + count * (uint32_t)sizeof(struct offsets_item);
}

/* Children of a SUBSCRIBE that failed as a whole go out again, to take back what they began. */
static void finish_children(struct core *core, struct request *parent)
{
    struct request *child = TAKE(parent->context);
    while (child) {
        struct request *next = child->context;
        if (parent->op == OP_SUBSCRIBE && parent->error && !child->error) {
            struct msg_credit m = {.subscription = parent->correlation};
            struct writer w = writer_make(child->frames + FRAME_HEADER_SIZE, 16);
            write_credit(&w, &m);
            child->op = OP_UNSUBSCRIBE;
            child->frame_bytes = frame_seal(child->frames, OP_UNSUBSCRIBE, 0, parent->correlation,
                                            writer_length(&w), 0);
            child->parent = child;
            core_send(core, child);
        } else {
            request_drop(core, child);
        }
        child = next;
    }
}
