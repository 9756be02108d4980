// A PKCS#11 module that is NSS softokn, with one difference: softokn wants its database named in a field that it adds to
// the arguments of C_Initialize (nss/lib/softoken, "LibraryParameters"). Programs that know PKCS#11 only do not set it, so
// this sets it from the environment variable NSS_LIB_PARAMS.

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

enum { at_initialize = 0, ckr_general_error = 5, ckf_os_locking_ok = 2 };

typedef ck_ulong (*c_get_function_list)(ck_function_list **);
typedef ck_ulong (*c_initialize)(void *);

static ck_function_list list;
static void *real_initialize;

static ck_ulong initialize(void *args) {
	(void)args;
	nss_initialize_args own = { NULL, NULL, NULL, NULL, ckf_os_locking_ok, getenv("NSS_LIB_PARAMS"), NULL };
	if (own.library_parameters == NULL) {
		return ckr_general_error;
	}
	return ((c_initialize)real_initialize)(&own);
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
	}
	*out = &list;
	return 0;
}
