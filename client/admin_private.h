/* What the administration's files share. Only client/admin.c and its like include this. */
#ifndef SLUICE_CLIENT_ADMIN_PRIVATE_H
#define SLUICE_CLIENT_ADMIN_PRIVATE_H

#include "client/include/sluice.h"
#include "proto/cursor.h"

/* NUL-terminated, to be freed; NULL: no memory. (admin.c) */
char *admin_copy_text(struct slice text);

/* The names of topics by their ids. (group_admin.c) */
struct topic_names {
    struct sluice_topic *topics;
    uint32_t count;
};
int topic_names_load(struct sluice_client *client, struct topic_names *names);
void topic_names_free(struct topic_names *names);
/* A copy in *name, NULL when no such topic exists. Returns OK or NO_MEMORY. */
int topic_names_copy(const struct topic_names *names, uint32_t topic_id, char **name);

#endif
