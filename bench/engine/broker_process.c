/* A child and its log file. */
#include "bench/engine/broker_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ARGUMENTS_MAX 64
#define WAIT_S 60

static double now_s(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* A process that is not where it was to be put must not run at all. */
static void join(const char *path)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && write(fd, "0", 1) == 1) {
        close(fd);
        return;
    }
    dprintf(2, "%s: %s\n", path, strerror(errno));
    _exit(127);
}

static void run_child(struct broker_process *broker, int error_fd)
{
    const char *arguments[ARGUMENTS_MAX] = {broker->program,
                                            "--data-dir",
                                            broker->data_dir,
                                            "--listen",
                                            broker->address[0] ? broker->address : "127.0.0.1:0",
                                            "--http",
                                            "off",
                                            "--kafka",
                                            "off",
                                            "--io",
                                            broker->io ? broker->io : "auto"};
    int count = 11;
    for (int i = 0; broker->extra && broker->extra[i] && count < ARGUMENTS_MAX - 1; i++)
        arguments[count++] = broker->extra[i];
    prctl(PR_SET_PDEATHSIG, SIGKILL); // never outlives the test
    dup2(error_fd, 2);
    for (int i = 0; broker->join && broker->join[i]; i++)
        join(broker->join[i]);
    execv(broker->program, (char *const *)arguments);
    dprintf(2, "%s: %s\n", broker->program, strerror(errno));
    _exit(127);
}

/* Reads the log from `from` on until the ready line is there. */
static bool wait_ready(struct broker_process *broker, long from)
{
    double deadline = now_s() + WAIT_S;
    while (now_s() < deadline) {
        FILE *log = fopen(broker->log_path, "r");
        char line[4096];
        bool ready = false;
        if (log && fseek(log, from, SEEK_SET) == 0) {
            while (!ready && fgets(line, sizeof(line), log)) {
                char *hit = strstr(line, "ready listen=");
                ready = hit && strchr(hit, '\n') &&
                        sscanf(hit, "ready listen=%63s", broker->address) == 1;
            }
        }
        if (log)
            fclose(log);
        if (ready)
            return true;
        int status;
        if (waitpid(broker->pid, &status, WNOHANG) == broker->pid) {
            broker->pid = 0;
            broker->status = status;
            fprintf(stderr, "the broker ended before it was ready (status 0x%x), see %s\n", status,
                    broker->log_path);
            return false;
        }
        usleep(500);
    }
    fprintf(stderr, "the broker is not ready after %d s, see %s\n", WAIT_S, broker->log_path);
    return false;
}

bool broker_start(struct broker_process *broker)
{
    if (!broker->log_path[0])
        snprintf(broker->log_path, sizeof(broker->log_path), "%s.log", broker->data_dir);
    int fd = open(broker->log_path, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0) {
        fprintf(stderr, "%s: %s\n", broker->log_path, strerror(errno));
        return false;
    }
    long from = (long)lseek(fd, 0, SEEK_END);
    double started = now_s();
    broker->pid = fork();
    if (broker->pid == 0)
        run_child(broker, fd);
    close(fd);
    if (broker->pid < 0 || !wait_ready(broker, from))
        return false;
    broker->ready_s = now_s() - started;
    return true;
}

void broker_kill(struct broker_process *broker)
{
    if (broker->pid <= 0)
        return;
    kill(broker->pid, SIGKILL);
    waitpid(broker->pid, NULL, 0);
    broker->pid = 0;
}

int broker_stop(struct broker_process *broker)
{
    if (broker->pid <= 0)
        return -1;
    kill(broker->pid, SIGTERM);
    double deadline = now_s() + WAIT_S;
    while (now_s() < deadline) {
        int status;
        if (waitpid(broker->pid, &status, WNOHANG) == broker->pid) {
            broker->pid = 0;
            if (WIFEXITED(status))
                return WEXITSTATUS(status);
            fprintf(stderr, "the broker died of signal %d, see %s\n", WTERMSIG(status),
                    broker->log_path);
            return -1;
        }
        usleep(5000);
    }
    fprintf(stderr, "the broker did not stop within %d s, see %s\n", WAIT_S, broker->log_path);
    broker_kill(broker);
    return -1;
}

long broker_rss_peak_kib(const struct broker_process *broker)
{
    char path[64], line[256];
    long kib = 0;
    snprintf(path, sizeof(path), "/proc/%d/status", (int)broker->pid);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof(line), file)) {
        if (sscanf(line, "VmHWM: %ld", &kib) == 1)
            break;
    }
    if (file)
        fclose(file);
    return kib;
}
