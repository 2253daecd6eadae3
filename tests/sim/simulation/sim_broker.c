#include "tests/sim/simulation/sim_broker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "storage/store_private.h"
#include "storage/wal_private.h"
#include "tests/sim/world/own_memory.h"

static void *run(void *argument);
static int load(struct sim_broker *b, struct config *config);
static int start(struct sim_broker *b, struct broker *broker);
static int exit_status_of(int status);
static bool wait_for(struct broker *broker, enum core_state state, uint64_t until_ns);
static int drain(struct broker *broker);
static _Noreturn void end(struct sim_broker *b, int exit_status);
static void ended(void *context, int status);

/* The linker puts it in broker_notify()'s place: main sleeps in poll() there, in the scheduler here. */
void __wrap_broker_notify(struct broker *broker);
void __wrap_broker_notify(struct broker *broker)
{
    thread_wake(broker, true);
}

void sim_broker_start(struct sim_broker *b)
{
    ASSERT(b->state == SIM_BROKER_DOWN || b->state == SIM_BROKER_ENDED);
    b->state = SIM_BROKER_STARTING;
    b->lives++;
    b->started_ns = world_now_ns();
    b->broker = NULL;
    b->start_status = 0;
    b->text[0] = '\0';
    b->process = process_new("broker", b->disk);
    b->process->on_exit = ended;
    b->process->on_exit_context = b;
    (void)thread_new(b->process, run, b);
}

void sim_broker_drain(struct sim_broker *b)
{
    ASSERT(b->state == SIM_BROKER_READY);
    b->state = SIM_BROKER_DRAINING;
    thread_wake(b->broker, true);
}

void sim_broker_end(struct sim_broker *b, enum process_end how)
{
    b->broker = NULL;
    if (b->process)
        process_end(TAKE(b->process), how);
    b->state = SIM_BROKER_DOWN;
}

bool sim_broker_wait_ready(struct sim_broker *b)
{
    while (b->state == SIM_BROKER_STARTING)
        thread_sleep(NS_PER_MS);
    return b->state == SIM_BROKER_READY;
}

/* ---- its main thread ---- */

static void *run(void *argument)
{
    struct sim_broker *b = argument;
    struct broker *broker = calloc(1, sizeof(*broker));
    struct config *config = calloc(1, sizeof(*config));
    if (!broker || !config) { // static data in a process of its own
        b->start_status = E_NO_MEMORY;
        snprintf(b->text, sizeof(b->text), "out of memory");
        end(b, EXIT_FAILED);
    }
    b->broker = broker;
    broker->config = config;
    broker->started_ns = clock_mono_ns(clock_system());
    if (load(b, config) != 0)
        end(b, EXIT_USAGE);
    broker->connections_max = (uint32_t)config->connections_max;
    b->start_status = start(b, broker);
    if (b->start_status != 0)
        end(b, exit_status_of(b->start_status));
    b->state = SIM_BROKER_READY;
    b->ready_ns = world_now_ns();
    atomic_store(&broker->is_ready, true);
    while (b->state == SIM_BROKER_READY && !assembly_has_failed(broker))
        (void)thread_wait(broker, WORLD_FOREVER);
    end(b, assembly_has_failed(broker) ? EXIT_FAILED : drain(broker));
}

static _Noreturn void end(struct sim_broker *b, int exit_status)
{
    (void)b; // is told by ended()
    process_exit(exit_status);
}

/* Any of its threads may end it, as one without memory does. */
static void ended(void *context, int status)
{
    struct sim_broker *b = context;
    if (b->state == SIM_BROKER_STARTING && b->start_status == 0 && b->text[0] == '\0') {
        b->start_status = E_NO_MEMORY;
        snprintf(b->text, sizeof(b->text), "ended by itself; its log says why");
    }
    b->state = SIM_BROKER_ENDED;
    b->exit_status = status;
    b->process = NULL; // it is gone when this thread has yielded
    b->broker = NULL;
}

/* As in broker.c. */
static int exit_status_of(int status)
{
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

static int load(struct sim_broker *b, struct config *config)
{
    struct config_error error;
    config_defaults(config);
    for (int i = 0; i < SIM_BROKER_SETTINGS_MAX && b->settings[i][0]; i++) {
        if (config_set(config, b->settings[i][0], b->settings[i][1],
                       (struct config_place){"--set", 0}, &error) != 0) {
            snprintf(b->text, sizeof(b->text), "%s", error.text);
            return E_INVALID;
        }
    }
    return 0;
}

static int start(struct sim_broker *b, struct broker *broker)
{
    struct address address;
    const char *why = NULL;
    char text[ASSEMBLY_TEXT_MAX] = "";
    ASSERT(address_parse("127.0.0.1:7650", &address) == 0);
    int status = assembly_open_directory(broker, text);
    if (status == 0) {
        broker->listen_fd = address_listen(&address, LISTEN_BACKLOG, false);
        ASSERT(broker->listen_fd >= 0);
        status = assembly_start_cores(broker, text);
    }
    if (status == 0) {
        (void)wait_for(broker, CORE_OPEN, WORLD_FOREVER);
        status = assembly_failure(broker, &why);
    }
    if (status == 0)
        status = assembly_check_store(broker, text);
    for (uint16_t i = 0; i < broker->shard_count && status == 0; i++) {
        struct store_stats stats = store_stats(broker->shards[i].store);
        b->opened[i] = (struct sim_state){shard_digest(&broker->shards[i]), stats.recovered_lsn,
                                          stats.recovered_chain};
        if (b->on_opened)
            b->on_opened(b, i);
    }
    if (status == 0) {
        assembly_post(broker, INBOX_START, 0);
        (void)wait_for(broker, CORE_SERVING, WORLD_FOREVER);
        status = assembly_failure(broker, &why);
    }
    snprintf(b->text, sizeof(b->text), "%s", why ? why : text);
    return status;
}

static bool wait_for(struct broker *broker, enum core_state state, uint64_t until_ns)
{
    while (!assembly_has_failed(broker) && !assembly_has_reached(broker, state)) {
        if (world_now_ns() >= until_ns)
            return false;
        (void)thread_wait(broker, until_ns);
    }
    return true;
}

static int drain(struct broker *broker)
{
    uint64_t timeout_ns = broker->config->drain_timeout * NS_PER_MS;
    uint64_t deadline_ns = world_now_ns() + timeout_ns;
    atomic_store(&broker->is_draining, true);
    atomic_store(&broker->is_ready, false);
    assembly_post(broker, INBOX_DRAIN, deadline_ns - timeout_ns / 4);
    if (!wait_for(broker, CORE_DRAINED, deadline_ns + NS_PER_S))
        return EXIT_FAILED;
    assembly_post(broker, INBOX_EXIT, deadline_ns);
    if (!wait_for(broker, CORE_STOPPED, deadline_ns + NS_PER_S))
        return EXIT_FAILED;
    bool failed = assembly_has_failed(broker);
    for (uint16_t i = 0; i < broker->core_count && !failed; i++) {
        core_join(&broker->cores[i]);
        failed = broker->cores[i].start_status != 0;
    }
    return failed ? EXIT_FAILED : EXIT_DRAINED;
}
