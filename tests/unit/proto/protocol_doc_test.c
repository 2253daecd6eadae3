/* docs/protocol.md against the code: the tables of operations and errors, and the worked
 * example. */
#include <criterion/criterion.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/proto/samples.h"

#define DOC_BYTES_MAX (256u * 1024)

static char doc[DOC_BYTES_MAX + 1];

static void load_doc(void)
{
    FILE *file = fopen(SLUICE_SOURCE_DIR "/docs/protocol.md", "rb");
    cr_assert_not_null(file);
    size_t len = fread(doc, 1, DOC_BYTES_MAX, file);
    cr_assert_lt(len, DOC_BYTES_MAX);
    doc[len] = '\0';
    fclose(file);
}

/* The text between a heading and the next one of its rank, as a string of its own. */
static char *section(const char *heading)
{
    load_doc();
    char *start = strstr(doc, heading);
    cr_assert_not_null(start, "%s", heading);
    char *end = strstr(start + 1, "\n## ");
    if (end)
        *end = '\0';
    return start;
}

static int count_rows(const char *text)
{
    int rows = 0;
    for (const char *at = strstr(text, "\n| "); at; at = strstr(at + 1, "\n| "))
        rows += isdigit((unsigned char)at[3]) != 0;
    return rows;
}

Test(protocol_doc, errors_are_those_of_the_table)
{
    static const struct {
        unsigned number;
        const char *name;
        bool retriable;
        const char *text;
    } errors[] = {
#define ERR(name, number, retriable, text) {number, #name, retriable, text},
#include "proto/errors.def"
#undef ERR
    };
    const char *text = section("\n## 5. Errors");
    for (size_t i = 0; i < ARRAY_COUNT(errors); i++) {
        char row[256];
        snprintf(row, sizeof(row), "\n| %u | %s | %s | %s |\n", errors[i].number, errors[i].name,
                 errors[i].retriable ? "yes" : "no", errors[i].text);
        cr_assert_not_null(strstr(text, row), "missing: %s", row);
    }
    cr_assert_eq(count_rows(text), (int)ARRAY_COUNT(errors));
}

Test(protocol_doc, operations_are_those_of_the_table)
{
    static const struct {
        unsigned number;
        const char *name;
        unsigned version_min, version_max;
        const char *sender;
    } ops[] = {
#define OP(name, number, version_min, version_max, sender)                                         \
    {number, #name, version_min, version_max, #sender},
#include "proto/ops.def"
#undef OP
    };
    const char *text = section("\n## 4. Operations");
    for (size_t i = 0; i < ARRAY_COUNT(ops); i++) {
        char row[256];
        snprintf(row, sizeof(row), "\n| %u | %s | %u..%u | %s |", ops[i].number, ops[i].name,
                 ops[i].version_min, ops[i].version_max,
                 strcmp(ops[i].sender, "CLIENT") == 0 ? "client" : "broker");
        cr_assert_not_null(strstr(text, row), "missing: %s", row);
    }
    cr_assert_eq(count_rows(text), (int)ARRAY_COUNT(ops));
}

/* The hex pairs of the block that starts at *at; what is behind a # is for people. */
static uint32_t read_hex(const char **at, uint8_t *bytes, uint32_t capacity)
{
    const char *p = strstr(*at, "```hex\n");
    cr_assert_not_null(p);
    uint32_t len = 0;
    for (p += strlen("```hex\n"); *p != '`'; p++) {
        if (*p == '#')
            p = strchr(p, '\n');
        if (!isxdigit((unsigned char)*p))
            continue;
        char pair[3] = {p[0], p[1], '\0'};
        cr_assert_lt(len, capacity);
        bytes[len++] = (uint8_t)strtoul(pair, NULL, 16);
        p++;
    }
    *at = p;
    return len;
}

static uint32_t example_publish(uint8_t *bytes)
{
    uint8_t batch[128];
    uint8_t *out;
    struct batch_builder b;
    struct record record = {
        .timestamp_ms = 1763683200123, .key = text("k"), .value = text("hello")};
    batch_builder_init(&b, batch, sizeof(batch));
    cr_assert_eq(batch_builder_add(&b, &record), E_OK);
    uint32_t size =
        batch_builder_finish(&b, CODEC_NONE, PRODUCER_NONE, UINT16_MAX, UINT32_MAX, NULL, 0, &out);
    struct writer w = writer_make(bytes + FRAME_HEADER_SIZE, 1024);
    write_produce_begin(&w, 1, 0);
    write_produce_item(&w, 7, 3, size);
    uint32_t meta_length = writer_length(&w);
    write_bytes(&w, out, size);
    return frame_seal(bytes, OP_PRODUCE, 0, 1, meta_length, size);
}

static uint32_t example_ack(uint8_t *bytes)
{
    struct writer w = writer_make(bytes + FRAME_HEADER_SIZE, 1024);
    write_ack_begin(&w, 1, 1, 0, 8192, 1);
    write_zigzag(&w, 42);
    return frame_seal(bytes, OP_ACK, FRAME_PUSH, 0, writer_length(&w), 0);
}

Test(protocol_doc, the_example_is_what_the_code_sends)
{
    uint8_t expected[2048], bytes[1024];
    const char *at = section("\n## 16. An example");
    uint32_t len = read_hex(&at, bytes, sizeof(bytes));
    cr_assert_eq(len, example_publish(expected));
    cr_assert_arr_eq(bytes, expected, len);
    len = read_hex(&at, bytes, sizeof(bytes));
    cr_assert_eq(len, example_ack(expected));
    cr_assert_arr_eq(bytes, expected, len);
}
