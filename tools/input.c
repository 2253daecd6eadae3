/* One buffer that grows to the longest record; bytes move to its front only when it must be refilled. */
#include "tools/input.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INPUT_CAPACITY ((size_t)1 << 20)

static int fill(struct input *input, const char **why);
static int next_delimited(struct input *input, const uint8_t **record, size_t *len,
                          const char **why);
static int next_framed(struct input *input, const uint8_t **record, size_t *len, const char **why);

int input_init(struct input *input)
{
    input->capacity = INPUT_CAPACITY;
    input->buffer = malloc(input->capacity);
    return input->buffer ? 0 : -1;
}

void input_deinit(struct input *input)
{
    free(input->buffer);
}

int input_next(struct input *input, const uint8_t **record, size_t *len, const char **why)
{
    input->number++;
    return (input->framing_length ? next_framed : next_delimited)(input, record, len, why);
}

/* 1: more bytes came; 0: the end; -1: error. */
static int fill(struct input *input, const char **why)
{
    if (input->at_end)
        return 0;
    if (input->start > 0) {
        memmove(input->buffer, input->buffer + input->start, input->end - input->start);
        input->end -= input->start;
        input->start = 0;
    }
    if (input->end == input->capacity) {
        uint8_t *larger = realloc(input->buffer, input->capacity * 2);
        if (!larger) {
            *why = "out of memory";
            return -1;
        }
        input->buffer = larger;
        input->capacity *= 2;
    }
    ssize_t got;
    do {
        got = read(input->fd, input->buffer + input->end, input->capacity - input->end);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        *why = strerror(errno);
        return -1;
    }
    input->at_end = got == 0;
    input->end += (size_t)got;
    return got > 0;
}

static int next_delimited(struct input *input, const uint8_t **record, size_t *len,
                          const char **why)
{
    size_t searched = 0;
    for (;;) {
        const uint8_t *from = input->buffer + input->start;
        size_t available = input->end - input->start;
        const uint8_t *hit =
            memmem(from + searched, available - searched, input->delimiter, input->delimiter_len);
        if (hit) {
            *record = from;
            *len = (size_t)(hit - from);
            input->start += *len + input->delimiter_len;
            break;
        }
        if (available > input->record_max + input->delimiter_len) {
            *why = "the record is longer than 1 MiB, or its delimiter is missing";
            return -1;
        }
        searched = available >= input->delimiter_len ? available - input->delimiter_len + 1 : 0;
        int more = fill(input, why);
        if (more < 0)
            return -1;
        if (more == 0) {
            *record = input->buffer + input->start;
            *len = available;
            input->start = input->end;
            if (available == 0)
                return 0;
            break;
        }
    }
    if (*len > input->record_max) {
        *why = "the record is longer than 1 MiB";
        return -1;
    }
    return 1;
}

static int next_framed(struct input *input, const uint8_t **record, size_t *len, const char **why)
{
    uint64_t wanted = 4;
    for (;;) {
        const uint8_t *from = input->buffer + input->start;
        size_t available = input->end - input->start;
        if (available >= 4) {
            wanted = 4 + (((uint64_t)from[0] << 24) | ((uint64_t)from[1] << 16) |
                          ((uint64_t)from[2] << 8) | from[3]);
            if (wanted - 4 > input->record_max) {
                *why = "the record's length is above 1 MiB";
                return -1;
            }
        }
        if (available >= wanted && available >= 4) {
            *record = from + 4;
            *len = (size_t)wanted - 4;
            input->start += (size_t)wanted;
            return 1;
        }
        int more = fill(input, why);
        if (more < 0)
            return -1;
        if (more == 0 && available == 0)
            return 0;
        if (more == 0) {
            *why = "the input ends inside a record";
            return -1;
        }
    }
}
