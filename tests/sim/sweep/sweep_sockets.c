/* Each operation on a socket of the broker and of its client, failed once with each of the errors that a kernel may give it, and
 * a table of descriptors that stays full for a while. What is to be closed is closed whatever close() says (sweep_io.c). */
#include <errno.h>
#include <stdio.h>

#include "tests/sim/sweep/scenario.h"
#include "tests/sim/sweep/sweep.h"

#define KIND(kind) (1u << (kind))
#define ACCEPT KIND(IO_ACCEPT)
#define CONNECT KIND(IO_CONNECT)
#define READABLE KIND(IO_READABLE)
#define RECV KIND(IO_RECV)
#define SEND KIND(IO_SEND)
#define SOCKETS (ACCEPT | CONNECT | READABLE | RECV | SEND)

static const struct fault {
    const char *name;
    int error;
    uint32_t kinds; // that it fits
    bool is_sticky;
} faults[] = {
    {"ECANCELED", ECANCELED, SOCKETS, false},
    {"EAGAIN", EAGAIN, SOCKETS, false},
    {"ENOMEM", ENOMEM, ACCEPT | READABLE, false},
    {"ENOBUFS", ENOBUFS, ACCEPT | RECV | SEND, false},
    {"EMFILE", EMFILE, ACCEPT | CONNECT, false},
    {"ENFILE", ENFILE, ACCEPT, false},
    {"ECONNREFUSED", ECONNREFUSED, CONNECT, false},
    {"ENETUNREACH", ENETUNREACH, CONNECT, false},
    {"ETIMEDOUT", ETIMEDOUT, CONNECT | RECV | SEND, false},
    {"ECONNRESET", ECONNRESET, RECV | SEND, false},
    {"EPIPE", EPIPE, SEND, false},
    {"short", IO_SIM_SHORT, RECV | SEND, false},
    {"EMFILE+", EMFILE, ACCEPT | CONNECT, true},
    {"short+", IO_SIM_SHORT, RECV | SEND, true},
};

static const char *const kind_names[] = {[IO_ACCEPT] = "accept",
                                         [IO_CONNECT] = "connect",
                                         [IO_READABLE] = "readable",
                                         [IO_RECV] = "recv",
                                         [IO_SEND] = "send"};

static const struct fault *chosen; // in the child
static bool of_client;

static int on_operation(struct process *process, const struct io_op *op);

uint64_t sweep_sockets(const struct sweep_options *options)
{
    sweep_begin(options, "sockets");
    scenario_run(on_operation, options->is_loud, options->history);
    return sweep_end();
}

static int strike(const struct fault *fault)
{
    scenario_strikes((struct scenario_strike){.is_sticky = fault->is_sticky, .is_borne = true});
    return fault->error;
}

/* What stays stays for those whom it struck first. */
static int strike_again(bool client, const struct io_op *op)
{
    bool goes_on = chosen->is_sticky && !scenario.strike.is_over && client == of_client &&
                   chosen->kinds & KIND(op->kind);
    return goes_on ? chosen->error : 0;
}

static int on_operation(struct process *process, const struct io_op *op)
{
    char what[64];
    bool client = scenario.client && process == scenario.client;
    if ((!client && process != scenario.broker.process) || !(SOCKETS & KIND(op->kind)))
        return 0;
    if (chosen)
        return strike_again(client, op);
    uint64_t kind[] = {op->kind, client, scenario.asked};
    if (!sweep_point(sweep_kind(kind, ARRAY_COUNT(kind), NULL)))
        return 0;
    snprintf(what, sizeof(what), "%s by the %s", kind_names[op->kind],
             client ? "client" : "broker");
    for (size_t i = 0; i < ARRAY_COUNT(faults); i++) {
        if (!(faults[i].kinds & KIND(op->kind)) || !sweep_fork(faults[i].name, what))
            continue;
        chosen = &faults[i];
        of_client = client;
        return strike(chosen);
    }
    return 0;
}
