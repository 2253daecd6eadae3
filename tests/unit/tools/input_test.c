/* tools/input.h: records out of a stream. What comes through a pipe comes in pieces, so the same
 * input is also read byte by byte. */
#include "tools/input.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"

#define RECORD_MAX (1 * MIB)

struct feeder {
    int fd;
    const char *bytes;
    size_t len;
    size_t piece; // bytes of each write
    pthread_t thread;
};

static struct feeder feeder;
static struct input input;

static void *feed(void *context)
{
    for (size_t at = 0; at < feeder.len;) {
        size_t part = feeder.len - at < feeder.piece ? feeder.len - at : feeder.piece;
        ssize_t written = write(feeder.fd, feeder.bytes + at, part);
        if (written <= 0)
            break; // nobody reads any more
        at += (size_t)written;
    }
    close(feeder.fd);
    return NULL;
}

static void open_input(const char *bytes, size_t len, size_t piece, const char *delimiter)
{
    int ends[2];
    cr_assert(eq(int, pipe(ends), 0));
    feeder = (struct feeder){.fd = ends[1], .bytes = bytes, .len = len, .piece = piece};
    input = (struct input){.fd = ends[0],
                           .framing_length = delimiter == NULL,
                           .delimiter = delimiter,
                           .delimiter_len = delimiter ? strlen(delimiter) : 0,
                           .record_max = RECORD_MAX};
    cr_assert(eq(int, input_init(&input), 0));
    cr_assert(eq(int, pthread_create(&feeder.thread, NULL, feed, NULL), 0));
}

static void close_input(void)
{
    char rest[4096];
    while (read(input.fd, rest, sizeof(rest)) > 0) // else the feeder never ends
        continue;
    pthread_join(feeder.thread, NULL);
    close(input.fd);
    input_deinit(&input);
}

static void expect_record(const char *bytes, size_t len)
{
    const uint8_t *record;
    size_t got;
    const char *why = "";
    cr_assert(eq(int, input_next(&input, &record, &got, &why), 1), "%s", why);
    cr_assert(got == len && memcmp(record, bytes, len) == 0, "got %zu bytes \"%.*s\"", got,
              (int)got, (const char *)record);
}

static void expect_end(void)
{
    const uint8_t *record;
    size_t got;
    const char *why = "";
    cr_assert(eq(int, input_next(&input, &record, &got, &why), 0), "%s", why);
}

static void expect_error(const char *words)
{
    const uint8_t *record;
    size_t got;
    const char *why = "";
    cr_assert(eq(int, input_next(&input, &record, &got, &why), -1));
    cr_assert_not_null(strstr(why, words), "\"%s\"", why);
}

/* Whole, in two pieces at each place, and byte by byte. */
#define IN_ALL_PIECES(piece, len) for (size_t piece = 1; piece <= (len); piece++)

Test(input, lines_end_at_newlines_and_the_last_may_lack_its_own)
{
    static const char text[] = "one\n\nthree";
    IN_ALL_PIECES(piece, sizeof(text) - 1)
    {
        open_input(text, sizeof(text) - 1, piece, "\n");
        expect_record("one", 3);
        expect_record("", 0);
        expect_record("three", 5);
        cr_assert(eq(u64, input.number, 3));
        expect_end();
        expect_end();
        close_input();
    }
}

Test(input, a_newline_at_the_end_is_no_empty_record)
{
    open_input("a\n", 2, 2, "\n");
    expect_record("a", 1);
    expect_end();
    close_input();
    open_input("", 0, 1, "\n");
    expect_end();
    close_input();
}

Test(input, a_longer_delimiter_is_found_across_pieces)
{
    static const char text[] = "a-b--ab--c--";
    IN_ALL_PIECES(piece, sizeof(text) - 1)
    {
        open_input(text, sizeof(text) - 1, piece, "--");
        expect_record("a-b", 3);
        expect_record("ab", 2);
        expect_record("c", 1);
        expect_end();
        close_input();
    }
}

Test(input, part_of_a_delimiter_at_the_end_belongs_to_the_record)
{
    open_input("a--b-", 5, 1, "--");
    expect_record("a", 1);
    expect_record("b-", 2);
    expect_end();
    close_input();
}

Test(input, framed_records_hold_any_byte)
{
    static const char bytes[] = "\0\0\0\3\n\0\n"
                                "\0\0\0\0"
                                "\0\0\0\1x";
    IN_ALL_PIECES(piece, sizeof(bytes) - 1)
    {
        open_input(bytes, sizeof(bytes) - 1, piece, NULL);
        expect_record("\n\0\n", 3);
        expect_record("", 0);
        expect_record("x", 1);
        expect_end();
        close_input();
    }
}

Test(input, a_framed_record_that_is_cut_off_is_an_error)
{
    static const char bytes[] = "\0\0\0\2ab\0\0\0\2a";
    for (size_t len = 7; len < sizeof(bytes); len++) {
        open_input(bytes, len, len, NULL);
        expect_record("ab", 2);
        expect_error("ends inside");
        cr_assert(eq(u64, input.number, 2));
        close_input();
    }
}

Test(input, a_framed_length_above_the_limit_is_refused_before_its_bytes_come)
{
    open_input("\0\x10\0\1x", 5, 5, NULL); // 1 MiB + 1
    expect_error("above 1 MiB");
    close_input();
    open_input("\xff\xff\xff\xffx", 5, 5, NULL);
    expect_error("above 1 MiB");
    close_input();
}

static char *large(size_t len)
{
    char *bytes = malloc(len);
    for (size_t i = 0; i < len; i++)
        bytes[i] = (char)('a' + i % 23);
    return bytes;
}

Test(input, the_largest_record_is_taken_in_either_form)
{
    size_t len = RECORD_MAX + 4;
    char *bytes = large(len);
    memcpy(bytes, "\0\x10\0\0", 4);
    open_input(bytes, len, len, NULL);
    expect_record(bytes + 4, RECORD_MAX);
    expect_end();
    close_input();
    bytes[len - 1] = '\n';
    open_input(bytes + 3, RECORD_MAX + 1, 65536, "\n");
    expect_record(bytes + 3, RECORD_MAX);
    expect_end();
    close_input();
    free(bytes);
}

Test(input, one_byte_more_is_refused_with_or_without_a_delimiter)
{
    size_t len = RECORD_MAX + 2;
    char *bytes = large(len);
    open_input(bytes, RECORD_MAX + 1, 65536, "\n");
    expect_error("longer than 1 MiB");
    close_input();
    bytes[len - 1] = '\n';
    open_input(bytes, len, 65536, "\n");
    expect_error("longer than 1 MiB");
    close_input();
    free(bytes);
}

/* What was read ahead moves to the front when there is more to read, and nothing gets lost. */
Test(input, many_records_pass_through_one_buffer)
{
    enum { COUNT = 30000, BYTES = 100 };
    char *bytes = malloc((size_t)COUNT * BYTES);
    for (int i = 0; i < COUNT; i++) {
        char *at = bytes + (size_t)i * BYTES;
        memset(at, 'x', BYTES);
        snprintf(at, 9, "%08d", i);
        at[8] = ' ';
        at[BYTES - 1] = '\n';
    }
    open_input(bytes, (size_t)COUNT * BYTES, 7001, "\n");
    for (int i = 0; i < COUNT; i++)
        expect_record(bytes + (size_t)i * BYTES, BYTES - 1);
    expect_end();
    cr_assert(le(sz, input.capacity, 2 * MIB));
    close_input();
    free(bytes);
}

Test(input, a_failed_read_is_said_in_words)
{
    open_input("a\n", 2, 2, "\n");
    int pipe_fd = input.fd;
    input.fd = -1;
    expect_error("Bad file descriptor");
    input.fd = pipe_fd;
    close_input();
}
