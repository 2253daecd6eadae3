/* The configuration: a file, a command line, and the settings of a topic, which clients send.
 *
 * Input: first byte: 0 = a file, 1 = arguments, a line each, 2 = a topic's setting: key, NUL, value;
 * then the text. Held against: what is refused has one line of words that say so; what is accepted
 * can be shown, and what is shown is accepted again and means the same; memory. */
#include <string.h>

#include "base/status.h"
#include "broker/config.h"
#include "broker/topics.h"
#include "tests/fuzz/fuzz.h"

/* libconfig 1.5 forgets the string that it is in the middle of when the syntax is wrong: once at start, then
 * the process ends; once at each reload of a broken file. The sanitizer's library must see this. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libconfig.so";
}

#define ARGUMENTS_MAX 32
#define WORDS_BYTES 72

static void load_file(struct config *config, const char *text, size_t len);
static void load_arguments(struct config *config, char *text);
static void shown_reads_back(const struct config *config);
static void apply_setting(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct config defaults, config;
    struct input_reader input = {data, size};
    uint8_t kind = (uint8_t)input_number(&input, 1);
    if (defaults.listen.text[0] == '\0')
        config_defaults(&defaults);
    if (kind == 2) {
        apply_setting(input.at, input.left);
        return 0;
    }
    char *text = (char *)exact_block(0, input.left + 1);
    if (input.left > 0)
        memcpy(text, input.at, input.left);
    text[input.left] = '\0';
    config = defaults;
    if (kind == 0)
        load_file(&config, text, input.left);
    else
        load_arguments(&config, text);
    return 0;
}

/* A list in a list is one character, and libconfig makes a setting of it. */
static size_t bytes_of_lists(const char *text, size_t len)
{
    size_t count = 0;
    for (size_t i = 0; i < len; i++)
        count += text[i] == '(' || text[i] == '[' || text[i] == '{';
    return count * 320;
}

/* libconfig keeps a tree, about 200 bytes for a setting that may be four: so far as the input is
 * short the bound holds; a file of 1 MiB, the longest allowed, may cost 60 MiB at start. */
static void load_file(struct config *config, const char *text, size_t len)
{
    struct config_error error = {""};
    memory_bound_begin();
    int status = config_load_text(config, "fuzz", text, len, &error);
    memory_bound_end(len, bytes_of_lists(text, len));
    ASSERT(status == 0 || (status == E_INVALID && strncmp(error.text, "fuzz:", 5) == 0));
    if (status == 0 && config_check(config, &error) == 0)
        shown_reads_back(config);
}

static void load_arguments(struct config *config, char *text)
{
    struct config_error error = {""};
    enum config_wish wish;
    char *argv[ARGUMENTS_MAX] = {(char *)(uintptr_t) "sluiced"}, *rest = text;
    int argc = 1;
    for (char *line; argc < ARGUMENTS_MAX && (line = strsep(&rest, "\n"));) {
        if (strncmp(line, "--config", 8) == 0)
            return; // would open whatever it names
        argv[argc++] = line;
    }
    memory_bound_begin();
    int status = config_load(config, argc, argv, &wish, &error);
    memory_bound_end(strlen(text), 0);
    ASSERT(status == 0 || (status == E_INVALID && error.text[0] != '\0'));
    if (status == 0 && wish != CONFIG_HELP && wish != CONFIG_VERSION)
        shown_reads_back(config);
}

static void shown_reads_back(const struct config *config)
{
    static struct config again;
    static char text[CONFIG_TEXT_MAX], back[CONFIG_TEXT_MAX];
    struct config_error error;
    again = *config;
    for (int i = 0; i < CONFIG_KEY_COUNT; i++) {
        if (i == CONFIG_cores)
            continue; // 0, "all", has become a number
        config_format(config, i, text);
        ASSERT(config_set(&again, config_keys[i].name, text, (struct config_place){0}, &error) ==
               0);
        ASSERT(strcmp(config_format(&again, i, back), text) == 0);
        ASSERT(memcmp((const char *)&again + config_keys[i].offset,
                      (const char *)config + config_keys[i].offset, config_keys[i].size) == 0 ||
               config_keys[i].kind == KIND_TEXT || config_keys[i].kind == KIND_ADDRESS);
    }
}

/* As broker/handle_topic.c calls it: both were checked to be UTF-8 without NUL. */
static void apply_setting(const uint8_t *bytes, size_t len)
{
    const uint8_t *nul = memchr(bytes, '\0', len);
    size_t key_len = nul ? (size_t)(nul - bytes) : len;
    size_t value_len = nul ? len - key_len - 1 : 0;
    struct slice key = {exact_copy(0, bytes, key_len), (uint32_t)key_len};
    struct slice value = {exact_copy(1, nul ? nul + 1 : bytes, value_len), (uint32_t)value_len};
    struct disk_partition_open settings = {0}, again;
    char text[WORDS_BYTES] = "", shown[48];
    if (!slice_is_utf8(key) || !slice_is_utf8(value))
        return;
    memory_bound_begin();
    uint16_t error = topic_setting_apply(&settings, key, value, text);
    memory_bound_end(len, 0);
    ASSERT(error == PE_NONE || (error == PE_INVALID_SETTING && text[0] != '\0'));
    ASSERT(memchr(text, '\0', sizeof(text)) != NULL && slice_is_utf8(slice_of_text(text)));
    for (uint32_t i = 0; error == PE_NONE && i < topic_setting_count(); i++) {
        if (!slice_equals(key, slice_of_text(topic_setting_key(i))))
            continue;
        again = (struct disk_partition_open){0};
        topic_setting_format(&settings, i, shown);
        ASSERT(topic_setting_apply(&again, key, slice_of_text(shown), text) == PE_NONE);
        ASSERT(memcmp(&again, &settings, sizeof(again)) == 0);
    }
}
