package notify_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
	"github.com/signetd/signet/server/internal/notify"
	"github.com/signetd/signet/server/servertest/inbox"
)

type certPool = x509.CertPool

func newCertPool() *certPool { return x509.NewCertPool() }

// An alert reaches the security unit by mail and webhook, again and again until it is acknowledged, and management when it is not; each try is
// in the ledger.
func TestRepeatAndEscalate(t *testing.T) {
	t.Attr("requirement", "11.300(d)")
	f := newFixture(t, nil)
	a := f.raise("sgn_a")
	f.pass()
	f.pass() // nothing is due twice
	letters := f.mail.Letters()
	posts, wrong := f.hook.Posts()
	if len(letters) != 1 || len(posts) != 1 || len(wrong) != 0 {
		t.Fatalf("%d letters, %d posts, refused %v", len(letters), len(posts), wrong)
	}
	l := letters[0]
	if l.To != "security@example.com" || l.From != "signet@sign.example" || !l.TLS || l.Header.Get("Auto-Submitted") != "auto-generated" ||
		l.Subject != "[Signet validation] signer.locked: A user name was locked after 5 wrong passwords in a row." || !strings.HasPrefix(l.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("%+v", l)
	}
	for _, want := range []string{
		a.ID, "signers/sgn_a", "2026-11-21 10:30:00 +01:00 (Europe/Berlin), 2026-11-21 09:30:00 UTC", "signet alert acknowledge " + a.ID, "15m0s", "Entry     0",
	} {
		if !strings.Contains(l.Text, want) {
			t.Errorf("the text lacks %q:\n%s", want, l.Text)
		}
	}
	var p struct {
		Type, Timestamp string
		Data            map[string]any
	}
	if err := json.Unmarshal([]byte(posts[0].Body), &p); err != nil {
		t.Fatal(err)
	}
	if p.Type != "signer.locked" || p.Timestamp != "2026-11-21T09:30:00.000Z" || p.Data["alert"] != "alerts/"+a.ID || p.Data["subject"] != "signers/sgn_a" ||
		p.Data["audience"] != "security" || p.Data["state"] != "open" || !posts[0].Time.Equal(start) || posts[0].Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s at %s", posts[0].Body, posts[0].Time)
	}

	f.clock.Add(15*time.Minute - time.Second)
	f.pass()
	if n := len(f.mail.Letters()); n != 1 {
		t.Errorf("%d letters before it is to be repeated", n)
	}
	f.clock.Add(time.Second)
	f.restart()
	f.pass()
	posts, _ = f.hook.Posts()
	if n := len(f.mail.Letters()); n != 2 || len(posts) != 2 || posts[1].ID == posts[0].ID {
		t.Fatalf("%d letters, %d posts; a repeat is a message of its own", n, len(posts))
	}
	if s := f.get(a.ID); s.State != notify.Open {
		t.Errorf("%+v", s)
	}
	for range 3 {
		f.clock.Add(15 * time.Minute)
		f.pass()
	}
	s := f.get(a.ID)
	if s.State != notify.Escalated || !s.Escalated.Equal(start.Add(time.Hour)) {
		t.Errorf("%+v", s)
	}
	letters = f.mail.Letters()
	boss := letters[len(letters)-1]
	if boss.To != "boss@example.com" || !strings.Contains(boss.Subject, "Escalated: signer.locked") || !strings.Contains(boss.Text, "has not acknowledged this in 1h0m0s") {
		t.Errorf("%+v", boss)
	}
	if n := len(letters); n != 6 { // five to the security unit, one to management
		t.Errorf("%d letters", n)
	}
	if _, err := notify.Acknowledge(t.Context(), f.ledger, chain.Actor{ID: "sgn_o", Kind: chain.Person}, a.ID, "seen"); err != nil {
		t.Fatal(err)
	}
	f.clock.Add(24 * time.Hour)
	f.pass()
	if n := len(f.mail.Letters()); n != 6 {
		t.Errorf("%d letters: it is repeated after the acknowledgement", n)
	}

	list := f.deliveries(a.ID)
	count := map[string]int{}
	for _, d := range list {
		key := d.Channel + " " + string(d.Audience)
		if count[key]++; !d.Delivered || d.Attempt != count[key] || d.Time.IsZero() || strings.Contains(d.Outcome, "@") {
			t.Errorf("%+v", d)
		}
	}
	if fmt.Sprint(count) != "map[mail management:1 mail security:5 webhook/siem security:5]" {
		t.Errorf("%v", count)
	}
}

// A signer hears once of each use of their signature, at their address, in their zone; what was signed in the meantime is in the same letter.
func TestSignatureUsed(t *testing.T) {
	f := newFixture(t, nil)
	f.contact("sgn_a", "ada@example.com")
	first := f.signs("sgn_a")
	f.do(func(tx *ledger.Tx) { // a machine's seal is no news
		tx.Emit(ledger.Event{Type: chain.SignatureCreated, Actor: chain.Actor{ID: "svc_ci", Kind: chain.Service}, Body: map[string]string{}})
	})
	f.pass()
	f.pass()
	letters := f.mail.Letters()
	if len(letters) != 1 || letters[0].To != "ada@example.com" || letters[0].Subject != "[Signet validation] Your electronic signature was used" ||
		!strings.Contains(letters[0].Text, "2026-11-21 04:30:00 -05:00 (America/New_York), 2026-11-21 09:30:00 UTC") || !strings.Contains(letters[0].Text, "If it was not, tell") {
		t.Fatalf("%+v", letters)
	}
	if s := f.get(first.ID); s.State != notify.Information || s.Undelivered != "" || s.Summary == "" {
		t.Errorf("%+v", s)
	}
	for range 60 {
		f.signs("sgn_a")
	}
	before := f.ledger.Size()
	f.pass()
	letters = f.mail.Letters()
	if len(letters) != 2 || f.ledger.Size() != before+1 || !strings.Contains(letters[1].Text, "10 more happened") || letters[1].Subject != "[Signet validation] 60 news about your electronic signature" {
		t.Errorf("%d letters, %d entries: one letter and one entry are enough", len(letters), f.ledger.Size()-before)
	}
	f.clock.Add(240 * time.Hour)
	f.pass()
	if n := len(f.mail.Letters()); n != 2 {
		t.Errorf("%d letters: news are not repeated", n)
	}

	t.Run("without a contact it is recorded as undeliverable, and costs no entry", func(t *testing.T) {
		size := f.ledger.Size()
		s := f.signs("sgn_b")
		f.pass()
		if s.Undelivered != "no contact is set" || f.ledger.Size() != size+1 {
			t.Errorf("%+v, %d entries", s, f.ledger.Size()-size)
		}
	})
	t.Run("a contact that was erased meanwhile", func(t *testing.T) {
		c := f.contact("sgn_c", "cleo@example.com")
		s := f.signs("sgn_c")
		f.do(func(tx *ledger.Tx) {
			notify.EraseContact(tx, "sgn_c", c.Commitment)
			tx.Emit(ledger.Event{Type: chain.SignerChanged, Actor: chain.Actor{ID: "sgn_c", Kind: chain.Person}, Body: map[string]any{
				"changes": []map[string]string{{"field": notify.ContactField, "new": "", "old": c.Commitment}}, "id": "sgn_c", "reason": "gone",
			}})
		})
		f.pass()
		if s = f.get(s.ID); s.Undelivered != "no contact is set" || len(f.deliveries(s.ID)) != 1 {
			t.Errorf("%+v", s)
		}
		if got := f.signs("sgn_c"); got.Undelivered == "" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("an address that was changed behind the ledger's back gets nothing", func(t *testing.T) {
		c := f.contact("sgn_d", "dora@example.com")
		s := f.signs("sgn_d")
		f.do(func(tx *ledger.Tx) {
			tx.PutPrivate("notify.contacts", []byte("sgn_d/"+c.Commitment), []byte(strings.Repeat("x", 32)+`{"email":"mallory@example.com"}`))
			tx.Emit(ledger.Event{Type: chain.SignerLocked, Actor: chain.Actor{ID: "x", Kind: chain.System}, Body: map[string]string{}})
		})
		f.pass()
		if s = f.get(s.ID); !strings.Contains(s.Undelivered, "ledger check") {
			t.Errorf("%+v", s)
		}
		if err := f.ledger.View(func(r *ledger.Read) error { _, err := notify.CheckSomePrivate(r, ""); return err }); !errors.Is(err, notify.ErrContactTampered) {
			t.Errorf("the check says %v", err)
		}
		f.contact("sgn_d", "dora@example.com") // and tidy up for the check at the end
		f.do(func(tx *ledger.Tx) {
			notify.EraseContact(tx, "sgn_d", c.Commitment)
			tx.Emit(ledger.Event{Type: chain.SignerLocked, Actor: chain.Actor{ID: "x", Kind: chain.System}, Body: map[string]string{}})
		})
	})
	t.Run("without a mail server it is recorded, too", func(t *testing.T) {
		f := newFixture(t, func(c *notify.Config) { c.Mail = nil })
		f.contact("sgn_a", "ada@example.com")
		s := f.signs("sgn_a")
		f.pass()
		if s = f.get(s.ID); s.Undelivered != "no mail server is configured" {
			t.Errorf("%+v", s)
		}
		size := f.ledger.Size()
		f.pass()
		if f.ledger.Size() != size {
			t.Error("it is recorded twice")
		}
	})
}

// What is done to credentials is told to their owner, whoever does it; the program's own upkeep is not.
func TestCredentialChanged(t *testing.T) {
	f := newFixture(t, nil)
	f.contact("sgn_a", "ada@example.com")
	ada, admin, system := chain.Actor{ID: "sgn_a", Kind: chain.Person}, chain.Actor{ID: "sgn_x", Kind: chain.Person}, chain.Actor{ID: "passwords", Kind: chain.System}
	for _, c := range []struct {
		typ  chain.Type
		by   chain.Actor
		body map[string]string
		want string
	}{
		{chain.SignerCredential, ada, map[string]string{"id": "sgn_a", "kind": "password", "commitment": "c"}, "Your password was changed."},
		{chain.SignerCredential, admin, map[string]string{"id": "sgn_a", "kind": "password", "commitment": ""}, "Your password was revoked."},
		{chain.SignerCredential, ada, map[string]string{"id": "sgn_a", "kind": "totp", "commitment": "c"}, "One-time passwords were set up for you."},
		{chain.SignerCredential, admin, map[string]string{"id": "sgn_a", "kind": "totp", "commitment": ""}, "Your one-time passwords were removed."},
		{chain.SignerInvited, admin, map[string]string{"id": "sgn_a", "code": "c"}, "An administrator has issued a one-time code"},
		{chain.SignerRenewed, ada, map[string]string{"id": "sgn_a"}, "Your password or key was set anew."},
		{chain.SignerCredential, system, map[string]string{"id": "sgn_a", "kind": "password-verifier", "commitment": "c"}, ""},
		{chain.SignerCredential, system, map[string]string{"id": "", "kind": "user-names", "commitment": "c"}, ""},
		{chain.SignerInvited, admin, map[string]string{"id": "sgn_b", "code": "c"}, ""},
	} {
		before := len(f.mail.Letters())
		f.do(func(tx *ledger.Tx) { tx.Emit(ledger.Event{Type: c.typ, Actor: c.by, Body: c.body}) })
		f.pass()
		letters := f.mail.Letters()[before:]
		switch {
		case c.want == "" && len(letters) != 0:
			t.Errorf("%s %v: a letter %s", c.typ, c.body, letters[0].Text)
		case c.want != "" && (len(letters) != 1 || !strings.HasPrefix(letters[0].Text, c.want) || !strings.Contains(letters[0].Subject, "Your credentials were changed")):
			t.Errorf("%s %v: %+v", c.typ, c.body, letters)
		}
	}
}

// A mail server that is gone, refuses, or has lost its certificate: what waits is delivered once it is back, and the ledger does not fill.
func TestOutage(t *testing.T) {
	t.Attr("requirement", "11.300(d)")
	f := newFixture(t, nil)
	f.contact("sgn_a", "ada@example.com")
	f.mail.Stop()
	a := f.raise("sgn_b")
	for range 100 {
		f.signs("sgn_a")
	}
	size := f.ledger.Size()
	for range 600 { // ten minutes, looked at each second
		f.pass()
		f.clock.Add(time.Second)
	}
	if grown := f.ledger.Size() - size; grown > 14 { // 1, 2, 4, … s to 5 min, and the webhook's two
		t.Errorf("%d entries in ten minutes of an outage", grown)
	}
	list := f.deliveries(a.ID)
	if first := list[0]; first.Delivered && list[1].Delivered {
		t.Errorf("%+v", list)
	}
	figures, err := f.n.Figures()
	if err != nil || figures.Open != 1 || figures.News != 100 || figures.Channels[0].Up || figures.Channels[0].Failed == 0 || !figures.Channels[1].Up {
		t.Errorf("%+v, %v", figures, err)
	}
	f.mail.Start(t)
	f.clock.Add(5 * time.Minute)
	f.pass() // one finds out
	f.pass() // and the rest follows
	letters := f.mail.Letters()
	if len(letters) != 2 || letters[0].To != "security@example.com" || letters[1].To != "ada@example.com" || !strings.Contains(letters[1].Subject, "100 news") {
		t.Errorf("%d letters after the outage", len(letters))
	}
	if figures, err = f.n.Figures(); err != nil || figures.News != 0 || !figures.Channels[0].Up || figures.Undelivered != 0 {
		t.Errorf("%+v, %v", figures, err)
	}
}

// However long the mail server is away, news are not given up.
func TestLongOutage(t *testing.T) {
	f := newFixture(t, func(c *notify.Config) { c.Webhooks = nil })
	f.contact("sgn_a", "ada@example.com")
	f.mail.Stop()
	s := f.signs("sgn_a")
	for range 16 { // four days
		f.pass()
		f.clock.Add(6 * time.Hour)
	}
	f.mail.Start(t)
	f.pass()
	if n := len(f.mail.Letters()); n != 1 || f.get(s.ID).Undelivered != "" {
		t.Errorf("%d letters after four days: %+v", n, f.get(s.ID))
	}
}

// What a recipient's server refuses is tried again with growing pauses, keeps nothing from others, and no address gets into the ledger.
func TestRefused(t *testing.T) {
	f := newFixture(t, func(c *notify.Config) { c.Mail.Security = []string{"gone@example.com", "security@example.com"} })
	f.contact("sgn_a", "ada@example.com")
	f.contact("sgn_b", "bob@example.com")
	f.mail.Refuse("gone@example.com", 550)
	f.mail.Refuse("ada@example.com", 451)
	a := f.raise("sgn_x")
	ada, bob := f.signs("sgn_a"), f.signs("sgn_b")
	f.pass()
	if d := f.deliveries(a.ID)[0]; !d.Delivered || !strings.Contains(d.Outcome, "for 1 of 2 addresses; the mail server refused it: 550 5.1.1") {
		t.Errorf("%+v", d)
	}
	if d := f.deliveries(bob.ID); len(d) != 1 || !d[0].Delivered {
		t.Errorf("%+v", d)
	}
	if d := f.deliveries(ada.ID); len(d) != 1 || d[0].Delivered || d[0].Outcome != "the mail server refused it: 451 4.1.1" {
		t.Errorf("%+v", d)
	}
	for range 60 {
		f.clock.Add(time.Second)
		f.pass()
	}
	if d := f.deliveries(ada.ID); len(d) != 4 { // after 5, 15 and 35 s
		t.Errorf("%d tries in a minute", len(d))
	}
	f.mail.Refuse("ada@example.com", 0)
	f.clock.Add(time.Minute)
	f.pass()
	if s, d := f.get(ada.ID), f.deliveries(ada.ID); s.Undelivered != "" || !d[len(d)-1].Delivered || d[len(d)-1].Attempt != 5 {
		t.Errorf("%+v, %+v", s, d)
	}
	t.Run("a recipient at whom the server hangs up keeps nothing from the others", func(t *testing.T) {
		f.mail.Refuse("ada@example.com", 421)
		poison := f.signs("sgn_a")
		f.clock.Add(time.Second)
		after := f.signs("sgn_b")
		for range 60 {
			f.pass()
			f.clock.Add(time.Second)
		}
		if d := f.deliveries(after.ID); len(d) != 1 || !d[0].Delivered {
			t.Errorf("%+v", d)
		}
		if d := f.deliveries(poison.ID); len(d) < 2 || len(d) > 6 || d[0].Delivered {
			t.Errorf("%+v", d)
		}
		f.mail.Refuse("ada@example.com", 0)
		f.clock.Add(time.Hour)
		f.pass()
	})
	t.Run("an address that nobody has is given up at once", func(t *testing.T) {
		f.mail.Refuse("bob@example.com", 550)
		s := f.signs("sgn_b")
		for range 10 {
			f.pass()
			f.clock.Add(time.Hour)
		}
		if d := f.deliveries(s.ID); len(d) != 1 || f.get(s.ID).Undelivered != "the mail server refused it: 550 5.1.1" {
			t.Errorf("%+v", d)
		}
	})
	t.Run("what is refused for three days is given up", func(t *testing.T) {
		f.mail.Refuse("ada@example.com", 451)
		s := f.signs("sgn_a")
		for range 96 {
			f.pass()
			f.clock.Add(time.Hour)
		}
		d := f.deliveries(s.ID)
		if len(d) > 40 || f.get(s.ID).Undelivered == "" || d[len(d)-1].Time.Sub(s.Time) < 72*time.Hour {
			t.Errorf("%d tries, the last after %s", len(d), d[len(d)-1].Time.Sub(s.Time))
		}
	})
	err := f.ledger.Entries(t.Context(), 0, f.ledger.Size(), func(i uint64, b []byte) error {
		if strings.Contains(string(b), "@example.com") {
			t.Errorf("entry %d has an address: %s", i, b)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What a receiver of webhooks can do: answer badly, redirect, and lose its secret. No part of its address gets into the ledger.
func TestWebhook(t *testing.T) {
	secret := ""
	f := newFixture(t, func(c *notify.Config) {
		c.Mail = nil
		c.Webhooks[0].Secrets = func() ([]byte, error) { return []byte(secret), nil }
	})
	secret = f.hook.Secret
	a := f.raise("sgn_a")
	other := inbox.StartHook(t)
	for _, c := range []struct {
		status   int
		redirect string
		outcome  string
	}{{500, "", "HTTP 500"}, {302, other.URL, "HTTP 302"}, {410, "", "HTTP 410"}, {400, "", "HTTP 400"}, {204, "", "HTTP 204"}} {
		f.hook.Answer(c.status, c.redirect)
		f.pass()
		list := f.deliveries(a.ID)
		if d := list[len(list)-1]; d.Outcome != c.outcome || d.Delivered != (c.status == 204) {
			t.Errorf("%+v, want %s", d, c.outcome)
		}
		f.clock.Add(time.Minute)
	}
	posts, _ := f.hook.Posts()
	if len(posts) != 5 {
		t.Fatalf("%d posts", len(posts))
	}
	for _, p := range posts {
		if p.ID != posts[0].ID {
			t.Errorf("a try has the id %s, and another one %s: the receiver cannot tell that they are one", p.ID, posts[0].ID)
		}
	}
	if p, _ := other.Posts(); len(p) != 0 {
		t.Error("it followed a redirect")
	}
	t.Run("an alert that the receiver always fails at keeps nothing from the others", func(t *testing.T) {
		f := newFixture(t, func(c *notify.Config) { c.Mail = nil })
		poison := f.raise("sgn_poison")
		f.hook.FailAt("sgn_poison")
		others := []notify.Status{f.raise("sgn_b"), f.raise("sgn_c")}
		for range 60 {
			f.pass()
			f.clock.Add(time.Second)
		}
		for _, o := range others {
			if d := f.deliveries(o.ID); len(d) != 1 || !d[0].Delivered {
				t.Errorf("%+v", d)
			}
		}
		if d := f.deliveries(poison.ID); len(d) < 2 || len(d) > 6 || d[0].Delivered || d[0].Outcome != "HTTP 500" {
			t.Errorf("%+v", d)
		}
	})
	t.Run("two secrets at the same time", func(t *testing.T) {
		secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqr\n" + f.hook.Secret + "\n"
		f.clock.Add(15 * time.Minute)
		f.pass()
		if _, wrong := f.hook.Posts(); len(wrong) != 0 {
			t.Errorf("%v", wrong)
		}
	})
	t.Run("a wrong secret", func(t *testing.T) {
		secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqr"
		f.clock.Add(15 * time.Minute)
		f.pass()
		list := f.deliveries(a.ID)
		if d := list[len(list)-1]; d.Outcome != "HTTP 401" || d.Delivered {
			t.Errorf("%+v", d)
		}
	})
	t.Run("no secret", func(t *testing.T) {
		for _, text := range []string{"", "whsec_", "whsec_YWJj", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_%%%"} {
			if _, err := notify.ParseSecrets([]byte(text)); err == nil {
				t.Errorf("%q is taken", text)
			}
		}
	})
	err := f.ledger.Entries(t.Context(), 0, f.ledger.Size(), func(i uint64, b []byte) error {
		if strings.Contains(string(b), "token=") || strings.Contains(string(b), "whsec") {
			t.Errorf("entry %d has a secret: %s", i, b)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The ways of TLS, and what is not one.
func TestMailTLS(t *testing.T) {
	try := func(t *testing.T, change func(f *fixture, m *notify.Mail)) notify.Delivery {
		f := newFixture(t, nil)
		change(f, f.config.Mail)
		f.open()
		a := f.raise("sgn_a")
		f.pass()
		for _, d := range f.deliveries(a.ID) {
			if d.Channel == "mail" {
				return d
			}
		}
		t.Fatal("nothing was recorded")
		return notify.Delivery{}
	}
	t.Run("implicit", func(t *testing.T) {
		m := inbox.StartImplicit(t)
		if d := try(t, func(_ *fixture, c *notify.Mail) {
			c.Server, c.TLS, c.Roots = m.Address, notify.TLSImplicit, pool(t, m.Roots)
		}); !d.Delivered || !m.Letters()[0].TLS {
			t.Errorf("%+v", d)
		}
	})
	t.Run("a relay on the same machine", func(t *testing.T) {
		m := inbox.StartPlain(t)
		if d := try(t, func(_ *fixture, c *notify.Mail) { c.Server, c.TLS, c.User = m.Address, notify.TLSNone, "" }); !d.Delivered {
			t.Errorf("%+v", d)
		}
	})
	t.Run("a server without STARTTLS gets nothing", func(t *testing.T) {
		m := inbox.StartPlain(t)
		if d := try(t, func(_ *fixture, c *notify.Mail) { c.Server = m.Address }); d.Delivered || len(m.Letters()) != 0 {
			t.Errorf("%+v", d)
		} else {
			t.Log(d.Outcome)
		}
	})
	t.Run("a certificate of somebody else", func(t *testing.T) {
		if d := try(t, func(f *fixture, c *notify.Mail) { c.Roots = pool(t, f.hook.Roots) }); d.Delivered || !strings.Contains(d.Outcome, "not trusted") {
			t.Errorf("%+v", d)
		}
	})
	t.Run("a wrong password", func(t *testing.T) {
		d := try(t, func(_ *fixture, c *notify.Mail) {
			c.Password = func() ([]byte, error) { return []byte("another"), nil }
		})
		if d.Delivered || !strings.Contains(d.Outcome, "refused the user") {
			t.Errorf("%+v", d)
		}
	})
	t.Run("a password that cannot be read", func(t *testing.T) {
		d := try(t, func(_ *fixture, c *notify.Mail) {
			c.Password = func() ([]byte, error) { return nil, errors.New("no such file") }
		})
		if d.Delivered || !strings.Contains(d.Outcome, "no such file") {
			t.Errorf("%+v", d)
		}
	})
	t.Run("what is refused at the start", func(t *testing.T) {
		f := newFixture(t, nil)
		for what, change := range map[string]func(m *notify.Mail){
			"plain to another machine": func(m *notify.Mail) { m.Server, m.TLS, m.User = "mail.example:25", notify.TLSNone, "" },
			"a password in the clear":  func(m *notify.Mail) { m.TLS = notify.TLSNone },
			"no port":                  func(m *notify.Mail) { m.Server = "mail.example" },
			"no address":               func(m *notify.Mail) { m.Security = []string{"security"} },
			"a header":                 func(m *notify.Mail) { m.From = "a@example.com\r\nBcc: b@example.com" },
		} {
			m := *f.config.Mail
			c := f.config
			c.Mail = &m
			if change(&m); func() error { _, err := notify.New(c); return err }() == nil {
				t.Errorf("%s is taken", what)
			}
		}
		for _, url := range []string{"http://siem.example/hook", "https://user:pass@siem.example/", "ftp://siem.example", "https://"} {
			c := f.config
			c.Webhooks = []notify.Webhook{c.Webhooks[0]}
			c.Webhooks[0].URL = url
			if _, err := notify.New(c); err == nil {
				t.Errorf("%s is taken", url)
			}
		}
	})
}

// One letter for a burst of alerts, however many there are.
func TestBurst(t *testing.T) {
	f := newFixture(t, func(c *notify.Config) { c.Webhooks = nil })
	for range 30 {
		f.do(func(tx *ledger.Tx) {
			for range 40 {
				notify.Raise(tx, notify.Alert{Kind: "source.locked", Summary: "An address was locked.", Audience: notify.Security})
			}
		})
	}
	size := f.ledger.Size()
	f.pass()
	letters := f.mail.Letters()
	if len(letters) != 3 || f.ledger.Size()-size != 3 || !strings.Contains(letters[0].Subject, "500 alerts") || !strings.Contains(letters[2].Subject, "200 alerts") || len(letters[0].Raw) > 20_000 {
		t.Errorf("%d letters, %d entries", len(letters), f.ledger.Size()-size)
	}
}

// The process dies after a message was sent and before that was recorded: it is sent again, with the same id. While nothing can be recorded, the
// mailbox is not flooded.
func TestSentAndNotRecorded(t *testing.T) {
	t.Attr("requirement", "11.300(d)")
	var f *fixture
	die := false
	f = newFixture(t, func(c *notify.Config) {
		c.Mail = nil
		secrets := c.Webhooks[0].Secrets
		c.Webhooks[0].Secrets = func() ([]byte, error) {
			if die {
				f.ledger.Close()
			}
			return secrets()
		}
	})
	a := f.raise("sgn_a")
	die = true
	if err := f.n.Pass(t.Context()); !errors.Is(err, ledger.ErrClosed) {
		t.Fatalf("%v", err)
	}
	for range 30 { // within a second
		_ = f.n.Pass(t.Context())
	}
	posts, _ := f.hook.Posts()
	if len(posts) != 1 {
		t.Fatalf("%d posts while nothing can be recorded", len(posts))
	}
	die = false
	f.restart()
	f.pass()
	posts, _ = f.hook.Posts()
	if len(posts) != 2 || posts[0].ID != posts[1].ID || posts[0].Body != posts[1].Body {
		t.Errorf("%+v", posts)
	}
	if d := f.deliveries(a.ID); len(d) != 1 || !d[0].Delivered {
		t.Errorf("%+v", d)
	}
}

// While nothing can be written, what was sent is not sent again and again.
func TestSentWhileNothingIsWritten(t *testing.T) {
	t.Attr("requirement", "11.300(d)")
	f := newFixture(t, func(c *notify.Config) { c.Mail = nil })
	a := f.raise("sgn_a")
	var refuse atomic.Bool
	f.options.ClockDoubt = func() error {
		if refuse.Load() {
			return errors.New("nobody vouches for it")
		}
		return nil
	}
	f.restart()
	refuse.Store(true)
	if err := f.n.Pass(t.Context()); !errors.Is(err, ledger.ErrClockAhead) {
		t.Fatalf("%v", err)
	}
	for range 30 { // within a second
		_ = f.n.Pass(t.Context())
	}
	if posts, _ := f.hook.Posts(); len(posts) != 1 {
		t.Fatalf("%d posts while nothing can be written", len(posts))
	}
	refuse.Store(false)
	f.clock.Add(time.Minute)
	f.pass()
	posts, _ := f.hook.Posts()
	if len(posts) != 2 || posts[0].ID != posts[1].ID {
		t.Errorf("%+v", posts)
	}
	if d := f.deliveries(a.ID); len(d) != 1 || !d[0].Delivered {
		t.Errorf("%+v", d)
	}
}

// What was begun when the service stops is recorded all the same.
func TestStoppedWhileItSends(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	f := newFixture(t, func(c *notify.Config) {
		c.Mail = nil
		secrets := c.Webhooks[0].Secrets
		c.Webhooks[0].Secrets = func() ([]byte, error) {
			stop()
			return secrets()
		}
	})
	a := f.raise("sgn_a")
	_ = f.n.Pass(ctx)
	if d := f.deliveries(a.ID); len(d) != 1 {
		t.Errorf("%d deliveries are recorded, want 1", len(d))
	}
}

// A test of the channels reaches management once; an address that was given up is erased with the last news that needed it; and of a machine's
// signatures nobody is told.
func TestWhatIsNotRepeated(t *testing.T) {
	f := newFixture(t, func(c *notify.Config) { c.Webhooks = nil })
	raise := func(a notify.Alert) {
		f.do(func(tx *ledger.Tx) {
			a.Entry = tx.Emit(ledger.Event{Type: chain.SignerLocked, Actor: chain.Actor{ID: "x", Kind: chain.System}, Body: map[string]string{}})
			notify.Raise(tx, a)
		})
	}
	to := func() map[string]int {
		n := map[string]int{}
		for _, l := range f.mail.Letters() {
			n[l.To]++
		}
		return n
	}
	raise(notify.Alert{Kind: notify.KindTest, Summary: "A test.", Audience: notify.Security})
	for range 3 {
		f.pass()
		f.clock.Add(15 * time.Minute)
	}
	if got := to(); got["boss@example.com"] != 1 || got["security@example.com"] != 3 {
		t.Errorf("letters of a test: %v", got)
	}
	old, next := f.contact("sgn_a", "old@example.com"), f.contact("sgn_a", "new@example.com")
	raise(notify.Alert{Kind: notify.KindCredentialChanged, Subject: "sgn_a", Contact: old.Commitment, Summary: "Your address was changed.", Audience: notify.Signer})
	f.pass()
	if got := to(); got["old@example.com"] != 1 || got["new@example.com"] != 0 {
		t.Errorf("letters of a changed address: %v", got)
	}
	err := f.ledger.View(func(r *ledger.Read) error {
		if r.GetPrivate("notify.contacts", []byte("sgn_a/"+old.Commitment)) != nil || r.GetPrivate("notify.contacts", []byte("sgn_a/"+next.Commitment)) == nil {
			t.Error("the old address is not the one that is erased")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	f.contact("svc_ci", "ci@example.com")
	r := f.do(func(tx *ledger.Tx) {
		tx.Emit(ledger.Event{Type: chain.SignatureCreated, Actor: chain.Actor{ID: "svc_ci", Kind: chain.Service}, Body: map[string]string{}})
	})
	if _, err := notify.At(f.ledger, r.First); !errors.Is(err, notify.ErrNotFound) {
		t.Errorf("news of a service's signature: %v", err)
	}
}

// FuzzAddress: what is taken for an address gets into no other header of a message, and into no other recipient.
func FuzzAddress(f *testing.F) {
	for _, s := range []string{"ada@example.com", "a@b\r\nBcc: c@d", "a@b,c@d", "<a@b>", "\"a b\"@c", "ä@example.com", "a@[127.0.0.1]", "a@b@c", "a@b (c)", " a@b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if notify.CheckAddress(s) != nil {
			return
		}
		if strings.ContainsAny(s, "\r\n\t ,;<>\"\x00") || strings.Count(s, "@") < 1 || len(s) > 254 {
			t.Errorf("%q is taken", s)
		}
	})
}

// FuzzSecrets: a file of secrets that is taken has 1 to 4 of them, of 24 to 64 bytes.
func FuzzSecrets(f *testing.F) {
	for _, s := range []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqr\n", "whsec_", "", "\n\n", "whsec_AAAA"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		secrets, err := notify.ParseSecrets(b)
		if err != nil {
			return
		}
		if len(secrets) < 1 || len(secrets) > 4 {
			t.Errorf("%d secrets", len(secrets))
		}
		for _, s := range secrets {
			if len(s) < 24 || len(s) > 64 {
				t.Errorf("a secret of %d bytes", len(s))
			}
		}
	})
}

// BenchmarkManyOpen: a look at 10,000 alerts that nobody has acknowledged, none of which is due.
func BenchmarkManyOpen(b *testing.B) {
	l := ledgertest.New(b, notify.Projection())
	for range 100 {
		_, err := l.Do(b.Context(), func(tx *ledger.Tx) error {
			for range 100 {
				notify.Raise(tx, notify.Alert{Kind: "source.locked", Summary: "An address was locked.", Audience: notify.Security})
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	n, err := notify.New(notify.Config{Ledger: l, Clock: time.Now, Repeat: time.Hour, EscalateAfter: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := n.Figures(); err != nil {
			b.Fatal(err)
		}
	}
}
