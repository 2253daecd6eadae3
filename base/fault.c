/* Fault injection: a small table of rules, each "hits first..last of this point give that error".
 *
 * The happy path is fault_init(NULL) and never coming here again. With rules armed every hit of any
 * point takes one lock and walks the table: slow, but exact when several threads hit one point, and
 * only ever paid under test. A spec with a mistake arms nothing: a test that believes it injects
 * faults and doesn't would pass for the wrong reason. */
#include "base/fault.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/status.h"

#define FAULT_CRASH (-1)
#define FAULT_ON 1

struct rule {
    enum fault_point point;
    uint64_t first; // hits, counted from 1
    uint64_t last;
    uint64_t hits; // so far
    int os_error;  // positive errno, FAULT_ON or FAULT_CRASH
};

static int parse_rules(const char *spec);
static int parse_rule(const char *text, size_t len, struct rule *rule);
static int parse_point(const char *text, size_t len, enum fault_point *point);
static int parse_hits(const char *text, size_t len, struct rule *rule);
static int parse_action(const char *text, size_t len, int *os_error);
static bool equals(const char *text, size_t len, const char *word);
static bool equals_lower_case(const char *text, size_t len, const char *name);
static void add_rule(const struct rule *rule);
static int hit(enum fault_point point);

_Atomic bool fault_enabled;
static _Atomic bool has_told; // of the first error that was injected

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct rule rules[FAULT_RULE_MAX]; // under lock
static size_t rule_count;                 // under lock

int fault_init(const char *spec)
{
    if (spec == NULL || *spec == '\0')
        return 0;
    int status = parse_rules(spec);
    if (status < 0) {
        fault_disarm_all();
        return status;
    }
    LOG_WARN("fault.injection_armed", LOG_STR("spec", spec));
    return 0;
}

void fault_arm(enum fault_point point, uint64_t first, uint64_t last, int os_error)
{
    ASSERT(point < FAULT_POINT_COUNT && first >= 1 && first <= last && os_error > 0);
    add_rule(&(struct rule){.point = point, .first = first, .last = last, .os_error = os_error});
}

void fault_disarm_all(void)
{
    pthread_mutex_lock(&lock);
    rule_count = 0;
    atomic_store_explicit(&fault_enabled, false, memory_order_relaxed);
    pthread_mutex_unlock(&lock);
}

int fault_check_slow(enum fault_point point)
{
    pthread_mutex_lock(&lock);
    int os_error = hit(point);
    pthread_mutex_unlock(&lock);
    if (os_error > FAULT_ON &&
        !atomic_exchange(&has_told, true)) // when, for tests that measure what follows
        LOG_WARN("fault.struck", LOG_U64("point", point), LOG_I64("errno", os_error));
    if (os_error == FAULT_CRASH)
        kill(getpid(), SIGKILL);
    return os_error;
}

/* Each rule counts for itself from its arming, so that later rules see every hit too. */
static int hit(enum fault_point point)
{
    int os_error = 0;
    for (size_t i = 0; i < rule_count; i++) {
        struct rule *rule = &rules[i];
        if (rule->point != point)
            continue;
        rule->hits++;
        if (os_error == 0 && rule->hits >= rule->first && rule->hits <= rule->last)
            os_error = rule->os_error;
    }
    return os_error;
}

static void add_rule(const struct rule *rule)
{
    pthread_mutex_lock(&lock);
    ASSERT(rule_count < FAULT_RULE_MAX);
    rules[rule_count++] = *rule;
    atomic_store_explicit(&fault_enabled, true, memory_order_relaxed);
    pthread_mutex_unlock(&lock);
}

static int parse_rules(const char *spec)
{
    size_t count = 0;
    const char *text = spec;
    for (;;) {
        size_t len = strcspn(text, ",");
        struct rule rule = {0};
        if (parse_rule(text, len, &rule) < 0) {
            fprintf(stderr,
                    "SLUICE_FAULT: cannot read \"%.*s\", expected POINT@N=ACTION or "
                    "POINT@N+=ACTION, N from 1, ACTION one of EIO ENOSPC EAGAIN ECANCELED "
                    "EPERM CRASH ON\n",
                    (int)len, text);
            return E_INVALID;
        }
        if (++count > FAULT_RULE_MAX) {
            fprintf(stderr, "SLUICE_FAULT: more than %d rules\n", FAULT_RULE_MAX);
            return E_INVALID;
        }
        add_rule(&rule);
        if (text[len] == '\0')
            return 0;
        text += len + 1;
    }
}

static int parse_rule(const char *text, size_t len, struct rule *rule)
{
    const char *at = memchr(text, '@', len);
    const char *equal = memchr(text, '=', len);
    if (at == NULL || equal == NULL || equal < at)
        return E_INVALID;
    if (parse_point(text, (size_t)(at - text), &rule->point) < 0)
        return E_INVALID;
    if (parse_hits(at + 1, (size_t)(equal - at - 1), rule) < 0)
        return E_INVALID;
    return parse_action(equal + 1, (size_t)(text + len - equal - 1), &rule->os_error);
}

static int parse_point(const char *text, size_t len, enum fault_point *point)
{
    static const char *const names[] = {
#define FAULT(name, where) #name,
#include "base/fault.def"
#undef FAULT
    };
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        if (equals_lower_case(text, len, names[i])) {
            *point = (enum fault_point)i;
            return 0;
        }
    }
    return E_INVALID;
}

/* "N" or "N+". Nine digits are enough for any test and can't overflow. */
static int parse_hits(const char *text, size_t len, struct rule *rule)
{
    bool open = len > 0 && text[len - 1] == '+';
    size_t digits = open ? len - 1 : len;
    if (digits == 0 || digits > 9)
        return E_INVALID;
    uint64_t value = 0;
    for (size_t i = 0; i < digits; i++) {
        if (!isdigit((unsigned char)text[i]))
            return E_INVALID;
        value = value * 10 + (uint64_t)(text[i] - '0');
    }
    if (value == 0)
        return E_INVALID;
    rule->first = value;
    rule->last = open ? UINT64_MAX : value;
    return 0;
}

static int parse_action(const char *text, size_t len, int *os_error)
{
    static const struct {
        const char *name;
        int os_error;
    } actions[] = {
        {"EIO", EIO},     {"ENOSPC", ENOSPC},     {"EAGAIN", EAGAIN}, {"ECANCELED", ECANCELED},
        {"EPERM", EPERM}, {"CRASH", FAULT_CRASH}, {"ON", FAULT_ON},
    };
    for (size_t i = 0; i < ARRAY_COUNT(actions); i++) {
        if (equals(text, len, actions[i].name)) {
            *os_error = actions[i].os_error;
            return 0;
        }
    }
    return E_INVALID;
}

static bool equals(const char *text, size_t len, const char *word)
{
    return strlen(word) == len && memcmp(text, word, len) == 0;
}

static bool equals_lower_case(const char *text, size_t len, const char *name)
{
    if (strlen(name) != len)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] != (char)tolower((unsigned char)name[i]))
            return false;
    }
    return true;
}
