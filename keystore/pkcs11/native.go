package pkcs11

/*
#cgo linux LDFLAGS: -ldl
#cgo noescape signet_sign
#cgo nocallback signet_sign

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/resource.h>

// What we need of PKCS#11 v2.40, section 3 (general data types) and pkcs11f.h: the list of functions begins with a
// version of two bytes and has the functions in a fixed order. Unix modules use the natural alignment.
typedef unsigned long ck_ulong;
typedef struct { ck_ulong mechanism; void *parameter; ck_ulong parameter_len; } ck_mechanism;
typedef struct { ck_ulong hash, mgf, salt_len; } ck_pss_params;
typedef struct { unsigned char major, minor; void *function[68]; } ck_function_list;

enum { at_sign_init = 42, at_sign = 43 };
enum { ckm_sha256 = 0x250, ckm_rsa_pkcs_pss = 0x0d, ckg_mgf1_sha256 = 2 };

typedef ck_ulong (*c_get_function_list)(ck_function_list **);
typedef ck_ulong (*c_sign_init)(ck_ulong session, ck_mechanism *, ck_ulong key);
typedef ck_ulong (*c_sign)(ck_ulong session, unsigned char *data, ck_ulong data_len, unsigned char *sig, ck_ulong *sig_len);

// signet_functions returns the function list of a module, or NULL and why. A module that is loaded already is not loaded
// again; it is never unloaded.
static ck_function_list *signet_functions(const char *path, const char **why) {
	*why = NULL;
	void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (module == NULL) {
		*why = dlerror();
		return NULL;
	}
	c_get_function_list get = (c_get_function_list)dlsym(module, "C_GetFunctionList");
	if (get == NULL) {
		*why = "it has no C_GetFunctionList, so it is no PKCS#11 module";
		return NULL;
	}
	ck_function_list *list = NULL;
	if (get(&list) != 0 || list == NULL || list->function[at_sign_init] == NULL || list->function[at_sign] == NULL) {
		*why = "C_GetFunctionList gives no functions to sign with";
		return NULL;
	}
	return list;
}

typedef struct {
	ck_ulong length; // the room on entry, of the signature on return
	int began;       // whether C_SignInit succeeded
	int computed;    // whether the thread never gave up the CPU of its own accord
} signet_signature;

// signet_waits is how often this thread gave up the CPU of its own accord, or -1 where the system does not say.
static long signet_waits(void) {
#ifdef RUSAGE_THREAD
	struct rusage usage;
	if (getrusage(RUSAGE_THREAD, &usage) == 0) {
		return usage.ru_nvcsw;
	}
#endif
	return -1;
}

// signet_sign is C_SignInit and C_Sign.
static ck_ulong signet_sign(const ck_function_list *list, ck_ulong session, ck_ulong mechanism, ck_ulong key,
		const unsigned char *data, ck_ulong data_len, unsigned char *sig, signet_signature *s) {
	ck_pss_params pss = { ckm_sha256, ckg_mgf1_sha256, 32 };
	ck_mechanism m = { mechanism, NULL, 0 };
	if (mechanism == ckm_rsa_pkcs_pss) {
		m.parameter = &pss;
		m.parameter_len = sizeof pss;
	}
	long waits = signet_waits();
	s->began = s->computed = 0;
	ck_ulong rv = ((c_sign_init)list->function[at_sign_init])(session, &m, key);
	if (rv != 0) {
		return rv;
	}
	s->began = 1;
	rv = ((c_sign)list->function[at_sign])(session, (unsigned char *)data, data_len, sig, &s->length);
	s->computed = waits >= 0 && signet_waits() == waits;
	return rv;
}
*/
import "C"

import (
	"errors"
	"unsafe"
)

// A native is the function list of a loaded module: the one way to it beside package miekg/pkcs11, for the one call
// whose speed matters. Two natives are equal if they are the same instance of a module.
type native struct{ list *C.ck_function_list }

func loadNative(path string) (native, error) {
	p := C.CString(path)
	defer C.free(unsafe.Pointer(p))
	var why *C.char
	list := C.signet_functions(p, &why)
	if list == nil {
		return native{}, errors.New(C.GoString(why))
	}
	return native{list}, nil
}

// sign makes a signature into room and returns its length. input is not empty.
func (n native) sign(session, mechanism, key uint, input, room []byte) (length int, how howSigned, code uint) {
	s := C.signet_signature{length: C.ck_ulong(len(room))}
	rv := C.signet_sign(n.list, C.ck_ulong(session), C.ck_ulong(mechanism), C.ck_ulong(key),
		(*C.uchar)(unsafe.SliceData(input)), C.ck_ulong(len(input)), (*C.uchar)(unsafe.SliceData(room)), &s)
	how = howSigned{began: s.began != 0, computed: s.computed != 0}
	if rv == 0 && int(s.length) > len(room) {
		return 0, how, ckrBufferTooSmall
	}
	return int(s.length), how, uint(rv)
}

type howSigned struct {
	began    bool // C_SignInit succeeded
	computed bool // on this CPU, without waiting for anything: SoftHSM does, a device does not
}
