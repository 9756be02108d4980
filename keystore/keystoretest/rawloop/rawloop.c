// rawloop signs with a PKCS#11 module as fast as a program can that does nothing else: C_SignInit and C_Sign with a buffer that
// is large enough, one session and one thread for each caller, no Go. It is what benchmarks of signing are held against.
//
//   rawloop MODULE TOKEN-LABEL KEY-LABEL MECHANISM, with the PIN in RAWLOOP_PIN
//
// It reads lines "CALLERS MILLISECONDS COPIES" and answers each with a line of numbers: signatures, nanoseconds, CPU
// nanoseconds, and the 50th and 99th percentile of the nanoseconds of one signature. COPIES is 1 to sign with a session copy of the key.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef unsigned long ck_ulong;
typedef struct { ck_ulong mechanism; void *parameter; ck_ulong parameter_len; } ck_mechanism;
typedef struct { ck_ulong hash, mgf, salt_len; } ck_pss_params;
typedef struct { ck_ulong type; void *value; ck_ulong len; } ck_attribute;
typedef struct { unsigned char major, minor; void *function[68]; } ck_function_list;
typedef struct { char label[32], manufacturer[32], model[16], serial[16]; ck_ulong numbers[20]; } ck_token_info;

static ck_function_list *list;
#define CALL(number, ...) (((ck_ulong (*)())list->function[number])(__VA_ARGS__))
enum { INITIALIZE = 0, SLOT_LIST = 4, TOKEN_INFO = 6, OPEN = 12, CLOSE = 13, LOGIN = 18, COPY = 21, FIND_INIT = 26, FIND = 27,
	FIND_FINAL = 28, SIGN_INIT = 42, SIGN = 43 };

static void check(const char *what, ck_ulong rv) {
	if (rv != 0) {
		fprintf(stderr, "rawloop: %s: 0x%lx\n", what, rv);
		exit(1);
	}
}

static long long now(clockid_t clock) {
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static ck_ulong slot, mechanism, input_len;
static const char *label;
static int copies;
static atomic_int ready, go, stop;
static unsigned char input[64];

typedef struct { pthread_t thread; long count, kept, room; unsigned *took; } caller;

static void *loop(void *argument) {
	caller *c = argument;
	ck_ulong session, key, found = 0, class = 3; // CKO_PRIVATE_KEY
	unsigned char yes = 1, no = 0, sig[1024];
	check("C_OpenSession", CALL(OPEN, slot, (ck_ulong)4, NULL, NULL, &session));
	ck_attribute find[] = { { 0, &class, sizeof class }, { 1, &yes, 1 }, { 3, (void *)label, strlen(label) } };
	check("C_FindObjectsInit", CALL(FIND_INIT, session, find, (ck_ulong)3));
	check("C_FindObjects", CALL(FIND, session, &key, (ck_ulong)1, &found));
	check("C_FindObjectsFinal", CALL(FIND_FINAL, session));
	check("find the key", found != 1);
	if (copies) {
		ck_attribute memory[] = { { 1, &no, 1 } };
		check("C_CopyObject", CALL(COPY, session, key, memory, (ck_ulong)1, &key));
	}
	ck_pss_params pss = { 0x250, 2, 32 };
	ck_mechanism m = { mechanism, NULL, 0 };
	if (mechanism == 0x0d) {
		m.parameter = &pss;
		m.parameter_len = sizeof pss;
	}
	atomic_fetch_add(&ready, 1);
	while (!atomic_load(&go)) {
		struct timespec t = { 0, 50000 };
		nanosleep(&t, NULL);
	}
	long long before = now(CLOCK_MONOTONIC);
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		ck_ulong len = sizeof sig;
		check("C_SignInit", CALL(SIGN_INIT, session, &m, key));
		check("C_Sign", CALL(SIGN, session, input, input_len, sig, &len));
		long long after = now(CLOCK_MONOTONIC);
		if (c->count++ < c->room) {
			c->took[c->kept++] = (unsigned)(after - before);
		}
		before = after;
	}
	check("C_CloseSession", CALL(CLOSE, session));
	return NULL;
}

static int ascending(const void *a, const void *b) {
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
	return x < y ? -1 : x > y;
}

static void measure(int callers, int milliseconds) {
	caller *all = calloc(callers, sizeof *all);
	ready = go = stop = 0;
	for (int i = 0; i < callers; i++) {
		all[i].room = 1 << 18;
		all[i].took = malloc(all[i].room * sizeof *all[i].took);
		pthread_create(&all[i].thread, NULL, loop, &all[i]);
	}
	while (ready < callers) {
		struct timespec t = { 0, 100000 };
		nanosleep(&t, NULL);
	}
	long long began = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
	go = 1;
	struct timespec t = { milliseconds / 1000, milliseconds % 1000 * 1000000L };
	nanosleep(&t, NULL);
	stop = 1;
	long count = 0, kept = 0;
	for (int i = 0; i < callers; i++) {
		pthread_join(all[i].thread, NULL);
		count += all[i].count;
		kept += all[i].kept;
	}
	long long elapsed = now(CLOCK_MONOTONIC) - began;
	cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	unsigned *took = malloc((kept + 1) * sizeof *took);
	kept = 0;
	for (int i = 0; i < callers; i++) {
		memcpy(took + kept, all[i].took, all[i].kept * sizeof *took);
		kept += all[i].kept;
		free(all[i].took);
	}
	qsort(took, kept, sizeof *took, ascending);
	printf("%ld %lld %lld %u %u\n", count, elapsed, cpu, kept ? took[kept / 2] : 0, kept ? took[kept * 99 / 100] : 0);
	fflush(stdout);
	free(took);
	free(all);
}

int main(int argc, char **argv) {
	const char *pin = getenv("RAWLOOP_PIN");
	if (argc != 5 || pin == NULL) {
		fprintf(stderr, "rawloop MODULE TOKEN-LABEL KEY-LABEL MECHANISM, with RAWLOOP_PIN\n");
		return 2;
	}
	void *module = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
	if (module == NULL) {
		fprintf(stderr, "rawloop: %s\n", dlerror());
		return 1;
	}
	ck_ulong (*get)(ck_function_list **) = (ck_ulong (*)(ck_function_list **))dlsym(module, "C_GetFunctionList");
	check("C_GetFunctionList", get == NULL ? 1 : get(&list));
	struct { void *create, *destroy, *lock, *unlock; ck_ulong flags; void *reserved; } threads = { .flags = 2 }; // CKF_OS_LOCKING_OK
	check("C_Initialize", CALL(INITIALIZE, &threads));
	ck_ulong slots[64], n = 64;
	check("C_GetSlotList", CALL(SLOT_LIST, (unsigned char)1, slots, &n));
	int there = 0;
	for (ck_ulong i = 0; i < n; i++) {
		ck_token_info info;
		if (CALL(TOKEN_INFO, slots[i], &info) == 0 && strncmp(info.label, argv[2], strlen(argv[2])) == 0 &&
				(strlen(argv[2]) == 32 || info.label[strlen(argv[2])] == ' ')) {
			slot = slots[i];
			there++;
		}
	}
	check("find the token", there != 1);
	label = argv[3];
	mechanism = strtoul(argv[4], NULL, 0);
	input_len = mechanism == 0x1057 ? 64 : 32; // EdDSA signs a message
	ck_ulong session;
	check("C_OpenSession", CALL(OPEN, slot, (ck_ulong)4, NULL, NULL, &session));
	check("C_Login", CALL(LOGIN, session, (ck_ulong)1, pin, strlen(pin)));
	int callers, milliseconds;
	while (scanf("%d %d %d", &callers, &milliseconds, &copies) == 3) {
		measure(callers, milliseconds);
	}
	return 0;
}
