/* The table of keys: parsing of one value, its range, and what several keys together must satisfy.
 *
 * A default is text like a user's and goes through the same function, so it can't be outside its
 * range. All errors have one shape: place, key, the value as it was written, and what would be
 * allowed. */
#include "broker/config.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "base/status.h"
#include "base/units.h"
#include "broker/limits.h"

const struct config_key config_keys[CONFIG_KEY_COUNT] = {
#define KEY(kind_, name_, default_, min_, max_, choices_, flags_, text_)                           \
    [CONFIG_##name_] = {#name_,                                                                    \
                        KIND_##kind_,                                                              \
                        offsetof(struct config, name_),                                            \
                        sizeof(((struct config *)0)->name_),                                       \
                        default_,                                                                  \
                        min_,                                                                      \
                        max_,                                                                      \
                        choices_,                                                                  \
                        flags_,                                                                    \
                        text_},
#include "broker/config.def"
#undef KEY
};

static int fail(struct config_error *error, struct config_place place, const char *format, ...)
    PRINTF_LIKE(3, 4);
static int parse(const struct config_key *key, const char *value, void *field);
static int parse_address(const struct config_key *key, const char *value, void *field);
static int parse_number(const struct config_key *key, const char *value, uint64_t *number);
static int parse_choice(const char *choices, const char *value, uint64_t *index);
static char *format_number(const struct config_key *key, uint64_t number, char *text);
static int check_value(const struct config *config, enum config_index index, bool allowed,
                       const char *why, struct config_error *error);
static int check_loopback(const struct config *config, enum config_index index,
                          const struct config_address *address, struct config_error *error);

static void *field_of(const struct config *config, const struct config_key *key)
{
    return (char *)(uintptr_t)config + key->offset;
}

void config_defaults(struct config *config)
{
    struct config_error error;
    memset(config, 0, sizeof(*config));
    for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
        const struct config_key *key = &config_keys[i];
        int status =
            config_set(config, key->name, key->default_text, (struct config_place){0}, &error);
        ASSERT(status == 0);
    }
}

const struct config_key *config_key_find(const char *name)
{
    for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
        if (strcmp(config_keys[i].name, name) == 0)
            return &config_keys[i];
    }
    return NULL;
}

int config_set(struct config *config, const char *name, const char *value,
               struct config_place place, struct config_error *error)
{
    const struct config_key *key = config_key_find(name);
    if (!key)
        return fail(error, place, "unknown key \"%s\"", name);
    if (parse(key, value, field_of(config, key)) != 0) {
        char range[128];
        return fail(error, place, "%s: value %s, allowed %s", name, value,
                    config_range(key, range));
    }
    config->places[key - config_keys] = place;
    return 0;
}

static int fail(struct config_error *error, struct config_place place, const char *format, ...)
{
    va_list arguments;
    int used = 0;
    if (place.source && place.line > 0)
        used = snprintf(error->text, sizeof(error->text), "%s:%" PRIu32 ": ", place.source,
                        place.line);
    else if (place.source)
        used = snprintf(error->text, sizeof(error->text), "%s: ", place.source);
    if (used < 0 || (size_t)used >= sizeof(error->text))
        used = 0;
    va_start(arguments, format);
    vsnprintf(error->text + used, sizeof(error->text) - (size_t)used, format, arguments);
    va_end(arguments);
    return E_INVALID;
}

/* ---- one value ---- */

static int parse(const struct config_key *key, const char *value, void *field)
{
    switch (key->kind) {
    case KIND_TEXT: {
        size_t length = strlen(value);
        if (length < key->min || length > key->max)
            return E_INVALID;
        memcpy(field, value, length + 1);
        return 0;
    }
    case KIND_ADDRESS:
        return parse_address(key, value, field);
    case KIND_BOOL:
        return parse_choice("false|true", value, field);
    case KIND_CHOICE:
        return parse_choice(key->choices, value, field);
    case KIND_COUNT:
    case KIND_SIZE:
    case KIND_DURATION:
        return parse_number(key, value, field);
    }
    return E_INVALID;
}

static int parse_address(const struct config_key *key, const char *value, void *field)
{
    struct config_address parsed = {0};
    if (strlen(value) >= sizeof(parsed.text))
        return E_INVALID;
    strcpy(parsed.text, value);
    parsed.off = *key->choices && strcmp(value, key->choices) == 0;
    if (!parsed.off && address_parse(value, &parsed.address) != 0)
        return E_INVALID;
    memcpy(field, &parsed, sizeof(parsed));
    return 0;
}

static int parse_number(const struct config_key *key, const char *value, uint64_t *number)
{
    uint64_t parsed;
    if (*key->choices && strcmp(value, key->choices) == 0) {
        *number = key->flags & CONFIG_WORD_MAX ? UINT64_MAX : 0;
        return 0;
    }
    int status = key->kind == KIND_SIZE       ? units_parse_size(value, &parsed)
                 : key->kind == KIND_DURATION ? units_parse_duration(value, &parsed)
                                              : units_parse_u64(value, &parsed);
    if (status != 0 || parsed < key->min || parsed > key->max)
        return E_INVALID;
    *number = parsed;
    return 0;
}

static int parse_choice(const char *choices, const char *value, uint64_t *index)
{
    size_t length = strlen(value);
    const char *at = choices;
    for (uint64_t i = 0;; i++) {
        size_t word = strcspn(at, "|");
        if (word == length && memcmp(at, value, length) == 0) {
            *index = i;
            return 0;
        }
        if (at[word] == '\0')
            return E_INVALID;
        at += word + 1;
    }
}

/* ---- showing ---- */

/* With a unit where that is exact, so that what is shown can be written into a file. */
static char *format_number(const struct config_key *key, uint64_t number, char *text)
{
    uint64_t again = 0;
    if (key->kind == KIND_SIZE && units_parse_size(units_format_size(number, text), &again) == 0 &&
        again == number)
        return text;
    if (key->kind == KIND_DURATION &&
        units_parse_duration(units_format_duration(number, text), &again) == 0 && again == number)
        return text;
    snprintf(text, UNITS_TEXT_MAX, "%" PRIu64, number);
    return text;
}

char *config_range(const struct config_key *key, char *text)
{
    char low[UNITS_TEXT_MAX], high[UNITS_TEXT_MAX];
    switch (key->kind) {
    case KIND_TEXT:
        snprintf(text, 128, "%" PRIu64 "..%" PRIu64 " bytes", key->min, key->max);
        break;
    case KIND_ADDRESS:
        snprintf(text, 128, "A:P%s%s", *key->choices ? " or " : "", key->choices);
        break;
    case KIND_BOOL:
        snprintf(text, 128, "true|false");
        break;
    case KIND_CHOICE:
        snprintf(text, 128, "%s", key->choices);
        break;
    case KIND_COUNT:
    case KIND_SIZE:
    case KIND_DURATION:
        format_number(key, key->min, low);
        if (key->max == UINT64_MAX)
            snprintf(text, 128, "%s or more", low);
        else
            snprintf(text, 128, "%s..%s", low, format_number(key, key->max, high));
        if (*key->choices)
            snprintf(text + strlen(text), 128 - strlen(text), " or %s", key->choices);
        break;
    }
    return text;
}

char *config_format(const struct config *config, enum config_index index, char *text)
{
    const struct config_key *key = &config_keys[index];
    const void *field = field_of(config, key);
    if (key->kind == KIND_TEXT)
        return strcpy(text, field);
    if (key->kind == KIND_ADDRESS)
        return strcpy(text, ((const struct config_address *)field)->text);
    uint64_t number;
    memcpy(&number, field, sizeof(number));
    if (key->kind == KIND_BOOL || key->kind == KIND_CHOICE) {
        const char *at = key->kind == KIND_BOOL ? "false|true" : key->choices;
        for (; number > 0; number--)
            at = strchr(at, '|') + 1;
        snprintf(text, CONFIG_TEXT_MAX, "%.*s", (int)strcspn(at, "|"), at);
        return text;
    }
    bool is_word = (key->flags & CONFIG_WORD_MAX && number == UINT64_MAX) ||
                   (key->flags & CONFIG_WORD_ZERO && number == 0);
    return is_word ? strcpy(text, key->choices) : format_number(key, number, text);
}

/* ---- several values together ---- */

int config_check(const struct config *config, struct config_error *error)
{
    int status = check_value(config, CONFIG_segment_bytes, config->segment_bytes % MIB == 0,
                             "a multiple of 1MiB", error);
    if (status == 0)
        status = check_value(config, CONFIG_batch_bytes_max,
                             config->batch_bytes_max <= config->segment_bytes / 4,
                             "up to a quarter of segment_bytes", error);
    if (status == 0)
        status = check_value(config, CONFIG_batch_bytes_max,
                             config->batch_bytes_max + FRAME_BYTES_MAX_BEFORE_HELLO <=
                                 config->request_bytes_max,
                             "up to request_bytes_max less 64KiB", error);
    if (status == 0)
        status = check_value(config, CONFIG_record_bytes_max,
                             config->record_bytes_max <= config->batch_bytes_max,
                             "up to batch_bytes_max", error);
    if (status == 0)
        status = check_value(config, CONFIG_wal_bytes_budget,
                             config->wal_bytes_budget / config->shards / config->segment_bytes >= 4,
                             "at least 4 * segment_bytes for each shard", error);
    if (status == 0)
        status =
            check_value(config, CONFIG_txn_timeout, config->txn_timeout <= config->txn_timeout_max,
                        "up to txn_timeout_max", error);
    if (status == 0)
        status = check_value(config, CONFIG_disk_free_refuse_percent,
                             config->disk_free_refuse_percent <= config->disk_free_throttle_percent,
                             "up to disk_free_throttle_percent", error);
    if (status == 0)
        status = check_loopback(config, CONFIG_listen, &config->listen, error);
    if (status == 0)
        status = check_loopback(config, CONFIG_http, &config->http, error);
    if (status == 0)
        status = check_loopback(config, CONFIG_kafka, &config->kafka, error);
    return status;
}

static int check_value(const struct config *config, enum config_index index, bool allowed,
                       const char *why, struct config_error *error)
{
    static char value[CONFIG_TEXT_MAX];
    if (allowed)
        return 0;
    return fail(error, config->places[index], "%s: value %s, allowed %s", config_keys[index].name,
                config_format(config, index, value), why);
}

static int check_loopback(const struct config *config, enum config_index index,
                          const struct config_address *address, struct config_error *error)
{
    bool allowed =
        address->off || config->allow_unauthenticated || address_is_loopback(&address->address);
    return check_value(
        config, index, allowed,
        "loopback addresses, since nobody has to log in (allow_unauthenticated = true "
        "lifts this)",
        error);
}

void config_reload(struct config *config, const struct config *next,
                   void (*on_ignored)(const struct config_key *key))
{
    char before[CONFIG_TEXT_MAX], after[CONFIG_TEXT_MAX];
    for (int i = 0; i < CONFIG_KEY_COUNT; i++) {
        const struct config_key *key = &config_keys[i];
        if (strcmp(config_format(config, i, before), config_format(next, i, after)) == 0)
            continue;
        if (key->flags & CONFIG_LIVE)
            memcpy(field_of(config, key), field_of(next, key), key->size);
        else
            on_ignored(key);
    }
}
