/* A PKCS#11 module (version 2.40) that forwards to a real one, writes down what was asked of it,
 * and fails on command. See ../shim.py, which builds and drives it.
 *
 * SEALWRIGHT_SHIM_MODULE   path of the real module
 * SEALWRIGHT_SHIM_CONTROL  rules, one a line: FUNCTION WHEN ACTION VALUE COUNT
 * SEALWRIGHT_SHIM_LOG      one line a call, appended by one write(2) before the call returns
 * SEALWRIGHT_SHIM_RESERVED if set: a string that C_Initialize passes on as pReserved; NSS takes
 *                          its parameters there
 *
 * No PKCS#11 header is needed: the function list is copied and a few of its entries replaced. They
 * stand in the order of the specification (PKCS#11 2.40, 3.4, CK_FUNCTION_LIST).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

typedef unsigned long CK_ULONG;
typedef unsigned char CK_BYTE;
typedef CK_ULONG CK_RV;
enum { CKR_OK = 0, CKR_GENERAL_ERROR = 5 };

struct mechanism { CK_ULONG type; void *parameter; CK_ULONG length; };

struct initialize_arguments {
    void *mutex_functions[4];
    CK_ULONG flags;
    void *reserved[2]; /* NSS has a field more than the specification */
};

enum {
    FUNCTIONS = 68,
    INITIALIZE = 0,
    GET_FUNCTION_LIST = 3,
    OPEN_SESSION = 12,
    LOGIN = 18,
    SIGN_INIT = 42,
    SIGN = 43
};
struct function_list {
    CK_BYTE version[2];
    void *function[FUNCTIONS];
};

static struct function_list *real, ours;
static CK_ULONG mechanism_in_use; /* the process has one thread and one session that signs */

/* ---- the log -------------------------------------------------------------------------------- */

static void note(const char *line)
{
    const char *path = getenv("SEALWRIGHT_SHIM_LOG");
    int file = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (file < 0 || write(file, line, strlen(line)) != (ssize_t)strlen(line))
        abort(); /* an uncounted call would make a test pass that must not */
    close(file);
}

static void note_result(const char *what, CK_RV result)
{
    char line[64];
    snprintf(line, sizeof line, "%s 0x%lx\n", what, result);
    note(line);
}

static void note_signature(const CK_BYTE *data, CK_ULONG length)
{
    static const char digits[] = "0123456789abcdef";
    char line[2200];
    int used = snprintf(line, sizeof line, "sign 0x%lx ", mechanism_in_use);
    for (CK_ULONG i = 0; i < length && used + 4 < (int)sizeof line; i++) {
        line[used++] = digits[data[i] >> 4];
        line[used++] = digits[data[i] & 15];
    }
    line[used++] = '\n';
    line[used] = 0;
    note(line);
}

/* ---- the rules ------------------------------------------------------------------------------ */

struct rule { char function[24], when[8], action[8]; unsigned long value; long count; };

static int take_from(FILE *file, const char *function, const char *when, struct rule *taken)
{
    struct rule rules[64];
    int total = 0, found = -1;
    while (total < 64) {
        struct rule *rule = &rules[total];
        if (fscanf(file, "%23s %7s %7s %lu %ld", rule->function, rule->when, rule->action,
                   &rule->value, &rule->count) != 5)
            break;
        total++;
    }
    for (int i = 0; i < total && found < 0; i++)
        if (rules[i].count > 0 && !strcmp(rules[i].function, function) && !strcmp(rules[i].when, when))
            found = i;
    if (found < 0)
        return 0;
    rules[found].count--;
    *taken = rules[found];
    rewind(file);
    if (ftruncate(fileno(file), 0))
        abort();
    for (int i = 0; i < total; i++)
        if (rules[i].count > 0)
            fprintf(file, "%s %s %s %lu %ld\n", rules[i].function, rules[i].when, rules[i].action,
                    rules[i].value, rules[i].count);
    return !fflush(file);
}

/* Take the first rule that fits; rules are shared by all processes, so under a lock. */
static int take(const char *function, const char *when, struct rule *taken)
{
    const char *path = getenv("SEALWRIGHT_SHIM_CONTROL");
    FILE *file = path ? fopen(path, "r+e") : NULL;
    if (!file || flock(fileno(file), LOCK_EX))
        abort(); /* a rule that is not seen would make a test pass that must not */
    int found = take_from(file, function, when, taken);
    fclose(file);
    return found;
}

/* Returns a code to answer with, or CKR_OK to go on. */
static CK_RV interfere(const char *function, const char *when)
{
    struct rule rule;
    if (!take(function, when, &rule))
        return CKR_OK;
    if (!strcmp(rule.action, "kill"))
        raise(SIGKILL);
    if (!strcmp(rule.action, "delay")) {
        struct timespec pause = {rule.value / 1000, (rule.value % 1000) * 1000000L};
        nanosleep(&pause, NULL);
        return CKR_OK;
    }
    return rule.value;
}

/* ---- the calls ------------------------------------------------------------------------------ */

static CK_RV initialize(void *arguments)
{
    CK_RV (*call)(void *) = real->function[INITIALIZE];
    struct initialize_arguments ours = {{0}, 0, {getenv("SEALWRIGHT_SHIM_RESERVED"), NULL}};
    return call(ours.reserved[0] ? &ours : arguments);
}

static CK_RV open_session(CK_ULONG slot, CK_ULONG flags, void *application, void *notify,
                          CK_ULONG *session)
{
    CK_RV (*call)(CK_ULONG, CK_ULONG, void *, void *, CK_ULONG *) = real->function[OPEN_SESSION];
    CK_RV result = interfere("C_OpenSession", "before");
    if (result == CKR_OK)
        result = call(slot, flags, application, notify, session);
    note_result("open", result);
    return result;
}

static CK_RV login(CK_ULONG session, CK_ULONG user, CK_BYTE *pin, CK_ULONG length)
{
    CK_RV (*call)(CK_ULONG, CK_ULONG, CK_BYTE *, CK_ULONG) = real->function[LOGIN];
    CK_RV result = interfere("C_Login", "before");
    if (result == CKR_OK)
        result = call(session, user, pin, length);
    note_result("login", result);
    return result;
}

static CK_RV sign_init(CK_ULONG session, struct mechanism *mechanism, CK_ULONG key)
{
    CK_RV (*call)(CK_ULONG, struct mechanism *, CK_ULONG) = real->function[SIGN_INIT];
    CK_RV result = interfere("C_SignInit", "before");
    if (result != CKR_OK)
        return result;
    mechanism_in_use = mechanism ? mechanism->type : 0;
    return call(session, mechanism, key);
}

static CK_RV sign(CK_ULONG session, CK_BYTE *data, CK_ULONG length, CK_BYTE *signature,
                  CK_ULONG *signature_length)
{
    CK_RV (*call)(CK_ULONG, CK_BYTE *, CK_ULONG, CK_BYTE *, CK_ULONG *) = real->function[SIGN];
    if (!signature) /* asks for the length alone */
        return call(session, data, length, signature, signature_length);
    CK_RV failure = interfere("C_Sign", "before");
    CK_RV result = call(session, data, length, signature, signature_length);
    if (failure != CKR_OK) { /* the call above has ended the operation, as a failing token would */
        memset(signature, 0, *signature_length);
        return failure;
    }
    if (result != CKR_OK)
        return result;
    note_signature(data, length);
    struct rule rule;
    if (take("C_Sign", "spoil", &rule)) { /* a faulty computation */
        signature[*signature_length - 1] ^= 1;
        return CKR_OK;
    }
    return interfere("C_Sign", "after");
}

CK_RV C_GetFunctionList(struct function_list **list)
{
    if (!real) {
        const char *path = getenv("SEALWRIGHT_SHIM_MODULE");
        void *module = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
        CK_RV (*get)(struct function_list **) = module ? dlsym(module, "C_GetFunctionList") : NULL;
        if (!get || get(&real) != CKR_OK)
            return CKR_GENERAL_ERROR;
        ours = *real;
        ours.function[GET_FUNCTION_LIST] = C_GetFunctionList;
        ours.function[INITIALIZE] = initialize;
        ours.function[OPEN_SESSION] = open_session;
        ours.function[LOGIN] = login;
        ours.function[SIGN_INIT] = sign_init;
        ours.function[SIGN] = sign;
    }
    *list = &ours;
    return CKR_OK;
}
