// What surrounds each call: who is inside, whether it may be made now, and what has happened to the device.

#include "faulty.h"

#include <unistd.h>

pthread_rwlock_t gate = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
struct state state;

// lost says what a call returns while the token is gone. It heals only by C_Finalize and C_Initialize.
static ck_ulong lost(int n) {
	int gone = atomic_load(&state.losses) != atomic_load(&board->losses);
	if (!gone && !atomic_load(&state.absent)) {
		return ckr_ok;
	}
	int about_token = (n >= c_get_token_info && n <= c_init_token) || n == c_open_session;
	if (!gone || atomic_load(&board->flavour) == lost_removed) {
		if (about_token) {
			return ckr_token_not_present;
		}
		return n > c_open_session && n != c_close_all_sessions && n != c_wait_for_slot_event ? ckr_device_removed : ckr_ok;
	}
	switch (n) { // what was open before looks as if nothing had happened
	case c_create_object: case 58: case c_generate_key_pair:
		return ckr_general_error;
	case c_copy_object: case c_destroy_object: case c_get_object_size: case c_get_attribute_value: case c_set_attribute_value:
	case 29: case 34: case 40: case c_sign_init: case 46: case c_verify_init: case 52: case 60: case 61: case 62:
		return ckr_object_handle_invalid;
	}
	return ckr_ok;
}

int finds_nothing(void) { return atomic_load(&state.losses) != atomic_load(&board->losses) || atomic_load(&state.absent); }

// what_happened does what the device has done by itself since the last call.
static void what_happened(void) {
	if (atomic_load(&state.drops) == atomic_load(&board->drops) && atomic_load(&state.logouts) == atomic_load(&board->logouts)) {
		return;
	}
	pthread_rwlock_wrlock(&gate);
	uint64_t now = atomic_load(&board->logouts);
	if (atomic_exchange(&state.logouts, now) != now) {
		login_drop();
	}
	now = atomic_load(&board->drops);
	if (atomic_exchange(&state.drops, now) != now) {
		sessions_drop();
	}
	pthread_rwlock_unlock(&gate);
}

void enter(int n) {
	atomic_fetch_add(&board->calls[n], 1);
	atomic_fetch_add(&self->in[n], 1);
	uint64_t inside = atomic_fetch_add(&self->inside, 1) + 1, most = atomic_load(&board->most);
	while (inside > most && !atomic_compare_exchange_weak(&board->most, &most, inside)) {
	}
}

void leave(int n) {
	atomic_fetch_sub(&self->inside, 1);
	atomic_fetch_sub(&self->in[n], 1);
}

// misused says whether a call must not be made now, and what it returns then.
static ck_ulong misused(int n) {
	if (n == c_finalize) {
		if (atomic_load(&self->inside) > 1) {
			note("process %d: C_Finalize while other calls are running", (int)getpid());
			return ckr_function_failed;
		}
		return ckr_ok;
	}
	if (atomic_load(&state.finalizing)) {
		note("process %d: %s during C_Finalize", (int)getpid(), names[n]);
		return ckr_not_initialized;
	}
	if (n != c_initialize && !atomic_load(&state.initialized)) {
		note("process %d: %s before C_Initialize", (int)getpid(), names[n]);
		return ckr_not_initialized;
	}
	return ckr_ok;
}

// translate turns a handle of the caller's into one of the real module, and says whether it is one of this C_Initialize.
int translate(int n, ck_ulong *handle) {
	uint64_t b = atomic_load(&state.base);
	if (b == 0 || *handle == 0) {
		return 1;
	}
	if (*handle > b && *handle < b + handles_each) {
		*handle -= b;
		return 1;
	}
	atomic_fetch_add(&board->stale, 1);
	note("process %d: %s with handle %lu, which was given before the last C_Initialize", (int)getpid(), names[n], *handle);
	return 0;
}

ck_ulong end(struct call *c) {
	if (c->has_session) {
		session_leave(c->session);
	}
	leave(c->function);
	return c->rv;
}

// done is end for a call that did its work.
ck_ulong done(struct call *c) {
	c->rv = rules_after(c->function, c->rv);
	return end(c);
}

// begin says whether a call is made; if not, it is over, and c->rv is what it returns.
int begin(struct call *c, int n) {
	*c = (struct call){ .function = n };
	enter(n);
	if ((c->rv = misused(n)) == ckr_ok && !rules_before(n, &c->rv) && (c->rv = lost(n)) == ckr_ok) {
		what_happened();
		return 1;
	}
	leave(n);
	return 0;
}

int begin_in(struct call *c, int n, ck_ulong *session) {
	*c = (struct call){ .function = n };
	enter(n);
	if ((c->rv = misused(n)) != ckr_ok) {
		leave(n);
		return 0;
	}
	if (!translate(n, session)) {
		c->rv = ckr_session_handle_invalid;
		leave(n);
		return 0;
	}
	what_happened();
	if ((c->rv = session_enter(n, *session)) != ckr_ok) {
		leave(n);
		return 0;
	}
	c->session = *session;
	c->has_session = 1;
	if (rules_before(n, &c->rv) || (c->rv = lost(n)) != ckr_ok) {
		end(c);
		return 0;
	}
	return 1;
}

void give(ck_ulong *handle) {
	if (handle != NULL && *handle != 0) {
		*handle += atomic_load(&state.base);
	}
}
