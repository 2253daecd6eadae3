/* `sluice-bench claim idle-connections`: what a connection costs that has said HELLO and is silent.
 *
 * Counted are the broker's resident memory and the kernel's (slab and TCP buffers) before and with --idle connections. Client and server are on one
 * machine, so the kernel holds two sockets for each connection: half of it is the server's. Acks of a light load are measured before, with
 * and after. It holds when a connection costs at most 8 KiB on the server, all of 10,000 less than 80 MiB, and none was closed. */
#include <stdio.h>
#include <string.h>

#include "bench/claim/claim.h"
#include "bench/claim/private_broker.h"
#include "bench/claim/raw_connections.h"
#include "bench/engine/place.h"
#include "bench/engine/run.h"
#include "bench/report/costs.h"

#define BYTES_EACH_MAX (8 * KIB)
#define BYTES_OF_10000_MAX (80 * MIB)
#define SETTLE_NS NS_PER_S
#define RATE 2000

/* /proc/meminfo, KiB. */
static uint64_t meminfo_bytes(const char *name)
{
    char line[256];
    unsigned long kib = 0;
    FILE *file = fopen("/proc/meminfo", "re");
    while (file && kib == 0 && fgets(line, sizeof(line), file)) {
        if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':')
            (void)sscanf(line + strlen(name) + 1, "%lu", &kib);
    }
    if (file)
        fclose(file);
    return kib * KIB;
}

/* /proc/net/sockstat: "TCP: inuse 5 orphan 0 tw 0 alloc 7 mem 1", mem in pages. */
static uint64_t tcp_buffer_bytes(void)
{
    char line[256];
    unsigned long pages = 0;
    FILE *file = fopen("/proc/net/sockstat", "re");
    while (file && fgets(line, sizeof(line), file)) {
        const char *mem = strncmp(line, "TCP:", 4) == 0 ? strstr(line, " mem ") : NULL;
        if (mem)
            (void)sscanf(mem, " mem %lu", &pages);
    }
    if (file)
        fclose(file);
    return pages * 4096;
}

struct memory {
    uint64_t broker, kernel;
};

static int take_memory(struct private_broker *broker, struct memory *memory)
{
    sleep_until_ns(now_ns() + SETTLE_NS);
    memory->kernel = meminfo_bytes("Slab") + tcp_buffer_bytes();
    return private_broker_value(broker, "process_rss_bytes", &memory->broker);
}

struct acks { // of a light load
    double p99_us;
    struct costs costs;
};

static int measure_acks(const struct private_broker *broker, const struct bench_options *common,
                        struct report *report, struct acks *acks)
{
    static struct run_result result;
    struct driver_session session;
    struct bench_options options = *common;
    options.server = broker->process.address;
    options.repeat_count = 1;
    struct run_plan plan = {.rate = options.rate ? options.rate : RATE, .is_publishing = true};
    if (driver_session_open(&session, &options))
        return -1;
    int status = run_load(&session, &plan, report, &result);
    driver_session_close(&session);
    if (status)
        return status;
    claim_check_timed(report, &result);
    *acks = (struct acks){.p99_us = result.windows[0].ack.p99_us};
    costs_add_run(&acks->costs, &result);
    return 0;
}

static void judge(const struct bench_options *options, const struct memory memory[2],
                  const struct acks acks[3], uint32_t lost, struct report *report)
{
    double count = options->idle_count;
    double broker_each = ((double)memory[1].broker - (double)memory[0].broker) / count;
    double kernel_each = ((double)memory[1].kernel - (double)memory[0].kernel) / count;
    double server_each = broker_each + kernel_each / 2;
    claim_set(report,
              server_each <= (double)BYTES_EACH_MAX &&
                  server_each * 10000 < (double)BYTES_OF_10000_MAX && lost == 0,
              json_pack("{s:i, s:f, s:f, s:f, s:i, s:f, s:f, s:f, s:I, s:o, s:o}", "connections",
                        (int)options->idle_count, "server_bytes_each", server_each,
                        "broker_bytes_each", broker_each, "kernel_bytes_each_both_ends",
                        kernel_each, "lost", (int)lost, "ack_p99_before_us", acks[0].p99_us,
                        "ack_p99_with_us", acks[1].p99_us, "ack_p99_after_us", acks[2].p99_us,
                        "broker_rss_bytes", (json_int_t)memory[1].broker, "ratios_before",
                        costs_row_json(&acks[0].costs), "ratios_with",
                        costs_row_json(&acks[1].costs)));
}

static int measure(const struct bench_options *options, struct private_broker *broker,
                   struct report *report)
{
    struct raw_connections connections;
    struct memory memory[2];
    struct acks acks[3];
    if (measure_acks(broker, options, report, &acks[0]) || take_memory(broker, &memory[0]) ||
        raw_connections_open(&connections, broker->process.address, options->idle_count))
        return -1;
    int status = take_memory(broker, &memory[1]);
    if (status == 0)
        status = measure_acks(broker, options, report, &acks[1]);
    uint32_t lost = raw_connections_lost(&connections);
    raw_connections_close(&connections);
    if (status == 0)
        status = measure_acks(broker, options, report, &acks[2]);
    if (status == 0)
        judge(options, memory, acks, lost, report);
    return status;
}

static int run(struct bench_options *options, struct report *report)
{
    static const char *const settings[] = {"retention_bytes=64MiB", NULL};
    struct private_broker broker;
    int status = private_broker_open(&broker, options, settings);
    if (status == 0)
        status = measure(options, &broker, report);
    private_broker_deinit(&broker);
    return status;
}

const struct claim claim_idle_connections = {
    "idle-connections", "a silent connection costs the server at most 8 KiB", run};
