/* Accepting and handing over. See acceptor.h for why one core does it for all. */
#include "broker/acceptor.h"

#include "base/log.h"
#include "base/plant.h"
#include "broker/broker.h"

static void accept_done(struct io_op *op);
static void timer_done(struct io_op *op);
static void close_done(struct io_op *op);
static void back_off(struct acceptor *acceptor);
static void go_on(struct acceptor *acceptor);
static bool place(struct acceptor *acceptor, int fd);
static struct core *emptiest_core(struct broker *broker, uint32_t *conn_count);
static bool hand_over(struct core *from, struct core *to, int fd);

void acceptor_init(struct acceptor *acceptor, struct core *core, int listen_fd)
{
    *acceptor = (struct acceptor){.core = core, .listen_fd = listen_fd, .pending_fd = -1};
}

void acceptor_start(struct acceptor *acceptor)
{
    if (acceptor->listen_fd >= 0)
        go_on(acceptor);
}

void acceptor_on_refused(struct acceptor *acceptor)
{
    ASSERT(acceptor->refusals > 0);
    acceptor->refusals--;
}

void acceptor_stop(struct acceptor *acceptor)
{
    struct io *io = acceptor->core->io;
    if (acceptor->is_stopping || acceptor->listen_fd < 0)
        return;
    acceptor->is_stopping = true;
    io_cancel(io, &acceptor->accept_op);
    io_cancel(io, &acceptor->timer_op);
    io_close(io, &acceptor->close_op, acceptor->listen_fd, close_done);
    acceptor->listen_fd = -1;
}

bool acceptor_is_quiet(const struct acceptor *acceptor)
{
    return acceptor->listen_fd < 0 && acceptor->pending_fd < 0 &&
           !io_op_is_active(&acceptor->accept_op) && !io_op_is_active(&acceptor->timer_op) &&
           !io_op_is_active(&acceptor->close_op);
}

/* ---- accepting ---- */

static void go_on(struct acceptor *acceptor)
{
    struct core *core = acceptor->core;
    if (acceptor->pending_fd >= 0) {
        if (!place(acceptor, acceptor->pending_fd)) {
            back_off(acceptor);
            return;
        }
        acceptor->pending_fd = -1;
    }
    if (!acceptor->is_stopping)
        io_accept(core->io, &acceptor->accept_op, acceptor->listen_fd, accept_done);
}

static void accept_done(struct io_op *op)
{
    struct acceptor *acceptor = CONTAINER_OF(op, struct acceptor, accept_op);
    struct core *core = acceptor->core;
    if (op->result >= 0) {
        acceptor->pending_fd = op->result;
        go_on(acceptor);
        return;
    }
    if (acceptor->is_stopping)
        return;
    /* EMFILE, ENFILE, ENOMEM ...: nothing that trying again at once would mend. */
    counter_add(&core->counters.accept_failures_total, 1);
    LOG_WARN("accept.failed", LOG_STATUS(op->result), LOG_I64("errno", op->os_error),
             LOG_U64("retry_ms", ACCEPT_BACKOFF_NS / NS_PER_MS));
    if (PLANTED(ACCEPT_GIVEN_UP))
        return;
    back_off(acceptor);
}

static void back_off(struct acceptor *acceptor)
{
    struct core *core = acceptor->core;
    io_timer(core->io, &acceptor->timer_op, core->now_ns + ACCEPT_BACKOFF_NS, timer_done);
}

static void timer_done(struct io_op *op)
{
    struct acceptor *acceptor = CONTAINER_OF(op, struct acceptor, timer_op);
    if (!acceptor->is_stopping || acceptor->pending_fd >= 0)
        go_on(acceptor);
}

static void close_done(struct io_op *op)
{
}

/* ---- handing over ---- */

/* False: not now. */
static bool place(struct acceptor *acceptor, int fd)
{
    struct core *core = acceptor->core;
    struct broker *broker = core->broker;
    uint32_t conn_count;
    struct core *target = emptiest_core(broker, &conn_count);
    if (conn_count >= broker->connections_max) {
        if (acceptor->refusals >= CONN_REFUSALS_MAX)
            return false; // enough are being told
        acceptor->refusals++;
        counter_add(&core->counters.connections_refused_total, 1);
        conn_open(&core->conns, fd, true);
        return true;
    }
    if (target != core && !hand_over(core, target, fd))
        return false;
    atomic_fetch_add_explicit(&target->conn_count, 1, memory_order_relaxed);
    if (target == core)
        conn_open(&core->conns, fd, false);
    return true;
}

/* Counted when handed over, so that a burst doesn't all go to the one core that was emptiest at its
 * begin. */
static struct core *emptiest_core(struct broker *broker, uint32_t *conn_count)
{
    struct core *emptiest = &broker->cores[0];
    uint32_t least = UINT32_MAX, sum = 0;
    for (uint16_t i = 0; i < broker->core_count; i++) {
        struct core *core = &broker->cores[i];
        uint32_t count = atomic_load_explicit(&core->conn_count, memory_order_relaxed);
        sum += count;
        if (count < least) {
            least = count;
            emptiest = core;
        }
    }
    *conn_count = sum;
    return emptiest;
}

static bool hand_over(struct core *from, struct core *to, int fd)
{
    struct request *request = request_acquire(&from->requests, REQUEST_CONN_OPEN, from->index);
    if (!request)
        return false;
    request->target_core = to->index;
    request->u.accepted.fd = fd;
    if (mailbox_send(&from->mailbox, request) == 0)
        return true;
    request_release(&from->requests, request);
    return false;
}
