/* Messages of transactions: TXN_INIT, BEGIN, OFFSETS, PREPARE, COMMIT, ABORT, LIST, DESCRIBE.
 *
 * A request begins with the string that decides where it goes, so the broker can route it before it
 * looks at the rest; arrays of structs come behind all that has a fixed place, and are taken as
 * they lie. What a request says is checked here for its form only: whether there is such a
 * transaction is for its coordinator to tell. */
#include "proto/messages_private.h"

#define LIST_ITEM_BYTES_MIN 46 // with an empty id

static void write_txn(struct writer *w, const struct msg_txn *m);
static void walk_txn(struct reader *r, struct msg_txn *m, bool *allowed);
static bool producer_is_valid(uint64_t producer_id, uint16_t epoch);
static bool txn_items_are_valid(const struct txn_item *items, uint32_t count);
static void walk_groups(struct reader *r, struct msg_txn_end *m, bool *allowed);
static void walk_list_item(struct reader *r, struct msg_txn_list_item *item, bool *allowed);

/* ---- which transaction, and who asks ---- */

static void write_txn(struct writer *w, const struct msg_txn *m)
{
    write_string(w, m->id);
    write_u64(w, m->producer_id);
    write_u16(w, m->epoch);
    write_u16(w, 0);
    write_u32(w, m->coordinator);
    write_u64(w, m->open_lsn);
}

/* An operator is no producer, so then the epoch means nothing. */
static void walk_txn(struct reader *r, struct msg_txn *m, bool *allowed)
{
    m->id = read_name(r, TRANSACTIONAL_ID_BYTES_MAX, allowed);
    m->producer_id = read_u64(r);
    m->epoch = read_u16(r);
    uint16_t reserved = read_u16(r);
    m->coordinator = read_u32(r);
    m->open_lsn = read_u64(r);
    *allowed = *allowed && reserved == 0 &&
               (m->producer_id == TXN_BY_NAME || producer_is_valid(m->producer_id, m->epoch));
}

/* Both stand in signed fields of a batch. */
static bool producer_is_valid(uint64_t producer_id, uint16_t epoch)
{
    return producer_id <= INT64_MAX && epoch <= INT16_MAX;
}

/* ---- TXN_INIT ---- */

void write_txn_init(struct writer *w, const struct msg_txn_init *m)
{
    write_string(w, m->id);
}

uint16_t read_txn_init(const struct frame *frame, struct msg_txn_init *m)
{
    struct reader r = meta_reader(frame);
    bool allowed = true;
    m->id = read_name(&r, TRANSACTIONAL_ID_BYTES_MAX, &allowed);
    return meta_result(&r, allowed);
}

void write_txn_init_reply(struct writer *w, const struct msg_txn_init_reply *m)
{
    write_u64(w, m->producer_id);
    write_u16(w, m->epoch);
    write_u16(w, m->state);
    write_u32(w, m->coordinator);
    write_u64(w, m->open_lsn);
}

uint16_t read_txn_init_reply(const struct frame *frame, struct msg_txn_init_reply *m)
{
    struct reader r = meta_reader(frame);
    m->producer_id = read_u64(&r);
    m->epoch = read_u16(&r);
    m->state = read_u16(&r);
    m->coordinator = read_u32(&r);
    m->open_lsn = read_u64(&r);
    return meta_result(&r, producer_is_valid(m->producer_id, m->epoch) &&
                               m->state <= TXN_INIT_PREPARED);
}

/* ---- TXN_BEGIN ---- */

void write_txn_begin(struct writer *w, const struct msg_txn_begin *m)
{
    write_string(w, m->id);
    write_u64(w, m->producer_id);
    write_u16(w, m->epoch);
    write_u16(w, 0);
    write_u32(w, m->timeout_ms);
}

uint16_t read_txn_begin(const struct frame *frame, struct msg_txn_begin *m)
{
    struct reader r = meta_reader(frame);
    bool allowed = true;
    m->id = read_name(&r, TRANSACTIONAL_ID_BYTES_MAX, &allowed);
    m->producer_id = read_u64(&r);
    m->epoch = read_u16(&r);
    uint16_t reserved = read_u16(&r);
    m->timeout_ms = read_u32(&r);
    return meta_result(&r, allowed && reserved == 0 && producer_is_valid(m->producer_id, m->epoch));
}

void write_txn_begin_reply(struct writer *w, const struct msg_txn_begin_reply *m)
{
    write_u32(w, m->coordinator);
    write_u32(w, m->timeout_ms);
    write_u64(w, m->open_lsn);
}

uint16_t read_txn_begin_reply(const struct frame *frame, struct msg_txn_begin_reply *m)
{
    struct reader r = meta_reader(frame);
    m->coordinator = read_u32(&r);
    m->timeout_ms = read_u32(&r);
    m->open_lsn = read_u64(&r);
    return meta_result(&r, true);
}

/* ---- TXN_OFFSETS ---- */

void write_txn_offsets_begin(struct writer *w, const struct msg_txn_offsets *m)
{
    write_string(w, m->group);
    write_string(w, m->member);
    write_u32(w, m->generation);
    write_txn(w, &m->txn);
    write_item_count(w, m->item_count);
}

void write_offset_item(struct writer *w, uint32_t topic_id, uint32_t partition, uint64_t offset)
{
    struct offset_item item = {.topic_id = le32_make(topic_id),
                               .partition = le32_make(partition),
                               .offset = le64_make(offset)};
    write_bytes(w, &item, sizeof(item));
}

uint16_t read_txn_offsets(const struct frame *frame, struct msg_txn_offsets *m)
{
    struct reader r = meta_reader(frame);
    bool allowed = true;
    uint32_t reserved;
    m->group = read_name(&r, GROUP_NAME_BYTES_MAX, &allowed);
    m->member = read_name_or_none(&r, GROUP_MEMBER_BYTES_MAX, &allowed);
    m->generation = read_u32(&r);
    walk_txn(&r, &m->txn, &allowed);
    m->item_count = read_item_count(&r, &reserved);
    m->items = read_items(&r, m->item_count, sizeof(*m->items));
    if (!reader_is_done(&r))
        return PE_MALFORMED;
    return meta_result(&r, allowed && reserved == 0 && m->txn.producer_id != TXN_BY_NAME &&
                               offset_items_are_valid(m->items, m->item_count));
}

bool offset_items_are_valid(const struct offset_item *items, uint32_t count)
{
    bool valid = count >= 1 && count <= TXN_ITEM_COUNT_MAX;
    for (uint32_t i = 0; i < count && valid; i++)
        valid = le64_get(items[i].offset) <= INT64_MAX;
    return valid;
}

/* ---- TXN_PREPARE, TXN_COMMIT ---- */

void write_txn_end_begin(struct writer *w, const struct msg_txn *txn, uint32_t item_count,
                         uint16_t group_count)
{
    write_txn(w, txn);
    write_u32(w, item_count);
    write_u16(w, group_count);
    write_u16(w, 0);
}

void write_txn_item(struct writer *w, uint32_t topic_id, uint32_t partition, uint32_t batch_count)
{
    struct txn_item item = {.topic_id = le32_make(topic_id),
                            .partition = le32_make(partition),
                            .batch_count = le32_make(batch_count)};
    write_bytes(w, &item, sizeof(item));
}

/* Who ends by name doesn't know what is inside, so naming something there is a mistake. */
uint16_t read_txn_end(const struct frame *frame, struct msg_txn_end *m)
{
    struct reader r = meta_reader(frame);
    bool allowed = true;
    walk_txn(&r, &m->txn, &allowed);
    m->item_count = read_u32(&r);
    m->group_count = read_u16(&r);
    uint16_t reserved = read_u16(&r);
    m->items = read_items(&r, m->item_count, sizeof(*m->items));
    walk_groups(&r, m, &allowed);
    if (!reader_is_done(&r))
        return PE_MALFORMED;
    bool by_name = m->txn.producer_id == TXN_BY_NAME;
    return meta_result(&r, allowed && reserved == 0 &&
                               (!by_name || (m->item_count == 0 && m->group_count == 0)) &&
                               txn_items_are_valid(m->items, m->item_count));
}

static bool txn_items_are_valid(const struct txn_item *items, uint32_t count)
{
    bool valid = count <= TXN_ITEM_COUNT_MAX;
    for (uint32_t i = 0; i < count && valid; i++)
        valid = le32_get(items[i].reserved) == 0;
    return valid;
}

static void walk_groups(struct reader *r, struct msg_txn_end *m, bool *allowed)
{
    const uint8_t *first = r->at;
    read_count(r, m->group_count, sizeof(uint16_t));
    for (uint32_t i = 0; i < m->group_count && !r->failed; i++)
        read_name(r, GROUP_NAME_BYTES_MAX, allowed);
    m->groups = reader_between(first, r);
}

void write_txn_commit_reply_begin(struct writer *w, uint32_t item_count)
{
    write_item_count(w, item_count);
}

void write_txn_result_item(struct writer *w, uint32_t topic_id, uint32_t partition,
                           uint64_t base_offset)
{
    struct txn_result_item item = {.topic_id = le32_make(topic_id),
                                   .partition = le32_make(partition),
                                   .base_offset = le64_make(base_offset)};
    write_bytes(w, &item, sizeof(item));
}

uint16_t read_txn_commit_reply(const struct frame *frame, struct msg_txn_commit_reply *m)
{
    struct reader r = meta_reader(frame);
    uint32_t reserved;
    m->item_count = read_item_count(&r, &reserved);
    m->items = read_items(&r, m->item_count, sizeof(*m->items));
    return meta_result(&r, reserved == 0 && m->item_count <= TXN_ITEM_COUNT_MAX);
}

/* ---- TXN_ABORT ---- */

void write_txn_abort(struct writer *w, const struct msg_txn *m)
{
    write_txn(w, m);
}

uint16_t read_txn_abort(const struct frame *frame, struct msg_txn *m)
{
    struct reader r = meta_reader(frame);
    bool allowed = true;
    walk_txn(&r, m, &allowed);
    return meta_result(&r, allowed);
}

/* ---- TXN_LIST ---- */

void write_txn_list(struct writer *w, const struct msg_txn_list *m)
{
    write_u32(w, m->shard);
    write_string(w, m->after);
}

uint16_t read_txn_list(const struct frame *frame, struct msg_txn_list *m)
{
    struct reader r = meta_reader(frame);
    bool allowed = true;
    m->shard = read_u32(&r);
    m->after = read_name_or_none(&r, TRANSACTIONAL_ID_BYTES_MAX, &allowed);
    return meta_result(&r, allowed);
}

void write_txn_list_reply_begin(struct writer *w, uint32_t shard_count, bool more,
                                uint16_t item_count)
{
    write_u32(w, shard_count);
    write_u8(w, more);
    write_u8(w, 0);
    write_u16(w, item_count);
}

void write_txn_list_item(struct writer *w, const struct msg_txn_list_item *m)
{
    write_string(w, m->id);
    write_u64(w, m->producer_id);
    write_u16(w, m->epoch);
    write_u8(w, m->state);
    write_u8(w, 0);
    write_u32(w, m->coordinator);
    write_u64(w, m->open_lsn);
    write_u64(w, m->age_ms);
    write_u32(w, m->timeout_ms);
    write_u64(w, m->shards);
}

uint16_t read_txn_list_reply(const struct frame *frame, struct msg_txn_list_reply *m)
{
    struct reader r = meta_reader(frame);
    m->shard_count = read_u32(&r);
    uint8_t more = read_u8(&r);
    uint8_t reserved = read_u8(&r);
    m->item_count = read_u16(&r);
    m->more = more == 1;
    bool allowed = more <= 1 && reserved == 0;
    const uint8_t *first = r.at;
    read_count(&r, m->item_count, LIST_ITEM_BYTES_MIN);
    for (uint32_t i = 0; i < m->item_count && !r.failed; i++)
        walk_list_item(&r, &(struct msg_txn_list_item){0}, &allowed);
    m->items = reader_between(first, &r);
    return meta_result(&r, allowed);
}

void read_txn_list_item(struct msg_txn_list_reply *m, struct msg_txn_list_item *item)
{
    bool allowed = true;
    walk_list_item(&m->items, item, &allowed);
}

static void walk_list_item(struct reader *r, struct msg_txn_list_item *item, bool *allowed)
{
    item->id = read_name(r, TRANSACTIONAL_ID_BYTES_MAX, allowed);
    item->producer_id = read_u64(r);
    item->epoch = read_u16(r);
    item->state = read_u8(r);
    uint8_t reserved = read_u8(r);
    item->coordinator = read_u32(r);
    item->open_lsn = read_u64(r);
    item->age_ms = read_u64(r);
    item->timeout_ms = read_u32(r);
    item->shards = read_u64(r);
    *allowed = *allowed && reserved == 0 && item->state <= TXN_STATE_ABORTING;
}

/* ---- TXN_DESCRIBE ---- */

void write_txn_describe(struct writer *w, const struct msg_txn_describe *m)
{
    write_u32(w, m->shard);
    write_u32(w, m->coordinator);
    write_u64(w, m->open_lsn);
}

uint16_t read_txn_describe(const struct frame *frame, struct msg_txn_describe *m)
{
    struct reader r = meta_reader(frame);
    m->shard = read_u32(&r);
    m->coordinator = read_u32(&r);
    m->open_lsn = read_u64(&r);
    return meta_result(&r, true);
}

void write_txn_describe_reply_begin(struct writer *w, const struct msg_txn_describe_reply *m)
{
    write_u8(w, m->state);
    write_u8(w, 0);
    write_u16(w, 0);
    write_u32(w, m->offset_count);
    write_u64(w, m->batch_bytes);
    write_item_count(w, m->item_count);
}

void write_txn_part_item(struct writer *w, const struct txn_part_item *item)
{
    write_bytes(w, item, sizeof(*item));
}

uint16_t read_txn_describe_reply(const struct frame *frame, struct msg_txn_describe_reply *m)
{
    struct reader r = meta_reader(frame);
    uint32_t reserved;
    m->state = read_u8(&r);
    bool allowed = read_u8(&r) == 0;
    allowed = read_u16(&r) == 0 && allowed;
    m->offset_count = read_u32(&r);
    m->batch_bytes = read_u64(&r);
    m->item_count = read_item_count(&r, &reserved);
    m->items = read_items(&r, m->item_count, sizeof(*m->items));
    return meta_result(&r, allowed && reserved == 0 && m->state <= TXN_PART_PREPARED &&
                               m->item_count <= TXN_ITEM_COUNT_MAX);
}
