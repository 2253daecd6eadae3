/* A cache of index images with a budget of bytes: the least recently used goes first.
 *
 * Happy path: one hash probe, and the image moves to the front. The image just put stays whatever its size, so a reader
 * always makes progress; it is the only way by which the budget can be exceeded. Failure mode: no memory for a node: the
 * image is freed and index_cache_put() answers NULL. */
#include "storage/index.h"

#include <stdlib.h>

#include "base/list.h"

#define BUCKET_COUNT 1024u // a few hundred images fit the usual budget

struct node {
    struct list bucket;
    struct list age; // in `recent`: front = used last
    uint64_t key;
    struct index_image image;
};

struct index_cache {
    uint64_t budget_bytes;
    uint64_t bytes;
    struct list recent;
    struct list buckets[BUCKET_COUNT];
};

static struct list *bucket_of(struct index_cache *cache, uint64_t key);
static struct node *node_find(struct index_cache *cache, uint64_t key);
static void node_drop(struct index_cache *cache, struct node *node);
static void evict(struct index_cache *cache, const struct node *keep);

struct index_cache *index_cache_new(uint64_t budget_bytes)
{
    struct index_cache *cache = calloc(1, sizeof(*cache));
    if (!cache)
        return NULL;
    cache->budget_bytes = budget_bytes;
    list_init(&cache->recent);
    for (uint32_t i = 0; i < BUCKET_COUNT; i++)
        list_init(&cache->buckets[i]);
    return cache;
}

void index_cache_free(struct index_cache *cache)
{
    if (!cache)
        return;
    LIST_EACH(link, &cache->recent)
    node_drop(cache, CONTAINER_OF(link, struct node, age));
    free(cache);
}

const struct index_image *index_cache_get(struct index_cache *cache, uint64_t key)
{
    struct node *node = node_find(cache, key);
    if (!node)
        return NULL;
    list_remove(&node->age);
    list_push_front(&cache->recent, &node->age);
    return &node->image;
}

const struct index_image *index_cache_put(struct index_cache *cache, uint64_t key,
                                          struct index_image *image)
{
    index_cache_drop(cache, key);
    struct node *node = malloc(sizeof(*node));
    if (!node) {
        index_image_free(image);
        return NULL;
    }
    *node = (struct node){.key = key, .image = *image};
    *image = (struct index_image){0};
    list_push_front(bucket_of(cache, key), &node->bucket);
    list_push_front(&cache->recent, &node->age);
    cache->bytes += node->image.len;
    evict(cache, node);
    return &node->image;
}

void index_cache_drop(struct index_cache *cache, uint64_t key)
{
    struct node *node = node_find(cache, key);
    if (node)
        node_drop(cache, node);
}

uint64_t index_cache_bytes(const struct index_cache *cache)
{
    return cache->bytes;
}

static struct list *bucket_of(struct index_cache *cache, uint64_t key)
{
    return &cache->buckets[(key * 0x9e3779b97f4a7c15ull) >> 54];
}
static_assert(BUCKET_COUNT == 1u << (64 - 54), "the shift gives a bucket");

static struct node *node_find(struct index_cache *cache, uint64_t key)
{
    struct list *bucket = bucket_of(cache, key);
    LIST_EACH(link, bucket)
    {
        struct node *node = CONTAINER_OF(link, struct node, bucket);
        if (node->key == key)
            return node;
    }
    return NULL;
}

static void node_drop(struct index_cache *cache, struct node *node)
{
    list_remove(&node->bucket);
    list_remove(&node->age);
    cache->bytes -= node->image.len;
    index_image_free(&node->image);
    free(node);
}

static void evict(struct index_cache *cache, const struct node *keep)
{
    while (cache->bytes > cache->budget_bytes) {
        struct node *oldest = CONTAINER_OF(cache->recent.prev, struct node, age);
        if (oldest == keep)
            return;
        node_drop(cache, oldest);
    }
}
