package identity

import (
	"crypto/sha256"
	"encoding/json/v2"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/passkey"
	"github.com/signetd/signet/api/passkey/passkeytest"
	"github.com/signetd/signet/server/internal/notify"
)

const testEvery = 90 * 24 * time.Hour

// testedFixture has two administrators with passkeys, and Ada with one that both have vouched for.
type testedFixture struct {
	*fixture
	admins  [2]Caller
	devices [2]*passkeytest.Authenticator
	ada     Caller
	signer  Signer
	device  *passkeytest.Authenticator
	passkey Passkey
}

func newTestedFixture(t *testing.T) *testedFixture {
	f := &testedFixture{fixture: passkeyFixture(t)}
	f.config.TestEvery = testEvery
	f.open()
	f.admins, f.devices = f.twoAdministrators()
	f.signer = f.enrol(f.admins[0], "ada", "Ada Lovelace", adaPass, RoleSigner)
	f.ada = f.login("ada", adaPass)
	f.device, f.passkey = f.fixture.passkey(f.ada, "ada", adaPass, passkeytest.ES256)
	for i := range f.admins {
		if _, err := f.vouch(f.admins[i], f.passkey, f.devices[i]); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// later is after a time, with everybody logged in anew.
func (f *testedFixture) later(d time.Duration) {
	f.t.Helper()
	f.clock.Add(d)
	f.ada = f.login("ada", adaPass)
	f.admins[0], f.admins[1] = f.login("root", adminPass), f.login("grace", gracePass)
}

// last is when each of a signer's credentials was last tested.
func (f *testedFixture) last(signer string) map[TestKind]time.Time {
	f.t.Helper()
	all, err := f.d.CredentialTests(f.t.Context(), signer)
	if err != nil {
		f.t.Fatal(err)
	}
	out := map[TestKind]time.Time{}
	for _, c := range all {
		out[c.Kind] = c.Last
	}
	return out
}

// answer has a device answer a test of Ada's passkey.
func (f *testedFixture) answer(d *passkeytest.Authenticator) *passkey.Assertion {
	f.t.Helper()
	options, _, err := f.d.StartPasskeyTest(f.t.Context(), f.ada, f.passkey.ID)
	if err != nil {
		f.t.Fatal(err)
	}
	var o struct {
		Challenge        passkey.Base64URL `json:"challenge"`
		AllowCredentials []struct {
			ID passkey.Base64URL `json:"id"`
		} `json:"allowCredentials"`
	}
	if err := json.Unmarshal(options, &o); err != nil || len(o.Challenge) != sha256.Size || len(o.AllowCredentials) != 1 {
		f.t.Fatalf("%s: %v", options, err)
	}
	a, err := d.Assert([32]byte(o.Challenge))
	if err != nil {
		f.t.Fatal(err)
	}
	return &a
}

// Each proof that is right is a test of what it was proved with, and nothing else is.
func TestWhatTestsACredential(t *testing.T) {
	t.Attr("requirement", "11.300(e)")
	f := newTestedFixture(t)
	began := f.clock.Now()
	if got := f.last(f.signer.ID); len(got) != 2 || !got[TestedPassword].Equal(got[TestedPasskey]) {
		t.Fatalf("after the registration: %v", got)
	}

	f.later(time.Hour)
	now := f.clock.Now()
	if got := f.last(f.signer.ID); !got[TestedPassword].Equal(now) || got[TestedPasskey].After(began) {
		t.Errorf("after a login with the password: %v", got)
	}
	f.clock.Add(time.Minute)
	if _, _, _, err := f.d.Login(t.Context(), Source{Address: "192.0.2.9"}, Proof{UserName: "ada", Password: wrongPass}); !errors.Is(err, ErrBadCredentials) {
		t.Fatal(err)
	}
	if got := f.last(f.signer.ID); !got[TestedPassword].Equal(now) {
		t.Errorf("after a wrong password: %v", got)
	}

	f.clock.Add(time.Minute)
	second, q := f.fixture.passkey(f.ada, "ada", adaPass, passkeytest.RS256)
	if _, err := f.vouch(f.ada, q, f.device); err != nil {
		t.Fatal(err)
	}
	all, err := f.d.CredentialTests(t.Context(), f.signer.ID)
	if err != nil || len(all) != 3 {
		t.Fatalf("%+v, %v", all, err)
	}
	for _, c := range all {
		if c.Kind == TestedPasskey && (!c.Last.Equal(f.clock.Now()) || c.Label != "my device" || !c.Due.Equal(c.Last.Add(testEvery)) || c.Overdue) {
			t.Errorf("after vouching: %+v", c)
		}
	}
	if _, err := f.d.RevokePasskey(t.Context(), f.ada, Proof{UserName: "ada", Password: adaPass}, q.Signer, q.ID, "lost"); err != nil {
		t.Fatal(err)
	}
	_ = second
	if got, err := f.d.CredentialTests(t.Context(), f.signer.ID); err != nil || len(got) != 2 {
		t.Errorf("after a passkey was revoked: %+v, %v", got, err)
	}

	at := f.clock.Now()
	f.clock.Add(time.Minute)
	types := f.appended(func() {
		got, err := f.d.FinishPasskeyTest(t.Context(), f.ada, f.passkey.ID, f.answer(f.device))
		if err != nil || got.Kind != TestedPasskey || !got.Last.Equal(f.clock.Now()) {
			t.Errorf("a test: %+v, %v", got, err)
		}
	})
	if !slices.Equal(types, []chain.Type{chain.CredentialTested}) {
		t.Errorf("a test: entries %q", types)
	}
	if got := f.last(f.signer.ID); !got[TestedPasskey].Equal(at.Add(time.Minute)) {
		t.Errorf("after a test: %v", got)
	}

	if _, err := f.d.Revoke(t.Context(), f.admins[0], f.signer.ID, "left", CauseLeft); err != nil {
		t.Fatal(err)
	}
	if got := f.last(f.signer.ID); len(got) != 0 {
		t.Errorf("after the signer was revoked: %v", got)
	}
}

// A passkey that was not used for too long proves nothing and vouches for nothing until its owner has tested it.
func TestOverduePasskey(t *testing.T) {
	t.Attr("requirement", "11.300(e)")
	f := newTestedFixture(t)
	sign := func() error {
		challenge := sha256.Sum256([]byte("a statement"))
		a, err := f.device.Assert(challenge)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.d.ProveSignature(t.Context(), f.ada, Proof{UserName: "ada", Password: adaPass, Passkey: &a}, "prp_1", manifest.AuthorizationPasswordPasskey, challenge)
		return err
	}
	f.later(testEvery - time.Minute)
	if err := sign(); err != nil {
		t.Fatalf("before it is overdue: %v", err)
	}
	f.later(time.Minute)
	if err := sign(); !errors.Is(err, ErrTestDue) || !strings.Contains(err.Error(), "Test it") {
		t.Errorf("overdue: %v", err)
	}
	second, q := f.fixture.passkey(f.ada, "ada", adaPass, passkeytest.ES256)
	if _, err := f.vouch(f.ada, q, f.device); !errors.Is(err, ErrTestDue) {
		t.Errorf("an overdue passkey of her own vouches: %v", err)
	}
	if _, err := f.vouch(f.admins[0], q, f.devices[0]); !errors.Is(err, ErrTestDue) {
		t.Errorf("an overdue passkey of an administrator vouches: %v", err)
	}
	if overdue, next, err := f.d.OverdueTests(t.Context(), 0, 10); err != nil || next != 0 || len(overdue) != 3 || !overdue[0].Overdue || overdue[0].Signer != f.signer.ID {
		t.Errorf("overdue are the passkeys of three, without the one that waits: %+v, %d, %v", overdue, next, err)
	}
	if first, next, err := f.d.OverdueTests(t.Context(), 0, 1); err != nil || len(first) != 1 || next == 0 {
		t.Errorf("a first page: %+v, %d, %v", first, next, err)
	} else if rest, end, err := f.d.OverdueTests(t.Context(), next, 10); err != nil || len(rest) != 2 || end != 0 || rest[0].Signer == first[0].Signer {
		t.Errorf("the second page: %+v, %d, %v", rest, end, err)
	}

	// What does not pass the test, with what follows.
	other := f.answer(second)
	types := f.appended(func() {
		if _, err := f.d.FinishPasskeyTest(t.Context(), f.ada, f.passkey.ID, other); !errors.Is(err, ErrBadCredentials) {
			t.Errorf("another passkey of hers: %v", err)
		}
	})
	if len(types) == 0 || types[0] != chain.AuthenticationFailed {
		t.Errorf("another passkey of hers: entries %q", types)
	}
	f.later(time.Hour)
	good := f.answer(f.device)
	again := f.answer(f.device)
	if _, err := f.d.FinishPasskeyTest(t.Context(), f.ada, f.passkey.ID, good); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("an answer to the test before: %v", err)
	}
	if _, err := f.d.FinishPasskeyTest(t.Context(), f.ada, f.passkey.ID, again); !errors.Is(err, ErrRegistrationLapsed) {
		t.Errorf("a challenge that was answered once: %v", err)
	}
	f.later(time.Hour)
	late := f.answer(f.device)
	f.clock.Add(f.config.Passkeys.Lifetime + 5*time.Minute)
	if _, err := f.d.FinishPasskeyTest(t.Context(), f.ada, f.passkey.ID, late); !errors.Is(err, ErrRegistrationLapsed) {
		t.Errorf("too late: %v", err)
	}
	if _, _, err := f.d.StartPasskeyTest(t.Context(), f.admins[0], f.passkey.ID); !errors.Is(err, ErrPasskeyAbsent) {
		t.Errorf("a test of somebody else's: %v", err)
	}
	if _, _, err := f.d.StartPasskeyTest(t.Context(), f.ada, q.ID); !errors.Is(err, ErrPasskeyState) {
		t.Errorf("a test of one that waits: %v", err)
	}
	if err := sign(); !errors.Is(err, ErrTestDue) {
		t.Errorf("after all that: %v", err)
	}

	if _, err := f.d.FinishPasskeyTest(t.Context(), f.ada, f.passkey.ID, f.answer(f.device)); err != nil {
		t.Fatal(err)
	}
	if err := sign(); err != nil {
		t.Errorf("after the test: %v", err)
	}
	if _, err := f.vouch(f.ada, q, f.device); err != nil {
		t.Errorf("after the test it vouches: %v", err)
	}
}

// The answer to a test is no signature, and a signature is no answer to a test.
func TestTestIsNothingElse(t *testing.T) {
	t.Attr("requirement", "11.300(e)")
	f := newTestedFixture(t)
	answer := f.answer(f.device)
	challenge := sha256.Sum256([]byte("a statement"))
	if _, err := f.d.ProveSignature(t.Context(), f.ada, Proof{UserName: "ada", Password: adaPass, Passkey: answer}, "prp_1", manifest.AuthorizationPasswordPasskey, challenge); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("an answer to a test signs: %v", err)
	}
	signature, err := f.device.Assert(challenge)
	if err != nil {
		t.Fatal(err)
	}
	f.later(time.Hour)
	f.answer(f.device)
	if _, err := f.d.FinishPasskeyTest(t.Context(), f.ada, f.passkey.ID, &signature); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("a signature passes a test: %v", err)
	}
}

// Owners are told before their passkey is overdue, the security unit of all that is: once a period each.
func TestTellOfUntested(t *testing.T) {
	t.Attr("requirement", "11.300(e)")
	f := newTestedFixture(t)
	type told struct {
		kinds []TestKind
		ids   []string
	}
	look := func() (out told, alerts map[notify.Audience]int) {
		t.Helper()
		size := f.ledger.Size()
		if err := f.d.TellOfUntested(t.Context()); err != nil {
			t.Fatal(err)
		}
		alerts = map[notify.Audience]int{}
		for _, e := range f.entries(size) {
			switch e.Type {
			case chain.CredentialUntested:
				body, err := readBody[credentialUntested](e)
				if err != nil {
					t.Fatal(err)
				}
				for _, u := range body.Credentials {
					out.kinds, out.ids = append(out.kinds, u.Kind), append(out.ids, u.ID)
				}
			case chain.AlertRaised:
				var body struct {
					Audience notify.Audience `json:"audience"`
				}
				if err := json.Unmarshal(e.Body, &body); err != nil {
					t.Fatal(err)
				}
				alerts[body.Audience]++
			}
		}
		return out, alerts
	}
	f.later(testEvery - testNotice - time.Hour)
	if got, _ := look(); len(got.ids) != 0 {
		t.Fatalf("too early: %+v", got)
	}
	f.later(time.Hour) // the passkeys of three
	if got, alerts := look(); len(got.ids) != 3 || slices.Contains(got.kinds, TestedPassword) || alerts[notify.Signer] != 3 || alerts[notify.Security] != 0 {
		t.Fatalf("before they are overdue: %+v, alerts %v", got, alerts)
	}
	if got, _ := look(); len(got.ids) != 0 {
		t.Fatalf("told twice: %+v", got)
	}
	f.later(testNotice)
	if got, alerts := look(); len(got.ids) != 3 || alerts[notify.Security] != 1 || alerts[notify.Signer] != 3 {
		t.Fatalf("overdue: %+v, alerts %v", got, alerts)
	}
	f.restart()
	f.admins[0] = f.login("root", adminPass)
	if got, _ := look(); len(got.ids) != 0 {
		t.Fatalf("told twice, after a restart: %+v", got)
	}

	// Whoever has not logged in for a period is named with the password, too; who was suspended is not.
	f.clock.Add(testEvery - time.Hour)
	f.admins[0] = f.login("root", adminPass)
	if _, err := f.d.Suspend(t.Context(), f.admins[0], f.admins[1].ID, "on leave"); err != nil {
		t.Fatal(err)
	}
	f.clock.Add(2 * time.Hour)
	got, alerts := look()
	if !slices.Contains(got.kinds, TestedPassword) || !slices.Contains(got.ids, f.signer.ID) || slices.Contains(got.ids, f.admins[1].ID) || alerts[notify.Security] != 1 {
		t.Errorf("after another period: %+v, alerts %v", got, alerts)
	}

	// The review says it.
	s, err := f.d.ReviewSnapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if text := s.Text(); !strings.Contains(text, "last tested") || !strings.Contains(text, "too long ago") {
		t.Errorf("the review:\n%s", text)
	}

	f.config.TestEvery = 0
	f.open()
	f.clock.Add(10 * testEvery)
	if got, _ := look(); len(got.ids) != 0 {
		t.Errorf("switched off: %+v", got)
	}
}
