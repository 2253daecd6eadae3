/* Parsing of the command line.
 *
 * The happy path is: defaults of the command, then each option through its row of the table, then
 * what must hold between options. It fails with one line on standard error that names the option,
 * what was given, and what is allowed. */
#include "bench/options.h"

#include <getopt.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "bench/driver/driver.h"
#include "bench/engine/content.h"

#define LOADS                                                                                      \
    (BENCH_PUBLISH | BENCH_END_TO_END | BENCH_SWEEP) // by the engine of bench/engine/publishers.h
#define ALL (BENCH_LIMITS | LOADS | BENCH_CONSUME | BENCH_TRANSACTIONS | BENCH_CLAIM)

#define RATE_MAX 1000000000u              // one each nanosecond, of the clock that times them
#define RATE_DEFAULT 10000u               // leaves room on each of the brokers that drivers know
#define TXN_RATE_DEFAULT 1000u            // and one thread keeps that
#define HOLD_NS_MAX (840 * NS_PER_S)      // a transaction may be open for 900 s
#define DURATION_MIN_NS (10 * NS_PER_MS)  // a tenth of it is a row of the series
#define OTHER_BUFFER_BYTES_MIN (64 * KIB) // of the other drivers
#define BUFFER_BYTES_MAX (64 * GIB)       // of libsluice
#define THREADS_DEFAULT_MAX 64u
#define CLAIM_PRODUCERS 2u // of most claims

enum kind { TEXT, COUNT, SIZE, SECONDS, FLAG, RATE, COMPRESSION, FROM, ARRIVALS, IO, CPUS, DRIVER };

struct option_row {
    const char *name;
    enum kind kind;
    unsigned commands;
    size_t offset; // of the member that it fills
    uint64_t min, max;
    const char *argument; // NULL: none
    const char *help;
};

#define AT(member) offsetof(struct bench_options, member)

static const struct option_row rows[] = {
    {"server", TEXT, ALL, AT(server), 0, 0, "A:P",
     "the broker; default $SLUICE_SERVER, else 127.0.0.1:7650; of other drivers\n"
     "                       their own"},
    {"driver", DRIVER, ALL, AT(driver), 0, 0, "D", "what is measured; default sluice"},
    {"topic", TEXT, ALL, AT(topic), 0, 0, "T", "default bench; made if missing"},
    {"partitions", COUNT, ALL, AT(partition_count), 1, 16384, "N",
     "of the topic when it is made; default 1"},
    {"retention", SIZE, LOADS | BENCH_TRANSACTIONS, AT(retention_bytes), KIB, 1024 * GIB, "B",
     "of each partition, when the topic is made (sluice); default the server's"},
    {"record-size", SIZE, ALL, AT(record_bytes), 1, 4 * MIB, "B",
     "bytes of a value; default 1KiB (transactions,\n"
     "                       claim open-transaction: 100)"},
    {"batch-size", SIZE, ALL, AT(batch_bytes), KIB, 4 * MIB, "B", "default 256KiB"},
    {"producers", COUNT, ALL, AT(producer_count), 1, 10000, "N",
     "default 1 (claim: 2, open-transaction: 8)"},
    {"threads", COUNT, LOADS, AT(thread_count), 1, 1024, "N",
     "that the producers share; default one each, at most 64"},
    {"rate", RATE, ALL, AT(rate), 1, RATE_MAX, "R|max",
     "open loop: records per second of all producers together, each due at its\n"
     "                       time, and latency counts from that; default 10000. Of transactions\n"
     "                       and open-transaction: transactions, default 1000. max: as many as\n"
     "                       go, the default with --closed-loop and --send-many"},
    {"arrivals", ARRIVALS, LOADS | BENCH_TRANSACTIONS, AT(is_poisson), 0, 0, "uniform|poisson",
     "of records or transactions at a --rate; default uniform"},
    {"closed-loop", COUNT, LOADS, AT(closed_loop), 1, 100000, "N",
     "each producer has at most N records without an ack; latency from the send"},
    {"lone", FLAG, BENCH_PUBLISH, AT(lone), 0, 0, NULL,
     "synchronous: send one record, wait for its ack, repeat: --closed-loop 1"},
    {"sustained", FLAG, BENCH_PUBLISH, AT(is_sustained), 0, 0, NULL,
     "what is kept outgrows the log: waiting for its files is a part of what is\n"
     "                       measured, and no anomaly"},
    {"duration", SECONDS, ALL, AT(duration_ns), DURATION_MIN_NS, 86400 * NS_PER_S, "S",
     "seconds measured, 0.01 or more; default 10 (limits: 2 for each limit; consume: to the end)"},
    {"repeat", COUNT, LOADS | BENCH_TRANSACTIONS | BENCH_CLAIM, AT(repeat_count), 1, 32, "N",
     "so many times, one behind the other: median, least and greatest; default 1,\n"
     "                       of a claim 3"},
    {"warm-up", SECONDS, ALL, AT(warm_up_ns), 0, 3600 * NS_PER_S, "S",
     "seconds before that; default 2 (limits: 0.3; consume: 0)"},
    {"consumers", COUNT, BENCH_CONSUME | BENCH_END_TO_END, AT(consumer_count), 1, 256, "N",
     "each reads everything; default 1"},
    {"p99", SECONDS, BENCH_SWEEP, AT(p99_ns), 1, 3600 * NS_PER_S, "S",
     "find the highest rate whose p99 is at most this, e.g. 0.005 or 5ms"},
    {"steps", COUNT, BENCH_SWEEP, AT(step_count), 2, 64, "N",
     "rates that are tried, in equal steps to the top rate; default 8"},
    {"limits-dir", TEXT, ALL, AT(limits_dir), 0, 0, "DIR",
     "measure the bare limits of the machine in DIR, which must be on the broker's\n"
     "                       file system; files made there are removed (limits: default .)"},
    {"data-dir", TEXT, ALL, AT(data_dir), 0, 0, "DIR",
     "of the server: its disk's figures become part of the result"},
    {"server-pid", COUNT, ALL, AT(server_pid), 1, 4194304, "PID",
     "processor time and memory of a server that does not tell them itself"},
    {"broker", TEXT, BENCH_CLAIM, AT(broker_program), 0, 0, "FILE",
     "sluiced, where a claim starts one; default beside this program"},
    {"io", IO, BENCH_CLAIM, AT(io), 0, 0, "uring|epoll|auto", "its backend; default auto"},
    {"cores", COUNT, BENCH_CLAIM, AT(core_count), 1, 64, "N", "its cores; default 1"},
    {"hold", SECONDS, BENCH_CLAIM, AT(hold_ns), 100 * NS_PER_MS, HOLD_NS_MAX, "S",
     "open-transaction: how long it is held open in each round; default 1"},
    {"fill", SIZE, BENCH_CLAIM, AT(fill_bytes), MIB, 1024 * GIB, "B",
     "recovery: published before each kill; default 10GiB"},
    {"idle", COUNT, BENCH_CLAIM, AT(idle_count), 1, 100000, "N",
     "idle-connections, memory-bound: connections that only say HELLO; default\n"
     "                       10000, 1000"},
    {"output", TEXT, ALL, AT(output_path), 0, 0, "FILE.json",
     "results as JSON; - is standard output"},
    {"html", TEXT, ALL, AT(html_path), 0, 0, "FILE", "results as a page with plots"},
    {"label", TEXT, ALL, AT(label), 0, 0, "TEXT", "what people call this run"},
    {"clients", COUNT, LOADS | BENCH_CONSUME | BENCH_TRANSACTIONS | BENCH_CLAIM, AT(client_count),
     1, 256, "N", "connections that the producers (consume: the consumers) share; default 1"},
    {"compression", COMPRESSION, LOADS, AT(compression_lz4), 0, 0, "none|lz4", "default none"},
    {"compressible", FLAG, LOADS, AT(compressible), 0, 0, NULL,
     "values like log lines, about 3:1; default random bytes"},
    {"own-request", FLAG, LOADS, AT(own_request), 0, 0, NULL,
     "each record is a batch and a request of its own; the library still coalesces"},
    {"send-many", COUNT, LOADS, AT(send_many), 1, SEND_MANY_MAX, "N",
     "records for each call of sluice_producer_send_many(); default 1, and then send()"},
    {"in-flight", COUNT, LOADS, AT(batches_in_flight), 1, 64, "N",
     "unacked batches of a producer in a partition; default 5, more only with\n"
     "                       --not-idempotent"},
    {"not-idempotent", FLAG, LOADS, AT(not_idempotent), 0, 0, NULL,
     "without producer ids and sequence numbers: a retry may store twice"},
    {"records", COUNT, BENCH_TRANSACTIONS, AT(records_each), 1, 100000, "N",
     "of a transaction, to one partition after the other; default 1"},
    {"aborts", COUNT, BENCH_TRANSACTIONS, AT(abort_percent), 0, 100, "P",
     "percent of the transactions that are aborted; default 0"},
    {"buffer", SIZE, LOADS | BENCH_TRANSACTIONS, AT(buffer_bytes), 2 * KIB, BUFFER_BYTES_MAX, "B",
     "records not yet acked, of a producer: two batches to 64GiB; default the\n"
     "                       library's"},
    {"linger-us", COUNT, LOADS, AT(linger_us), 0, 10000000, "N",
     "how long a batch may wait to fill; default 0"},
    {"sample", COUNT, LOADS, AT(sample_stride), 1, 1000000, "N",
     "time every N-th record; default 1 with --closed-loop 1 or --rate to 100000,\n"
     "                       else 61"},
    {"unchecked", FLAG, BENCH_CONSUME | BENCH_END_TO_END, AT(unchecked), 0, 0, NULL,
     "do not compare what is read with what was published; end-to-end still reads\n"
     "                       when it was due"},
    {"from", FROM, BENCH_CONSUME, AT(from_end), 0, 0, "beginning|end",
     "default beginning, and stop at the end found there; end: what is published\n"
     "                       elsewhere meanwhile, for --duration"},
    {"cold", FLAG, BENCH_CONSUME, AT(is_cold), 0, 0, NULL,
     "drop the files below --data-dir from the page cache first"},
    {"cpus", CPUS, ALL, AT(cpu_receive), 0, 1023, "R,S|any",
     "processors of the bare limits: receiver and disk, sender; default 0,1"},
    {"wal-set", SIZE, ALL, AT(wal_set_bytes), 128 * MIB, 1024 * GIB, "B",
     "recycled files of the bare log; default 1GiB"},
    {"connections", COUNT, ALL, AT(connection_count), 1, 16, "N",
     "of the bare socket and pipeline; default 1"},
};

static void set_defaults(struct bench_options *options, const char *name, const char *claim_name);
static int parse_option(struct bench_options *options, const struct option_row *row);
static int check(struct bench_options *options);
static int usage(const struct bench_options *options, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

int options_parse(struct bench_options *options, int argc, char **argv)
{
    struct option long_options[ARRAY_COUNT(rows) + 2] = {{"help", no_argument, NULL, 'h'}};
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++)
        long_options[i + 1] = (struct option){
            rows[i].name, rows[i].argument ? required_argument : no_argument, NULL, 1000 + (int)i};
    set_defaults(options, argv[0], argc > 1 ? argv[1] : "");
    opterr = 0;
    optind = 0; // glibc: start anew
    int found, result = OPTIONS_OK;
    while (result == OPTIONS_OK &&
           (found = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (found == 'h')
            return OPTIONS_HELP;
        if (found < 1000)
            return usage(options, "unknown option, or its value is missing: %s", argv[optind - 1]);
        result = parse_option(options, &rows[found - 1000]);
    }
    if (result == OPTIONS_OK && options->command == BENCH_CLAIM && optind < argc)
        options->claim = argv[optind++];
    if (result == OPTIONS_OK && optind < argc)
        return usage(options, "unexpected word: %s", argv[optind]);
    return result == OPTIONS_OK ? check(options) : result;
}

void options_help(enum bench_command command)
{
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        if (!(rows[i].commands & command))
            continue;
        char head[40];
        snprintf(head, sizeof(head), "--%s%s%s", rows[i].name, rows[i].argument ? " " : "",
                 rows[i].argument ? rows[i].argument : "");
        printf("  %-20s %s\n", head, rows[i].help);
    }
}

static void set_defaults(struct bench_options *options, const char *name, const char *claim_name)
{
    bool limits = options->command == BENCH_LIMITS, consume = options->command == BENCH_CONSUME;
    bool claim = options->command == BENCH_CLAIM;
    bool of_transactions = claim && strcmp(claim_name, "open-transaction") == 0;
    bool commits = of_transactions || options->command == BENCH_TRANSACTIONS;
    *options = (struct bench_options){
        .command = options->command,
        .command_name = name,
        .driver = "sluice",
        .topic = "bench",
        .limits_dir = limits ? "." : NULL,
        .record_bytes = commits ? 100 : KIB,
        .batch_bytes = 256 * KIB,
        .producer_count = of_transactions ? 8
                          : claim         ? CLAIM_PRODUCERS
                                          : 1,
        .client_count = 1,
        .consumer_count = 1,
        .repeat_count = claim ? 3 : 1,
        .io = "auto",
        .core_count = 1,
        .fill_bytes = 10 * GIB,
        .hold_ns = NS_PER_S,
        .step_count = 8,
        .stamps_time = options->command == BENCH_END_TO_END,
        .records_each = 1,
        .send_many = 1,
        .duration_ns = limits    ? 2 * NS_PER_S
                       : consume ? 0
                                 : 10 * NS_PER_S,
        .warm_up_ns = limits    ? 300 * NS_PER_MS
                      : consume ? 0
                                : 2 * NS_PER_S,
        .cpu_receive = 0,
        .cpu_send = 1,
        .wal_set_bytes = GIB,
        .connection_count = 1,
    };
}

/* ---- one value ---- */

/* Seconds as a decimal number, or with a unit: 10, 0.5, 500ms, 2m. */
static int parse_seconds(const char *text, uint64_t *ns)
{
    char *end;
    double seconds = strtod(text, &end);
    if (end != text && *end == '\0' && seconds >= 0 && seconds <= 1e9) {
        *ns = (uint64_t)(seconds * (double)NS_PER_S);
        return 0;
    }
    uint64_t ms;
    if (units_parse_duration(text, &ms) || ms > UINT64_MAX / NS_PER_MS)
        return -1;
    *ns = ms * NS_PER_MS;
    return 0;
}

/* Of those that this process may use. */
static bool has_cpu(int cpu)
{
    cpu_set_t set;
    return cpu < CPU_SETSIZE && sched_getaffinity(0, sizeof(set), &set) == 0 &&
           CPU_ISSET((size_t)cpu, &set);
}

static int parse_cpus(struct bench_options *options, const char *text)
{
    char rest;
    if (strcmp(text, "any") == 0) {
        options->cpu_receive = options->cpu_send = CPU_ANY;
        return OPTIONS_OK;
    }
    if (sscanf(text, "%d,%d%c", &options->cpu_receive, &options->cpu_send, &rest) == 2 &&
        options->cpu_receive >= 0 && options->cpu_send >= 0) {
        bool has_receive = has_cpu(options->cpu_receive);
        if (has_receive && has_cpu(options->cpu_send))
            return OPTIONS_OK;
        return usage(options, "--cpus %s: there is no processor %d here", text,
                     has_receive ? options->cpu_send : options->cpu_receive);
    }
    return usage(options, "--cpus %s: want two numbers such as 0,1, or any", text);
}

static int parse_word(struct bench_options *options, const struct option_row *row, const char *no,
                      const char *yes, bool *value)
{
    if (strcmp(optarg, no) != 0 && strcmp(optarg, yes) != 0)
        return usage(options, "--%s %s: allowed %s", row->name, optarg, row->argument);
    *value = strcmp(optarg, yes) == 0;
    return OPTIONS_OK;
}

static int parse_number(struct bench_options *options, const struct option_row *row, void *member)
{
    uint64_t value = 0;
    int status = row->kind == SIZE      ? units_parse_size(optarg, &value)
                 : row->kind == SECONDS ? parse_seconds(optarg, &value)
                                        : units_parse_u64(optarg, &value);
    if ((status || value < row->min || value > row->max) && row->kind == SECONDS)
        return usage(options, "--%s %s: allowed %.9g..%.9g", row->name, optarg,
                     (double)row->min / (double)NS_PER_S, (double)row->max / (double)NS_PER_S);
    if (status || value < row->min || value > row->max)
        return usage(options, "--%s %s: allowed %llu..%llu%s", row->name, optarg,
                     (unsigned long long)row->min, (unsigned long long)row->max,
                     row->kind == RATE ? ", or max" : "");
    if (row->kind == COUNT)
        *(uint32_t *)member = (uint32_t)value;
    else
        *(uint64_t *)member = value;
    return OPTIONS_OK;
}

static int parse_option(struct bench_options *options, const struct option_row *row)
{
    void *member = (char *)options + row->offset;
    if (!(row->commands & options->command))
        return usage(options, "--%s is not an option of this command", row->name);
    switch (row->kind) {
    case TEXT:
        *(const char **)member = optarg;
        return OPTIONS_OK;
    case FLAG:
        *(bool *)member = true;
        return OPTIONS_OK;
    case DRIVER:
        if (driver_find(optarg) == NULL)
            return usage(options, "--driver %s: this program has %s", optarg, driver_names());
        options->driver = optarg;
        return OPTIONS_OK;
    case COMPRESSION:
        return parse_word(options, row, "none", "lz4", member);
    case IO:
        if (strcmp(optarg, "uring") != 0 && strcmp(optarg, "epoll") != 0 &&
            strcmp(optarg, "auto") != 0)
            return usage(options, "--io %s: allowed uring, epoll, auto", optarg);
        options->io = optarg;
        return OPTIONS_OK;
    case ARRIVALS:
        return parse_word(options, row, "uniform", "poisson", member);
    case FROM:
        return parse_word(options, row, "beginning", "end", member);
    case CPUS:
        return parse_cpus(options, optarg);
    case RATE:
        options->is_rate_given = true;
        options->rate = 0;
        return strcmp(optarg, "max") == 0 ? OPTIONS_OK : parse_number(options, row, member);
    default:
        return parse_number(options, row, member);
    }
}

/* ---- between options ---- */

static bool is_open_transaction(const struct bench_options *options)
{
    return options->claim && strcmp(options->claim, "open-transaction") == 0;
}

/* A loop is open unless another one is asked for: latencies of a queue that is always full only say how long it is. */
static uint64_t default_rate(const struct bench_options *options)
{
    if (options->command == BENCH_TRANSACTIONS || is_open_transaction(options))
        return TXN_RATE_DEFAULT;
    bool is_timed = options->command & (BENCH_PUBLISH | BENCH_END_TO_END);
    bool is_other = options->closed_loop > 0 || options->send_many > 1;
    return is_timed && !is_other ? RATE_DEFAULT : 0;
}

/* Which claims there are is known to command/claim.c. */
static int check_claim(struct bench_options *options)
{
    const char *claim = options->claim ? options->claim : "";
    if (is_open_transaction(options)) {
        if (options->record_bytes < 8)
            return usage(options, "--record-size: the values carry the time, 8 bytes or more");
        if (options->rate == 0)
            return usage(
                options,
                "--rate max: this claim is about latencies; they need a rate that leaves room");
    }
    if (strcmp(claim, "recovery") == 0 && options->partition_count == 0)
        options->partition_count = 10000;
    bool is_heavy = strcmp(claim, "memory-bound") == 0;
    options->is_sustained =
        is_heavy; // its partitions outgrow the log: the archive is a part of everything
    if (options->idle_count == 0)
        options->idle_count = is_heavy ? 1000 : 10000;
    if (is_heavy && options->partition_count == 0)
        options->partition_count = 1000;
    if (is_heavy && options->producer_count == CLAIM_PRODUCERS) {
        options->producer_count = 64;
        options->client_count = 16;
    }
    return OPTIONS_OK;
}

/* Who has no connection to use would have been asked for in vain. */
static int check_clients(const struct bench_options *options)
{
    bool reads = options->command & (BENCH_CONSUME | BENCH_END_TO_END);
    bool sends = options->command != BENCH_CONSUME;
    uint32_t most = sends ? options->producer_count : 0;
    if (reads)
        most = (uint32_t)max_u64(most, options->consumer_count);
    if (options->client_count <= most)
        return OPTIONS_OK;
    return usage(options, "--clients %u: more than the %u %s that share them",
                 options->client_count, most,
                 !reads   ? "--producers"
                 : !sends ? "--consumers"
                          : "--producers or --consumers");
}

/* What the library takes. */
static int check_buffer(const struct bench_options *options)
{
    bool commits = options->command == BENCH_TRANSACTIONS;
    uint64_t batch =
        commits ? min_u64(options->batch_bytes, TXN_BATCH_BYTES_MAX) : options->batch_bytes;
    uint64_t least = strcmp(options->driver, "sluice") == 0 ? 2 * batch : OTHER_BUFFER_BYTES_MIN;
    if (options->buffer_bytes == 0 || options->buffer_bytes >= least)
        return OPTIONS_OK;
    return usage(options, "--buffer %llu: allowed %llu..%llu, and not less than two batches",
                 (unsigned long long)options->buffer_bytes, (unsigned long long)least,
                 (unsigned long long)BUFFER_BYTES_MAX);
}

static bool is_dash(const char *path)
{
    return path && strcmp(path, "-") == 0;
}

static int check(struct bench_options *options)
{
    if ((options->command & (BENCH_TRANSACTIONS | BENCH_CLAIM)) &&
        strcmp(options->driver, "sluice") != 0)
        return usage(options, "--driver %s: this command is about sluice", options->driver);
    if (options->lone)
        options->closed_loop = 1;
    if (!options->is_rate_given)
        options->rate = default_rate(options);
    if (options->command == BENCH_CLAIM && check_claim(options))
        return OPTIONS_USAGE;
    if (options->lone && options->producer_count > 1)
        return usage(options, "--lone: one record at a time has one producer, not %u",
                     options->producer_count);
    if (options->command == BENCH_SWEEP && (options->rate > 0 || options->closed_loop > 0))
        return usage(options, "--%s: sweep chooses its rates itself",
                     options->rate > 0 ? "rate" : "closed-loop");
    if (is_dash(options->output_path) && is_dash(options->html_path))
        return usage(options, "--output and --html: only one of them can be standard output");
    if (options->closed_loop > 0 && options->rate > 0)
        return usage(options, "--closed-loop: a --rate is an open loop");
    if (options->closed_loop > 0 && options->producer_count > 1024)
        return usage(options, "--closed-loop: a thread for each of at most 1024 --producers");
    if (options->thread_count == 0)
        options->thread_count = (uint32_t)min_u64(options->producer_count, THREADS_DEFAULT_MAX);
    if (check_clients(options) || check_buffer(options))
        return OPTIONS_USAGE;
    if (options->batches_in_flight > 5 && !options->not_idempotent)
        return usage(options, "--in-flight %u: allowed 1..5, with --not-idempotent 1..64",
                     options->batches_in_flight);
    if (options->send_many > 1 && (options->closed_loop > 0 || options->rate > 0))
        return usage(options, "--send-many: not with a --rate or --closed-loop");
    if (options->command == BENCH_END_TO_END && options->record_bytes < sizeof(struct stamp))
        return usage(options, "--record-size: end-to-end values carry the time, %zu bytes or more",
                     sizeof(struct stamp));
    if (options->is_cold && (options->data_dir == NULL || options->from_end))
        return usage(options, "--cold: wants --data-dir, and --from beginning");
    if (options->command == BENCH_CONSUME && options->from_end && options->duration_ns == 0)
        options->duration_ns = 10 * NS_PER_S;
    return OPTIONS_OK;
}

static int usage(const struct bench_options *options, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "sluice-bench %s: ", options->command_name);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\nsee sluice-bench %s --help\n", options->command_name);
    va_end(arguments);
    return OPTIONS_USAGE;
}
