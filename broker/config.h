/* The configuration: defaults < file < --set < options. One table (config.def) is parser, ranges,
 * and sluiced.conf.example.
 *
 * Everything is read before the broker starts (and again at SIGHUP, by the main thread), with
 * stdio: this is the one place that reads a file outside the I/O interface. Thread: main writes;
 * afterwards all may read. */
#ifndef SLUICE_BROKER_CONFIG_H
#define SLUICE_BROKER_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/address.h"

#define CONFIG_TEXT_MAX 4096
#define CONFIG_FILE_BYTES_MAX                                                                      \
    ((size_t)(1 * MIB))             // a configuration has some 30 lines; this stops a mistake
#define CONFIG_FILE_LINES_MAX 65535 // libconfig counts lines in 16 bits

struct config_address {
    bool off;
    struct address address;
    char text[ADDRESS_TEXT_MAX];
};

/* Where a value came from, for messages: FILE:LINE, "--set" or "--listen". */
struct config_place {
    const char *source; // borrowed from argv; NULL: the default
    uint32_t line;      // 0: none
};

typedef char config_type_TEXT[CONFIG_TEXT_MAX];
typedef struct config_address config_type_ADDRESS;
typedef uint64_t config_type_COUNT;
typedef uint64_t config_type_SIZE;
typedef uint64_t config_type_DURATION; // ms
typedef uint64_t config_type_BOOL;
typedef uint64_t config_type_CHOICE; // index among the choices

enum config_index {
#define KEY(kind, name, default_text, min, max, choices, flags, text) CONFIG_##name,
#include "broker/config.def"
#undef KEY
    CONFIG_KEY_COUNT
};

struct config {
#define KEY(kind, name, default_text, min, max, choices, flags, text) config_type_##kind name;
#include "broker/config.def"
#undef KEY
    struct config_place places[CONFIG_KEY_COUNT];
};

/* Orders of the choices in config.def. io, log_level and log_format are those of base. */
enum config_durability { DURABILITY_SYNC, DURABILITY_RELAXED };

enum config_wish { CONFIG_RUN, CONFIG_CHECK, CONFIG_HELP, CONFIG_VERSION };

struct config_error {
    char text[1024]; // one line: FILE:LINE: key: value V, allowed A..B
};

/* From the command line (and the file it names). Returns 0 with *wish, or INVALID with *error. With
 * HELP and VERSION nothing else was looked at. */
MUST_USE int config_load(struct config *config, int argc, char *const argv[],
                         enum config_wish *wish, struct config_error *error);

/* ---- the parts of config_load(), each usable alone ---- */

void config_defaults(struct config *config);
/* Reads a libconfig file. INVALID with *error, also when it can't be opened. `path` must outlive
 * config. */
MUST_USE int config_load_file(struct config *config, const char *path, struct config_error *error);
/* The same from text that is in memory already, with a NUL behind `length` bytes; path is for
 * messages. */
MUST_USE int config_load_text(struct config *config, const char *path, const char *text,
                              size_t length, struct config_error *error);
/* Sets one key from text; `place` is for messages. */
MUST_USE int config_set(struct config *config, const char *key, const char *value,
                        struct config_place place, struct config_error *error);
/* What one key alone can't say: relations between keys, loopback addresses without
 * authentication. */
MUST_USE int config_check(const struct config *config, struct config_error *error);

/* ---- the table ---- */

enum config_kind {
    KIND_TEXT,
    KIND_ADDRESS,
    KIND_COUNT,
    KIND_SIZE,
    KIND_DURATION,
    KIND_BOOL,
    KIND_CHOICE
};
enum config_flags {
    CONFIG_OPTION = 1,    // has a long option
    CONFIG_LIVE = 2,      // SIGHUP applies it
    CONFIG_FIXED = 4,     // a property of the store
    CONFIG_WORD_ZERO = 8, // the word stands for 0
    CONFIG_WORD_MAX = 16, // the word stands for UINT64_MAX
};
struct config_key {
    const char *name;
    enum config_kind kind;
    size_t offset, size; // of the field in struct config
    const char *default_text;
    uint64_t min, max;
    const char *choices;
    unsigned flags;
    const char *text;
};
extern const struct config_key config_keys[CONFIG_KEY_COUNT];

const struct config_key *config_key_find(const char *name); // NULL: unknown
/* The value as a user would write it; text holds CONFIG_TEXT_MAX bytes. */
char *config_format(const struct config *config, enum config_index index, char *text);
/* "1..64", "1MiB..64MiB", "sync|relaxed": the range as messages show it. text: 128 bytes. */
char *config_range(const struct config_key *key, char *text);

/* Writes sluiced.conf.example: every key with unit, default, range and reason. */
void config_write_example(FILE *file);
void config_write_help(FILE *file);

/* Applies the CONFIG_LIVE keys of `next` to `config`; calls on_ignored for each other key that
 * differs. */
void config_reload(struct config *config, const struct config *next,
                   void (*on_ignored)(const struct config_key *key));

#endif
