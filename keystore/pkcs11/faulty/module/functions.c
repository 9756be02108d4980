// The functions of PKCS#11. Most are forwarded by a macro.

#include "faulty.h"

#include <unistd.h>

#define P ck_ulong
#define IN(n, type, args) \
	(pthread_rwlock_rdlock(&gate), c.rv = ((ck_ulong (*) type)real[n]) args, pthread_rwlock_unlock(&gate))

// Functions that need nothing but to be forwarded, with a session as first parameter or without.
#define PLAIN(n, params, args) \
	static ck_ulong f##n params { \
		struct call c; \
		if (!begin(&c, n)) { \
			return c.rv; \
		} \
		IN(n, params, args); \
		return done(&c); \
	}
#define SESSION(n, params, args) \
	static ck_ulong f##n params { \
		struct call c; \
		if (!begin_in(&c, n, &a)) { \
			return c.rv; \
		} \
		IN(n, params, args); \
		return done(&c); \
	}
// Functions with objects among their parameters.
#define OBJECTS(n, params, args, object1, object2, invalid, out1, out2) \
	static ck_ulong f##n params { \
		struct call c; \
		if (!begin_in(&c, n, &a)) { \
			return c.rv; \
		} \
		if (!translate(n, object1) || !translate(n, object2)) { \
			c.rv = invalid; \
			return end(&c); \
		} \
		IN(n, params, args); \
		if (c.rv == ckr_ok) { \
			give((ck_ulong *)(out1)); \
			give((ck_ulong *)(out2)); \
		} \
		return done(&c); \
	}

static ck_ulong nothing; // stays 0
#define NO (&nothing)
enum { object = ckr_object_handle_invalid, key = ckr_key_handle_invalid };

PLAIN(2, (P a), (a))
SESSION(10, (P a, P b, P d), (a, b, d))
SESSION(11, (P a, P b, P d, P e, P f), (a, b, d, e, f))
SESSION(16, (P a, P b, P d), (a, b, d))
OBJECTS(17, (P a, P b, P d, P e, P f), (a, b, d, e, f), &e, &f, key, NULL, NULL)
SESSION(19, (P a), (a))
OBJECTS(20, (P a, P b, P d, P e), (a, b, d, e), NO, NO, object, e, NULL)
OBJECTS(21, (P a, P b, P d, P e, P f), (a, b, d, e, f), &b, NO, object, f, NULL)
OBJECTS(22, (P a, P b), (a, b), &b, NO, object, NULL, NULL)
OBJECTS(23, (P a, P b, P d), (a, b, d), &b, NO, object, NULL, NULL)
OBJECTS(25, (P a, P b, P d, P e), (a, b, d, e), &b, NO, object, NULL, NULL)
SESSION(26, (P a, P b, P d), (a, b, d))
SESSION(28, (P a), (a))
OBJECTS(29, (P a, P b, P d), (a, b, d), &d, NO, key, NULL, NULL)
SESSION(30, (P a, P b, P d, P e, P f), (a, b, d, e, f))
SESSION(31, (P a, P b, P d, P e, P f), (a, b, d, e, f))
SESSION(32, (P a, P b, P d), (a, b, d))
OBJECTS(33, (P a, P b, P d), (a, b, d), &d, NO, key, NULL, NULL)
SESSION(34, (P a, P b, P d, P e, P f), (a, b, d, e, f))
SESSION(35, (P a, P b, P d, P e, P f), (a, b, d, e, f))
SESSION(36, (P a, P b, P d), (a, b, d))
SESSION(37, (P a, P b), (a, b))
SESSION(38, (P a, P b, P d, P e, P f), (a, b, d, e, f))
SESSION(39, (P a, P b, P d), (a, b, d))
OBJECTS(40, (P a, P b), (a, b), &b, NO, key, NULL, NULL)
SESSION(41, (P a, P b, P d), (a, b, d))
SESSION(44, (P a, P b, P d), (a, b, d))
SESSION(45, (P a, P b, P d), (a, b, d))
OBJECTS(46, (P a, P b, P d), (a, b, d), &d, NO, key, NULL, NULL)
SESSION(47, (P a, P b, P d, P e, P f), (a, b, d, e, f))
OBJECTS(48, (P a, P b, P d), (a, b, d), &d, NO, key, NULL, NULL)
SESSION(49, (P a, P b, P d, P e, P f), (a, b, d, e, f))
SESSION(50, (P a, P b, P d), (a, b, d))
SESSION(51, (P a, P b, P d), (a, b, d))
OBJECTS(52, (P a, P b, P d), (a, b, d), &d, NO, key, NULL, NULL)
SESSION(53, (P a, P b, P d, P e, P f), (a, b, d, e, f))
SESSION(54, (P a, P b, P d, P e, P f), (a, b, d, e, f))
SESSION(55, (P a, P b, P d, P e, P f), (a, b, d, e, f))
SESSION(56, (P a, P b, P d, P e, P f), (a, b, d, e, f))
SESSION(57, (P a, P b, P d, P e, P f), (a, b, d, e, f))
OBJECTS(58, (P a, P b, P d, P e, P f), (a, b, d, e, f), NO, NO, key, f, NULL)
OBJECTS(59, (P a, P b, P d, P e, P f, P g, P h, P i), (a, b, d, e, f, g, h, i), NO, NO, key, h, i)
OBJECTS(60, (P a, P b, P d, P e, P f, P g), (a, b, d, e, f, g), &d, &e, key, NULL, NULL)
OBJECTS(61, (P a, P b, P d, P e, P f, P g, P h, P i), (a, b, d, e, f, g, h, i), &d, NO, key, i, NULL)
OBJECTS(62, (P a, P b, P d, P e, P f, P g), (a, b, d, e, f, g), &d, NO, key, g, NULL)
SESSION(63, (P a, P b, P d), (a, b, d))
SESSION(64, (P a, P b, P d), (a, b, d))
SESSION(65, (P a), (a))
SESSION(66, (P a), (a))

// Slots are numbered anew when the module is initialised, if the test wants that.
#define SLOT(n, params, args) \
	static ck_ulong f##n params { \
		struct call c; \
		if (!begin(&c, n)) { \
			return c.rv; \
		} \
		if (a < atomic_load(&state.slots)) { \
			c.rv = ckr_slot_id_invalid; \
			return end(&c); \
		} \
		a -= atomic_load(&state.slots); \
		IN(n, params, args); \
		return done(&c); \
	}
SLOT(5, (P a, P b), (a, b))
SLOT(7, (P a, P b, P d), (a, b, d))
SLOT(8, (P a, P b, P d), (a, b, d))
SLOT(9, (P a, P b, P d, P e), (a, b, d, e))

static ck_ulong f0(P a) {
	struct call c;
	if (!begin(&c, c_initialize)) {
		return c.rv;
	}
	pthread_rwlock_wrlock(&gate);
	c.rv = ((ck_ulong (*)(P))real[c_initialize])(a);
	if (c.rv == ckr_ok) {
		atomic_store(&state.logouts, atomic_load(&board->logouts));
		atomic_store(&state.drops, atomic_load(&board->drops));
		atomic_store(&state.losses, atomic_load(&board->losses));
		atomic_store(&state.absent, atomic_load(&board->lost) != lost_not);
		atomic_store(&state.slots, atomic_load(&board->slots));
		state.initializations++;
		atomic_store(&state.numbering, atomic_load(&board->numbering));
		atomic_store(&state.base, atomic_load(&state.numbering) == number_same ? 0 : state.initializations * handles_each);
	}
	pthread_rwlock_unlock(&gate);
	done(&c);
	if (c.rv == ckr_ok || c.rv == ckr_already_initialized) {
		atomic_store(&state.initialized, 1);
	}
	return c.rv;
}

static ck_ulong f1(P a) {
	struct call c;
	atomic_store(&state.finalizing, 1);
	if (!begin(&c, c_finalize)) {
		atomic_store(&state.finalizing, 0);
		return c.rv;
	}
	pthread_rwlock_wrlock(&gate);
	c.rv = ((ck_ulong (*)(P))real[c_finalize])(a);
	if (c.rv == ckr_ok) {
		sessions_closed(0, 1);
	}
	pthread_rwlock_unlock(&gate);
	done(&c);
	if (c.rv == ckr_ok) {
		atomic_store(&state.initialized, 0);
	}
	atomic_store(&state.finalizing, 0);
	return c.rv;
}

typedef unsigned char bbool; // the only parameter that is not as wide as a pointer

static ck_ulong f4(bbool present, ck_ulong *list, ck_ulong *count) {
	struct call c;
	if (!begin(&c, c_get_slot_list)) {
		return c.rv;
	}
	if (present && (atomic_load(&state.absent) || (finds_nothing() && atomic_load(&board->flavour) == lost_removed))) {
		*count = 0;
		return done(&c);
	}
	IN(c_get_slot_list, (bbool, ck_ulong *, ck_ulong *), (present, list, count));
	for (ck_ulong i = 0; c.rv == ckr_ok && list != NULL && i < *count; i++) {
		list[i] += atomic_load(&state.slots);
	}
	return done(&c);
}

static ck_ulong f67(P a, ck_ulong *slot, P d) {
	struct call c;
	if (!begin(&c, c_wait_for_slot_event)) {
		return c.rv;
	}
	c.rv = ((ck_ulong (*)(P, ck_ulong *, P))real[c_wait_for_slot_event])(a, slot, d); // may wait for ever, so without the gate
	if (c.rv == ckr_ok) {
		*slot += atomic_load(&state.slots);
	}
	return done(&c);
}

// CK_TOKEN_INFO
struct token_info {
	unsigned char label[32], manufacturer[32], model[16], serial[16];
	ck_ulong flags, max_sessions, sessions, max_rw_sessions, rw_sessions, max_pin, min_pin, memory[4];
	unsigned char versions[4], time[16];
};

static ck_ulong f6(P a, struct token_info *info) {
	struct call c;
	if (!begin(&c, c_get_token_info)) {
		return c.rv;
	}
	if (a < atomic_load(&state.slots)) {
		c.rv = ckr_slot_id_invalid;
		return end(&c);
	}
	IN(c_get_token_info, (P, struct token_info *), (a - atomic_load(&state.slots), info));
	if (c.rv == ckr_ok) {
		uint64_t limit = atomic_load(&board->max_sessions);
		if (limit != 0) {
			info->max_sessions = info->max_rw_sessions = limit;
		}
		info->flags = (info->flags | atomic_load(&board->flags_set)) & ~atomic_load(&board->flags_cleared);
	}
	return done(&c);
}

static ck_ulong f12(P slot, P flags, P application, P notify, ck_ulong *session) {
	struct call c;
	if (!begin(&c, c_open_session)) {
		return c.rv;
	}
	if (slot < atomic_load(&state.slots)) {
		c.rv = ckr_slot_id_invalid;
		return end(&c);
	}
	slot -= atomic_load(&state.slots);
	if (!session_room()) {
		c.rv = ckr_session_count;
		return end(&c);
	}
	IN(c_open_session, (P, P, P, P, ck_ulong *), (slot, flags, application, notify, session));
	if (c.rv == ckr_ok) {
		session_opened(*session, slot);
		give(session);
	}
	return done(&c);
}

static ck_ulong f13(P a) {
	struct call c;
	if (!begin_in(&c, c_close_session, &a)) {
		return c.rv;
	}
	IN(c_close_session, (P), (a));
	if (c.rv == ckr_ok) {
		session_closed(a);
		c.has_session = 0;
	}
	return done(&c);
}

static ck_ulong f14(P slot) {
	struct call c;
	if (!begin(&c, c_close_all_sessions)) {
		return c.rv;
	}
	if (slot < atomic_load(&state.slots)) {
		c.rv = ckr_slot_id_invalid;
		return end(&c);
	}
	slot -= atomic_load(&state.slots);
	IN(c_close_all_sessions, (P), (slot));
	if (c.rv == ckr_ok) {
		sessions_closed(slot, 0);
	}
	return done(&c);
}

static ck_ulong f15(P a, ck_ulong *info) {
	struct call c;
	if (!begin_in(&c, c_get_session_info, &a)) {
		return c.rv;
	}
	IN(c_get_session_info, (P, ck_ulong *), (a, info));
	if (c.rv == ckr_ok) {
		info[0] += atomic_load(&state.slots);
	}
	return done(&c);
}

// refusal is a hash of a PIN with the token and the user that refused it. It is never 0.
static uint64_t refusal(ck_ulong session, ck_ulong user, const unsigned char *pin, ck_ulong length) {
	struct token_info info;
	ck_ulong slot;
	uint64_t h = 0xcbf29ce484222325u ^ user;
	if (session_slot(session, &slot) && ((ck_ulong (*)(P, struct token_info *))real[c_get_token_info])(slot, &info) == ckr_ok) {
		for (size_t i = 0; i < sizeof info.serial; i++) {
			h = (h ^ info.serial[i]) * 0x100000001b3u;
		}
	}
	for (ck_ulong i = 0; i < length && pin != NULL; i++) {
		h = (h ^ pin[i]) * 0x100000001b3u;
	}
	return h | 1;
}

static ck_ulong f18(P a, P user, unsigned char *pin, P length) {
	struct call c = { .function = c_login };
	ck_ulong session = a;
	uint64_t h = 0;
	if (atomic_load(&state.initialized) && !atomic_load(&state.finalizing) && translate(c_login, &session)) {
		h = refusal(session, user, pin, length);
		uint64_t n = atomic_load(&board->refused);
		for (uint64_t i = 0; i < refusals && i < n; i++) {
			if (atomic_load(&board->refusal[i]) == h) {
				enter(c_login);
				note("process %d: C_Login with a PIN that was refused before", (int)getpid());
				leave(c_login);
				return ckr_pin_incorrect;
			}
		}
	}
	if (begin_in(&c, c_login, &a)) {
		IN(c_login, (P, P, unsigned char *, P), (a, user, pin, length));
		done(&c);
	}
	if ((c.rv == ckr_pin_incorrect || c.rv == ckr_pin_locked) && h != 0) {
		atomic_store(&board->refusal[atomic_fetch_add(&board->refused, 1) % refusals], h);
	}
	return c.rv;
}

static ck_ulong f24(P a, P b, struct attribute *list, P count) {
	struct call c;
	if (!begin_in(&c, c_get_attribute_value, &a)) {
		return c.rv;
	}
	if (!translate(c_get_attribute_value, &b)) {
		c.rv = ckr_object_handle_invalid;
		return end(&c);
	}
	pthread_rwlock_rdlock(&gate);
	c.rv = attributes(a, b, list, count);
	pthread_rwlock_unlock(&gate);
	return done(&c);
}

static ck_ulong f27(P a, ck_ulong *objects, P max, ck_ulong *count) {
	struct call c;
	struct rule r;
	if (!begin_in(&c, c_find_objects, &a)) {
		return c.rv;
	}
	IN(c_find_objects, (P, ck_ulong *, P, ck_ulong *), (a, objects, max, count));
	if (c.rv == ckr_ok && (finds_nothing() || rule_for(c_find_objects, act_nothing, 0, &r))) {
		*count = 0;
	}
	for (ck_ulong i = 0; c.rv == ckr_ok && i < *count; i++) {
		give(&objects[i]);
	}
	return done(&c);
}

static ck_ulong f42(P a, P mechanism, P k) {
	struct call c;
	struct rule r;
	if (!begin_in(&c, c_sign_init, &a)) {
		return c.rv;
	}
	ck_ulong handle = k;
	int fresh = translate(c_sign_init, &k);
	if (!fresh && atomic_load(&state.numbering) != number_other) {
		c.rv = ckr_key_handle_invalid;
		return end(&c);
	}
	pthread_rwlock_rdlock(&gate);
	if (!fresh) {
		k = other_key(a, 0, handle);
	} else if (atomic_load(&state.numbering) == number_other) {
		remember_key(a, k, handle);
	}
	if (fresh && rule_for(c_sign_init, act_sign, 0, &r)) {
		k = other_key(a, k, 0);
	}
	c.rv = ((ck_ulong (*)(P, P, P))real[c_sign_init])(a, mechanism, k);
	pthread_rwlock_unlock(&gate);
	return done(&c);
}

static ck_ulong f43(P a, P data, P length, unsigned char *signature, ck_ulong *signature_length) {
	struct call c;
	struct rule r;
	if (!begin_in(&c, c_sign, &a)) {
		return c.rv;
	}
	ck_ulong space = *signature_length;
	IN(c_sign, (P, P, P, unsigned char *, ck_ulong *), (a, data, length, signature, signature_length));
	if (c.rv == ckr_ok && signature != NULL && rule_for(c_sign, act_sign, 0, &r)) {
		spoil(&r, signature, signature_length, space);
	}
	return done(&c);
}

// wrap puts the functions of this module where those of the real one are in its list, as far as it has them.
void wrap(void **function) {
#define USE(n) if (real[n] != NULL) { function[n] = (void *)f##n; }
	USE(0) USE(1) USE(2) USE(4) USE(5) USE(6) USE(7) USE(8) USE(9) USE(10) USE(11) USE(12) USE(13) USE(14) USE(15) USE(16)
	USE(17) USE(18) USE(19) USE(20) USE(21) USE(22) USE(23) USE(24) USE(25) USE(26) USE(27) USE(28) USE(29) USE(30) USE(31)
	USE(32) USE(33) USE(34) USE(35) USE(36) USE(37) USE(38) USE(39) USE(40) USE(41) USE(42) USE(43) USE(44) USE(45) USE(46)
	USE(47) USE(48) USE(49) USE(50) USE(51) USE(52) USE(53) USE(54) USE(55) USE(56) USE(57) USE(58) USE(59) USE(60) USE(61)
	USE(62) USE(63) USE(64) USE(65) USE(66) USE(67)
}
