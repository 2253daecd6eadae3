/* Runs a fuzz target without libFuzzer: PROGRAM CORPUS_DIR...
 *
 * Each file is fed as it is, and for a second at most (fifteen for all of them) cut at a few hundred places
 * and with a few hundred seeded mutations, so that every compiler and sanitizer sees the parsers with bad input and a crash can be had again by
 * running the same command. The input lies in a heap block of exactly its size: one byte read too
 * far is found by ASan. Exit: 0 all fed; 1 nothing to feed (a target without corpus tests nothing). */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/random.h"

#define FILE_BYTES_MAX (4u << 20)
#define CUTS_PER_FILE 256
#define MUTATIONS_PER_FILE 256
#define EDITS_PER_MUTATION_MAX 4
#define SPOILING_NS_PER_FILE 1000000000ll // some targets wait for real
#define SPOILING_NS_PER_DIRECTORY (15 * SPOILING_NS_PER_FILE)

static int64_t spoiling_ns = SPOILING_NS_PER_FILE; // of one file

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned feed_directory(const char *path);
static void feed_file(const char *directory, const char *name);
static uint8_t *read_file(FILE *file, size_t *size);
static void feed(const uint8_t *data, size_t size);
static void feed_cut(const uint8_t *data, size_t size, int64_t until_ns);
static void feed_mutated(const uint8_t *data, size_t size, int64_t until_ns);
static void edit(struct random *random, uint8_t *data, size_t size);
static int64_t now_ns(void);

int main(int argc, char **argv)
{
    unsigned files = 0;
    feed(NULL, 0);
    for (int i = 1; i < argc; i++)
        files += feed_directory(argv[i]);
    printf("%u files fed\n", files);
    return files > 0 ? 0 : 1;
}

static unsigned feed_directory(const char *path)
{
    DIR *directory = opendir(path);
    if (directory == NULL) {
        perror(path);
        return 0;
    }
    unsigned files = 0, count = 0;
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL)
        count++;
    if (count * SPOILING_NS_PER_FILE > SPOILING_NS_PER_DIRECTORY)
        spoiling_ns = SPOILING_NS_PER_DIRECTORY / count;
    rewinddir(directory);
    while ((entry = readdir(directory)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        feed_file(path, entry->d_name);
        files++;
    }
    closedir(directory);
    return files;
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static void feed_file(const char *directory, const char *name)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    size_t size;
    uint8_t *data = read_file(file, &size);
    fclose(file);
    feed(data, size);
    int64_t until_ns = now_ns() + spoiling_ns;
    feed_cut(data, size, until_ns);
    feed_mutated(data, size, until_ns);
    free(data);
}

static uint8_t *read_file(FILE *file, size_t *size)
{
    uint8_t *data = malloc(FILE_BYTES_MAX);
    if (data == NULL)
        abort();
    *size = fread(data, 1, FILE_BYTES_MAX, file);
    return data;
}

static void feed(const uint8_t *data, size_t size)
{
    uint8_t *exact = malloc(size > 0 ? size : 1);
    if (exact == NULL)
        abort();
    if (size > 0)
        memcpy(exact, data, size);
    (void)LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

/* At every byte of a small file, evenly spread over a large one. */
static void feed_cut(const uint8_t *data, size_t size, int64_t until_ns)
{
    size_t step = size / CUTS_PER_FILE + 1;
    for (size_t cut = 0; cut < size && now_ns() < until_ns; cut += step)
        feed(data, cut);
}

static void feed_mutated(const uint8_t *data, size_t size, int64_t until_ns)
{
    if (size == 0)
        return;
    uint8_t *copy = malloc(size);
    if (copy == NULL)
        abort();
    for (uint64_t seed = 1; seed <= MUTATIONS_PER_FILE && now_ns() < until_ns; seed++) {
        struct random random;
        random_init(&random, seed);
        memcpy(copy, data, size);
        uint64_t edits = 1 + random_below(&random, EDITS_PER_MUTATION_MAX);
        for (uint64_t i = 0; i < edits; i++)
            edit(&random, copy, size);
        feed(copy, size);
    }
    free(copy);
}

/* A flipped bit, a random byte, or one of the values where lengths and counts go wrong. */
static void edit(struct random *random, uint8_t *data, size_t size)
{
    static const uint8_t edges[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
    uint8_t *byte = data + random_below(random, size);
    switch (random_below(random, 3)) {
    case 0:
        *byte ^= (uint8_t)(1u << random_below(random, 8));
        break;
    case 1:
        *byte = (uint8_t)random_u32(random);
        break;
    default:
        *byte = edges[random_below(random, sizeof(edges))];
        break;
    }
}
