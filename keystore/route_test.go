package keystore_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
)

func route(t testing.TB, rules ...keystore.Rule) keystore.Token {
	t.Helper()
	token, err := keystore.Route(rules...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { token.Close() })
	return token
}

func lazy(t testing.TB, c keystore.LazyConfig) keystore.Token {
	t.Helper()
	token, err := keystore.Lazy(c)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestRouteKeepsTheContract(t *testing.T) {
	t.Run("one device", func(t *testing.T) {
		keystoretest.TestToken(t, func(t *testing.T) keystore.Token {
			return route(t, keystore.Rule{Prefixes: []string{""}, Token: keystoretest.NewFake()})
		}, keystore.ECDSAP384, keystore.Ed25519)
	})
	t.Run("several", func(t *testing.T) {
		keystoretest.TestToken(t, func(t *testing.T) keystore.Token {
			return route(t,
				keystore.Rule{Prefixes: []string{"kk", "new", "k1"}, Token: keystoretest.NewFake()},
				keystore.Rule{Prefixes: []string{"k2", "k3"}, Token: replicas(t, keystore.ReplicasConfig{}, keystoretest.NewFake(), keystoretest.NewFake())},
				keystore.Rule{Prefixes: []string{""}, Token: keystoretest.NewFake()})
		}, keystore.ECDSAP256, keystore.Ed25519)
	})
	t.Run("opened when it is needed", func(t *testing.T) {
		keystoretest.TestToken(t, func(t *testing.T) keystore.Token {
			return lazy(t, keystore.LazyConfig{Name: "the token", Open: func(context.Context) (keystore.Token, error) { return keystoretest.NewFake(), nil }})
		}, keystore.ECDSAP521, keystore.Ed25519)
	})
}

func TestRoute(t *testing.T) {
	ca, rest := keystoretest.NewFake(), keystoretest.NewFake()
	store := keystore.New(route(t,
		keystore.Rule{Prefixes: []string{"ca", "root-"}, Token: ca},
		keystore.Rule{Prefixes: []string{"tsa-", "signer-"}, Token: rest},
		keystore.Rule{Prefixes: []string{"ledger-"}, Token: rest}), keystore.Options{})
	defer store.Close()
	keystoretest.Generate(t, store, keystore.CanaryID, keystore.ECDSAP256)
	for id, on := range map[keystore.ID]*keystoretest.Fake{"ca-1": ca, "root-2": ca, "tsa-1": rest, "ledger-1": rest, "signer-a": rest} {
		key := keystoretest.Generate(t, store, id, keystore.ECDSAP256)
		mustSign(t, store, key)
		if _, err := on.Find(t.Context(), id); err != nil {
			t.Errorf("key %q is elsewhere: %v", id, err)
		}
	}
	for name, f := range map[string]*keystoretest.Fake{"the CA's": ca, "the other": rest} {
		if _, err := f.Find(t.Context(), keystore.CanaryID); err != nil {
			t.Errorf("%s token has no canary, though its id begins like the CA's: %v", name, err)
		}
	}
	for _, id := range []keystore.ID{"ts", "x", "Tsa-1"} {
		_, err := store.Generate(t.Context(), keystore.Spec{ID: id, Algorithm: keystore.ECDSAP256})
		if !errors.Is(err, keystore.ErrInvalid) || !strings.Contains(err.Error(), string(id)) {
			t.Errorf("a key that no rule names: %v", err)
		}
	}
	if n := len(store.Status()); n != 2 {
		t.Errorf("%d states of two devices", n)
	}
	if err := store.Health(t.Context()); err != nil {
		t.Error(err)
	}
	ca.SetFault(down)
	if err := store.Health(t.Context()); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("a device that should be there is gone: %v", err)
	}
	if err := store.Ready(); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	tsa, err := store.Key(t.Context(), "tsa-1")
	if err != nil {
		t.Fatal(err)
	}
	mustSign(t, store, tsa) // all the same
}

func TestRouteRefuses(t *testing.T) {
	a, b := keystoretest.NewFake(), keystoretest.NewFake()
	for name, rules := range map[string][]keystore.Rule{
		"no rules":      {},
		"no token":      {{Prefixes: []string{"a"}}},
		"no prefix":     {{Token: a}},
		"no id":         {{Prefixes: []string{"a b"}, Token: a}},
		"the same":      {{Prefixes: []string{"a"}, Token: a}, {Prefixes: []string{"a"}, Token: b}},
		"one in other":  {{Prefixes: []string{"signer-"}, Token: a}, {Prefixes: []string{"signer-x"}, Token: b}},
		"other in one":  {{Prefixes: []string{"signer-x"}, Token: a}, {Prefixes: []string{"signer-"}, Token: b}},
		"two for rest":  {{Prefixes: []string{""}, Token: a}, {Prefixes: []string{""}, Token: b}},
		"rules in rule": {{Prefixes: []string{"a"}, Token: route(t, keystore.Rule{Prefixes: []string{""}, Token: b})}},
	} {
		if _, err := keystore.Route(rules...); !errors.Is(err, keystore.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// A CA that is plugged in to enrol: that it is not there is healthy, using it says what to plug in, and no restart is needed.
func TestTokenThatIsPluggedIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		device, rest := keystoretest.NewFake(), keystoretest.NewFake()
		maker := keystore.New(device, keystore.Options{})
		ca := keystoretest.Generate(t, maker, "ca-1", keystore.ECDSAP384)
		plugged := false
		var opens, closes atomic.Int64
		token := lazy(t, keystore.LazyConfig{
			Name: "the CA's token", Hint: "safe 2", Idle: time.Minute,
			Open: func(context.Context) (keystore.Token, error) {
				if !plugged {
					return nil, errors.Join(keystore.ErrUnavailable, errors.New("no token with this label"))
				}
				opens.Add(1)
				return &closing{device.Clone(), func() { closes.Add(1) }}, nil
			},
		})
		store := keystore.New(route(t, keystore.Rule{Prefixes: []string{"ca-"}, Token: token}, keystore.Rule{Prefixes: []string{""}, Token: rest}), keystore.Options{})
		defer store.Close()
		keystoretest.Generate(t, store, keystore.CanaryID, keystore.ECDSAP256)
		other := keystoretest.Generate(t, store, "tsa-1", keystore.ECDSAP256)

		for range 2 {
			err := refuseSign(t, store, ca, keystore.ErrUnavailable)
			if !strings.Contains(err.Error(), "plug in the CA's token (safe 2)") {
				t.Errorf("got %v", err)
			}
		}
		healthy := func(want keystore.State) {
			t.Helper()
			if err := errors.Join(store.Health(t.Context()), store.Ready()); err != nil {
				t.Error(err)
			}
			if s := store.Status(); s[0].State != want || s[1].State != keystore.Working {
				t.Errorf("%+v", s)
			}
		}
		healthy(keystore.Offline)
		if _, err := store.SelfTest(t.Context()); err != nil {
			t.Error(err)
		}
		plugged = true
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() { mustSign(t, store, ca) })
		}
		all.Wait()
		mustSign(t, store, other)
		healthy(keystore.Working)
		for range 10 { // it stays open while it is used
			time.Sleep(50 * time.Second)
			mustSign(t, store, ca)
		}
		if opens.Load() != 1 || closes.Load() != 0 {
			t.Errorf("it was opened %d times and closed %d times", opens.Load(), closes.Load())
		}
		time.Sleep(61 * time.Second)
		synctest.Wait()
		healthy(keystore.Offline)
		if closes.Load() != 1 {
			t.Error("a CA that nobody uses stays logged in")
		}
		mustSign(t, store, ca)
		if opens.Load() != 2 {
			t.Errorf("it was opened %d times", opens.Load())
		}
	})
}

type closing struct {
	*keystoretest.Fake
	closed func()
}

func (c *closing) Close() error {
	c.closed()
	return c.Fake.Close()
}

// A device that is pulled out while it is open is closed, so that nothing tries to bring it back, and can be plugged in again.
func TestTokenThatIsPulledOut(t *testing.T) {
	device := keystoretest.NewFake()
	key := keystoretest.Generate(t, keystore.New(device, keystore.Options{}), "ca-1", keystore.ECDSAP256)
	var now *keystoretest.Fake
	opens := 0
	closed := make(chan bool, 8)
	token := lazy(t, keystore.LazyConfig{Name: "the CA's token", Open: func(context.Context) (keystore.Token, error) {
		opens++
		now = device.Clone()
		return &closing{now, func() { closed <- true }}, nil
	}})
	store := keystore.New(token, keystore.Options{})
	mustSign(t, store, key)
	open := token.Epoch()
	if err := token.(keystore.Resetter).Reset(t.Context(), open-1, errors.New("an old one")); err != nil || token.Epoch() != open {
		t.Errorf("it was closed for what another epoch did: %v", err)
	}
	now.SetFault(down)
	if err := refuseSign(t, store, key, keystore.ErrUnavailable); !strings.Contains(err.Error(), "plug in the CA's token") {
		t.Errorf("got %v", err)
	}
	<-closed
	if s := store.Status()[0]; s.State != keystore.Offline || !strings.Contains(s.Reason, "pulled out") || s.Token != "the CA's token" {
		t.Errorf("%+v", s)
	}
	before := store.Status()[0].Epoch
	mustSign(t, store, key)
	if token.Epoch() <= open {
		t.Error("no epoch began with the device that was plugged in again")
	}

	now.Tamper = spoil() // a stale handle: it is opened anew
	mustSign(t, store, key)
	if store.Status()[0].Epoch < before {
		t.Error("an epoch went back")
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
	opened := opens
	refuseSign(t, store, key, keystore.ErrUnavailable)
	if opens != opened {
		t.Error("it was opened after it was closed")
	}
	if s := store.Status()[0]; s.State != keystore.Closed {
		t.Errorf("%+v", s)
	}
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, keystore.ReplicasConfig{}, keystore.Options{})
		ctx, stop := context.WithCancel(t.Context())
		var mu sync.Mutex
		var seen []keystore.Status
		take := func() []keystore.Status {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			s := seen
			seen = nil
			return s
		}
		ended := make(chan struct{})
		go func() {
			p.store.Watch(ctx, 5*time.Second, func(s keystore.Status) {
				mu.Lock()
				seen = append(seen, s)
				mu.Unlock()
			})
			close(ended)
		}()
		is := func(replica int, state keystore.State, active bool) func(keystore.Status) bool {
			return func(s keystore.Status) bool { return s.Replica == replica && s.State == state && s.Active == active }
		}
		if s := take(); len(s) != 2 || !is(0, keystore.Working, true)(s[0]) || !is(1, keystore.Working, false)(s[1]) {
			t.Errorf("at the beginning: %+v", s)
		}
		time.Sleep(time.Minute)
		if s := take(); len(s) != 0 {
			t.Errorf("nothing has changed: %+v", s)
		}
		if s := p.store.Status()[1]; time.Since(s.Proved) > 6*time.Second {
			t.Errorf("the second proved itself %v ago", time.Since(s.Proved))
		}

		p.first.SetFault(down)
		mustSign(t, p.store, p.keys[0])
		if s := take(); !slices.ContainsFunc(s, is(1, keystore.Working, true)) {
			t.Errorf("a call has moved to the second, and Watch does not say so at once: %+v", s)
		}
		time.Sleep(6 * time.Second)
		if s := take(); !slices.ContainsFunc(s, is(0, keystore.Recovering, false)) {
			t.Errorf("the first is gone: %+v", s)
		}
		p.first.SetFault(func(ctx context.Context, _ string) error { // a hang holds up nothing else
			<-ctx.Done()
			return errors.Join(keystore.ErrUnavailable, ctx.Err())
		})
		time.Sleep(time.Minute)
		if s := p.store.Status()[1]; time.Since(s.Proved) > 11*time.Second {
			t.Errorf("the second proved itself %v ago", time.Since(s.Proved))
		}
		p.first.SetFault(nil)
		time.Sleep(time.Minute)
		if s := take(); !slices.ContainsFunc(s, is(0, keystore.Working, true)) || !slices.ContainsFunc(s, is(1, keystore.Working, false)) {
			t.Errorf("the first serves again: %+v", s)
		}
		if err := p.store.Ready(); err != nil {
			t.Error(err)
		}
		stop()
		<-ended
	})
}

// tested is a device with known-answer tests.
type tested struct {
	*keystoretest.Fake
	runs atomic.Int64
	err  atomic.Pointer[error]
}

func (k *tested) KnownAnswers(context.Context) ([]string, error) {
	k.runs.Add(1)
	if err := k.err.Load(); err != nil {
		return nil, *err
	}
	return []string{"2+2"}, nil
}

func TestKnownAnswerTestsAreRepeated(t *testing.T) {
	t.Attr("requirement", "11.300(e)")
	synctest.Test(t, func(t *testing.T) {
		devices := []*tested{{Fake: keystoretest.NewFake()}, {Fake: keystoretest.NewFake()}}
		store := keystore.New(replicas(t, keystore.ReplicasConfig{}, devices[0], devices[1]), keystore.Options{SelfTestEvery: 24 * time.Hour})
		keystoretest.Generate(t, store, keystore.CanaryID, keystore.ECDSAP256)
		if ran, err := store.SelfTest(t.Context()); err != nil || !slices.Contains(ran, "HSM: replica 0: 2+2") || !slices.Contains(ran, "HSM: replica 1: 2+2") {
			t.Errorf("%v, %v", ran, err)
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go store.Watch(ctx, time.Hour, func(keystore.Status) {})
		time.Sleep(23 * time.Hour)
		if n := devices[0].runs.Load(); n != 1 {
			t.Errorf("%d runs on the first day", n)
		}
		time.Sleep(2 * time.Hour)
		if a, b := devices[0].runs.Load(), devices[1].runs.Load(); a != 2 || b != 2 {
			t.Errorf("%d and %d runs until the second day", a, b)
		}
		if s := store.Status()[1]; time.Since(s.Tested) > 2*time.Hour {
			t.Errorf("%+v", s)
		}

		wrong := errors.New("2+2=5")
		devices[0].err.Store(&wrong)
		time.Sleep(24 * time.Hour)
		if s := store.Status(); s[0].State != keystore.Refusing || !strings.Contains(s[0].Reason, "2+2=5") || s[1].State != keystore.Working {
			t.Errorf("%+v", s)
		}
		key := keystoretest.Generate(t, store, "k", keystore.ECDSAP256)
		mustSign(t, store, key)
		if _, err := devices[0].Find(t.Context(), "k"); !errors.Is(err, keystore.ErrNotFound) {
			t.Error("a device that computes wrongly was used")
		}
		devices[1].err.Store(&wrong)
		time.Sleep(24 * time.Hour)
		if _, err := store.Sign(t.Context(), "k", key.Public, message); !errors.Is(err, keystore.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		devices[1].err.Store(nil)
		time.Sleep(2 * time.Hour)
		mustSign(t, store, key)
	})
}
