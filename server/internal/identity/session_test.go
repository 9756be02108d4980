package identity

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
)

// closed returns the cause in the last entry, which must be session.closed.
func (f *fixture) closed() string {
	f.t.Helper()
	e := f.entries(f.ledger.Size() - 1)[0]
	if e.Type != chain.SessionClosed {
		f.t.Fatalf("the last entry is %s", e.Type)
	}
	return must(readBody[sessionClosed](e)).Cause
}

// TestSessions: what opens a session, and everything that ends it.
func TestSessions(t *testing.T) {
	f := newFixture(t)
	admin, _, ada := f.ada()
	ctx := t.Context()
	ended := func(t *testing.T, token Secret) {
		t.Helper()
		if _, err := f.d.Authenticate(ctx, token, nil, desk); !errors.Is(err, ErrSession) {
			t.Errorf("error %v, want no session", err)
		}
	}
	t.Run("says who calls", func(t *testing.T) {
		token, session, signer, err := f.d.OpenSession(ctx, desk, "ada", adaPass)
		if err != nil {
			t.Fatal(err)
		}
		if signer.ID != ada.ID || !session.Expires.Equal(f.clock.Now().Add(12*time.Hour)) || session.Idle != 15*time.Minute || len(token) != 43 {
			t.Errorf("session %+v of %s", session, signer.ID)
		}
		c := must(f.d.Authenticate(ctx, token, nil, desk))
		if c.ID != ada.ID || c.Kind != chain.Person || c.Method != MethodPassword || c.Session != session.ID || !c.Has(RoleSigner) || len(c.Source) != 64 ||
			!c.Expires.Equal(session.Expires) || strings.Contains(fmt.Sprint(c), token.Reveal()) {
			t.Errorf("caller %+v", c)
		}
	})
	t.Run("closed", func(t *testing.T) {
		c, token := f.loginToken("ada", adaPass)
		if err := f.d.CloseSession(ctx, c); err != nil || f.closed() != closedByCaller {
			t.Error(err, f.closed())
		}
		ended(t, token)
		if err := f.d.CloseSession(ctx, c); !errors.Is(err, ErrSession) {
			t.Errorf("closing it again: %v", err)
		}
	})
	t.Run("idle", func(t *testing.T) {
		t.Attr("requirement", "X-11")
		_, token := f.loginToken("ada", adaPass)
		for range 3 { // each call starts the time again
			f.clock.Add(14 * time.Minute)
			if _, err := f.d.Authenticate(ctx, token, nil, desk); err != nil {
				t.Fatal(err)
			}
		}
		f.clock.Add(15 * time.Minute)
		ended(t, token)
		if f.closed() != closedIdle {
			t.Errorf("cause %s", f.closed())
		}
		size := f.ledger.Size()
		ended(t, token)
		if f.ledger.Size() != size {
			t.Error("the end was recorded twice")
		}
	})
	t.Run("lifetime", func(t *testing.T) {
		t.Attr("requirement", "X-11")
		_, token := f.loginToken("ada", adaPass)
		for range 12*6 - 1 {
			f.clock.Add(10 * time.Minute)
			if _, err := f.d.Authenticate(ctx, token, nil, desk); err != nil {
				t.Fatal(err)
			}
		}
		f.clock.Add(10 * time.Minute)
		ended(t, token)
		if f.closed() != closedLapsed {
			t.Errorf("cause %s", f.closed())
		}
	})
	t.Run("used from another address", func(t *testing.T) {
		t.Attr("requirement", "X-11")
		c, token := f.loginToken("ada", adaPass)
		if _, err := f.d.Authenticate(ctx, token, nil, other); !errors.Is(err, ErrSession) {
			t.Errorf("error %v", err)
		}
		e := f.entries(f.ledger.Size() - 1)[0]
		if f.closed() != closedMoved || e.Actor.Source == "" || e.Actor.Source == c.Source {
			t.Errorf("cause %s, source %s", f.closed(), e.Actor.Source)
		}
		ended(t, token)
	})
	t.Run("localhost is one place", func(t *testing.T) {
		token, _, _, err := f.d.OpenSession(ctx, Source{Address: "127.0.0.1", Device: "x"}, "ada", adaPass)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range []string{"::1", "127.0.0.1", "::ffff:127.0.0.1"} {
			if _, err := f.d.Authenticate(ctx, token, nil, Source{Address: a, Device: "x"}); err != nil {
				t.Errorf("%s: %v", a, err)
			}
		}
		if _, err := f.d.Authenticate(ctx, token, nil, Source{Address: "::1", Device: "y"}); !errors.Is(err, ErrSession) {
			t.Errorf("another device: %v", err)
		}
	})
	t.Run("suspended", func(t *testing.T) {
		t.Attr("requirement", "B-36")
		_, token := f.loginToken("ada", adaPass)
		if _, err := f.d.Suspend(ctx, admin, ada.ID, "on leave"); err != nil {
			t.Fatal(err)
		}
		ended(t, token)
		types := f.appended(func() {
			if _, _, _, err := f.d.OpenSession(ctx, desk, "ada", adaPass); !errors.Is(err, ErrSuspended) {
				t.Errorf("right password: %v", err)
			}
		})
		if !reflect.DeepEqual(types, []chain.Type{chain.AccessDenied}) {
			t.Errorf("entries %v", types)
		}
		admin = f.login("root", adminPass)
		if _, err := f.d.Reinstate(ctx, admin, ada.ID, "back"); err != nil {
			t.Fatal(err)
		}
		ended(t, token) // for good
		f.login("ada", adaPass)
	})
	t.Run("lapsed ones are swept", func(t *testing.T) {
		_, old := f.loginToken("ada", adaPass)
		f.clock.Add(13 * time.Hour)
		types := f.appended(func() { f.login("ada", adaPass) })
		if len(types) < 2 || types[0] != chain.SessionOpened || types[1] != chain.SessionClosed {
			t.Errorf("entries %v", types)
		}
		ended(t, old)
	})
	t.Run("restart", func(t *testing.T) {
		t.Attr("requirement", "X-11")
		_, token := f.loginToken("ada", adaPass)
		f.restart()
		ended(t, token)
		if f.closed() != closedRestarted {
			t.Errorf("cause %s", f.closed())
		}
	})
	t.Run("what another process left open is closed", func(t *testing.T) {
		f.login("ada", adaPass)
		f.restart()
		if err := f.d.Recover(ctx); err != nil || f.closed() != closedRestarted {
			t.Error(err, f.closed())
		}
		open := 0
		_ = f.ledger.View(func(r *ledger.Read) error {
			r.View(projectionName).Ascend(bucketSessions, nil, func(_, _ []byte) bool { open++; return true })
			return nil
		})
		if open != 0 {
			t.Errorf("%d sessions are open", open)
		}
		current, token := f.loginToken("ada", adaPass)
		if err := f.d.Recover(ctx); err != nil {
			t.Fatal(err)
		}
		if c, err := f.d.Authenticate(ctx, token, nil, desk); err != nil || c.Session != current.Session {
			t.Errorf("a session of this process: %v", err)
		}
	})
}

// TestServices: mutual TLS with a pinned certificate or key.
func TestServices(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	ctx := t.Context()
	key := p256(t)
	certificate := client(t, "builder", key, start.Add(-time.Hour), start.Add(time.Hour))
	svc, _, err := f.d.EnrollService(ctx, admin, ServiceEnrolment{Name: "builder", Client: certificate}, "0193c1f0-0000-7000-8000-000000000002")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("has a key of its own", func(t *testing.T) {
		t.Attr("requirement", "B-36")
		by, err := f.identity(svc.ID)
		if err != nil || !by.Service || by.Name != "builder" || by.Zone != "UTC" || by.KeyID == "" || !svc.Service {
			t.Errorf("%+v, %v", by, err)
		}
	})
	t.Run("a retried call gives the first answer", func(t *testing.T) {
		made := f.keys.made.Load()
		again, _, err := f.d.EnrollService(ctx, admin, ServiceEnrolment{Name: "builder", Client: certificate}, "0193c1f0-0000-7000-8000-000000000002")
		if err != nil || again.ID != svc.ID || f.keys.made.Load() != made {
			t.Errorf("%s, %v", again.ID, err)
		}
	})
	t.Run("name and key are taken", func(t *testing.T) {
		if _, _, err := f.d.EnrollService(ctx, admin, ServiceEnrolment{Name: "Builder", Client: client(t, "b", p256(t), start, start.Add(time.Hour))}, ""); !errors.Is(err, ErrNameTaken) {
			t.Errorf("name: %v", err)
		}
		if _, _, err := f.d.EnrollService(ctx, admin, ServiceEnrolment{Name: "builder2", Client: client(t, "b", key, start, start.Add(time.Hour))}, ""); !errors.Is(err, ErrCertificateTaken) {
			t.Errorf("key: %v", err)
		}
		if _, _, err := f.d.EnrollService(ctx, admin, ServiceEnrolment{Name: "builder3", Client: client(t, "b", p256(t), start.Add(-2*time.Hour), start.Add(-time.Hour))}, ""); !errors.Is(err, ErrInvalid) {
			t.Errorf("lapsed: %v", err)
		}
		if _, _, err := f.d.EnrollService(ctx, admin, ServiceEnrolment{Name: "builder4", Client: f.root}, ""); !errors.Is(err, ErrInvalid) {
			t.Errorf("CA: %v", err)
		}
	})
	t.Run("enrolled several times at once, once", func(t *testing.T) {
		var calls sync.WaitGroup
		errs := make([]error, 4)
		for i := range errs {
			calls.Go(func() {
				_, _, errs[i] = f.d.EnrollService(ctx, admin, ServiceEnrolment{Name: "together", Client: client(t, "t", p256(t), start, start.Add(time.Hour))}, "")
			})
		}
		calls.Wait()
		done := 0
		for _, err := range errs {
			if err == nil {
				done++
			} else if !errors.Is(err, ErrNameTaken) {
				t.Error(err)
			}
		}
		if done != 1 {
			t.Errorf("%d services of one name", done)
		}
	})
	t.Run("is known by its certificate", func(t *testing.T) {
		types := f.appended(func() {
			for range 3 {
				c, err := f.d.Authenticate(ctx, "", certificate, desk)
				if err != nil || c.ID != svc.ID || c.Kind != chain.Service || c.Method != MethodTLS || !c.Has(RoleService) || c.Session == "" || c.Source == "" {
					t.Fatalf("%+v, %v", c, err)
				}
			}
			if _, err := f.d.Authenticate(ctx, "", certificate, other); err != nil {
				t.Fatal(err)
			}
		})
		if !reflect.DeepEqual(types, []chain.Type{chain.SessionOpened, chain.SessionOpened}) {
			t.Errorf("entries %v, want one for each place", types)
		}
	})
	t.Run("and by a renewed one over the same key", func(t *testing.T) {
		renewed := client(t, "builder", key, start, start.Add(48*time.Hour))
		if c, err := f.d.Authenticate(ctx, "", renewed, desk); err != nil || c.ID != svc.ID {
			t.Errorf("%+v, %v", c, err)
		}
	})
	t.Run("never by another", func(t *testing.T) {
		t.Attr("requirement", "11.10(d)")
		if _, err := f.d.Authenticate(ctx, "", client(t, "builder", p256(t), start, start.Add(time.Hour)), desk); !errors.Is(err, ErrSession) {
			t.Errorf("same name, another key: %v", err)
		}
	})
	t.Run("not with a certificate that does not hold", func(t *testing.T) {
		lapsed := client(t, "builder", key, start.Add(-48*time.Hour), start.Add(-time.Second))
		if _, err := f.d.Authenticate(ctx, "", lapsed, desk); !errors.Is(err, ErrCertificateExpired) {
			t.Errorf("lapsed: %v", err)
		}
	})
	t.Run("a token that leads nowhere is not made good by a certificate", func(t *testing.T) {
		t.Attr("requirement", "11.10(d)")
		if _, err := f.d.Authenticate(ctx, "no such token", certificate, desk); !errors.Is(err, ErrSession) {
			t.Errorf("%v", err)
		}
	})
	t.Run("cannot sign with a password", func(t *testing.T) {
		t.Attr("requirement", "11.200(a)(1)")
		c := must(f.d.Authenticate(ctx, "", certificate, desk))
		if err := f.d.CheckPassword(ctx, c, "root", adminPass, "prp_x"); !errors.Is(err, ErrForbidden) {
			t.Errorf("%v", err)
		}
	})
	t.Run("suspended, reinstated, revoked", func(t *testing.T) {
		if _, err := f.d.Suspend(ctx, admin, svc.ID, "looks odd"); err != nil {
			t.Fatal(err)
		}
		if _, err := f.d.Authenticate(ctx, "", certificate, desk); !errors.Is(err, ErrSuspended) {
			t.Errorf("suspended: %v", err)
		}
		if _, err := f.identity(svc.ID); !errors.Is(err, ErrSuspended) {
			t.Errorf("suspended: %v", err)
		}
		if _, err := f.d.Reinstate(ctx, admin, svc.ID, "was fine"); err != nil {
			t.Fatal(err)
		}
		if _, err := f.d.Authenticate(ctx, "", certificate, desk); err != nil {
			t.Error(err)
		}
		if _, err := f.d.Revoke(ctx, admin, svc.ID, "not needed", CauseOther); err != nil {
			t.Fatal(err)
		}
		if e := f.entries(f.ledger.Size() - 1)[0]; e.Type != chain.ServiceRevoked {
			t.Errorf("the last entry is %s", e.Type)
		}
		if _, err := f.d.Authenticate(ctx, "", certificate, desk); !errors.Is(err, ErrRevoked) {
			t.Errorf("revoked: %v", err)
		}
	})
	t.Run("the server's own", func(t *testing.T) {
		closing := must(f.keys.Store.Generate(ctx, specOf("closing-1")))
		s, err := f.d.EnrollOwnService(ctx, "svc_closing", "signet closing", closing, nil)
		if err != nil || s.KeyID != closing.KeyID {
			t.Fatal(s, err)
		}
		by, err := f.identity("svc_closing")
		if err != nil || by.Key != "closing-1" {
			t.Errorf("%+v, %v", by, err)
		}
		for what, try := range map[string]func() error{
			"suspended": func() error { _, err := f.d.Suspend(ctx, admin, "svc_closing", "x"); return err },
			"revoked":   func() error { _, err := f.d.Revoke(ctx, admin, "svc_closing", "x", CauseOther); return err },
			"enrolled again": func() error {
				if _, err := f.d.EnrollOwnService(ctx, "svc_closing", "another", closing, nil); errors.Is(err, ErrNameTaken) {
					return ErrState
				}
				return nil
			},
		} {
			if err := try(); !errors.Is(err, ErrState) {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}

// TestSecretPrintsRedacted: however a secret is printed, it does not come out.
func TestSecretPrintsRedacted(t *testing.T) {
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", adaPass, "in", struct{ P Secret }{adaPass})
	for _, verb := range []string{"%v", "%s", "%q", "%#v", "%+v", "%x", "%d"} {
		fmt.Fprintf(&log, verb, adaPass)
		fmt.Fprintf(&log, verb, struct{ P Secret }{adaPass})
		fmt.Fprintf(&log, verb, []Secret{adaPass})
	}
	if s := log.String(); strings.Contains(s, adaPass.Reveal()) || strings.Contains(s, fmt.Sprintf("%x", adaPass.Reveal())) || !strings.Contains(s, redacted) {
		t.Error(s)
	}
}
