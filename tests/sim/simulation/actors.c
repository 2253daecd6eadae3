#include "tests/sim/simulation/actors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/errors.h"

#define MESSAGES_MAX 128
#define PATIENCE_S 240 // more than a partition lasts

static const char *const names[ACTOR_KINDS] = {"plain", "worker",  "reader", "member",
                                               "mover", "churner", "hoarder"};

static void plain(struct actor *actor);
static void worker(struct actor *actor);
static void reader(struct actor *actor);
static void member(struct actor *actor);
static void mover(struct actor *actor);
static void churner(struct actor *actor);
static void hoarder(struct actor *actor);

static void *run(void *argument)
{
    static void (*const programs[ACTOR_KINDS])(struct actor *) = {plain, worker,  reader, member,
                                                                  mover, churner, hoarder};
    struct actor *actor = argument;
    programs[actor->kind](actor);
    actor->has_ended = true;
    actor->process = NULL;
    process_exit(0);
}

void actor_start(struct actor *actor)
{
    char name[32];
    snprintf(name, sizeof(name), "%s-%u", names[actor->kind], actor->number);
    actor->process = process_new(name, NULL);
    actor->has_ended = false;
    actor->off_until_ns = 0;
    actor->process->may_have_ghosts = actor->kind == ACTOR_PLAIN || actor->kind == ACTOR_READER;
    (void)thread_new(actor->process, run, actor);
}

void actor_kill(struct actor *actor)
{
    if (actor->process)
        process_end(TAKE(actor->process), PROCESS_KILLED);
}

void actor_lose_power(struct actor *actor, uint64_t back_ns)
{
    actor->off_until_ns = actor->process->power_back_ns = back_ns;
    process_end(TAKE(actor->process), PROCESS_POWER);
}

const char *actor_name(enum actor_kind kind)
{
    return names[kind];
}

/* ---- what they have in common ---- */

static uint32_t below(uint64_t limit)
{
    return (uint32_t)world_below(limit);
}

static void pause_some(const struct stage *stage)
{
    thread_sleep(world_below(1 + stage->pause_ms_max * NS_PER_MS));
}

static uint32_t length_of(const struct stage *stage)
{
    return (uint32_t)VALUE_BYTES_MIN + below(1 + (below(8) ? 200 : stage->record_bytes_max));
}

static void note(struct stage *stage, struct history_event event)
{
    history_add(stage->world->history, event);
}

static bool is_over(const struct stage *stage)
{
    return atomic_load(&stage->world->stop);
}

/* Nobody knows, there is nobody to know, or: not now. */
static bool is_no_answer(int status)
{
    return sluice_is_retriable(status) || status == SLUICE_E_CLOSED || status == SLUICE_E_FULL;
}

/* A broker that can't read a batch says so, and stops the partition until the consumer seeks: once more from the same place. */
static void check_poll(const struct stage *stage, struct sluice_consumer *consumer, int got)
{
    if (got >= 0 || is_no_answer(got))
        return;
    const char *topic;
    uint32_t partition;
    uint64_t position, end;
    if (got == SLUICE_E_BROKER - PE_STORAGE_ERROR && stage->on_storage_error)
        stage->on_storage_error();
    if (got != SLUICE_E_BROKER - PE_STORAGE_ERROR || !stage->reads_may_fail)
        must(got, "poll");
    sluice_consumer_error(consumer, &topic, &partition);
    if (sluice_consumer_position(consumer, topic, partition, &position, &end) == SLUICE_OK)
        (void)sluice_consumer_seek(consumer, topic, partition, SLUICE_START_OFFSET, position);
}

/* ---- producers ---- */

struct plain {
    struct stage *stage;
    uint32_t number;
};

static void on_report(void *context, const struct sluice_report *report)
{
    struct plain *self = context;
    struct history_event event = {
        HISTORY_ACKED, .producer = self->number, .partition = report->partition,
        .sequence = (uint64_t)(uintptr_t)report->opaque, .offset = report->offset};
    if (report->status != SLUICE_OK) {
        if (!is_no_answer(report->status))
            fail("plain producer %u: a record was refused: %s", self->number,
                 sluice_name(report->status));
        return; // after a lost connection nobody can tell
    }
    if (report->offset == SLUICE_OFFSET_UNKNOWN)
        return;
    note(self->stage, event);
    self->stage->plain_acks++;
    atomic_fetch_add(&self->stage->world->acks, 1);
}

static void plain(struct actor *actor)
{
    struct stage *stage = actor->stage;
    struct world *world = stage->world;
    struct plain self = {stage, ACTOR_WORKERS_MAX + ACTOR_MOVERS_MAX +
                                    atomic_fetch_add(&world->producers, 1)};
    struct sluice_client *client = client_of(world);
    struct sluice_producer_options options = {.size = sizeof(options),
                                              .batch_bytes = 1024u << below(5),
                                              .buffer_bytes = 256u << 10,
                                              .compression = below(3) ? SLUICE_COMPRESSION_NONE
                                                                      : SLUICE_COMPRESSION_LZ4,
                                              .linger_us = below(2) * below(5000),
                                              .send_waits = true,
                                              .on_report = on_report,
                                              .context = &self};
    struct sluice_producer *producer;
    if (self.number >= WORLD_PRODUCERS_MAX)
        fail("too many lives of plain producers");
    must(sluice_producer_new(client, &options, &producer), "producer");
    while (!is_over(stage)) {
        uint64_t sequence;
        for (uint32_t i = below(20); i > 0; i--) {
            int status = send_one(world, producer, self.number, below(world->partitions_per_topic),
                                  0, length_of(stage), &sequence);
            if (status && !is_no_answer(status))
                must(status, "send");
        }
        if (below(10) == 0)
            (void)sluice_producer_flush(producer, 1000);
        pause_some(stage);
    }
    must(sluice_producer_flush(producer, PATIENCE_S * 1000), "flush");
    sluice_producer_free(producer);
    sluice_client_free(client);
}

struct sent { // in one transaction, by partition
    uint64_t firsts[WORLD_PARTITIONS_MAX];
    uint32_t counts[WORLD_PARTITIONS_MAX];
};

static bool send_staged(struct stage *stage, struct sluice_producer *producer, uint32_t number,
                        uint32_t partition, uint64_t txn, struct sent *sent)
{
    uint64_t sequence;
    if (send_one(stage->world, producer, number, partition, txn, length_of(stage), &sequence))
        return false;
    if (sent->counts[partition]++ == 0)
        sent->firsts[partition] = sequence;
    return true;
}

static bool commit_sent(struct stage *stage, struct sluice_producer *producer, uint32_t number,
                        uint64_t txn, const struct sent *sent)
{
    struct world *world = stage->world;
    if (!commit(world, producer, txn))
        return false;
    stage->commits++;
    for (uint32_t p = 0; p < world_partitions(world); p++) {
        if (sent->counts[p] > 0)
            note_offset(world, producer, number, p, sent->firsts[p], sent->counts[p]);
    }
    return true;
}

static struct sluice_producer *transactional(struct stage *stage, struct sluice_client *client,
                                             const char *kind, uint32_t number)
{
    char id[32];
    struct sluice_producer *producer;
    snprintf(id, sizeof(id), "%s-%u", kind, number);
    struct sluice_producer_options options = {.size = sizeof(options),
                                              .batch_bytes = 1024u << below(3),
                                              .buffer_bytes = 256u << 10,
                                              .send_waits = true,
                                              .transaction_timeout_ms =
                                                  1000 * below(2) * (1 + below(3)),
                                              .transactional_id = id};
    must(sluice_producer_new(client, &options, &producer), "producer");
    end_waiting(stage->world, producer, number, below(2));
    return producer;
}

static void one_transaction(struct stage *stage, struct sluice_producer *producer, uint32_t number)
{
    struct world *world = stage->world;
    struct sent sent = {0};
    int status = sluice_txn_begin(producer);
    if (status != SLUICE_OK) {
        if (!is_no_answer(status))
            must(status, "begin");
        stage->begins_lost++;
        return;
    }
    uint64_t txn = atomic_fetch_add(&world->txns, 1) + 1;
    uint32_t spread = 1 + below(world_partitions(world));
    bool whole = true, prepared = false;
    for (uint32_t i = 1 + below(8); i > 0 && whole; i--)
        whole = send_staged(stage, producer, number, below(spread), txn, &sent);
    if (below(10) == 0)
        thread_sleep(world_below(2 * NS_PER_S)); // some stay open
    if (whole && below(10) == 0) {
        prepared = prepare(world, producer, number, txn);
        if (!prepared)
            return;
        stage->prepares++;
        pause_some(stage);
    }
    if (whole && below(100) >= stage->abort_percent) {
        (void)commit_sent(stage, producer, number, txn, &sent);
    } else {
        abort_txn(world, producer, txn);
        stage->aborts++;
    }
    if (prepared)
        atomic_store(&world->open_txn[number], 0);
}

static void worker(struct actor *actor)
{
    struct stage *stage = actor->stage;
    struct sluice_client *client = client_of(stage->world);
    struct sluice_producer *producer = transactional(stage, client, "worker", actor->number);
    while (!is_over(stage)) {
        one_transaction(stage, producer, actor->number);
        pause_some(stage);
    }
    sluice_producer_free(producer);
    sluice_client_free(client);
}

/* ---- readers ---- */

static void read_some(struct stage *stage, struct sluice_consumer *consumer, uint32_t number)
{
    struct sluice_message messages[MESSAGES_MAX];
    int got = sluice_consumer_poll(consumer, messages, 1 + (int)below(MESSAGES_MAX), 100);
    check_poll(stage, consumer, got);
    note_messages(stage->world, number, messages, got);
}

static void reader(struct actor *actor)
{
    struct stage *stage = actor->stage;
    struct world *world = stage->world;
    uint64_t ends[WORLD_PARTITIONS_MAX] = {0};
    struct sluice_client *client = client_of(world);
    struct sluice_consumer_options options = {.size = sizeof(options)};
    struct sluice_consumer *consumer;
    must(sluice_consumer_new(client, &options, &consumer), "consumer");
    begin_reading(world, consumer, actor->number);
    while (!atomic_load(&world->drain)) {
        read_some(stage, consumer, actor->number);
        if (below(5) == 0)
            ask_ends(world, client, actor->number, NULL);
    }
    ask_ends(world, client, actor->number, ends);
    double began_s = now_s(); // whoever is stuck says done all the same: the checker sees it
    while (!has_read_to(world, actor->number, ends) && now_s() - began_s < PATIENCE_S)
        read_some(stage, consumer, actor->number);
    note_done(world, actor->number);
    sluice_consumer_free(consumer);
    sluice_client_free(client);
}

/* ---- members of groups ---- */

struct position {
    uint64_t next; // behind what was returned
    bool is_new;   // since the last commit
};

static void group_name(uint32_t group, char name[16])
{
    snprintf(name, 16, "group-%u", group);
}

/* Whoever has a partition begins at or below what others have processed: a gap was skipped. */
static void process(struct stage *stage, uint32_t group, const struct sluice_message *message,
                    struct position *positions)
{
    uint32_t p = number_of(stage->world, message->topic, message->partition);
    uint64_t *processed = &stage->processed[group][p];
    if (message->offset > *processed)
        fail("group %u, partition %u: offset %" PRIu64 " comes, but %" PRIu64
             " was never processed",
             group, p, message->offset, *processed);
    *processed = max_u64(*processed, message->offset + 1);
    positions[p] = (struct position){message->offset + 1, true};
}

static void commit_positions(struct stage *stage, struct sluice_consumer *consumer, uint32_t group,
                             struct position *positions)
{
    struct world *world = stage->world;
    struct sluice_partition_offset offsets[WORLD_PARTITIONS_MAX];
    uint32_t numbers[WORLD_PARTITIONS_MAX], count = 0;
    for (uint32_t p = 0; p < world_partitions(world); p++) {
        if (!positions[p].is_new)
            continue;
        positions[p].is_new = false;
        numbers[count] = p;
        offsets[count++] =
            (struct sluice_partition_offset){world->topics[p / world->partitions_per_topic],
                                             p % world->partitions_per_topic, positions[p].next};
        note(stage, (struct history_event){HISTORY_OFFSET_COMMIT_ASKED, .group = group,
                                           .partition = p, .offset = positions[p].next});
    }
    if (count == 0 || sluice_consumer_commit_offsets(consumer, offsets, count, 5000) != SLUICE_OK)
        return; // others may have them by now
    stage->group_commits++;
    for (uint32_t i = 0; i < count; i++)
        note(stage, (struct history_event){HISTORY_OFFSET_COMMITTED, .group = group,
                                           .partition = numbers[i], .offset = offsets[i].offset});
}

/* Somebody commits what is long past: the answer is what stands, and nothing goes back. */
static void commit_past(struct stage *stage, struct sluice_consumer *consumer, uint32_t group,
                        const struct position *positions)
{
    struct world *world = stage->world;
    uint32_t p = below(world_partitions(world));
    if (positions[p].next == 0)
        return;
    struct sluice_partition_offset past = {world->topics[p / world->partitions_per_topic],
                                           p % world->partitions_per_topic,
                                           world_below(positions[p].next)};
    note(stage, (struct history_event){HISTORY_OFFSET_COMMIT_ASKED, .group = group, .partition = p,
                                       .offset = past.offset});
    (void)sluice_consumer_commit_offsets(consumer, &past, 1, 5000);
}

static void ask_committed(struct stage *stage, struct sluice_consumer *consumer, uint32_t group,
                          uint32_t asker)
{
    struct world *world = stage->world;
    uint32_t p = below(world_partitions(world));
    struct history_event event = {HISTORY_OFFSET_ASKED, .group = group, .partition = p,
                                  .reader = asker};
    note(stage, event);
    uint64_t offset;
    int status = sluice_consumer_committed(consumer, world->topics[p / world->partitions_per_topic],
                                           p % world->partitions_per_topic, &offset, 5000);
    if (status != SLUICE_OK)
        return;
    event.kind = HISTORY_OFFSET_FETCHED;
    event.offset = offset == SLUICE_OFFSET_UNKNOWN ? HISTORY_NO_OFFSET : offset;
    note(stage, event);
}

static struct sluice_consumer *join(struct stage *stage, struct sluice_client *client,
                                    uint32_t group, uint32_t topic_count, const char *instance)
{
    char name[16];
    struct sluice_consumer *consumer;
    group_name(group, name);
    struct sluice_consumer_options options = {.size = sizeof(options),
                                              .group = name,
                                              .instance_id = instance,
                                              .session_timeout_ms = 2000,
                                              .assignor = group ? SLUICE_ASSIGNOR_STICKY
                                                                : SLUICE_ASSIGNOR_RANGE,
                                              .manual_commit = true};
    must(sluice_consumer_new(client, &options, &consumer), "consumer");
    int status;
    do {
        status = sluice_consumer_join(consumer, stage->world->topics, topic_count);
    } while (status != SLUICE_OK && is_no_answer(status));
    must(status, "join");
    return consumer;
}

/* All that there is has been processed by somebody. */
static bool has_all(const struct stage *stage, uint32_t group, uint32_t topic_count,
                    const uint64_t *ends)
{
    for (uint32_t p = 0; p < topic_count * stage->world->partitions_per_topic; p++)
        if (stage->processed[group][p] < ends[p])
            return false;
    return true;
}

static void member(struct actor *actor)
{
    struct stage *stage = actor->stage;
    struct world *world = stage->world;
    uint32_t group = actor->number % STAGE_MOVER_GROUP;
    char instance[32];
    snprintf(instance, sizeof(instance), "member-%u", actor->number);
    struct sluice_client *client = client_of(world);
    struct sluice_consumer *consumer =
        join(stage, client, group, world->topic_count, actor->number % 3 == 0 ? instance : NULL);
    struct position positions[WORLD_PARTITIONS_MAX] = {0};
    uint64_t ends[WORLD_PARTITIONS_MAX] = {0};
    uint32_t asker = 100 + actor->number; // readers have lower numbers
    bool asked_ends = false;
    while (!asked_ends || !has_all(stage, group, world->topic_count, ends)) {
        struct sluice_message messages[MESSAGES_MAX];
        int got = sluice_consumer_poll(consumer, messages, 1 + (int)below(MESSAGES_MAX), 50);
        check_poll(stage, consumer, got);
        for (int i = 0; i < got; i++)
            process(stage, group, &messages[i], positions);
        if (below(3) == 0)
            commit_positions(stage, consumer, group, positions);
        if (below(20) == 0)
            commit_past(stage, consumer, group, positions);
        if (below(10) == 0)
            ask_committed(stage, consumer, group, asker);
        if (!asked_ends && atomic_load(&world->drain)) {
            ask_ends(world, client, asker, ends);
            asked_ends = true;
        }
    }
    commit_positions(stage, consumer, group, positions);
    sluice_consumer_free(consumer);
    sluice_client_free(client);
}

/* ---- consume, produce, and both or neither ---- */

struct move { // of one partition, in one transaction
    uint64_t first, next;
};

static void forget_moves(struct stage *stage, struct sluice_consumer *consumer)
{
    while (sluice_consumer_rewind(consumer, 5000) != SLUICE_OK && !is_over(stage))
        pause_some(stage);
}

static uint32_t note_moves(struct stage *stage, const struct move *moves)
{
    uint32_t first = stage->move_count;
    for (uint32_t p = 0; p < stage->world->partitions_per_topic; p++) {
        if (moves[p].next == 0)
            continue;
        if (stage->move_count == STAGE_MOVES_MAX)
            fail("too many moves");
        stage->moves[stage->move_count++] =
            (struct stage_move){p, moves[p].first, moves[p].next, MOVE_UNKNOWN};
    }
    return first;
}

static int compare_moves(const void *a, const void *b)
{
    const struct stage_move *x = a, *y = b;
    if (x->partition != y->partition)
        return x->partition < y->partition ? -1 : 1;
    return x->first < y->first ? -1 : x->first > y->first;
}

/* A gap may be filled by transactions of which nobody knows the outcome, and by nothing else. */
static uint64_t fill_gap(const struct stage *stage, uint32_t partition, uint64_t from, uint64_t to)
{
    for (uint32_t i = 0; i < stage->move_count && from < to; i++) {
        const struct stage_move *move = &stage->moves[i];
        if (move->outcome == MOVE_UNKNOWN && move->partition == partition && move->first == from)
            from = move->next;
    }
    return from;
}

void stage_check_moves(struct stage *stage)
{
    uint64_t next[WORLD_PARTITIONS_MAX] = {0};
    qsort(stage->moves, stage->move_count, sizeof(*stage->moves), compare_moves);
    for (uint32_t i = 0; i < stage->move_count; i++) {
        const struct stage_move *move = &stage->moves[i];
        uint64_t *at = &next[move->partition];
        if (move->outcome != MOVE_COMMITTED)
            continue;
        *at = fill_gap(stage, move->partition, *at, move->first);
        if (move->first != *at)
            fail("movers, partition %u: %" PRIu64 "..%" PRIu64 " were moved, behind %" PRIu64,
                 move->partition, move->first, move->next, *at);
        *at = move->next;
    }
}

static void move_some(struct stage *stage, struct sluice_producer *producer,
                      struct sluice_consumer *consumer, uint32_t number,
                      const struct sluice_message *messages, int got)
{
    struct world *world = stage->world;
    uint32_t target = (world->topic_count - 1) * world->partitions_per_topic;
    struct move moves[WORLD_PARTITIONS_MAX] = {0};
    struct sent sent = {0};
    if (sluice_txn_begin(producer) != SLUICE_OK) {
        stage->begins_lost++;
        forget_moves(stage, consumer);
        return;
    }
    uint64_t txn = atomic_fetch_add(&world->txns, 1) + 1;
    bool whole = true;
    for (int i = 0; i < got && whole; i++) {
        uint32_t p = messages[i].partition; // of the first topic
        if (moves[p].next == 0)
            moves[p].first = messages[i].offset;
        moves[p].next = messages[i].offset + 1;
        whole = send_staged(stage, producer, number, target + p, txn, &sent);
    }
    for (uint32_t p = 0; p < world->partitions_per_topic && whole; p++) {
        if (moves[p].next == 0)
            continue;
        note(stage, (struct history_event){HISTORY_OFFSET_COMMIT_ASKED, .group = STAGE_MOVER_GROUP,
                                           .partition = p, .offset = moves[p].next, .txn = txn});
    }
    whole = whole && sluice_txn_send_offsets(producer, consumer, 5000) == SLUICE_OK;
    if (!whole || below(100) < stage->abort_percent) {
        abort_txn(world, producer, txn);
        forget_moves(stage, consumer);
        return;
    }
    uint32_t first = note_moves(stage, moves), end = stage->move_count;
    bool committed = commit_sent(stage, producer, number, txn, &sent);
    for (uint32_t i = first; i < end; i++)
        stage->moves[i].outcome = committed ? MOVE_COMMITTED : MOVE_ABORTED;
    if (!committed)
        forget_moves(stage, consumer);
}

static void mover(struct actor *actor)
{
    struct stage *stage = actor->stage;
    uint32_t number = ACTOR_WORKERS_MAX + actor->number;
    struct sluice_client *client = client_of(stage->world);
    struct sluice_producer *producer = transactional(stage, client, "mover", number);
    struct sluice_consumer *consumer = join(stage, client, STAGE_MOVER_GROUP, 1, NULL);
    while (!is_over(stage)) {
        struct sluice_message messages[MESSAGES_MAX];
        int got = sluice_consumer_poll(consumer, messages, 1 + (int)below(20), 100);
        check_poll(stage, consumer, got);
        if (got > 0)
            move_some(stage, producer, consumer, number, messages, got);
        pause_some(stage);
    }
    sluice_consumer_free(consumer);
    sluice_producer_free(producer);
    sluice_client_free(client);
}

/* ---- topics that come and go ---- */

static void allow(int status, const char *what)
{
    if (status != SLUICE_OK && status != SLUICE_E_UNKNOWN_TOPIC &&
        status != SLUICE_E_TOPIC_EXISTS && !is_no_answer(status))
        must(status, what);
}

static void churner(struct actor *actor)
{
    struct stage *stage = actor->stage;
    struct sluice_client *client = client_of(stage->world);
    struct sluice_producer_options options = {
        .size = sizeof(options), .buffer_bytes = 1u << 20, .delivery_timeout_ms = 3000};
    while (!is_over(stage)) {
        char topic[32];
        struct sluice_producer *producer;
        snprintf(topic, sizeof(topic), "churn-%u-%u", actor->number, below(4));
        allow(sluice_topic_create(client, topic, 1 + below(4), NULL, 0), "topic create");
        must(sluice_producer_new(client, &options, &producer), "producer");
        for (uint32_t i = 0; i < 10; i++) {
            struct sluice_record record = {
                .topic = topic, .partition = 0, .value = "x", .value_len = 1};
            allow(sluice_producer_send(producer, &record), "send to a topic that may go");
        }
        (void)sluice_producer_flush(producer, 1000);
        sluice_producer_free(producer);
        if (below(3))
            allow(sluice_topic_delete(client, topic), "topic delete");
        stage->topics_made++;
        pause_some(stage);
    }
    sluice_client_free(client);
}

/* ---- more than the log holds ---- */

static void on_hoarded(void *context, const struct sluice_report *report)
{
    struct hoard *hoard = context;
    if (report->status == SLUICE_OK && report->offset != SLUICE_OFFSET_UNKNOWN)
        hoard_acked(hoard, (uint32_t)(uintptr_t)report->opaque, report->offset);
}

static void hoard_some(struct hoard *hoard, struct sluice_producer *producer, const char *topic)
{
    static uint8_t value[HOARD_RECORD_BYTES_MAX];
    for (uint32_t i = below(8); i > 0; i--) {
        uint32_t number;
        const struct hoard_record *next = hoard_send(hoard, 1 + below(HOARD_RECORD_BYTES_MAX),
                                                     (uint8_t)(1 + below(255)), &number);
        if (!next)
            return;
        memset(value, next->byte, next->bytes);
        struct sluice_record record = {.topic = topic,
                                       .value = value,
                                       .value_len = next->bytes,
                                       .opaque = (void *)(uintptr_t)number};
        allow(sluice_producer_send(producer, &record), "send");
    }
}

/* Whoever is overtaken by retention begins again. */
static int read_hoard(struct hoard *hoard, struct sluice_consumer *consumer, const char *topic,
                      bool *is_subscribed)
{
    struct sluice_message messages[8];
    if (!*is_subscribed) {
        hoard_read_begin(hoard);
        *is_subscribed =
            sluice_consumer_subscribe(consumer, topic, 0, SLUICE_START_BEGINNING, 0) == SLUICE_OK;
    }
    int got = sluice_consumer_poll(consumer, messages, 8, 10);
    for (int i = 0; i < got; i++)
        hoard_read(hoard, messages[i].offset, messages[i].value, messages[i].value_len);
    if (got == SLUICE_E_OFFSET_OUT_OF_RANGE)
        *is_subscribed = false;
    return got;
}

/* With a consumer of its own: nothing of an earlier reading comes. */
static void judge_hoard(struct stage *stage, struct hoard *hoard, struct sluice_client *client,
                        const char *topic)
{
    struct sluice_consumer_options options = {.size = sizeof(options)};
    struct sluice_consumer *consumer;
    bool is_subscribed = false, is_judged = false;
    must(sluice_consumer_new(client, &options, &consumer), "consumer");
    hoard_read_begin(hoard);
    while (!is_judged) {
        uint64_t begin, end;
        if (sluice_offset(client, topic, 0, SLUICE_START_BEGINNING, 0, &begin) != SLUICE_OK ||
            sluice_offset(client, topic, 0, SLUICE_START_END, 0, &end) != SLUICE_OK) {
            pause_some(stage);
            continue;
        }
        int got = begin < end ? read_hoard(hoard, consumer, topic, &is_subscribed) : 0;
        if (got != SLUICE_E_OFFSET_OUT_OF_RANGE)
            check_poll(stage, consumer, got);
        if (begin == end)
            hoard_read_begin(hoard);
        is_judged = begin == end || (hoard->first != UINT64_MAX && hoard->next >= end);
        if (is_judged)
            hoard_judge(hoard, end);
    }
    sluice_consumer_free(consumer);
}

static void hoarder(struct actor *actor)
{
    struct stage *stage = actor->stage;
    struct hoard *hoard = &stage->hoards[actor->number];
    char topic[32], limit[32];
    struct sluice_client *client = client_of(stage->world);
    struct sluice_setting setting = {hoard->retention_ms ? "retention_ms" : "retention_bytes",
                                     limit};
    struct sluice_producer_options options = {.size = sizeof(options),
                                              .buffer_bytes = 1u << 20,
                                              .on_report = on_hoarded,
                                              .context = hoard};
    struct sluice_consumer_options consumer_options = {.size = sizeof(consumer_options)};
    struct sluice_producer *producer;
    struct sluice_consumer *consumer;
    snprintf(topic, sizeof(topic), "hoard-%u", actor->number);
    snprintf(limit, sizeof(limit), "%" PRIu64, hoard->retention_ms + hoard->retention_bytes);
    allow(sluice_topic_create(client, topic, 1, &setting, 1), "topic create");
    must(sluice_producer_new(client, &options, &producer), "producer");
    must(sluice_consumer_new(client, &consumer_options, &consumer), "consumer");
    bool is_subscribed = false;
    while (!is_over(stage)) {
        hoard_some(hoard, producer, topic);
        (void)read_hoard(hoard, consumer, topic, &is_subscribed);
        pause_some(stage);
    }
    sluice_consumer_free(consumer);
    (void)sluice_producer_flush(producer, 10000);
    sluice_producer_free(producer);
    if (sluice_topic_create(client, topic, 1, &setting, 1) == SLUICE_E_TOPIC_EXISTS)
        judge_hoard(stage, hoard, client, topic);
    sluice_client_free(client);
}
