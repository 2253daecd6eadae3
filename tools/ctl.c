/* Shared by the commands: options, messages, connecting. */
#include "tools/ctl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"

static void say(const struct ctl *ctl, const char *format, va_list arguments)
{
    fprintf(stderr, "sluicectl: %s: ", ctl->command);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
}

int ctl_usage(const struct ctl *ctl, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say(ctl, format, arguments);
    va_end(arguments);
    fprintf(stderr, "try: sluicectl %s --help\n", ctl->command);
    return EXIT_USAGE;
}

int ctl_fail(const struct ctl *ctl, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say(ctl, format, arguments);
    va_end(arguments);
    return EXIT_FAILED;
}

int ctl_fail_status(const struct ctl *ctl, int status, const char *what)
{
    const char *words = sluice_last_error();
    return ctl_fail(ctl, "%s: %s: %s%s%s%s", what, sluice_name(status), sluice_text(status),
                    *words ? " (" : "", words, *words ? ")" : "");
}

int ctl_option(struct ctl *ctl, int argc, char **argv, const struct option *options, int *exit_code)
{
    for (;;) {
        opterr = 0;
        int option = getopt_long(argc, argv, ":", options, NULL);
        switch (option) {
        case CTL_OPTION_SERVER:
            ctl->server = optarg;
            continue;
        case CTL_OPTION_JSON:
            ctl->json = true;
            continue;
        case ':':
            *exit_code = ctl_usage(ctl, "%s needs a value", argv[optind - 1]);
            return '?';
        case '?':
            *exit_code = ctl_usage(ctl, "unknown option %s", argv[optind - 1]);
            return '?';
        default:
            return option;
        }
    }
}

int ctl_words(const struct ctl *ctl, int argc, char **argv, int count, const char *names)
{
    if (argc - optind < count)
        return ctl_usage(ctl, "missing: %s", names);
    if (argc - optind > count)
        return ctl_usage(ctl, "unexpected \"%s\"", argv[optind + count]);
    return EXIT_DONE;
}

bool ctl_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *value)
{
    return units_parse_u64(text, value) == 0 && *value >= min && *value <= max;
}

struct sluice_client *ctl_connect(const struct ctl *ctl)
{
    struct sluice_client_options options = {
        .size = sizeof(options), .server = ctl->server, .client_id = "sluicectl"};
    const char *server = ctl->server ? ctl->server : getenv("SLUICE_SERVER");
    struct sluice_client *client;
    int status = sluice_client_new(&options, &client);
    if (status) {
        ctl_fail(ctl, "server \"%s\": %s", server ? server : "127.0.0.1:7650", sluice_text(status));
        return NULL;
    }
    status = sluice_client_wait(client, 10000);
    if (status) {
        ctl_fail(ctl, "no connection to %s: %s. Is sluiced running? (--server or $SLUICE_SERVER)",
                 server ? server : "127.0.0.1:7650", sluice_text(status));
        sluice_client_free(client);
        return NULL;
    }
    return client;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

long text_unescape(char *text)
{
    static const char letters[] = "ntr\\0", bytes[] = "\n\t\r\\";
    char *to = text;
    for (const char *from = text; *from; from++) {
        if (*from != '\\') {
            *to++ = *from;
            continue;
        }
        const char *letter = from[1] ? strchr(letters, from[1]) : NULL;
        if (letter) {
            *to++ = bytes[letter - letters]; // "\0" is the NUL behind the others
            from++;
        } else if (from[1] == 'x' && from[2] && hex_digit(from[2]) >= 0 &&
                   hex_digit(from[3]) >= 0) {
            *to++ = (char)(hex_digit(from[2]) * 16 + hex_digit(from[3]));
            from += 3;
        } else {
            return -1;
        }
    }
    long len = to - text;
    *to = 0;
    return len;
}
