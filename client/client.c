/* The client object and its I/O thread.
 *
 * A turn of the thread: take commands, let the connection send, look at deadlines, report, then
 * wait in io_poll() for what comes. It sleeps when there is nothing to do; whoever gives it
 * something wakes it, and only the first of many has to make the system call.
 *
 * sluice_client_new() fails for bad options, and when memory, threads or descriptors are short; a
 * broker that can't be reached is no failure, the thread goes on trying. */
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "client/client_private.h"
#include "client/consumer_private.h"
#include "client/inflight.h"
#include "client/producer_private.h"

#define COMMANDS_PER_TURN 4096
#define OPS_MAX 64u
#define REFRESH_INTERVAL_NS (60 * NS_PER_S)
#define TICK_NS (1 * NS_PER_MS) // how old the senders' clock may get while records are on their way
#define EXPIRE_INTERVAL_NS (50 * NS_PER_MS)

static int read_options(struct sluice_client *client, const struct sluice_client_options *options);
static int default_u32(uint32_t value, uint32_t otherwise, uint32_t max, uint32_t *out);
static int start_thread(struct sluice_client *client);
static void release(struct sluice_client *client);
static void *run(void *client);
static int open_io(struct io **io);
static void turn(struct sluice_client *client);
static void take_commands(struct sluice_client *client);
static void run_command(struct sluice_client *client, const struct command *command);
static void look_at_producers(struct sluice_client *client);
static uint64_t look_at_consumers(struct sluice_client *client);
static void wait_for_events(struct sluice_client *client, uint64_t wake_ns);
static bool producers_are_busy(struct sluice_client *client);
static void stop_ticking(struct sluice_client *client);
static void read_clock(struct sluice_client *client);
static void lose_publishes(struct sluice_client *client);

int sluice_client_new(const struct sluice_client_options *options, struct sluice_client **client)
{
    return client_new_on(options, open_io, client);
}

int client_new_on(const struct sluice_client_options *options, client_open_io_fn open,
                  struct sluice_client **client_out)
{
    if (!options || !client_out || options->size < sizeof(size_t))
        return SLUICE_E_INVALID;
    struct sluice_client_options copy = {0};
    memcpy(&copy, options, options->size < sizeof(copy) ? options->size : sizeof(copy));
    struct sluice_client *client = aligned_alloc(CACHE_LINE, align_up(sizeof(*client), CACHE_LINE));
    if (!client)
        return SLUICE_E_NO_MEMORY;
    memset(client, 0, sizeof(*client));
    pthread_mutex_init(&client->mutex, NULL);
    client_cond_init(&client->changed);
    list_init(&client->calls);
    list_init(&client->producers);
    list_init(&client->ready_producers);
    list_init(&client->progressed);
    list_init(&client->reports);
    list_init(&client->consumers);
    client->open_io = open;
    client->clock = clock_system();
    client->refresh_interval_ns = REFRESH_INTERVAL_NS;
    client->connect_status = SLUICE_E_CONNECT;
    random_init(&client->random, random_seed_system());

    int status = read_options(client, &copy);
    if (status == SLUICE_OK)
        status = connection_init(&client->connection);
    if (status == SLUICE_OK) {
        client->commands = ring_mpsc_new(COMMAND_SLOT_COUNT, sizeof(struct command), 0);
        status = client->commands ? start_thread(client) : SLUICE_E_NO_MEMORY;
    }
    if (status != SLUICE_OK) {
        release(client);
        return status;
    }
    *client_out = client;
    return SLUICE_OK;
}

int sluice_client_wait(struct sluice_client *client, uint32_t timeout_ms)
{
    uint64_t deadline_ns = client_deadline(client, timeout_ms);
    bool in_time = true;
    pthread_mutex_lock(&client->mutex);
    while (client->connect_status == SLUICE_E_CONNECT && in_time)
        in_time = client_cond_wait(&client->changed, &client->mutex, deadline_ns);
    int status = client->connect_status;
    pthread_mutex_unlock(&client->mutex);
    return status;
}

void sluice_client_free(struct sluice_client *client)
{
    if (!client)
        return;
    ASSERT(!client_is_io_thread(client));
    client_command(client, COMMAND_STOP, NULL);
    pthread_join(client->thread, NULL);
    release(client);
}

/* ---- set-up ---- */

static int read_options(struct sluice_client *client, const struct sluice_client_options *options)
{
    const char *server = options->server ? options->server : getenv("SLUICE_SERVER");
    if (!server || !*server)
        server = "127.0.0.1:7650";
    const char *client_id = options->client_id ? options->client_id : "libsluice";
    if (address_parse(server, &client->address) < 0 || strlen(server) >= sizeof(client->server)) {
        error_set("server: \"%s\" is not ADDRESS:PORT", server);
        return SLUICE_E_INVALID;
    }
    if (strlen(client_id) > CLIENT_ID_BYTES_MAX) {
        error_set("client_id: more than %d bytes", CLIENT_ID_BYTES_MAX);
        return SLUICE_E_INVALID;
    }
    strcpy(client->server, server);
    client->client_id = strdup(client_id);
    client->on_log = options->on_log;
    client->context = options->context;
    uint32_t hour_ms = 3600 * 1000;
    int status = client->client_id ? SLUICE_OK : SLUICE_E_NO_MEMORY;
    status |= default_u32(options->connect_timeout_ms, 10000, hour_ms, &client->connect_timeout_ms);
    status |= default_u32(options->request_timeout_ms, 30000, hour_ms, &client->request_timeout_ms);
    status |= default_u32(options->reconnect_backoff_ms, 50, hour_ms, &client->backoff_ms);
    status |=
        default_u32(options->reconnect_backoff_max_ms, 1000, hour_ms, &client->backoff_max_ms);
    if (client->backoff_max_ms < client->backoff_ms)
        client->backoff_max_ms = client->backoff_ms;
    if (!client->client_id)
        return SLUICE_E_NO_MEMORY;
    return status == SLUICE_OK ? SLUICE_OK : SLUICE_E_INVALID;
}

static int default_u32(uint32_t value, uint32_t otherwise, uint32_t max, uint32_t *out)
{
    *out = value > 0 ? value : otherwise;
    if (value <= max)
        return SLUICE_OK;
    error_set("a time of %u ms, allowed up to %u", value, max);
    return SLUICE_E_INVALID;
}

/* The I/O belongs to the thread that polls it, so that thread makes it and says how that went. */
static int start_thread(struct sluice_client *client)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&client->thread, NULL, run, client);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed)
        return SLUICE_E_NO_MEMORY;
    pthread_mutex_lock(&client->mutex);
    while (!client->started)
        client_cond_wait(&client->changed, &client->mutex, UINT64_MAX);
    int status = client->start_status;
    pthread_mutex_unlock(&client->mutex);
    if (status != SLUICE_OK)
        pthread_join(client->thread, NULL);
    return status;
}

/* After the thread's end: whoever told it to stop may still have been waking it until now. */
static void release(struct sluice_client *client)
{
    if (client->io)
        io_free(client->io);
    ring_mpsc_free(client->commands);
    if (client->connection.in)
        connection_deinit(&client->connection);
    pthread_cond_destroy(&client->changed);
    pthread_mutex_destroy(&client->mutex);
    free(client->client_id);
    free(client);
}

/* ---- the I/O thread ---- */

static void *run(void *argument)
{
    struct sluice_client *client = argument;
    atomic_store(&client->io_thread, pthread_self());
    int status = client->open_io(&client->io);
    pthread_mutex_lock(&client->mutex);
    client->started = true;
    client->start_status = status;
    pthread_cond_broadcast(&client->changed);
    pthread_mutex_unlock(&client->mutex);
    if (status != SLUICE_OK)
        return NULL;
    read_clock(client);
    while (!client->stopping || client->connection.state != CONNECTION_DOWN)
        turn(client);
    calls_end(client, SLUICE_E_CLOSED);
    return NULL;
}

static int open_io(struct io **io)
{
    struct io_options options = {.backend = IO_BACKEND_AUTO, .ops_max = OPS_MAX, .file_threads = 1};
    const char *wanted = getenv("SLUICE_CLIENT_IO");
    if (wanted && strcmp(wanted, "epoll") == 0)
        options.backend = IO_BACKEND_EPOLL;
    else if (wanted && strcmp(wanted, "uring") == 0)
        options.backend = IO_BACKEND_URING;
    /* A refused io_uring is no matter for a user's terminal: epoll does the same. */
    enum log_level level = log_get_level();
    log_set_level(LOG_LEVEL_ERROR);
    int status = io_new(&options, io);
    log_set_level(level);
    return error_from_status(status);
}

static void turn(struct sluice_client *client)
{
    take_commands(client);
    connection_turn(client);
    look_at_producers(client);
    calls_expire(client);
    uint64_t wake_ns = look_at_consumers(client);
    reports_run(client);
    reports_progress(client);
    sender_start(client);
    wake_ns = min_u64(wake_ns, connection_wake_ns(&client->connection));
    wake_ns = min_u64(wake_ns, calls_wake_ns(client));
    wake_ns = min_u64(wake_ns, client->producers_at_ns);
    if (producers_are_busy(client))
        wake_ns = min_u64(wake_ns, client->expire_at_ns);
    wait_for_events(client, wake_ns);
}

static void take_commands(struct sluice_client *client)
{
    struct command command;
    for (int i = 0; i < COMMANDS_PER_TURN && ring_mpsc_pop(client->commands, &command); i++)
        run_command(client, &command);
}

static void run_command(struct sluice_client *client, const struct command *command)
{
    switch (command->kind) {
    case COMMAND_CALL:
        calls_start(client, command->object);
        break;
    case COMMAND_PRODUCER_ADD:
        producer_add(command->object);
        break;
    case COMMAND_PRODUCER_REMOVE:
        producer_remove(command->object);
        break;
    case COMMAND_PRODUCER_HURRY:
        inflight_hurry(command->object);
        break;
    case COMMAND_LANE_READY:
        inflight_lane_ready(command->object);
        break;
    case COMMAND_TXN_END:
        txn_end_begin(command->object);
        break;
    case COMMAND_TXN_DROP:
        txn_drop(command->object);
        break;
    case COMMAND_TXN_CLEAR:
        txn_clear(command->object);
        break;
    case COMMAND_TXN_RENEW:
        identity_renew(command->object, false);
        identity_turn(command->object);
        break;
    case COMMAND_CONSUMER_ADD:
        consumer_add(command->object);
        break;
    case COMMAND_CONSUMER_REMOVE:
        consumer_remove(command->object);
        break;
    case COMMAND_CONSUMER_CHANGED:
        break; // each turn looks at the consumers
    case COMMAND_STOP:
        client->stopping = true;
        calls_end(client, SLUICE_E_CLOSED);
        connection_close(client, "the client is being freed");
        break;
    }
}

static void look_at_producers(struct sluice_client *client)
{
    bool expire = client->now_ns >= client->expire_at_ns;
    if (!expire && client->now_ns < client->producers_at_ns)
        return;
    client->producers_at_ns = UINT64_MAX;
    if (expire)
        client->expire_at_ns = client->now_ns + EXPIRE_INTERVAL_NS;
    LIST_EACH(link, &client->producers)
    {
        struct sluice_producer *producer = CONTAINER_OF(link, struct sluice_producer, link);
        if (expire)
            inflight_expire(producer);
        uint64_t wake_ns = producer_turn(producer);
        client->producers_at_ns = min_u64(client->producers_at_ns, wake_ns);
    }
}

static uint64_t look_at_consumers(struct sluice_client *client)
{
    uint64_t wake_ns = UINT64_MAX;
    LIST_EACH(link, &client->consumers)
    {
        struct sluice_consumer *consumer = CONTAINER_OF(link, struct sluice_consumer, link);
        wake_ns = min_u64(wake_ns, consumer_turn(consumer)); // it may be gone afterwards
    }
    return wake_ns;
}

/* io_prepare_wait() before the last look at the ring, and io_sleeping() behind a sender's push: one of
 * the two sees the other, so nothing is slept over. */
static void wait_for_events(struct sluice_client *client, uint64_t wake_ns)
{
    bool busy = producers_are_busy(client);
    if (busy)
        wake_ns = min_u64(wake_ns, client->now_ns + TICK_NS);
    bool ended = client->stopping && client->connection.state == CONNECTION_DOWN;
    bool now = ended || wake_ns <= client->now_ns || !list_is_empty(&client->reports);
    io_prepare_wait(client->io);
    if (now || !ring_mpsc_is_empty(client->commands)) {
        io_poll(client->io, 0);
    } else {
        if (!busy)
            stop_ticking(client);
        uint64_t timeout_ns = wake_ns == UINT64_MAX ? UINT64_MAX : wake_ns - client->now_ns;
        io_poll(client->io, timeout_ns);
    }
    atomic_store_explicit(&client->wake_pending, 0, memory_order_relaxed);
    read_clock(client);
}

/* Records are on their way, so more are likely: the clock that senders read goes on. */
static bool producers_are_busy(struct sluice_client *client)
{
    LIST_EACH(link, &client->producers)
    {
        if (!list_is_empty(&CONTAINER_OF(link, struct sluice_producer, link)->active))
            return true;
    }
    return false;
}

static void stop_ticking(struct sluice_client *client)
{
    atomic_store_explicit(&client->ticked_mono_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&client->ticked_wall_ms, 0, memory_order_relaxed);
}

static void read_clock(struct sluice_client *client)
{
    client->now_ns = clock_mono_ns(client->clock);
    atomic_store_explicit(&client->ticked_mono_ns, client->now_ns, memory_order_relaxed);
    atomic_store_explicit(&client->ticked_wall_ms, clock_wall_ms(client->clock),
                          memory_order_relaxed);
}

/* ---- what the parts tell each other ---- */

void client_connection_up(struct sluice_client *client)
{
    calls_connected(client);
    LIST_EACH(link, &client->producers)
    inflight_connected(CONTAINER_OF(link, struct sluice_producer, link));
    LIST_EACH(link, &client->consumers)
    consumer_connected(CONTAINER_OF(link, struct sluice_consumer, link));
}

void client_connection_lost(struct sluice_client *client)
{
    lose_publishes(client);
    calls_lost(client);
    LIST_EACH(link, &client->consumers)
    consumer_lost(CONTAINER_OF(link, struct sluice_consumer, link));
}

static void lose_publishes(struct sluice_client *client)
{
    struct connection *connection = &client->connection;
    struct publishes *publishes = &connection->publishes;
    if (connection->next_parcel)
        inflight_put_back(TAKE(connection->next_parcel));
    for (uint64_t number = publishes->oldest; number < publishes->next; number++) {
        struct publish *publish = publishes_find(publishes, number);
        struct parcel *parcel = publish ? TAKE(publish->first) : NULL;
        while (parcel) {
            struct parcel *next = parcel->publish_next;
            if (parcel->lane)
                inflight_lost(parcel);
            else
                publishes_free_ghost(parcel);
            parcel = next;
        }
    }
    publishes_reset(publishes);
}

void client_producers_at(struct sluice_client *client, uint64_t wake_ns)
{
    client->producers_at_ns = min_u64(client->producers_at_ns, wake_ns);
}

void client_command(struct sluice_client *client, enum command_kind kind, void *object)
{
    struct command command = {.kind = kind, .object = object};
    if (client_is_io_thread(client)) {
        run_command(client, &command);
        return;
    }
    while (!ring_mpsc_push(client->commands, &command)) {
        io_wake(client->io, NULL);
        sched_yield();
    }
    if (io_sleeping(client->io) && atomic_exchange(&client->wake_pending, 1) == 0)
        io_wake(client->io, NULL);
}

bool client_is_io_thread(const struct sluice_client *client)
{
    return pthread_equal(atomic_load_explicit(&client->io_thread, memory_order_relaxed),
                         pthread_self());
}

uint64_t client_now_ns(struct sluice_client *client)
{
    uint64_t ticked = atomic_load_explicit(&client->ticked_mono_ns, memory_order_relaxed);
    return ticked ? ticked : clock_mono_ns(client->clock);
}

void client_log(struct sluice_client *client, const char *format, ...)
{
    if (!client->on_log)
        return;
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    client->on_log(client->context, line);
}

void client_set_connect_status(struct sluice_client *client, int status)
{
    pthread_mutex_lock(&client->mutex);
    client->connect_status = status;
    pthread_cond_broadcast(&client->changed);
    pthread_mutex_unlock(&client->mutex);
}

void client_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
}

bool client_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, uint64_t deadline_ns)
{
    if (deadline_ns == UINT64_MAX)
        return pthread_cond_wait(cond, mutex) == 0;
    struct timespec deadline = {.tv_sec = (time_t)(deadline_ns / NS_PER_S),
                                .tv_nsec = (long)(deadline_ns % NS_PER_S)};
    return pthread_cond_timedwait(cond, mutex, &deadline) == 0;
}

bool client_sleep(struct sluice_client *client, uint64_t wait_ns, uint64_t deadline_ns)
{
    ASSERT(!client_is_io_thread(client));
    uint64_t until_ns = clock_mono_ns(client->clock) + wait_ns;
    if (until_ns >= deadline_ns)
        return false;
    pthread_mutex_lock(&client->mutex);
    while (client_cond_wait(&client->changed, &client->mutex, until_ns))
        continue;
    pthread_mutex_unlock(&client->mutex);
    return true;
}

uint64_t client_deadline(struct sluice_client *client, uint32_t timeout_ms)
{
    if (timeout_ms == UINT32_MAX)
        return UINT64_MAX;
    return clock_mono_ns(client->clock) + timeout_ms * NS_PER_MS;
}
