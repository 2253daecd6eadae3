/* What must outlive the next episode, too: reads topics from their beginning, keeps a hash of each record, and compares. */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "tests/soak/load.h"

#define POLL_RECORDS 1024
#define SILENCE_S 15
/* The least that retention_bytes can be, less a quarter: keys and heads of batches count there, here only values do. */
#define RETAINED_BYTES ((UINT64_C(1) << 20) / 4 * 3)

struct reading_back {
    struct sluice_client *client;
    char topics[TOPICS][32];
    uint64_t starts[PARTITIONS], ends[PARTITIONS], at[PARTITIONS];
    uint64_t bytes[PARTITIONS]; // of values
    struct kept *compare;       // NULL: nothing to compare with
    struct kept *keep;
};

static int topic_number(const struct reading_back *back, const char *topic)
{
    for (int i = 0; i < (int)TOPICS; i++) {
        if (strcmp(back->topics[i], topic) == 0)
            return i;
    }
    fail("a record of topic %s", topic);
}

static void ask_range(struct reading_back *back, uint32_t p, enum sluice_start start,
                      uint64_t *offset)
{
    int status;
    double deadline = now_s() + 30;
    do {
        status = sluice_offset(back->client, back->topics[p / PARTITIONS_PER_TOPIC],
                               p % PARTITIONS_PER_TOPIC, start, 0, offset);
    } while (status != SLUICE_OK && is_passing(status) && now_s() < deadline);
    must(status, "asking for the range of a partition");
}

static void check_message(struct reading_back *back, const struct sluice_message *m)
{
    uint32_t p = (uint32_t)topic_number(back, m->topic) * PARTITIONS_PER_TOPIC + m->partition;
    uint64_t hash = hash_xxh3_seeded(m->value, m->value_len, m->offset);
    if (m->offset != back->at[p])
        fail("LOST: %s/%u: offset %" PRIu64 " comes where %" PRIu64 " is next, read again",
             m->topic, m->partition, m->offset, back->at[p]);
    if (m->offset >= OFFSETS_MAX)
        fail("more records than the test has room for");
    if (back->compare && m->offset < back->compare->partitions[p].end &&
        hash != back->compare->partitions[p].hashes[m->offset])
        fail("INCONSISTENT: %s/%u offset %" PRIu64 " is not what it was an episode ago", m->topic,
             m->partition, m->offset);
    if (back->keep)
        back->keep->partitions[p].hashes[m->offset] = hash;
    back->at[p]++;
    back->bytes[p] += m->value_len;
}

static bool is_complete(const struct reading_back *back)
{
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        if (back->at[p] < back->ends[p])
            return false;
    }
    return true;
}

static uint64_t read_back(struct reading_back *back)
{
    static struct sluice_message messages[POLL_RECORDS];
    struct sluice_consumer_options options = {.size = sizeof(options)};
    struct sluice_consumer *consumer;
    uint64_t count = 0;
    must(sluice_consumer_new(back->client, &options, &consumer), "consumer");
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        ask_range(back, p, SLUICE_START_BEGINNING, &back->starts[p]);
        ask_range(back, p, SLUICE_START_END, &back->ends[p]);
        back->at[p] = back->starts[p];
        must(sluice_consumer_subscribe(consumer, back->topics[p / PARTITIONS_PER_TOPIC],
                                       p % PARTITIONS_PER_TOPIC, SLUICE_START_OFFSET,
                                       back->starts[p]),
             "subscribe to what was written");
    }
    double last = now_s();
    while (!is_complete(back)) {
        int got = sluice_consumer_poll(consumer, messages, POLL_RECORDS, 500);
        must(got < 0 ? got : 0, "reading back");
        for (int i = 0; i < got; i++)
            check_message(back, &messages[i]);
        count += (uint64_t)got;
        if (got > 0)
            last = now_s();
        else if (now_s() - last > SILENCE_S)
            fail("STUCK: nothing comes for %d s when reading again", SILENCE_S);
    }
    sluice_consumer_free(consumer);
    return count;
}

/* Nothing is gone but what retention may take, and that only of topic a. */
static void check_ranges(const struct reading_back *back)
{
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        bool may_shrink = back->compare && p / PARTITIONS_PER_TOPIC == TOPIC_A;
        if (back->starts[p] > 0 && !may_shrink)
            fail("LOST: %s/%u begins at %" PRIu64, back->topics[p / PARTITIONS_PER_TOPIC],
                 p % PARTITIONS_PER_TOPIC, back->starts[p]);
        if (back->starts[p] > 0 && back->bytes[p] < RETAINED_BYTES)
            fail("LOST: %s/%u keeps %" PRIu64 " bytes, less than its retention",
                 back->topics[p / PARTITIONS_PER_TOPIC], p % PARTITIONS_PER_TOPIC, back->bytes[p]);
        if (back->compare && back->ends[p] != back->compare->partitions[p].end)
            fail("%s: %s/%u ends at %" PRIu64 ", an episode ago at %" PRIu64,
                 back->ends[p] < back->compare->partitions[p].end ? "LOST" : "FOREIGN",
                 back->topics[p / PARTITIONS_PER_TOPIC], p % PARTITIONS_PER_TOPIC, back->ends[p],
                 back->compare->partitions[p].end);
    }
}

static void delete_last(struct sluice_client *client, const struct kept *last)
{
    for (uint32_t i = 0; i < TOPICS; i++) {
        int status;
        double deadline = now_s() + 30;
        do {
            status = sluice_topic_delete(client, last->topics[i]);
        } while (status != SLUICE_OK && is_passing(status) && now_s() < deadline);
        if (status != SLUICE_E_UNKNOWN_TOPIC)
            must(status, "deleting what was checked");
    }
}

void audit(struct load *load, struct kept *last, struct kept *now)
{
    static struct reading_back back;
    back.client = client_of(load->world);
    if (last->is_there) {
        memcpy(back.topics, last->topics, sizeof(back.topics));
        back.compare = last;
        atomic_fetch_add(&load->audited, read_back(&back));
        check_ranges(&back);
        delete_last(back.client, last);
    }
    back = (struct reading_back){.client = back.client, .keep = now};
    memcpy(back.topics, load->topics, sizeof(back.topics));
    memcpy(now->topics, load->topics, sizeof(now->topics));
    atomic_fetch_add(&load->audited, read_back(&back));
    check_ranges(&back);
    for (uint32_t p = 0; p < PARTITIONS; p++)
        now->partitions[p].end = back.ends[p];
    now->is_there = true;
    sluice_client_free(back.client);
}

void shrink_last(struct load *load, const struct kept *last)
{
    struct sluice_client *client = client_of(load->world);
    struct sluice_setting setting = {"retention_bytes", "1MiB"};
    must(sluice_topic_alter(client, last->topics[TOPIC_A], 0, &setting, 1), "changing a retention");
    sluice_client_free(client);
}
