// What the test wants to happen, and what it is told.

#include "faulty.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

const char *const names[functions] = {
	"C_Initialize", "C_Finalize", "C_GetInfo", "C_GetFunctionList", "C_GetSlotList", "C_GetSlotInfo", "C_GetTokenInfo",
	"C_GetMechanismList", "C_GetMechanismInfo", "C_InitToken", "C_InitPIN", "C_SetPIN", "C_OpenSession", "C_CloseSession",
	"C_CloseAllSessions", "C_GetSessionInfo", "C_GetOperationState", "C_SetOperationState", "C_Login", "C_Logout",
	"C_CreateObject", "C_CopyObject", "C_DestroyObject", "C_GetObjectSize", "C_GetAttributeValue", "C_SetAttributeValue",
	"C_FindObjectsInit", "C_FindObjects", "C_FindObjectsFinal", "C_EncryptInit", "C_Encrypt", "C_EncryptUpdate",
	"C_EncryptFinal", "C_DecryptInit", "C_Decrypt", "C_DecryptUpdate", "C_DecryptFinal", "C_DigestInit", "C_Digest",
	"C_DigestUpdate", "C_DigestKey", "C_DigestFinal", "C_SignInit", "C_Sign", "C_SignUpdate", "C_SignFinal",
	"C_SignRecoverInit", "C_SignRecover", "C_VerifyInit", "C_Verify", "C_VerifyUpdate", "C_VerifyFinal", "C_VerifyRecoverInit",
	"C_VerifyRecover", "C_DigestEncryptUpdate", "C_DecryptDigestUpdate", "C_SignEncryptUpdate", "C_DecryptVerifyUpdate",
	"C_GenerateKey", "C_GenerateKeyPair", "C_WrapKey", "C_UnwrapKey", "C_DeriveKey", "C_SeedRandom", "C_GenerateRandom",
	"C_GetFunctionStatus", "C_CancelFunction", "C_WaitForSlotEvent",
};

// note records that the module was used as it must not be.
void note(const char *format, ...) {
	uint64_t n = atomic_fetch_add(&board->noted, 1);
	if (n >= notes) {
		return;
	}
	char text[note_size - 1];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	// The first byte is written last: the test reads the text only then.
	memcpy(board->note[n] + 1, text, sizeof text);
	__atomic_store_n(&board->note[n][0], 1, __ATOMIC_RELEASE);
}

static uint64_t clock_now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int lucky(uint64_t chance) {
	static _Thread_local uint64_t x;
	if (chance == 0) {
		return 1;
	}
	if (x == 0) {
		x = clock_now() ^ ((uint64_t)syscall(SYS_gettid) << 32) ^ 0x9e3779b97f4a7c15u;
	}
	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return (x >> 32) < chance;
}

// take counts a call against a rule and says whether it happens in this one.
static int take(struct rule *r) {
	if (r->until != 0 && clock_now() > r->until) {
		return 0;
	}
	uint64_t v = atomic_load(&r->skip);
	while (v > 0) {
		if (atomic_compare_exchange_weak(&r->skip, &v, v - 1)) {
			return 0;
		}
	}
	if (!lucky(r->chance)) {
		return 0;
	}
	v = atomic_load(&r->times);
	do {
		if (v == 0) {
			return 0;
		}
	} while (v != for_ever && !atomic_compare_exchange_weak(&r->times, &v, v - 1));
	atomic_fetch_add(&r->fired, 1);
	return 1;
}

static void pause_for(uint64_t nanoseconds) {
	struct timespec t = { (time_t)(nanoseconds / 1000000000u), (long)(nanoseconds % 1000000000u) };
	while (nanosleep(&t, &t) != 0 && errno == EINTR) {
	}
}

static void hang(struct rule *r, int function) {
	atomic_fetch_add(&self->hung[function], 1);
	while (atomic_load(&r->state) == rule_armed) {
		struct timespec t = { 0, 20000000 }; // nobody's wake-up is missed for longer than this
		syscall(SYS_futex, &r->state, FUTEX_WAIT, rule_armed, &t, NULL, 0);
	}
	atomic_fetch_sub(&self->hung[function], 1);
}

static void die(int number) {
	if (number == SIGSEGV) {
		signal(SIGSEGV, SIG_DFL); // as if the crash were in a thread that nobody handles
		*(volatile int *)8 = 1;
	}
	kill(getpid(), number);
	for (;;) {
		pause();
	}
}

static struct rule *armed(uint64_t at, int function) {
	struct rule *r = &board->rule[at % rules];
	if (atomic_load(&r->state) != rule_armed || (r->function != (uint64_t)function && r->function != any_function)) {
		return NULL;
	}
	return r;
}

// obey does what the rules say, the newest one first, and says whether one decides what the call returns.
static int obey(int function, uint64_t after, ck_ulong *code) {
	uint64_t first = atomic_load(&board->first);
	for (uint64_t i = atomic_load(&board->end); i > first; i--) {
		struct rule *r = armed(i - 1, function);
		if (r == NULL || r->action > act_kill || r->after != after || !take(r)) {
			continue;
		}
		switch (r->action) {
		case act_delay:
			pause_for(r->number);
			continue;
		case act_kill:
			die((int)r->code);
			continue;
		case act_hang:
			*code = r->code;
			hang(r, function);
			if (*code == ckr_ok) {
				continue;
			}
			return 1;
		}
		*code = r->code;
		return 1;
	}
	return 0;
}

int rules_before(int function, ck_ulong *code) { return obey(function, 0, code); }

ck_ulong rules_after(int function, ck_ulong rv) {
	ck_ulong code;
	return obey(function, 1, &code) ? code : rv;
}

// rule_for finds the newest rule that changes what a call says, about a certain thing if number is not 0.
int rule_for(int function, uint64_t action, uint64_t number, struct rule *out) {
	uint64_t first = atomic_load(&board->first);
	for (uint64_t i = atomic_load(&board->end); i > first; i--) {
		struct rule *r = armed(i - 1, function);
		if (r != NULL && r->action == action && (number == 0 || r->number == number) && take(r)) {
			memcpy((void *)out, (void *)r, sizeof *out);
			return 1;
		}
	}
	return 0;
}
