/* The command line: options are the keys flagged CONFIG_OPTION, with - for _, plus a few words of
 * their own.
 *
 * Two passes: the first finds --config, --set and questions (--help, --version, --check), so that
 * precedence does not depend on the order of arguments; the second applies the options. "--key
 * value" and "--key=value" are the same; an option given twice counts as it was given last. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "broker/config.h"

struct argument {        // one option of the command line, taken apart
    char name[64];       // as written, without "--"
    const char *written; // the argument itself, for messages
    const char *value;   // NULL: none was given
};

enum stage { STAGE_QUESTIONS, STAGE_SETS, STAGE_OPTIONS };

struct command_line {
    const char *config_path;
    enum config_wish wish;
};

static int walk(struct config *config, int argc, char *const argv[], enum stage stage,
                struct command_line *line, struct config_error *error);
static int take_apart(int argc, char *const argv[], int *at, struct argument *argument,
                      struct config_error *error);
static bool takes_value(const char *name);
static int apply(struct config *config, const struct argument *argument, enum stage stage,
                 struct command_line *line, struct config_error *error);
static int apply_set(struct config *config, const struct argument *argument,
                     struct config_error *error);
static const struct config_key *key_of_option(const char *name);
static uint64_t cpu_count(void);

int config_load(struct config *config, int argc, char *const argv[], enum config_wish *wish,
                struct config_error *error)
{
    struct command_line line = {.wish = CONFIG_RUN};
    config_defaults(config);
    int status = walk(config, argc, argv, STAGE_QUESTIONS, &line, error);
    *wish = line.wish;
    if (status != 0 || line.wish == CONFIG_HELP || line.wish == CONFIG_VERSION)
        return status;
    if (line.config_path)
        status = config_load_file(config, line.config_path, error);
    if (status == 0)
        status = walk(config, argc, argv, STAGE_SETS, &line, error);
    if (status == 0)
        status = walk(config, argc, argv, STAGE_OPTIONS, &line, error);
    if (status == 0 && config->cores == 0)
        config->cores = cpu_count();
    return status == 0 ? config_check(config, error) : status;
}

/* Those that this process may use. */
static uint64_t cpu_count(void)
{
    cpu_set_t cpus;
    if (sched_getaffinity(0, sizeof(cpus), &cpus) != 0)
        return 1;
    return min_u64((uint64_t)CPU_COUNT(&cpus), config_keys[CONFIG_cores].max);
}

static int walk(struct config *config, int argc, char *const argv[], enum stage stage,
                struct command_line *line, struct config_error *error)
{
    for (int at = 1; at < argc;) {
        struct argument argument;
        int status = take_apart(argc, argv, &at, &argument, error);
        if (status == 0)
            status = apply(config, &argument, stage, line, error);
        if (status != 0)
            return status;
    }
    return 0;
}

static int usage_error(struct config_error *error, const char *what, const char *argument)
{
    snprintf(error->text, sizeof(error->text), "%s \"%s\"; see sluiced --help", what, argument);
    return E_INVALID;
}

static int take_apart(int argc, char *const argv[], int *at, struct argument *argument,
                      struct config_error *error)
{
    const char *written = argv[(*at)++];
    if (strncmp(written, "--", 2) != 0)
        return usage_error(error, "unexpected argument", written);
    size_t length = strcspn(written + 2, "=");
    if (length >= sizeof(argument->name))
        return usage_error(error, "unknown option", written);
    memcpy(argument->name, written + 2, length);
    argument->name[length] = '\0';
    argument->written = written;
    argument->value = written[2 + length] == '=' ? written + 3 + length : NULL;
    if (!takes_value(argument->name)) {
        if (argument->value)
            return usage_error(error, "no value is allowed in", written);
        return 0;
    }
    if (!argument->value && *at < argc)
        argument->value = argv[(*at)++];
    return argument->value ? 0 : usage_error(error, "a value is missing behind", written);
}

static bool takes_value(const char *name)
{
    if (strcmp(name, "config") == 0 || strcmp(name, "set") == 0)
        return true;
    const struct config_key *key = key_of_option(name);
    return key && key->kind != KIND_BOOL;
}

static int apply(struct config *config, const struct argument *argument, enum stage stage,
                 struct command_line *line, struct config_error *error)
{
    const char *name = argument->name;
    if (strcmp(name, "config") == 0)
        line->config_path = argument->value;
    else if (strcmp(name, "set") == 0)
        return stage == STAGE_SETS ? apply_set(config, argument, error) : 0;
    else if (strcmp(name, "help") == 0)
        line->wish = CONFIG_HELP;
    else if (strcmp(name, "version") == 0)
        line->wish = line->wish == CONFIG_HELP ? CONFIG_HELP : CONFIG_VERSION;
    else if (strcmp(name, "check") == 0)
        line->wish = line->wish == CONFIG_RUN ? CONFIG_CHECK : line->wish;
    else {
        const struct config_key *key = key_of_option(name);
        if (!key)
            return usage_error(error, "unknown option", argument->written);
        if (stage != STAGE_OPTIONS)
            return 0;
        static const char *const flag_value = "true";
        struct config_place place = {argument->written, 0};
        return config_set(config, key->name, argument->value ? argument->value : flag_value, place,
                          error);
    }
    return 0;
}

static int apply_set(struct config *config, const struct argument *argument,
                     struct config_error *error)
{
    char name[64];
    size_t length = strcspn(argument->value, "=");
    if (argument->value[length] != '=' || length == 0 || length >= sizeof(name))
        return usage_error(error, "--set wants key=value, not", argument->value);
    memcpy(name, argument->value, length);
    name[length] = '\0';
    struct config_place place = {"--set", 0};
    return config_set(config, name, argument->value + length + 1, place, error);
}

static const struct config_key *key_of_option(const char *option)
{
    char name[64];
    size_t length = strlen(option);
    if (length >= sizeof(name) || strchr(option, '_'))
        return NULL;
    for (size_t i = 0; i <= length; i++)
        name[i] = option[i] == '-' ? '_' : option[i];
    const struct config_key *key = config_key_find(name);
    return key && key->flags & CONFIG_OPTION ? key : NULL;
}
