package pkcs11

import (
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
)

// code returns the CKR of an error of the wrapper, or CKR_OK.
func code(err error) uint {
	var e pkcs11.Error
	if errors.As(err, &e) {
		return uint(e)
	}
	return pkcs11.CKR_OK
}

// failed says what a PKCS#11 call did, in the errors of package keystore. Whatever we did not ask for wrongly ourselves
// is the device's, and may work later.
func failed(call string, err error) error {
	if err == nil {
		return nil
	}
	switch code(err) {
	case pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_PIN_LOCKED, pkcs11.CKR_PIN_INVALID,
		pkcs11.CKR_PIN_LEN_RANGE:
		return fmt.Errorf("%w: %s: %w", keystore.ErrPIN, call, err)
	case pkcs11.CKR_MECHANISM_INVALID, pkcs11.CKR_MECHANISM_PARAM_INVALID, pkcs11.CKR_KEY_TYPE_INCONSISTENT,
		pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED, pkcs11.CKR_KEY_SIZE_RANGE, pkcs11.CKR_DOMAIN_PARAMS_INVALID,
		ckrCurveNotSupported:
		return fmt.Errorf("%w: the token does not support it: %s: %w", keystore.ErrInvalid, call, err)
	}
	return fmt.Errorf("%w: %s: %w", keystore.ErrUnavailable, call, err)
}

const ckrCurveNotSupported = 0x00000140

// A lost session is one that the device no longer knows or that is stuck; another one may work.
func sessionLost(code uint) bool {
	switch code {
	case pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_OPERATION_ACTIVE:
		return true
	}
	return false
}

// A handle is lost when the device no longer knows it.
func handleLost(code uint) bool {
	return code == pkcs11.CKR_OBJECT_HANDLE_INVALID || code == pkcs11.CKR_KEY_HANDLE_INVALID
}
