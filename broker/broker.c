/* The process: start, signals, drain, exit. Everything here runs on the main thread.
 *
 * Start, in this order, each with its reason:
 *   1. signals blocked (threads inherit that), descriptor limit raised, log
 *   2. data directory locked: before the port, so that a second broker fails for the right reason
 *   3. listening socket and HTTP: a wrong address is found before a long recovery; clients wait in
 *   the backlog
 *   4. cores: each recovers its shards; all together
 *   5. what only the whole store can tell: slot table, partitions known to shard 0
 *   6. cores serve; the ready line
 *
 * Then it waits for signals and for cores that fail. A failed log ends the process at once, without
 * cleaning up: the next start recovers, and every moment longer could only show clients what is not
 * durable.
 *
 * The memory of a broker is not given back at the end: the process ends with it. */
#include "broker/broker.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/units.h"
#include "broker/assembly.h"
#include "broker/http.h"

struct process { // the main thread's own
    struct broker *broker;
    struct config *config;
    int argc;
    char *const *argv;
    int signal_fd;
};

static int start(struct process *process);
static int start_log(const struct config *config);
static void block_signals(struct process *process);
static void raise_descriptor_limit(struct broker *broker);
static void tell_settings(struct broker *broker);
static int listen_for_clients(struct broker *broker);
static int start_http(struct broker *broker);
static int wait_for_cores(struct process *process, enum core_state state);
static void tell_ready(struct broker *broker);
static int serve(struct process *process);
static int drain(struct process *process);
static void reload(struct process *process);
static int take_signal(struct process *process, int timeout_ms);
static _Noreturn void exit_now(int status);
static int refuse(int status, const char *text);

int broker_run(struct config *config, int argc, char *const argv[])
{
    static struct broker broker; // zeroed; as long as the process
    struct process process = {.broker = &broker, .config = config, .argc = argc, .argv = argv};
    broker.config = config;
    broker.started_ns = clock_mono_ns(clock_system());
    block_signals(&process);
    int status = start_log(config);
    if (status == 0)
        status = start(&process);
    if (status == 0)
        status = serve(&process);
    if (status == EXIT_DRAINED)
        http_stop(TAKE(broker.http));
    exit_now(status); // threads of cores that failed to start may still be there
}

/* ---- start ---- */

static int start(struct process *process)
{
    struct broker *broker = process->broker;
    raise_descriptor_limit(broker);
    tell_settings(broker);
    char text[ASSEMBLY_TEXT_MAX];
    int status = refuse(assembly_open_directory(broker, text), text);
    if (status == 0)
        status = listen_for_clients(broker);
    if (status == 0)
        status = start_http(broker);
    if (status == 0)
        status = refuse(assembly_start_cores(broker, text), text);
    if (status == 0)
        status = wait_for_cores(process, CORE_OPEN);
    if (status == 0)
        status = refuse(assembly_check_store(broker, text), text);
    if (status != 0)
        return status;
    assembly_post(broker, INBOX_START, 0);
    status = wait_for_cores(process, CORE_SERVING);
    if (status == 0)
        tell_ready(broker);
    return status;
}

static int start_log(const struct config *config)
{
    struct log_options options = {
        .level = (enum log_level)config->log_level,
        .format = (enum log_format)config->log_format,
        .fd = STDERR_FILENO,
    };
    if (log_start(&options) == 0)
        return 0;
    log_direct("cannot start logging: out of memory");
    return EXIT_FAILED;
}

/* Before any thread exists, so that all inherit it and signals come to signal_fd only. */
static void block_signals(struct process *process)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    process->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    process->broker->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ASSERT(process->signal_fd >= 0 && process->broker->event_fd >= 0);
}

/* A connection takes a descriptor; some are never given to connections, or the log couldn't go
 * on. */
static void raise_descriptor_limit(struct broker *broker)
{
    struct rlimit limit;
    broker->connections_max = (uint32_t)broker->config->connections_max;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    uint64_t left = limit.rlim_cur > 2 * DESCRIPTORS_RESERVED
                        ? limit.rlim_cur - DESCRIPTORS_RESERVED
                        : limit.rlim_cur / 2;
    if (left >= broker->connections_max)
        return;
    broker->connections_max = (uint32_t)left;
    LOG_WARN("broker.connections_limited", LOG_U64("connections_max", left),
             LOG_U64("configured", broker->config->connections_max),
             LOG_U64("open_files_max", limit.rlim_cur),
             LOG_STR("hint", "raise the limit on open files (ulimit -n, LimitNOFILE)"));
}

static void tell_settings(struct broker *broker)
{
    const struct config *config = broker->config;
    struct limits_memory memory;
    char text[UNITS_TEXT_MAX];
    cpu_set_t cpus;
    limits_memory(config, &memory);
    broker->memory_bytes = memory.sum_bytes;
    LOG_INFO("broker.starting", LOG_STR("version", SLUICE_VERSION),
             LOG_STR("data_dir", config->data_dir), LOG_U64("cores", config->cores),
             LOG_U64("memory_bytes", memory.sum_bytes),
             LOG_STR("memory", units_format_size(memory.sum_bytes, text)));
    if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0 &&
        config->cores > (uint64_t)CPU_COUNT(&cpus))
        LOG_WARN("broker.cores_not_pinned", LOG_U64("cores", config->cores),
                 LOG_U64("cpus", (uint64_t)CPU_COUNT(&cpus)));
    if (config->durability == DURABILITY_RELAXED)
        LOG_WARN("broker.durability_relaxed",
                 LOG_STR("meaning", "acks do not mean durable: a power cut loses acked records"));
    if (config->development)
        LOG_WARN("broker.development",
                 LOG_STR("meaning", "O_DIRECT is not insisted on: for trying out only"));
    if (config->allow_unauthenticated)
        LOG_WARN("broker.unauthenticated_allowed",
                 LOG_STR("meaning", "whoever reaches the ports can read and write everything"));
    if (config->places[CONFIG_kafka].source && !config->kafka.off)
        LOG_WARN("broker.kafka_off", LOG_STR("asked", config->kafka.text),
                 LOG_STR("meaning", "this version has no listener of the Kafka protocol"));
}

/* The exit status for a status; 0 for 0. */
static int refuse(int status, const char *text)
{
    char line[1200];
    if (status == 0)
        return 0;
    snprintf(line, sizeof(line), "sluiced: %s", text);
    log_direct(line);
    switch (status) {
    case E_CORRUPT:
    case E_FOREIGN:
    case E_NEWER:
    case E_LOCKED:
    case E_NO_DIRECT:
    case E_TRUNCATED:
        return EXIT_REFUSED;
    default:
        return EXIT_FAILED;
    }
}

/* The kernel closes a killed broker's ring, and with it its listening socket, a moment after the
 * process is gone: as with the directory's lock, the next one waits for that. */
static int listen_patiently(const struct address *address)
{
    int fd = address_listen(address, LISTEN_BACKLOG, false);
    struct io *io; // only to wait on
    if (fd != E_EXISTS ||
        io_new(&(struct io_options){.backend = IO_BACKEND_EPOLL, .ops_max = 64}, &io))
        return fd;
    for (int tries = 0; fd == E_EXISTS && tries < LISTEN_TRIES; tries++) {
        io_poll(io, LISTEN_RETRY_NS);
        fd = address_listen(address, LISTEN_BACKLOG, false);
    }
    io_free(io);
    return fd;
}

static int listen_for_clients(struct broker *broker)
{
    struct address bound;
    char text[160];
    const struct config_address *wanted = &broker->config->listen;
    broker->listen_fd = listen_patiently(&wanted->address);
    if (broker->listen_fd < 0) {
        snprintf(text, sizeof(text), "cannot listen on %s: %s", wanted->text,
                 broker->listen_fd == E_EXISTS ? "the address is in use"
                                               : status_text(broker->listen_fd));
        return refuse(broker->listen_fd, text);
    }
    int status = address_of_socket(broker->listen_fd, &bound);
    if (status != 0)
        return refuse(status, "cannot ask for the address that was bound");
    address_format(&bound, broker->listen_text);
    return 0;
}

static int start_http(struct broker *broker)
{
    struct address bound;
    char text[160];
    const struct config_address *wanted = &broker->config->http;
    strcpy(broker->http_text, "off");
    if (wanted->off)
        return 0;
    int status = http_start(broker, &wanted->address, &bound, &broker->http);
    if (status != 0) {
        snprintf(text, sizeof(text), "cannot serve HTTP on %s: %s", wanted->text,
                 status == E_EXISTS ? "the address is in use" : status_text(status));
        return refuse(status, text);
    }
    address_format(&bound, broker->http_text);
    return 0;
}

/* Until all cores are that far. SIGTERM meanwhile: nothing is served yet, recovery may end
 * anywhere. */
static int wait_for_cores(struct process *process, enum core_state state)
{
    struct broker *broker = process->broker;
    while (!assembly_has_failed(broker) && !assembly_has_reached(broker, state)) {
        int signal_number = take_signal(process, -1);
        if (signal_number == SIGTERM || signal_number == SIGINT) {
            log_direct("sluiced: stopped before it was ready");
            exit_now(EXIT_DRAINED);
        }
    }
    const char *why = "";
    int status = assembly_failure(broker, &why);
    return refuse(status, why);
}

static void tell_ready(struct broker *broker)
{
    char line[256];
    atomic_store(&broker->is_ready, true);
    LOG_INFO("broker.ready", LOG_STR("listen", broker->listen_text),
             LOG_STR("http", broker->http_text), LOG_STR("io", io_name(broker->cores[0].io)),
             LOG_U64("cores", broker->core_count), LOG_U64("shards", broker->shard_count),
             LOG_U64("took_ms", (clock_mono_ns(clock_system()) - broker->started_ns) / NS_PER_MS));
    snprintf(line, sizeof(line), "ready listen=%s http=%s kafka=off", broker->listen_text,
             broker->http_text);
    log_direct(line);
}

/* ---- serving ---- */

static int serve(struct process *process)
{
    while (!assembly_has_failed(process->broker)) {
        int signal_number = take_signal(process, -1);
        if (signal_number == SIGHUP)
            reload(process);
        if (signal_number == SIGTERM || signal_number == SIGINT)
            return drain(process);
    }
    return EXIT_FAILED; // the core has logged file and LSN
}

static void on_ignored(const struct config_key *key)
{
    LOG_WARN("config.needs_restart", LOG_STR("key", key->name));
}

static void reload(struct process *process)
{
    static struct config next;
    static struct config_error error;
    enum config_wish wish;
    if (config_load(&next, process->argc, process->argv, &wish, &error) != 0) {
        LOG_ERROR("config.not_reloaded", LOG_STR("reason", error.text));
        return;
    }
    config_reload(process->config, &next, on_ignored);
    log_set_level((enum log_level)process->config->log_level);
    assembly_post(process->broker, INBOX_RELOAD, 0);
    LOG_INFO("config.reloaded");
}

/* A quarter of the time is kept for the clean ends. */
static int drain(struct process *process)
{
    struct broker *broker = process->broker;
    uint64_t now_ns = clock_mono_ns(clock_system());
    uint64_t timeout_ns = process->config->drain_timeout * NS_PER_MS;
    uint64_t deadline_ns = now_ns + timeout_ns;
    atomic_store(&broker->is_draining, true);
    atomic_store(&broker->is_ready, false);
    LOG_INFO("broker.draining", LOG_U64("timeout_ms", process->config->drain_timeout));
    assembly_post(broker, INBOX_DRAIN, deadline_ns - timeout_ns / 4);
    enum core_state stages[] = {CORE_DRAINED, CORE_STOPPED};
    for (size_t i = 0; i < ARRAY_COUNT(stages); i++) {
        while (!assembly_has_failed(broker) && !assembly_has_reached(broker, stages[i])) {
            now_ns = clock_mono_ns(clock_system());
            if (now_ns > deadline_ns + NS_PER_S) {
                log_direct("sluiced: the drain took too long; the next start recovers");
                exit_now(EXIT_FAILED);
            }
            int signal_number = take_signal(process, 100);
            if (signal_number == SIGTERM || signal_number == SIGINT) {
                log_direct("sluiced: second signal: stopped at once; the next start recovers");
                exit_now(EXIT_FAILED);
            }
        }
        if (stages[i] == CORE_DRAINED)
            assembly_post(broker, INBOX_EXIT, deadline_ns);
    }
    bool failed = assembly_has_failed(broker);
    for (uint16_t i = 0; i < broker->core_count && !failed; i++) {
        core_join(&broker->cores[i]); // it was its last act to say that it has stopped
        failed = broker->cores[i].start_status != 0;
    }
    LOG_INFO("broker.stopped", LOG_BOOL("clean", !failed));
    return failed ? EXIT_FAILED : EXIT_DRAINED;
}

/* ---- waiting ---- */

void broker_notify(struct broker *broker)
{
    uint64_t one = 1;
    while (write(broker->event_fd, &one, sizeof(one)) < 0 && errno == EINTR) // seam: wakes main
        continue;
}

/* Waits for a signal (returns its number) or for news of a core (0). timeout_ms: -1 for ever. */
static int take_signal(struct process *process, int timeout_ms)
{
    struct pollfd polled[] = {{.fd = process->signal_fd, .events = POLLIN},
                              {.fd = process->broker->event_fd, .events = POLLIN}};
    struct signalfd_siginfo info;
    uint64_t count;
    (void)poll(polled, ARRAY_COUNT(polled), timeout_ms); // seam: main waits for signals
    if (polled[1].revents & POLLIN)
        (void)!read(process->broker->event_fd, &count, sizeof(count)); // seam: woken
    if (read(process->signal_fd, &info, sizeof(info)) != sizeof(info)) // seam: signals
        return 0;
    return (int)info.ssi_signo;
}

static _Noreturn void exit_now(int status)
{
    log_stop();
    _exit(status);
}
