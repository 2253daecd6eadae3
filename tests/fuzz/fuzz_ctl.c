/* What sluicectl reads from others: records on standard input, formats, escapes; and what it prints of
 * records that hold anything.
 *
 * Input: first byte: 0 = records by a delimiter (u8 length, bytes), 1 = records by length, 2 = a format
 * and (behind a NUL) a record's value, 3 = a record as JSON. Held against: what is taken apart
 * joins to what came in; no byte is read outside; JSON is one line with even quotes. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"
#include "tools/ctl.h"
#include "tools/format.h"
#include "tools/input.h"

#define RECORD_MAX 1000
#define TEXT_MAX 256

static void split(const uint8_t *bytes, size_t len, const char *delimiter, size_t delimiter_len);
static void check_piece(const uint8_t *bytes, size_t len, size_t *at, const uint8_t *record,
                        size_t record_len, size_t delimiter_len);
static void print(const uint8_t *bytes, size_t len);
static void print_json(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input_reader input = {data, size};
    size_t len;
    switch (input_number(&input, 1) % 4) {
    case 0: {
        const uint8_t *at = input_take(&input, 1 + input_number(&input, 1) % 4, &len);
        if (len > 0)
            split(input.at, input.left, (const char *)exact_copy(1, at, len), len);
        return 0;
    }
    case 1:
        split(input.at, input.left, NULL, 0);
        return 0;
    case 2:
        print(input.at, input.left);
        return 0;
    default:
        print_json(input.at, input.left);
        return 0;
    }
}

/* ---- records from a file ---- */

static int file_of(const uint8_t *bytes, size_t len)
{
    static int fd = -1;
    if (fd < 0)
        fd = memfd_create("fuzz", 0);
    ASSERT(fd >= 0 && ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0);
    ASSERT(write(fd, bytes, len) == (ssize_t)len && lseek(fd, 0, SEEK_SET) == 0);
    return fd;
}

static void split(const uint8_t *bytes, size_t len, const char *delimiter, size_t delimiter_len)
{
    static struct input kept; // its buffer of 1 MiB is the program's for its whole life
    const uint8_t *record;
    const char *why = NULL;
    size_t record_len, at = 0;
    int status;
    if (kept.buffer == NULL)
        ASSERT(input_init(&kept) == 0);
    struct input input = {.fd = file_of(bytes, len),
                          .buffer = kept.buffer,
                          .capacity = kept.capacity,
                          .framing_length = delimiter == NULL,
                          .delimiter = delimiter,
                          .delimiter_len = delimiter_len,
                          .record_max = RECORD_MAX};
    memory_bound_begin();
    while ((status = input_next(&input, &record, &record_len, &why)) == 1)
        check_piece(bytes, len, &at, record, record_len, delimiter_len);
    memory_bound_end(len, 0);
    ASSERT(status == 0 || why != NULL);
    ASSERT(status < 0 || at == len || (delimiter && at == len + delimiter_len));
}

/* Where it lies in what came in: behind a length of four bytes, or before a delimiter. */
static void check_piece(const uint8_t *bytes, size_t len, size_t *at, const uint8_t *record,
                        size_t record_len, size_t delimiter_len)
{
    size_t head = delimiter_len > 0 ? 0 : 4;
    ASSERT(record_len <= RECORD_MAX && *at + head + record_len <= len);
    ASSERT(record_len == 0 || memcmp(record, bytes + *at + head, record_len) == 0);
    *at += head + record_len + delimiter_len;
}

/* ---- records on the terminal ---- */

static struct sluice_message message_of(const uint8_t *bytes, size_t len)
{
    size_t half = len / 2;
    return (struct sluice_message){.topic = "t",
                                   .key = exact_copy(1, bytes, half),
                                   .key_len = half,
                                   .value = exact_copy(2, bytes + half, len - half),
                                   .value_len = len - half};
}

static void print(const uint8_t *bytes, size_t len)
{
    static char out[1 << 16];
    const uint8_t *nul = memchr(bytes, '\0', len);
    size_t format_len = nul ? (size_t)(nul - bytes) : len;
    const char *why = NULL;
    if (format_len >= TEXT_MAX)
        return;
    char *format = (char *)exact_block(0, format_len + 1);
    memcpy(format, bytes, format_len);
    format[format_len] = '\0';
    long compiled = format_compile(format, &why);
    ASSERT(compiled <= (long)format_len && (compiled >= 0 || why != NULL));
    if (compiled < 0)
        return;
    struct sluice_message message = message_of(bytes + format_len, len - format_len);
    FILE *file = fmemopen(out, sizeof(out), "w");
    ASSERT(file != NULL);
    format_print(file, format, compiled, &message);
    fclose(file);
}

static void print_json(const uint8_t *bytes, size_t len)
{
    static char out[1 << 16];
    struct sluice_message message = message_of(bytes, len);
    FILE *file = fmemopen(out, sizeof(out), "w");
    ASSERT(file != NULL);
    format_print_json(file, &message);
    long size = ftell(file);
    fclose(file);
    bool quoted = false;
    ASSERT(size > 1 && out[0] == '{' && out[size - 1] == '\n' && out[size - 2] == '}');
    for (long i = 0; i < size - 1; i++) {
        ASSERT((uint8_t)out[i] >= 0x20);
        if (quoted && out[i] == '\\')
            i++;
        else if (out[i] == '"')
            quoted = !quoted;
    }
    ASSERT(!quoted);
}
