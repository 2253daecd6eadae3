/* The metas of the native protocol's frames, decoded in place.
 *
 * For each message: a struct, write_X() into a meta under construction (check writer.failed at
 * the end) and read_X() from a received meta, which returns PE_NONE or PE_MALFORMED /
 * PE_INVALID_ARGUMENT and never looks behind meta_length. Repeated elements are not copied: the
 * struct keeps count and a reader placed at the first element, and read_X_item() is called
 * `count` times (it can't fail then: read_X() walked them all). Slices point into the frame. Byte
 * tables: docs/protocol.md. */
#ifndef SLUICE_PROTO_MESSAGES_H
#define SLUICE_PROTO_MESSAGES_H

#include "proto/cursor.h"
#include "proto/frame.h"

#define TOPIC_NAME_BYTES_MAX 249
#define PARTITION_NONE UINT32_MAX

/* For frames whose meta is empty: PING and its reply, STATUS, the replies to SUBSCRIBE and
 * UNSUBSCRIBE. PE_NONE, or PE_MALFORMED when there is a meta or data. */
uint16_t read_empty(const struct frame *frame);

/* ---- error: any REPLY with FRAME_ERROR, except to PRODUCE ---- */
struct msg_error {
    uint16_t error; // enum proto_error
    bool retriable;
    struct slice name; // "UNKNOWN_TOPIC": for clients older than the number
    struct slice text; // what, where, allowed range
};
void write_error(struct writer *w, uint16_t error, const char *text); // NULL: the error's own text
uint16_t read_error(const struct frame *frame, struct msg_error *m);

/* ---- HELLO ---- */
#define HELLO_TEXT_BYTES_MAX 255 // client_id and software each: they stand in log lines
struct msg_hello {
    uint16_t version_min, version_max; // protocol versions the client speaks
    struct slice client_id;            // chosen by the application, for logs; may be empty
    struct slice software;             // "libsluice 0.1.0"
};
struct msg_hello_reply {
    uint16_t version; // the highest both speak
    uint8_t store_id[16];
    struct slice software;      // "sluiced 0.1.0"
    uint32_t request_bytes_max; // longest frame the broker takes
    uint32_t record_bytes_max;
    uint32_t batch_bytes_max;
    uint32_t publishes_max;           // unacked PRODUCE frames per connection before reading stops
    uint32_t subscription_credit_min; // least credit that can hold any batch
};
void write_hello(struct writer *w, const struct msg_hello *m);
uint16_t read_hello(const struct frame *frame, struct msg_hello *m);
void write_hello_reply(struct writer *w, const struct msg_hello_reply *m);
uint16_t read_hello_reply(const struct frame *frame, struct msg_hello_reply *m);

/* ---- topic settings: key and value as text, as users write them ---- */
struct msg_settings {
    uint16_t count;
    struct reader items; // read_setting() count times
};
struct msg_setting {
    struct slice key, value;
};
void write_settings_begin(struct writer *w, uint16_t count);
void write_setting(struct writer *w, const char *key, const char *value);
void read_setting(struct msg_settings *m, struct msg_setting *setting);

/* ---- TOPIC_CREATE, TOPIC_ALTER, TOPIC_DELETE ---- */
struct msg_topic_change { // CREATE and ALTER; settings follow the fixed part
    struct slice name;
    uint32_t partition_count; // ALTER: 0 = unchanged
    struct msg_settings settings;
};
struct msg_topic_reply { // to all three
    uint32_t topic_id;
};
/* Then write_settings_begin() and write_setting()s. */
void write_topic_change(struct writer *w, struct slice name, uint32_t partition_count);
uint16_t read_topic_change(const struct frame *frame, struct msg_topic_change *m);
void write_topic_delete(struct writer *w, struct slice name);
uint16_t read_topic_delete(const struct frame *frame, struct slice *name);
void write_topic_reply(struct writer *w, const struct msg_topic_reply *m);
uint16_t read_topic_reply(const struct frame *frame, struct msg_topic_reply *m);

/* ---- METADATA ---- */
#define METADATA_ALL UINT16_MAX
struct msg_metadata {
    uint16_t name_count; // METADATA_ALL: every topic, in order of name, behind `after`
    struct reader names; // read_string() name_count times
    struct slice after;  // ALL: continue behind this name; empty: from the first
};
struct msg_metadata_topic {
    uint16_t error; // PE_NONE or UNKNOWN_TOPIC (then only name is set)
    struct slice name;
    uint32_t topic_id;
    uint32_t partition_count;
    uint64_t created_ms;          // wall clock
    struct msg_settings settings; // every setting with its effective value
};
struct msg_metadata_reply {
    uint16_t topic_count;
    bool more;            // ALL: ask again with after = last name
    struct reader topics; // read_metadata_topic() topic_count times
};
void write_metadata_begin(struct writer *w, uint16_t name_count, struct slice after); // then names
uint16_t read_metadata(const struct frame *frame, struct msg_metadata *m);
void write_metadata_reply_begin(struct writer *w, uint16_t topic_count, bool more);
/* m->settings is not looked at: write_settings_begin() and the settings follow, for an error with
 * count 0. */
void write_metadata_topic(struct writer *w, const struct msg_metadata_topic *m);
uint16_t read_metadata_reply(const struct frame *frame, struct msg_metadata_reply *m);
void read_metadata_topic(struct msg_metadata_reply *m, struct msg_metadata_topic *topic);

/* ---- PRODUCER_INIT ---- */
struct msg_producer_init {
    uint64_t producer_id; // UINT64_MAX: a new one
    uint16_t epoch;       // of producer_id; the reply's is higher
};
struct msg_producer_init_reply {
    uint64_t producer_id;
    uint16_t epoch;
};
void write_producer_init(struct writer *w, const struct msg_producer_init *m);
uint16_t read_producer_init(const struct frame *frame, struct msg_producer_init *m);
void write_producer_init_reply(struct writer *w, const struct msg_producer_init_reply *m);
uint16_t read_producer_init_reply(const struct frame *frame, struct msg_producer_init_reply *m);

/* ---- PRODUCE: correlation = publish number, dense from 1 in each connection ----
 *
 * meta: le16 batch_count (1..4096), le16 flags, le32 0; flags & STAGED: le32 coordinator, le32 0,
 * le64 open_lsn; then batch_count items of 16 bytes. data: the batches one behind the other. */
#define PRODUCE_BATCH_COUNT_MAX 4096
#define PRODUCE_META_FIXED 8
#define PRODUCE_META_STAGED 16 // more, with STAGED
enum produce_flags { PRODUCE_STAGED = 1 };
struct produce_item { // on the wire as is; all alignment 1
    le32 topic_id;
    le32 partition;
    le32 batch_bytes;
    le32 reserved; // 0
};
static_assert(sizeof(struct produce_item) == 16, "wire");
struct msg_produce {
    uint16_t batch_count;
    uint16_t flags;
    const struct produce_item *items; // in the frame
    const uint8_t *batches;           // data; sum of batch_bytes == data_length was checked
    uint32_t coordinator;             // STAGED: the transaction's name, else 0
    uint64_t open_lsn;
};
uint16_t read_produce(const struct frame *frame, struct msg_produce *m);
void write_produce_begin(struct writer *w, uint16_t batch_count, uint16_t flags);
void write_produce_staged(struct writer *w, uint32_t coordinator,
                          uint64_t open_lsn); // flags & STAGED
void write_produce_item(struct writer *w, uint32_t topic_id, uint32_t partition,
                        uint32_t batch_bytes);

/* ---- ACK: publishes first..last are durable and visible ---- */
struct msg_ack {
    uint64_t first, last;  // publish numbers, inclusive
    uint32_t shard;        // whose LSN; UINT32_MAX: several
    uint64_t durable_lsn;  // every byte below is on stable storage
    uint32_t offset_count; // batches in first..last together
    struct reader offsets; // read_ack_offset() offset_count times, in order of publish, then batch
    uint64_t offset_last;  // decoder state
};
/* Then write_zigzag(offset - previous offset) for each batch, the first against 0. */
void write_ack_begin(struct writer *w, uint64_t first, uint64_t last, uint32_t shard,
                     uint64_t durable_lsn, uint32_t offset_count);
uint16_t read_ack(const struct frame *frame, struct msg_ack *m);
uint64_t read_ack_offset(struct msg_ack *m);

/* ---- PRODUCE's failure: REPLY | ERROR; a result for each batch of the publish, or none (count 0)
 * when the frame was refused as a whole ---- */
struct msg_produce_failure {
    struct msg_error first; // the first error among them
    uint16_t batch_count;
    struct reader results; // read_produce_result() batch_count times
};
struct msg_produce_result {
    uint16_t error; // PE_NONE: this batch is durable at base_offset
    uint64_t base_offset;
};
void write_produce_failure_begin(struct writer *w, uint16_t error, const char *text,
                                 uint16_t batch_count);
void write_produce_result(struct writer *w, const struct msg_produce_result *m);
uint16_t read_produce_failure(const struct frame *frame, struct msg_produce_failure *m);
void read_produce_result(struct msg_produce_failure *m, struct msg_produce_result *result);

/* ---- where to start reading ---- */
enum start_kind {
    START_OFFSET = 0,    // value = offset
    START_BEGINNING = 1, // log start
    START_END = 2,       // behind the last visible record
    START_TIMESTAMP = 3, // value = ms: the first batch whose max timestamp is >= value; else END
};
struct fetch_item { // on the wire as is
    le32 topic_id;
    le32 partition;
    uint8_t start;       // enum start_kind
    uint8_t reserved[3]; // 0
    le32 bytes_max;      // FETCH only: of this partition; 0 = no limit of its own
    le64 value;
};
static_assert(sizeof(struct fetch_item) == 24, "wire");

/* ---- FETCH: one answer, at once or when something becomes visible; SUBSCRIBE: a stream ---- */
#define FETCH_ITEM_COUNT_MAX 16384
#define FETCH_WAIT_MS_MAX 60000
struct msg_fetch {      // both
    uint32_t bytes_max; // FETCH: of the answer's data, a first batch is sent even when larger
    uint32_t wait_ms;   // FETCH: 0 answers at once, possibly empty; at most 60,000
    uint64_t credit;    // SUBSCRIBE: bytes of DELIVER frames (headers included) it may send
    uint32_t item_count;
    const struct fetch_item *items;
};
void write_fetch_begin(struct writer *w, uint32_t bytes_max, uint32_t wait_ms, uint64_t credit,
                       uint32_t item_count);
void write_fetch_item(struct writer *w, uint32_t topic_id, uint32_t partition, uint8_t start,
                      uint32_t bytes_max, uint64_t value);
uint16_t read_fetch(const struct frame *frame, struct msg_fetch *m);

/* ---- DELIVER (push; correlation = the SUBSCRIBE's) and FETCH's reply ---- data: whole batches,
 * base offset and leader epoch set, of the items one behind the other. The first batch of an item
 * may begin below the offset asked for: readers skip. */
enum deliver_flags { DELIVER_END = 1 }; // the cursor has reached the visible end
struct deliver_item {                   // on the wire as is
    le32 topic_id;
    le32 partition;
    le16 error; // then bytes == 0 and the cursor is ended
    le16 flags;
    le32 bytes;
    le64 next_offset; // where reading goes on
    le64 log_start;
    le64 visible_end; // one behind the last visible offset
};
static_assert(sizeof(struct deliver_item) == 40, "wire");
struct msg_deliver {
    uint32_t item_count;
    const struct deliver_item *items;
    const uint8_t *batches;
};
#define DELIVER_META_FIXED 8
void write_deliver_begin(struct writer *w, uint32_t item_count);
uint16_t read_deliver(const struct frame *frame, struct msg_deliver *m);

/* ---- CREDIT (no reply), UNSUBSCRIBE (replied): correlation of CREDIT is ignored ---- */
struct msg_credit {
    uint64_t subscription; // correlation id of the SUBSCRIBE
    uint64_t bytes;        // added to the credit; CREDIT only
};
void write_credit(struct writer *w, const struct msg_credit *m);
uint16_t read_credit(const struct frame *frame, struct msg_credit *m);

/* ---- OFFSETS ---- */
struct msg_offsets {
    uint32_t item_count;
    const struct fetch_item *items;
};
struct offsets_item { // the reply's, on the wire as is
    le32 topic_id;
    le32 partition;
    le16 error;
    le16 reserved;
    le32 reserved2;
    le64 offset;
    le64 timestamp_ms; // TIMESTAMP: max timestamp of the batch found; else UINT64_MAX
};
static_assert(sizeof(struct offsets_item) == 32, "wire");
struct msg_offsets_reply {
    uint32_t item_count;
    const struct offsets_item *items;
};
void write_offsets_begin(struct writer *w, uint32_t item_count); // request and reply; then items
uint16_t read_offsets(const struct frame *frame, struct msg_offsets *m);
uint16_t read_offsets_reply(const struct frame *frame, struct msg_offsets_reply *m);

/* ---- STATUS ---- */
struct msg_status_reply {
    bool ready;
    bool can_produce;
    bool can_consume;
    struct slice reason;  // empty when all three are true
    uint16_t value_count; // named numbers: version, uptime, counters, marks
    struct reader values; // read_status_value() value_count times
};
void write_status_reply_begin(struct writer *w, bool ready, bool can_produce, bool can_consume,
                              const char *reason, uint16_t value_count);
void write_status_value(struct writer *w, const char *name, uint64_t value);
uint16_t read_status_reply(const struct frame *frame, struct msg_status_reply *m);
void read_status_value(struct msg_status_reply *m, struct slice *name, uint64_t *value);

/* ---- GOAWAY ---- */
struct msg_goaway {
    uint32_t deadline_ms; // until the broker closes the connection
    struct slice reason;
};
void write_goaway(struct writer *w, const struct msg_goaway *m);
uint16_t read_goaway(const struct frame *frame, struct msg_goaway *m);

/* Topic names: 1..249 bytes of A-Z a-z 0-9 . _ -, not "." or "..". Returns PE_NONE, or
 * PE_INVALID_TOPIC_NAME with why (static text). */
uint16_t topic_name_check(struct slice name, const char **why);

#endif
