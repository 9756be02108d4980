// The board is the memory that a test shares with every process that has loaded the module. The test writes the rules, the
// processes write what they do. Each field is 8 bytes wide, so that board.go needs no more than the same order.

#include <stdatomic.h>
#include <stdint.h>

enum { functions = 68, rules = 512, rule_data = 256, processes = 64, notes = 64, note_size = 256, refusals = 64, path_size = 1024 };

typedef _Atomic uint64_t word;

// A rule says what happens in some calls of a function. What is not atomic is written before state is set to armed.
struct rule {
	word state;        // see below; its lower half is what hanging calls wait for
	uint64_t function; // any_function: of all of them
	uint64_t action;
	uint64_t after; // the call does its work first
	word skip;      // calls that are left alone first
	word times;     // calls that it happens in then; for_ever
	word fired;     // calls that it happened in
	uint64_t until; // nanoseconds of CLOCK_MONOTONIC; 0: no end
	uint64_t chance; // in 2^32; 0: always
	uint64_t code;   // what the call returns, or which signal
	uint64_t number; // an attribute, nanoseconds, …
	uint64_t length;
	unsigned char data[rule_data];
};

enum { rule_free = 0, rule_armed = 1, rule_over = 2 };
enum { any_function = 0xffff };
#define for_ever UINT64_MAX

enum {
	act_fail = 1, // return code
	act_delay,    // take number nanoseconds longer
	act_hang,     // until the rule is over; then return code, if it is not CKR_OK
	act_kill,     // end the process by the signal code
	// The following change what a call that succeeded says.
	act_flip,     // the attribute number has its first byte changed
	act_value,    // the attribute number is data
	act_unknown,  // the attribute number is not known
	act_point,    // CKA_EC_POINT is encoded as code says
	act_nothing,  // C_FindObjects finds nothing
	act_sign,     // C_Sign gives something else, as code says
};

enum { point_raw = 1, point_octet = 2, point_bit = 3 };
enum { sign_other = 1, sign_corrupt = 2, sign_short = 3, sign_zero = 4, sign_long = 5, sign_again = 6, sign_empty = 7 };

// A process that has loaded the module.
struct process {
	word used;
	word inside;            // threads in a call
	word sessions;          // open ones
	word in[functions];     // threads in a call of this function
	word hung[functions];   // of them, those that a rule lets hang
};

struct board {
	word first, end;          // the rules that may be armed are first to end-1, modulo rules
	word lost;                // how the token is lost now: see below
	word losses;              // times that it was lost
	word flavour;             // how, the last time
	word logouts;             // logins dropped
	word drops;               // times that all sessions were dropped
	word numbering;           // how handles are numbered, from the next C_Initialize on
	word slots;               // added to the numbers of slots, from the next C_Initialize on
	word max_sessions;        // 0: what the token says
	word flags_set, flags_cleared; // in CK_TOKEN_INFO
	word most;                // threads that were inside at once
	word calls[functions];
	word stale;               // uses of a handle of an earlier C_Initialize
	word noted;               // violations, also those that did not fit
	word refused;             // entries in refusals, also those that were overwritten
	word refusal[refusals];   // hashes of PINs that were refused
	struct process process[processes];
	char note[notes][note_size];
	char real[path_size];     // path of the module that does the work
	struct rule rule[rules];
};

enum { lost_not = 0, lost_silently = 1, lost_removed = 2 };
enum { number_same = 0, number_fresh = 1, number_other = 2 };
