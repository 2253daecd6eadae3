/* `sluice-bench claim disk-full`: a disk without room stops publishers, loses nothing, and holds up no reader.
 *
 * A broker on a file system of 3 GiB, of which 1 GiB is ballast, keeps everything. Publishers send at the top rate until nothing is
 * acked any more; then a consumer reads all of it; then the ballast goes, and acks come again. It holds when the consumer got exactly what was
 * acked until then, acks came again within 10 s, and in the end as many records are stored as were acked. */
#include <stdio.h>

#include "bench/claim/claim.h"
#include "bench/claim/private_broker.h"
#include "bench/claim/small_disk.h"
#include "bench/engine/place.h"
#include "bench/engine/run.h"

#define DISK_BYTES (3 * GIB)
#define BALLAST_BYTES (1 * GIB)
#define STILL_NS (3 * NS_PER_S) // nothing acked for so long: it is full
#define FILL_NS_MAX (300 * NS_PER_S)
#define AGAIN_MS_MAX 10000
#define LOOK_NS (10 * NS_PER_MS)

struct filling {
    struct driver_session *session;
    struct report *report;
    struct publishers *publishers;
    uint64_t acked_when_full, read_when_full;
    double fill_s, read_s, again_ms;
};

static uint64_t acked(const struct filling *filling)
{
    return publishers_totals(filling->publishers).acked;
}

static int until_full(struct filling *filling)
{
    uint64_t begin = now_ns(), moved = begin, seen = 0;
    while (now_ns() - moved < STILL_NS) {
        uint64_t now_acked = acked(filling);
        moved = now_acked != seen ? now_ns() : moved;
        seen = now_acked;
        if (now_ns() - begin > FILL_NS_MAX) {
            fprintf(stderr, "sluice-bench: the disk did not fill in %d s\n",
                    (int)(FILL_NS_MAX / NS_PER_S));
            return -1;
        }
        sleep_until_ns(now_ns() + LOOK_NS);
    }
    filling->acked_when_full = seen;
    filling->fill_s = (double)(moved - begin) / (double)NS_PER_S;
    return seen > 0 ? 0 : -1;
}

static int read_all(struct filling *filling)
{
    static struct run_result result;
    if (run_catch_up(filling->session, 1, filling->report, &result))
        return -1;
    filling->read_when_full = result.windows[0].received;
    filling->read_s = result.windows[0].seconds;
    return 0;
}

static void until_again(struct filling *filling)
{
    uint64_t begin = now_ns(), before = acked(filling);
    while (acked(filling) == before && now_ns() - begin < FILL_NS_MAX)
        sleep_until_ns(now_ns() + LOOK_NS);
    filling->again_ms = (double)(now_ns() - begin) / (double)NS_PER_MS;
}

static void judge(const struct filling *filling, uint64_t all_acked, uint64_t stored)
{
    bool holds = filling->read_when_full == filling->acked_when_full &&
                 filling->again_ms <= AGAIN_MS_MAX && stored == all_acked;
    claim_set(filling->report, holds,
              json_pack("{s:I, s:f, s:I, s:f, s:f, s:I, s:I}", "acked_when_full",
                        (json_int_t)filling->acked_when_full, "fill_s", filling->fill_s,
                        "read_when_full", (json_int_t)filling->read_when_full, "read_s",
                        filling->read_s, "acked_again_after_ms", filling->again_ms, "acked",
                        (json_int_t)all_acked, "stored", (json_int_t)stored));
}

static int measure(struct driver_session *session, struct small_disk *disk, struct report *report)
{
    struct windows windows = {.begin_ns = now_ns(), .length_ns = NS_PER_S, .count = 1};
    struct filling filling = {
        .session = session, .report = report, .publishers = publishers_new(session, 0)};
    uint64_t stored = 0;
    if (filling.publishers == NULL)
        return -1;
    int status = publishers_start(filling.publishers, &windows);
    if (status == 0)
        status = until_full(&filling);
    if (status == 0)
        status = read_all(&filling);
    small_disk_free_ballast(disk);
    if (status == 0)
        until_again(&filling);
    publishers_stop(filling.publishers);
    publishers_check(filling.publishers, report);
    uint64_t all_acked = acked(&filling);
    publishers_free(filling.publishers);
    if (status == 0 && session->driver->count(session, &stored))
        status = driver_complain(session, "counting the topic's records");
    if (status == 0)
        judge(&filling, all_acked, stored);
    return status;
}

static int run(struct bench_options *options, struct report *report)
{
    static const char *const settings[] = {"retention_bytes=none", "wal_bytes_budget=512MiB", NULL};
    struct private_broker broker = {.place = ""};
    struct driver_session session;
    struct small_disk disk;
    struct bench_options mine = *options;
    if (small_disk_open(&disk, options->data_dir ? options->data_dir : ".", DISK_BYTES,
                        BALLAST_BYTES))
        return -1;
    mine.data_dir = disk.mounted;
    mine.repeat_count = 1;
    mine.duration_ns = 0; // of the reading: to the end
    int status = private_broker_init(&broker, &mine, settings);
    if (status == 0)
        status = private_broker_start(&broker);
    mine.server = broker.process.address;
    if (status == 0)
        status = driver_session_open(&session, &mine);
    if (status == 0) {
        status = measure(&session, &disk, report);
        driver_session_close(&session);
    }
    private_broker_deinit(&broker);
    small_disk_close(&disk);
    return status;
}

const struct claim claim_disk_full = {
    "disk-full", "a full disk stops publishers, loses nothing, holds up no reader", run};
