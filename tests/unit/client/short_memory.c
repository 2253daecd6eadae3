/* The linker puts these in the place of malloc() and its like (tests/CMakeLists.txt). */
#include "tests/unit/client/short_memory.h"

#include <errno.h>
#include <stddef.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
char *__wrap_strdup(const char *text);

static _Thread_local uint32_t to_go;
static _Thread_local bool failed;

void short_memory_fail(uint32_t n)
{
    to_go = n;
    failed = false;
}

bool short_memory_has_failed(void)
{
    return failed;
}

static bool fails(void)
{
    if (to_go == 0 || --to_go > 0)
        return false;
    errno = ENOMEM;
    failed = true;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return fails() ? NULL : __real_realloc(memory, size);
}

char *__wrap_strdup(const char *text)
{
    return fails() ? NULL : __real_strdup(text);
}
