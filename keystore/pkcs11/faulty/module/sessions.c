// Which sessions are open in this process, and who is in them.

#include "faulty.h"

#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

struct entry {
	ck_ulong session, slot;
	long thread;  // that is in it, or 0
	int function; // in which call
	int dropped;  // the device forgot it
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct entry *table;
static size_t used, room;

static struct entry *find(ck_ulong session) {
	for (size_t i = 0; i < used; i++) {
		if (table[i].session == session) {
			return &table[i];
		}
	}
	return NULL;
}

static void drop(struct entry *e) {
	*e = table[--used];
	atomic_store(&self->sessions, used);
}

// session_enter notes that this thread is in a session, and refuses a second one.
ck_ulong session_enter(int function, ck_ulong session) {
	static _Thread_local long me;
	if (me == 0) {
		me = syscall(SYS_gettid);
	}
	pthread_mutex_lock(&lock);
	struct entry *e = find(session);
	if (e != NULL && e->thread != 0) {
		note("process %d: %s and %s in session %lu at once", (int)getpid(), names[e->function], names[function], session);
		pthread_mutex_unlock(&lock);
		return ckr_function_failed;
	}
	if (e != NULL && e->dropped) {
		drop(e);
		pthread_mutex_unlock(&lock);
		return ckr_session_handle_invalid;
	}
	if (e != NULL) {
		e->thread = me;
		e->function = function;
	}
	pthread_mutex_unlock(&lock);
	return ckr_ok;
}

void session_leave(ck_ulong session) {
	pthread_mutex_lock(&lock);
	struct entry *e = find(session);
	if (e != NULL) {
		e->thread = 0;
	}
	pthread_mutex_unlock(&lock);
}

// session_room says whether the limit of the test allows one more.
int session_room(void) {
	uint64_t limit = atomic_load(&board->max_sessions), open = 0;
	if (limit == 0) {
		return 1;
	}
	for (int i = 0; i < processes; i++) {
		open += atomic_load(&board->process[i].sessions);
	}
	return open < limit;
}

void session_opened(ck_ulong session, ck_ulong slot) {
	pthread_mutex_lock(&lock);
	struct entry *e = find(session); // what the real module forgot by itself
	if (e == NULL && used == room) {
		size_t more = room == 0 ? 64 : 2 * room;
		struct entry *t = realloc(table, more * sizeof *t);
		if (t == NULL) {
			abort();
		}
		table = t;
		room = more;
	}
	if (e == NULL) {
		e = &table[used++];
	}
	*e = (struct entry){ session, slot, 0, 0, 0 };
	atomic_store(&self->sessions, used);
	pthread_mutex_unlock(&lock);
}

void session_closed(ck_ulong session) {
	pthread_mutex_lock(&lock);
	struct entry *e = find(session);
	if (e != NULL) {
		drop(e);
	}
	pthread_mutex_unlock(&lock);
}

void sessions_closed(ck_ulong slot, int all) {
	pthread_mutex_lock(&lock);
	for (size_t i = used; i-- > 0;) {
		if (all || table[i].slot == slot) {
			drop(&table[i]);
		}
	}
	pthread_mutex_unlock(&lock);
}

int session_slot(ck_ulong session, ck_ulong *slot) {
	pthread_mutex_lock(&lock);
	struct entry *e = find(session);
	int found = e != NULL;
	if (found) {
		*slot = e->slot;
	}
	pthread_mutex_unlock(&lock);
	return found;
}

// sessions_drop makes the device forget all sessions, and with the last one the login. No other call is in the real module.
void sessions_drop(void) {
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < used; i++) {
		if (!table[i].dropped) {
			((ck_ulong (*)(ck_ulong))real[c_close_session])(table[i].session);
		}
		table[i].dropped = 1; // its caller does not know yet
	}
	pthread_mutex_unlock(&lock);
}

// login_drop logs all tokens out. No other call is in the real module.
void login_drop(void) {
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < used; i++) {
		((ck_ulong (*)(ck_ulong))real[c_logout])(table[i].session); // once more for each session: only the first does it
	}
	pthread_mutex_unlock(&lock);
}
