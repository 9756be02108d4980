package keystore_test

import (
	"context"
	"crypto/rsa"
	"errors"
	"math/big"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
)

// A key that must not stay does not, also when whoever wanted it has left: a pair, a canary, a MAC key.
func TestRefusedKeyDoesNotStayWhenItsCallerLeft(t *testing.T) {
	for name, generate := range map[string]func(context.Context, *keystore.Store) error{
		"pair": func(ctx context.Context, s *keystore.Store) error {
			_, err := s.Generate(ctx, keystore.Spec{ID: "k", Algorithm: keystore.ECDSAP256})
			return err
		},
		"canary": func(ctx context.Context, s *keystore.Store) error {
			_, err := s.Generate(ctx, keystore.Spec{ID: keystore.CanaryID, Algorithm: keystore.ECDSAP256})
			return err
		},
		"MAC key": func(ctx context.Context, s *keystore.Store) error {
			_, err := s.GenerateMAC(ctx, "k")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			store, fake := newFake(t)
			ctx, leave := context.WithCancel(t.Context())
			fake.Answer = func(k keystore.Key) keystore.Key {
				k.Attributes["CKA_EXTRACTABLE"] = "true"
				leave()
				return k
			}
			if err := generate(ctx, store); !errors.Is(err, keystore.ErrPolicy) {
				t.Errorf("got %v", err)
			}
			fake.Answer = nil
			_, err := fake.MACAttributes(t.Context(), "k")
			if now, _ := fake.Keys(); now != 0 || !errors.Is(err, keystore.ErrNotFound) {
				t.Errorf("it stayed: %d pairs, MAC key %v", now, err)
			}
		})
	}
}

// What a token says of a key must fit together.
func TestKeyThatDoesNotFitTogether(t *testing.T) {
	modulus := new(big.Int).Lsh(big.NewInt(1), 3071)
	public := &rsa.PublicKey{N: modulus.SetBit(modulus, 0, 1), E: 65537}
	for name, change := range map[string]func(*keystore.Key){
		"another id":        func(k *keystore.Key) { k.ID = "another" },
		"another key id":    func(k *keystore.Key) { k.KeyID = keystore.KeyID(public) },
		"another algorithm": func(k *keystore.Key) { k.Algorithm = keystore.ECDSAP384 },
	} {
		t.Run(name, func(t *testing.T) {
			store, fake := newFake(t)
			keystoretest.Generate(t, store, "k", keystore.ECDSAP256)
			fake.Answer = func(k keystore.Key) keystore.Key { change(&k); return k }
			fake.Restart()
			if _, err := store.Key(t.Context(), "k"); !errors.Is(err, keystore.ErrPolicy) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("an RSA key signs in the one way that it was made for", func(t *testing.T) {
		store, fake := newFake(t)
		keystoretest.Generate(t, store, "k", keystore.ECDSAP256)
		fake.Answer = func(k keystore.Key) keystore.Key {
			k.Public, k.KeyID, k.Algorithm = public, keystore.KeyID(public), keystore.RSAPKCS1
			return k
		}
		fake.Restart()
		fake.SetFault(func(_ context.Context, call string) error {
			if call == "Sign" {
				t.Error("the device was asked")
			}
			return nil
		})
		if _, err := store.Sign(t.Context(), "k", public, message); !errors.Is(err, keystore.ErrInvalid) {
			t.Errorf("got %v", err)
		}
	})
}

// A key that was not the enrolled one is looked at again after a moment: the right token may be back.
func TestAnotherKeyIsLookedAtAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, fake := newFake(t)
		alice := keystoretest.Generate(t, store, "alice", keystore.ECDSAP256)
		keystoretest.Generate(t, store, "bob", keystore.ECDSAP256)
		fake.Answer = func(k keystore.Key) keystore.Key { k.ID = "alice"; return k }
		fake.Swap("alice", "bob")
		fake.Restart()
		refuseSign(t, store, alice, keystore.ErrWrongSignature)
		fake.Swap("alice", "bob")
		time.Sleep(2 * time.Second)
		refuseSign(t, store, alice, keystore.ErrWrongSignature) // this one finds that it was long ago
		mustSign(t, store, alice)
	})
}

// A device that computes wrongly is not used, and what it does well meanwhile does not end that.
func TestDeviceThatComputesWrongly(t *testing.T) {
	t.Attr("requirement", "11.300(e)")
	device := &tested{Fake: keystoretest.NewFake()}
	store := keystore.New(device, keystore.Options{})
	keystoretest.Generate(t, store, keystore.CanaryID, keystore.ECDSAP256)
	key := keystoretest.Generate(t, store, "k", keystore.ECDSAP256)
	wrong := errors.New("2+2=5")
	device.err.Store(&wrong)
	if _, err := store.SelfTest(t.Context()); !errors.Is(err, wrong) {
		t.Errorf("got %v", err)
	}
	for range 2 {
		refuseSign(t, store, key, keystore.ErrUnavailable)
		if err := store.Health(t.Context()); !errors.Is(err, wrong) {
			t.Errorf("Health: %v", err)
		}
		if err := store.Ready(); !errors.Is(err, wrong) {
			t.Errorf("Ready: %v", err)
		}
	}
	device.err.Store(nil)
	if err := errors.Join(store.Health(t.Context()), store.Ready()); err != nil {
		t.Error(err)
	}
	mustSign(t, store, key)
}

// A device that has no canary is set up anew for it now and then, not each time.
func TestNoCanary(t *testing.T) {
	store, fake := newFake(t)
	for range 20 {
		if err := store.Health(t.Context()); !errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	}
	if n := fake.Resets(); n > 4 {
		t.Errorf("set up anew %d times at once", n)
	}
}

// reporting is a device that says how it is.
type reporting struct {
	*keystoretest.Fake
	state atomic.Value
}

func (r *reporting) Status() []keystore.Status {
	return []keystore.Status{{State: r.state.Load().(keystore.State)}}
}

// Ready tells of each device by itself.
func TestReadyFor(t *testing.T) {
	ca, rest := &reporting{Fake: keystoretest.NewFake()}, &reporting{Fake: keystoretest.NewFake()}
	ca.state.Store(keystore.Recovering)
	rest.state.Store(keystore.Working)
	store := keystore.New(route(t, keystore.Rule{Prefixes: []string{"ca-"}, Token: ca}, keystore.Rule{Prefixes: []string{""}, Token: rest}), keystore.Options{})
	for id, want := range map[keystore.ID]bool{"ca-1": false, "tsa-1": true} {
		if err := store.ReadyFor(id); (err == nil) != want {
			t.Errorf("%s: %v", id, err)
		}
	}
	if err := store.Ready(); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	ca.state.Store(keystore.Working)
	if err := store.Ready(); err != nil {
		t.Error(err)
	}
}

// What replicas do that no other test asks for.
func TestReplicasAtTheirEdges(t *testing.T) {
	t.Run("a caller without a deadline waits for the first no longer than Attempt", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t, keystore.ReplicasConfig{Attempt: 2 * time.Second}, keystore.Options{})
			p.first.SetFault(func(ctx context.Context, _ string) error {
				<-ctx.Done()
				return errors.Join(keystore.ErrUnavailable, context.Cause(ctx))
			})
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			if _, err := p.store.Sign(ctx, p.keys[0].ID, p.keys[0].Public, message); err != nil || time.Since(start) != 2*time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
		})
	})
	t.Run("the second serves as soon as the health says so", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t, keystore.ReplicasConfig{}, keystore.Options{})
			p.first.SetFault(down)
			if err := p.store.Health(t.Context()); err != nil || p.active(t) != 1 {
				t.Errorf("%v, %d serves", err, p.active(t))
			}
		})
	})
	t.Run("an id is taken where any of them has it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t, keystore.ReplicasConfig{}, keystore.Options{})
			keystoretest.Generate(t, keystore.New(p.second, keystore.Options{}), "taken", keystore.ECDSAP256)
			if _, err := p.store.Generate(t.Context(), keystore.Spec{ID: "taken", Algorithm: keystore.ECDSAP256}); !errors.Is(err, keystore.ErrExists) {
				t.Errorf("got %v", err)
			}
			if _, err := p.second.GenerateMAC(t.Context(), "taken-mac"); err != nil {
				t.Fatal(err)
			}
			if _, err := p.store.GenerateMAC(t.Context(), "taken-mac"); !errors.Is(err, keystore.ErrExists) {
				t.Errorf("got %v", err)
			}
		})
	})
	t.Run("a caller who wants a key that neither has, has neither refused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t, keystore.ReplicasConfig{}, keystore.Options{})
			mustSign(t, p.store, p.keys[0])
			synctest.Wait()
			other := p.keys[0]
			other.Public = p.keys[1].Public
			refuseSign(t, p.store, other, keystore.ErrWrongSignature)
			synctest.Wait()
			for i, s := range p.store.Status() {
				if s.State != keystore.Working {
					t.Errorf("replica %d is %s: %s", i, s.State, s.Reason)
				}
			}
			mustSign(t, p.store, p.keys[0])
		})
	})
	t.Run("both compute wrongly", func(t *testing.T) {
		broken := errors.New("2+2=5")
		store := keystore.New(replicas(t, keystore.ReplicasConfig{}, wrongAnswers{keystoretest.NewFake(), broken}, wrongAnswers{keystoretest.NewFake(), broken}), keystore.Options{})
		if _, err := store.SelfTest(t.Context()); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
	})
}
