/* The end of a process whose own code is wrong.
 *
 * The happy path is never to come here. When an assertion fails, one line with place and expression
 * goes to standard error in a single system call, so that it isn't torn by other threads' lines, and
 * the process aborts. The state of heap and locks is unknown by then: nothing here allocates, locks
 * or uses stdio, and a line that can't be written doesn't stop the abort. */
#include "base/check.h"

#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static struct iovec piece(const char *text);
static const char *decimal(int value, char *end);

void check_failed(const char *file, int line, const char *expression)
{
    char digits[16];
    const struct iovec pieces[] = {
        piece(file),
        piece(":"),
        piece(decimal(line, digits + sizeof(digits))),
        piece(": assertion failed: "),
        piece(expression),
        piece("\n"),
    };
    ssize_t ignored = writev(STDERR_FILENO, pieces, ARRAY_COUNT(pieces));
    (void)ignored;
    abort();
}

void end_without_memory(const char *what)
{
    const struct iovec pieces[] = {
        piece("out of memory: "),
        piece(what),
        piece("; the process ends, its next start recovers\n"),
    };
    ssize_t ignored = writev(STDERR_FILENO, pieces, ARRAY_COUNT(pieces));
    (void)ignored;
    _exit(1);
}

static struct iovec piece(const char *text)
{
    return (struct iovec){.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
}

/* The digits of value, written backwards so that they end before `end`. */
static const char *decimal(int value, char *end)
{
    unsigned rest = value > 0 ? (unsigned)value : 0;
    *--end = '\0';
    do {
        *--end = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    return end;
}
