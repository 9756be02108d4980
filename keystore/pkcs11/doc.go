// Package pkcs11 is the [keystore.Token] that stands on a PKCS#11 module: a network HSM, a smart card or SoftHSM. It is
// the only package of Signet that uses cgo.
//
// # The problem
//
// PKCS#11 is a C interface with process-wide state. A module is initialised once a process, a session may be used by
// one thread at a time, no call takes a deadline, handles are plain numbers that mean something else after the module was
// initialised again, and modules differ in what they do when something fails. This package gives goroutines something
// they can use:
//
//   - One module is loaded once a process, whatever number of tokens are opened on it, and finalised when the last of
//     them is closed, after its calls have ended ([Open], [Token.Close]).
//   - Each session belongs to one worker goroutine. Callers are served in the order in which they come, from a bounded
//     queue, and leave when their context ends; what the device answers after that is thrown away.
//   - One session stays open and logged in. Searching, generating and destroying happen there, one at a time for the
//     whole module, because SoftHSM fails one generation in ten otherwise; signing goes on beside them.
//   - Handles are found once, cached, and tagged with an epoch that ends when the module or the login is set up anew.
//     Sessions are tagged in the same way; one of the past is not even closed, for its number may be another's now.
//   - A PIN that was refused is never tried again by this process, and no login is tried that could lock the token.
//   - Signing is one cgo call (C_SignInit and C_Sign together, into a fixed buffer) and can use a copy of the key in the
//     session, which saves SoftHSM from opening the key's file each time ([Config].SessionCopies).
//
// # What a failure leads to
//
// Nothing is tried again after the device returned a signature. Otherwise each of these happens at most once a call:
//
//	SESSION_HANDLE_INVALID, SESSION_CLOSED,          the session is replaced and the call made again; if that fails in
//	OPERATION_ACTIVE, OPERATION_NOT_INITIALIZED      the same way, as a doubtful failure
//	OBJECT_HANDLE_INVALID, KEY_HANDLE_INVALID        the key is looked for and the call made again; if that fails in the
//	                                                 same way, or a key that was there is not found, as a device that is gone
//	USER_NOT_LOGGED_IN                               login, once, and the call is made again; if that fails in the same
//	                                                 way, as a device that is gone
//	DEVICE_ERROR, DEVICE_REMOVED, TOKEN_NOT_PRESENT, the device is gone: the token is set up anew, and the call made again
//	TOKEN_NOT_RECOGNIZED, SLOT_ID_INVALID,           if it changes nothing
//	CRYPTOKI_NOT_INITIALIZED
//	GENERAL_ERROR, FUNCTION_FAILED, HOST_MEMORY,     doubtful: the caller is told. Three in a row, with no success of the
//	DEVICE_MEMORY, SESSION_COUNT, ARGUMENTS_BAD,     token in between, are a device that is gone
//	all that a vendor defines, all unknown ones
//	PIN_INCORRECT, PIN_LOCKED, PIN_EXPIRED,          the token refuses all calls until the PIN source has another PIN, which
//	PIN_INVALID, PIN_LEN_RANGE,                      it is asked for every second
//	USER_PIN_NOT_INITIALIZED
//	MECHANISM_INVALID, KEY_TYPE_INCONSISTENT, ...    the request is at fault: the caller is told
//
// After any failed signature the session is closed, since some devices leave the operation active in it. A worker that the
// device gives no session leaves its work to the others as long as they have one.
//
// # Setting up anew
//
// A token that failed is barred: no call enters the module for it any more. The module's keeper, a goroutine, then waits until
// no call is in the module, finalises and initialises it, finds the token again by its serial number, whatever its slot is
// now, and logs in; sessions and handles follow when they are needed. C_Finalize never runs during another call, which would
// crash. All tokens of the module go through this together. If it does not help, it is tried again after 25 ms to 250 ms with
// jitter, and sooner when somebody calls; where other tokens of the module work, it may take a tenth of their time. Another
// token in the place of the one that was opened is refused.
//
// [Open] tries five times, over a tenth of a second, when there is no such token, when the token cannot say what it is or fails at the login
// in a way that is doubtful, or has no PIN though its flags say that it has: that is how SoftHSM looks while another process logs in to the
// same token. A PIN after whose doubtful login the token says that a wrong one was tried counts as refused.
//
// Callers wait for it for a moment ([Config].Grace), for SoftHSM is back after 2 ms. After that they get a
// [keystore.UnavailableError] at once that says when to try again. [Token.Status] says what is going on.
//
// # Calls that hang
//
// A call that hangs costs its caller no more than the caller's deadline, and the process one thread. There are no more threads
// than workers, and two: one for the control session and one for the keeper of the module. A worker whose call hangs counts as busy;
// the others go on. When all have been hanging for longer than [Config].Hang, callers are sent away at once, and so are those who
// wait; while only the control session hangs, that is those who need it. When the call returns, its session is closed, and
// its result is thrown away if its caller has left or the token was set up anew meanwhile.
//
// A module with a call that hangs cannot be finalised. A token that failed meanwhile is given new sessions, a new login and new
// handles instead, and works again if it then finds a key that it had; if not, or if its control session is what hangs, its state is
// hanging until the call returns. A call that never returns needs a process of its own that can be ended: package isolate.
//
// # Objects
//
// A key is a pair of token objects with the same CKA_LABEL, which is the key's id, and the same CKA_ID, which is the first 16
// bytes of the SHA-256 of the label, and of the algorithm where the public key does not tell it. More than one pair with a label is an error.
//
// # Modules
//
// The tests run on SoftHSM, on openCryptoki's soft token, which has a daemon and knows fewer attributes, and on the softokn of
// NSS, which does not keep what it is asked for and must be refused. What differs stands in deploy/runbooks/key-management.md. What
// another module does is found out by package conformance.
package pkcs11
