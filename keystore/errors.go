package keystore

import (
	"errors"
	"fmt"
)

// Errors of this package. Each is wrapped with what went wrong; compare with errors.Is.
var (
	// ErrUnavailable says that the token cannot be used now: gone, hanging, overloaded or closed. Nothing was
	// released. Trying later may work.
	ErrUnavailable = errors.New("the HSM is unavailable")

	// ErrNotFound says that the token works and has no key of that id.
	ErrNotFound = errors.New("no such key in the HSM")

	// ErrExists says that the token already has a key of that id. Ids are never used again: take another.
	ErrExists = errors.New("the HSM already has a key of this id")

	// ErrPolicy says that a key's attributes, as read back from the token, do not keep the policy: see [CheckPolicy].
	// Trying again does not help; the token, or its settings, must not be used for such keys.
	ErrPolicy = errors.New("the key does not keep the key policy")

	// ErrDrift says that a key's attributes are no longer those that were recorded when it was made. It is an [ErrPolicy],
	// also where the new ones would keep the policy: nobody changes them rightfully.
	ErrDrift = fmt.Errorf("%w any more: an attribute differs from what was recorded when it was made", ErrPolicy)

	// ErrWrongSignature says that the token answered with something that is not a signature of the enrolled key over
	// this message. It was discarded. The token must be looked at before it is used any further.
	ErrWrongSignature = errors.New("the HSM returned a signature that the enrolled key did not make")

	// ErrPIN says that the token refused the PIN, or that it is not tried because a try could lock the token.
	// The same PIN is never tried twice.
	ErrPIN = errors.New("the HSM refused the PIN")

	// ErrInvalid says that the caller asked for something that cannot be: an id with forbidden characters, an unknown
	// algorithm, a digest of the wrong length, a public key of the wrong kind.
	ErrInvalid = errors.New("invalid request to the key store")
)
