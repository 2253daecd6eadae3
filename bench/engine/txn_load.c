#include "bench/engine/txn_load.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "base/units.h"
#include "bench/engine/content.h"
#include "bench/engine/place.h"

#define END_MS 60000 // longest commit or abort
#define BUFFER_BYTES (1 * MIB)
#define BATCH_BYTES_MAX (256 * KIB)

struct lane {
    /* ---- constant ---- */
    struct txn_load *load;
    uint32_t index;
    uint64_t interval_ns; // between two transactions; 0: one behind the other
    struct sluice_producer *producer;
    pthread_t thread;
    bool started;

    /* ---- its thread ---- */
    struct content content;
    uint64_t number; // of the next record
    uint32_t partition;
    struct random random;
    int failed; // ended the lane
    const char *failed_at;
    counter commits, aborts, records;
    struct histogram latency_ns[TXN_SLOT_COUNT];
    uint8_t pad[CACHE_LINE];
};

struct txn_load {
    struct driver_session *session;
    const struct bench_options *options;
    uint32_t abort_percent;
    uint64_t begin_ns;
    _Atomic bool stopping;
    _Atomic uint32_t slot;
    uint64_t run;
    uint32_t lane_count;
    struct lane lanes[];
};

static int lane_init(struct lane *lane, struct txn_load *load, uint32_t index);
static void lane_deinit(struct lane *lane);
static void *lane_main(void *context);
static int one_transaction(struct lane *lane);

/* ---- set-up ---- */

struct txn_load *txn_load_new(struct driver_session *session, uint32_t abort_percent)
{
    const struct bench_options *options = session->options;
    struct txn_load *load =
        calloc(1, sizeof(*load) + options->producer_count * sizeof(struct lane));
    if (load == NULL) {
        fprintf(stderr, "sluice-bench: out of memory\n");
        return NULL;
    }
    load->session = session;
    load->options = options;
    load->abort_percent = abort_percent;
    load->run = random_seed_system();
    while (load->lane_count < options->producer_count) {
        if (lane_init(&load->lanes[load->lane_count], load, load->lane_count)) {
            txn_load_free(load);
            return NULL;
        }
        load->lane_count++;
    }
    return load;
}

void txn_load_free(struct txn_load *load)
{
    for (uint32_t i = 0; i < load->lane_count; i++)
        lane_deinit(&load->lanes[i]);
    free(load);
}

static int lane_init(struct lane *lane, struct txn_load *load, uint32_t index)
{
    struct driver_session *session = load->session;
    const struct bench_options *options = load->options;
    char id[64];
    *lane =
        (struct lane){.load = load, .index = index, .partition = index % session->partition_count};
    random_init(&lane->random, load->run + index);
    if (options->rate > 0)
        lane->interval_ns = NS_PER_S * options->producer_count / options->rate;
    snprintf(id, sizeof(id), "bench-%016llx-%u", (unsigned long long)load->run, index);
    struct sluice_producer_options po = {
        .size = sizeof(po),
        .batch_bytes = (uint32_t)min_u64(options->batch_bytes, BATCH_BYTES_MAX),
        .buffer_bytes = options->buffer_bytes ? options->buffer_bytes : BUFFER_BYTES,
        .send_waits = true,
        .transactional_id = id,
    };
    int status = content_init(&lane->content, options->record_bytes, false)
                     ? SLUICE_E_NO_MEMORY
                     : sluice_producer_new(sluice_of(session, index), &po, &lane->producer);
    if (status == SLUICE_OK)
        return 0;
    content_deinit(&lane->content);
    return sluice_complain("starting a producer", status);
}

static void lane_deinit(struct lane *lane)
{
    if (lane->producer)
        sluice_producer_free(lane->producer);
    content_deinit(&lane->content);
}

int txn_load_start(struct txn_load *load)
{
    load->begin_ns = now_ns();
    for (uint32_t i = 0; i < load->lane_count; i++) {
        struct lane *lane = &load->lanes[i];
        int error = pthread_create(&lane->thread, NULL, lane_main, lane);
        if (error) {
            fprintf(stderr, "sluice-bench: pthread_create: %s\n", strerror(error));
            txn_load_stop(load);
            return -1;
        }
        lane->started = true;
    }
    return 0;
}

void txn_load_slot(struct txn_load *load, enum txn_slot slot)
{
    atomic_store(&load->slot, slot);
}

void txn_load_stop(struct txn_load *load)
{
    atomic_store(&load->stopping, true);
    for (uint32_t i = 0; i < load->lane_count; i++) {
        if (load->lanes[i].started)
            pthread_join(load->lanes[i].thread, NULL);
        load->lanes[i].started = false;
    }
}

/* ---- results ---- */

struct txn_totals txn_load_totals(struct txn_load *load)
{
    struct txn_totals totals = {0};
    for (uint32_t i = 0; i < load->lane_count; i++) {
        totals.commits += counter_get(&load->lanes[i].commits);
        totals.aborts += counter_get(&load->lanes[i].aborts);
        totals.records += counter_get(&load->lanes[i].records);
    }
    return totals;
}

void txn_load_latency(struct txn_load *load, enum txn_slot slot, struct histogram *latency_ns)
{
    for (uint32_t i = 0; i < load->lane_count; i++)
        histogram_merge(latency_ns, &load->lanes[i].latency_ns[slot]);
}

void txn_load_check(struct txn_load *load, struct report *report)
{
    for (uint32_t i = 0; i < load->lane_count; i++) {
        const struct lane *lane = &load->lanes[i];
        if (lane->failed)
            anomaly(report, "producer %u stopped: %s: %s (%s)", i, lane->failed_at,
                    sluice_text(lane->failed), sluice_name(lane->failed));
    }
}

/* ---- a lane's thread ---- */

static void *lane_main(void *context)
{
    struct lane *lane = context;
    struct txn_load *load = lane->load;
    place_exact_timers();
    /* The lanes' turns are spread over the interval. */
    uint64_t due_ns = load->begin_ns + lane->interval_ns * lane->index / load->lane_count;
    while (!atomic_load(&load->stopping) && one_transaction(lane) == 0) {
        due_ns += lane->interval_ns;
        if (lane->interval_ns > 0)
            sleep_until_ns(due_ns);
    }
    return NULL;
}

static int failed(struct lane *lane, const char *at, int status)
{
    lane->failed = status;
    lane->failed_at = at;
    return -1;
}

static int send_all(struct lane *lane)
{
    const struct bench_options *options = lane->load->options;
    uint64_t time_ns = now_ns();
    for (uint32_t i = 0; i < options->records_each; i++) {
        struct sluice_record record = {.topic = options->topic,
                                       .partition = lane->partition,
                                       .value_len = options->record_bytes};
        uint8_t *value = content_slot(&lane->content, lane->number++);
        if (options->record_bytes >= TXN_STAMP_BYTES)
            memcpy(value, &time_ns, TXN_STAMP_BYTES);
        record.value = value;
        lane->partition = (lane->partition + 1) % lane->load->session->partition_count;
        int status = sluice_producer_send(lane->producer, &record);
        if (status)
            return failed(lane, "send", status);
    }
    return 0;
}

static int commit(struct lane *lane)
{
    uint32_t slot = atomic_load(&lane->load->slot);
    uint64_t begin_ns = now_ns();
    int status = sluice_txn_commit(lane->producer, END_MS);
    if (status)
        return failed(lane, "commit", status);
    uint64_t took_ns = now_ns() - begin_ns;
    if (slot != TXN_SLOT_NONE && slot == atomic_load(&lane->load->slot))
        histogram_add(&lane->latency_ns[slot], took_ns);
    counter_add(&lane->commits, 1);
    counter_add(&lane->records, lane->load->options->records_each);
    return 0;
}

static int one_transaction(struct lane *lane)
{
    int status = sluice_txn_begin(lane->producer);
    if (status)
        return failed(lane, "begin", status);
    if (send_all(lane))
        return -1;
    if (random_below(&lane->random, 100) >= lane->load->abort_percent)
        return commit(lane);
    status = sluice_producer_flush(lane->producer, END_MS); // so that there is something to abort
    if (status == SLUICE_OK)
        status = sluice_txn_abort(lane->producer, END_MS);
    counter_add(&lane->aborts, 1);
    return status ? failed(lane, "abort", status) : 0;
}
