/* What people read about the configuration: sluiced.conf.example and --help, both from the
 * table. */
#include <string.h>

#include "broker/config.h"

static void write_comment(FILE *file, const char *text);
static const char *unit_of(const struct config_key *key);

void config_write_example(FILE *file)
{
    fputs("# Configuration of sluiced. Every key with its default; what is commented out is what "
          "holds\n"
          "# anyway. Sizes take B, KiB, MiB, GiB, TiB; durations ms, s, m, h, d (both in quotes); "
          "bare numbers\n"
          "# are bytes and ms. Precedence: defaults < this file < --set key=value < options. Check "
          "a file with\n"
          "#     sluiced --config FILE --check\n",
          file);
    for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
        const struct config_key *key = &config_keys[i];
        char range[128];
        fputc('\n', file);
        write_comment(file, key->text);
        fprintf(file, "# %s; default %s; allowed: %s\n", unit_of(key), key->default_text,
                config_range(key, range));
        bool quoted = key->kind != KIND_BOOL &&
                      key->default_text[strspn(key->default_text, "0123456789")] != '\0';
        const char *quote = quoted ? "\"" : "";
        fprintf(file, "#%s = %s%s%s;\n", key->name, quote, key->default_text, quote);
    }
}

static void write_comment(FILE *file, const char *text)
{
    while (*text) {
        size_t length = strcspn(text, "\n");
        fprintf(file, "# %.*s\n", (int)length, text);
        text += length + (text[length] == '\n');
    }
}

static const char *unit_of(const struct config_key *key)
{
    switch (key->kind) {
    case KIND_TEXT:
        return "text";
    case KIND_ADDRESS:
        return "address:port";
    case KIND_COUNT:
        return strstr(key->name, "percent") ? "percent" : "count";
    case KIND_SIZE:
        return "size in bytes";
    case KIND_DURATION:
        return "duration in ms";
    case KIND_BOOL:
        return "yes or no";
    case KIND_CHOICE:
        return "word";
    }
    return "";
}

void config_write_help(FILE *file)
{
    fputs("usage: sluiced [OPTION]...\n"
          "\n"
          "Sluice, a durable message broker: when an ack comes back the bytes are on stable "
          "storage.\n"
          "\n"
          "  --config FILE          read a configuration file (every key: sluiced.conf.example)\n"
          "  --check                check the configuration, print the memory it adds up to, and "
          "exit\n"
          "  --data-dir DIR         where the store is (./sluice-data, made when missing)\n"
          "  --listen A:P           address for clients (127.0.0.1:7650; port 0: any free one)\n"
          "  --http A:P|off         /healthz, /readyz, /metrics (127.0.0.1:7651)\n"
          "  --kafka A:P|off        reserved (127.0.0.1:9092); this version reports off\n"
          "  --cores N              threads that serve (all)\n"
          "  --io uring|epoll|auto  how the kernel is asked for I/O (auto)\n"
          "  --development          allow a data directory without O_DIRECT, or in memory\n"
          "  --log-level L          debug, info, warn or error (info)\n"
          "  --log-format F         text or json (text)\n"
          "  --set key=value        set any key of the configuration\n"
          "  --version              print the version and exit\n"
          "  --help                 print this and exit\n"
          "\n"
          "Precedence: defaults < file < --set < options. When it serves, standard error has the "
          "line\n"
          "  ready listen=A:P http=A:P kafka=off\n"
          "SIGTERM and SIGINT drain within drain_timeout, a second one exits at once; SIGHUP "
          "reloads.\n"
          "Exit status: 0 drained; 1 failed at run time; 2 usage or configuration; 3 refused "
          "(damaged,\n"
          "foreign or newer data, locked directory, no O_DIRECT).\n",
          file);
}
