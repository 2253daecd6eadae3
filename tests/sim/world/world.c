/* The scheduler: always the thread that is due first. See world.h. */
#include "tests/sim/world/world.h"

#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "tests/sim/world/fiber.h"
#include "tests/sim/world/net.h"
#include "tests/sim/world/own_memory.h"

#define TEST_ID 1u // of the test's own process, the first of a world
#define TURN_NS_MAX (4 * NS_PER_US)
#define WALL_START_MS UINT64_C(1700000000000)

static struct {
    uint64_t now_ns;
    int64_t wall_offset_ms;
    uint64_t turn_ns_max, disk_latency_ns;
    uint64_t trace;
    uint64_t switches;
    struct random random;
    struct list processes;
    struct process *test;
    struct thread *current;
    struct net *net;
    world_fault_fn fault;
    uint32_t process_count; // ever
    bool is_stopping;
} world;

/* Real threads beside the world's own, as a sanitizer's or a fuzzer's, are outside of it. */
static _Thread_local bool is_here;

static struct thread *first_due(void);
static void run_thread(struct thread *thread);
static void thread_free(struct thread *thread);
static void bury(struct process *process, enum process_end how);

/* ---- the world ---- */

void world_begin(const struct world_options *options)
{
    memset(&world, 0, sizeof(world));
    is_here = true;
    memory_thread_is_ours();
    list_init(&world.processes);
    random_init(&world.random, options->seed);
    world.turn_ns_max = options->turn_ns_max ? options->turn_ns_max : TURN_NS_MAX;
    world.disk_latency_ns = options->disk_latency_ns;
    world.now_ns = NS_PER_S;
    world.net = net_new(options->seed);
    world.test = process_new("test", NULL);
}

void world_end(void)
{
    while (!list_is_empty(&world.processes))
        process_end(CONTAINER_OF(world.processes.next, struct process, link), PROCESS_KILLED);
    net_free(world.net);
}

bool world_run(uint64_t until_ns)
{
    world.is_stopping = false;
    while (!world.is_stopping) {
        struct thread *thread = first_due();
        if (thread == NULL || thread->due_ns >= until_ns)
            return false;
        world.now_ns = max_u64(world.now_ns, thread->due_ns);
        run_thread(thread);
    }
    return true;
}

void world_stop(void)
{
    world.is_stopping = true;
}

static uint64_t due_of(const struct thread *thread)
{
    return max_u64(thread->due_ns, thread->process->paused_until_ns);
}

static struct thread *first_due(void)
{
    struct thread *first = NULL;
    LIST_EACH(node, &world.processes)
    {
        struct process *process = CONTAINER_OF(node, struct process, link);
        LIST_EACH(link, &process->threads)
        {
            struct thread *thread = CONTAINER_OF(link, struct thread, link);
            if (thread->due_ns != WORLD_FOREVER && (!first || due_of(thread) < due_of(first)))
                first = thread;
        }
    }
    if (first)
        first->due_ns = due_of(first);
    return first;
}

static void run_thread(struct thread *thread)
{
    struct process *process = thread->process;
    world_note(1, thread->process->id, thread->due_ns);
    thread->due_ns = WORLD_FOREVER;
    world.switches++;
    world.current = thread;
    memory_owner_set(process->id == TEST_ID ? 0 : process->id);
    fiber_resume(thread->fiber);
    memory_owner_set(0);
    world.current = NULL;
    if (process->wants_to_end)
        bury(process, PROCESS_KILLED);
    else if (fiber_has_ended(thread->fiber)) {
        thread_wake(thread, true);
        if (thread->is_detached || process->id == TEST_ID)
            thread_free(thread);
    }
}

uint64_t world_now_ns(void)
{
    return world.now_ns;
}

uint64_t world_wall_ms(void)
{
    return (uint64_t)((int64_t)(WALL_START_MS + world.now_ns / NS_PER_MS) + world.wall_offset_ms);
}

void world_wall_jump(int64_t ms)
{
    world.wall_offset_ms += ms;
}

uint64_t world_below(uint64_t limit)
{
    return random_below(&world.random, limit);
}

uint64_t world_trace(void)
{
    return world.trace;
}

void world_note(uint64_t what, uint64_t a, uint64_t b)
{
    uint64_t words[4] = {what, a, b, world.now_ns};
    world.trace = hash_xxh3_seeded(words, sizeof(words), world.trace);
}

uint64_t world_switches(void)
{
    return world.switches;
}

void world_set_disk_latency(uint64_t ns_max)
{
    world.disk_latency_ns = ns_max;
    LIST_EACH(node, &world.processes)
    {
        struct process *process = CONTAINER_OF(node, struct process, link);
        LIST_EACH(link, &process->ios)
        io_sim_set_latency(io_sim_of_sibling(link), ns_max);
    }
}

struct net *world_net(void)
{
    return world.net;
}

/* ---- processes ---- */

struct process *process_new(const char *name, struct sim_disk *disk)
{
    uint32_t owner = memory_outside();
    struct process *process = own_calloc(1, sizeof(*process));
    snprintf(process->name, sizeof(process->name), "%s", name);
    process->id = ++world.process_count;
    process->is_alive = true;
    process->disk = disk;
    list_init(&process->threads);
    list_init(&process->ios);
    random_init(&process->random, random_u64(&world.random));
    list_push_back(&world.processes, &process->link);
    memory_inside(owner);
    return process;
}

void process_end(struct process *process, enum process_end how)
{
    ASSERT(world.current == NULL || world.current->process != process);
    bury(process, how);
}

/* Descriptors and what was in flight first: that needs the memory of the dead. */
static void bury(struct process *process, enum process_end how)
{
    uint32_t owner = memory_outside();
    world_note(2, process->id, how);
    LIST_EACH(node, &process->ios)
    io_sim_abandon(io_sim_of_sibling(node), how == PROCESS_POWER);
    net_process_ended(world.net, process, how);
    io_sim_files_close(&process->files, process->disk);
    if (how == PROCESS_POWER && process->disk)
        sim_disk_crash(process->disk);
    while (!list_is_empty(&process->threads))
        thread_free(CONTAINER_OF(process->threads.next, struct thread, link));
    while (!list_is_empty(&process->ios))
        io_sim_discard(io_sim_of_sibling(process->ios.next));
    list_remove(&process->link);
    if (process->id != TEST_ID)
        memory_release(process->id);
    own_free(process);
    memory_inside(owner);
}

void process_exit(int status)
{
    struct process *process = world.current->process;
    process->wants_to_end = true;
    process->exit_status = status;
    if (process->on_exit)
        process->on_exit(process->on_exit_context, status);
    fiber_yield();
    __builtin_unreachable();
}

void process_pause(struct process *process, uint64_t until_ns)
{
    process->paused_until_ns = until_ns;
}

struct process *process_current(void)
{
    return is_here && world.current ? world.current->process : NULL;
}

/* ---- threads ---- */

static void thread_main(void *argument)
{
    struct thread *thread = argument;
    (void)thread->run(thread->argument);
}

struct thread *thread_new(struct process *process, void *(*run)(void *argument), void *argument)
{
    uint32_t owner = memory_outside();
    struct thread *thread = own_calloc(1, sizeof(*thread));
    thread->process = process;
    thread->run = run;
    thread->argument = argument;
    thread->fiber = fiber_new(thread_main, thread);
    thread->due_ns = world.now_ns + world_below(world.turn_ns_max);
    list_push_back(&process->threads, &thread->link);
    memory_inside(owner);
    return thread;
}

static void thread_free(struct thread *thread)
{
    list_remove(&thread->link);
    fiber_free(thread->fiber);
    own_free(thread);
}

struct thread *thread_current(void)
{
    return is_here ? world.current : NULL;
}

void thread_wait_end(struct thread *thread)
{
    while (!fiber_has_ended(thread->fiber))
        (void)thread_wait(thread, WORLD_FOREVER);
    uint32_t owner = memory_outside();
    thread_free(thread);
    memory_inside(owner);
}

bool thread_wait(const void *address, uint64_t until_ns)
{
    struct thread *thread = world.current;
    uint64_t soonest_ns = world.now_ns + 1 + world_below(world.turn_ns_max);
    ASSERT(thread != NULL);
    thread->waits_for = address;
    thread->was_woken = false;
    thread->due_ns = max_u64(until_ns, soonest_ns);
    uint32_t owner = memory_outside();
    fiber_yield();
    memory_inside(owner);
    thread->waits_for = NULL;
    return thread->was_woken;
}

void thread_sleep(uint64_t ns)
{
    (void)thread_wait(NULL, world.now_ns + ns);
}

/* Whom chance likes, as the kernel does. */
void thread_wake(const void *address, bool all)
{
    LIST_EACH(node, &world.processes)
    {
        struct process *process = CONTAINER_OF(node, struct process, link);
        LIST_EACH(link, &process->threads)
        {
            struct thread *thread = CONTAINER_OF(link, struct thread, link);
            if (thread->waits_for != address || thread->was_woken)
                continue;
            thread->was_woken = true;
            thread->due_ns = world.now_ns + 1 + world_below(world.turn_ns_max);
            if (!all)
                return;
        }
    }
}

void thread_due(struct thread *thread, uint64_t at_ns)
{
    thread->due_ns = min_u64(thread->due_ns, max_u64(at_ns, world.now_ns));
}

/* ---- I/O ---- */

static void wait_for_io(struct io *io, uint64_t until_ns)
{
    (void)thread_wait(io, until_ns);
}

void world_wake_io(struct io *io, uint64_t at_ns)
{
    LIST_EACH(node, &world.processes)
    {
        struct process *process = CONTAINER_OF(node, struct process, link);
        LIST_EACH(link, &process->threads)
        {
            struct thread *thread = CONTAINER_OF(link, struct thread, link);
            if (thread->waits_for == io)
                thread_due(thread, at_ns);
        }
    }
}

static int fault_of(struct io *io, const struct io_op *op)
{
    (void)io;
    return world.fault ? world.fault(world.current->process, op) : 0;
}

void world_set_fault(world_fault_fn fault)
{
    world.fault = fault;
}

static const struct io_sim_host host = {
    .now_ns = &world.now_ns,
    .wall_ms = world_wall_ms,
    .wait = wait_for_io,
    .wake_at = world_wake_io,
    .socket_start = net_start,
    .socket_perform = net_perform,
    .socket_close = net_close,
    .fault = fault_of,
    .note = world_note,
    .outside = memory_outside,
    .inside = memory_inside,
};

struct io *world_io_new(struct process *process)
{
    uint32_t owner = memory_outside();
    struct io_sim_options options = {
        .seed = random_u64(&world.random),
        .latency_ns_max = world.disk_latency_ns,
        .host = &host,
        .files = &process->files,
        .siblings = &process->ios,
    };
    struct io *io = io_sim_new(process->disk, &options);
    memory_inside(owner);
    return io;
}
