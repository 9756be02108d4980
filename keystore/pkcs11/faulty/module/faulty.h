#define _GNU_SOURCE
#include <pthread.h>
#include <stddef.h>

#include "board.h"

typedef unsigned long ck_ulong;

enum {
	ckr_ok = 0x0, ckr_general_error = 0x5, ckr_function_failed = 0x6, ckr_attribute_type_invalid = 0x12,
	ckr_device_removed = 0x32, ckr_pin_incorrect = 0xa0, ckr_pin_locked = 0xa4, ckr_key_handle_invalid = 0x60, ckr_object_handle_invalid = 0x82,
	ckr_session_count = 0xb1, ckr_session_handle_invalid = 0xb3, ckr_token_not_present = 0xe0, ckr_slot_id_invalid = 0x03,
	ckr_buffer_too_small = 0x150, ckr_not_initialized = 0x190,
	ckr_already_initialized = 0x191,
};

enum {
	c_initialize = 0, c_finalize = 1, c_get_info = 2, c_get_function_list = 3, c_get_slot_list = 4, c_get_slot_info = 5, c_get_token_info = 6,
	c_get_mechanism_list = 7, c_get_mechanism_info = 8, c_init_token = 9, c_init_pin = 10, c_set_pin = 11, c_open_session = 12,
	c_close_session = 13, c_close_all_sessions = 14, c_get_session_info = 15, c_login = 18, c_logout = 19, c_create_object = 20,
	c_copy_object = 21, c_destroy_object = 22, c_get_object_size = 23, c_get_attribute_value = 24, c_set_attribute_value = 25,
	c_find_objects_init = 26, c_find_objects = 27, c_find_objects_final = 28, c_sign_init = 42, c_sign = 43, c_verify_init = 48,
	c_generate_key_pair = 59, c_wait_for_slot_event = 67,
};

struct attribute { ck_ulong type; unsigned char *value; ck_ulong len; };

extern struct board *board;
extern struct process *self; // this process on the board
extern void *real[functions];

// Calls are in the real module with the gate held for reading. What the device does by itself happens with it held for writing.
extern pthread_rwlock_t gate;

// What this process has been told, and what it has seen of the board.
struct state {
	word initialized, finalizing;
	word logouts, drops, losses, absent;
	word base, slots, numbering;
	uint64_t initializations;
};
extern struct state state;

enum { handles_each = 1 << 24 }; // handles that a C_Initialize can hand out

struct call {
	int function, has_session;
	ck_ulong session, rv;
};

// calls.c
int begin(struct call *, int function);
int begin_in(struct call *, int function, ck_ulong *session);
ck_ulong end(struct call *);
ck_ulong done(struct call *);
void enter(int function);
void leave(int function);
int translate(int function, ck_ulong *handle);
void give(ck_ulong *handle);
int finds_nothing(void);

// functions.c
void wrap(void **function);

// rules.c
extern const char *const names[functions];
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
int rules_before(int function, ck_ulong *code);
ck_ulong rules_after(int function, ck_ulong rv);
int rule_for(int function, uint64_t action, uint64_t number, struct rule *out);

// sessions.c. A session is one of the real module.
ck_ulong session_enter(int function, ck_ulong session);
void session_leave(ck_ulong session);
int session_room(void);
void session_opened(ck_ulong session, ck_ulong slot);
void session_closed(ck_ulong session);
void sessions_closed(ck_ulong slot, int all);
int session_slot(ck_ulong session, ck_ulong *slot);
void sessions_drop(void);
void login_drop(void);

// signatures.c
void remember_key(ck_ulong session, ck_ulong key, ck_ulong handle);
ck_ulong other_key(ck_ulong session, ck_ulong key, ck_ulong handle);
void spoil(const struct rule *, unsigned char *signature, ck_ulong *length, ck_ulong room);
ck_ulong attributes(ck_ulong session, ck_ulong object, struct attribute *, ck_ulong count);
