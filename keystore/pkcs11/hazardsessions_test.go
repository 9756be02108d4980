package pkcs11_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	wrapper "github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/pkcs11"
	"github.com/signetd/signet/keystore/pkcs11/faulty"
)

// Closing the last session, or logging out, ends all handles of private keys for good.
func lastSession(t *testing.T) {
	for _, drop := range []func(*faulty.Module){(*faulty.Module).DropSessions, (*faulty.Module).DropLogin} {
		n := naively(t, 1)
		n.mustSign(t, "a")
		drop(n.module)
		s := <-n.sessions
		n.p.CloseSession(s)
		slot, err := n.slot()
		if err != nil {
			t.Fatal(err)
		}
		if s, err = n.p.OpenSession(slot, wrapper.CKF_SERIAL_SESSION); err == nil {
			err = n.login(s)
		}
		if err != nil {
			t.Fatal(err)
		}
		n.sessions <- s // all is well again, it thinks
		_, err = n.sign("a", naiveDigest)
		wentWrong(t, err != nil, "the handle is still good")

		o := properly(t, nil)
		o.signs("a")
		for range 3 {
			drop(o.module)
			o.signs("a", "b", "ed")
		}
	}
	// And nothing of ours logs out while it serves.
	o := properly(t, nil)
	closed := o.module.Calls(faulty.Logout)
	o.signs("a", "b")
	if got := o.module.Calls(faulty.Logout) - closed; got != 0 {
		t.Errorf("%d logouts", got)
	}
}

// Who is logged in is told ALREADY_LOGGED_IN, whatever the PIN.
func secondLogin(t *testing.T) {
	n := naively(t, 1)
	n.pin = "of somebody who guesses"
	err := n.with(n.login)
	wentWrong(t, err == nil, "%v", err)

	// Ours takes no login of others' for its own,
	c := n.config
	c.PIN = keystore.PINFixed(keystore.NewSecret("of somebody who guesses"))
	if _, err := pkcs11.Open(t.Context(), c); err == nil {
		t.Error("opened with a wrong PIN")
	}
	// and lets nobody in by a second opening.
	o := properly(t, nil)
	c = o.config
	c.PIN = keystore.PINFixed(keystore.NewSecret("of somebody who guesses"))
	if _, err := pkcs11.Open(t.Context(), c); !errors.Is(err, keystore.ErrInvalid) {
		t.Errorf("a second opening: %v", err)
	}
	o.signs("a")
}

// CKM_ECDSA signs the first 32 bytes of whatever it gets.
func longDigest(t *testing.T) {
	n := naively(t, 1)
	text := []byte("pay 10 to Alice and not, as I was told by Bob, 1000000")
	raw, err := n.sign("a", text)
	other := append(text[:32:32], " or whatever else I like to be here"...)
	wentWrong(t, err == nil && verifyRaw(n.keys["a"].Public, other[:32], raw), "%v", err)

	o := properly(t, nil)
	for _, length := range []int{0, 1, 20, 31, 33, 48, 54, 64} {
		calls := o.module.Calls(faulty.SignInit)
		if _, err := o.token.Sign(t.Context(), "a", keystore.ECDSAP256, make([]byte, length)); !errors.Is(err, keystore.ErrInvalid) {
			t.Errorf("a digest of %d bytes: %v", length, err)
		}
		if o.module.Calls(faulty.SignInit) != calls {
			t.Errorf("a digest of %d bytes reached the device", length)
		}
	}
}

// A C_Sign that fails leaves its operation in the session.
func operationActive(t *testing.T) {
	n := naively(t, 1)
	n.mustSign(t, "a")
	n.module.Fail(faulty.Sign, 1, wrapper.CKR_FUNCTION_FAILED)
	_, err := n.sign("a", naiveDigest)
	_, again := n.sign("a", naiveDigest)
	wentWrong(t, rv(err) == wrapper.CKR_OPERATION_ACTIVE && rv(again) == wrapper.CKR_OPERATION_ACTIVE, "%v, %v", err, again)

	o := properly(t, func(c *pkcs11.Config) { c.Sessions = 1 })
	o.signs("a")
	for _, code := range []uint{wrapper.CKR_FUNCTION_FAILED, wrapper.CKR_DATA_LEN_RANGE, wrapper.CKR_BUFFER_TOO_SMALL} {
		o.module.Fail(faulty.Sign, 1, code)
		if err := o.sign("a"); err == nil {
			t.Error("no failure")
		}
		o.signs("a", "b")
	}
}

// C_FindObjects looks at every object each time.
func searchEachTime(t *testing.T) {
	n := naively(t, 1)
	searches := n.module.Calls(faulty.FindObjects)
	for range 20 {
		err := n.with(func(s wrapper.SessionHandle) error {
			_, err := n.search(s, wrapper.CKO_PRIVATE_KEY, "a")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	wentWrong(t, n.module.Calls(faulty.FindObjects)-searches >= 20, "it searches each time")

	o := properly(t, nil)
	o.signs("a", "b")
	searches = o.module.Calls(faulty.FindObjectsInit)
	for range 20 {
		o.signs("a", "b")
	}
	if got := o.module.Calls(faulty.FindObjectsInit) - searches; got != 0 {
		t.Errorf("%d searches for keys that were found before", got)
	}
}

// A token takes a second key of the same name without a word.
func twoOfOneName(t *testing.T) {
	n := naively(t, 1)
	if err := n.generate("a"); err != nil {
		t.Fatal(err)
	}
	_, err := n.sign("a", naiveDigest)
	wentWrong(t, err == nil, "which of the two it is it does not ask: %v", err)
	if err := n.p.Finalize(); err != nil {
		t.Fatal(err)
	}

	o := properlyOn(t, n.fixture, nil)
	if err := o.sign("a"); err == nil || !strings.Contains(err.Error(), "2") {
		t.Errorf("with two keys of the name: %v", err)
	}
	o.signs("b")
}

// No call takes a deadline.
func callHangs(t *testing.T) {
	const callers = 24
	n := naively(t, callers)
	n.mustSign(t, "a")
	n.module.Hang(faulty.Sign, callers, 0)
	var all sync.WaitGroup
	for range callers {
		all.Go(func() { n.sign("a", naiveDigest) })
	}
	until(t, "all to hang", func() bool { return n.module.Hung(faulty.Sign) == callers })
	wentWrong(t, n.module.Inside(faulty.Any) == callers, "each caller holds a thread")
	n.module.Heal()
	all.Wait()

	o := properly(t, func(c *pkcs11.Config) { c.Hang = 50 * time.Millisecond })
	o.signs("a")
	o.module.Hang(faulty.Sign, faulty.Always, 0)
	for range callers {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			began := time.Now()
			if err := o.signIn(ctx, "a"); !errors.Is(err, keystore.ErrUnavailable) {
				t.Errorf("ours: %v", err)
			}
			if took := time.Since(began); took > 200*time.Millisecond+lateness {
				t.Errorf("a deadline of 200ms, answered after %v", took)
			}
		})
	}
	all.Wait()
	if got := o.module.Inside(faulty.Any); got > o.token.Sessions()+1 {
		t.Errorf("%d threads hang", got)
	}
	// New callers are told at once when to come back.
	var unavailable *keystore.UnavailableError
	until(t, "the breaker", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		return errors.As(o.signIn(ctx, "a"), &unavailable)
	})
	if unavailable.RetryAfter <= 0 {
		t.Errorf("come back after %v", unavailable.RetryAfter)
	}
	o.module.Heal()
	until(t, "a signature", func() bool { return o.sign("a") == nil })
}

// A HSM allows few sessions, and pools take many.
func sessionLimit(t *testing.T) {
	f := newFixture(t)
	f.module.MaxSessions(4)
	_, err := newNaive(f.config, 16)
	wentWrong(t, rv(err) == wrapper.CKR_SESSION_COUNT, "%v", err)
	wrapper.New(f.config.Module).Finalize()

	c := f.config
	c.Sessions = 4
	if _, err := pkcs11.Open(t.Context(), c); !errors.Is(err, keystore.ErrInvalid) || !strings.Contains(err.Error(), "allows 4") {
		t.Errorf("more than is allowed: %v", err)
	}
	o := properlyOn(t, f, func(c *pkcs11.Config) { c.Sessions = 0 })
	o.signs("a", "b")
	if got := f.module.Sessions(); got > 4 {
		t.Errorf("%d sessions", got)
	}
}

// Sessions that are idle are dropped.
func idleSessions(t *testing.T) {
	n := naively(t, 4)
	n.mustSign(t, "a")
	n.module.DropSessions()
	failures := 0
	for range 10 {
		if _, err := n.sign("a", naiveDigest); err != nil {
			failures++
		}
	}
	wentWrong(t, failures > 0, "%d failures", failures)

	o := properly(t, func(c *pkcs11.Config) { c.Sessions = 4 })
	for range 5 {
		o.module.DropSessions()
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() { o.signs("a", "b") })
		}
		all.Wait()
	}
}

// A fail-over loses the login.
func loginLost(t *testing.T) {
	n := naively(t, 2)
	n.mustSign(t, "a")
	n.module.DropLogin()
	var err error
	for range 5 {
		_, err = n.sign("a", naiveDigest)
	}
	wentWrong(t, err != nil, "%v", err)

	o := properly(t, nil)
	o.signs("a")
	for range 5 {
		logins := o.module.Calls(faulty.Login)
		o.module.DropLogin()
		o.signs("a", "b")
		if got := o.module.Calls(faulty.Login) - logins; got != 1 {
			t.Errorf("%d logins", got)
		}
	}
}

// CKA_EC_POINT comes raw, as OCTET STRING or as BIT STRING.
func pointEncodings(t *testing.T) {
	n := naively(t, 1)
	read := func(label string) []byte {
		var point []byte
		err := n.with(func(s wrapper.SessionHandle) error {
			h, err := n.search(s, wrapper.CKO_PUBLIC_KEY, label)
			if err != nil || len(h) != 1 {
				return errors.Join(err, errors.New("no public key"))
			}
			got, err := n.p.GetAttributeValue(s, h[0], []*wrapper.Attribute{wrapper.NewAttribute(wrapper.CKA_EC_POINT, nil)})
			if err == nil {
				point = got[0].Value
			}
			return err
		})
		if err != nil || len(point) < 2 {
			t.Fatal(err)
		}
		return point[2:] // everybody knows that it is an OCTET STRING
	}
	public := n.keys["ed"].Public.(ed25519.PublicKey)
	if !public.Equal(ed25519.PublicKey(read("ed"))) {
		t.Error("as the standard wants it")
	}
	for _, e := range []faulty.Encoding{faulty.Raw, faulty.BitString} {
		n.module.Point(e)
		wentWrong(t, !public.Equal(ed25519.PublicKey(read("ed"))), "encoding %d", e)
		n.module.HealRules()
	}

	f := newFixture(t)
	for _, e := range []faulty.Encoding{faulty.Raw, faulty.OctetString, faulty.BitString} {
		f.module.Point(e)
		o := properlyOn(t, f, nil)
		for _, id := range []keystore.ID{"a", "ed"} {
			key, err := o.token.Find(t.Context(), id)
			if err != nil || !keystore.SamePublic(key.Public, f.keys[id].Public) {
				t.Errorf("encoding %d of %q: %v", e, id, err)
			}
		}
		o.signs("a", "ed")
		if err := o.store.Close(); err != nil {
			t.Error(err)
		}
		f.module.HealRules()
	}
}

// SoftHSM has no CKM_ECDSA_SHA256.
func noHashMechanism(t *testing.T) {
	n := naively(t, 1)
	_, err := n.signWith(wrapper.CKM_ECDSA_SHA256, "a", message)
	wentWrong(t, rv(err) == wrapper.CKR_MECHANISM_INVALID, "%v", err)
	_, err = n.signWith(wrapper.CKM_ECDSA, "ed", naiveDigest) // the wrapper has no name for CKM_EDDSA
	wentWrong(t, err != nil, "Ed25519 with CKM_ECDSA")

	properly(t, nil).signs("a", "ed")
}

// The wrapper calls C_Sign twice, first for the length.
func signTwice(t *testing.T) {
	n := naively(t, 1)
	n.mustSign(t, "a")
	calls := n.module.Calls(faulty.Sign)
	n.mustSign(t, "a")
	wentWrong(t, n.module.Calls(faulty.Sign)-calls == 2, "%d calls", n.module.Calls(faulty.Sign)-calls)

	o := properly(t, nil)
	o.signs("a")
	inits, calls := o.module.Calls(faulty.SignInit), o.module.Calls(faulty.Sign)
	o.signs("a")
	if i, c := o.module.Calls(faulty.SignInit)-inits, o.module.Calls(faulty.Sign)-calls; i != 1 || c != 1 {
		t.Errorf("%d and %d calls for one signature", i, c)
	}
}

// Many sessions make SoftHSM slower, and the slowest calls much slower.
func moreThanCores(t *testing.T) {
	const callers = 32
	most := func(m *faulty.Module, sign func()) int {
		m.Delay(faulty.Sign, faulty.Always, 2*time.Millisecond)
		var all sync.WaitGroup
		for range callers {
			all.Go(func() {
				for range 5 {
					sign()
				}
			})
		}
		all.Wait()
		return m.Most()
	}
	n := naively(t, callers)
	got := most(n.module, func() { n.sign("a", naiveDigest) })
	wentWrong(t, got > callers/2, "%d at once", got)

	o := properly(t, nil)
	if got := most(o.module, func() { o.signs("a") }); got > o.token.Sessions()+1 {
		t.Errorf("%d at once with %d sessions", got, o.token.Sessions())
	}
}
