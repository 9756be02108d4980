package server

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
)

var pair = HSMConfig{Tokens: []TokenConfig{{Name: "main", Token: "a", PINFile: "pin"}, {Name: "twin", Token: "b", PINFile: "pin", ReplicaOf: "main"}}}

// A replica that is away at the start is opened when it has come, and signs.
func TestALateReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const key keystore.ID = "tsa-1"
		twin := keystoretest.NewFake()
		for _, id := range []keystore.ID{key, keystore.CanaryID} {
			if _, err := twin.Generate(t.Context(), keystore.Spec{ID: id, Algorithm: keystore.ECDSAP256}); err != nil {
				t.Fatal(err)
			}
		}
		main := twin.Clone()
		var tries atomic.Int32
		token, err := pair.OpenTokens(t.Context(), func(_ context.Context, c TokenConfig) (keystore.Token, error) {
			if c.Name == "twin" {
				return twin, nil
			}
			if tries.Add(1) < 4 {
				return nil, fmt.Errorf("%w: not plugged in", keystore.ErrUnavailable)
			}
			return main, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		s := keystore.New(token, keystore.Options{})
		defer s.Close()
		if _, err := s.SelfTest(t.Context()); err != nil {
			t.Fatalf("one of two is enough: %v", err)
		}
		if err := s.Ready(); err != nil {
			t.Fatal(err)
		}
		enrolled, err := s.Key(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Sign(t.Context(), key, enrolled.Public, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if all := s.Status(); all[0].State != keystore.Recovering || all[0].Active || !all[1].Active || all[0].Reason == "" {
			t.Errorf("%+v", all)
		}
		time.Sleep(time.Minute)
		if n := tries.Load(); n != 4 {
			t.Errorf("%d tries", n)
		}
		if err := s.Health(t.Context()); err != nil {
			t.Error(err)
		}
		if all := s.Status(); all[0].State != keystore.Working || all[0].Proved.IsZero() {
			t.Errorf("it has come: %+v", all)
		}
		twin.SetFault(func(context.Context, string) error { return keystore.ErrUnavailable })
		if _, err := s.Sign(t.Context(), key, enrolled.Public, []byte("x")); err != nil {
			t.Errorf("it does not take over: %v", err)
		}
	})
}

// A PIN that was refused is not tried again: each start is one try, not one more every few seconds.
func TestALateReplicaWithAWrongPIN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries atomic.Int32
		token, err := pair.OpenTokens(t.Context(), func(_ context.Context, c TokenConfig) (keystore.Token, error) {
			if c.Name == "main" {
				return keystoretest.NewFake(), nil
			}
			tries.Add(1)
			return nil, fmt.Errorf("%w: CKR_PIN_INCORRECT", keystore.ErrPIN)
		})
		if err != nil {
			t.Fatal(err)
		}
		defer token.Close()
		time.Sleep(time.Hour)
		if n := tries.Load(); n != 1 {
			t.Errorf("%d tries", n)
		}
		all := token.(keystore.Reporter).Status()
		if all[1].State != keystore.Refusing {
			t.Errorf("%+v", all[1])
		}
	})
}

// TestALateReplicaIsOneOfMany: before it has come it says that it can be tried again, and afterwards it does all that the token does.
func TestALateReplicaIsOneOfMany(t *testing.T) {
	late := func(t *testing.T, token keystore.Token, reason error) *lateToken {
		l := newLateToken(TokenConfig{Name: "main", Token: "signet", Module: "m.so"}, func(context.Context, TokenConfig) (keystore.Token, error) {
			if token == nil {
				return nil, reason
			}
			return token, nil
		}, reason)
		t.Cleanup(func() { l.Close() })
		return l
	}
	away := fmt.Errorf("%w: not plugged in", keystore.ErrUnavailable)
	input := make([]byte, 32)
	calls := func(ctx context.Context, l *lateToken) map[string]error {
		all := map[string]error{}
		_, all["generate"] = l.Generate(ctx, keystore.Spec{ID: "a", Algorithm: keystore.ECDSAP256})
		_, all["find"] = l.Find(ctx, "a")
		_, all["sign"] = l.Sign(ctx, "a", keystore.ECDSAP256, input)
		_, all["sign, checked"] = l.SignChecked(ctx, "a", keystore.ECDSAP256, input, func([]byte, []byte) error { return nil })
		_, all["generate a MAC key"] = l.GenerateMAC(ctx, "b")
		_, all["its attributes"] = l.MACAttributes(ctx, "b")
		_, all["MAC"] = l.MAC(ctx, "b", input)
		all["destroy the MAC key"] = l.DestroyMAC(ctx, "b")
		all["destroy"] = l.Destroy(ctx, "a")
		_, all["known answers"] = l.KnownAnswers(ctx)
		return all
	}
	synctest.Test(t, func(t *testing.T) {
		main := keystoretest.NewFake()
		l := late(t, main, away)
		for what, err := range calls(t.Context(), l) {
			var unavailable *keystore.UnavailableError
			if !errors.As(err, &unavailable) || !errors.Is(err, keystore.ErrUnavailable) || unavailable.RetryAfter < lateFirst {
				t.Errorf("%s, before it has come: %v", what, err)
			}
		}
		if err := l.Reset(t.Context(), 1, away); !errors.Is(err, keystore.ErrUnavailable) || l.Epoch() != 0 {
			t.Errorf("epoch %d, reset: %v", l.Epoch(), err)
		}
		if all := l.Status(); len(all) != 1 || all[0].State != keystore.Recovering || all[0].Token != "signet" || all[0].Reason == "" {
			t.Errorf("%+v", all)
		}
		time.Sleep(2 * lateFirst)
		for what, err := range calls(t.Context(), l) {
			if err != nil {
				t.Errorf("%s, once it has come: %v", what, err)
			}
		}
		doubt := errors.New("it was not made by this key")
		checking := late(t, &checks{Token: main}, away)
		time.Sleep(2 * lateFirst)
		if _, err := main.Generate(t.Context(), keystore.Spec{ID: "c", Algorithm: keystore.ECDSAP256}); err != nil {
			t.Fatal(err)
		}
		for what, token := range map[string]*lateToken{"by itself": l, "by the token": checking} {
			if signature, err := token.SignChecked(t.Context(), "c", keystore.ECDSAP256, input, func(_, signature []byte) error {
				if len(signature) == 0 {
					t.Errorf("%s: nothing to check", what)
				}
				return doubt
			}); !errors.Is(err, doubt) || signature != nil {
				t.Errorf("a wrong signature, checked %s: %v", what, err)
			}
		}
		if n := checking.token.Load(); (*n).(*checks).n != 1 {
			t.Error("a token that checks did not")
		}
		began := l.Epoch()
		if began != main.Epoch()+1 {
			t.Errorf("epoch %d of %d", began, main.Epoch())
		}
		if err := l.Reset(t.Context(), 0, away); err != nil || main.Resets() != 0 {
			t.Errorf("what was suspect before it came: %d resets, %v", main.Resets(), err)
		}
		if err := l.Reset(t.Context(), began, away); err != nil || main.Resets() != 1 || l.Epoch() != began+1 {
			t.Errorf("%d resets, epoch %d, %v", main.Resets(), l.Epoch(), err)
		}
		if err := l.Reset(t.Context(), began, away); err != nil || main.Resets() != 1 {
			t.Errorf("again for the same epoch: %d resets, %v", main.Resets(), err)
		}
		var closed int
		plain := late(t, &closes{main, &closed}, away)
		time.Sleep(2 * lateFirst)
		if _, err := plain.MAC(t.Context(), "b", input); !errors.Is(err, keystore.ErrInvalid) {
			t.Errorf("a token without MACs: %v", err)
		}
		if err := plain.Reset(t.Context(), plain.Epoch(), away); err != nil || main.Resets() != 1 {
			t.Errorf("a token without resets: %v", err)
		}
		if err := plain.Close(); err != nil || closed != 1 {
			t.Errorf("%d closed, %v", closed, err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		wrong := late(t, nil, fmt.Errorf("%w: CKR_PIN_INCORRECT", keystore.ErrPIN))
		for what, err := range calls(t.Context(), wrong) {
			if !errors.Is(err, keystore.ErrPIN) || errors.Is(err, keystore.ErrUnavailable) {
				t.Errorf("%s, with a wrong PIN: %v", what, err)
			}
		}
		if err := wrong.Close(); err != nil || wrong.Status()[0].State != keystore.Closed {
			t.Errorf("%+v, %v", wrong.Status(), err)
		}
	})
}

func TestOpenTokensNeedsOne(t *testing.T) {
	var closed int
	_, err := HSMConfig{
		Tokens: []TokenConfig{{Name: "a", Token: "a", PINFile: "pin"}, {Name: "b", Token: "b", PINFile: "pin"}},
		Roles:  RolesConfig{CA: "a", TSA: "a", Ledger: "a", Closing: "a", Sealing: "a", Signers: "b"},
	}.OpenTokens(t.Context(), func(_ context.Context, c TokenConfig) (keystore.Token, error) {
		if c.Name == "a" {
			return &closes{keystoretest.NewFake(), &closed}, nil
		}
		return nil, keystore.ErrUnavailable
	})
	if !errors.Is(err, keystore.ErrUnavailable) || closed != 1 {
		t.Errorf("%v; %d closed", err, closed)
	}
}

// checks is a token that checks signatures itself.
type checks struct {
	keystore.Token
	n int
}

func (c *checks) SignChecked(ctx context.Context, id keystore.ID, a keystore.Algorithm, input []byte, check func(input, signature []byte) error) ([]byte, error) {
	c.n++
	signature, err := c.Sign(ctx, id, a, input)
	if err == nil {
		err = check(input, signature)
	}
	if err != nil {
		return nil, err
	}
	return signature, nil
}

type closes struct {
	keystore.Token
	n *int
}

func (c *closes) Close() error {
	*c.n++
	return c.Token.Close()
}

// Keys are made where the configuration says.
func TestRolesHavePlaces(t *testing.T) {
	h := HSMConfig{
		Tokens: []TokenConfig{{Name: "root", Token: "r", PINFile: "pin", Offline: true}, {Name: "main", Token: "m", PINFile: "pin"}},
		Roles:  RolesConfig{CA: "root", TSA: "main", Ledger: "main", Closing: "main", Sealing: "main", Signers: "main"},
	}
	fakes := map[string]*keystoretest.Fake{"root": keystoretest.NewFake(), "main": keystoretest.NewFake()}
	token, err := h.OpenTokens(t.Context(), func(_ context.Context, c TokenConfig) (keystore.Token, error) { return fakes[c.Name], nil })
	if err != nil {
		t.Fatal(err)
	}
	s := keystore.New(token, keystore.Options{})
	defer s.Close()
	for _, id := range []keystore.ID{"ca-1", "ca-x7", "tsa-1", "ledger-1", "closing-1", "sealing-1", "signer-sgn_1-x", "canary"} {
		if _, err := s.Generate(t.Context(), keystore.Spec{ID: id, Algorithm: keystore.ECDSAP256}); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]int{}
	for name, f := range fakes {
		got[name], _ = f.Keys()
	}
	if d := cmp.Diff(map[string]int{"root": 2, "main": 6}, got); d != "" {
		t.Error(d)
	}
}
