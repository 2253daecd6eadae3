/* Each allocation of the broker and of its client, failed alone, and with all that follow. A kind of them is a place in the
 * program: the function that asks for memory, and who called it; and whether that was in a start. */
#include <stdio.h>
#include <string.h>

#include "tests/sim/sweep/scenario.h"
#include "tests/sim/sweep/sweep.h"
#include "tests/sim/world/own_memory.h"

static bool is_sticky;           // in the child
static const struct process *of; // whose allocation it was, by role
static bool of_client;

#define CALLERS 4u // two of them are own_memory.c's, in the place of malloc()

static bool on_allocation(void);

uint64_t sweep_memory(const struct sweep_options *options)
{
    sweep_begin(options, "memory");
    memory_set_fault(on_allocation);
    scenario_run(NULL, options->is_loud, options->history);
    return sweep_end();
}

static bool strike(bool stays)
{
    is_sticky = stays;
    scenario_strikes((struct scenario_strike){
        .is_sticky = stays, .is_of_memory = true, .is_of_client = of_client});
    return true;
}

static bool strike_again(void)
{
    return scenario.strike.life == scenario.broker.lives || strike(true);
}

/* By the frame pointers, which every function of this build keeps; the first one of a thread has none. */
static uint64_t place(void)
{
    const struct frame {
        const struct frame *caller;
        uint64_t returns_to;
    } *frame = __builtin_frame_address(0);
    uint64_t callers[CALLERS + 2] = {of_client, scenario_serves()};
    for (uint32_t i = 0; i < CALLERS && frame; i++, frame = frame->caller)
        callers[2 + i] = frame->returns_to;
    return sweep_kind(callers, ARRAY_COUNT(callers), NULL);
}

static bool on_allocation(void)
{
    char what[64];
    of = process_current();
    bool client = of && of == scenario.client;
    if (of == NULL || (!client && of != scenario.broker.process))
        return false;
    if (sweep_is_child())
        return is_sticky && !scenario.strike.is_over && client == of_client && strike_again();
    of_client = client;
    if (!sweep_point(place()))
        return false;
    snprintf(what, sizeof(what), "an allocation of the %s", client ? "client" : "broker");
    if (sweep_fork("once", what))
        return strike(false);
    if (sweep_fork("forever", what))
        return strike(true);
    return false;
}
