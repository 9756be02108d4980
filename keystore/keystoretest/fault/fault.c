// A PKCS#11 module that forwards to another one and fails when it is told to. It is compiled by keystoretest for tests and
// is told by memory that it shares with them: a file of one record for each function, in the order of the function list.
//
// SIGNET_FAULT_MODULE is the module that does the work, SIGNET_FAULT_FILE the file.

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

typedef unsigned long ck_ulong;

enum { functions = 68 };
enum { mode_before = 0, mode_after = 1, mode_hang = 2, mode_lie = 3 };

struct record {
	_Atomic unsigned long calls; // made so far
	_Atomic unsigned long skip;  // calls that are left alone first
	_Atomic unsigned long times; // calls that fail then
	_Atomic unsigned long code;  // what they return
	_Atomic unsigned long mode;  // before the work is done, after it was done, hang until mode changes, or lie
	_Atomic unsigned long hung;  // calls that hang now
	_Atomic unsigned long about; // C_GetAttributeValue lies about this attribute; C_FindObjects finds nothing
	_Atomic unsigned long spare;
};

struct list { unsigned char major, minor; void *function[functions]; };

static struct record *records;
static void *real[functions];
static struct list mine;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int loaded;

// begin says whether this call fails before the work, and how.
static int begin(int n, ck_ulong *code, int *after) {
	struct record *r = &records[n];
	*after = 0;
	atomic_fetch_add(&r->calls, 1);
	unsigned long v = atomic_load(&r->skip);
	while (v > 0) {
		if (atomic_compare_exchange_weak(&r->skip, &v, v - 1)) {
			return 0;
		}
	}
	if (atomic_load(&r->mode) == mode_lie) {
		return 0;
	}
	v = atomic_load(&r->times);
	for (;;) {
		if (v == 0) {
			return 0;
		}
		if (atomic_compare_exchange_weak(&r->times, &v, v - 1)) {
			break;
		}
	}
	*code = atomic_load(&r->code);
	switch (atomic_load(&r->mode)) {
	case mode_after:
		*after = 1;
		return 0;
	case mode_hang:
		atomic_fetch_add(&r->hung, 1);
		while (atomic_load(&r->mode) == mode_hang) {
			struct timespec t = { 0, 1000000 };
			nanosleep(&t, NULL);
		}
		atomic_fetch_sub(&r->hung, 1);
		return *code != 0;
	}
	return 1;
}

#define FORWARD(n, params, args) \
	static ck_ulong f##n params { \
		ck_ulong code; \
		int after; \
		if (begin(n, &code, &after)) { \
			return code; \
		} \
		ck_ulong rv = ((ck_ulong (*) params)real[n]) args; \
		return after ? code : rv; \
	}

// All parameters of PKCS#11 are pointers or CK_ULONG, which are passed alike here, but for CK_BBOOL in C_GetSlotList.
typedef unsigned char bbool;
#define P ck_ulong
FORWARD(0, (P a), (a))
FORWARD(1, (P a), (a))
FORWARD(4, (bbool a, P b, P c), (a, b, c))
FORWARD(6, (P a, P b), (a, b))
FORWARD(9, (P a, P b, P c, P d), (a, b, c, d))
FORWARD(10, (P a, P b, P c), (a, b, c))
FORWARD(12, (P a, P b, P c, P d, P e), (a, b, c, d, e))
FORWARD(13, (P a), (a))
FORWARD(15, (P a, P b), (a, b))
FORWARD(18, (P a, P b, P c, P d), (a, b, c, d))
FORWARD(19, (P a), (a))
FORWARD(20, (P a, P b, P c, P d), (a, b, c, d))
FORWARD(21, (P a, P b, P c, P d, P e), (a, b, c, d, e))
FORWARD(22, (P a, P b), (a, b))
FORWARD(26, (P a, P b, P c), (a, b, c))
FORWARD(28, (P a), (a))
FORWARD(42, (P a, P b, P c), (a, b, c))
FORWARD(43, (P a, P b, P c, P d, P e), (a, b, c, d, e))
FORWARD(49, (P a, P b, P c, P d, P e), (a, b, c, d, e))
FORWARD(59, (P a, P b, P c, P d, P e, P f, P g, P h), (a, b, c, d, e, f, g, h))

struct attribute { ck_ulong type; unsigned char *value; ck_ulong len; };

static ck_ulong f24(P session, P object, struct attribute *a, P count) {
	ck_ulong code;
	int after;
	if (begin(24, &code, &after)) {
		return code;
	}
	ck_ulong rv = ((ck_ulong (*)(P, P, struct attribute *, P))real[24])(session, object, a, count);
	for (P i = 0; i < count && rv == 0 && atomic_load(&records[24].mode) == mode_lie; i++) {
		if (a[i].type == atomic_load(&records[24].about) && a[i].value != NULL && a[i].len > 0) {
			a[i].value[0] ^= 1;
		}
	}
	return after ? code : rv;
}

static ck_ulong f27(P session, P objects, P max, ck_ulong *count) {
	ck_ulong code;
	int after;
	if (begin(27, &code, &after)) {
		return code;
	}
	ck_ulong rv = ((ck_ulong (*)(P, P, P, ck_ulong *))real[27])(session, objects, max, count);
	if (atomic_load(&records[27].mode) == mode_lie) {
		*count = 0;
	}
	return after ? code : rv;
}

static ck_ulong get_function_list(struct list **out);

static void load(void) {
	const char *path = getenv("SIGNET_FAULT_MODULE"), *file = getenv("SIGNET_FAULT_FILE");
	if (path == NULL || file == NULL) {
		return;
	}
	int fd = open(file, O_RDWR);
	if (fd < 0) {
		return;
	}
	records = mmap(NULL, sizeof(struct record) * functions, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (records == MAP_FAILED) {
		return;
	}
	void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (module == NULL) {
		return;
	}
	ck_ulong (*get)(struct list **) = (ck_ulong (*)(struct list **))dlsym(module, "C_GetFunctionList");
	struct list *theirs;
	if (get == NULL || get(&theirs) != 0) {
		return;
	}
	memcpy(&mine, theirs, sizeof mine);
	memcpy(real, theirs->function, sizeof real);
#define USE(n) mine.function[n] = (void *)f##n;
	USE(0) USE(1) USE(4) USE(6) USE(9) USE(10) USE(12) USE(13) USE(15) USE(18) USE(19) USE(20) USE(21) USE(22) USE(24)
	USE(26) USE(27) USE(28) USE(42) USE(43) USE(49) USE(59)
	mine.function[3] = (void *)get_function_list;
	loaded = 1;
}

static ck_ulong get_function_list(struct list **out) {
	pthread_once(&once, load);
	if (!loaded) {
		return 5; // CKR_GENERAL_ERROR
	}
	*out = &mine;
	return 0;
}

ck_ulong C_GetFunctionList(struct list **out) { return get_function_list(out); }
