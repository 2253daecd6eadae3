/* Topic settings as text: one table for parsing, listing and docs (topic_settings.def). */
#include <stdio.h>

#include "base/status.h"
#include "base/units.h"
#include "broker/topics.h"

enum setting_kind { DURATION, SIZE, SIZE32, VALIDATION, TIMESTAMP };

struct setting {
    const char *key;
    enum setting_kind kind;
    uint64_t min, max;
    const char *text;
};

static const struct setting settings_table[] = {
#define SETTING(key, field, kind, min, max, text) {#key, kind, min, max, text},
#include "broker/topic_settings.def"
#undef SETTING
};

#define WORDS_BYTES 72 // of struct request

/* The words of a refusal end with what is allowed; that must not be cut off. */
#define SETTING(key, field, kind, min, max, text)                                                  \
    static_assert(sizeof(#key ": " text) <= WORDS_BYTES, #key);
#include "broker/topic_settings.def"
#undef SETTING

enum setting_index {
#define SETTING(key, field, kind, min, max, text) SETTING_##key,
#include "broker/topic_settings.def"
#undef SETTING
};

static const char *const validation_words[] = {"records", "header"};
static const char *const timestamp_words[] = {"create", "append"};

static int parse_word(const char *text, const char *const words[2], uint64_t *value)
{
    for (uint64_t i = 0; i < 2; i++) {
        if (strcmp(text, words[i]) == 0) {
            *value = i;
            return 0;
        }
    }
    return E_INVALID;
}

static int parse_value(const struct setting *setting, const char *text, uint64_t *value)
{
    bool limitable = setting->kind == DURATION || setting->kind == SIZE;
    if (limitable && strcmp(text, "none") == 0) {
        *value = UINT64_MAX;
        return 0;
    }
    switch (setting->kind) {
    case DURATION:
        return units_parse_duration(text, value);
    case SIZE:
    case SIZE32:
        return units_parse_size(text, value);
    case VALIDATION:
        return parse_word(text, validation_words, value);
    case TIMESTAMP:
        return parse_word(text, timestamp_words, value);
    }
    return E_INVALID;
}

static void store_value(struct disk_partition_open *settings, enum setting_index i, uint64_t value)
{
    switch (i) {
    case SETTING_retention_ms:
        settings->retention_ms = le64_make(value);
        break;
    case SETTING_retention_bytes:
        settings->retention_bytes = le64_make(value);
        break;
    case SETTING_batch_bytes_max:
        settings->batch_bytes_max = le32_make((uint32_t)value);
        break;
    case SETTING_validation:
        settings->validation = (uint8_t)value;
        break;
    case SETTING_timestamp_type:
        settings->timestamp_type = (uint8_t)value;
        break;
    }
}

uint16_t topic_setting_apply(struct disk_partition_open *settings, struct slice key,
                             struct slice value, char text[WORDS_BYTES])
{
    for (uint32_t i = 0; i < ARRAY_COUNT(settings_table); i++) {
        const struct setting *setting = &settings_table[i];
        if (!slice_equals(key, slice_of_text(setting->key)))
            continue;
        char word[48] = {0};
        uint64_t number = 0;
        bool fits = value.len < sizeof(word);
        if (fits && value.len > 0)
            memcpy(word, value.bytes, value.len);
        if (fits && strlen(word) == value.len && parse_value(setting, word, &number) == 0 &&
            number >= setting->min && number <= setting->max) {
            store_value(settings, i, number);
            return PE_NONE;
        }
        snprintf(text, WORDS_BYTES, "%s: %s", setting->key, setting->text);
        return PE_INVALID_SETTING;
    }
    uint32_t shown = (uint32_t)min_u64(key.len, 48);
    while (shown > 0 && shown < key.len && (key.bytes[shown] & 0xc0) == 0x80)
        shown--; // a character is shown whole or not at all: the text is checked as UTF-8
    snprintf(text, WORDS_BYTES, "unknown setting \"%.*s\"", (int)shown, (const char *)key.bytes);
    return PE_INVALID_SETTING;
}

uint32_t topic_setting_count(void)
{
    return ARRAY_COUNT(settings_table);
}

const char *topic_setting_key(uint32_t i)
{
    ASSERT(i < ARRAY_COUNT(settings_table));
    return settings_table[i].key;
}

static void format_limit(uint64_t value, char text[48], char *(*format)(uint64_t, char *))
{
    if (value == UINT64_MAX)
        snprintf(text, 48, "none");
    else
        format(value, text);
}

/* Values are shown as plain numbers of the unit in the key's name, so that scripts can compute. */
static char *format_number(uint64_t value, char *text)
{
    snprintf(text, 48, "%llu", (unsigned long long)value);
    return text;
}

void topic_setting_format(const struct disk_partition_open *settings, uint32_t i, char text[48])
{
    switch ((enum setting_index)i) {
    case SETTING_retention_ms:
        format_limit(le64_get(settings->retention_ms), text, format_number);
        return;
    case SETTING_retention_bytes:
        format_limit(le64_get(settings->retention_bytes), text, format_number);
        return;
    case SETTING_batch_bytes_max:
        format_number(le32_get(settings->batch_bytes_max), text);
        return;
    case SETTING_validation:
        snprintf(text, 48, "%s", validation_words[settings->validation & 1]);
        return;
    case SETTING_timestamp_type:
        snprintf(text, 48, "%s", timestamp_words[settings->timestamp_type & 1]);
        return;
    }
    text[0] = 0;
}
