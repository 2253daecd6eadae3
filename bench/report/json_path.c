#include "bench/report/json_path.h"

#include <stdio.h>
#include <string.h>

json_t *json_at(json_t *root, const char *path)
{
    char keys[64], *rest = keys;
    snprintf(keys, sizeof(keys), "%s", path);
    for (char *key; root && (key = strsep(&rest, ".")) != NULL;)
        root = json_object_get(root, key);
    return root;
}

json_t *json_result_load(const char *who, const char *path)
{
    json_error_t error;
    json_t *result = json_load_file(path, 0, &error);
    if (result == NULL) {
        fprintf(stderr, "%s: %s:%d: %s\n", who, path, error.line, error.text);
        return NULL;
    }
    if (json_is_string(json_at(result, "command")) && json_is_object(json_at(result, "settings")))
        return result;
    fprintf(stderr, "%s: %s: not a result of sluice-bench\n", who, path);
    json_decref(result);
    return NULL;
}
