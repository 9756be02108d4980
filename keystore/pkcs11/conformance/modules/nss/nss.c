// A PKCS#11 module that is NSS softokn, with two differences.
//
// Softokn wants its database named in a field that it adds to
// the arguments of C_Initialize (nss/lib/softoken, "LibraryParameters"). Programs that know PKCS#11 only do not set it, so
// this sets it from the environment variable NSS_LIB_PARAMS.
//
// Softokn's database has no place for CKA_ALLOWED_MECHANISMS and CKA_COPYABLE, and it answers CKR_GENERAL_ERROR to a key of the
// token with one of them. This answers CKR_ATTRIBUTE_TYPE_INVALID, as the standard wants, so that the rest can be tried.

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long ck_ulong;
typedef struct { unsigned char major, minor; void *function[68]; } ck_function_list;
typedef struct {
	void *create_mutex, *destroy_mutex, *lock_mutex, *unlock_mutex;
	ck_ulong flags;
	char *library_parameters; // NSS's own
	void *reserved;
} nss_initialize_args;

typedef struct { ck_ulong type; void *value; ck_ulong length; } ck_attribute;

enum { at_initialize = 0, at_generate_key_pair = 59 };
enum { ckr_general_error = 5, ckr_attribute_type_invalid = 0x12, ckf_os_locking_ok = 2 };
enum { cka_copyable = 0x171, cka_allowed_mechanisms = 0x40000600 };

typedef ck_ulong (*c_get_function_list)(ck_function_list **);
typedef ck_ulong (*c_initialize)(void *);
typedef ck_ulong (*c_generate_key_pair)(ck_ulong, void *, ck_attribute *, ck_ulong, ck_attribute *, ck_ulong, ck_ulong *, ck_ulong *);

static ck_function_list list;
static void *real_initialize, *real_generate_key_pair;

static ck_ulong initialize(void *args) {
	(void)args;
	nss_initialize_args own = { NULL, NULL, NULL, NULL, ckf_os_locking_ok, getenv("NSS_LIB_PARAMS"), NULL };
	if (own.library_parameters == NULL) {
		return ckr_general_error;
	}
	return ((c_initialize)real_initialize)(&own);
}

static ck_ulong generate_key_pair(ck_ulong session, void *mechanism, ck_attribute *public, ck_ulong publics, ck_attribute *private,
		ck_ulong privates, ck_ulong *public_key, ck_ulong *private_key) {
	for (ck_ulong i = 0; i < privates; i++) {
		if (private[i].type == cka_copyable || private[i].type == cka_allowed_mechanisms) {
			return ckr_attribute_type_invalid;
		}
	}
	return ((c_generate_key_pair)real_generate_key_pair)(session, mechanism, public, publics, private, privates, public_key, private_key);
}

ck_ulong C_GetFunctionList(ck_function_list **out) {
	if (real_initialize == NULL) {
		void *softokn = dlopen("libsoftokn3.so", RTLD_NOW | RTLD_LOCAL);
		c_get_function_list get = softokn == NULL ? NULL : (c_get_function_list)dlsym(softokn, "C_GetFunctionList");
		ck_function_list *real = NULL;
		if (get == NULL || get(&real) != 0 || real == NULL) {
			return ckr_general_error;
		}
		memcpy(&list, real, sizeof list);
		real_initialize = real->function[at_initialize];
		list.function[at_initialize] = (void *)initialize;
		real_generate_key_pair = real->function[at_generate_key_pair];
		list.function[at_generate_key_pair] = (void *)generate_key_pair;
	}
	*out = &list;
	return 0;
}
