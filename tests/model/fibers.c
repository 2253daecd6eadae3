/* Switching between the explorer and the threads of a harness. A fiber that is given up is simply never resumed; the next
 * execution makes it anew on the same stack. */
#include "tests/model/fibers.h"

#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define STACK_BYTES ((size_t)64 * 1024)

struct fiber {
    ucontext_t context;
    enum fiber_state state;
    struct fiber_clocks clocks;
};

static ucontext_t explorer, fresh;
static struct fiber fibers[MODEL_THREADS_MAX];
static _Alignas(64) uint8_t stacks[MODEL_THREADS_MAX][STACK_BYTES];
static const struct model *running;
static int self = -1;

static void run(void)
{
    running->thread(self);
    fibers_yield(FIBER_DONE);
}

void fibers_begin(const struct model *model)
{
    static bool has_fresh;
    if (!has_fresh)
        has_fresh = getcontext(&fresh) == 0;
    running = model;
    self = -1;
    for (int thread = 0; thread < model->thread_count; thread++) {
        struct fiber *fiber = &fibers[thread];
        fiber->state = FIBER_READY;
        memset(&fiber->clocks, 0, sizeof(fiber->clocks));
        memcpy(&fiber->context, &fresh, sizeof(fresh));
        fiber->context.uc_mcontext.fpregs = &fiber->context.__fpregs_mem;
        fiber->context.uc_stack.ss_sp = stacks[thread];
        fiber->context.uc_stack.ss_size = STACK_BYTES;
        fiber->context.uc_link = NULL;
        makecontext(&fiber->context, run, 0);
    }
}

enum fiber_state fibers_resume(int thread)
{
    self = thread;
    fibers[thread].state = FIBER_READY;
    swapcontext(&explorer, &fibers[thread].context);
    self = -1;
    return fibers[thread].state;
}

enum fiber_state fibers_state(int thread)
{
    return fibers[thread].state;
}

int fibers_self(void)
{
    return self;
}

void fibers_yield(enum fiber_state state)
{
    struct fiber *fiber = &fibers[self];
    fiber->state = state;
    swapcontext(&fiber->context, &explorer);
}

const struct clock *fibers_clock(void)
{
    return &fibers[self].clocks.hb;
}

struct fiber_clocks *fibers_clocks(int thread)
{
    return &fibers[thread].clocks;
}

void fibers_race(const char *what, int other)
{
    char text[120];
    snprintf(text, sizeof(text), "data race of T%d with T%d: %s", self, other, what);
    model_fail("plain memory", 0, text);
}
