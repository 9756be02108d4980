package identity

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/ledger"
)

// TestChangePassword: with the old one, by its owner; other sessions end, the own one stays.
func TestChangePassword(t *testing.T) {
	t.Attr("requirement", "11.300(b)")
	f := newFixture(t)
	_, ada, signer := f.ada()
	_, otherToken := f.loginToken("ada", adaPass)
	own := Proof{UserName: "ada", Password: adaPass}
	for what, c := range map[string]struct {
		proof Proof
		fresh Secret
		want  error
	}{
		"a wrong password":           {Proof{UserName: "ada", Password: wrongPass}, secondPass, ErrBadCredentials},
		"somebody else's name":       {Proof{UserName: "root", Password: adminPass}, secondPass, ErrBadCredentials},
		"no password":                {Proof{}, secondPass, ErrCredentialsMissing},
		"too short":                  {own, "short one", ErrWeakPassword},
		"the same":                   {own, adaPass, ErrWeakPassword},
		"her name":                   {own, "ada lovelace ada lovelace", ErrWeakPassword},
		"on the list":                {own, "correct horse battery staple", ErrWeakPassword},
		"on the list, other letters": {own, "Correct Horse BATTERY staple", ErrWeakPassword},
	} {
		f.clock.Add(time.Minute)
		before := must(f.private(privateVerifiers, signer.ID))
		if err := f.d.ChangePassword(t.Context(), ada, c.proof, c.fresh); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
		if !slices.Equal(before, must(f.private(privateVerifiers, signer.ID))) {
			t.Errorf("%s: another verifier", what)
		}
	}
	if err := f.d.ChangePassword(t.Context(), Caller{ID: "svc_x", Kind: chain.Service, Session: "ses_x"}, own, secondPass); !errors.Is(err, ErrForbidden) {
		t.Errorf("a service: %v", err)
	}
	f.clock.Add(time.Minute)
	types := f.appended(func() {
		if err := f.d.ChangePassword(t.Context(), ada, own, secondPass); err != nil {
			t.Fatal(err)
		}
	})
	if !slices.Equal(types, []chain.Type{chain.SignerCredential}) {
		t.Errorf("entries %v", types)
	}
	body := must(readBody[signerCredential](f.entries(f.ledger.Size() - 1)[0]))
	if body.ID != signer.ID || body.Kind != credentialPassword || body.Short || body.Commitment != hexSum(must(f.private(privateVerifiers, signer.ID))) {
		t.Errorf("%+v", body)
	}
	if _, err := f.d.Authenticate(t.Context(), otherToken, nil, desk); !errors.Is(err, ErrSession) {
		t.Errorf("her other session: %v", err)
	}
	if err := f.d.CheckPassword(t.Context(), ada, "ada", adaPass, "prp_x"); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("the old password: %v", err)
	}
	if err := f.d.CheckPassword(t.Context(), ada, "ada", secondPass, "prp_x"); err != nil {
		t.Errorf("the new one, in her own session: %v", err)
	}
	f.restart()
	if _, _, _, err := f.d.OpenSession(t.Context(), desk, "ada", adaPass); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("the old password after a restart: %v", err)
	}
	f.login("ada", secondPass)

	// A new key keeps the changed password, and a new code replaces it.
	admin := f.login("root", adminPass)
	rotation := must(f.d.BeginRotation(t.Context(), admin, signer.ID, signer.KeyID, "signer", NewLabel("signer")))
	result := must(f.ledger.Do(t.Context(), func(tx *ledger.Tx) error { return f.d.EmitRotation(tx, admin, rotation) }))
	f.d.Settle(t.Context(), result)
	f.login("ada", secondPass)
}

// TestRehash: a right password gets a verifier of the cost that is configured now; a wrong one changes nothing.
func TestRehash(t *testing.T) {
	t.Attr("requirement", "11.300(b)")
	f := newFixture(t)
	_, _, signer := f.ada()
	before := must(parseVerifier(string(must(f.private(privateVerifiers, signer.ID)))))
	f.config.Argon.Time = 2
	f.restart()
	if _, _, _, err := f.d.OpenSession(t.Context(), desk, "ada", wrongPass); !errors.Is(err, ErrBadCredentials) {
		t.Fatal(err)
	}
	if again := must(parseVerifier(string(must(f.private(privateVerifiers, signer.ID))))); again.params != before.params {
		t.Error("a wrong password has changed it")
	}
	var first Caller
	var token Secret
	types := f.appended(func() { first, token = f.loginToken("ada", adaPass) })
	if !slices.Equal(types, []chain.Type{chain.SessionOpened, chain.SignerCredential}) {
		t.Errorf("entries %v", types)
	}
	after := must(parseVerifier(string(must(f.private(privateVerifiers, signer.ID)))))
	if after.params.Time != 2 || after.key == "" || slices.Equal(after.salt, before.salt) {
		t.Errorf("verifier %v", after)
	}
	if _, err := f.d.Authenticate(t.Context(), token, nil, desk); err != nil {
		t.Errorf("the session in which it happened: %v", err)
	}
	runs := f.d.hasher.runs.Load()
	types = f.appended(func() {
		if err := f.d.CheckPassword(t.Context(), first, "ada", adaPass, "prp_x"); err != nil {
			t.Error(err)
		}
	})
	if len(types) != 0 || f.d.hasher.runs.Load() != runs+1 {
		t.Errorf("a second time: %v, %d computations", types, f.d.hasher.runs.Load()-runs)
	}
	f.restart()
	f.login("ada", adaPass)
}

// TestVerifierOfBefore: one from before there was a MAC key is right once, and gets the HSM's part with it.
func TestVerifierOfBefore(t *testing.T) {
	f := newFixture(t)
	_, _, signer := f.ada()
	old := verifier{params: f.d.hasher.params, salt: []byte("0123456789abcdef")}
	old.hash = f.d.hasher.compute(normalPassword(adaPass), old.params, old.salt)
	_, err := f.ledger.Do(t.Context(), func(tx *ledger.Tx) error { // as an earlier version has left it
		tx.PutPrivate(privateVerifiers, []byte(signer.ID), []byte(old.String()))
		tx.Emit(ledger.Event{Type: chain.SignerCredential, Actor: System("passwords").Actor(), Body: signerCredential{
			Commitment: hexSum([]byte(old.String())), ID: signer.ID, Kind: credentialVerifier,
		}})
		return nil
	})
	if err != nil || !strings.HasPrefix(old.String(), "$argon2id$v=19$") {
		t.Fatal(old.String(), err)
	}
	if _, err := f.ledger.Checkpointed(t.Context(), f.ledger.Size()); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := f.d.OpenSession(t.Context(), desk, "ada", wrongPass); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("a wrong password: %v", err)
	}
	f.login("ada", adaPass)
	if now := must(parseVerifier(string(must(f.private(privateVerifiers, signer.ID))))); now.key == "" {
		t.Error("it has stayed as it was")
	}
	f.login("ada", adaPass)
}

// TestPasswordAge: off unless it is configured; then an old password only serves to set another one.
func TestPasswordAge(t *testing.T) {
	t.Attr("requirement", "11.300(b)")
	f := newFixture(t)
	_, ada, _ := f.ada()
	f.clock.Add(200 * 24 * time.Hour)
	if c := f.login("ada", adaPass); c.PasswordExpired {
		t.Error("it ages without being asked to")
	}
	f.config.PasswordAge = 90 * 24 * time.Hour
	f.restart()
	token, session, _, err := f.d.OpenSession(t.Context(), desk, "ada", adaPass)
	if err != nil || !session.PasswordExpired {
		t.Fatalf("%+v, %v", session, err)
	}
	ada = must(f.d.Authenticate(t.Context(), token, nil, desk))
	if !ada.PasswordExpired {
		t.Error("the caller does not say so")
	}
	if err := f.d.CheckPassword(t.Context(), ada, "ada", adaPass, "prp_x"); !errors.Is(err, ErrPasswordExpired) {
		t.Errorf("a signature: %v", err)
	}
	if err := f.d.ProveAct(t.Context(), ada, Proof{UserName: "ada", Password: adaPass}, PurposeKey, "k"); !errors.Is(err, ErrPasswordExpired) {
		t.Errorf("an act: %v", err)
	}
	if _, err := f.d.StartTOTP(t.Context(), ada, Proof{UserName: "ada", Password: adaPass}); !errors.Is(err, ErrPasswordExpired) {
		t.Errorf("one-time passwords: %v", err)
	}
	if err := f.d.ChangePassword(t.Context(), ada, Proof{UserName: "ada", Password: adaPass}, secondPass); err != nil {
		t.Fatal(err)
	}
	if c := must(f.d.Authenticate(t.Context(), token, nil, desk)); c.PasswordExpired {
		t.Error("the new one has expired, too")
	}
	if err := f.d.CheckPassword(t.Context(), ada, "ada", secondPass, "prp_x"); err != nil {
		t.Error(err)
	}
	f.clock.Add(90*24*time.Hour - time.Minute)
	if c := f.login("ada", secondPass); c.PasswordExpired {
		t.Error("expired a minute early")
	}
	f.clock.Add(time.Minute)
	if c := f.login("ada", secondPass); !c.PasswordExpired {
		t.Error("not expired in time")
	}
}

// TestBlocklist: what many people use is refused as a whole, however it is written; the organisation's list beside it.
func TestBlocklist(t *testing.T) {
	t.Attr("requirement", "11.300(b)")
	list := must(builtIn())
	if list.Len() < 5000 {
		t.Errorf("%d passwords", list.Len())
	}
	for password, want := range map[string]bool{
		"password123": true, "PASSWORD123": true, "ｐａｓｓｗｏｒｄ１２３": true, "qwertyuiopasdfghjkl": true, "to be or not to be that is the question": true,
		"password123 otter granite": false, "quiet otter granite umbrella": false, "": false,
	} {
		if list.Has(password) != want {
			t.Errorf("%q: %v", password, !want)
		}
	}
	for line := range strings.SplitSeq(strings.TrimSpace(builtInText), "\n") {
		if !strings.HasPrefix(line, "#") && (line != strings.TrimSpace(strings.ToLower(line)) || len(line) < 8) {
			t.Fatalf("line %q is not in the form of the list", line)
		}
	}
	own := must(ReadBlocklist(strings.NewReader("# ours\n\n  Quiet Otter Granite Umbrella  \r\n")))
	if own.Len() != 1 || !own.Has("quiet otter granite umbrella") || (*Blocklist)(nil).Has("x") {
		t.Error("the organisation's list")
	}
	if err := checkNewPassword("quiet otter granite umbrella", 15, nil, own); !errors.Is(err, ErrWeakPassword) {
		t.Errorf("on the organisation's list: %v", err)
	}
	if err := checkNewPassword("quiet otter granite umbrella", 15, nil, nil); err != nil {
		t.Errorf("without it: %v", err)
	}
	for _, bad := range []string{"ok\n\xff\xfe\n", strings.Repeat("x", maxListLine+1)} {
		if _, err := ReadBlocklist(strings.NewReader(bad)); err == nil {
			t.Errorf("%.20q was read", bad)
		}
	}
}

// TestSessionsOfOneself: who has which sessions open, and how they end.
func TestSessionsOfOneself(t *testing.T) {
	t.Attr("requirement", "C-105")
	f := newFixture(t)
	admin, ada, signer := f.ada()
	f.clock.Add(time.Minute)
	token, _, _, err := f.d.OpenSession(t.Context(), other, "ada", adaPass)
	if err != nil {
		t.Fatal(err)
	}
	second := must(f.d.Authenticate(t.Context(), token, nil, other))
	list := must(f.d.Sessions(t.Context(), ada, ""))
	if len(list) != 2 || list[0].ID != second.Session || list[1].ID != ada.Session || list[0].Source != other || list[1].Source != desk ||
		list[0].Method != string(manifest.AuthorizationPassword) || !list[0].Opened.Equal(f.clock.Now()) || list[0].Expires.IsZero() {
		t.Errorf("%+v", list)
	}
	if _, err := f.d.Sessions(t.Context(), ada, admin.ID); !errors.Is(err, ErrForbidden) {
		t.Errorf("somebody else's: %v", err)
	}
	if err := f.d.EndSession(t.Context(), ada, admin.ID, admin.Session, ""); !errors.Is(err, ErrForbidden) {
		t.Errorf("somebody else's: %v", err)
	}
	if got := must(f.d.Sessions(t.Context(), admin, signer.ID)); len(got) != 2 {
		t.Errorf("for an administrator: %+v", got)
	}
	if _, err := f.d.Sessions(t.Context(), admin, "sgn_nobody"); !errors.Is(err, ErrNotFound) {
		t.Errorf("nobody's: %v", err)
	}
	if err := f.d.EndSession(t.Context(), ada, ada.ID, "ses_nothing", ""); !errors.Is(err, ErrSessionNotFound) {
		t.Errorf("none: %v", err)
	}
	if err := f.d.EndSession(t.Context(), ada, ada.ID, second.Session, "not mine"); err != nil {
		t.Fatal(err)
	}
	body := must(readBody[sessionClosed](f.entries(f.ledger.Size() - 1)[0]))
	if body.Cause != closedEnded || body.Reason != "not mine" || body.Session != second.Session {
		t.Errorf("%+v", body)
	}
	if _, err := f.d.Authenticate(t.Context(), token, nil, other); !errors.Is(err, ErrSession) {
		t.Errorf("the session that was ended: %v", err)
	}
	if err := f.d.EndSession(t.Context(), admin, ada.ID, ada.Session, "device lost"); err != nil {
		t.Fatal(err)
	}
	if err := f.d.CheckPassword(t.Context(), ada, "ada", adaPass, "prp_x"); !errors.Is(err, ErrSession) {
		t.Errorf("a signature in a session that was ended: %v", err)
	}
	f.login("ada", adaPass)
	f.clock.Add(15 * time.Minute)
	if got := must(f.d.Sessions(t.Context(), admin, signer.ID)); len(got) != 0 {
		t.Errorf("idle for too long, and listed: %+v", got)
	}
}
