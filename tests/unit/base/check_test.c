/* base/check.h: assertions that stay on, and the small words. */
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"

/* What a child that runs `die` leaves on standard error; its wait status in *status. */
static size_t stderr_of_child(void (*die)(void), char *text, size_t size, int *status)
{
    int fds[2];
    cr_assert(pipe(fds) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fds[1], STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        die();
        _exit(0);
    }
    close(fds[1]);
    size_t len = 0;
    ssize_t n;
    while ((n = read(fds[0], text + len, size - 1 - len)) > 0)
        len += (size_t)n;
    text[len] = '\0';
    close(fds[0]);
    cr_assert(waitpid(pid, status, 0) == pid);
    return len;
}

static void die_by_assertion(void)
{
    check_failed("a/file.c", 1203, "head <= tail");
}

Test(check, a_failed_assertion_names_place_and_expression_and_aborts)
{
    char text[256];
    int status;
    stderr_of_child(die_by_assertion, text, sizeof(text), &status);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    cr_assert_str_eq(text, "a/file.c:1203: assertion failed: head <= tail\n");
}

Test(check, a_false_assertion_aborts, .signal = SIGABRT)
{
    int two = 2;
    ASSERT(two + two == 5);
}

Test(check, a_true_assertion_evaluates_once)
{
    int count = 0;
    ASSERT(++count == 1);
    cr_assert_eq(count, 1);
}

Test(check, slow_assertions_follow_the_build)
{
    int count = 0;
    ASSERT_SLOW(++count == 1);
#ifdef SLUICE_SLOW_CHECKS
    cr_assert_eq(count, 1);
#else
    cr_assert_eq(count, 0);
#endif
}

Test(check, align_up_and_down)
{
    cr_assert_eq(align_up(0, 4096), 0);
    cr_assert_eq(align_up(1, 4096), 4096);
    cr_assert_eq(align_up(4096, 4096), 4096);
    cr_assert_eq(align_down(4095, 4096), 0);
    cr_assert_eq(align_down(8191, 4096), 4096);
}

Test(check, take_clears_the_giver)
{
    int value = 1;
    int *giver = &value;
    int *taker = TAKE(giver);
    cr_assert_eq(taker, &value);
    cr_assert_null(giver);
}

struct outer {
    int before;
    int member;
};

Test(check, container_of_finds_the_object)
{
    struct outer outer;
    cr_assert_eq(CONTAINER_OF(&outer.member, struct outer, member), &outer);
}
