/* Progress of sluicectl (tools/ctl.h): for people at a terminal only, and not more often than they can read. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <criterion/redirect.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "tools/ctl.h"

Test(progress, nothing_is_shown_where_nobody_looks, .init = cr_redirect_stderr)
{
    struct progress progress;
    progress_begin(&progress);
    progress.start_ns -= 1000000000;
    for (uint64_t i = 0; i < 10; i++)
        progress_show(&progress, "sent", i, i);
    progress_end(&progress);
    fflush(stderr);
    cr_assert_stderr_eq_str("");
}

/* A terminal of our own as standard error. Returns its other side. */
static int open_terminal(void)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    cr_assert(ge(int, master, 0));
    cr_assert(eq(int, grantpt(master), 0));
    cr_assert(eq(int, unlockpt(master), 0));
    int terminal = open(ptsname(master), O_RDWR | O_NOCTTY);
    cr_assert(ge(int, terminal, 0));
    struct termios raw;
    cr_assert(eq(int, tcgetattr(terminal, &raw), 0));
    cfmakeraw(&raw);
    cr_assert(eq(int, tcsetattr(terminal, TCSANOW, &raw), 0));
    fflush(stderr);
    cr_assert(eq(int, dup2(terminal, STDERR_FILENO), STDERR_FILENO));
    close(terminal);
    return master;
}

/* The kernel hands on what was written in pieces, some time later: until nothing has come for a while. */
static void read_all(int master, char *text, size_t capacity)
{
    struct pollfd readable = {.fd = master, .events = POLLIN};
    size_t len = 0;
    while (poll(&readable, 1, strstr(text, "\033[K\r\033[K") ? 0 : 10000) > 0) {
        ssize_t got = read(master, text + len, capacity - 1 - len);
        cr_assert(gt(int, (int)got, 0));
        len += (size_t)got;
        text[len] = 0;
    }
}

Test(progress, a_terminal_sees_one_line_that_is_written_over_and_wiped)
{
    int master = open_terminal();
    struct progress progress;
    progress_begin(&progress);
    progress_show(&progress, "sent", 1, 1); // too early
    cr_assert_not(progress.shown);
    progress.start_ns -= 2000000000; // as if two seconds had passed
    progress.next_ns = 0;
    progress_show(&progress, "sent", 3000, 1 << 20);
    progress_show(&progress, "sent", 4000, 1 << 21); // too soon again
    progress_end(&progress);
    fflush(stderr);
    char text[512] = "";
    read_all(master, text, sizeof(text));
    int records = 0, rate = 0;
    cr_assert(
        eq(int, sscanf(text, "\rsent %d records, 1MiB, %d records/s\033[K", &records, &rate), 2),
        "%s", text);
    cr_assert(eq(int, records, 3000));
    cr_assert(rate > 1000 && rate <= 1500, "%d", rate);
    cr_assert_null(strstr(text, "4000"));
    cr_assert_not_null(strstr(text, "\033[K\r\033[K"), "the line stays");
    close(master);
}
