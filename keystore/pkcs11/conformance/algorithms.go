package conformance

import (
	"bytes"
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
)

const tries = 32 // signatures that are checked for each key

// algorithms makes a key of each algorithm and signs with it. The keys stay for the other steps.
func (r *run) algorithms(ctx context.Context) error {
	listed := make(map[uint]bool)
	mechanisms, err := r.module.GetMechanismList(r.slot)
	if err != nil {
		return failed("C_GetMechanismList", err)
	}
	for _, m := range mechanisms {
		listed[m.Mechanism] = true
	}
	for _, name := range r.config.Algorithms {
		if ctx.Err() != nil {
			return expired(ctx)
		}
		k, known := kindOf(name)
		if !known {
			continue // Signet's own way tells
		}
		a, key := r.algorithm(k, listed[k.sign])
		r.update(func(report *Report) { report.Algo = append(report.Algo, a) })
		if key != nil {
			r.keys = append(r.keys, key)
		}
		if err := r.fresh(); err != nil {
			return err
		}
	}
	r.noteAlgorithms()
	return nil
}

func (r *run) algorithm(k kind, listed bool) (Algorithm, *testKey) {
	a := Algorithm{Name: k.algorithm, Mechanism: k.signName, Listed: listed}
	if info, err := r.module.GetMechanismInfo(r.slot, mechanism(k.sign, nil)); err == nil {
		a.MinBits, a.MaxBits = info.MinKeySize, info.MaxKeySize
	}
	began := time.Now()
	key, err := r.generate(k, r.label(string(k.algorithm)), rsaBits)
	a.Generated = Duration(time.Since(began).Round(10 * time.Microsecond))
	if err != nil {
		a.Why = "no key could be made: " + r.said(err)
		return a, nil
	}
	a.Point = key.encoding
	if err := r.trySigning(key); err != nil {
		a.Why = r.said(err)
		r.note(needSignatures, Check{Name: string(k.algorithm) + ": signatures verify", Verdict: r.verdictOf(err), Saw: a.Why,
			Do: "do not use this algorithm with this token"})
		return a, nil
	}
	a.Works = true
	r.note(needSignatures, Check{Name: string(k.algorithm) + ": signatures verify", Verdict: Fit,
		Saw: fmt.Sprintf("%d signatures, checked with Go's standard library", tries)})
	if k.keyType == pkcs11.CKK_RSA {
		if a.Sizes = r.knownSizes(); a.Sizes == nil {
			a.Sizes = r.rsaSizes(k)
		}
	}
	if len(key.left) > 0 {
		r.note(needProtection, Check{Name: string(k.algorithm) + ": attributes at generation", Verdict: Limits,
			Saw: "the token makes a key only if it is not told " + strings.Join(key.left, ", "),
			Do:  "tell us: Signet asks for them"})
	}
	return a, key
}

// A wrongError says that a token signed, and signed wrongly.
type wrongError struct{ what string }

func (e *wrongError) Error() string { return e.what }

func (r *run) verdictOf(err error) Verdict {
	if wrong := (*wrongError)(nil); errors.As(err, &wrong) {
		return Unfit
	}
	return Limits
}

// trySigning signs different messages, and one message several times: an ECDSA signature whose random number was used
// before gives the key away.
func (r *run) trySigning(key *testKey) error {
	a := key.kind.algorithm
	seen := make(map[string]int)
	for i := range tries {
		message := fmt.Appendf(nil, "message %d", i/2)
		input, err := a.Input(message)
		if err != nil {
			return err
		}
		signature, err := r.sign(r.session, key.priv, key.kind, input)
		if err != nil {
			return err
		}
		if err := keystore.Verify(a, key.public, message, signature); err != nil {
			return &wrongError{fmt.Sprintf("a signature is wrong: %v", err)}
		}
		if key.kind.curve == nil {
			continue
		}
		// The first number of a signature must not come back with another message.
		first := string(signature[4 : 4+min(24, len(signature)-4)])
		if before, again := seen[first]; again && before != i/2 {
			return &wrongError{"two messages were signed with the same random number: the private key can be computed from that"}
		}
		seen[first] = i / 2
	}
	return nil
}

// knownSizes are those of another algorithm with RSA keys: they are the same, and making such keys takes long.
func (r *run) knownSizes() []int {
	for _, a := range r.report.Algo {
		if a.Sizes != nil {
			return slices.Clone(a.Sizes)
		}
	}
	return nil
}

// rsaSizes finds out which lengths keys can have.
func (r *run) rsaSizes(k kind) []int {
	sizes := []int{rsaBits}
	began := time.Now()
	key, err := r.generate(k, r.label(string(k.algorithm)+"-4096"), rsaBitsBig)
	if err != nil {
		r.note(needAlgorithms, Check{Name: string(k.algorithm) + ": 4096 bits", Verdict: Limits, Saw: r.said(err), Do: "use 3072 bits"})
		return sizes
	}
	if public, ok := key.public.(*rsa.PublicKey); !ok || public.N.BitLen() != rsaBitsBig {
		err = fmt.Errorf("asked for %d bits, got %d", rsaBitsBig, public.N.BitLen())
	} else {
		err = r.trySigning(key)
	}
	if derr := r.destroy(key); err == nil {
		err = derr
	}
	if err != nil {
		r.note(needAlgorithms, Check{Name: string(k.algorithm) + ": 4096 bits", Verdict: r.verdictOf(err), Saw: r.said(err), Do: "use 3072 bits"})
		return sizes
	}
	r.note(needAlgorithms, Check{Name: string(k.algorithm) + ": 4096 bits", Verdict: Fit, Saw: fmt.Sprintf("made in %v", time.Since(began).Round(time.Millisecond))})
	return append(sizes, rsaBitsBig)
}

func (r *run) noteAlgorithms() {
	var works, fails []string
	p256 := false
	for _, a := range r.report.Algo {
		if a.Works {
			works = append(works, string(a.Name))
			p256 = p256 || a.Name == keystore.ECDSAP256
			continue
		}
		fails = append(fails, fmt.Sprintf("%s (%s)", a.Name, a.Why))
	}
	c := Check{Name: "algorithms", Verdict: Fit, Saw: strings.Join(works, ", ")}
	switch {
	case !p256 && r.asked(keystore.ECDSAP256):
		c.Verdict, c.Do = Unfit, "Signet's canary, time-stamp and sealing keys are P-256: enable it in the token"
	case len(works) == 0:
		c.Verdict, c.Saw = Unfit, "none"
	case len(fails) > 0:
		c.Verdict, c.Do = Limits, "keys of the algorithms that fail must live in another token, or be of another algorithm"
	}
	if len(fails) > 0 {
		c.Saw += "; not " + strings.Join(fails, "; ")
	}
	r.note(needAlgorithms, c)
	for _, k := range r.keys {
		if k.encoding != "" && k.encoding != "OCTET STRING" {
			r.note(needAlgorithms, Check{Name: string(k.kind.algorithm) + ": CKA_EC_POINT", Verdict: Handled,
				Saw: k.encoding + " instead of an OCTET STRING", Do: "nothing: Signet reads each of the encodings"})
		}
	}
	distinct := true
	for i, a := range r.keys {
		for _, b := range r.keys[:i] {
			distinct = distinct && !keystore.SamePublic(a.public, b.public)
		}
	}
	if !distinct {
		r.note(needSignatures, Check{Name: "each key is another", Verdict: Unfit, Saw: "two keys are the same", Do: "do not use the token"})
	}
}

func (r *run) asked(a keystore.Algorithm) bool {
	for _, asked := range r.config.Algorithms {
		if asked == a {
			return true
		}
	}
	return false
}

// key returns the test key that the steps without an algorithm of their own use: of a curve if there is one, else any.
func (r *run) key() *testKey {
	for _, k := range r.keys {
		if k.kind.curve != nil {
			return k
		}
	}
	if len(r.keys) > 0 {
		return r.keys[0]
	}
	return nil
}

// signsWell makes a signature and verifies it.
func (r *run) signsWell(session pkcs11.SessionHandle, key *testKey, private pkcs11.ObjectHandle) error {
	message := []byte("signet")
	input, err := key.kind.algorithm.Input(message)
	if err != nil {
		return err
	}
	signature, err := r.sign(session, private, key.kind, input)
	if err != nil {
		return err
	}
	if err := keystore.Verify(key.kind.algorithm, key.public, message, signature); err != nil {
		return &wrongError{err.Error()}
	}
	return nil
}

// random looks at the token's random numbers.
func (r *run) random(context.Context) error {
	const length = 64
	a, err := r.module.GenerateRandom(r.session, length)
	if err != nil {
		r.note(needRandom, Check{Name: "C_GenerateRandom", Verdict: Handled, Saw: r.said(err), Do: "nothing: Signet does not use it"})
		return r.fresh()
	}
	b, err := r.module.GenerateRandom(r.session, length)
	if err != nil {
		r.note(needRandom, Check{Name: "C_GenerateRandom", Verdict: Limits, Saw: "once OK, then " + r.said(err)})
		return r.fresh()
	}
	switch {
	case len(a) != length || len(b) != length:
		r.note(needRandom, Check{Name: "C_GenerateRandom", Verdict: Unfit, Saw: fmt.Sprintf("asked for %d bytes, got %d and %d", length, len(a), len(b))})
	case bytes.Equal(a, b) || bytes.Count(a, a[:1]) == length || bytes.Equal(a[:length/2], a[length/2:]):
		r.note(needRandom, Check{Name: "C_GenerateRandom", Verdict: Unfit, Saw: "it gives the same bytes again", Do: "do not use the token"})
	default:
		r.note(needRandom, Check{Name: "C_GenerateRandom", Verdict: Fit, Saw: fmt.Sprintf("two times %d bytes, different", length)})
	}
	return nil
}
