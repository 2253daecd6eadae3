/* Reading a configuration file: libconfig parses, the table decides.
 *
 * The happy path is: read the whole file, let libconfig parse the text, set each top-level setting.
 * Refused, with the line: what libconfig refuses (syntax, a key twice), groups and lists,
 * fractions, unknown keys, values outside their range. Refused before parsing: files that are no
 * text (NUL bytes, of which libconfig would see only what stands before), too long ones, and
 * @include, since a line number says nothing without its file. */
#include <errno.h>
#include <libconfig.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "broker/config.h"

static int read_text(const char *path, char **text, size_t *length, struct config_error *error);
static int check_text(const char *path, const char *text, size_t length,
                      struct config_error *error);
static int read_settings(struct config *config, const char *path, const config_t *parsed,
                         struct config_error *error);
static int set_from(struct config *config, const config_setting_t *setting,
                    struct config_place place, struct config_error *error);

int config_load_file(struct config *config, const char *path, struct config_error *error)
{
    char *text = NULL;
    size_t length;
    int status = read_text(path, &text, &length, error);
    if (status == 0)
        status = config_load_text(config, path, text, length, error);
    free(text);
    return status;
}

int config_load_text(struct config *config, const char *path, const char *text, size_t length,
                     struct config_error *error)
{
    int status = check_text(path, text, length, error);
    if (status != 0)
        return status;
    config_t parsed;
    config_init(&parsed);
    if (config_read_string(&parsed, text) == CONFIG_TRUE) {
        status = read_settings(config, path, &parsed, error);
    } else {
        snprintf(error->text, sizeof(error->text), "%s:%d: %s", path, config_error_line(&parsed),
                 config_error_text(&parsed));
        status = E_INVALID;
    }
    config_destroy(&parsed);
    return status;
}

/* One byte more than is allowed, so that a longer file is seen as such; a NUL behind it all. */
static int read_text(const char *path, char **text, size_t *length, struct config_error *error)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        snprintf(error->text, sizeof(error->text), "%s: cannot be opened: %s", path,
                 strerrordesc_np(errno));
        return E_INVALID;
    }
    *text = malloc(CONFIG_FILE_BYTES_MAX + 2);
    *length = *text ? fread(*text, 1, CONFIG_FILE_BYTES_MAX + 1, file) : 0;
    bool failed = *text == NULL || ferror(file);
    int os_error = errno;
    fclose(file);
    if (failed) {
        snprintf(error->text, sizeof(error->text), "%s: cannot be read: %s", path,
                 strerrordesc_np(os_error));
        return E_INVALID;
    }
    (*text)[*length] = '\0';
    return 0;
}

static int check_text(const char *path, const char *text, size_t length, struct config_error *error)
{
    const char *why = NULL;
    uint32_t line = 1;
    bool line_starts = true;
    if (length > CONFIG_FILE_BYTES_MAX)
        why = "the file is larger than 1MiB";
    for (size_t i = 0; !why && i < length; i++) {
        if (text[i] == '\0')
            why = "a NUL byte: this is no text file";
        else if (line_starts && strncmp(text + i, "@include", 8) == 0)
            why = "@include is not supported";
        else if (line > CONFIG_FILE_LINES_MAX)
            why = "more than 65535 lines";
        line += text[i] == '\n' && !why;
        line_starts = text[i] == '\n' || (line_starts && (text[i] == ' ' || text[i] == '\t'));
    }
    if (!why)
        return 0;
    snprintf(error->text, sizeof(error->text), "%s:%u: %s", path, line, why);
    return E_INVALID;
}

static int read_settings(struct config *config, const char *path, const config_t *parsed,
                         struct config_error *error)
{
    const config_setting_t *root = config_root_setting(parsed);
    for (int i = 0; i < config_setting_length(root); i++) {
        const config_setting_t *setting = config_setting_get_elem(root, (unsigned)i);
        struct config_place place = {path, config_setting_source_line(setting)};
        int status = set_from(config, setting, place, error);
        if (status != 0)
            return status;
    }
    return 0;
}

/* Numbers are handed on as text, so that one function knows the ranges. */
static int set_from(struct config *config, const config_setting_t *setting,
                    struct config_place place, struct config_error *error)
{
    const char *name = config_setting_name(setting);
    char number[32];
    switch (config_setting_type(setting)) {
    case CONFIG_TYPE_STRING:
        return config_set(config, name, config_setting_get_string(setting), place, error);
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_INT64:
        snprintf(number, sizeof(number), "%lld", config_setting_get_int64(setting));
        return config_set(config, name, number, place, error);
    case CONFIG_TYPE_BOOL:
        return config_set(config, name, config_setting_get_bool(setting) ? "true" : "false", place,
                          error);
    case CONFIG_TYPE_FLOAT:
        snprintf(number, sizeof(number), "%g", config_setting_get_float(setting));
        return config_set(config, name, number, place, error);
    default: /* keys are flat */
        return config_set(config, name, "{...}", place, error);
    }
}
