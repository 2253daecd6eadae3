/* The table of connections: opening, ending, deadlines, and the connections' part of a core's turn.
 *
 * Happy path of a life: conn_open(), HELLO, frames, the peer closes, conn_end() lets what is owed
 * leave, conn_close(), the last operation completes, the slot is free. It ends early when a frame
 * is not acceptable (conn_fail(): error frame, linger), when a deadline passes, or when a send or
 * receive fails (conn_close()). */
#include "broker/conn.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "broker/broker.h"

static void init_lists(struct conns *conns);
static void opened(struct conn *conn);
static void linger(struct conn *conn);
static void discard_input(struct conn *conn);
static void linger_done(struct io_op *op);
static void try_free(struct conn *conn);
static void close_done(struct io_op *op);
static bool tell_shards(struct conn *conn);
static int send_unsent(struct conns *conns);
static int turn_connections(struct conns *conns);
static int retry_waiting(struct conns *conns);
static bool is_untried(const struct conns *conns);
static int evict_drips(struct conns *conns);
static int evict_unread(struct conns *conns);
static int tell_goaway(struct conns *conns);
static int expire(struct conns *conns);
static void time_out(struct conn *conn, const char *why);
static void turn(struct conn *conn);

#define WAITING_TRIES_MAX 32 // per turn: each costs a look at its frame
#define GOAWAY_PER_TURN 64
#define EVICT_LOOKS_MAX 1024 // per turn
#define PRESSURE_LOOK_NS (100 * NS_PER_MS)

static const uint64_t deadline_ns[CONN_DEADLINE_COUNT] = {
    [CONN_DEADLINE_HELLO] = HELLO_DEADLINE_NS,
    [CONN_DEADLINE_FRAME] = FRAME_DEADLINE_NS,
    [CONN_DEADLINE_ANSWER] = ANSWER_DEADLINE_NS,
    [CONN_DEADLINE_LINGER] = LINGER_DEADLINE_NS,
};

/* ---- the table ---- */

int conns_init(struct conns *conns, struct core *core, uint32_t slot_count)
{
    conns->core = core;
    conns->slot_count = slot_count;
    init_lists(conns);
    conns->slots = calloc(slot_count, sizeof(*conns->slots));
    if (!conns->slots)
        return E_NO_MEMORY;
    int status = pool_init_heap(&conns->subscriptions, SUBSCRIPTIONS_PER_CORE,
                                conn_subscription_bytes(core->broker->shard_count));
    if (status != 0) {
        free(TAKE(conns->slots));
        return status;
    }
    for (uint32_t i = 0; i < slot_count; i++) {
        struct conn *conn = &conns->slots[i];
        conn->core = core;
        conn->fd = -1;
        conn->id = (struct conn_id){.core = core->index, .slot = i};
        list_push_back(&conns->free, &conn->free_link);
    }
    return 0;
}

void conns_deinit(struct conns *conns)
{
    ASSERT(conns->open_count == 0);
    if (conns->subscriptions.objects)
        pool_deinit_heap(&conns->subscriptions);
    free(TAKE(conns->slots));
}

size_t conns_bytes(uint32_t slot_count, uint16_t shard_count)
{
    return (size_t)slot_count * sizeof(struct conn) +
           SUBSCRIPTIONS_PER_CORE * conn_subscription_bytes(shard_count);
}

static void init_lists(struct conns *conns)
{
    list_init(&conns->free);
    list_init(&conns->turns);
    list_init(&conns->waiting);
    list_init(&conns->sends);
    list_init(&conns->farewells);
    list_init(&conns->unsent);
    for (int i = 0; i < CONN_DEADLINE_COUNT; i++)
        list_init(&conns->phases[i]);
}

struct conn *conn_find(struct conns *conns, struct conn_id id)
{
    ASSERT(id.core == conns->core->index && id.slot < conns->slot_count);
    struct conn *conn = &conns->slots[id.slot];
    bool lives =
        conn->id.life == id.life && conn->phase != CONN_FREE && conn->phase != CONN_CLOSING;
    return lives ? conn : NULL;
}

/* ---- opening ---- */

void conn_open(struct conns *conns, int fd, bool refuse)
{
    struct list *node = list_pop_front(&conns->free);
    ASSERT(node && fd >= 0); // the acceptor counts
    struct conn *conn = CONTAINER_OF(node, struct conn, free_link);
    struct conn_id id = conn->id;
    id.life++;
    memset(conn, 0, sizeof(*conn));
    conn->core = conns->core;
    conn->id = id;
    conn->fd = fd;
    conn->refused = refuse;
    conn->publish_next = 1;
    opened(conn);
    if (refuse)
        (void)conn_fail(conn, PE_LIMIT_REACHED, OP_HELLO, 0, "connections_max is reached");
    else
        conn_read(conn);
}

static void opened(struct conn *conn)
{
    struct core *core = conn->core;
    list_init(&conn->free_link);
    list_init(&conn->turn_link);
    list_init(&conn->wait_link);
    list_init(&conn->phase_link);
    list_init(&conn->send_link);
    list_init(&conn->acks);
    list_init(&conn->answers);
    list_init(&conn->subscriptions);
    list_init(&conn->deliveries);
    conn->phase = CONN_HELLO;
    core->conns.open_count++;
    counter_add(&core->counters.connections_opened_total, 1);
    address_tune_socket(conn->fd);
    conn_deadline_start(conn, CONN_DEADLINE_HELLO);
}

/* ---- ending ---- */

static void log_end(const struct conn *conn, const char *event)
{
    char peer[ADDRESS_TEXT_MAX] = "unknown";
    struct address address;
    if (log_get_level() > LOG_LEVEL_DEBUG)
        return;
    if (address_of_peer(conn->fd, &address) == 0)
        address_format(&address, peer);
    LOG_DEBUG(event, LOG_STR("peer", peer), LOG_STR("why", conn->why));
}

enum conn_step conn_fail(struct conn *conn, uint16_t error, uint16_t op, uint64_t correlation,
                         const char *text)
{
    char peer[ADDRESS_TEXT_MAX] = "unknown";
    struct address address;
    if (address_of_peer(conn->fd, &address) == 0)
        address_format(&address, peer);
    if (text == NULL || *text == '\0')
        text = proto_error_text(error);
    if (error == PE_LIMIT_REACHED) {
        LOG_WARN("conn.refused", LOG_STR("peer", peer), LOG_STR("why", text));
    } else {
        LOG_WARN("conn.failed", LOG_STR("peer", peer), LOG_STR("error", proto_error_name(error)),
                 LOG_STR("op", op_name(op)), LOG_STR("why", text));
        counter_add(&conn->core->counters.connections_malformed_total, 1);
    }
    (void)conn_send_error(conn, op, correlation, error, text); // without a buffer: just the end
    conn_end(conn, proto_error_name(error));                   // text is the caller's
    return CONN_ENDS;
}

void conn_end(struct conn *conn, const char *why)
{
    if (conn->phase != CONN_HELLO && conn->phase != CONN_OPEN)
        return;
    conn->phase = CONN_ENDING;
    conn->why = why;
    conn_deadline_stop(conn);
    list_remove(&conn->wait_link);
    conn_wants_turn(conn);
}

void conn_close(struct conn *conn, const char *why)
{
    if (conn->phase == CONN_CLOSING)
        return;
    ASSERT(conn->phase != CONN_FREE && !conn->run);
    struct conns *conns = &conn->core->conns;
    conn->why = conn->why ? conn->why : why;
    log_end(conn, "conn.closed");
    conn->phase = CONN_CLOSING;
    conn_deadline_stop(conn);
    list_remove(&conn->turn_link);
    list_remove(&conn->wait_link);
    list_remove(&conn->send_link);
    conn_drop_answers(conn);
    conn_subscriptions_clear(conn);
    if (!io_op_is_active(&conn->send_op))
        conn_drop_sends(conn);
    if (!io_op_is_active(&conn->recv_op) && conn->buffer)
        conn_unpin(conn, TAKE(conn->buffer));
    list_push_back(&conns->farewells, &conn->turn_link);
    io_cancel(conn->core->io, &conn->recv_op);
    io_cancel(conn->core->io, &conn->send_op);
    try_free(conn);
}

/* Everything is out: our side ends, the peer's end is awaited, so that nothing resets what it still
 * has to read. */
static void linger(struct conn *conn)
{
    ASSERT(conn->phase == CONN_ENDING);
    if (conn->at_end) {
        conn_close(conn, "the peer closed");
        return;
    }
    conn->phase = CONN_LINGERING;
    address_end_sending(conn->fd);
    conn_deadline_start(conn, CONN_DEADLINE_LINGER);
    if (io_op_is_active(&conn->recv_op))
        io_cancel(conn->core->io, &conn->recv_op); // goes on in conn_recv_ended()
    else
        discard_input(conn);
}

/* A receive that was in flight when the connection began to end has come back. */
void conn_recv_ended(struct conn *conn)
{
    if (conn->phase == CONN_ENDING) {
        conn->at_end = conn->at_end || conn->recv_op.result == 0;
        conn_wants_turn(conn);
    } else if (conn->phase == CONN_LINGERING) {
        discard_input(conn);
    } else {
        try_free(conn);
    }
}

void conn_send_ended(struct conn *conn)
{
    try_free(conn);
}

static void discard_input(struct conn *conn)
{
    struct conns *conns = &conn->core->conns;
    if (conn->buffer)
        conn_unpin(conn, TAKE(conn->buffer));
    io_recv(conn->core->io, &conn->recv_op, conn->fd, conns->discard, sizeof(conns->discard),
            linger_done);
}

static void linger_done(struct io_op *op)
{
    struct conn *conn = CONTAINER_OF(op, struct conn, recv_op);
    if (conn->phase == CONN_LINGERING && op->result > 0)
        discard_input(conn);
    else if (conn->phase == CONN_LINGERING)
        conn_close(conn, "the peer closed");
    else
        try_free(conn);
}

/* Called whenever one of the things that a closing connection waits for has happened. */
static void try_free(struct conn *conn)
{
    if (conn->phase != CONN_CLOSING || io_op_is_active(&conn->recv_op) ||
        io_op_is_active(&conn->send_op))
        return;
    conn_drop_sends(conn);
    if (conn->buffer)
        conn_unpin(conn, TAKE(conn->buffer));
    if (conn->fd >= 0) {
        int fd = conn->fd;
        conn->fd = -1;
        io_close(conn->core->io, &conn->recv_op, fd, close_done);
        return;
    }
    if (!tell_shards(conn))
        return; // turn_connections() tries again
    struct core *core = conn->core;
    list_remove(&conn->turn_link);
    conn->phase = CONN_FREE;
    core->conns.open_count--;
    counter_add(&core->counters.connections_closed_total, 1);
    list_push_front(&core->conns.free, &conn->free_link);
    if (conn->refused)
        acceptor_on_refused(&core->acceptor);
    else
        atomic_fetch_sub_explicit(&core->conn_count, 1, memory_order_relaxed);
}

static void close_done(struct io_op *op)
{
    try_free(CONTAINER_OF(op, struct conn, recv_op));
}

/* Each shard that may have cursors for this connection must hear of its end. */
static bool tell_shards(struct conn *conn)
{
    struct core *core = conn->core;
    while (conn->shards_told != 0) {
        struct request *request =
            request_acquire(&core->requests, REQUEST_CONN_CLOSED, core->index);
        if (!request)
            return false;
        request->shard = (uint16_t)__builtin_ctzll(conn->shards_told);
        request->target_core = core->broker->shard_core[request->shard];
        request->conn = conn->id;
        core_send(core, request);
        conn->shards_told &= conn->shards_told - 1;
    }
    return true;
}

void conn_shards_tell(struct conn *conn, uint64_t shards)
{
    conn->shards_told |= shards;
}

/* ---- deadlines ---- */

void conn_deadline_start(struct conn *conn, enum conn_deadline deadline)
{
    list_remove(&conn->phase_link);
    conn->phase_since_ns = conn->core->now_ns;
    list_push_back(&conn->core->conns.phases[deadline], &conn->phase_link);
}

void conn_deadline_stop(struct conn *conn)
{
    list_remove(&conn->phase_link);
}

static uint64_t first_due(const struct list *list, uint64_t duration_ns)
{
    if (list_is_empty(list))
        return UINT64_MAX;
    return CONTAINER_OF(list->next, struct conn, phase_link)->phase_since_ns + duration_ns;
}

uint64_t conns_deadline_ns(const struct conns *conns)
{
    uint64_t due = UINT64_MAX;
    for (int i = 0; i < CONN_DEADLINE_COUNT; i++)
        due = min_u64(due, first_due(&conns->phases[i], deadline_ns[i]));
    if (!list_is_empty(&conns->sends)) {
        uint64_t since_ns = CONTAINER_OF(conns->sends.next, struct conn, send_link)->send_since_ns;
        uint64_t look_ns = max_u64(since_ns + SEND_PRESSURE_NS, conns->core->now_ns + SEND_LOOK_NS);
        due = min_u64(due, min_u64(since_ns + SEND_DEADLINE_NS, look_ns));
    }
    if (conns->draining && conns->goaway_next < conns->slot_count)
        due = min_u64(due, conns->core->now_ns + NS_PER_MS); // no buffer for it: soon again
    if (conns->buffers_missed)
        due = min_u64(due, conns->core->now_ns + PRESSURE_LOOK_NS);
    return !list_is_empty(&conns->turns) || conns->retry ? 0 : due;
}

/* Who was closed by us is told why by the log only, so that it is there at the usual level. */
static void time_out(struct conn *conn, const char *why)
{
    char peer[ADDRESS_TEXT_MAX] = "unknown";
    struct address address;
    if (address_of_peer(conn->fd, &address) == 0)
        address_format(&address, peer);
    if (conn->phase != CONN_LINGERING) // which had its line
        LOG_WARN("conn.timed_out", LOG_STR("peer", peer), LOG_STR("why", why));
    counter_add(&conn->core->counters.connections_timed_out_total, 1);
    conn_close(conn, why);
}

/* Nothing is read of it, and its peer is still there: as long as that is so it may wait. */
static bool waits_with_us(const struct conn *conn)
{
    return conn->phase == CONN_OPEN && conn->is_unread && !address_peer_has_ended(conn->fd);
}

/* The heads of the lists: each list has one duration, so what is behind the first that is not due
 * isn't. */
static int expire(struct conns *conns)
{
    static const char *const whys[CONN_DEADLINE_COUNT] = {
        [CONN_DEADLINE_HELLO] = "no HELLO within 10 s",
        [CONN_DEADLINE_FRAME] = "a frame took more than 30 s to arrive",
        [CONN_DEADLINE_ANSWER] = "the peer closed, and its requests were not answered within 60 s",
        [CONN_DEADLINE_LINGER] = "the peer did not close within 2 s",
    };
    uint64_t now_ns = conns->core->now_ns;
    int count = 0;
    for (int i = 0; i < CONN_DEADLINE_COUNT; i++) {
        while (first_due(&conns->phases[i], deadline_ns[i]) <= now_ns) {
            struct conn *conn = CONTAINER_OF(conns->phases[i].next, struct conn, phase_link);
            if (waits_with_us(conn))
                conn_deadline_start(conn, CONN_DEADLINE_ANSWER);
            else
                time_out(conn, whys[i]);
            count++;
        }
    }
    while (!list_is_empty(&conns->sends)) {
        struct conn *conn = CONTAINER_OF(conns->sends.next, struct conn, send_link);
        if (conn->send_since_ns + SEND_DEADLINE_NS > now_ns)
            break;
        time_out(conn, "the peer did not read for 30 s");
        count++;
    }
    return count;
}

/* ---- the turn ---- */

void conn_wants_turn(struct conn *conn)
{
    if (!list_is_linked(&conn->turn_link) && conn->phase != CONN_CLOSING)
        list_push_back(&conn->core->conns.turns, &conn->turn_link);
}

void conn_waits(struct conn *conn)
{
    struct core *core = conn->core;
    core->conns.buffers_missed |= core->buffers.missed;
    core->buffers.missed = false;
    if (list_is_linked(&conn->wait_link))
        return;
    conn_watch_peer(conn);
    conn->wait_round = core->conns.round; // so they stand in the order of rounds
    list_push_back(&core->conns.waiting, &conn->wait_link);
}

int conns_turn(struct conns *conns)
{
    int work = send_unsent(conns);
    work += turn_connections(conns);
    work += retry_waiting(conns);
    work += evict_drips(conns);
    work += evict_unread(conns);
    if (conns->draining)
        work += tell_goaway(conns);
    work += expire(conns);
    return work;
}

static int send_unsent(struct conns *conns)
{
    int count = 0;
    for (struct list *node; (node = list_pop_front(&conns->unsent)); count++) {
        struct request *request = CONTAINER_OF(node, struct request, link);
        if (mailbox_send(&conns->core->mailbox, request) != 0) {
            list_push_front(&conns->unsent, &request->link);
            break;
        }
    }
    return count;
}

static int turn_connections(struct conns *conns)
{
    struct list round; // what a connection adds for itself waits for the next turn
    int count = 0;
    list_init(&round);
    for (struct list *node; (node = list_pop_front(&conns->turns)); count++)
        list_push_back(&round, node);
    for (struct list *node; (node = list_pop_front(&round));)
        turn(CONTAINER_OF(node, struct conn, turn_link));
    LIST_EACH(node, &conns->farewells)
    try_free(CONTAINER_OF(node, struct conn, turn_link));
    return count;
}

static void turn(struct conn *conn)
{
    if (!conn_flush(conn))
        conn_waits(conn);
    conn_send(conn);
    if (conn->phase == CONN_HELLO || conn->phase == CONN_OPEN) {
        if (!list_is_linked(&conn->wait_link))
            conn_resume(conn);
    } else if (conn->phase == CONN_ENDING && !conn_is_sending(conn) && list_is_empty(&conn->acks) &&
               list_is_empty(&conn->answers)) {
        if (!conn->at_end || conn->requests == 0)
            linger(conn);
        else if (!list_is_linked(&conn->phase_link))
            conn_deadline_start(conn, CONN_DEADLINE_ANSWER);
    }
}

/* Whenever something was given back, everyone gets one try, over as many turns as that takes: who could go on may stand
 * behind many that can't. Who fails again goes to the end. */
static int retry_waiting(struct conns *conns)
{
    uint64_t freed = conns->core->buffers.freed + conns->core->replies;
    conns->round += freed != conns->freed_seen;
    conns->freed_seen = freed;
    int count = 0;
    for (int tries = 0; tries < WAITING_TRIES_MAX && is_untried(conns); tries++) {
        struct conn *conn = CONTAINER_OF(list_pop_front(&conns->waiting), struct conn, wait_link);
        turn(conn);
        count += !list_is_linked(&conn->wait_link);
    }
    conns->retry = is_untried(conns);
    return count;
}

/* The head of those that wait has not had its try in this round; then who was tried longer ago hasn't, either. */
static bool is_untried(const struct conns *conns)
{
    return !list_is_empty(&conns->waiting) &&
           CONTAINER_OF(conns->waiting.next, struct conn, wait_link)->wait_round != conns->round;
}

/* While others wait for buffers, one that is held by a frame in drips is taken away: its connection
 * is closed after a second, and a second more for each MiB of the frame. */
static int evict_drips(struct conns *conns)
{
    static const enum conn_deadline lists[] = {CONN_DEADLINE_FRAME, CONN_DEADLINE_HELLO};
    uint64_t now_ns = conns->core->now_ns;
    int count = 0;
    if (list_is_empty(&conns->waiting))
        conns->buffers_missed = conns->core->buffers.missed = false;
    for (size_t i = 0; i < ARRAY_COUNT(lists) && conns->buffers_missed; i++) {
        int left = EVICT_LOOKS_MAX;
        LIST_EACH(node, &conns->phases[lists[i]])
        {
            struct conn *conn = CONTAINER_OF(node, struct conn, phase_link);
            uint64_t allowed_ns = FRAME_PRESSURE_NS + (uint64_t)conn->frame_bytes * NS_PER_S /
                                                          FRAME_PRESSURE_BYTES_PER_S;
            if (left-- == 0 || conn->phase_since_ns + FRAME_PRESSURE_NS > now_ns)
                break;
            if (!conn->buffer || conn->phase_since_ns + allowed_ns > now_ns)
                continue;
            time_out(conn, "a frame came in drips while others waited for a buffer");
            count++;
        }
    }
    return count;
}

static bool readers_wait(const struct broker *broker)
{
    bool wait = false;
    for (uint16_t i = 0; i < broker->shard_count; i++)
        wait |= atomic_load_explicit(&broker->shards[i].readers_wait, memory_order_relaxed);
    return wait;
}

/* Likewise a peer that reads nothing of what fills buffers: those of this core while connections wait for one, those of
 * any shard while its readers do. Without it, a few peers that never read would stop all other readers for 30 s. */
static int evict_unread(struct conns *conns)
{
    uint64_t now_ns = conns->core->now_ns;
    int count = 0, pressed = -1; // not looked at yet
    LIST_EACH(node, &conns->sends)
    {
        struct conn *conn = CONTAINER_OF(node, struct conn, send_link);
        if (conn->send_since_ns + SEND_PRESSURE_NS > now_ns)
            break;
        if (pressed < 0)
            pressed = conns->buffers_missed || readers_wait(conns->core->broker);
        if (!pressed)
            break;
        if (!conns->buffers_missed && !conn->sending && list_is_empty(&conn->deliveries))
            continue; // what it holds is small
        time_out(conn, "the peer did not read while others waited for a buffer");
        count++;
    }
    return count;
}

/* ---- draining ---- */

void conns_drain(struct conns *conns)
{
    conns->draining = true;
    conns->goaway_next = 0;
}

/* In slices, and only as fast as there are buffers: 12,000 connections are not told at once. */
static int tell_goaway(struct conns *conns)
{
    struct core *core = conns->core;
    uint64_t left_ns =
        core->drain_deadline_ns > core->now_ns ? core->drain_deadline_ns - core->now_ns : 0;
    int count = 0;
    for (; conns->goaway_next < conns->slot_count && count < GOAWAY_PER_TURN;
         conns->goaway_next++) {
        struct conn *conn = &conns->slots[conns->goaway_next];
        if (conn->phase != CONN_OPEN || conn->goaway_told)
            continue;
        if (!conn_send_goaway(conn, (uint32_t)(left_ns / NS_PER_MS)))
            break;
        conn->goaway_told = true;
        conn_wants_turn(conn);
        count++;
    }
    return count;
}

bool conns_are_quiet(const struct conns *conns)
{
    if (conns->goaway_next < conns->slot_count)
        return false;
    for (uint32_t i = 0; i < conns->slot_count; i++) {
        const struct conn *conn = &conns->slots[i];
        bool is_open = conn->phase == CONN_OPEN || conn->phase == CONN_ENDING;
        if (is_open && (conn->requests > 0 || conn->out_first))
            return false;
    }
    return true;
}

void conns_end_all(struct conns *conns)
{
    for (uint32_t i = 0; i < conns->slot_count; i++)
        conn_end(&conns->slots[i], "the broker stops");
}

void conns_close_all(struct conns *conns)
{
    for (uint32_t i = 0; i < conns->slot_count; i++) {
        struct conn *conn = &conns->slots[i];
        if (conn->phase != CONN_FREE && conn->phase != CONN_CLOSING)
            conn_close(conn, "the broker stops");
    }
}
