#include "tests/soak/load.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EVENTS_MAX (UINT64_C(1) << 26)

static struct load *current; // of this process and the children that it forks

struct load *load_of(struct world *world)
{
    if (!current || current->world != world)
        fail("no load here");
    return current;
}

struct load *load_new(uint64_t seed, uint32_t episode, bool is_light)
{
    struct load *load = world_share(sizeof(*load));
    load->seed = seed;
    load->is_light = is_light;
    for (uint32_t i = 0; i < TOPICS; i++) {
        snprintf(load->topics[i], sizeof(load->topics[i]), "soak-%u-%c", episode, 'a' + (char)i);
        load->topic_names[i] = load->topics[i];
    }
    snprintf(load->group_all, sizeof(load->group_all), "all-%u", episode);
    snprintf(load->group_move, sizeof(load->group_move), "move-%u", episode);
    snprintf(load->churn, sizeof(load->churn), "churn-%u", episode);
    load->world = world_new(load->topic_names, TOPICS, PARTITIONS_PER_TOPIC, EVENTS_MAX);
    atomic_store(&load->world->producers, FIRST_PRODUCER);
    current = load;
    return load;
}

void load_free(struct load *load)
{
    history_free(load->world->history);
    munmap(load->world, sizeof(*load->world));
    munmap(load, sizeof(*load));
    current = NULL;
}

bool is_passing(int status)
{
    return status == SLUICE_E_TIMED_OUT || status == SLUICE_E_CONNECT ||
           status == SLUICE_E_CLOSED || sluice_is_retriable(status);
}

void load_make_topics(struct load *load)
{
    struct sluice_client *client = client_of(load->world);
    for (uint32_t i = 0; i < TOPICS; i++)
        must(sluice_topic_create(client, load->topics[i], PARTITIONS_PER_TOPIC, NULL, 0), "topic");
    sluice_client_free(client);
}

void load_children(struct load *load, struct child *children)
{
    static const struct {
        uint32_t count;
        void (*run)(struct world *world, uint32_t number);
    } kinds[] = {
        {PRODUCERS, produce_keys}, {TRANSACTORS, make_transactions}, {1, churn_topics},
        {MOVERS, move_records},    {MEMBERS, consume_all},           {READERS, read_all},
        {1, observe_offsets},
    };
    uint32_t at = 0;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        for (uint32_t n = 0; n < kinds[i].count; n++)
            children[at++] = (struct child){.number = n, .run = kinds[i].run};
    }
}

/* ---- groups ---- */

static void ask_ends_of(struct load *load, uint64_t *ends)
{
    struct sluice_client *client = client_of(load->world);
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        int status;
        double deadline = now_s() + 60;
        do {
            status = sluice_offset(client, load->topics[p / PARTITIONS_PER_TOPIC],
                                   p % PARTITIONS_PER_TOPIC, SLUICE_START_END, 0, &ends[p]);
        } while (is_passing(status) && now_s() < deadline);
        must(status, "asking for an end");
        if (ends[p] >= OFFSETS_MAX)
            fail("more records than the test has room for");
    }
    sluice_client_free(client);
}

static uint64_t count_zero(const _Atomic uint8_t *seen, uint64_t end)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < end; i++)
        count += atomic_load_explicit(&seen[i], memory_order_relaxed) == 0;
    return count;
}

/* Records that the groups have not processed, at these ends. */
static void count_missing(const struct load *load, const uint64_t *ends, uint64_t *all,
                          uint64_t *move)
{
    *all = *move = 0;
    for (uint32_t p = FIRST_READ; p < END_READ; p++)
        *all += count_zero(load->all_seen[p], ends[p]);
    for (uint32_t p = FIRST_READ; p < END_MOVED; p++)
        *move += count_zero(load->moved_once[p], ends[p]);
}

bool load_wait_groups(struct load *load, double seconds)
{
    uint64_t ends[PARTITIONS], all, move;
    double deadline = now_s() + seconds;
    ask_ends_of(load, ends);
    for (count_missing(load, ends, &all, &move); all || move;
         count_missing(load, ends, &all, &move)) {
        if (now_s() > deadline) {
            printf("after %.0f s group \"all\" has not processed %" PRIu64
                   " records, \"move\" %" PRIu64 "\n",
                   seconds, all, move);
            return false;
        }
        usleep(20000);
    }
    return true;
}

bool load_judge_groups(const struct load *load)
{
    uint64_t again = 0;
    for (uint32_t p = FIRST_READ; p < END_MOVED; p++) {
        uint8_t times;
        for (uint64_t i = 0;
             i < OFFSETS_MAX &&
             (times = atomic_load_explicit(&load->moved_once[p][i], memory_order_relaxed));
             i++)
            again += times > 1; // dense: load_wait_groups() has looked
    }
    if (again)
        printf("group \"move\" has processed %" PRIu64 " records more than once\n", again);
    return again == 0;
}
