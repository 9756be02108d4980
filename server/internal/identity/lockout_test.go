package identity

import (
	"crypto/x509"
	"encoding/json/v2"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
)

// guess logs in from an address with a wrong password.
func (f *fixture) guess(name, address string) error {
	_, _, _, err := f.d.OpenSession(f.t.Context(), Source{Address: address, Device: "guesser"}, name, wrongPass)
	return err
}

// lock fails until a name is locked for an address, with a pause that the delays ask for.
func (f *fixture) lock(name, address string) {
	f.t.Helper()
	for range f.d.cfg.LockAfter {
		f.clock.Add(5 * time.Second)
		if err := f.guess(name, address); !errors.Is(err, ErrBadCredentials) {
			f.t.Fatal(err)
		}
	}
	if err := f.guess(name, address); !errors.Is(err, ErrLocked) {
		f.t.Fatalf("%s from %s: %v, want locked", name, address, err)
	}
}

// bodies returns the bodies of the entries of one type from an index on.
func bodies[T any](f *fixture, from uint64, of chain.Type) []T {
	f.t.Helper()
	var out []T
	for _, e := range f.entries(from) {
		if e.Type == of {
			out = append(out, must(readBody[T](e)))
		}
	}
	return out
}

// TestLockedBySource: a name is locked for those who guess it, and open for the person whose it is.
func TestLockedBySource(t *testing.T) {
	t.Attr("requirement", "11.300(d)")
	for _, name := range []string{"ada", "nobody"} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.ada()
			f.lock(name, "203.0.113.1")
			if err := f.guess(name, "203.0.113.2"); !errors.Is(err, ErrBadCredentials) {
				t.Errorf("from elsewhere: %v", err)
			}
			f.lock(name, "2001:db8:1:2::1")
			if err := f.guess(name, "2001:db8:1:2:ffff::1"); !errors.Is(err, ErrLocked) {
				t.Errorf("from the same /64: %v", err)
			}
			if name == "ada" {
				f.login("ada", adaPass)
			}
			f.restart()
			for _, address := range []string{"203.0.113.1", "2001:db8:1:2::77"} {
				if err := f.guess(name, address); !errors.Is(err, ErrLocked) {
					t.Errorf("after a restart, from %s: %v", address, err)
				}
			}
			if name == "ada" {
				f.login("ada", adaPass)
			}
		})
	}
}

// TestNoiseFromEverywhere: many guesses from many networks lock the name for strangers. Where somebody has logged in before, and in
// sessions, nothing of it is felt.
func TestNoiseFromEverywhere(t *testing.T) {
	t.Attr("requirement", "11.300(d)")
	for _, name := range []string{"ada", "nobody"} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			_, ada, signer := f.ada()
			from := f.ledger.Size()
			guesses := 0
			for i := range 100 {
				if err := f.guess(name, fmt.Sprintf("203.0.113.%d", i)); err == nil {
					t.Fatal("a wrong password is right")
				} else if errors.Is(err, ErrBadCredentials) {
					guesses++
				}
			}
			if guesses != f.d.cfg.Lockout.Name {
				t.Errorf("%d guesses were looked at, want %d", guesses, f.d.cfg.Lockout.Name)
			}
			locks := bodies[signerLocked](f, from, chain.SignerLocked)
			if len(locks) != 1 || locks[0].Scope != countStrangers || locks[0].Failures != f.d.cfg.Lockout.Name || (locks[0].ID != "") != (name == "ada") {
				t.Errorf("locks %+v", locks)
			}
			if name == "ada" && must(f.d.Get(t.Context(), signer.ID)).LockedUntil.IsZero() {
				t.Error("nobody is shown that she is locked for strangers")
			}
			f.restart()
			if err := f.guess(name, "203.0.113.200"); !errors.Is(err, ErrLocked) {
				t.Errorf("after a restart: %v", err)
			}
			if err := f.guess("somebody-else", "203.0.113.200"); !errors.Is(err, ErrBadCredentials) {
				t.Errorf("another name: %v", err)
			}
			if _, _, _, err := f.d.OpenSession(t.Context(), desk, "ada", adaPass); err != nil {
				t.Errorf("she, at her desk: %v", err)
			}
			_ = ada
		})
	}
	t.Run("the right password from a stranger's network", func(t *testing.T) {
		f := newFixture(t)
		f.ada()
		for i := range 50 {
			f.guess("ada", fmt.Sprintf("203.0.113.%d", i))
		}
		before := f.d.hasher.runs.Load()
		if _, _, _, err := f.d.OpenSession(t.Context(), other, "ada", adaPass); !errors.Is(err, ErrLocked) || f.d.hasher.runs.Load() != before {
			t.Errorf("error %v: what is locked is not looked at", err)
		}
	})
}

// TestSessionLane: who is in a session signs while their name is being guessed, even from their own network.
func TestSessionLane(t *testing.T) {
	t.Attr("requirement", "11.300(d)")
	f := newFixture(t)
	_, ada, _ := f.ada()
	f.lock("ada", desk.Address)
	if _, _, _, err := f.d.OpenSession(t.Context(), desk, "ada", adaPass); !errors.Is(err, ErrLocked) {
		t.Errorf("a new session: %v", err)
	}
	if err := f.d.CheckPassword(t.Context(), ada, "ada", adaPass, "prp_x"); err != nil {
		t.Errorf("a signature: %v", err)
	}
	for i := range 3 { // her own slips count in the session
		f.clock.Add(5 * time.Second)
		if err := f.d.CheckPassword(t.Context(), ada, "ada", wrongPass, "prp_x"); !errors.Is(err, ErrBadCredentials) {
			t.Fatalf("slip %d: %v", i, err)
		}
	}
	var soon *TooSoonError
	err := f.d.CheckPassword(t.Context(), ada, "ada", adaPass, "prp_x")
	if !errors.As(err, &soon) || soon.RetryAfter() != time.Second || !errors.Is(err, ErrTooSoon) {
		t.Errorf("error %v, want one second of delay", err)
	}
	f.clock.Add(time.Second)
	if err := f.d.CheckPassword(t.Context(), ada, "ada", adaPass, "prp_x"); err != nil {
		t.Error(err)
	}
	t.Run("a session that is over leaves no count", func(t *testing.T) {
		if err := f.d.CloseSession(t.Context(), ada); err != nil {
			t.Fatal(err)
		}
		_ = f.ledger.View(func(r *ledger.Read) error {
			r.View(projectionName).Ascend(bucketFailures, nil, func(k, _ []byte) bool {
				if strings.Contains(string(k), "/"+string(countSession)+"/") {
					t.Errorf("%s is still there", k)
				}
				return true
			})
			return nil
		})
	})
}

// TestNetworkLock: who tries many names is refused, whatever the next name is.
func TestNetworkLock(t *testing.T) {
	t.Attr("requirement", "11.300(d)")
	f := newFixture(t)
	f.ada()
	from := f.ledger.Size()
	for i := range f.d.cfg.Lockout.Network {
		if err := f.guess(fmt.Sprint("name-", i), "203.0.113.1"); !errors.Is(err, ErrBadCredentials) {
			t.Fatalf("guess %d: %v", i, err)
		}
	}
	size := f.ledger.Size()
	for _, name := range []string{"ada", "name-1", "another"} {
		if err := f.guess(name, "203.0.113.1"); !errors.Is(err, ErrLocked) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := f.d.Redeem(t.Context(), Source{Address: "203.0.113.1"}, "AAAAA", "ada", secondPass, true); !errors.Is(err, ErrLocked) {
		t.Errorf("a code: %v", err)
	}
	if f.ledger.Size() != size {
		t.Error("what is refused leaves entries")
	}
	locks := bodies[sourceLocked](f, from, chain.SourceLocked)
	if len(locks) != 1 || locks[0].Scope != countNetwork || locks[0].Failures != f.d.cfg.Lockout.Network || locks[0].Place == "" {
		t.Errorf("locks %+v", locks)
	}
	f.restart()
	if err := f.guess("ada", "203.0.113.1"); !errors.Is(err, ErrLocked) {
		t.Errorf("after a restart: %v", err)
	}
	ada := f.login("ada", adaPass)
	f.clock.Add(f.d.cfg.LockFor)
	if err := f.guess("ada", "203.0.113.1"); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("after the lock: %v", err)
	}

	t.Run("an administrator ends it", func(t *testing.T) {
		for i := range f.d.cfg.Lockout.Network {
			f.guess(fmt.Sprint("other-", i), "2001:db8::1")
		}
		admin := f.login("root", adminPass)
		for what, tc := range map[string]struct {
			caller          Caller
			address, reason string
			want            error
		}{
			"no administrator": {ada, "2001:db8::1", "why not", ErrForbidden}, "no reason": {admin, "2001:db8::1", "", ErrInvalid},
			"no address": {admin, "the office", "why not", ErrInvalid}, "not locked": {admin, "2001:db9::1", "why not", ErrNotLocked},
		} {
			if _, err := f.d.UnlockNetwork(t.Context(), tc.caller, tc.address, tc.reason); !errors.Is(err, tc.want) {
				t.Errorf("%s: %v, want %v", what, err, tc.want)
			}
		}
		if err := f.guess("ada", "2001:db8::2"); !errors.Is(err, ErrLocked) {
			t.Errorf("before: %v", err)
		}
		var network string
		if types := f.appended(func() {
			network = must(f.d.UnlockNetwork(t.Context(), admin, "2001:db8::2", "a script, stopped"))
		}); network != "2001:db8::/64" || !reflect.DeepEqual(types, []chain.Type{chain.SourceUnlocked}) {
			t.Errorf("network %s, entries %v", network, types)
		}
		if err := f.guess("ada", "2001:db8::2"); !errors.Is(err, ErrBadCredentials) {
			t.Errorf("after: %v", err)
		}
	})
}

// TestFlood: names and networks without end leave a bounded number of entries, and whoever is known goes on.
func TestFlood(t *testing.T) {
	t.Attr("requirement", "11.300(d)")
	f := newFixture(t)
	_, ada, _ := f.ada()
	from := f.ledger.Size()
	for i := range 1000 {
		if err := f.guess(fmt.Sprint("name-", i), fmt.Sprintf("10.%d.%d.1", i/200, i%200)); err == nil {
			t.Fatal("a wrong password is right")
		}
	}
	added := f.ledger.Size() - from
	if most := uint64(f.d.cfg.Lockout.Flood + 2); added > most {
		t.Errorf("%d entries, want at most %d", added, most)
	}
	if locks := bodies[sourceLocked](f, from, chain.SourceLocked); len(locks) != 1 || locks[0].Scope != countFlood || locks[0].Place != "" {
		t.Errorf("locks %+v", locks)
	}
	f.restart()
	if err := f.guess("ada", "10.99.99.99"); !errors.Is(err, ErrLocked) {
		t.Errorf("a stranger: %v", err)
	}
	if _, err := f.d.Redeem(t.Context(), Source{Address: "10.99.99.99"}, "AAAAA", "ada", secondPass, true); !errors.Is(err, ErrLocked) {
		t.Errorf("a stranger with a code: %v", err)
	}
	for _, name := range []string{"ada", "nobody"} { // at a known network names are alike
		if err := f.guess(name, desk.Address); !errors.Is(err, ErrBadCredentials) {
			t.Errorf("%s at a known network: %v", name, err)
		}
	}
	f.login("ada", adaPass)
	_ = ada

	t.Run("rows lapse", func(t *testing.T) {
		rows := func() (n int) {
			_ = f.ledger.View(func(r *ledger.Read) error {
				r.View(projectionName).Ascend(bucketFailures, nil, func(_, _ []byte) bool { n++; return true })
				return nil
			})
			return n
		}
		if n := rows(); n < 1000 {
			t.Errorf("%d rows of %d names", n, f.d.cfg.Lockout.Flood)
		}
		f.clock.Add(2 * forgetAfter)
		for i := range 120 {
			f.clock.Add(2 * time.Minute)
			if err := f.guess(fmt.Sprint("later-", i%3), fmt.Sprintf("192.0.2.%d", i)); !errors.Is(err, ErrBadCredentials) {
				t.Fatal(i, err)
			}
		}
		if n := rows(); n > 400 {
			t.Errorf("%d rows are left a day later", n)
		}
	})
}

// TestCodeGuesses: codes are counted for the network that they are guessed from, and leave passwords and other networks alone.
func TestCodeGuesses(t *testing.T) {
	t.Attr("requirement", "11.300(d)")
	f := newFixture(t)
	admin := f.admin()
	_, code, _, err := f.d.InvitePerson(t.Context(), admin, f.invitation("lise", "Lise Meitner", RoleSigner), "")
	if err != nil {
		t.Fatal(err)
	}
	from := f.ledger.Size()
	for range f.d.cfg.LockAfter {
		f.clock.Add(5 * time.Second)
		if _, err := f.d.Redeem(t.Context(), other, "AAAAA-BBBBB", "lise", secondPass, true); !errors.Is(err, ErrCodeInvalid) {
			t.Fatal(err)
		}
	}
	size, runs := f.ledger.Size(), f.d.hasher.runs.Load()
	if _, err := f.d.Redeem(t.Context(), other, code, "lise", secondPass, true); !errors.Is(err, ErrLocked) {
		t.Errorf("error %v, want locked", err)
	}
	if f.ledger.Size() != size || f.d.hasher.runs.Load() != runs {
		t.Error("what is locked was looked at")
	}
	if locks := bodies[signerLocked](f, from, chain.SignerLocked); len(locks) != 1 || locks[0].Scope != countCode {
		t.Errorf("locks %+v", locks)
	}
	if err := f.guess("lise", other.Address); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("a password: %v", err)
	}
	if _, err := f.d.Redeem(t.Context(), desk, code, "lise", secondPass, true); err != nil {
		t.Errorf("from elsewhere: %v", err)
	}
}

// TestUnlock: an administrator ends a lock, with a reason, and nobody ends their own.
func TestUnlock(t *testing.T) {
	t.Attr("requirement", "11.300(d)")
	f := newFixture(t)
	admin, ada, signer := f.ada()
	ctx := t.Context()
	unlock := func(caller Caller, id, reason string) error {
		_, err := f.d.Unlock(ctx, caller, id, reason)
		return err
	}
	if err := unlock(admin, signer.ID, "nothing is locked"); !errors.Is(err, ErrNotLocked) {
		t.Errorf("not locked: %v", err)
	}
	f.lock("ada", desk.Address)
	for i := range 50 {
		f.guess("ada", fmt.Sprintf("203.0.113.%d", i))
	}
	for range 5 {
		f.clock.Add(5 * time.Second)
		f.d.CheckPassword(ctx, ada, "ada", wrongPass, "prp_x")
	}
	for what, tc := range map[string]struct {
		caller Caller
		id     string
		reason string
		want   error
	}{
		"by herself":          {ada, signer.ID, "it is me", ErrForbidden},
		"by nobody":           {Caller{}, signer.ID, "why not", ErrForbidden},
		"without a reason":    {admin, signer.ID, " ", ErrInvalid},
		"of nobody":           {admin, "sgn_nobody", "why not", ErrNotFound},
		"one's own":           {admin, admin.ID, "it is me", ErrForbidden},
		"by another signer":   {f.colleague(admin), signer.ID, "a favour", ErrForbidden},
		"of the closing seal": {admin, "svc_closing", "why not", ErrNotFound},
	} {
		if err := unlock(tc.caller, tc.id, tc.reason); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", what, err, tc.want)
		}
	}
	from := f.ledger.Size()
	s, err := f.d.Unlock(ctx, admin, signer.ID, "called back: it was her")
	if err != nil || !s.LockedUntil.IsZero() {
		t.Fatalf("%v, %v", s.LockedUntil, err)
	}
	list := f.entries(from)
	if body := must(readBody[signerUnlocked](list[0])); len(list) != 1 || body.ID != signer.ID || body.Reason != "called back: it was her" || list[0].Actor.ID != admin.ID {
		t.Errorf("entries %v, body %+v", list, body)
	}
	f.login("ada", adaPass)
	if err := f.d.CheckPassword(ctx, ada, "ada", adaPass, "prp_x"); err != nil {
		t.Errorf("her session: %v", err)
	}
	if err := f.guess("ada", "203.0.113.7"); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("from elsewhere: %v", err)
	}
	f.restart()
	f.login("ada", adaPass)
}

// colleague is another signer in a session.
func (f *fixture) colleague(admin Caller) Caller {
	f.t.Helper()
	f.enrol(admin, "alan", "Alan Turing", secondPass, RoleSigner)
	return f.login("alan", secondPass)
}

// TestLocksRaiseAlerts: each lock of a person is heard of in the same moment, and a thousand locks of others do not hide it.
func TestLocksRaiseAlerts(t *testing.T) {
	t.Attr("requirement", "11.300(d)")
	f := newFixture(t)
	_, ada, signer := f.ada()
	alerts := func(from uint64) (out []map[string]any) {
		for _, e := range f.entries(from) {
			if e.Type == chain.AlertRaised {
				var body map[string]any
				if err := json.Unmarshal(e.Body, &body); err != nil {
					t.Fatal(err)
				}
				out = append(out, body)
			}
		}
		return out
	}
	from := f.ledger.Size()
	for i := range 30 {
		f.lock(fmt.Sprint("nobody-", i), fmt.Sprintf("198.51.100.%d", i))
	}
	if n := len(alerts(from)); n != mostAlerts {
		t.Errorf("%d alerts about names that are nobody's, want %d", n, mostAlerts)
	}
	from = f.ledger.Size()
	f.lock("ada", "203.0.113.1")
	list := alerts(from)
	if len(list) != 1 || list[0]["kind"] != "signer.locked" || list[0]["subject"] != signer.ID || list[0]["audience"] != "security" {
		t.Fatalf("alerts %v", list)
	}
	locked := f.entries(from)[5]
	if locked.Type != chain.SignerLocked || list[0]["entry"] != fmt.Sprint(locked.Index) {
		t.Errorf("the alert is about entry %v, the lock is %d %s", list[0]["entry"], locked.Index, locked.Type)
	}
	if text := list[0]["summary"].(string); !strings.Contains(text, "Ada Lovelace (ada)") || strings.Contains(text, wrongPass.Reveal()) || strings.Contains(text, "203.0.113") {
		t.Errorf("summary %q", text)
	}
	from = f.ledger.Size()
	for range 5 {
		f.clock.Add(5 * time.Second)
		f.d.CheckPassword(t.Context(), ada, "ada", wrongPass, "prp_x")
	}
	if list := alerts(from); len(list) != 1 || !strings.Contains(list[0]["summary"].(string), "may be stolen") {
		t.Errorf("alerts %v", list)
	}
	if got := f.appended(func() { f.guess("ada", "203.0.113.1") }); !reflect.DeepEqual(got, []chain.Type{}) {
		t.Errorf("a locked name leaves %v", got)
	}
}

// TestCertificatesThatLetNobodyIn: refused calls of programs are counted by certificate, and by network where it is nobody's.
func TestCertificatesThatLetNobodyIn(t *testing.T) {
	t.Attr("requirement", "11.300(d)")
	f := newFixture(t)
	admin := f.admin()
	ctx := t.Context()
	mine := client(t, "ci", p256(t), start.Add(-time.Hour), start.Add(time.Hour))
	service, _, err := f.d.EnrollService(ctx, admin, ServiceEnrolment{Name: "ci", Client: mine}, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.d.Authenticate(ctx, "", mine, desk); err != nil {
		t.Fatal(err)
	}
	call := func(want error, n int, certificate func() *x509.Certificate, from Source) []chain.Type {
		t.Helper()
		return f.appended(func() {
			for range n {
				if _, err := f.d.Authenticate(ctx, "", certificate(), from); !errors.Is(err, want) {
					t.Errorf("error %v, want %v", err, want)
				}
			}
		})
	}
	count := func(list []chain.Type, of chain.Type) (n int) {
		for _, typ := range list {
			if typ == of {
				n++
			}
		}
		return n
	}
	fresh := func() *x509.Certificate {
		return client(t, "nobody", p256(t), start.Add(-time.Hour), start.Add(time.Hour))
	}
	list := call(ErrSession, 30, fresh, other)
	if count(list, chain.AuthenticationFailed) != f.d.cfg.LockAfter || count(list, chain.SourceLocked) != 1 || count(list, chain.AlertRaised) != 1 {
		t.Errorf("30 unknown certificates leave %v", list)
	}
	if _, err := f.d.Authenticate(ctx, "", mine, other); err != nil {
		t.Errorf("a service from the same network: %v", err)
	}
	if err := f.guess("nobody", other.Address); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("a person from the same network: %v", err)
	}

	if _, err := f.d.Suspend(ctx, admin, service.ID, "maintenance"); err != nil {
		t.Fatal(err)
	}
	from := f.ledger.Size()
	list = call(ErrSuspended, 30, func() *x509.Certificate { return mine }, desk)
	if count(list, chain.AuthenticationFailed) != f.d.cfg.LockAfter || count(list, chain.SignerLocked) != 1 || count(list, chain.AlertRaised) != 1 {
		t.Errorf("30 calls of a suspended service leave %v", list)
	}
	if locks := bodies[signerLocked](f, from, chain.SignerLocked); locks[0].ID != service.ID || locks[0].Scope != countCertificate || locks[0].Certificate != hexSum(mine.Raw) {
		t.Errorf("locks %+v", locks)
	}
	f.restart()
	if list := call(ErrSuspended, 3, func() *x509.Certificate { return mine }, desk); len(list) != 0 {
		t.Errorf("after a restart they leave %v", list)
	}
	if _, err := f.d.Reinstate(ctx, f.login("root", adminPass), service.ID, "back"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.d.Authenticate(ctx, "", mine, desk); err != nil {
		t.Errorf("after it was reinstated: %v", err)
	}
	t.Run("unknown ones from everywhere", func(t *testing.T) {
		f := newFixture(t)
		f.config.Lockout.Flood = 20
		f.open()
		list := f.appended(func() {
			for i := range 100 {
				if _, err := f.d.Authenticate(ctx, "", fresh(), Source{Address: fmt.Sprintf("203.0.113.%d", i)}); !errors.Is(err, ErrSession) {
					t.Error(err)
				}
			}
			if err := f.guess("nobody", "203.0.113.201"); !errors.Is(err, ErrBadCredentials) {
				t.Errorf("people: %v", err)
			}
		})
		if n := count(list, chain.AuthenticationFailed); n != 20+1 || count(list, chain.SourceLocked) != 1 {
			t.Errorf("100 calls leave %d failures and %d locks, want 20 and 1", n-1, count(list, chain.SourceLocked))
		}
	})
	t.Run("many over one key count together", func(t *testing.T) {
		f := newFixture(t)
		admin, key := f.admin(), p256(t)
		if _, _, err := f.d.EnrollService(ctx, admin, ServiceEnrolment{Name: "ci", Client: client(t, "ci", key, start.Add(-time.Hour), start.Add(time.Hour))}, ""); err != nil {
			t.Fatal(err)
		}
		list := f.appended(func() {
			for range 20 {
				lapsed := client(t, "ci", key, start.Add(-2*time.Hour), start.Add(-time.Minute))
				if _, err := f.d.Authenticate(ctx, "", lapsed, desk); !errors.Is(err, ErrCertificateExpired) {
					t.Error(err)
				}
			}
		})
		if n := count(list, chain.AuthenticationFailed); n != f.d.cfg.LockAfter {
			t.Errorf("20 certificates leave %d failures", n)
		}
	})
	f.clock.Add(2 * time.Hour)
	if list := call(ErrCertificateExpired, 10, func() *x509.Certificate { return mine }, desk); count(list, chain.AuthenticationFailed) != f.d.cfg.LockAfter {
		t.Errorf("10 calls with a certificate that has lapsed leave %v", list)
	}
}

// TestLockedOffline: strangers who guess an administrator's password lock nobody out of a server that is stopped.
func TestLockedOffline(t *testing.T) {
	f := newFixture(t)
	f.admin()
	for i := range f.d.cfg.Lockout.Name {
		f.guess("root", fmt.Sprintf("203.0.113.%d", i))
	}
	if err := f.guess("root", "203.0.113.200"); !errors.Is(err, ErrLocked) {
		t.Fatalf("strangers: %v", err)
	}
	if _, err := f.d.ProveOffline(t.Context(), "root", adminPass); err != nil {
		t.Errorf("offline: %v", err)
	}
	if _, err := f.d.ProveOffline(t.Context(), "root", wrongPass); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("offline, with a wrong password: %v", err)
	}
	key := counter{kind: countKnown, of: must(f.d.blinder(t.Context()))("root")}
	_, err := f.ledger.Do(t.Context(), func(tx *ledger.Tx) error {
		tx.Emit(ledger.Event{Type: chain.SignerLocked, Actor: System("lockout").Actor(), Body: signerLocked{
			Counter: key.of, Scope: key.kind, Until: tx.Now().Add(time.Hour),
		}})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.d.ProveOffline(t.Context(), "root", adminPass); !errors.Is(err, ErrLocked) {
		t.Errorf("offline, guessed from known networks: %v", err)
	}
}
