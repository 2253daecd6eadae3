/* What a command has made is gone afterwards, however it ends, and so are the processes that it has started. */
#include "bench/engine/undo.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum ending { RETURNS, IS_TOLD_TO_END, DIES };

struct work {
    enum ending ending;
    int told[2]; // a pipe: {directory, pid of a process}
};

struct made {
    char directory[64];
    pid_t pid;
};

static int work(void *context)
{
    struct work *work = context;
    struct made made = {.directory = "/tmp/sluice-undo-XXXXXX"};
    char path[128];
    cr_assert_eq(undo_make_directory(made.directory), 0);
    snprintf(path, sizeof(path), "%s/below", made.directory);
    cr_assert_eq(mkdir(path, 0700), 0);
    strcat(path, "/file");
    cr_assert_geq(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600), 0);
    made.pid = undo_fork();
    if (made.pid == 0) {
        for (;;)
            pause();
    }
    cr_assert_eq(write(work->told[1], &made, sizeof(made)), (ssize_t)sizeof(made));
    if (work->ending == IS_TOLD_TO_END)
        pause();
    if (work->ending == DIES)
        kill(getpid(), SIGKILL);
    return 7;
}

/* Runs it in a process of its own, as main() does. Returns the status that waitpid() gives. */
static int run(enum ending ending, int number, struct made *made)
{
    struct work job = {.ending = ending};
    int status;
    cr_assert_eq(pipe(job.told), 0);
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGTERM, SIG_DFL);
        signal(SIGINT, SIG_DFL);
        _exit(undo_run(work, &job));
    }
    cr_assert_eq(read(job.told[0], made, sizeof(*made)), (ssize_t)sizeof(*made));
    if (ending == IS_TOLD_TO_END)
        kill(pid, number);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    return status;
}

static void expect_nothing_left(const struct made *made)
{
    cr_expect_neq(access(made->directory, F_OK), 0, "%s is there", made->directory);
    cr_expect(kill(made->pid, 0) != 0 && errno == ESRCH, "the process is there");
}

TestSuite(bench_undo, .timeout = 20);

Test(bench_undo, a_command_that_returns_leaves_nothing_and_its_code_is_passed_on)
{
    struct made made;
    int status = run(RETURNS, 0, &made);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    expect_nothing_left(&made);
}

Test(bench_undo, a_command_that_is_told_to_end_leaves_nothing_and_ends_by_that_signal)
{
    static const int numbers[] = {SIGINT, SIGTERM};
    for (size_t i = 0; i < ARRAY_COUNT(numbers); i++) {
        struct made made;
        int status = run(IS_TOLD_TO_END, numbers[i], &made);
        cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == numbers[i]);
        expect_nothing_left(&made);
    }
}

Test(bench_undo, a_command_that_dies_leaves_nothing)
{
    struct made made;
    int status = run(DIES, 0, &made);
    cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    expect_nothing_left(&made);
}

Test(bench_undo, what_is_removed_by_itself_is_forgotten)
{
    char path[64] = "/tmp/sluice-undo-XXXXXX";
    cr_assert_eq(undo_make_directory(path), 0);
    undo_remove_directory(path);
    cr_expect_neq(access(path, F_OK), 0);
}
