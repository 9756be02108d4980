package keystore

import "context"

// A Token is one device, or one partition of it, that is open and logged in. It is implemented by keystore/pkcs11 and
// keystore/isolate. [Replicas], [Route] and [Lazy] make one token of several.
//
// What else a token can do it says by further interfaces: [Reporter], [Resetter], [KnownAnswerTester].
//
// All methods may be called from several goroutines. Each returns when its context ends, although the device may still
// be at work; what it then answers is thrown away. A device that cannot be used gives an error that wraps
// [ErrUnavailable].
//
// A Token does not judge: [Store] enforces the policy and verifies signatures. It never returns a key whose id is not
// unique in the device.
type Token interface {
	// Generate makes a key pair in the device, asks for every attribute of the policy, makes the key durable as far as
	// the host can (the folder of a software token is synced), and returns the key as read back. It fails with
	// ErrExists if the id is taken. It is not retried: after another error a key may or may not exist, Find tells.
	Generate(ctx context.Context, spec Spec) (Key, error)

	// Find reads a key and its attributes from the device, never from a cache. It fails with ErrNotFound if the
	// device works and has none.
	Find(ctx context.Context, id ID) (Key, error)

	// Sign signs a digest, or for Ed25519 a message, with the private key of that id and returns the signature in the
	// form of the algorithm (ECDSA as ASN.1 DER). It refuses an input that the algorithm's CheckInput refuses. It
	// may retry on its own where the device made no signature. The signature is not verified.
	Sign(ctx context.Context, id ID, algorithm Algorithm, input []byte) ([]byte, error)

	// Destroy removes both halves of a key from the device for good. ErrNotFound if there is none.
	Destroy(ctx context.Context, id ID) error

	// Epoch changes whenever the device was initialised anew. What was read from it in another epoch must be read again.
	Epoch() uint64

	// Close ends what is queued with ErrUnavailable, waits for what is running, and logs out.
	Close() error
}

// A Resetter is a [Token] that can be told to set its device up anew although it answers: a signature was wrong, which a
// handle that means another key explains.
type Resetter interface {
	// Reset drops every handle, session and login that is older than it, sets the device up anew and begins an epoch. It
	// returns when that is done, or has failed, or the context ends; the device is then set up in the background all the
	// same. If the token's epoch is no longer the suspect one, that has happened already and Reset does nothing. Reason is
	// shown in the token's status meanwhile; it wraps no error of this package, as calls that fail meanwhile may wrap it.
	Reset(ctx context.Context, suspect uint64, reason error) error
}

// A CheckingSigner is a [Token] that checks signatures where they are made.
type CheckingSigner interface {
	// SignChecked is Sign, and returns a signature only if check accepts it, and the error of check otherwise. Check is called
	// once at most, with the token's own copy of the input: the caller may have left by then.
	SignChecked(ctx context.Context, id ID, algorithm Algorithm, input []byte, check func(input, signature []byte) error) ([]byte, error)
}

// SignChecked has a token sign, and returns a signature only if check accepts it: where it is made if the token is a [CheckingSigner], else here.
func SignChecked(ctx context.Context, t Token, id ID, algorithm Algorithm, input []byte, check func(input, signature []byte) error) ([]byte, error) {
	if c, ok := t.(CheckingSigner); ok {
		return c.SignChecked(ctx, id, algorithm, input, check)
	}
	signature, err := t.Sign(ctx, id, algorithm, input)
	if err == nil {
		err = check(input, signature)
	}
	if err != nil {
		return nil, err
	}
	return signature, nil
}

// A KnownAnswerTester is a [Token] that can check the device's arithmetic against published test vectors.
type KnownAnswerTester interface {
	// KnownAnswers makes the device compute answers that are known beforehand and compares. It returns the names of
	// the tests that ran; a test that the device does not support is left out.
	KnownAnswers(ctx context.Context) ([]string, error)
}
