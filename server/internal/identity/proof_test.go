package identity

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
)

// TestNoOracle: whatever is wrong with a proof, the answer, the work and the trace are the same.
func TestNoOracle(t *testing.T) {
	t.Attr("requirement", "A-15")
	f := newFixture(t)
	admin, ada, _ := f.ada()
	f.enrol(admin, "alan", "Alan Turing", secondPass, RoleSigner)
	f.enrol(admin, "noor", "Noor Khan", secondPass, RoleSigner)
	if _, err := f.d.Suspend(t.Context(), admin, must(f.d.Lookup(t.Context(), "noor")).ID, "leave"); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := f.d.InvitePerson(t.Context(), admin, f.invitation("lise", "Lise Meitner", RoleSigner), ""); err != nil {
		t.Fatal(err)
	}
	type attempt struct {
		what     string
		name     string
		password Secret
	}
	failing := []attempt{
		{"unknown user", "nobody", wrongPass},
		{"wrong password", "ada", wrongPass},
		{"wrong user name, right password", "adah", adaPass},
		{"another person's name, own password", "alan", adaPass},
		{"no name", "", adaPass},
		{"no password", "ada", ""},
		{"a name of somebody who has no password yet", "lise", wrongPass},
		{"a suspended person's name, wrong password", "noor", wrongPass},
		{"a password longer than any", "ada", Secret(strings.Repeat("x", 5000))},
	}
	check := func(t *testing.T, try func() error, purpose Purpose) {
		t.Helper()
		before := f.d.hasher.runs.Load()
		from := f.ledger.Size()
		err := try()
		if !errors.Is(err, ErrBadCredentials) || err.Error() != ErrBadCredentials.Error() {
			t.Errorf("error %q, want exactly %q", err, ErrBadCredentials)
		}
		if runs := f.d.hasher.runs.Load() - before; runs != 1 {
			t.Errorf("%d argon2id computations, want 1", runs)
		}
		list := f.entries(from)
		if len(list) == 0 || list[0].Type != chain.AuthenticationFailed {
			t.Fatalf("entries %v, want one authentication.failed", list)
		}
		body, err := readBody[authenticationFailed](list[0])
		if err != nil || body.Purpose != purpose || len(body.Name) != 64 {
			t.Errorf("body %+v, %v", body, err)
		}
	}
	for _, a := range failing {
		f.login("ada", adaPass) // the count starts again
		t.Run("log in: "+a.what, func(t *testing.T) {
			check(t, func() error {
				_, _, _, err := f.d.OpenSession(t.Context(), desk, a.name, a.password)
				return err
			}, purposeSession)
		})
	}
	signing := append(failing, attempt{"another person's name and their right password", "alan", secondPass})
	for _, a := range signing {
		ada = f.login("ada", adaPass)         // the count starts again
		if a.name == "" || a.password == "" { // the caller is known, and hears what is missing
			t.Run("sign: "+a.what, func(t *testing.T) {
				t.Attr("requirement", "A-02")
				from, before := f.ledger.Size(), f.d.hasher.runs.Load()
				if err := f.d.CheckPassword(t.Context(), ada, a.name, a.password, "prp_x"); !errors.Is(err, ErrCredentialsMissing) {
					t.Errorf("error %v", err)
				}
				if f.ledger.Size() != from || f.d.hasher.runs.Load() != before {
					t.Error("something was checked")
				}
			})
			continue
		}
		t.Run("sign: "+a.what, func(t *testing.T) {
			check(t, func() error { return f.d.CheckPassword(t.Context(), ada, a.name, a.password, "prp_x") }, purposeSignature)
		})
	}
	t.Run("sign: user name and password", func(t *testing.T) {
		t.Attr("requirement", "11.200(a)(1)")
		before := f.d.hasher.runs.Load()
		from := f.ledger.Size()
		if err := f.d.CheckPassword(t.Context(), ada, " ADA ", adaPass, "prp_x"); err != nil {
			t.Fatal(err)
		}
		if runs := f.d.hasher.runs.Load() - before; runs != 1 || f.ledger.Size() != from {
			t.Errorf("%d computations, %d entries; want 1 and none: success opens nothing", runs, f.ledger.Size()-from)
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestNoProofNoTrace: a call that failed to authenticate leaves a failed attempt and nothing else.
func TestNoProofNoTrace(t *testing.T) {
	t.Attr("requirement", "A-02")
	f := newFixture(t)
	_, ada, signer := f.ada()
	before := must(f.d.Get(t.Context(), signer.ID))
	for what, try := range map[string]func() error{
		"a session": func() error {
			_, _, _, err := f.d.OpenSession(t.Context(), desk, "ada", wrongPass)
			return err
		},
		"a signature": func() error { return f.d.CheckPassword(t.Context(), ada, "ada", wrongPass, "prp_x") },
	} {
		t.Run(what, func(t *testing.T) {
			types := f.appended(func() {
				if err := try(); !errors.Is(err, ErrBadCredentials) {
					t.Errorf("error %v", err)
				}
			})
			if !reflect.DeepEqual(types, []chain.Type{chain.AuthenticationFailed}) {
				t.Errorf("entries %v, want authentication.failed alone", types)
			}
		})
	}
	t.Run("no credential at all leaves nothing", func(t *testing.T) {
		types := f.appended(func() {
			for _, token := range []Secret{"", "x", Secret(strings.Repeat("A", 43)), Secret(strings.Repeat("A", 1<<20))} {
				if _, err := f.d.Authenticate(t.Context(), token, nil, desk); !errors.Is(err, ErrSession) {
					t.Errorf("token of %d bytes: %v", len(token), err)
				}
			}
		})
		if len(types) != 0 {
			t.Errorf("entries %v", types)
		}
	})
	if after := must(f.d.Get(t.Context(), signer.ID)); !reflect.DeepEqual(before, after) {
		t.Errorf("the signer has changed: %+v", after)
	}
}

// TestLockout: names that exist and names that don't are locked alike, and what was counted outlives the process.
func TestLockout(t *testing.T) {
	t.Attr("requirement", "A-15")
	for _, name := range []string{"ada", "nobody"} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.ada()
			ctx := t.Context()
			for i := range 5 {
				if i == 3 {
					f.restart()
				}
				f.clock.Add(5 * time.Second)
				if _, _, _, err := f.d.OpenSession(ctx, desk, name, wrongPass); !errors.Is(err, ErrBadCredentials) {
					t.Fatalf("attempt %d: %v", i, err)
				}
			}
			before, size := f.d.hasher.runs.Load(), f.ledger.Size()
			until := f.clock.Now().Add(15 * time.Minute)
			for _, password := range []Secret{wrongPass, adaPass} {
				_, _, _, err := f.d.OpenSession(ctx, desk, name, password)
				var locked *LockedError
				if !errors.Is(err, ErrLocked) || !errors.As(err, &locked) || !locked.Until.Equal(until) || locked.RetryAfter() != 15*time.Minute {
					t.Errorf("error %v, want locked for 15 minutes", err)
				}
			}
			if f.d.hasher.runs.Load() != before || f.ledger.Size() != size {
				t.Error("a locked name was checked, or filled the ledger")
			}
			last := f.entries(size - 3)
			if last[0].Type != chain.AuthenticationFailed || last[1].Type != chain.SignerLocked || last[2].Type != chain.AlertRaised {
				t.Errorf("the last entries are %s, %s, %s", last[0].Type, last[1].Type, last[2].Type)
			}
			if name == "ada" {
				if s := must(f.d.Lookup(ctx, name)); !s.LockedUntil.Equal(until) {
					t.Errorf("locked until %v", s.LockedUntil)
				}
			}
			f.clock.Add(15 * time.Minute)
			if _, _, _, err := f.d.OpenSession(ctx, desk, name, wrongPass); !errors.Is(err, ErrBadCredentials) {
				t.Errorf("after the lock: %v", err)
			}
			if name == "ada" {
				f.login("ada", adaPass)
			}
		})
	}
	t.Run("a stolen session buys no more guesses", func(t *testing.T) {
		f := newFixture(t)
		_, ada, _ := f.ada()
		for i := range 5 { // other names each time
			f.clock.Add(5 * time.Second)
			if err := f.d.CheckPassword(t.Context(), ada, fmt.Sprint("guess-", i), wrongPass, "prp_x"); !errors.Is(err, ErrBadCredentials) {
				t.Fatal(err)
			}
		}
		if err := f.d.CheckPassword(t.Context(), ada, "ada", adaPass, "prp_x"); !errors.Is(err, ErrLocked) {
			t.Errorf("error %v, want locked", err)
		}
		if _, _, _, err := f.d.OpenSession(t.Context(), desk, "ada", adaPass); !errors.Is(err, ErrLocked) {
			t.Errorf("error %v, want locked", err)
		}
	})
	t.Run("a right password starts the count again", func(t *testing.T) {
		f := newFixture(t)
		f.ada()
		for range 4 {
			for range 4 {
				f.clock.Add(5 * time.Second)
				if _, _, _, err := f.d.OpenSession(t.Context(), desk, "ada", wrongPass); !errors.Is(err, ErrBadCredentials) {
					t.Fatal(err)
				}
			}
			f.clock.Add(5 * time.Second)
			f.login("ada", adaPass)
		}
	})
	t.Run("so does a signature", func(t *testing.T) {
		f := newFixture(t)
		_, ada, _ := f.ada()
		for range 2 {
			for range 4 {
				f.clock.Add(5 * time.Second)
				if err := f.d.CheckPassword(t.Context(), ada, "ada", wrongPass, "prp_x"); !errors.Is(err, ErrBadCredentials) {
					t.Fatal(err)
				}
			}
			f.clock.Add(5 * time.Second)
			if err := f.d.CheckPassword(t.Context(), ada, "ada", adaPass, "prp_x"); err != nil {
				t.Fatal(err)
			}
			_, err := f.ledger.Do(t.Context(), func(tx *ledger.Tx) error { // what the ceremony appends next
				tx.Emit(ledger.Event{Type: chain.SignatureAttempted, Actor: ada.Actor(), Body: map[string]string{"preparation": "prp_x"}})
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("so does a new credential", func(t *testing.T) {
		t.Attr("requirement", "11.200(a)(2)")
		f := newFixture(t)
		admin, _, ada := f.ada()
		for range 5 {
			f.clock.Add(5 * time.Second)
			if _, _, _, err := f.d.OpenSession(t.Context(), desk, "ada", wrongPass); !errors.Is(err, ErrBadCredentials) {
				t.Fatal(err)
			}
		}
		_, code, _, err := f.d.Renew(t.Context(), admin, ada.ID, Renewal{Reason: "forgotten", Proofing: f.invitation("", "").Proofing})
		if err != nil {
			t.Fatal(err)
		}
		types := f.appended(func() { must(f.d.Redeem(t.Context(), desk, code, "ada", secondPass, true)) })
		if !reflect.DeepEqual(types, []chain.Type{chain.KeyCreated, chain.SignerUnlocked, chain.SignerRenewed, chain.AccountabilitySigned}) {
			t.Errorf("entries %v", types)
		}
		f.login("ada", secondPass)
	})
	t.Run("hanging up saves no failure", func(t *testing.T) {
		f := newFixture(t)
		f.ada()
		for range 5 {
			f.clock.Add(5 * time.Second)
			ctx, cancel := context.WithCancel(t.Context())
			f.d.hasher.computing = cancel // gone while the password is being checked
			if _, _, _, err := f.d.OpenSession(ctx, desk, "ada", wrongPass); !errors.Is(err, ErrBadCredentials) {
				t.Fatal(err)
			}
		}
		f.d.hasher.computing = nil
		if _, _, _, err := f.d.OpenSession(t.Context(), desk, "ada", adaPass); !errors.Is(err, ErrLocked) {
			t.Errorf("error %v, want locked", err)
		}
	})
	t.Run("guesses at the same time", func(t *testing.T) {
		f := newFixture(t)
		f.ada()
		before := f.d.hasher.runs.Load()
		var guesses sync.WaitGroup
		for range 100 {
			guesses.Go(func() {
				if _, _, _, err := f.d.OpenSession(t.Context(), desk, "ada", wrongPass); !errors.Is(err, ErrBadCredentials) && !errors.Is(err, ErrTooSoon) && !errors.Is(err, ErrBusy) {
					t.Error(err)
				}
			})
		}
		guesses.Wait()
		if runs := f.d.hasher.runs.Load() - before; runs > 3+1 {
			t.Errorf("%d passwords were checked; two at once can overtake the delay after three by one", runs)
		}
	})
}

// TestQueue: never more computations than places, a bounded queue, a deadline.
func TestQueue(t *testing.T) {
	t.Run("never more than two at once", func(t *testing.T) {
		f := newFixture(t)
		f.ada()
		var calls sync.WaitGroup
		for i := range 60 {
			calls.Go(func() {
				_, _, _, err := f.d.OpenSession(t.Context(), desk, fmt.Sprint("somebody-", i), wrongPass)
				if !errors.Is(err, ErrBadCredentials) {
					t.Error(err)
				}
			})
		}
		calls.Wait()
		if most := f.d.hasher.most.Load(); most > 2 {
			t.Errorf("%d computations at once", most)
		}
	})
	t.Run("who waits too long is told", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := must(newHasher(ArgonParams{Memory: 64, Time: 1, Threads: 1}, 1, 1, 10*time.Second))
			release := must(h.acquire(t.Context()))
			began := time.Now()
			if _, err := h.acquire(t.Context()); !errors.Is(err, ErrBusy) || time.Since(began) != 10*time.Second {
				t.Errorf("error %v after %v, want busy after 10 s", err, time.Since(began))
			}
			release()
			must(h.acquire(t.Context()))()
		})
	})
	t.Run("the queue is bounded", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := must(newHasher(ArgonParams{Memory: 64, Time: 1, Threads: 1}, 1, 1, time.Hour))
			release := must(h.acquire(t.Context()))
			ctx, cancel := context.WithCancel(t.Context())
			waiting := make(chan error, 1)
			go func() {
				_, err := h.acquire(ctx)
				waiting <- err
			}()
			synctest.Wait() // it waits
			if _, err := h.acquire(t.Context()); !errors.Is(err, ErrBusy) {
				t.Errorf("error %v, want busy", err)
			}
			cancel()
			if err := <-waiting; !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want cancelled", err)
			}
			release()
			must(h.acquire(t.Context()))()
		})
	})
	t.Run("busy is an answer, not a failure", func(t *testing.T) {
		f := newFixture(t)
		f.ada()
		f.d.hasher = must(newHasher(f.d.hasher.params, 1, 1, time.Millisecond))
		release := must(f.d.hasher.acquire(t.Context()))
		types := f.appended(func() {
			if _, _, _, err := f.d.OpenSession(t.Context(), desk, "ada", adaPass); !errors.Is(err, ErrBusy) {
				t.Errorf("error %v, want busy", err)
			}
		})
		if len(types) != 0 {
			t.Errorf("entries %v", types)
		}
		release()
	})
}
