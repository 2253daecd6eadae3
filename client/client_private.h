/* The client object and what its parts share: the I/O thread, its inbox, its clock.
 *
 * Everything below "I/O thread" belongs to that thread alone. The application's threads reach it by
 * one MPSC ring of commands (client_command()), each a pointer and what to do with it. */
#ifndef SLUICE_CLIENT_PRIVATE_H
#define SLUICE_CLIENT_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/address.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/list.h"
#include "base/random.h"
#include "base/ring_mpsc.h"
#include "client/connection.h"
#include "client/include/sluice.h"

#define CLIENT_ID_BYTES_MAX 255
#define COMMAND_SLOT_COUNT 16384u

enum command_kind {
    COMMAND_CALL,         // struct call: send it and wait for the reply
    COMMAND_PRODUCER_ADD, // struct sluice_producer
    COMMAND_PRODUCER_REMOVE,
    COMMAND_PRODUCER_HURRY, // nothing lingers any longer
    COMMAND_LANE_READY,     // struct lane: has something to send
    COMMAND_TXN_END,        // struct sluice_producer: ask when everything has its report
    COMMAND_TXN_DROP,       // struct sluice_producer: its transaction is to be aborted
    COMMAND_TXN_CLEAR,      // likewise: a new one is about to begin
    COMMAND_TXN_RENEW,      // likewise: it needs a new epoch
    COMMAND_CONSUMER_ADD,   // struct sluice_consumer
    COMMAND_CONSUMER_REMOVE,
    COMMAND_CONSUMER_CHANGED, // credit to give back, or another set of partitions
    COMMAND_STOP,
};

struct command {
    void *object;
    enum command_kind kind;
};

typedef int (*client_open_io_fn)(struct io **io); // returns a sluice_status

struct sluice_client {
    /* ---- constant after sluice_client_new() ---- */
    char *client_id;
    struct address address;
    char server[ADDRESS_TEXT_MAX];
    uint32_t connect_timeout_ms;
    uint32_t request_timeout_ms;
    uint32_t backoff_ms;
    uint32_t backoff_max_ms;
    void (*on_log)(void *context, const char *line);
    void *context;
    uint64_t refresh_interval_ns; // how often producers look whether their topics have changed
    client_open_io_fn open_io;
    struct clock *clock;
    struct io *io;
    struct ring_mpsc *commands;
    pthread_t thread;             // to be joined
    _Atomic(pthread_t) io_thread; // the same, as that thread itself says; 0: it has not begun
    uint8_t pad0[CACHE_LINE];

    /* ---- any thread ---- */
    _Atomic uint32_t wake_pending; // somebody is waking the I/O thread already
    pthread_mutex_t mutex; // guards the members up to the next ruler; and `changed` tells of them
    pthread_cond_t changed;
    bool started; // io and thread exist, or start_status says why not
    int start_status;
    int connect_status; // OK while up, else how the last attempt ended
    uint32_t producer_count, consumer_count;
    uint8_t pad1[CACHE_LINE];

    /* ---- written by the I/O thread, read by any ---- */
    _Atomic uint64_t
        ticked_mono_ns; // the clock at the beginning of this turn; 0: asleep, ask the clock
    _Atomic uint64_t ticked_wall_ms;
    _Atomic uint32_t record_bytes_max; // as the broker said; 0: not known yet
    _Atomic uint32_t batch_bytes_max;
    _Atomic uint32_t credit_min;
    uint8_t pad2[CACHE_LINE];

    /* ---- I/O thread ---- */
    bool stopping;
    uint64_t now_ns;      // the clock at the beginning of this turn
    uint64_t correlation; // last one given to a request; never reused in a client's life
    struct random random; // jitter
    struct connection connection;
    bool knows_store; // has been connected
    uint8_t store_id[16];
    struct list calls; // waiting to be sent, or for their replies
    struct list producers;
    struct list ready_producers; // by ready_link: have lanes that may have something to send
    struct list progressed;      // by progress_link: gave memory back or reported in this turn
    struct list reports;         // parcels whose result is known, to be reported in this turn
    struct list consumers;
    uint64_t producers_at_ns; // next inflight_turn() of anyone; 0: in this turn
    uint64_t expire_at_ns;    // next look at delivery timeouts
};

/* sluice_client_new() on another I/O than the system's; `open` is called on the I/O thread. */
int client_new_on(const struct sluice_client_options *options, client_open_io_fn open,
                  struct sluice_client **client);

/* Hands a command to the I/O thread and wakes it if it sleeps. Waits (yielding) while the inbox is
 * full. From the I/O thread itself the command is run at once. Thread: any. */
void client_command(struct sluice_client *client, enum command_kind kind, void *object);

bool client_is_io_thread(const struct sluice_client *client);

/* The clocks, cheap while the I/O thread is busy: then as of the beginning of its turn. Thread:
 * any. */
uint64_t client_now_ns(struct sluice_client *client);
static inline uint64_t client_wall_ms(struct sluice_client *client)
{
    uint64_t ticked = atomic_load_explicit(&client->ticked_wall_ms, memory_order_relaxed);
    return LIKELY(ticked) ? ticked : clock_wall_ms(client->clock);
}

/* Some producer wants its inflight_turn() at that time; 0: in this turn. Thread: I/O. */
void client_producers_at(struct sluice_client *client, uint64_t wake_ns);

/* What the connection tells everybody. Thread: I/O. */
void client_connection_up(struct sluice_client *client);
void client_connection_lost(struct sluice_client *client);

/* One line to the application's on_log. Thread: I/O. */
void client_log(struct sluice_client *client, const char *format, ...) PRINTF_LIKE(2, 3);

/* Tells sluice_client_wait() how the connection stands. Thread: I/O. */
void client_set_connect_status(struct sluice_client *client, int status);

/* A condition variable on the monotonic clock, and a wait on it up to a deadline (UINT64_MAX: no
 * limit). The wait returns false when the deadline has passed. */
void client_cond_init(pthread_cond_t *cond);
bool client_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, uint64_t deadline_ns);

/* Waits that long, but not on the I/O thread. False, at once: the deadline would pass. */
bool client_sleep(struct sluice_client *client, uint64_t wait_ns, uint64_t deadline_ns);

/* now + timeout_ms, not beyond the end of time. */
uint64_t client_deadline(struct sluice_client *client, uint32_t timeout_ms);

#endif
