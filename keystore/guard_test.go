package keystore_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
)

type tamper = func(id keystore.ID, signature []byte, other func(keystore.ID) []byte) ([]byte, error)

// spoil returns a tamper that makes signatures of these keys wrong, or of all if none is named.
func spoil(ids ...keystore.ID) tamper {
	return func(id keystore.ID, s []byte, _ func(keystore.ID) []byte) ([]byte, error) {
		for _, spoiled := range ids {
			if id == spoiled {
				return s[1:], nil
			}
		}
		if len(ids) == 0 {
			return s[1:], nil
		}
		return s, nil
	}
}

func mustSign(t *testing.T, store *keystore.Store, key keystore.Key) {
	t.Helper()
	got, err := store.Sign(t.Context(), key.ID, key.Public, message)
	if err == nil {
		err = keystore.Verify(key.Algorithm, key.Public, message, got)
	}
	if err != nil {
		t.Fatalf("sign with key %q: %v", key.ID, err)
	}
}

func refuseSign(t *testing.T, store *keystore.Store, key keystore.Key, want error) error {
	t.Helper()
	got, err := store.Sign(t.Context(), key.ID, key.Public, message)
	if !errors.Is(err, want) || got != nil {
		t.Fatalf("sign with key %q: got %x, %v, want %v", key.ID, got, err, want)
	}
	return err
}

// A handle that means another key is cured by setting the device up anew: nobody notices, however long that takes.
func TestStaleHandleIsCured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, fake := newFake(t)
		alice := keystoretest.Generate(t, store, "alice", keystore.ECDSAP256)
		bob := keystoretest.Generate(t, store, "bob", keystore.ECDSAP256)
		fake.SetFault(func(_ context.Context, call string) error {
			switch call {
			case "Reset":
				time.Sleep(100 * time.Millisecond)
			case "Sign": // so that several are hit
				time.Sleep(50 * time.Millisecond)
			}
			return nil
		})
		fake.OnReset = func(reason error) {
			if errors.Is(reason, keystore.ErrWrongSignature) {
				t.Error("what fails meanwhile would count as a lie")
			}
			if !strings.Contains(reason.Error(), keystore.ErrWrongSignature.Error()) {
				t.Errorf("reset because of %v", reason)
			}
			fake.Tamper = nil
		}
		for round := range 3 {
			fake.Tamper = func(id keystore.ID, _ []byte, other func(keystore.ID) []byte) ([]byte, error) { // the handles have changed places
				if id == "alice" {
					return other("bob"), nil
				}
				return other("alice"), nil
			}
			var all sync.WaitGroup
			for caller := range 32 { // callers that are hit by the same fault are one lie
				all.Go(func() {
					time.Sleep(time.Duration(caller) * 5 * time.Millisecond)
					key := alice
					if caller%2 == 1 {
						key = bob
					}
					got, err := store.Sign(t.Context(), key.ID, key.Public, message)
					if err != nil || keystore.Verify(key.Algorithm, key.Public, message, got) != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if n := fake.Resets(); n != round+1 {
				t.Errorf("the device was set up anew %d times, want %d", n, round+1)
			}
		}
	})
}

// A key whose signatures stay wrong is refused, the device is not.
func TestKeyThatLiesIsRefusedAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, fake := newFake(t)
		alice := keystoretest.Generate(t, store, "alice", keystore.ECDSAP256)
		bob := keystoretest.Generate(t, store, "bob", keystore.ECDSAP256)
		keystoretest.Generate(t, store, keystore.CanaryID, keystore.ECDSAP256)
		calls := 0
		bad := spoil("alice")
		fake.Tamper = func(id keystore.ID, s []byte, other func(keystore.ID) []byte) ([]byte, error) {
			if id == "alice" {
				calls++
			}
			return bad(id, s, other)
		}
		for range 100 {
			refuseSign(t, store, alice, keystore.ErrWrongSignature)
			mustSign(t, store, bob)
		}
		if n := fake.Resets(); n != 1 {
			t.Errorf("the device was set up anew %d times because of one key, want once", n)
		}
		if calls > 10 {
			t.Errorf("a key that lies was used %d times at once", calls)
		}
		if err := store.Health(t.Context()); err != nil {
			t.Errorf("the device is healthy: %v", err)
		}
		if s := store.Status(); s[0].State != keystore.Working {
			t.Errorf("%+v", s)
		}
		fake.Tamper = nil
		time.Sleep(2 * time.Minute)
		mustSign(t, store, alice)
	})
}

// A device that lies again and again is not used, for longer and longer, and is used again once it has proved itself.
func TestDeviceThatLiesIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, fake := newFake(t)
		key := keystoretest.Generate(t, store, "k", keystore.ECDSAP256)
		keystoretest.Generate(t, store, keystore.CanaryID, keystore.ECDSAP256)
		used := 0
		fake.Tamper = func(id keystore.ID, s []byte, _ func(keystore.ID) []byte) ([]byte, error) {
			used++
			return s[1:], nil
		}
		for range 100 {
			refuseSign(t, store, key, keystore.ErrWrongSignature)
		}
		if used > 20 {
			t.Errorf("a device that lies was used %d times at once", used)
		}
		var later *keystore.UnavailableError
		if err := refuseSign(t, store, key, keystore.ErrUnavailable); !errors.As(err, &later) || later.RetryAfter <= 0 {
			t.Errorf("got %v", err)
		}
		if s := store.Status()[0]; s.State != keystore.Refusing || !strings.Contains(s.Reason, "canary") {
			t.Errorf("%+v", s)
		}
		if err := store.Ready(); !errors.Is(err, keystore.ErrWrongSignature) {
			t.Errorf("got %v", err)
		}
		for range 20 {
			_ = store.Health(t.Context())
		}
		resets := fake.Resets()
		for range 20 {
			_ = store.Health(t.Context())
		}
		if n := fake.Resets(); n != resets {
			t.Errorf("a device that is refused was set up anew %d times at once", n-resets)
		}

		fake.Tamper = nil
		if err := store.Health(t.Context()); !errors.Is(err, keystore.ErrUnavailable) {
			t.Errorf("one good canary is too early: %v", err)
		}
		time.Sleep(61 * time.Second)
		if err := store.Health(t.Context()); err != nil {
			t.Error(err)
		}
		mustSign(t, store, key)
		if s := store.Status()[0]; s.State != keystore.Working || s.Proved.IsZero() {
			t.Errorf("%+v", s)
		}
		if err := store.Ready(); err != nil {
			t.Error(err)
		}
	})
}

// Keys that lie in turn are the device's fault, even if its canary does not.
func TestManyKeysThatLieAreTheDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, fake := newFake(t)
		keystoretest.Generate(t, store, keystore.CanaryID, keystore.ECDSAP256)
		var keys []keystore.Key
		for _, id := range []keystore.ID{"a", "b", "c", "d", "e", "f", "g", "h"} {
			keys = append(keys, keystoretest.Generate(t, store, id, keystore.ECDSAP256))
		}
		for _, key := range keys {
			fake.Tamper = spoil(key.ID)
			_, _ = store.Sign(t.Context(), key.ID, key.Public, message)
		}
		fake.Tamper = nil
		refuseSign(t, store, keys[0], keystore.ErrUnavailable)
		if s := store.Status()[0]; s.State != keystore.Refusing {
			t.Errorf("%+v", s)
		}
		time.Sleep(61 * time.Second)
		mustSign(t, store, keys[7]) // the call lets the canary prove the device
	})
}

func TestDrift(t *testing.T) {
	recorded := map[keystore.ID]map[string]string{}
	fake := keystoretest.NewFake()
	store := keystore.New(fake, keystore.Options{Recorded: func(id keystore.ID) (map[string]string, bool) {
		a, ok := recorded[id]
		return a, ok
	}})
	key := keystoretest.Generate(t, store, "k", keystore.ECDSAP256)
	keystoretest.Generate(t, store, keystore.CanaryID, keystore.ECDSAP256)
	key.Attributes["CKA_ALLOWED_MECHANISMS"] = "00001040" // not a matter of the policy
	recorded["k"] = key.Attributes
	mustSign(t, store, key) // it is looked at once an epoch
	fake.Restart()
	refuseSign(t, store, key, keystore.ErrDrift)
	delete(key.Attributes, "CKA_ALLOWED_MECHANISMS")
	mustSign(t, store, key)

	fake.Answer = func(k keystore.Key) keystore.Key {
		k.Attributes["CKA_MODIFIABLE"] = "true"
		return k
	}
	recorded["k"]["CKA_MODIFIABLE"] = "false"
	fake.Restart()
	refuseSign(t, store, key, keystore.ErrDrift)
	refuseSign(t, store, key, keystore.ErrPolicy)
	if _, err := store.Key(t.Context(), "k"); !errors.Is(err, keystore.ErrDrift) {
		t.Errorf("got %v", err)
	}
	if err := store.Health(t.Context()); err != nil {
		t.Errorf("one key's attributes are not the device's health: %v", err)
	}
	fake.Answer = nil
	delete(recorded["k"], "CKA_MODIFIABLE")
	mustSign(t, store, key)
}

// Many callers that need the same key in a new epoch read it once, and the one who reads it may leave.
func TestKeyIsReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, fake := newFake(t)
		key := keystoretest.Generate(t, store, "k", keystore.ECDSAP256)
		fake.Restart()
		var mu sync.Mutex
		finds := 0
		fake.SetFault(func(ctx context.Context, call string) error {
			if call != "Find" {
				return nil
			}
			mu.Lock()
			finds++
			mu.Unlock()
			select {
			case <-time.After(200 * time.Millisecond):
				return nil
			case <-ctx.Done():
				return errors.Join(keystore.ErrUnavailable, ctx.Err())
			}
		})
		var all sync.WaitGroup
		leaver, leave := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer leave()
		all.Go(func() {
			if _, err := store.Sign(leaver, "k", key.Public, message); !errors.Is(err, keystore.ErrUnavailable) {
				t.Error(err)
			}
		})
		synctest.Wait()
		for range 64 {
			all.Go(func() { mustSign(t, store, key) })
		}
		all.Wait()
		if finds != 2 {
			t.Errorf("the key was read %d times, want once and once more as the first had left", finds)
		}
	})
}
