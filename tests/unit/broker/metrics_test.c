/* broker/metrics.h: STATUS sums over cores and shards, /metrics shows each of them; whether publishing
 * is possible. The broker is made by hand: figures live in plain structs. */
#include "broker/metrics.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/broker.h"
#include "proto/messages.h"

#define CORES 2
#define SHARDS 3

static struct broker broker;
static struct core cores[CORES];
static struct config config;
static const char *reason;

static void make_broker(void)
{
    config_defaults(&config);
    broker.config = &config;
    broker.cores = cores;
    broker.core_count = CORES;
    broker.shard_count = SHARDS;
    broker.connections_max = 77;
    broker.is_ready = true;
    for (int i = 0; i < SHARDS; i++)
        broker.gauges[i].reason = "";
}
TestSuite(metrics, .init = make_broker);

/* ---- STATUS ---- */

static uint8_t reply[16384];
static struct msg_status_reply status;

static void ask_status(void)
{
    struct writer w = writer_make(reply + FRAME_HEADER_SIZE, sizeof(reply) - FRAME_HEADER_SIZE);
    metrics_write_status(&broker, &w);
    cr_assert_not(w.failed);
    size_t meta_bytes = (size_t)(w.at - (reply + FRAME_HEADER_SIZE));
    struct frame frame = {.op = OP_STATUS,
                          .flags = FRAME_REPLY,
                          .meta = reply + FRAME_HEADER_SIZE,
                          .meta_length = (uint32_t)meta_bytes};
    cr_assert(eq(u16, read_status_reply(&frame, &status), PE_NONE));
}

static uint64_t status_value(const char *wanted)
{
    struct msg_status_reply left = status;
    for (uint32_t i = 0; i < status.value_count; i++) {
        struct slice name;
        uint64_t value;
        read_status_value(&left, &name, &value);
        if (slice_equals(name, slice_of_text(wanted)))
            return value;
    }
    cr_fatal("STATUS has no %s", wanted);
}

Test(metrics, status_has_sums_over_cores_and_shards)
{
    for (uint64_t i = 0; i < CORES; i++) {
        counter_set(&cores[i].counters.publishes_total, 100 + i);
        cores[i].conn_count = 10;
    }
    for (uint64_t i = 0; i < SHARDS; i++) {
        counter_set(&broker.shards[i].counters.batches_appended_total, 1000 + i);
        counter_set(&broker.gauges[i].partitions, 7);
    }
    ask_status();
    cr_expect(eq(u64, status_value("publishes_total"), 201));
    cr_expect(eq(u64, status_value("connections"), 20));
    cr_expect(eq(u64, status_value("batches_appended_total"), 3003));
    cr_expect(eq(u64, status_value("partitions"), 21));
    cr_expect(eq(u64, status_value("cores"), CORES));
    cr_expect(eq(u64, status_value("shards"), SHARDS));
    cr_expect(eq(u64, status_value("connections_max"), 77));
    cr_expect(eq(u64, status_value("durability_relaxed"), 0));
    cr_expect(eq(u64, status_value("io_uring"), 0));
    cr_expect(eq(u64, status_value("wal_bytes_budget"), config.wal_bytes_budget));
}

Test(metrics, status_has_every_figure_of_the_tables_once)
{
    static const char *const names[] = {
#define CORE_COUNTER(name, help) #name,
#include "broker/core_counters.def"
#undef CORE_COUNTER
#define SHARD_COUNTER(name, help) #name,
#include "broker/shard_counters.def"
#undef SHARD_COUNTER
#define SHARD_GAUGE(name, type, source, help) #name,
#include "broker/shard_gauges.def"
#undef SHARD_GAUGE
    };
    ask_status();
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        struct msg_status_reply left = status;
        uint32_t found = 0;
        for (uint32_t n = 0; n < status.value_count; n++) {
            struct slice name;
            uint64_t value;
            read_status_value(&left, &name, &value);
            found += slice_equals(name, slice_of_text(names[i]));
        }
        cr_expect(eq(u32, found, 1), "%s", names[i]);
    }
}

Test(metrics, status_says_why_publishing_is_not_possible)
{
    ask_status();
    cr_assert(status.ready && status.can_produce && status.can_consume);
    cr_assert(eq(u32, status.reason.len, 0));
    broker.gauges[2].reason = "the disk is full";
    ask_status();
    cr_assert(status.ready && !status.can_produce && status.can_consume);
    cr_assert(slice_equals(status.reason, slice_of_text("the disk is full")));
}

/* ---- can it produce? ---- */

Test(metrics, publishing_is_possible_when_all_shards_can)
{
    cr_assert(metrics_can_produce(&broker, &reason));
    broker.gauges[1].reason = "recovering";
    broker.gauges[2].reason = "the disk is full";
    cr_assert_not(metrics_can_produce(&broker, &reason));
    cr_assert_str_eq(reason, "recovering"); // the first one's
}

Test(metrics, a_shard_that_has_published_nothing_yet_is_starting)
{
    broker.gauges[0].reason = NULL;
    cr_assert_not(metrics_can_produce(&broker, &reason));
    cr_assert_str_eq(reason, "starting");
}

Test(metrics, a_broker_is_starting_until_it_is_ready_and_then_it_drains)
{
    broker.is_ready = false;
    cr_assert_not(metrics_can_produce(&broker, &reason));
    cr_assert_str_eq(reason, "starting");
    broker.is_draining = true;
    cr_assert_not(metrics_can_produce(&broker, &reason));
    cr_assert_str_eq(reason, "draining");
}

/* ---- /metrics ---- */

static char *text;

static void ask_text(void)
{
    size_t length = 0;
    free(text);
    text = metrics_text(&broker, &length);
    cr_assert_not_null(text);
    cr_assert(eq(sz, length, strlen(text)));
}

static void has_line(const char *line)
{
    char whole[128];
    snprintf(whole, sizeof(whole), "\n%s\n", line);
    cr_expect_not_null(strstr(text, whole), "%s", line);
}

Test(metrics, each_core_and_each_shard_has_a_line_of_its_own)
{
    counter_set(&cores[0].counters.turns_total, 18446744073709551615u);
    counter_set(&cores[1].counters.turns_total, 2);
    counter_set(&broker.shards[0].counters.blocked_total, 3);
    counter_set(&broker.shards[2].counters.blocked_total, 4);
    counter_set(&broker.gauges[1].wal_durable_lsn, 5);
    counter_set(&cores[1].buffers_free[BUFFER_LARGE], 6);
    counter_set(&cores[1].requests_free, 8);
    cores[0].conn_count = 9;
    ask_text();
    has_line("sluice_turns_total{core=\"0\"} 18446744073709551615");
    has_line("sluice_turns_total{core=\"1\"} 2");
    has_line("sluice_blocked_total{shard=\"0\"} 3");
    has_line("sluice_blocked_total{shard=\"1\"} 0");
    has_line("sluice_blocked_total{shard=\"2\"} 4");
    has_line("sluice_wal_durable_lsn{shard=\"1\"} 5");
    has_line("sluice_buffers_free{core=\"1\",class=\"large\"} 6");
    has_line("sluice_requests_free{core=\"1\"} 8");
    has_line("sluice_connections{core=\"0\"} 9");
    cr_expect_null(strstr(text, "core=\"2\""));
    cr_expect_null(strstr(text, "shard=\"3\""));
    free(text);
}

Test(metrics, dangerous_settings_are_figures_to_alarm_on)
{
    ask_text();
    has_line("sluice_durability_relaxed 0");
    has_line("sluice_unauthenticated_allowed 0");
    has_line("sluice_development 0");
    has_line("sluice_ready 1");
    has_line("sluice_produce_possible 1");
    has_line("sluice_io_uring 0");
    has_line("sluice_wal_bytes_budget 4294967296");
    config.durability = DURABILITY_RELAXED;
    config.allow_unauthenticated = true;
    config.development = true;
    broker.is_ready = false;
    ask_text();
    has_line("sluice_durability_relaxed 1");
    has_line("sluice_unauthenticated_allowed 1");
    has_line("sluice_development 1");
    has_line("sluice_ready 0");
    has_line("sluice_produce_possible 0");
    free(text);
}

/* Prometheus refuses a page that names a figure twice. */
Test(metrics, no_figure_is_described_twice)
{
    ask_text();
    for (const char *at = text; (at = strstr(at, "# TYPE ")); at++) {
        char head[128];
        snprintf(head, sizeof(head), "%.*s ", (int)strcspn(at + 7, " "), at + 7);
        char again[140];
        snprintf(again, sizeof(again), "# TYPE %s", head);
        cr_expect_null(strstr(at + 1, again), "%s", again);
    }
    free(text);
}
