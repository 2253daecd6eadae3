/* A core: one pinned thread with one io, its connections, and the shards placed on it.
 *
 * core_turn() is the duty cycle; its lines are the stages, each bounded:
 *
 *     mailbox_drain()   requests for our shards, answers for our connections, orders from main
 *     shard_step()      for each shard
 *     conns_turn()      acks, sends, connections that waited, deadlines
 *     mailbox_flush()   wakes the cores that got something and sleep
 *     io_poll()         submits, sleeps if there was nothing to do, runs completions
 *
 * Life of a core's thread (state: who moves it):
 *
 *     STARTING -> OPEN      its shards are recovered                   core
 *     OPEN     -> SERVING   main has checked the store as a whole      INBOX_START
 *     SERVING  -> DRAINING  SIGTERM: no new work                       INBOX_DRAIN
 *     DRAINING -> DRAINED   nothing is under way on this core          core
 *     any      -> STOPPED   clean ends written, connections closed     INBOX_EXIT
 *     any      -> FAILED    start-up failed, or a shard's log did      core */
#ifndef SLUICE_BROKER_CORE_H
#define SLUICE_BROKER_CORE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/counters.h"
#include "base/random.h"
#include "broker/acceptor.h"
#include "broker/buffer.h"
#include "broker/conn.h"
#include "broker/mailbox.h"
#include "broker/shard.h"

struct broker;

enum core_state {
    CORE_STARTING,
    CORE_OPEN,
    CORE_SERVING,
    CORE_DRAINING,
    CORE_DRAINED,
    CORE_STOPPED,
    CORE_FAILED,
};

struct core_counters { // written by the core, read by HTTP and STATUS
#define CORE_COUNTER(name, help) counter name;
#include "broker/core_counters.def"
#undef CORE_COUNTER
};

struct core {
    /* ---- constant while the thread runs ---- */
    struct broker *broker;
    uint16_t index;
    pthread_t thread;
    struct io *io;
    struct arena arena;
    struct shard *shards[SHARDS_MAX]; // by place on this core
    uint16_t shard_count;

    /* ---- this core ---- */
    _Alignas(CACHE_LINE) uint64_t now_ns; // of this turn
    uint64_t now_wall_ms;                 // steady: see base/clock.h
    struct steady_wall wall;
    struct mailbox mailbox;
    struct buffers buffers;
    struct pool requests;
    struct conns conns;
    struct acceptor acceptor; // core 0 only
    struct random random;
    uint64_t replies;             // ever: with buffers.freed, what those who wait look at
    uint64_t drain_deadline_ns;   // DRAINING: until when answers are waited for
    uint64_t exit_deadline_ns;    // until when clean ends may take
    uint64_t metrics_deadline_ns; // when the shards' figures are published next
    bool metrics_stale;
    bool is_stopping;

    /* ---- read by other threads ---- */
    _Alignas(CACHE_LINE) _Atomic uint32_t state; // enum core_state
    _Atomic uint32_t conn_count; // raised by the acceptor when it hands a socket over, lowered here
    struct core_counters counters;
    counter buffers_free[BUFFER_CLASS_COUNT];
    counter requests_free;
    int start_status;     // FAILED: what shard_open() or io_new() said ...
    char start_text[600]; // ... and why
};

/* Starts the thread. Returns 0 or NO_MEMORY. Thread: main. */
MUST_USE int core_start(struct core *core, struct broker *broker, uint16_t index);
void core_join(struct core *core);

/* The parts of a core without thread and shards: io, memory, mailbox, table of connections. Thread:
 * the core's (also a test's). core_deinit() undoes it, also half-way. */
MUST_USE int core_init(struct core *core, struct broker *broker, uint16_t index);
void core_deinit(struct core *core);

/* One turn. Returns work done. Thread: the core's. */
int core_turn(struct core *core);

/* Sends a request, now or as soon as its mailbox has room: for what must not be lost. */
void core_send(struct core *core, struct request *request);

static inline enum core_state core_state(const struct core *core)
{
    return (enum core_state)atomic_load_explicit(&core->state, memory_order_acquire);
}

/* How this configuration opens a shard's store (place and io are the core's to fill in). */
void core_store_options(const struct config *config, struct store_options *options);

#endif
