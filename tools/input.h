/* Splits an input stream into records: by a delimiter, or by 4-byte big-endian lengths. */
#ifndef SLUICE_TOOLS_INPUT_H
#define SLUICE_TOOLS_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct input {
    int fd;
    uint8_t *buffer;
    size_t capacity;
    size_t start, end; // unread bytes
    bool at_end;
    bool framing_length; // else: delimiter
    const char *delimiter;
    size_t delimiter_len;
    size_t record_max; // longer is an error
    uint64_t number;   // of the record last returned, from 1: for messages
};

/* 0, or -1: out of memory. The caller sets the other fields first. */
int input_init(struct input *input);
void input_deinit(struct input *input);

/* 1: a record, valid until the next call; 0: the end; -1: error, *why says what. */
int input_next(struct input *input, const uint8_t **record, size_t *len, const char **why);

#endif
