package notify_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
	"github.com/signetd/signet/server/internal/notify"
	"github.com/signetd/signet/server/servertest/inbox"
)

var start = time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC)

// fixture is a notifier on a real ledger, with a real mail server and a real receiver of webhooks.
type fixture struct {
	t       *testing.T
	clock   *ledgertest.Clock
	options ledger.Options
	ledger  *ledger.Ledger
	mail    *inbox.Mail
	hook    *inbox.Hook
	config  notify.Config
	n       *notify.Notifier
}

func newFixture(t *testing.T, change func(c *notify.Config)) *fixture {
	t.Helper()
	f := &fixture{t: t, clock: ledgertest.NewClock(start), mail: inbox.StartMail(t), hook: inbox.StartHook(t)}
	f.options = ledgertest.Options(t, notify.Projection())
	f.options.Clock = f.clock.Now
	f.options.CheckPrivate = func(r *ledger.Read) error {
		_, err := notify.CheckSomePrivate(r, "")
		return err
	}
	f.ledger = ledgertest.Open(t, f.options)
	f.config = notify.Config{
		Clock: f.clock.Now, Organisation: "Example Medical", Environment: "validation", Issuer: "https://sign.example",
		Repeat: 15 * time.Minute, EscalateAfter: time.Hour, Zone: zone(t, "Europe/Berlin"),
		Mail: &notify.Mail{
			Server: f.mail.Address, TLS: notify.TLSStart, Roots: pool(t, f.mail.Roots), User: inbox.User, From: "signet@sign.example",
			Password: func() ([]byte, error) { return []byte(inbox.Password + "\n"), nil },
			Security: []string{"security@example.com"}, Management: []string{"boss@example.com"}, Timeout: 5 * time.Second,
		},
		Webhooks: []notify.Webhook{{
			Name: "siem", URL: f.hook.URL, Roots: pool(t, f.hook.Roots), Audiences: []notify.Audience{notify.Security}, Timeout: 5 * time.Second,
			Secrets: func() ([]byte, error) { return []byte(f.hook.Secret), nil },
		}},
		ZoneOf: func(*ledger.Read, string) string { return "America/New_York" },
	}
	if change != nil {
		change(&f.config)
	}
	f.open()
	return f
}

func (f *fixture) open() {
	f.t.Helper()
	f.config.Ledger = f.ledger
	var err error
	if f.n, err = notify.New(f.config); err != nil {
		f.t.Fatal(err)
	}
}

// restart is a new process on the same file.
func (f *fixture) restart() {
	f.t.Helper()
	if err := f.ledger.Close(); err != nil {
		f.t.Fatal(err)
	}
	var err error
	if f.ledger, err = ledger.Open(f.t.Context(), f.options); err != nil {
		f.t.Fatal(err)
	}
	l := f.ledger
	f.t.Cleanup(func() { l.Close() })
	f.open()
}

func zone(t *testing.T, name string) *time.Location {
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func (f *fixture) pass() {
	f.t.Helper()
	if err := f.n.Pass(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) do(fn func(tx *ledger.Tx)) ledger.Result {
	f.t.Helper()
	r, err := f.ledger.Do(f.t.Context(), func(tx *ledger.Tx) error {
		fn(tx)
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// raise raises an alert to the security unit.
func (f *fixture) raise(subject string) notify.Status {
	f.t.Helper()
	r := f.do(func(tx *ledger.Tx) {
		at := tx.Emit(ledger.Event{Type: chain.SignerLocked, Actor: chain.Actor{ID: "lockout", Kind: chain.System}, Body: map[string]string{"id": subject}})
		notify.Raise(tx, notify.Alert{
			Kind: "signer.locked", Subject: subject, Entry: at, Audience: notify.Security,
			Summary: "A user name was locked after 5 wrong passwords in a row.",
		})
	})
	s, err := notify.At(f.ledger, r.First+1)
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// contact sets a signer's address as identity does.
func (f *fixture) contact(signer, email string) notify.Contact {
	f.t.Helper()
	c, err := notify.NewContact(email)
	if err != nil {
		f.t.Fatal(err)
	}
	f.do(func(tx *ledger.Tx) {
		c.Put(tx, signer)
		tx.Emit(ledger.Event{Type: chain.SignerChanged, Actor: chain.Actor{ID: signer, Kind: chain.Person}, Body: map[string]any{
			"changes": []map[string]string{{"field": notify.ContactField, "new": c.Commitment, "old": ""}}, "id": signer, "reason": "first address",
		}})
	})
	return c
}

// signs appends a signature of a person.
func (f *fixture) signs(signer string) notify.Status {
	f.t.Helper()
	r := f.do(func(tx *ledger.Tx) {
		tx.Emit(ledger.Event{Type: chain.SignatureCreated, Actor: chain.Actor{ID: signer, Kind: chain.Person}, Body: map[string]string{"signer": signer}})
	})
	s, err := notify.At(f.ledger, r.First)
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

func (f *fixture) get(id string) notify.Status {
	f.t.Helper()
	s, err := notify.Get(f.ledger, id)
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

func (f *fixture) deliveries(id string) []notify.Delivery {
	f.t.Helper()
	list, err := notify.Deliveries(f.ledger, id, 0, 1000)
	if err != nil {
		f.t.Fatal(err)
	}
	return list
}

func pool(t *testing.T, file string) (p *certPool) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p = newCertPool()
	if !p.AppendCertsFromPEM(b) {
		t.Fatal("no certificate")
	}
	return p
}

// An alert stands in the ledger with what it is about, and in the list.
func TestRaise(t *testing.T) {
	t.Attr("requirement", "11.300(d)")
	f := newFixture(t, nil)
	a := f.raise("sgn_a")
	if a.State != notify.Open || a.Kind != "signer.locked" || a.Subject != "sgn_a" || a.Entry != a.Index-1 || !a.Time.Equal(start) || !strings.HasPrefix(a.ID, "alr_1z") {
		t.Errorf("%+v", a)
	}
	t.Run("what is too long or no line is cut, and keeps nothing from happening", func(t *testing.T) {
		r := f.do(func(tx *ledger.Tx) {
			notify.Raise(tx, notify.Alert{Kind: "x.y", Summary: "one\ntwo\x00" + strings.Repeat("ä", 1000) + "\xff", Audience: notify.Security})
		})
		long, err := notify.At(f.ledger, r.First)
		if err != nil || len(long.Summary) > 500 || strings.ContainsAny(long.Summary, "\n\x00") || !utf8.ValidString(long.Summary) || !strings.HasPrefix(long.Summary, "one two ä") {
			t.Errorf("%q, %v", long.Summary, err)
		}
	})
	t.Run("lists", func(t *testing.T) {
		all, err := notify.List(f.ledger, 0, 10, false)
		if err != nil || len(all) != 2 || all[1].ID != a.ID {
			t.Fatalf("%+v, %v", all, err)
		}
		rest, err := notify.List(f.ledger, all[0].Index, 10, true)
		if err != nil || len(rest) != 1 || rest[0].ID != a.ID {
			t.Errorf("%+v, %v", rest, err)
		}
		for _, id := range []string{"", "alr_", "alr_1", a.ID + "0", "alr_1z0000000000000000", "alr_99zabc", "alr_18446744073709551616z1"} {
			if _, err := notify.Get(f.ledger, id); !errors.Is(err, notify.ErrNotFound) {
				t.Errorf("%q: %v", id, err)
			}
		}
	})
	t.Run("a wrong alert is refused", func(t *testing.T) {
		_, err := f.ledger.Do(t.Context(), func(tx *ledger.Tx) error {
			notify.Raise(tx, notify.Alert{Kind: "x.y", Audience: "everybody"})
			return nil
		})
		if err == nil {
			t.Error("it was appended")
		}
	})
}

// Who is told by whom: the acknowledgement ends repeats, and nobody gives it about themselves.
func TestAcknowledge(t *testing.T) {
	t.Attr("requirement", "11.300(d)")
	f := newFixture(t, nil)
	a := f.raise("sgn_a")
	officer := chain.Actor{ID: "sgn_o", Kind: chain.Person}
	for what, c := range map[string]struct {
		by     string
		id     string
		remark string
		want   error
	}{
		"about themselves": {"sgn_a", a.ID, "it was me", notify.ErrAboutThemselves},
		"no remark":        {"sgn_o", a.ID, " \n", notify.ErrRemark},
		"a long remark":    {"sgn_o", a.ID, strings.Repeat("x", notify.MaxRemark+1), notify.ErrRemark},
		"no text":          {"sgn_o", a.ID, "\xff", notify.ErrRemark},
		"no such alert":    {"sgn_o", "alr_7z00", "seen", notify.ErrNotFound},
		"news":             {"sgn_o", f.signs("sgn_b").ID, "seen", notify.ErrState},
	} {
		if _, err := notify.Acknowledge(t.Context(), f.ledger, chain.Actor{ID: c.by, Kind: chain.Person}, c.id, c.remark); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
	f.clock.Add(time.Minute)
	got, err := notify.Acknowledge(t.Context(), f.ledger, officer, a.ID, "called her: she had forgotten it")
	if err != nil || got.State != notify.Acknowledged || got.By != "sgn_o" || got.Remark == "" || !got.Acknowledged.Equal(start.Add(time.Minute)) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := notify.Acknowledge(t.Context(), f.ledger, officer, a.ID, "again"); !errors.Is(err, notify.ErrState) {
		t.Errorf("a second time: %v", err)
	}
	if open, err := notify.List(f.ledger, 0, 10, true); err != nil || len(open) != 0 {
		t.Errorf("%+v, %v", open, err)
	}
	f.pass()
	if n := len(f.mail.Letters()); n != 0 {
		t.Errorf("%d letters after the acknowledgement", n)
	}
}

// A source is new once for each person, whatever a process blinds it with.
func TestSeen(t *testing.T) {
	f := newFixture(t, nil)
	commitment := func(name string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(name))) }
	texts := map[string][]byte{}
	for name, text := range map[string]string{"a1": "desk", "a2": "desk", "b1": "phone", "b2": "phone"} {
		texts[commitment(name)] = []byte(text)
	}
	login := func(signer, source string) []chain.Type {
		r := f.do(func(tx *ledger.Tx) {
			by := chain.Actor{ID: signer, Kind: chain.Person, Method: "password", Source: commitment(source)}
			at := tx.Emit(ledger.Event{Type: chain.SessionOpened, Actor: by, Body: map[string]string{}})
			notify.Seen(tx, by, at, func(c string) []byte { return texts[c] })
		})
		var types []chain.Type
		f.ledger.Entries(context.Background(), r.First, r.End(), func(_ uint64, b []byte) error {
			e, err := chain.ParseEntry(b)
			types = append(types, e.Type)
			return err
		})
		return types
	}
	for i, c := range []struct {
		signer, source string
		news           bool
	}{
		{"sgn_a", "a1", false}, // the first one
		{"sgn_a", "a1", false},
		{"sgn_a", "a2", false}, // after a restart
		{"sgn_a", "b1", true},
		{"sgn_a", "b1", false},
		{"sgn_a", "b2", false},
		{"sgn_b", "b1", false}, // the first one of somebody else
		{"sgn_b", "a2", true},
		{"sgn_b", "gone", false}, // erased meanwhile
	} {
		want := []chain.Type{chain.SessionOpened}
		if c.news {
			want = append(want, chain.AlertRaised)
		}
		if got := login(c.signer, c.source); !slices.Equal(got, want) {
			t.Errorf("%d: %s from %s: %v, want %v", i, c.signer, c.source, got, want)
		}
	}
}
