/* Fibers: functions with stacks of their own that run one at a time and give way only where they say so. The simulator
 * makes one of each thread of the simulated programs.
 *
 * The scheduler resumes a fiber and gets control back when that yields or ends. What is abandoned (a killed process) is
 * freed without having run to its end; nothing on its stack is undone.
 *
 * Address sanitizer is told of every change of stacks. Thread: one. */
#ifndef SLUICE_TESTS_FIBER_H
#define SLUICE_TESTS_FIBER_H

#include <stdbool.h>

struct fiber;

/* Not started yet: it runs from its first resume on. Ends the program when there is no memory. */
struct fiber *fiber_new(void (*run)(void *argument), void *argument);
void fiber_free(struct fiber *fiber); // not the one that runs

void fiber_resume(struct fiber *fiber);
void fiber_yield(void); // from within a fiber, to who resumed it
bool fiber_has_ended(const struct fiber *fiber);
struct fiber *fiber_current(void); // NULL: the scheduler

#endif
