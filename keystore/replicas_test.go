package keystore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
)

// cloning is a device that gives each new key to its clones, so that a pair keeps the contract of one token.
type cloning struct {
	*keystoretest.Fake
	clones []*keystoretest.Fake
}

func (c cloning) Generate(ctx context.Context, spec keystore.Spec) (keystore.Key, error) {
	key, err := c.Fake.Generate(ctx, spec)
	if err == nil {
		for _, clone := range c.clones {
			clone.CopyFrom(c.Fake)
		}
	}
	return key, err
}

func replicas(t testing.TB, c keystore.ReplicasConfig, tokens ...keystore.Token) keystore.Token {
	t.Helper()
	token, err := keystore.Replicas(c, tokens...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { token.Close() })
	return token
}

func TestReplicasKeepTheContract(t *testing.T) {
	t.Run("clones", func(t *testing.T) {
		keystoretest.TestToken(t, func(t *testing.T) keystore.Token {
			second := keystoretest.NewFake()
			return replicas(t, keystore.ReplicasConfig{}, cloning{keystoretest.NewFake(), []*keystoretest.Fake{second}}, second)
		}, keystore.Algorithms()...)
	})
	t.Run("not cloned yet", func(t *testing.T) {
		keystoretest.TestToken(t, func(t *testing.T) keystore.Token {
			return replicas(t, keystore.ReplicasConfig{}, keystoretest.NewFake(), keystoretest.NewFake())
		}, keystore.ECDSAP256, keystore.Ed25519)
	})
}

// A pair is two clones with a canary each and some keys, and a store on them.
type pair struct {
	first, second *keystoretest.Fake
	store         *keystore.Store
	keys          []keystore.Key
}

func newPair(t testing.TB, c keystore.ReplicasConfig, o keystore.Options) *pair {
	t.Helper()
	p := &pair{first: keystoretest.NewFake()}
	maker := keystore.New(p.first, keystore.Options{})
	keystoretest.Generate(t, maker, keystore.CanaryID, keystore.ECDSAP256)
	for i := range 4 {
		p.keys = append(p.keys, keystoretest.Generate(t, maker, keystore.ID(fmt.Sprint("key-", i)), keystore.ECDSAP256))
	}
	p.second = p.first.Clone()
	p.store = keystore.New(replicas(t, c, p.first, p.second), o)
	t.Cleanup(func() { p.store.Close() })
	return p
}

// down is a device that is gone.
func down(context.Context, string) error {
	return &keystore.UnavailableError{RetryAfter: time.Second, Cause: errors.New("pulled out")}
}

// counted counts the signatures of a device.
func counted(n *atomic.Int64) func(context.Context, string) error {
	return func(_ context.Context, call string) error {
		if call == "Sign" {
			n.Add(1)
		}
		return nil
	}
}

func (p *pair) active(t *testing.T) int {
	t.Helper()
	found := -1
	for i, s := range p.store.Status() {
		if s.Replica != i {
			t.Errorf("status %d is of replica %d", i, s.Replica)
		}
		if s.Active && found >= 0 {
			t.Error("two replicas are active")
		}
		if s.Active {
			found = i
		}
	}
	return found
}

// The second takes over within the call, and calls go back to the first once it has proved itself for some time.
func TestReplicasTakeOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, keystore.ReplicasConfig{}, keystore.Options{})
		for _, key := range p.keys {
			mustSign(t, p.store, key)
		}
		if p.active(t) != 0 {
			t.Fatal("the first does not serve")
		}
		p.first.SetFault(down)
		mustSign(t, p.store, p.keys[0])
		if p.active(t) != 1 {
			t.Fatal("the second does not serve")
		}
		var asked atomic.Int64
		p.first.SetFault(counted(&asked))
		for range 10 {
			mustSign(t, p.store, p.keys[1])
		}
		if asked.Load() != 0 {
			t.Error("the first was asked before it proved itself")
		}
		for range 5 { // a device that comes and goes is not flapped to
			for range 4 {
				if err := p.store.Health(t.Context()); err != nil {
					t.Fatal(err)
				}
				if p.active(t) != 1 {
					t.Fatal("a device that comes and goes serves again")
				}
				time.Sleep(5 * time.Second)
			}
			p.first.SetFault(down)
			if err := p.store.Health(t.Context()); err != nil {
				t.Fatalf("one replica is enough: %v", err)
			}
			p.first.SetFault(nil)
			if p.active(t) != 1 {
				t.Fatal("a device that comes and goes serves again")
			}
		}
		for n := 0; p.active(t) != 0; n++ {
			if n > 8 {
				t.Fatal("the first never serves again")
			}
			time.Sleep(5 * time.Second)
			if err := p.store.Health(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		mustSign(t, p.store, p.keys[2])
		if p.active(t) != 0 {
			t.Error("the first does not serve")
		}

		p.first.SetFault(down)
		p.second.SetFault(down)
		refuseSign(t, p.store, p.keys[0], keystore.ErrUnavailable)
		if err := p.store.Health(t.Context()); !errors.Is(err, keystore.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		if err := p.store.Ready(); !errors.Is(err, keystore.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		p.second.SetFault(nil)
		mustSign(t, p.store, p.keys[0])
		if _, err := p.store.Sign(t.Context(), "nobody", p.keys[0].Public, message); !errors.Is(err, keystore.ErrUnavailable) || errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("the one that is gone might have the key: %v", err)
		}
	})
}

// A device that hangs costs a call some of its time, not all of it.
func TestReplicasTakeOverFromOneThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, keystore.ReplicasConfig{}, keystore.Options{})
		mustSign(t, p.store, p.keys[0])
		p.first.SetFault(func(ctx context.Context, _ string) error {
			<-ctx.Done()
			return errors.Join(keystore.ErrUnavailable, context.Cause(ctx))
		})
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.store.Sign(ctx, p.keys[0].ID, p.keys[0].Public, message); err != nil {
			t.Fatalf("after %v: %v", time.Since(start), err)
		}
		if took := time.Since(start); took != time.Second/2 {
			t.Errorf("took %v", took)
		}
		start = time.Now()
		mustSign(t, p.store, p.keys[0])
		if took := time.Since(start); took != 0 {
			t.Errorf("the next one took %v", took)
		}
	})
}

// A wrong signature is not the last word where there is another device.
func TestReplicasCoverAWrongSignature(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, keystore.ReplicasConfig{}, keystore.Options{})
		p.first.Tamper = spoil()
		for range 50 {
			mustSign(t, p.store, p.keys[0])
		}
		_ = p.store.Health(t.Context())
		_ = p.store.Health(t.Context())
		if s := p.store.Status(); s[0].State != keystore.Refusing || s[1].State != keystore.Working || !s[1].Active {
			t.Errorf("%+v", s)
		}
		if err := p.store.Ready(); err != nil {
			t.Error(err)
		}
		p.second.Tamper = spoil()
		refuseSign(t, p.store, p.keys[0], keystore.ErrWrongSignature)
	})
}

// A token with another key under an id is no replica.
func TestReplicaThatDiffersIsRefused(t *testing.T) {
	for _, which := range []int{0, 1} {
		t.Run(fmt.Sprint("replica ", which), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, keystore.ReplicasConfig{}, keystore.Options{})
				tokens := []*keystoretest.Fake{p.first, p.second}
				other := keystoretest.NewFake()
				keystoretest.Generate(t, keystore.New(other, keystore.Options{}), "key-1", keystore.ECDSAP256)
				tokens[which].CopyFrom(other)

				mustSign(t, p.store, p.keys[0])
				synctest.Wait()
				if s := p.store.Status(); s[which].State != keystore.Working {
					t.Errorf("nothing is known yet: %+v", s)
				}
				mustSign(t, p.store, p.keys[1]) // the first use
				synctest.Wait()
				s := p.store.Status()
				if s[which].State != keystore.Refusing || s[1-which].State != keystore.Working {
					t.Errorf("%+v", s)
				}
				if k, err := p.store.Key(t.Context(), p.keys[1].ID); err != nil || k.KeyID != p.keys[1].KeyID {
					t.Errorf("its key is given out: %v, %v", k, err)
				}
				for _, tamper := range []tamper{nil, spoil(), spoil(), nil} { // its canary has no say in that, whether it is good or bad
					tokens[which].Tamper = tamper
					_ = p.store.Health(t.Context())
					time.Sleep(2 * time.Minute)
					tokens[which].Restart() // nor is it used until it was compared again
					_ = p.store.Health(t.Context())
					if s := p.store.Status(); s[which].State != keystore.Refusing || p.active(t) == which {
						t.Errorf("%+v", s)
					}
				}

				var asked atomic.Int64
				tokens[which].SetFault(counted(&asked))
				tokens[1-which].SetFault(down)
				refuseSign(t, p.store, p.keys[0], keystore.ErrUnavailable) // never used, not even for the keys that agree
				refuseSign(t, p.store, p.keys[1], keystore.ErrUnavailable)
				if asked.Load() != 0 {
					t.Error("a token that is no replica was used")
				}

				tokens[1-which].SetFault(nil)
				tokens[which].CopyFrom(tokens[1-which]) // somebody clones it again
				tokens[which].Restart()
				_ = p.store.Health(t.Context())
				synctest.Wait()
				if s := p.store.Status(); s[which].State != keystore.Working {
					t.Errorf("%+v", s)
				}
				tokens[1-which].SetFault(down)
				mustSign(t, p.store, p.keys[1])
			})
		})
	}
}

// The secret is the same on both: a copy that can be read makes the key suspect everywhere.
func TestReplicaWithAnExposedCopy(t *testing.T) {
	for _, which := range []int{0, 1} {
		t.Run(fmt.Sprint("replica ", which), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, keystore.ReplicasConfig{}, keystore.Options{})
				tokens := []*keystoretest.Fake{p.first, p.second}
				for _, key := range p.keys {
					mustSign(t, p.store, key)
				}
				synctest.Wait() // for what is compared in the background
				tokens[which].Answer = func(k keystore.Key) keystore.Key {
					if k.ID == "key-2" {
						k.Attributes["CKA_EXTRACTABLE"] = "true"
					}
					return k
				}
				tokens[which].Restart()
				_ = p.store.Health(t.Context())
				synctest.Wait()
				refuseSign(t, p.store, p.keys[2], keystore.ErrPolicy)
				tokens[which].SetFault(down)
				refuseSign(t, p.store, p.keys[2], keystore.ErrPolicy)
				mustSign(t, p.store, p.keys[1])
				tokens[which].SetFault(nil)
				synctest.Wait()
				tokens[which].Answer = nil
				tokens[which].Restart()
				time.Sleep(2 * time.Minute)
				_ = p.store.Health(t.Context())
				synctest.Wait()
				mustSign(t, p.store, p.keys[2])
			})
		})
	}
}

// A key is made on one device; until somebody clones it, the other one is known to miss it.
func TestReplicasThatMissAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, keystore.ReplicasConfig{}, keystore.Options{})
		p.first.SetFault(down)
		key := keystoretest.Generate(t, p.store, "new", keystore.ECDSAP256)
		p.first.SetFault(nil)
		mustSign(t, p.store, key)
		_ = p.store.Health(t.Context())
		synctest.Wait()
		time.Sleep(2 * time.Minute)
		_ = p.store.Health(t.Context())
		synctest.Wait()
		_ = p.store.Health(t.Context())
		if p.active(t) != 0 {
			t.Fatal("the first does not serve again")
		}
		if got, want := p.store.Missing(), []keystore.MissingKey{{ID: "new", Replica: 0}}; !slices.Equal(got, want) {
			t.Errorf("got %v", got)
		}
		if s := p.store.Status(); s[0].Missing != 1 || s[1].Missing != 0 || s[0].State != keystore.Working {
			t.Errorf("%+v", s)
		}
		var finds atomic.Int64
		p.first.SetFault(func(_ context.Context, call string) error {
			if call == "Find" {
				finds.Add(1)
			}
			return nil
		})
		for range 10 {
			mustSign(t, p.store, key) // by the second, though the first serves
		}
		if finds.Load() != 0 {
			t.Errorf("the first was asked %d times for a key that it is known not to have", finds.Load())
		}
		if p.active(t) != 0 {
			t.Error("one missing key is no reason to turn away")
		}
		if _, err := p.store.Generate(t.Context(), keystore.Spec{ID: "new", Algorithm: keystore.ECDSAP256}); !errors.Is(err, keystore.ErrExists) {
			t.Errorf("got %v", err)
		}

		p.first.CopyFrom(p.second) // cloned
		p.second.SetFault(down)
		mustSign(t, p.store, key) // at once
		p.second.SetFault(nil)
		if got := p.store.Missing(); len(got) != 0 {
			t.Errorf("got %v", got)
		}

		p.second.SetFault(down)
		if err := p.store.Destroy(t.Context(), "new"); !errors.Is(err, keystore.ErrUnavailable) {
			t.Errorf("half of the pair still has it: %v", err)
		}
		p.second.SetFault(nil)
		if err := p.store.Destroy(t.Context(), "new"); err != nil {
			t.Error(err)
		}
		refuseSign(t, p.store, key, keystore.ErrNotFound)
	})
}

// Each device may have a canary of its own, and gets one.
func TestReplicasHaveACanaryEach(t *testing.T) {
	first, second := keystoretest.NewFake(), keystoretest.NewFake()
	store := keystore.New(replicas(t, keystore.ReplicasConfig{}, first, second), keystore.Options{})
	keystoretest.Generate(t, store, keystore.CanaryID, keystore.ECDSAP256)
	for _, f := range []*keystoretest.Fake{first, second} {
		if now, _ := f.Keys(); now != 1 {
			t.Errorf("a device has %d canaries", now)
		}
	}
	if err := store.Health(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := store.Generate(t.Context(), keystore.Spec{ID: keystore.CanaryID, Algorithm: keystore.ECDSAP256}); !errors.Is(err, keystore.ErrExists) {
		t.Errorf("got %v", err)
	}
	for _, s := range store.Status() {
		if s.State != keystore.Working || s.Missing != 0 {
			t.Errorf("%+v", s)
		}
	}
}

func TestReplicasRefuse(t *testing.T) {
	a, b := keystoretest.NewFake(), keystoretest.NewFake()
	pair := replicas(t, keystore.ReplicasConfig{}, a, b)
	for name, tokens := range map[string][]keystore.Token{"none": {}, "one": {a}, "replicas of replicas": {pair, keystoretest.NewFake()}} {
		if _, err := keystore.Replicas(keystore.ReplicasConfig{}, tokens...); !errors.Is(err, keystore.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// A faultyDevice fails in one of several ways.
type faultyDevice struct {
	*keystoretest.Fake
	now   atomic.Int64
	calls atomic.Int64
}

type fault int64

const (
	healthy  fault = iota
	gone           // says at once that it cannot be used
	hanging        // does not answer
	empty          // finds nothing, without an error
	locked         // refuses the PIN
	lying          // answers with another key's signatures, until it is set up anew
	mad            // answers with another key's signatures
	flipping       // spoils each third signature
	flaky          // fails each third call
	faults
)

func (d *faultyDevice) set(f fault) { d.now.Store(int64(f)) }

func (d *faultyDevice) fault(ctx context.Context, call string) error {
	switch f := fault(d.now.Load()); {
	case f == hanging:
		<-ctx.Done()
		return fmt.Errorf("%w: %w", keystore.ErrUnavailable, context.Cause(ctx))
	case f == gone, f == flaky && d.calls.Add(1)%3 == 0:
		return down(ctx, call)
	case f == empty && (call == "Find" || call == "Sign"):
		return keystore.ErrNotFound
	case f == locked:
		return keystore.ErrPIN
	}
	return nil
}

func (d *faultyDevice) tamper(id keystore.ID, s []byte, other func(keystore.ID) []byte) ([]byte, error) {
	switch f := fault(d.now.Load()); {
	case f == lying, f == mad, f == flipping && d.calls.Add(1)%3 == 0:
		return other("key-" + keystore.ID('0'+(id[len(id)-1]+1)%4)), nil
	}
	return s, nil
}

// Whatever happens to one of the two, and however often: no call is lost, and no wrong signature comes out.
func TestReplicasLoseNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) { loseNothing(t, rt) })
		if t.Failed() {
			rt.FailNow()
		}
	})
}

func loseNothing(t *testing.T, rt *rapid.T) {
	p := newPair(t, keystore.ReplicasConfig{Attempt: time.Second, Return: 10 * time.Second}, keystore.Options{})
	devices := []*faultyDevice{{Fake: p.first}, {Fake: p.second}}
	for _, d := range devices {
		d.Fake.SetFault(d.fault)
		d.Fake.Tamper = d.tamper
		d.OnReset = func(error) { d.now.CompareAndSwap(int64(lying), int64(healthy)) }
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var all sync.WaitGroup
	all.Go(func() { p.store.Watch(ctx, 5*time.Second, func(keystore.Status) {}) })
	for caller := range 2 {
		all.Go(func() {
			key := p.keys[caller]
			for n := 0; ctx.Err() == nil; n++ {
				m := fmt.Appendf(nil, "%d/%d", caller, n)
				got, err := p.store.Sign(context.WithoutCancel(ctx), key.ID, key.Public, m)
				if err != nil {
					t.Errorf("lost: %v", err)
					return
				}
				if err := keystore.Verify(key.Algorithm, key.Public, m, got); err != nil {
					t.Errorf("wrong: %v", err)
					return
				}
				time.Sleep(time.Second)
			}
		})
	}
	var story []string
	var lied [2]bool
	for range rapid.IntRange(1, 6).Draw(rt, "steps") {
		which := rapid.IntRange(0, 1).Draw(rt, "device")
		f := fault(rapid.IntRange(int(healthy), int(faults)-1).Draw(rt, "fault"))
		// The other one is healthy, and has proved it if it had been refused. A key that lied there again and again is left alone for up to a minute.
		devices[1-which].set(healthy)
		time.Sleep(2 * time.Second)
		if lied[1-which] {
			lied[1-which] = false
			time.Sleep(time.Minute)
		}
		for n := 0; p.store.Status()[1-which].State != keystore.Working; n++ {
			if n > 200 {
				t.Errorf("after %v: a healthy device is not used again: %+v", story, p.store.Status()[1-which])
				break
			}
			time.Sleep(time.Second)
		}
		lied[which] = lied[which] || f == lying || f == mad || f == flipping // also if another fault follows before it is healthy
		devices[which].set(f)
		if rapid.Bool().Draw(rt, "restart") {
			devices[which].Restart()
		}
		story = append(story, fmt.Sprintf("%d: %d", which, f))
		time.Sleep(time.Duration(rapid.IntRange(3, 30).Draw(rt, "seconds")) * time.Second) // a call that hangs takes one
	}
	for _, d := range devices {
		d.set(healthy)
	}
	stop()
	all.Wait()
	p.store.Close()
	if t.Failed() {
		t.Log(story)
	}
}
