/* What the commands of sluicectl share: the invocation, options, output, errors.
 *
 * Results go to standard output, progress and errors to standard error. Exit codes are part of the contract with
 * scripts: 0 done, 1 failed, 2 usage (for `wal inspect` also 3: damaged). */
#ifndef SLUICE_TOOLS_CTL_H
#define SLUICE_TOOLS_CTL_H

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "client/include/sluice.h"

enum exit_code { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_DAMAGED = 3 };

struct ctl {
    const char *server; // --server; NULL: $SLUICE_SERVER, else the default
    bool json;
    const char *command; // "topic create": for messages
    const char *help;    // of the command
};

/* One command: argv[0] is its last word. Returns an exit code. */
typedef int (*command_fn)(struct ctl *ctl, int argc, char **argv);

/* ---- options: getopt_long() with the common ones built in ----
 *
 *     static const struct option options[] = {{"count", required_argument, NULL, 'n'}, CTL_OPTIONS};
 *     while ((option = ctl_option(ctl, argc, argv, options)) != -1) ...
 *
 * Common options and errors are dealt with inside: '?' means "leave with ctl->exit_code". */
enum { CTL_OPTION_SERVER = 1000, CTL_OPTION_JSON, CTL_OPTION_HELP };
#define CTL_OPTIONS                                                                                \
    {"server", required_argument, NULL, CTL_OPTION_SERVER},                                        \
        {"json", no_argument, NULL, CTL_OPTION_JSON},                                              \
        {"help", no_argument, NULL, CTL_OPTION_HELP},                                              \
    {                                                                                              \
        NULL, 0, NULL, 0                                                                           \
    }

/* The next option's value; -1: no more, words begin at optind; '?': stop, *exit_code says how. */
int ctl_option(struct ctl *ctl, int argc, char **argv, const struct option *options,
               int *exit_code);

/* "sluicectl: topic create: TEXT" and how to get help. Returns EXIT_USAGE. */
int ctl_usage(const struct ctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "sluicectl: topic create: TEXT". Returns EXIT_FAILED. */
int ctl_fail(const struct ctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same for a status of the library, with the broker's own words. Returns EXIT_FAILED. */
int ctl_fail_status(const struct ctl *ctl, int status, const char *what);

/* Exactly `count` words must be left from optind on. 0, or EXIT_USAGE with a message naming `names`. */
int ctl_words(const struct ctl *ctl, int argc, char **argv, int count, const char *names);

bool ctl_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *value);

/* Connects, waiting up to 10 s. NULL after a message. */
struct sluice_client *ctl_connect(const struct ctl *ctl);

/* ---- JSON: one object per line ---- */
struct json {
    FILE *file;
    bool first;
};
void json_begin(struct json *json, FILE *file); // {
void json_string(struct json *json, const char *key, const char *value);
void json_bytes(struct json *json, const char *key, const void *bytes,
                size_t len); // key, or key_base64 when not UTF-8; NULL: null
void json_u64(struct json *json, const char *key, uint64_t value);
void json_i64(struct json *json, const char *key, int64_t value);
void json_bool(struct json *json, const char *key, bool value);
void json_open(struct json *json, const char *key,
               char bracket);                     // "key": { or [ ; key NULL inside arrays
void json_close(struct json *json, char bracket); // } or ]
void json_end(struct json *json);                 // } and newline

/* ---- progress: on standard error, only when it is a terminal, at most 5 times a second ---- */
struct progress {
    bool shown;
    uint64_t next_ns;
    uint64_t start_ns;
};
void progress_begin(struct progress *progress);
void progress_show(struct progress *progress, const char *what, uint64_t records, uint64_t bytes);
void progress_end(struct progress *progress);

/* ---- text with escapes, as users type it: \n \t \r \\ \0 \xNN ---- */
/* Unescapes in place. Returns the length, or -1: the text ends inside an escape or knows it not. */
long text_unescape(char *text);

/* ---- commands ---- */
int cmd_status(struct ctl *ctl, int argc, char **argv);
int cmd_topic_create(struct ctl *ctl, int argc, char **argv);
int cmd_topic_list(struct ctl *ctl, int argc, char **argv);
int cmd_topic_describe(struct ctl *ctl, int argc, char **argv);
int cmd_topic_alter(struct ctl *ctl, int argc, char **argv);
int cmd_topic_delete(struct ctl *ctl, int argc, char **argv);
int cmd_produce(struct ctl *ctl, int argc, char **argv);
int cmd_consume(struct ctl *ctl, int argc, char **argv);
int cmd_group_list(struct ctl *ctl, int argc, char **argv);
int cmd_group_describe(struct ctl *ctl, int argc, char **argv);
int cmd_group_reset(struct ctl *ctl, int argc, char **argv);
int cmd_group_delete(struct ctl *ctl, int argc, char **argv);
int cmd_txn_list(struct ctl *ctl, int argc, char **argv);
int cmd_txn_describe(struct ctl *ctl, int argc, char **argv);
int cmd_txn_commit(struct ctl *ctl, int argc, char **argv);
int cmd_txn_abort(struct ctl *ctl, int argc, char **argv);
int cmd_wal_inspect(struct ctl *ctl, int argc, char **argv);
int cmd_wal_salvage(struct ctl *ctl, int argc, char **argv);

#endif
