/* Fibers. A change of stacks saves what a function call must keep and nothing else: ucontext would also ask the kernel for the
 * signal mask, twice a change, which was a third of a simulation's time. Stacks are mapped with a guard page below and kept for the next fiber, since mapping and first touching
 * one costs more than all the switches of a short life. */
#include "tests/sim/world/fiber.h"

#include <stdint.h>
#include <sys/mman.h>

#include "base/check.h"
#include "tests/sim/world/own_memory.h"

#if defined(__SANITIZE_ADDRESS__)
#define FIBER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_ASAN 1
#endif
#endif

#ifdef FIBER_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define STACK_BYTES ((size_t)1 << 20) // redzones
#else
#define STACK_BYTES ((size_t)512 << 10)
#endif
#define GUARD_BYTES 4096

struct fiber {
    void *stack_pointer; // while it does not run
    void (*run)(void *argument);
    void *argument;
    uint8_t *stack;
    struct fiber *next_free;
    bool has_ended;
#ifdef FIBER_ASAN
    void *fake_stack;
#endif
};

static void *scheduler; // its stack pointer while a fiber runs
static struct fiber *current;
static struct fiber *spare; // with their stacks
#ifdef FIBER_ASAN
static void *scheduler_fake_stack;
static const void *scheduler_stack;
static size_t scheduler_stack_bytes;
#endif

static void enter(void);
static void prepare(struct fiber *fiber);

struct fiber *fiber_new(void (*run)(void *argument), void *argument)
{
    struct fiber *fiber = spare;
    if (fiber) {
        spare = fiber->next_free;
    } else {
        fiber = own_calloc(1, sizeof(*fiber));
        fiber->stack = own_map(GUARD_BYTES + STACK_BYTES);
        ASSERT(mprotect(fiber->stack, GUARD_BYTES, PROT_NONE) == 0);
    }
    fiber->run = run;
    fiber->argument = argument;
    fiber->has_ended = false;
    prepare(fiber);
    return fiber;
}

/* What switch_stacks() takes from a stack that waits: callee-saved registers, and where to go on. */
struct frame {
    uint64_t r15, r14, r13, r12, rbx, rbp;
    void (*go_on)(void);
    void *none; // enter() has no caller; and the stack is aligned as after a call
};

void switch_stacks(void **save, void *load);
__asm__(".text\n"
        ".globl switch_stacks\n"
        ".hidden switch_stacks\n"
        ".type switch_stacks, @function\n"
        "switch_stacks:\n"
        "    push %rbp\n"
        "    push %rbx\n"
        "    push %r12\n"
        "    push %r13\n"
        "    push %r14\n"
        "    push %r15\n"
        "    mov %rsp, (%rdi)\n"
        "    mov %rsi, %rsp\n"
        "    pop %r15\n"
        "    pop %r14\n"
        "    pop %r13\n"
        "    pop %r12\n"
        "    pop %rbx\n"
        "    pop %rbp\n"
        "    ret\n"
        ".size switch_stacks, . - switch_stacks\n");

static void prepare(struct fiber *fiber)
{
    uint8_t *top = fiber->stack + GUARD_BYTES + STACK_BYTES;
    struct frame *frame = (struct frame *)(top - sizeof(*frame));
    *frame = (struct frame){.go_on = enter};
    fiber->stack_pointer = frame;
}

void fiber_free(struct fiber *fiber)
{
    ASSERT(fiber != current);
#ifdef FIBER_ASAN
    fiber->fake_stack = NULL;
    __asan_unpoison_memory_region(fiber->stack + GUARD_BYTES, STACK_BYTES);
#endif
    fiber->next_free = spare;
    spare = fiber;
}

void fiber_resume(struct fiber *fiber)
{
    ASSERT(current == NULL && !fiber->has_ended);
    current = fiber;
#ifdef FIBER_ASAN
    __sanitizer_start_switch_fiber(&scheduler_fake_stack, fiber->stack + GUARD_BYTES, STACK_BYTES);
#endif
    switch_stacks(&scheduler, fiber->stack_pointer);
#ifdef FIBER_ASAN
    __sanitizer_finish_switch_fiber(scheduler_fake_stack, NULL, NULL);
#endif
    current = NULL;
}

static void enter(void)
{
    struct fiber *fiber = current;
#ifdef FIBER_ASAN
    __sanitizer_finish_switch_fiber(NULL, &scheduler_stack, &scheduler_stack_bytes);
#endif
    fiber->run(fiber->argument);
    fiber->has_ended = true;
#ifdef FIBER_ASAN
    __sanitizer_start_switch_fiber(NULL, scheduler_stack, scheduler_stack_bytes);
#endif
    switch_stacks(&fiber->stack_pointer, scheduler);
    __builtin_unreachable();
}

void fiber_yield(void)
{
    struct fiber *fiber = current;
    ASSERT(fiber != NULL);
#ifdef FIBER_ASAN
    __sanitizer_start_switch_fiber(&fiber->fake_stack, scheduler_stack, scheduler_stack_bytes);
#endif
    switch_stacks(&fiber->stack_pointer, scheduler);
#ifdef FIBER_ASAN
    __sanitizer_finish_switch_fiber(fiber->fake_stack, &scheduler_stack, &scheduler_stack_bytes);
#endif
}

bool fiber_has_ended(const struct fiber *fiber)
{
    return fiber->has_ended;
}

struct fiber *fiber_current(void)
{
    return current;
}
