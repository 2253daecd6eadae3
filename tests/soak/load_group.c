/* Those who read in groups: "all" commits what it has processed, "move" makes records of records, and somebody watches the
 * committed offsets. */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "tests/soak/load.h"

#define POLL_RECORDS 256
#define MOVE_RECORDS 24
#define SESSION_MS 6000
#define RETRY_US 50000

static struct sluice_consumer *member_of(struct load *load, struct sluice_client *client,
                                         const char *group, const char *const *topics,
                                         uint32_t count)
{
    struct sluice_consumer_options options = {.size = sizeof(options),
                                              .group = group,
                                              .session_timeout_ms = SESSION_MS,
                                              .manual_commit = true,
                                              .start = SLUICE_START_BEGINNING};
    struct sluice_consumer *consumer;
    must(sluice_consumer_new(client, &options, &consumer), "consumer");
    int status = sluice_consumer_join(consumer, topics, count);
    if (!is_passing(status)) // else the library goes on trying
        must(status, "join");
    return consumer;
}

static int poll_some(struct sluice_consumer *consumer, struct sluice_message *messages, int max)
{
    int got = sluice_consumer_poll(consumer, messages, max, 100);
    if (got < 0 && !is_passing(got))
        must(got, "poll of a group");
    return got < 0 ? 0 : got;
}

static void check_offset(const struct sluice_message *message)
{
    if (message->offset >= OFFSETS_MAX)
        fail("more records than the test has room for");
}

static bool has_lost_partitions(int status)
{
    return status == SLUICE_E_UNKNOWN_MEMBER || status == SLUICE_E_STALE_GENERATION ||
           status == SLUICE_E_NOT_OWNER;
}

/* ---- "all": at least once ---- */

/* The positions behind what was polled, one of each partition. */
static uint32_t positions_of(const struct sluice_message *messages, int count,
                             struct sluice_partition_offset *positions)
{
    uint32_t used = 0;
    for (int i = 0; i < count; i++) {
        uint32_t at = 0;
        while (at < used && (positions[at].partition != messages[i].partition ||
                             strcmp(positions[at].topic, messages[i].topic) != 0))
            at++;
        used += at == used;
        positions[at] = (struct sluice_partition_offset){messages[i].topic, messages[i].partition,
                                                         messages[i].offset + 1};
    }
    return used;
}

static void note_commits(struct load *load, enum history_kind kind, uint32_t group, uint64_t txn,
                         const struct sluice_partition_offset *positions, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        history_add(load->world->history,
                    (struct history_event){kind, .group = group,
                                           .partition = number_of(load->world, positions[i].topic,
                                                                  positions[i].partition),
                                           .offset = positions[i].offset, .txn = txn});
}

static void process(struct load *load, struct sluice_consumer *consumer,
                    const struct sluice_message *messages, int count)
{
    struct sluice_partition_offset positions[PARTITIONS];
    for (int i = 0; i < count; i++) {
        uint32_t partition = number_of(load->world, messages[i].topic, messages[i].partition);
        check_offset(&messages[i]);
        if (atomic_load(&load->all_seen[partition][messages[i].offset]) < UINT8_MAX)
            atomic_fetch_add(&load->all_seen[partition][messages[i].offset], 1);
    }
    atomic_fetch_add(&load->processed, (uint64_t)count);
    uint32_t used = positions_of(messages, count, positions);
    note_commits(load, HISTORY_OFFSET_COMMIT_ASKED, GROUP_ALL, 0, positions, used);
    int status = sluice_consumer_commit_offsets(consumer, positions, used, 5000);
    if (status == SLUICE_OK) {
        note_commits(load, HISTORY_OFFSET_COMMITTED, GROUP_ALL, 0, positions, used);
        atomic_fetch_add(&load->group_commits, 1);
    } else if (!has_lost_partitions(status) && !is_passing(status)) {
        must(status, "commit of a group");
    }
}

void consume_all(struct world *world, uint32_t number)
{
    static struct sluice_message messages[POLL_RECORDS];
    struct load *load = load_of(world);
    struct sluice_client *client = client_of(world);
    struct sluice_consumer *consumer =
        member_of(load, client, load->group_all, &load->topic_names[TOPIC_B], 2);
    while (!atomic_load(&load->groups_stop)) {
        int got = poll_some(consumer, messages, POLL_RECORDS);
        if (got > 0)
            process(load, consumer, messages, got);
    }
    sluice_consumer_free(consumer);
    sluice_client_free(client);
}

/* ---- "move": exactly once ---- */

struct moving {
    struct load *load;
    uint32_t number;
    struct sluice_producer *producer;
    struct sluice_consumer *consumer;
};

/* What sluice_txn_send_offsets() will send: the position in each partition that it reads now. */
static uint32_t all_positions(const struct moving *m, struct sluice_partition_offset *positions)
{
    uint32_t used = 0;
    for (uint32_t p = 0; p < PARTITIONS_PER_TOPIC; p++) {
        struct sluice_partition_offset *at = &positions[used];
        *at = (struct sluice_partition_offset){m->load->topics[TOPIC_B], p, 0};
        used += sluice_consumer_position(m->consumer, at->topic, p, &at->offset, NULL) == SLUICE_OK;
    }
    return used;
}

/* From b to d, into the partition of the same number. False: the transaction is ruined. */
static bool copy(struct moving *m, uint64_t txn, const struct sluice_message *messages, int count)
{
    struct world *world = m->load->world;
    struct sluice_partition_offset positions[PARTITIONS];
    for (int i = 0; i < count; i++) {
        uint64_t sequence;
        uint32_t partition = TOPIC_D * PARTITIONS_PER_TOPIC + messages[i].partition;
        check_offset(&messages[i]);
        if (send_one(world, m->producer, m->number, partition, txn, VALUE_BYTES_MIN, &sequence))
            return false;
    }
    uint32_t used = all_positions(m, positions);
    note_commits(m->load, HISTORY_OFFSET_COMMIT_ASKED, GROUP_MOVE, txn, positions, used);
    int status;
    double deadline = now_s() + 60;
    do {
        status = sluice_txn_send_offsets(m->producer, m->consumer, 5000);
    } while (status != SLUICE_OK && is_passing(status) && now_s() < deadline);
    return status == SLUICE_OK;
}

/* Positions go back to what is committed. */
static void rewind_all(struct moving *m)
{
    int status;
    double deadline = now_s() + 60;
    do {
        status = sluice_consumer_rewind(m->consumer, 5000);
    } while (status != SLUICE_OK && is_passing(status) && now_s() < deadline);
    must(status, "rewind");
}

static void note_moved(struct load *load, const struct sluice_message *messages, int count)
{
    for (int i = 0; i < count; i++)
        atomic_fetch_add(&load->moved_once[FIRST_READ + messages[i].partition][messages[i].offset],
                         1);
    atomic_fetch_add(&load->moved, (uint64_t)count);
    atomic_fetch_add(&load->group_commits, 1);
}

static void move_some(struct moving *m, const struct sluice_message *messages, int count)
{
    struct world *world = m->load->world;
    int status;
    double deadline = now_s() + 60;
    do {
        status = sluice_txn_begin(m->producer);
    } while (status != SLUICE_OK && is_passing(status) && now_s() < deadline);
    must(status, "begin of a mover");
    uint64_t txn = atomic_fetch_add(&world->txns, 1) + 1;
    if (!copy(m, txn, messages, count)) {
        abort_txn(world, m->producer, txn);
        rewind_all(m);
        usleep(RETRY_US); // it may be no member for a moment: after a restart nobody is
    } else if (commit(world, m->producer, txn)) {
        note_moved(m->load, messages, count);
    } else {
        rewind_all(m);
    }
}

void move_records(struct world *world, uint32_t number)
{
    static struct sluice_message messages[MOVE_RECORDS];
    struct moving m = {.load = load_of(world), .number = FIRST_MOVER + number};
    struct sluice_client *client = client_of(world);
    char id[32];
    snprintf(id, sizeof(id), "soak-mover-%u", number);
    struct sluice_producer_options options = {.size = sizeof(options),
                                              .buffer_bytes = 1u << 20,
                                              .send_waits = true,
                                              .transactional_id = id};
    must(sluice_producer_new(client, &options, &m.producer), "producer");
    end_waiting(world, m.producer, m.number, true);
    m.consumer = member_of(m.load, client, m.load->group_move, &m.load->topic_names[TOPIC_B], 1);
    while (!atomic_load(&m.load->groups_stop)) {
        int got = poll_some(m.consumer, messages, MOVE_RECORDS);
        if (got > 0)
            move_some(&m, messages, got);
    }
    sluice_consumer_free(m.consumer);
    sluice_producer_free(m.producer);
    sluice_client_free(client);
}

/* ---- whoever watches ---- */

static bool fetch_offset(struct load *load, struct sluice_consumer *consumer, uint32_t group,
                         uint32_t partition)
{
    struct history_event event = {HISTORY_OFFSET_ASKED, .group = group, .partition = partition,
                                  .reader = OBSERVER};
    history_add(load->world->history, event);
    int status = sluice_consumer_committed(consumer, load->topics[partition / PARTITIONS_PER_TOPIC],
                                           partition % PARTITIONS_PER_TOPIC, &event.offset, 2000);
    if (status == SLUICE_E_UNKNOWN_GROUP)
        return true; // nobody has joined yet
    if (status != SLUICE_OK) {
        if (!is_passing(status))
            must(status, "asking for a group's offset");
        return false;
    }
    event.kind = HISTORY_OFFSET_FETCHED;
    if (event.offset == SLUICE_OFFSET_UNKNOWN)
        event.offset = HISTORY_NO_OFFSET;
    history_add(load->world->history, event);
    return true;
}

static bool fetch_all(struct load *load, struct sluice_consumer **consumers)
{
    bool all = true;
    for (uint32_t p = FIRST_READ; p < END_READ; p++)
        all &= fetch_offset(load, consumers[GROUP_ALL], GROUP_ALL, p);
    for (uint32_t p = FIRST_READ; p < END_MOVED; p++)
        all &= fetch_offset(load, consumers[GROUP_MOVE], GROUP_MOVE, p);
    return all;
}

/* It only asks, but the library wants to know the partitions first: they are subscribed to, and paused. */
static struct sluice_consumer *observer_of(struct load *load, struct sluice_client *client,
                                           const char *group)
{
    struct sluice_consumer *consumer;
    struct sluice_consumer_options options = {
        .size = sizeof(options), .group = group, .manual_commit = true};
    must(sluice_consumer_new(client, &options, &consumer), "observer");
    for (uint32_t i = TOPIC_B; i < TOPIC_D; i++) {
        int status;
        double deadline = now_s() + 60;
        do {
            status = sluice_consumer_subscribe(consumer, load->topics[i], SLUICE_PARTITION_ANY,
                                               SLUICE_START_END, 0);
        } while (status != SLUICE_OK && is_passing(status) && now_s() < deadline);
        must(status, "subscribe of an observer");
        must(sluice_consumer_pause(consumer, load->topics[i], SLUICE_PARTITION_ANY), "pause");
    }
    return consumer;
}

void observe_offsets(struct world *world, uint32_t number)
{
    struct load *load = load_of(world);
    struct sluice_client *client = client_of(world);
    struct sluice_consumer *consumers[2] = {observer_of(load, client, load->group_all),
                                            observer_of(load, client, load->group_move)};
    while (!atomic_load(&world->drain)) {
        (void)fetch_all(load, consumers);
        usleep(50000);
    }
    double deadline = now_s() + 30; // and once more, when nothing changes any more
    while (!fetch_all(load, consumers)) {
        if (now_s() > deadline)
            fail("the groups' offsets can't be had for 30 s");
    }
    for (int i = 0; i < 2; i++)
        sluice_consumer_free(consumers[i]);
    sluice_client_free(client);
}
