package pkcs11

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
)

// A meaning is what a return value of PKCS#11 says about the device, and with it what is done about it.
type meaning int

const (
	callFailed  meaning = iota // only this call failed: its caller is told
	lostSession                // another session may work: it is replaced, and the call made once more
	lostHandle                 // the object has another handle now, or is gone: it is looked for, and the call made once more
	lostLogin                  // logged in once more, and the call made once more
	deviceGone                 // nothing works any more: the token is set up anew
	doubtful                   // this can be the device or the call: several in a row without a success in between are as deviceGone
	pinRefused                 // a person has to act: the token is not used until there is another PIN
)

// meanings is the whole table. What is not in it, which includes all that a vendor defines, is doubtful.
var meanings = map[uint]meaning{
	pkcs11.CKR_SESSION_HANDLE_INVALID:    lostSession,
	pkcs11.CKR_SESSION_CLOSED:            lostSession,
	pkcs11.CKR_OPERATION_ACTIVE:          lostSession, // left by an earlier failure
	pkcs11.CKR_OPERATION_NOT_INITIALIZED: lostSession, // C_Sign right after C_SignInit: the device forgot it

	pkcs11.CKR_OBJECT_HANDLE_INVALID: lostHandle,
	pkcs11.CKR_KEY_HANDLE_INVALID:    lostHandle,

	pkcs11.CKR_USER_NOT_LOGGED_IN: lostLogin,

	pkcs11.CKR_DEVICE_ERROR:             deviceGone,
	pkcs11.CKR_DEVICE_REMOVED:           deviceGone,
	pkcs11.CKR_TOKEN_NOT_PRESENT:        deviceGone,
	pkcs11.CKR_TOKEN_NOT_RECOGNIZED:     deviceGone,
	pkcs11.CKR_SLOT_ID_INVALID:          deviceGone,
	pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED: deviceGone, // by somebody else in this process, or by the module itself

	pkcs11.CKR_GENERAL_ERROR:     doubtful,
	pkcs11.CKR_FUNCTION_FAILED:   doubtful,
	pkcs11.CKR_HOST_MEMORY:       doubtful,
	pkcs11.CKR_DEVICE_MEMORY:     doubtful,
	pkcs11.CKR_SESSION_COUNT:     doubtful,
	pkcs11.CKR_FUNCTION_CANCELED: doubtful,
	pkcs11.CKR_CANT_LOCK:         doubtful,
	pkcs11.CKR_MUTEX_BAD:         doubtful,
	pkcs11.CKR_ARGUMENTS_BAD:     doubtful,

	pkcs11.CKR_PIN_INCORRECT:            pinRefused,
	pkcs11.CKR_PIN_INVALID:              pinRefused,
	pkcs11.CKR_PIN_LEN_RANGE:            pinRefused,
	pkcs11.CKR_PIN_EXPIRED:              pinRefused,
	pkcs11.CKR_PIN_LOCKED:               pinRefused,
	pkcs11.CKR_USER_PIN_NOT_INITIALIZED: pinRefused,

	pkcs11.CKR_OK:                         callFailed,
	pkcs11.CKR_ACTION_PROHIBITED:          callFailed,
	pkcs11.CKR_ATTRIBUTE_READ_ONLY:        callFailed,
	pkcs11.CKR_ATTRIBUTE_SENSITIVE:        callFailed,
	pkcs11.CKR_ATTRIBUTE_TYPE_INVALID:     callFailed,
	pkcs11.CKR_ATTRIBUTE_VALUE_INVALID:    callFailed,
	pkcs11.CKR_BUFFER_TOO_SMALL:           callFailed,
	pkcs11.CKR_DATA_INVALID:               callFailed,
	pkcs11.CKR_DATA_LEN_RANGE:             callFailed,
	pkcs11.CKR_DOMAIN_PARAMS_INVALID:      callFailed,
	pkcs11.CKR_CURVE_NOT_SUPPORTED:        callFailed,
	pkcs11.CKR_FUNCTION_NOT_SUPPORTED:     callFailed,
	pkcs11.CKR_FUNCTION_REJECTED:          callFailed,
	pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED: callFailed,
	pkcs11.CKR_KEY_SIZE_RANGE:             callFailed,
	pkcs11.CKR_KEY_TYPE_INCONSISTENT:      callFailed,
	pkcs11.CKR_KEY_UNEXTRACTABLE:          callFailed,
	pkcs11.CKR_MECHANISM_INVALID:          callFailed,
	pkcs11.CKR_MECHANISM_PARAM_INVALID:    callFailed,
	pkcs11.CKR_SESSION_READ_ONLY:          callFailed,
	pkcs11.CKR_SIGNATURE_INVALID:          callFailed,
	pkcs11.CKR_SIGNATURE_LEN_RANGE:        callFailed,
	pkcs11.CKR_TEMPLATE_INCOMPLETE:        callFailed,
	pkcs11.CKR_TEMPLATE_INCONSISTENT:      callFailed,
	pkcs11.CKR_TOKEN_WRITE_PROTECTED:      callFailed,
	pkcs11.CKR_USER_ALREADY_LOGGED_IN:     callFailed,
}

func meaningOf(code uint) meaning {
	if m, known := meanings[code]; known {
		return m
	}
	return doubtful
}

// A lost session is one that the device no longer knows or that is stuck; another one may work.
func sessionLost(code uint) bool { return meaningOf(code) == lostSession }

// A handle is lost when the device no longer knows it.
func handleLost(code uint) bool { return meaningOf(code) == lostHandle }

// enoughDoubt is how many doubtful failures in a row, with no success of any call in between, are held for a device that is gone.
const enoughDoubt = 3

// code returns the CKR of an error of the wrapper, or CKR_OK.
func code(err error) uint {
	var e pkcs11.Error
	if errors.As(err, &e) {
		return uint(e)
	}
	return pkcs11.CKR_OK
}

// codeName returns the name of a CKR, as in "CKR_DEVICE_ERROR".
func codeName(code uint) string {
	text := pkcs11.Error(code).Error() // "pkcs11: 0x30: CKR_DEVICE_ERROR"
	if i := strings.LastIndex(text, "CKR_"); i >= 0 && code != pkcs11.CKR_VENDOR_DEFINED {
		return text[i:]
	}
	return fmt.Sprintf("CKR_0x%08X", code)
}

// failed says what a PKCS#11 call did, in the errors of package keystore. Whatever we did not ask for wrongly ourselves
// is the device's, and may work later.
func failed(call string, err error) error {
	if err == nil {
		return nil
	}
	switch rv := code(err); {
	case meaningOf(rv) == pinRefused:
		return fmt.Errorf("%w: %s: %w", keystore.ErrPIN, call, err)
	case unfit(rv):
		return fmt.Errorf("%w: the token does not support it: %s: %w", keystore.ErrInvalid, call, err)
	}
	return fmt.Errorf("%w: %s: %w", keystore.ErrUnavailable, call, err)
}

// unfit says that the token will never do what was asked.
func unfit(code uint) bool {
	switch code {
	case pkcs11.CKR_MECHANISM_INVALID, pkcs11.CKR_MECHANISM_PARAM_INVALID, pkcs11.CKR_KEY_TYPE_INCONSISTENT,
		pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED, pkcs11.CKR_KEY_SIZE_RANGE, pkcs11.CKR_DOMAIN_PARAMS_INVALID,
		ckrCurveNotSupported:
		return true
	}
	return false
}

const ckrCurveNotSupported = pkcs11.CKR_CURVE_NOT_SUPPORTED

// A staleError says that a handle must be looked up again, or the login made again, before another try; the device
// returned no signature.
type staleError struct{ cause error }

func (e *staleError) Error() string { return e.cause.Error() }
func (e *staleError) Unwrap() error { return e.cause }

// A goneError says that the token is being set up anew because of what its cause tells; the device returned nothing.
type goneError struct{ cause error }

func (e *goneError) Error() string { return e.cause.Error() }
func (e *goneError) Unwrap() error { return e.cause }

func isGone(err error) bool {
	var gone *goneError
	return errors.As(err, &gone)
}

// A passingError may soon pass by itself. While a process logs in, SoftHSM writes the token's file anew, and another that reads it then
// finds no token, an error, or one without a PIN.
type passingError struct{ cause error }

func (e *passingError) Error() string { return e.cause.Error() }
func (e *passingError) Unwrap() error { return e.cause }

// failedAsking is failed for a question about the token.
func failedAsking(call string, err error) error {
	err = failed(call, err)
	if meaningOf(code(err)) == doubtful {
		return &passingError{err}
	}
	return err
}

// unavailable is what callers get while the token cannot be used.
func unavailable(retryAfter time.Duration, cause error) error {
	return &keystore.UnavailableError{RetryAfter: retryAfter, Cause: cause}
}
