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
//   - Each session belongs to one worker goroutine. Callers put work into a bounded queue and leave when their context
//     ends; what the device answers after that is thrown away. When all workers have been hanging for a while, callers are
//     sent away at once.
//   - One session stays open and logged in. Searching, generating and destroying happen there, one at a time for the
//     whole module, because SoftHSM fails one generation in ten otherwise; signing goes on beside them.
//   - Handles are found once, cached, and tagged with an epoch that ends when the module or the login is set up anew.
//   - A PIN that was refused is never tried again by this process, and no login is tried that could lock the token.
//   - Signing is one cgo call (C_SignInit and C_Sign together, into a fixed buffer) and can use a copy of the key in the
//     session, which saves SoftHSM from opening the key's file each time ([Config].SessionCopies).
//
// # What is retried
//
// A session that the device dropped is replaced, a login that it lost is made once more, and a handle that it no longer
// knows is looked up again, each at most once a call and only when the device returned no signature. After any failed
// signature the session is closed, since some devices leave the operation active in it. Everything else is returned:
// as ErrUnavailable of package keystore when trying later may help.
//
// # Objects
//
// A key is a pair of token objects with the same CKA_LABEL, which is the key's id, and the same CKA_ID, which is the first 16
// bytes of the label's SHA-256. More than one pair with a label is an error.
package pkcs11
