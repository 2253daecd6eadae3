/* The configuration: precedence, units, ranges, and messages that name the line. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/config.h"

#define PATH "sluiced.conf"

static struct config config;
static struct config_error error;
static enum config_wish wish;
static char directory[] = "/tmp/sluice-config-XXXXXX";

static void set_up(void)
{
    cr_assert_not_null(mkdtemp(directory));
    cr_assert_eq(chdir(directory), 0);
}

static void tear_down(void)
{
    unlink(PATH);
    cr_assert_eq(chdir("/"), 0);
    rmdir(directory);
}

TestSuite(config, .init = set_up, .fini = tear_down);

static void write_file(const char *text)
{
    FILE *file = fopen(PATH, "w");
    cr_assert_not_null(file);
    cr_assert_eq(fwrite(text, 1, strlen(text), file), strlen(text));
    fclose(file);
}

#define LOAD(...) load((const char *[]){"sluiced", __VA_ARGS__, NULL})

static int load(const char **argv)
{
    int argc = 0;
    while (argv[argc])
        argc++;
    error.text[0] = '\0';
    return config_load(&config, argc, (char *const *)(uintptr_t)argv, &wish, &error);
}

static int load_file(const char *text)
{
    write_file(text);
    return LOAD("--config", PATH);
}

static void expect_error(const char *file_text, const char *message)
{
    cr_assert_neq(load_file(file_text), 0, "accepted: %s", file_text);
    cr_assert_str_eq(error.text, message);
}

Test(config, defaults_are_those_of_the_manual)
{
    cr_assert_eq(load((const char *[]){"sluiced", NULL}), 0, "%s", error.text);
    cr_assert_eq(wish, CONFIG_RUN);
    cr_assert_str_eq(config.data_dir, "./sluice-data");
    cr_assert_str_eq(config.listen.text, "127.0.0.1:7650");
    cr_assert_str_eq(config.http.text, "127.0.0.1:7651");
    cr_assert_str_eq(config.kafka.text, "127.0.0.1:9092");
    cr_assert_gt(config.cores, 0);
    cr_assert_eq(config.io, 0);
    cr_assert_eq(config.shards, 1);
    cr_assert_eq(config.durability, DURABILITY_SYNC);
    cr_assert_eq(config.record_bytes_max, 1 * MIB);
    cr_assert_eq(config.batch_bytes_max, 4 * MIB);
    cr_assert_eq(config.request_bytes_max, 16 * MIB);
    cr_assert_eq(config.connections_max, 12000);
    cr_assert_eq(config.retention_ms, 7ull * 86400 * 1000);
    cr_assert_eq(config.retention_bytes, UINT64_MAX);
    cr_assert_eq(config.drain_timeout, 30000);
    cr_assert_eq(config.wal_bytes_budget, 4 * GIB);
    cr_assert_eq(config.segment_bytes, 64 * MIB);
    cr_assert_eq(config.disk_free_throttle_percent, 5);
    cr_assert_eq(config.disk_free_refuse_percent, 2);
    cr_assert_eq(config.validation, 1);
}

Test(config, file_beats_default_set_beats_file_and_options_beat_all)
{
    write_file("log_level = \"warn\"; listen = \"127.0.0.1:1\"; data_dir = \"/file\";");
    cr_assert_eq(LOAD("--config", PATH), 0, "%s", error.text);
    cr_assert_eq(config.log_level, 2);
    cr_assert_eq(LOAD("--config", PATH, "--set", "log_level=error"), 0);
    cr_assert_eq(config.log_level, 3);
    cr_assert_str_eq(config.listen.text, "127.0.0.1:1");
    /* The order of arguments does not matter. */
    cr_assert_eq(LOAD("--listen", "127.0.0.1:3", "--set", "listen=127.0.0.1:2", "--config", PATH),
                 0);
    cr_assert_str_eq(config.listen.text, "127.0.0.1:3");
    cr_assert_str_eq(config.data_dir, "/file");
    cr_assert_eq(LOAD("--data-dir=/a", "--data-dir", "/b"), 0);
    cr_assert_str_eq(config.data_dir, "/b");
}

Test(config, units_are_understood_in_quotes_and_bare_numbers_are_bytes_and_ms)
{
    cr_assert_eq(load_file("request_bytes_max = \"8MiB\"; index_cache_bytes = 2097152;\n"
                           "retention_ms = \"36h\"; drain_timeout = 1500;\n"
                           "wal_bytes_budget = 68719476736L; retention_bytes = \"none\";\n"
                           "development = true;"),
                 0, "%s", error.text);
    cr_assert_eq(config.request_bytes_max, 8 * MIB);
    cr_assert_eq(config.index_cache_bytes, 2 * MIB);
    cr_assert_eq(config.retention_ms, 36ull * 3600 * 1000);
    cr_assert_eq(config.drain_timeout, 1500);
    cr_assert_eq(config.wal_bytes_budget, 64 * GIB);
    cr_assert_eq(config.retention_bytes, UINT64_MAX);
    cr_assert_eq(config.development, 1);
}

Test(config, messages_name_the_line_the_key_the_value_and_what_is_allowed)
{
    expect_error("# a comment\n\nlisten = \"127.0.0.1:0\";\nfoo = 1;\n",
                 "sluiced.conf:4: unknown key \"foo\"");
    expect_error("shards = 65;", "sluiced.conf:1: shards: value 65, allowed 1..64");
    expect_error("\nshards = -1;", "sluiced.conf:2: shards: value -1, allowed 1..64");
    expect_error("shards = 1.5;", "sluiced.conf:1: shards: value 1.5, allowed 1..64");
    expect_error("shards = { a = 1; };", "sluiced.conf:1: shards: value {...}, allowed 1..64");
    expect_error("segment_bytes = \"2GiB\";",
                 "sluiced.conf:1: segment_bytes: value 2GiB, allowed 4MiB..1GiB");
    expect_error("retention_ms = \"soon\";",
                 "sluiced.conf:1: retention_ms: value soon, allowed 1s or more or none");
    expect_error("drain_timeout = \"2h\";",
                 "sluiced.conf:1: drain_timeout: value 2h, allowed 1s..1h");
    expect_error("durability = \"maybe\";",
                 "sluiced.conf:1: durability: value maybe, allowed sync|relaxed");
    expect_error("development = \"perhaps\";",
                 "sluiced.conf:1: development: value perhaps, allowed true|false");
    expect_error("listen = \"nowhere\";", "sluiced.conf:1: listen: value nowhere, allowed A:P");
    expect_error("listen = \"off\";", "sluiced.conf:1: listen: value off, allowed A:P");
    expect_error("http = \"1.2.3.4:99999\";",
                 "sluiced.conf:1: http: value 1.2.3.4:99999, allowed A:P or off");
    expect_error("data_dir = \"\";", "sluiced.conf:1: data_dir: value , allowed 1..4000 bytes");
}

Test(config, relations_between_keys_are_checked)
{
    expect_error("\n\nsegment_bytes = 5000000;",
                 "sluiced.conf:3: segment_bytes: value 5000000, allowed a multiple of 1MiB");
    expect_error("segment_bytes = \"8MiB\";\nbatch_bytes_max = \"3MiB\";",
                 "sluiced.conf:2: batch_bytes_max: value 3MiB, allowed up to a quarter of "
                 "segment_bytes");
    expect_error("record_bytes_max = \"2MiB\"; batch_bytes_max = \"1MiB\";",
                 "sluiced.conf:1: record_bytes_max: value 2MiB, allowed up to batch_bytes_max");
    expect_error("request_bytes_max = \"1MiB\"; batch_bytes_max = \"1MiB\";",
                 "sluiced.conf:1: batch_bytes_max: value 1MiB, allowed up to request_bytes_max "
                 "less 64KiB");
    expect_error("wal_bytes_budget = \"255MiB\";",
                 "sluiced.conf:1: wal_bytes_budget: value 255MiB, allowed at least 4 * "
                 "segment_bytes for each shard");
    expect_error("shards = 64;\nwal_bytes_budget = \"1GiB\";",
                 "sluiced.conf:2: wal_bytes_budget: value 1GiB, allowed at least 4 * "
                 "segment_bytes for each shard");
    expect_error("disk_free_refuse_percent = 6;",
                 "sluiced.conf:1: disk_free_refuse_percent: value 6, allowed up to "
                 "disk_free_throttle_percent");
}

Test(config, addresses_that_others_reach_need_allow_unauthenticated)
{
    static const char *const addresses[] = {"0.0.0.0:7650", "192.168.1.1:1", "[::]:0",
                                            "[2001:db8::1]:5"};
    for (size_t i = 0; i < ARRAY_COUNT(addresses); i++) {
        cr_assert_neq(LOAD("--listen", addresses[i]), 0, "%s", addresses[i]);
        cr_assert_neq(LOAD("--http", addresses[i]), 0);
        cr_assert_neq(LOAD("--kafka", addresses[i]), 0);
        cr_assert_eq(LOAD("--listen", addresses[i], "--set", "allow_unauthenticated=true"), 0, "%s",
                     error.text);
    }
    cr_assert_eq(LOAD("--listen", "[::1]:0", "--http", "off", "--kafka", "localhost:0"), 0);
    expect_error("\nlisten = \"0.0.0.0:7650\";",
                 "sluiced.conf:2: listen: value 0.0.0.0:7650, allowed loopback addresses, since "
                 "nobody has to log in (allow_unauthenticated = true lifts this)");
}

Test(config, a_file_that_is_none_is_refused_with_its_line)
{
    cr_assert_neq(load_file("shards = ;"), 0);
    cr_assert_eq(strncmp(error.text, "sluiced.conf:1: ", 16), 0, "%s", error.text);
    cr_assert_neq(load_file("shards = 1;\nshards = 2;"), 0);
    cr_assert_eq(strncmp(error.text, "sluiced.conf:2: ", 16), 0, "%s", error.text);
    cr_assert_neq(load_file("shards = 1;\n\nlisten = \"unterminated"), 0);
    expect_error("shards = 1;\n  @include \"other\"", "sluiced.conf:2: @include is not supported");
    cr_assert_neq(LOAD("--config", "/nowhere/at/all"), 0);
    cr_assert_not_null(strstr(error.text, "/nowhere/at/all: cannot be opened: "));
    cr_assert_neq(LOAD("--config", directory), 0, "a directory");
}

Test(config, an_empty_file_changes_nothing)
{
    cr_assert_eq(load_file(""), 0, "%s", error.text);
    cr_assert_eq(load_file("\n\n# nothing\n"), 0, "%s", error.text);
    cr_assert_eq(config.connections_max, 12000);
}

Test(config, a_nul_byte_does_not_hide_what_follows)
{
    FILE *file = fopen(PATH, "w");
    fwrite("shards = 1;\n\0nonsense", 1, 21, file);
    fclose(file);
    cr_assert_neq(LOAD("--config", PATH), 0);
    cr_assert_str_eq(error.text, "sluiced.conf:2: a NUL byte: this is no text file");
}

Test(config, a_file_of_100_mb_is_refused_without_reading_it_all)
{
    write_file("shards = 1;\n");
    cr_assert_eq(truncate(PATH, 100000000), 0);
    cr_assert_neq(LOAD("--config", PATH), 0);
    cr_assert_str_eq(error.text, "sluiced.conf:1: the file is larger than 1MiB");
    cr_assert_neq(LOAD("--config", "/dev/zero"), 0, "nor one without end");
}

Test(config, a_file_of_too_many_lines_is_refused)
{
    FILE *file = fopen(PATH, "w");
    for (int i = 0; i < 70000; i++)
        fputc('\n', file);
    fputs("foo = 1;\n", file);
    fclose(file);
    cr_assert_neq(LOAD("--config", PATH), 0);
    cr_assert_str_eq(error.text, "sluiced.conf:65536: more than 65535 lines");
}

Test(config, arguments_that_are_none_are_named)
{
    static const struct {
        const char *arguments[3];
        const char *message;
    } cases[] = {
        {{"--foo"}, "unknown option \"--foo\"; see sluiced --help"},
        {{"--log_level", "info"}, "unknown option \"--log_level\"; see sluiced --help"},
        {{"--durability", "sync"}, "unknown option \"--durability\"; see sluiced --help"},
        {{"extra"}, "unexpected argument \"extra\"; see sluiced --help"},
        {{"-h"}, "unexpected argument \"-h\"; see sluiced --help"},
        {{"--listen"}, "a value is missing behind \"--listen\"; see sluiced --help"},
        {{"--development=yes"}, "no value is allowed in \"--development=yes\"; see sluiced --help"},
        {{"--set", "shards"}, "--set wants key=value, not \"shards\"; see sluiced --help"},
        {{"--set", "=1"}, "--set wants key=value, not \"=1\"; see sluiced --help"},
        {{"--set", "nonsense=1"}, "--set: unknown key \"nonsense\""},
        {{"--set", "shards=0"}, "--set: shards: value 0, allowed 1..64"},
        {{"--cores", "65"}, "--cores: cores: value 65, allowed 1..64 or all"},
        {{"--io", "aio"}, "--io: io: value aio, allowed auto|uring|epoll"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        const char *argv[] = {"sluiced", cases[i].arguments[0], cases[i].arguments[1], NULL};
        cr_assert_neq(load(argv), 0, "%s", cases[i].message);
        cr_assert_str_eq(error.text, cases[i].message);
    }
}

Test(config, questions_are_recognised)
{
    cr_assert_eq(LOAD("--help"), 0);
    cr_assert_eq(wish, CONFIG_HELP);
    cr_assert_eq(LOAD("--version"), 0);
    cr_assert_eq(wish, CONFIG_VERSION);
    cr_assert_eq(LOAD("--check", "--cores", "3"), 0);
    cr_assert_eq(wish, CONFIG_CHECK);
    cr_assert_eq(config.cores, 3);
    cr_assert_neq(LOAD("--check", "--set", "shards=0"), 0);
}

Test(config, what_is_shown_reads_back_as_the_same)
{
    char shown[CONFIG_TEXT_MAX], again[CONFIG_TEXT_MAX];
    static struct config copy;
    cr_assert_eq(
        load_file("connections_max = 17; retention_ms = \"90m\"; segment_bytes = \"12MiB\";\n"
                  "batch_bytes_max = \"3MiB\"; cores = 5; http = \"off\"; io = \"epoll\";"),
        0, "%s", error.text);
    config_defaults(&copy);
    for (int i = 0; i < CONFIG_KEY_COUNT; i++) {
        config_format(&config, i, shown);
        cr_assert_eq(
            config_set(&copy, config_keys[i].name, shown, (struct config_place){0}, &error), 0,
            "%s", error.text);
        cr_assert_str_eq(config_format(&copy, i, again), shown);
    }
}

static uint32_t ignored_count;

static void on_ignored(const struct config_key *key)
{
    cr_assert_str_eq(key->name, "connections_max");
    ignored_count++;
}

Test(config, a_reload_applies_what_is_live_and_tells_the_rest)
{
    static struct config next;
    config_defaults(&config);
    next = config;
    next.log_level = 0;
    next.connections_max = 5;
    config_reload(&config, &next, on_ignored);
    cr_assert_eq(config.log_level, 0);
    cr_assert_eq(config.connections_max, 12000);
    cr_assert_eq(ignored_count, 1);
}

/* ---- sluiced.conf.example ---- */

static char *read_all(FILE *file, size_t *length)
{
    char *text = calloc(1, 65536);
    *length = fread(text, 1, 65535, file);
    return text;
}

Test(config, the_example_parses_to_the_defaults_also_with_every_line_uncommented)
{
    static struct config defaults;
    char value[CONFIG_TEXT_MAX], expected[CONFIG_TEXT_MAX];
    size_t length;
    FILE *file = tmpfile();
    config_write_example(file);
    rewind(file);
    char *text = read_all(file, &length);
    fclose(file);
    cr_assert_eq(load_file(text), 0, "%s", error.text);
    for (char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        if (line[0] == '#' && line[1] != ' ' && line[1] != '\n')
            line[0] = ' ';
    }
    cr_assert_eq(load_file(text), 0, "%s", error.text);
    config_defaults(&defaults);
    for (int i = 0; i < CONFIG_KEY_COUNT; i++) {
        cr_assert_not_null(config.places[i].source, "%s is not in the example",
                           config_keys[i].name);
        if (i != CONFIG_cores) // "all" was replaced by their number
            cr_assert_str_eq(config_format(&config, i, value),
                             config_format(&defaults, i, expected));
    }
    free(text);
}

/* SLUICE_WRITE_EXAMPLE=1 writes the file anew. */
Test(config_example, the_file_is_what_the_table_says, .init = NULL, .fini = NULL)
{
    size_t length, expected_length;
    FILE *expected_file = tmpfile();
    config_write_example(expected_file);
    rewind(expected_file);
    char *expected = read_all(expected_file, &expected_length);
    fclose(expected_file);
    FILE *file = fopen(SLUICE_SOURCE_DIR "/sluiced.conf.example",
                       getenv("SLUICE_WRITE_EXAMPLE") ? "w+" : "r");
    cr_assert_not_null(file);
    if (getenv("SLUICE_WRITE_EXAMPLE")) {
        fputs(expected, file);
        rewind(file);
    }
    char *text = read_all(file, &length);
    fclose(file);
    cr_assert_str_eq(text, expected, "write it anew with SLUICE_WRITE_EXAMPLE=1");
    free(text);
    free(expected);
}
