package pkcs11_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	wrapper "github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/keystore/pkcs11"
	"github.com/signetd/signet/keystore/pkcs11/faulty"
)

// CKA_SENSITIVE and the others are asked for, and silently not given.
func attributesNotGiven(t *testing.T) {
	lies := map[string]func(*faulty.Module){
		"CKA_SENSITIVE":        func(m *faulty.Module) { m.Lie(wrapper.CKA_SENSITIVE) },
		"CKA_EXTRACTABLE":      func(m *faulty.Module) { m.Lie(wrapper.CKA_EXTRACTABLE) },
		"CKA_LOCAL":            func(m *faulty.Module) { m.Attribute(wrapper.CKA_LOCAL, []byte{0}) }, // as NSS says of each key
		"CKA_ALWAYS_SENSITIVE": func(m *faulty.Module) { m.NoAttribute(wrapper.CKA_ALWAYS_SENSITIVE) },
	}
	n := naively(t, 1)
	o := properly(t, nil)
	for name, lie := range lies {
		lie(n.module)
		err := n.generate("for-" + name)
		wentWrong(t, err == nil, "%s: %v", name, err)
		n.module.HealRules()

		lie(o.module)
		id := keystore.ID("for-" + name)
		if _, err := o.store.Generate(t.Context(), keystore.Spec{ID: id, Algorithm: keystore.ECDSAP256}); !errors.Is(err, keystore.ErrPolicy) || !strings.Contains(err.Error(), name) {
			t.Errorf("ours: %s: %v", name, err)
		}
		o.module.HealRules()
		if _, err := o.token.Find(t.Context(), id); !errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("ours: %s: the key is still there: %v", name, err)
		}
	}
}

// A key that was well protected comes back less so.
func attributesDrift(t *testing.T) {
	n := naively(t, 1)
	n.mustSign(t, "a")
	n.module.Lie(wrapper.CKA_EXTRACTABLE)
	if err := n.restart(); err != nil {
		t.Fatal(err)
	}
	n.handles = make(map[string]wrapper.ObjectHandle)
	raw, err := n.sign("a", naiveDigest)
	wentWrong(t, err == nil && n.made(naiveDigest, raw) == "a", "%v", err)

	o := properly(t, nil)
	o.signs("a")
	o.module.Lie(wrapper.CKA_EXTRACTABLE)
	if err := o.token.Reset(t.Context(), o.token.Epoch(), errors.New("a test")); err != nil {
		t.Error(err)
	}
	if err := o.sign("a"); !errors.Is(err, keystore.ErrPolicy) {
		t.Errorf("ours: %v", err)
	}
}

// SoftHSM fails one generation in ten while others search: ours does one of them at a time, and signs beside them.
func generateAndFind(t *testing.T) {
	var all sync.WaitGroup
	n := naively(t, 3)
	n.mustSign(t, "a")
	n.module.Hang(faulty.GenerateKeyPair, 1, 0)
	all.Go(func() { n.generate("new") })
	until(t, "a generation", func() bool { return n.module.Hung(faulty.GenerateKeyPair) == 1 })
	searches := n.module.Calls(faulty.FindObjects)
	_, err := n.sign("b", naiveDigest)
	wentWrong(t, err == nil && n.module.Calls(faulty.FindObjects) > searches, "it searches meanwhile: %v", err)
	n.module.Heal()
	all.Wait()

	o := properly(t, nil)
	o.signs("a")
	o.module.Hang(faulty.GenerateKeyPair, 1, 0)
	all.Go(func() { keystoretest.Generate(t, o.store, "new", keystore.ECDSAP256) })
	until(t, "a generation", func() bool { return o.module.Hung(faulty.GenerateKeyPair) == 1 })
	searches = o.module.Calls(faulty.FindObjects)
	ctx, leave := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer leave()
	if _, err := o.token.Find(ctx, "b"); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("found meanwhile: %v", err)
	}
	if got := o.module.Calls(faulty.FindObjects) - searches; got != 0 {
		t.Errorf("%d searches during a generation", got)
	}
	o.signs("a") // goes on beside it
	o.module.Heal()
	all.Wait()

	// And with the real SoftHSM, all at once.
	var failures atomic.Int32
	for i := range 4 {
		all.Go(func() {
			for k := range 5 {
				id := keystore.ID(fmt.Sprintf("many-%d-%d", i, k))
				if _, err := o.store.Generate(t.Context(), keystore.Spec{ID: id, Algorithm: keystore.ECDSAP256}); err != nil {
					failures.Add(1)
					t.Errorf("ours: %v", err)
				}
				if _, err := o.token.Find(t.Context(), id); err != nil {
					t.Errorf("ours: %v", err)
				}
				o.signs("a")
			}
		})
	}
	all.Wait()
	if failures.Load() != 0 {
		t.Errorf("%d generations failed", failures.Load())
	}
}

// SoftHSM says that a key was made before it is on the disk. The disk fails in that moment.
func notOnDisk(t *testing.T) {
	try := func(f *fixture, generate func() error) error {
		tokens := filepath.Join(filepath.Dir(f.config.SoftHSMConf), "tokens")
		rule := f.module.Add(faulty.Fault{Function: faulty.GenerateKeyPair, Hang: true, After: true})
		result := make(chan error, 1)
		go func() { result <- generate() }()
		until(t, "a key that was made", func() bool { return f.module.Hung(faulty.GenerateKeyPair) == 1 })
		if err := os.Rename(tokens, tokens+".away"); err != nil {
			t.Fatal(err)
		}
		rule.Heal()
		return <-result
	}
	n := naively(t, 1)
	err := try(n.fixture, func() error { return n.generate("new") })
	wentWrong(t, err == nil, "%v", err)

	o := properly(t, nil)
	err = try(o.fixture, func() error {
		_, err := o.store.Generate(t.Context(), keystore.Spec{ID: "new", Algorithm: keystore.ECDSAP256})
		return err
	})
	if !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("ours: a key that may be lost with the power: %v", err)
	}
}

// C_FindObjects takes half a second with 10,000 keys, so after a recovery not each key can be searched for.
func manyKeys(t *testing.T) {
	const keys, few = 64, 40
	f := newFixture(t)
	var ids []keystore.ID
	store := keystore.New(keystoretest.Open(t, f.config), keystore.Options{})
	for i := range keys {
		id := keystore.ID(fmt.Sprintf("k%d", i))
		ids = append(ids, id)
		f.keys[id] = keystoretest.Generate(t, store, id, keystore.Ed25519)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	n := naivelyOn(t, f, 1)
	searches := f.module.Calls(faulty.FindObjectsInit)
	for _, id := range ids {
		err := n.with(func(s wrapper.SessionHandle) error { _, err := n.find(s, string(id)); return err })
		if err != nil {
			t.Fatal(err)
		}
	}
	got := f.module.Calls(faulty.FindObjectsInit) - searches
	wentWrong(t, got == keys, "%d searches for %d keys", got, keys)
	if err := n.p.Finalize(); err != nil {
		t.Fatal(err)
	}

	o := properlyOn(t, f, nil)
	for range 2 {
		searches = f.module.Calls(faulty.FindObjectsInit)
		o.signs(ids...)
		if got := f.module.Calls(faulty.FindObjectsInit) - searches; got > few {
			t.Errorf("ours: %d searches for %d keys", got, keys)
		}
		if err := o.token.Reset(t.Context(), o.token.Epoch(), errors.New("a test")); err != nil {
			t.Error(err)
		}
	}
}

// A copy of the key in the session is faster, if it may be made and is as protected as the key.
func copies(t *testing.T) {
	copied := func(n *theirs) error {
		return n.with(func(s wrapper.SessionHandle) error {
			key, err := n.search(s, wrapper.CKO_PRIVATE_KEY, "a")
			if err != nil || len(key) != 1 {
				return errors.Join(err, errors.New("no key"))
			}
			fast, err := n.p.CopyObject(s, key[0], []*wrapper.Attribute{wrapper.NewAttribute(wrapper.CKA_TOKEN, false)})
			n.handles["a"] = fast
			return err
		})
	}
	n := naively(t, 1)
	n.module.Lie(wrapper.CKA_EXTRACTABLE)
	err := copied(n)
	wentWrong(t, err == nil, "it does not look at the copy: %v", err)
	n.module.HealRules()
	n.module.Fail(faulty.CopyObject, faulty.Always, wrapper.CKR_ACTION_PROHIBITED)
	err = copied(n)
	wentWrong(t, err != nil, "copies are forbidden")

	o := properly(t, func(c *pkcs11.Config) { c.SessionCopies = true })
	o.module.Fail(faulty.CopyObject, faulty.Always, wrapper.CKR_ACTION_PROHIBITED)
	o.signs("a", "b", "ed")
	o = properly(t, func(c *pkcs11.Config) { c.SessionCopies = true })
	key, err := o.token.Find(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := o.token.Reset(t.Context(), o.token.Epoch(), errors.New("a test")); err != nil {
		t.Fatal(err)
	}
	destroyed := o.module.Calls(faulty.DestroyObject)
	o.module.Lie(wrapper.CKA_EXTRACTABLE)
	input, err := key.Algorithm.Input(message)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.token.Sign(t.Context(), "a", key.Algorithm, input); err != nil {
		t.Error(err)
	}
	if o.module.Calls(faulty.DestroyObject) == destroyed {
		t.Error("ours: a copy that is less protected is kept")
	}
}

// A mechanism is not there, as Ed25519 in tpm2-pkcs11 and behind p11-kit: that is said, and the token is not held for broken.
func mechanismMissing(t *testing.T) {
	n := naively(t, 1)
	n.module.Fail(faulty.GenerateKeyPair, faulty.Always, wrapper.CKR_MECHANISM_INVALID)
	calls := n.module.Calls(faulty.GenerateKeyPair)
	err := n.generate("new")
	wentWrong(t, err != nil && n.module.Calls(faulty.GenerateKeyPair)-calls == 2, "it tries again what cannot work: %v", err)

	o := properly(t, nil)
	o.signs("a")
	epoch := o.token.Epoch()
	o.module.Fail(faulty.GenerateKeyPair, faulty.Always, wrapper.CKR_MECHANISM_INVALID)
	_, err = o.store.Generate(t.Context(), keystore.Spec{ID: "new", Algorithm: keystore.Ed25519})
	if !errors.Is(err, keystore.ErrInvalid) || errors.Is(err, keystore.ErrUnavailable) || !strings.Contains(err.Error(), "does not support") {
		t.Errorf("ours: %v", err)
	}
	o.signs("a", "b")
	if o.token.Epoch() != epoch {
		t.Error("ours: the token was set up anew for nothing")
	}
}

// The wrapper gives nil for a module that is not there.
func noModule(t *testing.T) {
	c := newFixture(t).config
	c.Module = filepath.Join(t.TempDir(), "missing.so")
	panicked := func() (p bool) {
		defer func() { p = recover() != nil }()
		_, _ = newNaive(c, 1)
		return false
	}()
	wentWrong(t, panicked, "it does not panic")

	if _, err := pkcs11.Open(t.Context(), c); !errors.Is(err, keystore.ErrUnavailable) || !strings.Contains(err.Error(), c.Module) {
		t.Errorf("ours: %v", err)
	}
}

// A PIN that was refused must not be tried again: after some tries the token is locked.
func wrongPIN(t *testing.T) {
	n := naively(t, 2)
	n.module.DropLogin()
	n.pin = "wrong"
	for range 2 {
		_ = n.with(n.login)
	}
	got := n.module.Violations()
	wentWrong(t, len(got) > 0 && strings.Contains(got[0], "refused before"), "%q", got)

	f := newFixture(t)
	c := f.config
	c.PIN = keystore.PINFixed(keystore.NewSecret("wrong"))
	logins := f.module.Calls(faulty.Login)
	for range 5 {
		if _, err := pkcs11.Open(t.Context(), c); !errors.Is(err, keystore.ErrPIN) {
			t.Errorf("ours: %v", err)
		}
	}
	if got := f.module.Calls(faulty.Login) - logins; got != 1 {
		t.Errorf("ours: %d tries", got)
	}
}

// The token says that the next wrong PIN locks it.
func lastTry(t *testing.T) {
	f := newFixture(t)
	f.module.Flags(wrapper.CKF_USER_PIN_FINAL_TRY, 0)
	logins := f.module.Calls(faulty.Login)
	n := naivelyOn(t, f, 1)
	wentWrong(t, f.module.Calls(faulty.Login) > logins, "it does not log in")
	if err := n.p.Finalize(); err != nil {
		t.Fatal(err)
	}
	for flag, says := range map[uint]string{wrapper.CKF_USER_PIN_FINAL_TRY: "one more try", wrapper.CKF_USER_PIN_LOCKED: "locked"} {
		f.module.Flags(flag, 0)
		logins = f.module.Calls(faulty.Login)
		if _, err := pkcs11.Open(t.Context(), f.config); !errors.Is(err, keystore.ErrPIN) || !strings.Contains(err.Error(), says) {
			t.Errorf("ours: %v", err)
		}
		if f.module.Calls(faulty.Login) != logins {
			t.Error("ours: tried all the same")
		}
	}
	f.module.Flags(0, wrapper.CKF_USER_PIN_INITIALIZED)
	logins = f.module.Calls(faulty.Login)
	if _, err := pkcs11.Open(t.Context(), f.config); !errors.Is(err, keystore.ErrPIN) || !strings.Contains(err.Error(), "no user PIN yet") {
		t.Errorf("ours: %v", err)
	}
	if f.module.Calls(faulty.Login) != logins {
		t.Error("ours: tried all the same")
	}
	f.module.Heal()
	properlyOn(t, f, nil).signs("a")
}

// The PIN is changed in the token and where it comes from, while the program runs.
func pinChanged(t *testing.T) {
	const next = "the-next-PIN-22"
	change := func(f *fixture) {
		t.Helper()
		p := wrapper.New(f.config.Module)
		n := naive{p: p, label: f.config.TokenLabel}
		slot, err := n.slot()
		if err != nil {
			t.Fatal(err)
		}
		s, err := p.OpenSession(slot, wrapper.CKF_SERIAL_SESSION|wrapper.CKF_RW_SESSION)
		if err != nil {
			t.Fatal(err)
		}
		defer p.CloseSession(s)
		if err := p.SetPIN(s, keystoretest.PIN, next); err != nil {
			t.Fatal(err)
		}
	}
	n := naively(t, 1)
	n.mustSign(t, "a")
	change(n.fixture)
	n.module.DropLogin()
	err := n.with(n.login)
	wentWrong(t, err != nil, "it knows the next PIN")

	var pin atomic.Value
	pin.Store(keystoretest.PIN)
	o := properly(t, func(c *pkcs11.Config) {
		c.PIN = func(context.Context) (keystore.Secret, error) { return keystore.NewSecret(pin.Load().(string)), nil }
	})
	o.signs("a")
	change(o.fixture)
	logins := o.module.Calls(faulty.Login)
	o.module.DropLogin()
	for range 5 {
		if err := o.sign("a"); !errors.Is(err, keystore.ErrPIN) {
			t.Errorf("ours, with the PIN of before: %v", err)
		}
	}
	if got := o.module.Calls(faulty.Login) - logins; got != 1 {
		t.Errorf("ours: the old PIN was tried %d times", got)
	}
	pin.Store(next)
	until(t, "a signature with the new PIN", func() bool { return o.sign("a") == nil })
	o.signs("a", "b")
}

// A token that is plugged in again has another slot.
func slotsMove(t *testing.T) {
	n := naively(t, 1)
	old, err := n.slot()
	if err != nil {
		t.Fatal(err)
	}
	n.module.MoveSlots(7)
	if err := n.restart(); err != nil {
		t.Fatal(err)
	}
	_, err = n.p.OpenSession(old, wrapper.CKF_SERIAL_SESSION)
	wentWrong(t, err != nil, "the number of the slot is still good")

	o := properly(t, nil)
	o.signs("a")
	for i := range 3 {
		o.module.MoveSlots(uint(10 * (i + 1)))
		o.module.Lose(faulty.Removed)
		if err := o.sign("a"); !errors.Is(err, keystore.ErrUnavailable) {
			t.Errorf("ours: %v", err)
		}
		o.module.Restore()
		until(t, "a signature", func() bool { return o.sign("a") == nil })
	}
}

// What a naive pool does to the real SoftHSM ends the process, so another process does it.
const childVariable = "SIGNET_NAIVE_CHILD"

// What the process says before the first wrong thing, and what of those who sign when nothing ended it.
const (
	naiveBegan = "the naive pool signs"
	naiveHangs = "who signs does not come back"
)

// crashes shows that the real SoftHSM crashes the process of a naive pool, or that its calls never return: what it does with memory that it has
// given up is chance, and now and then nothing comes of it for twenty seconds, so there are some attempts.
func crashes(t *testing.T, how string) {
	t.Helper()
	var err error
	var out []byte
	for range 5 {
		f := newFixture(t)
		c := f.module.Clone(t).Config
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		command := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestNaiveChild$")
		command.Env = append(os.Environ(), childVariable+"="+strings.Join([]string{how, c.Module, c.SoftHSMConf, c.TokenLabel}, "\n"))
		out, err = command.CombinedOutput()
		hangs := errors.Is(ctx.Err(), context.DeadlineExceeded) || bytes.Contains(out, []byte(naiveHangs))
		cancel()
		if !bytes.Contains(out, []byte(naiveBegan)) {
			t.Fatalf("the process did not come to it: %v, %.300s", err, out)
		}
		if hangs || err != nil { // it returns no error of its own: the module has ended it, or Go's runtime, which may find no words any more
			return
		}
	}
	wentWrong(t, false, "the process lived: %.300s", out)
}

// TestNaiveChild is the process that crashes. By itself it does nothing.
func TestNaiveChild(t *testing.T) {
	fields := strings.Split(os.Getenv(childVariable), "\n")
	if len(fields) != 4 {
		return
	}
	n, err := newNaive(pkcs11.Config{Module: fields[1], SoftHSMConf: fields[2], TokenLabel: fields[3]}, 4)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.sign("a", naiveDigest); err != nil {
		t.Fatal(err)
	}
	fmt.Println(naiveBegan)
	end := time.Now().Add(20 * time.Second)
	var sessions []wrapper.SessionHandle
	for range n.size {
		sessions = append(sessions, <-n.sessions)
	}
	key := n.handles["a"]
	var signing sync.WaitGroup
	for i := range n.size {
		s := sessions[0]
		if fields[0] == "finalize" {
			s = sessions[i]
		}
		signing.Go(func() {
			for time.Now().Before(end) {
				_ = n.p.SignInit(s, []*wrapper.Mechanism{wrapper.NewMechanism(wrapper.CKM_ECDSA, nil)}, key)
				_, _ = n.p.Sign(s, naiveDigest)
			}
		})
	}
	for time.Now().Before(end) {
		if fields[0] == "finalize" { // the numbers start again, so that the others go on
			_ = n.restart()
			_, _ = n.search(sessions[0], wrapper.CKO_PRIVATE_KEY, "a")
			continue
		}
		_, _ = n.p.GetSessionInfo(sessions[0])
	}
	back := make(chan struct{})
	go func() {
		signing.Wait()
		close(back)
	}()
	select {
	case <-back:
	case <-time.After(10 * time.Second):
		fmt.Println(naiveHangs)
	}
}
