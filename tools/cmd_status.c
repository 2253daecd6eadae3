/* sluicectl status: the broker's own account; exit 0 only when produce and consume work. */
#include "tools/ctl.h"

static void print_text(const struct sluice_broker_status *status)
{
    printf("ready    %s\nproduce  %s\nconsume  %s\n", status->ready ? "yes" : "no",
           status->can_produce ? "yes" : "no", status->can_consume ? "yes" : "no");
    if (status->reason[0])
        printf("reason   %s\n", status->reason);
    for (uint32_t i = 0; i < status->value_count; i++)
        printf("%s %llu\n", status->values[i].name, (unsigned long long)status->values[i].value);
}

static void print_json(const struct sluice_broker_status *status)
{
    struct json json;
    json_begin(&json, stdout);
    json_bool(&json, "ready", status->ready);
    json_bool(&json, "can_produce", status->can_produce);
    json_bool(&json, "can_consume", status->can_consume);
    json_string(&json, "reason", status->reason);
    for (uint32_t i = 0; i < status->value_count; i++)
        json_u64(&json, status->values[i].name, status->values[i].value);
    json_end(&json);
}

int cmd_status(struct ctl *ctl, int argc, char **argv)
{
    static const struct option options[] = {CTL_OPTIONS};
    int exit_code;
    if (ctl_option(ctl, argc, argv, options, &exit_code) != -1)
        return exit_code;
    if (ctl_words(ctl, argc, argv, 0, ""))
        return EXIT_USAGE;
    struct sluice_client *client = ctl_connect(ctl);
    if (!client)
        return EXIT_FAILED;
    struct sluice_broker_status status;
    int result = sluice_status(client, &status);
    if (result) {
        exit_code = ctl_fail_status(ctl, result, "asking the broker");
    } else {
        (ctl->json ? print_json : print_text)(&status);
        exit_code = status.can_produce && status.can_consume ? EXIT_DONE : EXIT_FAILED;
        if (exit_code)
            ctl_fail(ctl, "%s", status.reason[0] ? status.reason : "not ready");
        sluice_status_free(&status);
    }
    sluice_client_free(client);
    return exit_code;
}
