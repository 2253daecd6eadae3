/* A real sluiced as a child process: started with its own data directory and free port, killed, restarted. */
#ifndef SLUICE_BENCH_ENGINE_BROKER_PROCESS_H
#define SLUICE_BENCH_ENGINE_BROKER_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

struct broker_process {
    const char *program; // path of sluiced
    const char *data_dir;
    const char *io;           // "uring", "epoll" or "auto"
    const char *const *extra; // further arguments, NULL at the end; may be NULL
    const char *const *join; // files (cgroup.procs) that take its pid before it begins; may be NULL
    char address[64];        // where it listens, once started; later starts use the same
    pid_t pid;               // 0: not running
    int status;              // as waitpid() gave it, when it ended before it was ready
    char log_path[4096];     // its standard error, appended
    double ready_s;          // seconds from start to the ready line, of the last start
};

/* Starts it and waits (60 s at most) for its ready line. False after a message on standard error. */
bool broker_start(struct broker_process *broker);

/* SIGKILL, and waits until it is gone. */
void broker_kill(struct broker_process *broker);

/* SIGTERM, and waits (60 s at most). The exit code, or -1 with a message. */
int broker_stop(struct broker_process *broker);

/* Its peak resident set in KiB so far (VmHWM), 0 when unknown. */
long broker_rss_peak_kib(const struct broker_process *broker);

#endif
