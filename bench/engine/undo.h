/* What a command makes and must not leave: directories with gigabytes in them, mounts, processes.
 *
 * The command runs in a child process; its parent does nothing but wait. When that is told to end (SIGHUP, SIGINT, SIGTERM), or the child
 * dies of whatever it may be, the parent kills the child and all that the child has started, waits until they are gone, and then undoes what
 * is noted in memory that both share, the newest first. Nobody is left then who could make something new meanwhile.
 *
 * Without undo_run() around it (in unit tests) things are made as usual, and nothing is noted. Thread: main. */
#ifndef SLUICE_BENCH_ENGINE_UNDO_H
#define SLUICE_BENCH_ENGINE_UNDO_H

#include <sys/types.h>

#include "base/check.h"

/* Returns what `work` returns; does not return after a signal, which is what this process ends by then. */
int undo_run(int (*work)(void *context), void *context);

/* mkdtemp(3): path ends in XXXXXX, which is replaced; shorter than PATH_MAX. Returns 0, or -1 with errno. */
MUST_USE int undo_make_directory(char *path);
/* Removes it with all that is in it. */
void undo_remove_directory(const char *path);

/* Before something is mounted there, and when it no longer is. */
void undo_note_mount(const char *path);
void undo_forget_mount(const char *path);

/* fork(2), whose child is killed when this process ends. */
pid_t undo_fork(void);

#endif
