#include "tests/sim/sweep/sweep.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/hash.h"
#include "tests/sim/sweep/scenario.h"
#include "tests/sim/world/own_memory.h"
#include "tests/sim/world/system.h"

#define JOBS_MAX 64
#define CHILD_S_MAX 60 // of real time; then it hangs
#define SHOWN_MAX 20   // failures of which all is printed
#define KINDS_MAX 4096u
#define TEXT_BYTES_MAX 256u

struct job {
    pid_t pid; // 0: free
    uint64_t point;
    const char *fault;
    char what[128];
    FILE *output;
};

static struct {
    const struct sweep_options *options;
    const char *kind;
    uint64_t point, tried_points, tried, failed;
    uint64_t kinds[KINDS_MAX]; // of the points so far
    uint32_t kind_count;
    double began_s, next_due;
    struct job jobs[JOBS_MAX];
    uint32_t running;
    bool is_child;
    struct { // of all children
        _Atomic uint64_t went_on, ended, starts_failed, parts_failed;
        _Atomic uint64_t slowest_of_log, slowest; // in us, with the point in the lower half
    } * shared;
} sweep;

static void reap(bool wait_for_one);
static void show(struct job *job, int status);

static double real_s(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

void sweep_begin(const struct sweep_options *options, const char *kind)
{
    memset(&sweep, 0, sizeof(sweep));
    sweep.options = options;
    sweep.kind = kind;
    sweep.began_s = real_s();
    sweep.shared = mmap(NULL, sizeof(*sweep.shared), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sweep.shared == MAP_FAILED)
        fail("no memory");
}

bool sweep_is_child(void)
{
    return sweep.is_child;
}

uint64_t sweep_point_number(void)
{
    return sweep.point;
}

uint64_t sweep_kind(const uint64_t *words, uint32_t count, const char *text)
{
    char bytes[TEXT_BYTES_MAX];
    uint32_t length = 0;
    for (; text && *text && length < TEXT_BYTES_MAX; text++)
        if (*text < '0' || *text > '9')
            bytes[length++] = *text;
    return hash_xxh3_seeded(words, count * sizeof(*words), hash_xxh3(bytes, length));
}

static bool is_first(uint64_t kind)
{
    for (uint32_t i = 0; i < sweep.kind_count; i++)
        if (sweep.kinds[i] == kind)
            return false;
    if (sweep.kind_count == KINDS_MAX)
        fail("more kinds of points than expected");
    sweep.kinds[sweep.kind_count++] = kind;
    return true;
}

static bool has_stopped(void)
{
    return sweep.options->stops && sweep.failed > 0;
}

/* Which points are in a sample is fixed. */
bool sweep_point(uint64_t kind)
{
    const struct sweep_options *o = sweep.options;
    sweep.point++;
    if (sweep.is_child || has_stopped())
        return false;
    bool is_in_sample = is_first(kind) || o->sample <= 1 || sweep.point % o->sample == 0;
    if (sweep.point < o->from || sweep.point > o->to || !is_in_sample)
        return false;
    sweep.tried_points++;
    return true;
}

bool sweep_fork(const char *fault, const char *what)
{
    const struct sweep_options *o = sweep.options;
    if ((o->fault && strcmp(o->fault, fault) != 0) || has_stopped())
        return false;
    uint32_t owner = memory_outside();
    reap(false);
    while (sweep.running >= o->jobs)
        reap(true);
    struct job *job = sweep.jobs;
    while (job->pid != 0)
        job++;
    job->point = sweep.point;
    job->fault = fault;
    snprintf(job->what, sizeof(job->what), "%s", what);
    job->output = tmpfile();
    fflush(stdout);
    job->pid = job->output ? fork() : -1;
    if (job->pid < 0)
        fail("cannot fork");
    if (job->pid == 0) {
        sweep.is_child = true;
        if (!o->is_loud) {
            dup2(fileno(job->output), STDOUT_FILENO);
            dup2(fileno(job->output), STDERR_FILENO);
        }
        (void)alarm(CHILD_S_MAX);
    } else {
        sweep.running++;
        sweep.tried++;
    }
    memory_inside(owner);
    return sweep.is_child;
}

static void show(struct job *job, int status)
{
    char line[1024];
    sweep.failed++;
    printf("FAILED: point %" PRIu64 ", %s: %s (%s %d); again: %s %s --from %" PRIu64
           " --to %" PRIu64 " --fault %s --log\n",
           job->point, job->fault, job->what, WIFSIGNALED(status) ? "signal" : "exit",
           WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), sweep.options->program,
           sweep.kind, job->point, job->point, job->fault);
    rewind(job->output);
    while (sweep.failed <= SHOWN_MAX && fgets(line, sizeof(line), job->output))
        printf("    %s", line);
}

static void reap(bool wait_for_one)
{
    int status;
    pid_t pid;
    while (sweep.running > 0 && (pid = waitpid(-1, &status, wait_for_one ? 0 : WNOHANG)) > 0) {
        wait_for_one = false;
        for (struct job *job = sweep.jobs; job < sweep.jobs + JOBS_MAX; job++) {
            if (job->pid != pid)
                continue;
            if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
                show(job, status);
            fclose(job->output);
            job->pid = 0;
            sweep.running--;
        }
    }
}

static void tell_slowest(_Atomic uint64_t *slowest, uint64_t after_ns)
{
    uint64_t most = atomic_load(slowest);
    uint64_t this = after_ns / NS_PER_US << 32 | (uint32_t)sweep.point;
    while (after_ns > 0 && this > most && !atomic_compare_exchange_weak(slowest, &most, this))
        continue;
}

static void tell_parent(void)
{
    atomic_fetch_add(&sweep.shared->starts_failed, scenario.starts_failed);
    atomic_fetch_add(&sweep.shared->parts_failed, scenario.parts_failed);
    atomic_fetch_add(&sweep.shared->ended, scenario.ended_by_itself > 0);
    atomic_fetch_add(&sweep.shared->went_on,
                     scenario.ended_by_itself == 0 && scenario.starts_failed == 0);
    tell_slowest(&sweep.shared->slowest_of_log, scenario.ended_after_log_ns);
    tell_slowest(&sweep.shared->slowest, scenario.ended_after_ns);
}

static void print_slowest(const char *behind, uint64_t slowest)
{
    printf("    the slowest end behind %s: %.3f ms, point %u\n", behind,
           (double)(slowest >> 32) / 1e3, (uint32_t)slowest);
}

uint64_t sweep_end(void)
{
    if (sweep.is_child) {
        if (!scenario.strike.has_struck)
            fail("the fault never struck");
        tell_parent();
        fflush(stdout);
        _exit(0);
    }
    while (sweep.running > 0)
        reap(true);
    double seconds = real_s() - sweep.began_s;
    printf("%s: %" PRIu64 " points of %u kinds, %" PRIu64 " of them tried, %" PRIu64
           " runs, %" PRIu64 " failed, in %.1f s (%.0f runs/s); the broker went on in %" PRIu64
           ", ended by itself in %" PRIu64 ", did not start %" PRIu64 " times; %" PRIu64
           " parts of the client were done again\n",
           sweep.kind, sweep.point, sweep.kind_count, sweep.tried_points, sweep.tried, sweep.failed,
           seconds, (double)sweep.tried / seconds, atomic_load(&sweep.shared->went_on),
           atomic_load(&sweep.shared->ended), atomic_load(&sweep.shared->starts_failed),
           atomic_load(&sweep.shared->parts_failed));
    print_slowest("a failed log of a broker that served",
                  atomic_load(&sweep.shared->slowest_of_log));
    print_slowest("another fault", atomic_load(&sweep.shared->slowest));
    return sweep.failed;
}
