/* The system as simulated programs see it: what they call for threads, waiting, clocks, chance, sockets' addresses and
 * standard error comes here first (the link options of sim_program() in tests/CMakeLists.txt), so the production sources run
 * as they are. Called from outside of the simulated threads, the real functions answer. */
#include "tests/sim/world/system.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/address.h"
#include "base/arena.h"
#include "base/clock.h"
#include "tests/sim/world/net.h"
#include "tests/sim/world/own_memory.h"
#include "tests/sim/world/world.h"

/* WRAP(result, name, parameters) declares what the linker puts in a function's place, and the function itself. */
#define WRAP(result, name, ...)                                                                    \
    result __real_##name(__VA_ARGS__);                                                             \
    result __wrap_##name(__VA_ARGS__);                                                             \
    result __wrap_##name(__VA_ARGS__)

static char log_text[1 << 16];
static uint32_t log_bytes; // ever
static void (*on_log_line)(const char *line);

/* ---- threads ---- */

WRAP(int, pthread_create, pthread_t *id, const pthread_attr_t *attributes, void *(*run)(void *),
     void *argument)
{
    struct process *process = process_current();
    if (process == NULL)
        return __real_pthread_create(id, attributes, run, argument);
    *id = (pthread_t)thread_new(process, run, argument);
    return 0;
}

WRAP(int, pthread_join, pthread_t id, void **result)
{
    if (process_current() == NULL)
        return __real_pthread_join(id, result);
    thread_wait_end((struct thread *)id);
    return 0;
}

WRAP(pthread_t, pthread_self, void)
{
    struct thread *thread = thread_current();
    return thread ? (pthread_t)thread : __real_pthread_self();
}

WRAP(int, pthread_setname_np, pthread_t id, const char *name)
{
    return process_current() ? 0 : __real_pthread_setname_np(id, name);
}

WRAP(int, sched_yield, void)
{
    if (process_current() == NULL)
        return __real_sched_yield();
    thread_sleep(0);
    return 0;
}

WRAP(int, sched_setaffinity, pid_t pid, size_t bytes, const cpu_set_t *set)
{
    return process_current() ? 0 : __real_sched_setaffinity(pid, bytes, set);
}

/* ---- waiting ---- */

/* Held by a thread that waits for something else meanwhile (a full ring, say): rare, and it would be for ever. */
WRAP(int, pthread_mutex_lock, pthread_mutex_t *mutex)
{
    if (process_current() == NULL)
        return __real_pthread_mutex_lock(mutex);
    int error;
    while ((error = pthread_mutex_trylock(mutex)) == EBUSY)
        thread_sleep(0);
    return error;
}

static uint64_t ns_of(const struct timespec *time)
{
    return (uint64_t)time->tv_sec * NS_PER_S + (uint64_t)time->tv_nsec;
}

static int wait_on(const void *address, pthread_mutex_t *mutex, uint64_t until_ns)
{
    pthread_mutex_unlock(mutex);
    bool was_woken = thread_wait(address, until_ns);
    (void)__wrap_pthread_mutex_lock(mutex);
    return was_woken ? 0 : ETIMEDOUT;
}

WRAP(int, pthread_cond_wait, pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    if (process_current() == NULL)
        return __real_pthread_cond_wait(cond, mutex);
    return wait_on(cond, mutex, WORLD_FOREVER);
}

/* All of ours are on the monotonic clock (client_cond_init()). */
WRAP(int, pthread_cond_timedwait, pthread_cond_t *cond, pthread_mutex_t *mutex,
     const struct timespec *until)
{
    if (process_current() == NULL)
        return __real_pthread_cond_timedwait(cond, mutex, until);
    return wait_on(cond, mutex, ns_of(until));
}

WRAP(int, pthread_cond_signal, pthread_cond_t *cond)
{
    if (process_current() == NULL)
        return __real_pthread_cond_signal(cond);
    thread_wake(cond, false);
    return 0;
}

WRAP(int, pthread_cond_broadcast, pthread_cond_t *cond)
{
    if (process_current() == NULL)
        return __real_pthread_cond_broadcast(cond);
    thread_wake(cond, true);
    return 0;
}

WRAP(int, sem_wait, sem_t *semaphore)
{
    if (process_current() == NULL)
        return __real_sem_wait(semaphore);
    while (sem_trywait(semaphore) != 0)
        (void)thread_wait(semaphore, WORLD_FOREVER);
    return 0;
}

WRAP(int, sem_post, sem_t *semaphore)
{
    int error = __real_sem_post(semaphore);
    if (process_current())
        thread_wake(semaphore, false);
    return error;
}

WRAP(int, usleep, useconds_t us)
{
    if (process_current() == NULL)
        return __real_usleep(us);
    thread_sleep(us * NS_PER_US);
    return 0;
}

/* ---- clock and chance ---- */

/* For clients that ask the system themselves; of ours only tests do. */
WRAP(int, clock_gettime, clockid_t id, struct timespec *time)
{
    if (process_current() == NULL)
        return __real_clock_gettime(id, time);
    uint64_t ns = id == CLOCK_REALTIME ? world_wall_ms() * NS_PER_MS : world_now_ns();
    *time = (struct timespec){(time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S)};
    return 0;
}

static uint64_t mono_ns(struct clock *clock)
{
    (void)clock;
    return world_now_ns();
}

static uint64_t wall_ms(struct clock *clock)
{
    (void)clock;
    return world_wall_ms();
}

WRAP(struct clock *, clock_system, void)
{
    static struct clock clock = {mono_ns, wall_ms};
    return process_current() ? &clock : __real_clock_system();
}

WRAP(uint64_t, random_seed_system, void)
{
    struct process *process = process_current();
    return process ? random_u64(&process->random) : __real_random_seed_system();
}

/* ---- I/O ---- */

WRAP(int, io_new, const struct io_options *options, struct io **io_out)
{
    struct process *process = process_current();
    if (process == NULL)
        return __real_io_new(options, io_out);
    *io_out = world_io_new(process);
    return 0;
}

WRAP(int, address_listen, const struct address *address, int backlog, bool shared)
{
    struct process *process = process_current();
    return process ? net_listen(process, address) : __real_address_listen(address, backlog, shared);
}

WRAP(int, address_of_socket, int fd, struct address *address)
{
    struct process *process = process_current();
    return process ? net_address_of(process, fd, false, address)
                   : __real_address_of_socket(fd, address);
}

WRAP(int, address_of_peer, int fd, struct address *address)
{
    struct process *process = process_current();
    return process ? net_address_of(process, fd, true, address)
                   : __real_address_of_peer(fd, address);
}

WRAP(void, address_tune_socket, int fd)
{
    if (process_current() == NULL)
        __real_address_tune_socket(fd);
}

WRAP(void, address_end_sending, int fd)
{
    struct process *process = process_current();
    if (process)
        net_end_sending(process, fd);
    else
        __real_address_end_sending(fd);
}

WRAP(bool, address_peer_has_ended, int fd)
{
    struct process *process = process_current();
    return process ? net_peer_has_ended(process, fd) : __real_address_peer_has_ended(fd);
}

/* A broker touches all its memory at its start, so that it can't be short of it later; here that would cost more than all
 * the rest of its life. */
WRAP(int, arena_init, struct arena *arena, size_t size, bool touch)
{
    return __real_arena_init(arena, size, touch && process_current() == NULL);
}

WRAP(int, madvise, void *address, size_t bytes, int advice)
{
    return process_current() ? 0 : __real_madvise(address, bytes, advice);
}

/* ---- the end, and what is said ---- */

WRAP(int, kill, pid_t pid, int number)
{
    if (process_current() && pid == getpid() && number == SIGKILL)
        process_exit(128 + SIGKILL); // a crash point of base/fault.def
    return __real_kill(pid, number);
}

/* The last lines are kept; whoever wants may see each. */
WRAP(ssize_t, writev, int fd, const struct iovec *pieces, int count)
{
    struct process *process = process_current();
    if (process == NULL || fd != STDERR_FILENO)
        return __real_writev(fd, pieces, count);
    char line[2048];
    int used = snprintf(line, sizeof(line), "%s: ", process->name);
    ssize_t all = 0;
    for (int i = 0; i < count; i++) {
        size_t n = min_u64(pieces[i].iov_len, sizeof(line) - 1 - (size_t)used);
        memcpy(line + used, pieces[i].iov_base, n);
        used += (int)n;
        all += (ssize_t)pieces[i].iov_len;
    }
    line[used] = '\0';
    for (int i = 0; i < used; i++)
        log_text[log_bytes++ % sizeof(log_text)] = line[i];
    if (on_log_line)
        on_log_line(line);
    return all;
}

_Noreturn void __real_end_without_memory(const char *what);
_Noreturn void __wrap_end_without_memory(const char *what);
_Noreturn void __wrap_end_without_memory(const char *what)
{
    char line[128];
    if (process_current() == NULL)
        __real_end_without_memory(what);
    struct iovec piece = {line, (size_t)snprintf(line, sizeof(line), "out of memory: %s\n", what)};
    (void)__wrap_writev(STDERR_FILENO, &piece, 1);
    process_exit(1);
}

void system_on_log(void (*on_line)(const char *line))
{
    on_log_line = on_line;
}

void system_print_log(FILE *file)
{
    uint32_t kept = (uint32_t)min_u64(log_bytes, sizeof(log_text));
    for (uint32_t i = log_bytes - kept; i != log_bytes; i++)
        fputc(log_text[i % sizeof(log_text)], file);
}
