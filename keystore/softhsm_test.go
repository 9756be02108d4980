package keystore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/keystore/pkcs11"
)

// softPair is a real token and its clone, with some keys.
func softPair(t testing.TB) (first, second pkcs11.Config, keys []keystore.Key) {
	t.Helper()
	first = keystoretest.Config(t)
	first.SessionCopies = false // a copy in memory would go on signing when the token is pulled out
	token, err := pkcs11.Open(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	store := keystore.New(token, keystore.Options{})
	keystoretest.Generate(t, store, keystore.CanaryID, keystore.ECDSAP256)
	for i := range 4 {
		keys = append(keys, keystoretest.Generate(t, store, keystore.ID(fmt.Sprint("key-", i)), keystore.ECDSAP256))
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	return first, keystoretest.Clone(t, first), keys
}

func pullOut(t testing.TB, c pkcs11.Config) (plugIn func()) {
	t.Helper()
	folder := keystoretest.Folder(t, c)
	away := filepath.Join(filepath.Dir(filepath.Dir(folder)), "away-"+filepath.Base(folder)) // not among the tokens
	if err := os.Rename(folder, away); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Rename(away, folder); err != nil {
			t.Fatal(err)
		}
	}
}

// until waits for a condition.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	late := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s: not within 20 seconds", what)
		}
	}
}

// Two real tokens that are clones, pulled out in turn under load: no call is lost, nothing wrong comes out, nothing is restarted.
func TestFailoverOfSoftHSM(t *testing.T) {
	t.Attr("requirement", "B-31")
	first, second, keys := softPair(t)
	tokens := []keystore.Token{keystoretest.Open(t, first), keystoretest.Open(t, second)}
	store := keystore.New(replicas(t, keystore.ReplicasConfig{Return: 100 * time.Millisecond}, tokens...), keystore.Options{})
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var made atomic.Int64
	all.Go(func() { store.Watch(ctx, 20*time.Millisecond, func(keystore.Status) {}) })
	for caller, key := range keys {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				m := fmt.Appendf(nil, "%d/%d", caller, n)
				got, err := store.Sign(context.WithoutCancel(ctx), key.ID, key.Public, m)
				if err != nil {
					t.Errorf("lost: %v", err)
					return
				}
				if err := keystore.Verify(key.Algorithm, key.Public, m, got); err != nil {
					t.Errorf("wrong: %v", err)
					return
				}
				made.Add(1)
			}
		})
	}
	state := func(replica int) keystore.Status { return store.Status()[replica] }
	defer func() {
		stop()
		all.Wait()
		if t.Failed() {
			t.Logf("%+v", store.Status())
		}
	}()
	until(t, "it signs", func() bool { return made.Load() > 0 })
	for range 3 {
		for which, c := range []pkcs11.Config{first, second} {
			plugIn := pullOut(t, c)
			until(t, "the other takes over", func() bool {
				return state(which).State != keystore.Working && state(1-which).Active || t.Failed()
			})
			before := made.Load()
			until(t, "it signs", func() bool { return made.Load() > before+50 || t.Failed() })
			plugIn()
			until(t, "it works again, and the first serves", func() bool {
				return state(which).State == keystore.Working && state(0).Active || t.Failed()
			})
		}
	}
	for i, s := range store.Status() {
		if s.Recoveries == 0 {
			t.Errorf("replica %d was never set up anew: the test shows nothing", i)
		}
	}
	t.Logf("%d signatures, none lost", made.Load())
}

func TestReplicasOfSoftHSMKeepTheContract(t *testing.T) {
	keystoretest.TestToken(t, func(t *testing.T) keystore.Token {
		c := keystoretest.Config(t)
		clone := keystoretest.Clone(t, c) // of an empty token: keys that are made are not cloned
		return replicas(t, keystore.ReplicasConfig{}, keystoretest.Open(t, c), keystoretest.Open(t, clone))
	}, keystore.ECDSAP256)
}

// A token that was pulled out before it was used finds nothing and says no error. It is used once it is back.
func TestTokenThatBeginsEmpty(t *testing.T) {
	first, _, keys := softPair(t)
	store := keystore.New(keystoretest.Open(t, first), keystore.Options{})
	plugIn := pullOut(t, first)
	if err := store.Health(t.Context()); err == nil {
		t.Fatal("a token that is gone is healthy")
	}
	plugIn()
	until(t, "it is healthy", func() bool { return store.Health(t.Context()) == nil })
	mustSign(t, store, keys[0])
}
