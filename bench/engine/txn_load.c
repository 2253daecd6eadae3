#include "bench/engine/txn_load.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "base/units.h"
#include "bench/engine/content.h"
#include "bench/engine/place.h"
#include "bench/engine/schedule.h"

#define END_MS 60000             // longest commit or abort
#define LOOK_NS (10 * NS_PER_MS) // while nothing is due: is it over?
#define BUFFER_BYTES (1 * MIB)

struct lane {
    /* ---- constant ---- */
    struct txn_load *load;
    uint32_t index;
    struct sluice_producer *producer;
    pthread_t thread;
    bool started;

    /* ---- its thread ---- */
    struct content content;
    struct schedule schedule; // with a rate
    uint64_t not_begun;       // due in the windows, but the lane never came to them
    struct histogram slip_ns;
    uint64_t number; // of the next record
    uint32_t partition;
    struct random random;
    int failed; // ended the lane
    const char *failed_at;
    counter commits, aborts, records;
    struct histogram *latency_ns; // [load->slot_count]
    uint8_t pad[CACHE_LINE];
};

struct txn_load {
    struct driver_session *session;
    const struct bench_options *options;
    uint32_t abort_percent;
    struct windows windows; // count 0: slots
    uint32_t slot_count;
    _Atomic bool stopping;
    _Atomic uint32_t slot;
    uint64_t run;
    uint32_t lane_count;
    struct lane lanes[];
};

static int lane_init(struct lane *lane, struct txn_load *load, uint32_t index);
static void lane_deinit(struct lane *lane);
static void *lane_main(void *context);
static void run_free(struct lane *lane);
static void run_open(struct lane *lane);
static int one_transaction(struct lane *lane, uint64_t due_ns);

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
    load->slot_count = (uint32_t)max_u64(TXN_SLOT_COUNT, options->repeat_count);
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
    snprintf(id, sizeof(id), "bench-%016llx-%u", (unsigned long long)load->run, index);
    struct sluice_producer_options po = {
        .size = sizeof(po),
        .batch_bytes = (uint32_t)min_u64(options->batch_bytes, TXN_BATCH_BYTES_MAX),
        .buffer_bytes = options->buffer_bytes ? options->buffer_bytes : BUFFER_BYTES,
        .send_waits = true,
        .transactional_id = id,
    };
    lane->latency_ns = calloc(load->slot_count, sizeof(struct histogram));
    int status =
        lane->latency_ns == NULL || content_init(&lane->content, options->record_bytes, false)
            ? SLUICE_E_NO_MEMORY
            : sluice_producer_new(sluice_of(session, index), &po, &lane->producer);
    if (status == SLUICE_OK)
        return 0;
    lane_deinit(lane);
    return sluice_complain("starting a producer", status);
}

static void lane_deinit(struct lane *lane)
{
    if (lane->producer)
        sluice_producer_free(lane->producer);
    content_deinit(&lane->content);
    free(lane->latency_ns);
}

int txn_load_start(struct txn_load *load, const struct windows *windows)
{
    const struct bench_options *options = load->options;
    uint64_t begin_ns = now_ns();
    if (windows)
        load->windows = *windows;
    for (uint32_t i = 0; i < load->lane_count; i++) {
        struct lane *lane = &load->lanes[i];
        if (options->rate > 0)
            schedule_init(&lane->schedule, begin_ns, (double)options->rate / load->lane_count,
                          (double)i / load->lane_count, options->is_poisson, load->run + i);
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

void txn_load_latency(struct txn_load *load, uint32_t slot, struct histogram *latency_ns)
{
    for (uint32_t i = 0; i < load->lane_count; i++)
        histogram_merge(latency_ns, &load->lanes[i].latency_ns[slot]);
}

void txn_load_slip(struct txn_load *load, struct histogram *slip_ns)
{
    for (uint32_t i = 0; i < load->lane_count; i++)
        histogram_merge(slip_ns, &load->lanes[i].slip_ns);
}

uint64_t txn_load_not_begun(const struct txn_load *load)
{
    uint64_t not_begun = 0;
    for (uint32_t i = 0; i < load->lane_count; i++)
        not_begun += load->lanes[i].not_begun;
    return not_begun;
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
    place_exact_timers();
    if (lane->load->options->rate > 0)
        run_open(lane);
    else
        run_free(lane);
    return NULL;
}

static void run_free(struct lane *lane)
{
    while (!atomic_load(&lane->load->stopping) && one_transaction(lane, 0) == 0)
        continue;
}

/* What was due in the windows is begun, even if a bit late; not for ever, when the rate is too high. */
static bool is_over(const struct lane *lane)
{
    const struct txn_load *load = lane->load;
    return lane->failed ||
           (atomic_load(&load->stopping) &&
            (load->windows.count == 0 || now_ns() >= windows_end_ns(&load->windows) + LATE_NS_MAX));
}

static void run_open(struct lane *lane)
{
    const struct windows *windows = &lane->load->windows;
    uint64_t end_ns = windows->count > 0 ? windows_end_ns(windows) : UINT64_MAX;
    while (!is_over(lane) && schedule_due(&lane->schedule) < end_ns) {
        uint64_t now = now_ns(), due_ns = schedule_due(&lane->schedule);
        if (due_ns > now) {
            sleep_until_ns(min_u64(due_ns, now + LOOK_NS));
            continue;
        }
        schedule_advance(&lane->schedule);
        if (windows->count > 0 && window_of(windows, due_ns) >= 0)
            histogram_add(&lane->slip_ns, now - due_ns);
        (void)one_transaction(lane, due_ns); // is_over() looks at it
    }
    if (windows->count > 0)
        lane->not_begun = schedule_due_before(&lane->schedule, end_ns) -
                          schedule_due_before(&lane->schedule, windows->begin_ns);
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

/* due_ns: 0: now. */
static int commit(struct lane *lane, uint64_t due_ns)
{
    struct txn_load *load = lane->load;
    bool has_windows = load->windows.count > 0;
    uint32_t slot = atomic_load(&load->slot);
    uint64_t begin_ns = now_ns();
    int status = sluice_txn_commit(lane->producer, END_MS);
    if (status)
        return failed(lane, "commit", status);
    uint64_t end_ns = now_ns(), from_ns = has_windows && due_ns > 0 ? due_ns : begin_ns;
    int window = has_windows ? window_of(&load->windows, from_ns) : -1;
    if (window >= 0)
        histogram_add(&lane->latency_ns[window], end_ns - from_ns);
    if (!has_windows && slot != TXN_SLOT_NONE && slot == atomic_load(&load->slot))
        histogram_add(&lane->latency_ns[slot], end_ns - from_ns);
    counter_add(&lane->commits, 1);
    counter_add(&lane->records, lane->load->options->records_each);
    return 0;
}

static int one_transaction(struct lane *lane, uint64_t due_ns)
{
    int status = sluice_txn_begin(lane->producer);
    if (status)
        return failed(lane, "begin", status);
    if (send_all(lane))
        return -1;
    if (random_below(&lane->random, 100) >= lane->load->abort_percent)
        return commit(lane, due_ns);
    status = sluice_producer_flush(lane->producer, END_MS); // so that there is something to abort
    if (status == SLUICE_OK)
        status = sluice_txn_abort(lane->producer, END_MS);
    counter_add(&lane->aborts, 1);
    return status ? failed(lane, "abort", status) : 0;
}
