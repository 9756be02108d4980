package pkcs11_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	wrapper "github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/keystore/pkcs11"
	"github.com/signetd/signet/keystore/pkcs11/faulty"
)

// What is known to go wrong with PKCS#11, one test for each: a naive pool goes wrong, and ours holds.
func TestHazards(t *testing.T) {
	t.Attr("requirement", "B-31")
	for _, hazard := range []struct {
		name string
		test func(*testing.T)
	}{
		{"a stale handle signs with another key", staleHandle},
		{"numbers of handles start again", numbersStartAgain},
		{"a wrong signature", wrongSignature},
		{"two goroutines in one session", twoInASession},
		{"C_Finalize during C_Sign", finalizeDuringSign},
		{"the folder of the token is gone", folderGone},
		{"the token comes back with other keys", otherContent},
		{"closing the last session ends the login", lastSession},
		{"a second login takes any PIN", secondLogin},
		{"a digest that is too long is cut off", longDigest},
		{"an operation stays active", operationActive},
		{"searching for each signature", searchEachTime},
		{"two keys of one name", twoOfOneName},
		{"a call that does not return", callHangs},
		{"more sessions than the token allows", sessionLimit},
		{"idle sessions are dropped", idleSessions},
		{"the login is lost in a fail-over", loginLost},
		{"points in three encodings", pointEncodings},
		{"no mechanism with a hash", noHashMechanism},
		{"C_Sign called twice", signTwice},
		{"more sessions than cores", moreThanCores},
		{"attributes that were not given", attributesNotGiven},
		{"attributes that change", attributesDrift},
		{"making keys while others are searched for", generateAndFind},
		{"a key that is not on the disk", notOnDisk},
		{"many keys after a recovery", manyKeys},
		{"copies that are forbidden or less protected", copies},
		{"a mechanism that is listed and missing", mechanismMissing},
		{"no module", noModule},
		{"a wrong PIN", wrongPIN},
		{"the last try of the PIN", lastTry},
		{"the PIN is changed", pinChanged},
		{"slots have other numbers", slotsMove},
	} {
		t.Run(hazard.name, hazard.test)
	}
}

// After C_Finalize and C_Initialize an old handle means another person's key.
func staleHandle(t *testing.T) {
	f := newFixture(t)
	f.module.Number(faulty.OtherKey)
	n := naivelyOn(t, f, 2)
	n.mustSign(t, "a")
	if err := n.restart(); err != nil {
		t.Fatal(err)
	}
	raw, err := n.sign("a", naiveDigest)
	wentWrong(t, err == nil && n.made(naiveDigest, raw) != "a", "signed by %q, %v", n.made(naiveDigest, raw), err)

	f = newFixture(t)
	f.module.Number(faulty.OtherKey)
	for _, session := range []bool{false, true} {
		o := properlyOn(t, f, func(c *pkcs11.Config) { c.SessionCopies = session })
		for range 5 {
			o.signs("a", "b")
			if err := o.token.Reset(t.Context(), o.token.Epoch(), errors.New("a test")); err != nil {
				t.Error(err)
			}
			o.signs("b", "a")
		}
		if got := f.module.Stale(); got != 0 {
			t.Errorf("%d uses of old handles", got)
		}
		if err := o.token.Close(); err != nil {
			t.Error(err)
		}
	}
}

// The same with the numbers as SoftHSM itself gives them.
func numbersStartAgain(t *testing.T) {
	n := naively(t, 1)
	n.mustSign(t, "a")
	if err := n.restart(); err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	was := n.handles["a"]
	n.mu.Unlock()
	// Others look for their keys first this time, until one has the number.
	found := ""
	err := n.with(func(s wrapper.SessionHandle) error {
		for _, label := range []string{"b", string(keystore.CanaryID)} {
			for range 3 {
				h, err := n.search(s, wrapper.CKO_PRIVATE_KEY, label)
				if err != nil {
					return err
				}
				if len(h) == 1 && h[0] == was {
					found = label
				}
			}
			if found != "" {
				return nil
			}
			if _, err := n.search(s, wrapper.CKO_PUBLIC_KEY, label); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := n.sign("a", naiveDigest)
	if found != "" {
		wentWrong(t, err == nil && n.made(naiveDigest, raw) == keystore.ID(found), "signed by %q, %v", n.made(naiveDigest, raw), err)
	} else {
		wentWrong(t, n.made(naiveDigest, raw) != "a", "signed by %q, %v", n.made(naiveDigest, raw), err)
	}

	o := properly(t, nil)
	o.signs("a")
	for _, first := range []keystore.ID{"b", "ed", keystore.CanaryID} {
		if err := o.token.Reset(t.Context(), o.token.Epoch(), errors.New("a test")); err != nil {
			t.Error(err)
		}
		o.signs(first, "a")
	}
}

// The device gives something that is not a signature of the key.
func wrongSignature(t *testing.T) {
	kinds := map[string]faulty.Wrong{
		"by another key": faulty.ByOtherKey, "corrupted": faulty.Corrupted, "truncated": faulty.Truncated, "zeroed": faulty.Zeroed,
		"repeated": faulty.Repeated, "empty": faulty.Empty, "too long": faulty.TooLong,
	}
	n := naively(t, 1)
	for name, kind := range kinds {
		n.mustSign(t, "a")
		n.module.WrongSignature(1, kind)
		raw, err := n.sign("a", naiveDigest)
		wentWrong(t, err == nil && n.made(naiveDigest, raw) != "a", "%s: %v", name, err)
		n.module.HealRules()
	}
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			o := properly(t, nil)
			o.signs("a", "b")
			rule := o.module.WrongSignature(1, kind)
			o.signs("a") // once more, after the device was set up anew
			if rule.Fired() != 1 {
				t.Errorf("it happened %d times", rule.Fired())
			}
			o.module.WrongSignature(faulty.Always, kind)
			for range 3 {
				if err := o.sign("b"); err == nil {
					t.Error("a signature came out")
				}
			}
		})
	}
}

// One session belongs to one goroutine.
func twoInASession(t *testing.T) {
	n := naively(t, 1)
	s := <-n.sessions
	n.sessions <- s
	n.module.Hang(faulty.Sign, 1, 0)
	var all sync.WaitGroup
	all.Go(func() { n.sign("a", naiveDigest) })
	until(t, "a call", func() bool { return n.module.Hung(faulty.Sign) == 1 })
	_, _ = n.p.GetSessionInfo(s) // a health check that borrows the session
	n.module.Heal()
	all.Wait()
	got := n.module.Violations()
	wentWrong(t, len(got) == 1 && strings.Contains(got[0], "at once"), "%q", got)
	crashes(t, "session")

	o := properly(t, func(c *pkcs11.Config) { c.Sessions = 3 })
	o.module.Delay(faulty.Sign, faulty.Always, time.Millisecond)
	for range 12 {
		all.Go(func() {
			for range 10 {
				o.signs("a", "ed")
			}
		})
	}
	all.Wait() // and the module has seen no misuse, or the test fails at its end
	if got := o.module.Most(); got < 3 {
		t.Errorf("%d calls at once, want some", got)
	}
}

func finalizeDuringSign(t *testing.T) {
	n := naively(t, 2)
	n.module.Hang(faulty.Sign, 1, 0)
	var all sync.WaitGroup
	all.Go(func() { n.sign("a", naiveDigest) })
	until(t, "a call", func() bool { return n.module.Hung(faulty.Sign) == 1 })
	n.p.Finalize()
	n.module.Heal()
	all.Wait()
	got := n.module.Violations()
	wentWrong(t, len(got) == 1 && strings.Contains(got[0], "C_Finalize while"), "%q", got)
	crashes(t, "finalize")

	// No signature may come out between two of the five times, which is one outage then.
	o := properly(t, func(c *pkcs11.Config) { c.Grace = time.Minute })
	finalized := o.module.Calls(faulty.Finalize)
	o.module.Delay(faulty.Sign, faulty.Always, 2*time.Millisecond) // so that some are always in the middle of it
	ctx, stop := context.WithCancel(t.Context())
	for range 4 {
		all.Go(func() {
			for ctx.Err() == nil {
				o.signs("a")
			}
		})
	}
	for range 5 {
		until(t, "calls", func() bool { return o.module.Inside(faulty.Sign) > 0 })
		if err := o.token.Reset(t.Context(), o.token.Epoch(), errors.New("a test")); err != nil {
			t.Error(err)
		}
	}
	stop()
	all.Wait()
	if got := o.module.Calls(faulty.Finalize) - finalized; got != 5 {
		t.Errorf("finalised %d times, want 5", got)
	}
}

// SoftHSM without its folder seems well, and is not when it has it back.
func folderGone(t *testing.T) {
	away := func(f *fixture) (gone, back func()) {
		tokens := filepath.Join(filepath.Dir(f.config.SoftHSMConf), "tokens")
		rename := func(from, to string) func() {
			return func() {
				if err := os.Rename(from, to); err != nil {
					t.Fatal(err)
				}
			}
		}
		return rename(tokens, tokens+".away"), rename(tokens+".away", tokens)
	}
	n := naively(t, 2)
	n.mustSign(t, "a")
	gone, back := away(n.fixture)
	gone()
	_, err := n.sign("a", naiveDigest)
	wentWrong(t, rv(err) == wrapper.CKR_OBJECT_HANDLE_INVALID && n.healthy(), "healthy %t, %v", n.healthy(), err)
	back()
	_, err = n.sign("a", naiveDigest)
	wentWrong(t, err != nil, "heals by itself")

	o := properly(t, nil)
	o.signs("a", "b")
	if err := o.store.Health(t.Context()); err != nil {
		t.Fatal(err)
	}
	gone, back = away(o.fixture)
	gone()
	if err := o.store.Health(t.Context()); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("health without the folder: %v", err)
	}
	if err := o.sign("a"); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("signing without the folder: %v", err)
	}
	back()
	until(t, "a signature", func() bool { return o.sign("a") == nil })
	until(t, "good health", func() bool { return o.store.Health(t.Context()) == nil })
}

// The token that comes back has the right label and serial number, and other keys of the same names.
func otherContent(t *testing.T) {
	prepare := func(f *fixture) *faulty.Content {
		other := f.module.Blank(t)
		store := keystore.New(keystoretest.Open(t, other.Config), keystore.Options{})
		for _, id := range []keystore.ID{"a", keystore.CanaryID} {
			keystoretest.Generate(t, store, id, keystore.ECDSAP256)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		return other
	}
	f := newFixture(t)
	other := prepare(f)
	n := naivelyOn(t, f, 1)
	n.mustSign(t, "a")
	n.module.Insert(t, other)
	n.module.Restore()
	if err := n.restart(); err != nil {
		t.Fatal(err)
	}
	n.handles = make(map[string]wrapper.ObjectHandle) // a better one, even
	raw, err := n.sign("a", naiveDigest)
	wentWrong(t, err == nil && n.made(naiveDigest, raw) == "", "%v", err)

	f = newFixture(t)
	other = prepare(f)
	o := properlyOn(t, f, nil)
	o.signs("a", "b")
	first := f.module.Insert(t, other)
	f.module.Restore()
	for range 5 {
		if err := o.sign("a"); err == nil || !errors.Is(err, keystore.ErrWrongSignature) && !errors.Is(err, keystore.ErrUnavailable) {
			t.Errorf("with other keys: %v", err)
		}
	}
	f.module.Insert(t, first)
	f.module.Restore()
	until(t, "a signature of the first keys", func() bool { return o.sign("a") == nil && o.sign("b") == nil })
}
