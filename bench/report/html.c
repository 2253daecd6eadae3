/* The page: page.html with the result in it. It is one file, loads nothing, and draws by itself. */
#include <stdlib.h>
#include <string.h>

#include "bench/report/report.h"

#define PLACE "/*RESULT*/null" // where the result goes

/* page.html as it is, between two symbols. */
__asm__(".section .rodata\n"
        ".global bench_page\n"
        "bench_page:\n"
        ".incbin \"" SLUICE_SOURCE_DIR "/bench/report/page.html\"\n"
        ".byte 0\n"
        ".previous\n");
extern const char bench_page[];

int report_html(json_t *result, FILE *file)
{
    const char *place = strstr(bench_page, PLACE);
    ASSERT(place);
    char *text = json_dumps(result, JSON_COMPACT | JSON_REAL_PRECISION(7));
    if (text == NULL)
        return -1;
    fwrite(bench_page, 1, (size_t)(place - bench_page), file);
    for (const char *c = text; *c; c++) { // a text may hold "</script>" or "<!--"
        if (*c == '<')
            fputs("\\u003c", file);
        else
            fputc(*c, file);
    }
    fputs(place + strlen(PLACE), file);
    free(text);
    return ferror(file) ? -1 : 0;
}
