/* What the scenario's client does, part by part. A part makes its own objects, and gives them back whatever becomes of it; one
 * that fails is done once more, since the fault is over by then or the broker is up again. See scenario.h. */
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "tests/sim/sweep/scenario.h"
#include "tests/sim/world/own_memory.h"

#define WORKER 0u // the producer number of transactions; those of plain producers follow
#define GROUP 0u
#define JUDGE 7u // the last of the readers
#define PART_TRIES_MAX 30u
#define SHORT_TRIES 3u // a client without memory tries so often, then it gets some
#define RETRY_NS (100 * NS_PER_MS)
#define ANSWER_NS (60 * NS_PER_S)
#define MESSAGES_MAX 64

struct script { // one try of a part
    struct world *world;
    struct sluice_client *client;
    struct sluice_producer *producer;
    struct sluice_consumer *consumer;
    uint32_t number; // of the producer
    uint64_t taken, reported, failed;
    bool holds[WORLD_PARTITIONS_MAX];    // of a group's first topic, as it was told
    uint64_t next[WORLD_PARTITIONS_MAX]; // likewise: behind what came since
};

typedef int (*part_fn)(struct script *s);

static int make_topics(struct script *s);
static int publish(struct script *s);
static int publish_much(struct script *s);
static int transact(struct script *s);
static int read_tail(struct script *s);
static int read_old(struct script *s);
static int read_as_judge(struct script *s);
static int judge_offsets(struct script *s);
static int take_part(struct script *s);
static int churn(struct script *s);
static int administer(struct script *s);
static void do_part(part_fn part, const char *name);

static void reach(enum scenario_stage stage)
{
    scenario.asked = stage;
    while (scenario.done < stage)
        thread_sleep(NS_PER_MS);
}

void *script_run(void *argument)
{
    do_part(make_topics, "topics");
    do_part(publish, "publish");
    do_part(transact, "transact");
    do_part(take_part, "group");
    do_part(publish_much, "publish much");
    do_part(read_tail, "tail");
    reach(SCENARIO_CHECKPOINT);
    do_part(churn, "churn");
    do_part(transact, "transact");
    reach(SCENARIO_KILL);
    do_part(read_old, "old segments");
    do_part(publish_much, "publish much");
    do_part(take_part, "group");
    reach(SCENARIO_DRAIN);
    do_part(publish, "publish");
    do_part(transact, "transact");
    do_part(read_tail, "tail");
    do_part(administer, "administration");
    reach(SCENARIO_POWER);
    scenario.client_has_ended = true;
    scenario.client = NULL;
    process_exit(0);
    return argument;
}

void *script_judge(void *done)
{
    do_part(read_as_judge, "judge");
    do_part(judge_offsets, "judge of offsets");
    check_nothing_left(scenario.world);
    *(bool *)done = true;
    process_exit(0);
}

/* ---- a part ---- */

/* What no fault of the broker's disk or of memory explains. */
static bool is_wrong(int status)
{
    switch (status) {
    case SLUICE_E_INVALID:
    case SLUICE_E_TOO_LARGE:
    case SLUICE_E_PROTOCOL:
    case SLUICE_E_CORRUPT:
    case SLUICE_E_UNSUPPORTED:
    case SLUICE_E_OTHER_STORE:
    case SLUICE_E_FENCED_PRODUCER:
        return true;
    case SLUICE_E_BROKER - PE_STORAGE_ERROR: // what is stored is well
        return scenario.strike.is_of_memory || scenario.strike.is_borne;
    case SLUICE_E_NO_MEMORY:
        return !scenario.strike.is_of_client;
    default:
        return false;
    }
}

static void part_failed(const char *name, int status, uint32_t tries)
{
    bool is_expected =
        scenario.strike.has_struck || sluice_is_retriable(status) || status == SLUICE_E_CLOSED;
    if (is_wrong(status) || !is_expected || tries >= PART_TRIES_MAX)
        fail("%s, try %u: %s (%s)", name, tries, sluice_name(status), sluice_last_error());
    scenario.parts_failed++;
    if (scenario.strike.is_sticky && !scenario.strike.is_over && !scenario.strike.is_of_client)
        thread_sleep(NS_PER_S); // nothing can go better before it is over
    if (scenario.strike.is_of_client && tries >= SHORT_TRIES)
        scenario.strike.is_over = true;
    thread_sleep(RETRY_NS);
}

static void end_part(struct script *s, const char *name)
{
    if (s->consumer)
        sluice_consumer_free(s->consumer);
    if (s->producer)
        sluice_producer_free(s->producer);
    if (s->client)
        sluice_client_free(s->client);
    if (s->taken != s->reported)
        fail("%s: %" PRIu64 " records taken, %" PRIu64 " reported", name, s->taken, s->reported);
}

static void do_part(part_fn part, const char *name)
{
    uint32_t owner = process_current()->id;
    for (uint32_t tries = 1;; tries++) {
        struct script s = {.world = scenario.world};
        struct sluice_client_options options = {.size = sizeof(options),
                                                .server = scenario.world->server};
        struct memory_use before = memory_use(owner);
        int status = sluice_client_new(&options, &s.client);
        if (status == SLUICE_OK)
            status = part(&s);
        end_part(&s, name);
        struct memory_use after = memory_use(owner);
        if (after.bytes != before.bytes || after.mapped != before.mapped)
            fail("%s (%s): %" PRId64 " bytes and %" PRId64 " mapped ones were not given back", name,
                 sluice_name(status), (int64_t)(after.bytes - before.bytes),
                 (int64_t)(after.mapped - before.mapped));
        if (status == SLUICE_OK)
            return;
        part_failed(name, status, tries);
    }
}

#define TRY(call)                                                                                  \
    do {                                                                                           \
        int status_ = (call);                                                                      \
        if (status_ < 0)                                                                           \
            return status_;                                                                        \
    } while (0)

static bool is_undecided(int status)
{
    return status == SLUICE_E_TIMED_OUT || status == SLUICE_E_CONNECT ||
           status == SLUICE_E_CLOSED || status == SLUICE_E_NO_MEMORY;
}

static bool is_worth_asking_again(int status)
{
    return is_undecided(status) && status != SLUICE_E_NO_MEMORY; // the part begins anew
}

static void note(struct history_event event)
{
    history_add(scenario.world->history, event);
}

/* ---- topics ---- */

static int create(struct script *s, const char *topic, uint32_t partitions)
{
    int status = sluice_topic_create(s->client, topic, partitions, NULL, 0);
    return status == SLUICE_E_TOPIC_EXISTS ? SLUICE_OK : status; // a try before
}

static int make_topics(struct script *s)
{
    for (uint32_t i = 0; i < s->world->topic_count; i++)
        TRY(create(s, s->world->topics[i], s->world->partitions_per_topic));
    return SLUICE_OK;
}

static void count_report(void *context, const struct sluice_report *report)
{
    struct script *s = context;
    s->reported++;
    s->failed += report->status != SLUICE_OK;
}

static int churn(struct script *s)
{
    struct sluice_producer_options options = {
        .size = sizeof(options), .buffer_bytes = MIB, .on_report = count_report, .context = s};
    struct sluice_record record = {.topic = "gone", .value = "x", .value_len = 1};
    TRY(create(s, "gone", 2));
    TRY(sluice_producer_new(s->client, &options, &s->producer));
    for (record.partition = 0; record.partition < 2; record.partition++) {
        TRY(sluice_producer_send(s->producer, &record));
        s->taken++;
    }
    TRY(sluice_producer_flush(s->producer, 10000));
    int status = sluice_topic_delete(s->client, "gone");
    return status == SLUICE_E_UNKNOWN_TOPIC ? SLUICE_OK : status;
}

/* ---- plain records ---- */

static void on_report(void *context, const struct sluice_report *report)
{
    struct script *s = context;
    s->reported++;
    if (report->status != SLUICE_OK) {
        s->failed++;
        return; // nobody knows
    }
    scenario_acked();
    if (report->offset != SLUICE_OFFSET_UNKNOWN)
        note((struct history_event){HISTORY_ACKED, .producer = s->number,
                                    .partition = report->partition, // of the first topic
                                    .sequence = (uint64_t)(uintptr_t)report->opaque,
                                    .offset = report->offset});
}

static int plain_producer(struct script *s)
{
    struct sluice_producer_options options = {.size = sizeof(options),
                                              .batch_bytes = 64u << 10,
                                              .buffer_bytes = MIB,
                                              .send_waits = true,
                                              .on_report = on_report,
                                              .context = s};
    s->number = 1 + atomic_fetch_add(&s->world->producers, 1);
    return sluice_producer_new(s->client, &options, &s->producer);
}

static int send_record(struct script *s, uint32_t partition, uint64_t txn, uint32_t length)
{
    uint64_t sequence;
    TRY(send_one(s->world, s->producer, s->number, partition, txn, length, &sequence));
    s->taken++;
    return SLUICE_OK;
}

/* Those that failed are not there or are: the next try is another producer with other records. */
static int flush(struct script *s)
{
    TRY(sluice_producer_flush(s->producer, 60000));
    return s->failed > 0 ? SLUICE_E_CLOSED : SLUICE_OK;
}

static int publish(struct script *s)
{
    TRY(plain_producer(s));
    for (uint32_t i = 0; i < 6; i++) {
        for (uint32_t p = 0; p < s->world->partitions_per_topic; p++)
            TRY(send_record(s, p, 0, 100 + 300 * i));
        TRY(flush(s)); // each a round of its own
    }
    return SLUICE_OK;
}

static int publish_much(struct script *s) // more than a segment
{
    TRY(plain_producer(s));
    for (uint32_t i = 0; i < 700; i++)
        TRY(send_record(s, i % 16 == 0, 0, 8000));
    return flush(s);
}

/* ---- transactions ---- */

static void note_txn(enum history_kind kind, uint64_t txn)
{
    note((struct history_event){kind, .txn = txn});
}

/* What is no answer of the broker, and not undecided either, says that nothing of it is visible. */
static int commit_it(struct script *s, uint64_t txn)
{
    uint64_t deadline = world_now_ns() + ANSWER_NS;
    int status;
    note_txn(HISTORY_COMMIT_ASKED, txn);
    do {
        status = sluice_txn_commit(s->producer, 5000);
    } while (is_worth_asking_again(status) && world_now_ns() < deadline);
    if (status == SLUICE_OK)
        scenario_acked();
    if (!is_undecided(status))
        note_txn(status == SLUICE_OK || status == SLUICE_E_TRANSACTION_COMMITTED ? HISTORY_COMMITTED
                                                                                 : HISTORY_ABORTED,
                 txn);
    return status;
}

static int abort_it(struct script *s, uint64_t txn)
{
    uint64_t deadline = world_now_ns() + ANSWER_NS;
    int status;
    note_txn(HISTORY_ABORT_ASKED, txn);
    do {
        status = sluice_txn_abort(s->producer, 5000);
    } while (is_worth_asking_again(status) && world_now_ns() < deadline);
    if (status == SLUICE_OK)
        note_txn(HISTORY_ABORTED, txn);
    return status;
}

static int prepare_it(struct script *s, uint64_t txn)
{
    uint64_t deadline = world_now_ns() + ANSWER_NS;
    int status;
    atomic_store(&s->world->open_txn[WORKER], txn);
    do {
        status = sluice_txn_prepare(s->producer, 5000, NULL);
    } while (is_worth_asking_again(status) && world_now_ns() < deadline);
    return status;
}

/* A try before may have left a prepared one. */
static int txn_producer(struct script *s)
{
    struct sluice_producer_options options = {.size = sizeof(options),
                                              .batch_bytes = 16u << 10,
                                              .buffer_bytes = MIB,
                                              .send_waits = true,
                                              .on_report = count_report,
                                              .context = s,
                                              .transactional_id = "worker"};
    s->number = WORKER;
    TRY(sluice_producer_new(s->client, &options, &s->producer));
    uint64_t deadline = world_now_ns() + ANSWER_NS;
    int waits;
    do {
        waits = sluice_txn_recover(s->producer, 5000, NULL);
    } while (is_worth_asking_again(waits) && world_now_ns() < deadline);
    TRY(waits);
    if (waits > 0)
        TRY(commit_it(s, atomic_load(&s->world->open_txn[WORKER])));
    return SLUICE_OK;
}

static int begin_it(struct script *s, uint64_t *txn)
{
    *txn = atomic_fetch_add(&s->world->txns, 1) + 1;
    return sluice_txn_begin(s->producer);
}

static int send_to(struct script *s, uint32_t first, uint32_t partitions, uint64_t txn)
{
    for (uint32_t i = 0; i < 2 * partitions; i++)
        TRY(send_record(s, first + i % partitions, txn, 200));
    return SLUICE_OK;
}

static int transact(struct script *s)
{
    uint32_t all = world_partitions(s->world);
    uint64_t txn;
    TRY(txn_producer(s));
    TRY(begin_it(s, &txn)); // all shards
    TRY(send_to(s, 0, all, txn));
    TRY(commit_it(s, txn));
    TRY(begin_it(s, &txn));
    TRY(send_to(s, 0, all, txn));
    TRY(sluice_producer_flush(s->producer, 10000));
    TRY(abort_it(s, txn));
    for (uint32_t p = 0; p < 3; p++) { // one shard, maybe the coordinator's
        TRY(begin_it(s, &txn));
        TRY(send_to(s, p, 1, txn));
        TRY(commit_it(s, txn));
    }
    TRY(begin_it(s, &txn));
    TRY(send_to(s, 0, all, txn));
    TRY(prepare_it(s, txn));
    return commit_it(s, txn);
}

/* ---- reading ---- */

static int ask_end_of(struct script *s, uint32_t reader, uint32_t p, uint64_t *end)
{
    struct history_event event = {HISTORY_END_ASKED, .reader = reader, .partition = p};
    note(event);
    TRY(sluice_offset(s->client, s->world->topics[p / s->world->partitions_per_topic],
                      p % s->world->partitions_per_topic, SLUICE_START_END, 0, end));
    event.kind = HISTORY_END;
    event.offset = *end;
    note(event);
    return SLUICE_OK;
}

static int begin_reading_from(struct script *s, uint32_t reader)
{
    for (uint32_t p = 0; p < world_partitions(s->world); p++) {
        uint64_t from = atomic_load(&s->world->positions[reader][p]);
        note((struct history_event){HISTORY_READER_START, .reader = reader, .partition = p,
                                    .offset = from});
        TRY(sluice_consumer_subscribe(
            s->consumer, s->world->topics[p / s->world->partitions_per_topic],
            p % s->world->partitions_per_topic, SLUICE_START_OFFSET, from));
    }
    return SLUICE_OK;
}

static int read_to_end(struct script *s, uint32_t reader)
{
    struct sluice_consumer_options options = {.size = sizeof(options)};
    struct sluice_message messages[MESSAGES_MAX];
    uint64_t ends[WORLD_PARTITIONS_MAX];
    TRY(sluice_consumer_new(s->client, &options, &s->consumer));
    TRY(begin_reading_from(s, reader));
    for (uint32_t p = 0; p < world_partitions(s->world); p++)
        TRY(ask_end_of(s, reader, p, &ends[p]));
    uint64_t deadline = world_now_ns() + ANSWER_NS;
    while (!has_read_to(s->world, reader, ends)) {
        int got = sluice_consumer_poll(s->consumer, messages, MESSAGES_MAX, 500);
        TRY(got);
        note_messages(s->world, reader, messages, got);
        if (world_now_ns() > deadline)
            return SLUICE_E_TIMED_OUT;
    }
    return SLUICE_OK;
}

static int read_tail(struct script *s)
{
    return read_to_end(s, 0);
}

static int read_old(struct script *s)
{
    return read_to_end(s, 1);
}

static int read_as_judge(struct script *s)
{
    TRY(read_to_end(s, JUDGE));
    note_done(s->world, JUDGE);
    return SLUICE_OK;
}

/* ---- a group ---- */

/* Notes, before it is done, which offsets are about to be committed; returns how many. */
static uint32_t note_asked(const uint64_t *positions, uint64_t txn)
{
    uint32_t count = 0;
    for (uint32_t p = 0; p < scenario.world->partitions_per_topic; p++) {
        if (positions[p] == 0 && txn != 0)
            continue;
        note((struct history_event){HISTORY_OFFSET_COMMIT_ASKED, .group = GROUP, .partition = p,
                                    .offset = positions[p], .txn = txn});
        count++;
    }
    return count;
}

static int ask_committed(struct script *s, uint32_t p)
{
    struct history_event event = {HISTORY_OFFSET_ASKED, .group = GROUP, .partition = p,
                                  .reader = 100};
    uint64_t offset;
    note(event);
    TRY(sluice_consumer_committed(s->consumer, s->world->topics[0], p, &offset, 5000));
    event.kind = HISTORY_OFFSET_FETCHED;
    event.offset = offset == SLUICE_OFFSET_UNKNOWN ? HISTORY_NO_OFFSET : offset;
    note(event);
    return SLUICE_OK;
}

static int judge_offsets(struct script *s)
{
    struct sluice_consumer_options options = {
        .size = sizeof(options), .group = "group", .manual_commit = true};
    TRY(sluice_consumer_new(s->client, &options, &s->consumer));
    TRY(sluice_consumer_subscribe(s->consumer, s->world->topics[0], SLUICE_PARTITION_ANY,
                                  SLUICE_START_END, 0));
    for (uint32_t p = 0; p < s->world->partitions_per_topic; p++)
        TRY(ask_committed(s, p));
    return SLUICE_OK;
}

static int commit_positions(struct script *s, const uint64_t *positions)
{
    (void)note_asked(positions, 0);
    TRY(sluice_consumer_commit(s->consumer, 5000));
    scenario_acked();
    for (uint32_t p = 0; p < s->world->partitions_per_topic; p++)
        if (positions[p] > 0)
            note((struct history_event){HISTORY_OFFSET_COMMITTED, .group = GROUP, .partition = p,
                                        .offset = positions[p]});
    return SLUICE_OK;
}

static void on_rebalance(void *context, enum sluice_rebalance what,
                         const struct sluice_partition *partitions, uint32_t count)
{
    struct script *s = context;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t p = partitions[i].partition;
        if (s->holds[p] == (what == SLUICE_ASSIGNED))
            fail("partition %u: told %s", p,
                 s->holds[p] ? "twice" : "that it goes, not that it came");
        s->holds[p] = what == SLUICE_ASSIGNED;
        s->next[p] = 0;
    }
}

static void take_message(struct script *s, const struct sluice_message *message,
                         uint64_t *positions)
{
    uint32_t p = message->partition;
    if (!s->holds[p] || message->offset < s->next[p])
        fail("partition %u: offset %" PRIu64 " came %s", p, message->offset,
             s->holds[p] ? "twice" : "from a partition that was not assigned");
    positions[p] = s->next[p] = message->offset + 1;
}

/* Nothing came for a while. */
static void check_read_to_end(struct script *s)
{
    for (uint32_t p = 0; p < s->world->partitions_per_topic; p++) {
        uint64_t position, end;
        int status = sluice_consumer_position(s->consumer, s->world->topics[0], p, &position, &end);
        if (status != SLUICE_OK || position < end)
            fail("partition %u is not read on", p);
    }
}

/* A poll that finds no memory is not the last one. */
static int poll_some(struct script *s, uint64_t *positions)
{
    struct sluice_message messages[MESSAGES_MAX];
    for (uint32_t polls = 0; polls < 40; polls++) {
        int got = sluice_consumer_poll(s->consumer, messages, 8, 250);
        if (got != SLUICE_E_NO_MEMORY || !scenario.strike.is_of_client)
            TRY(got);
        for (int i = 0; i < got; i++)
            take_message(s, &messages[i], positions);
        if (got > 0 && polls >= 2)
            return SLUICE_OK;
    }
    if (scenario.strike.is_of_client && !scenario.strike.is_sticky)
        check_read_to_end(s);
    return SLUICE_OK; // all was read before
}

static int take_part(struct script *s)
{
    struct sluice_consumer_options options = {.size = sizeof(options),
                                              .group = "group",
                                              .session_timeout_ms = 2000,
                                              .manual_commit = true,
                                              .on_rebalance = on_rebalance,
                                              .context = s};
    uint64_t positions[WORLD_PARTITIONS_MAX] = {0}, txn;
    TRY(sluice_consumer_new(s->client, &options, &s->consumer));
    TRY(sluice_consumer_join(s->consumer, s->world->topics, 1));
    TRY(poll_some(s, positions));
    TRY(commit_positions(s, positions));
    TRY(ask_committed(s, 0));
    TRY(poll_some(s, positions));
    TRY(txn_producer(s));
    TRY(begin_it(s, &txn));
    TRY(send_to(s, s->world->partitions_per_topic, 1, txn));
    (void)note_asked(positions, txn);
    TRY(sluice_txn_send_offsets(s->producer, s->consumer, 5000));
    return commit_it(s, txn);
}

/* ---- questions ---- */

static int administer(struct script *s)
{
    struct sluice_topic *topics;
    struct sluice_group *groups;
    struct sluice_group_description group;
    struct sluice_txn *txns;
    struct sluice_txn_description txn;
    struct sluice_broker_status status;
    uint32_t count;
    TRY(sluice_topic_list(s->client, NULL, 0, &topics, &count));
    sluice_topics_free(topics, count);
    TRY(sluice_group_list(s->client, &groups, &count));
    sluice_groups_free(groups, count);
    TRY(sluice_group_describe(s->client, "group", &group));
    sluice_group_description_free(&group);
    TRY(sluice_txn_list(s->client, &txns, &count));
    sluice_txns_free(txns, count);
    TRY(sluice_txn_describe(s->client, "worker", &txn));
    sluice_txn_description_free(&txn);
    TRY(sluice_status(s->client, &status));
    sluice_status_free(&status);
    return SLUICE_OK;
}
