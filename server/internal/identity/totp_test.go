package identity

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/ledger"
)

// authenticator is the app of a person, with a clock of its own.
type authenticator struct {
	f    *fixture
	seed []byte
	off  time.Duration // of its clock
}

func (a *authenticator) code() Secret {
	a.f.t.Helper()
	return Secret(must(codeOf(a.seed, uint64(a.f.clock.Now().Add(a.off).Unix())/totpStep)))
}

// next is a code of a step that was not there yet.
func (a *authenticator) next() Secret {
	a.f.clock.Add(totpStep * time.Second)
	return a.code()
}

// totp sets up one-time passwords.
func (f *fixture) totp(caller Caller, userName string, password Secret) *authenticator {
	f.t.Helper()
	started, err := f.d.StartTOTP(f.t.Context(), caller, Proof{UserName: userName, Password: password})
	if err != nil {
		f.t.Fatal(err)
	}
	a := &authenticator{f: f, seed: must(base32NoPad.DecodeString(started.Secret.Reveal()))}
	if err := f.d.ConfirmTOTP(f.t.Context(), caller, a.code()); err != nil {
		f.t.Fatal(err)
	}
	return a
}

func (f *fixture) sign(caller Caller, p Proof, requires manifest.AuthorizationKind) (Proven, error) {
	return f.d.ProveSignature(f.t.Context(), caller, p, "prp_x", requires, [32]byte{})
}

// TestKnownCodes: RFC 6238, appendix B, with 6 of the 8 digits.
func TestKnownCodes(t *testing.T) {
	t.Attr("requirement", "11.300(e)")
	seed := []byte("12345678901234567890")
	for at, want := range map[int64]string{
		59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130",
	} {
		if got := must(codeOf(seed, uint64(at)/totpStep)); got != want {
			t.Errorf("at %d: %s, want %s", at, got, want)
		}
		if step, ok, err := stepOf(seed, Secret(want), time.Unix(at, 0)); !ok || err != nil || step != uint64(at)/totpStep {
			t.Errorf("at %d: step %d, %v, %v", at, step, ok, err)
		}
	}
}

// TestTOTP: once set up, a one-time password belongs to the password everywhere, and counts once.
func TestTOTP(t *testing.T) {
	t.Attr("requirement", "11.200(a)(1)")
	f := newFixture(t)
	_, ada, _ := f.ada()
	started := must(f.d.StartTOTP(t.Context(), ada, Proof{UserName: "ada", Password: adaPass}))
	uri := must(url.Parse(started.URI.Reveal()))
	if q := uri.Query(); uri.Scheme != "otpauth" || uri.Host != "totp" || q.Get("secret") != started.Secret.Reveal() || q.Get("algorithm") != "SHA1" ||
		q.Get("digits") != "6" || q.Get("period") != "30" || !strings.HasSuffix(uri.Path, ":ada") {
		t.Errorf("URI %s", uri)
	}
	if _, err := f.sign(ada, Proof{UserName: "ada", Password: adaPass}, manifest.AuthorizationPassword); err != nil {
		t.Errorf("before the first code: %v", err)
	}
	app := &authenticator{f: f, seed: must(base32NoPad.DecodeString(started.Secret.Reveal()))}
	if err := f.d.ConfirmTOTP(t.Context(), ada, "000000"); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("a wrong first code: %v", err)
	}
	first := app.code()
	types := f.appended(func() {
		if err := f.d.ConfirmTOTP(t.Context(), ada, first); err != nil {
			t.Fatal(err)
		}
	})
	if !slices.Equal(types, []chain.Type{chain.SignerCredential, chain.CredentialUsed}) {
		t.Errorf("entries %v", types)
	}
	open := func(code Secret) error {
		_, _, _, err := f.d.Login(t.Context(), desk, Proof{UserName: "ada", Password: adaPass, TOTP: code})
		return err
	}
	if err := open(""); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("without: %v", err)
	}
	if err := open(first); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("the code that has set it up: %v", err)
	}
	code := app.next()
	types = f.appended(func() {
		if err := open(code); err != nil {
			t.Errorf("log in: %v", err)
		}
	})
	if !slices.Equal(types, []chain.Type{chain.CredentialUsed, chain.SessionOpened}) {
		t.Errorf("entries %v", types)
	}
	for what, p := range map[string]Proof{
		"replayed":                       {UserName: "ada", Password: adaPass, TOTP: code},
		"an earlier one":                 {UserName: "ada", Password: adaPass, TOTP: first},
		"a right code, a wrong password": {UserName: "ada", Password: wrongPass, TOTP: app.next()},
	} {
		f.clock.Add(time.Minute) // failures in a row are slowed down
		from := f.ledger.Size()
		if _, err := f.sign(ada, p, manifest.AuthorizationPassword); !errors.Is(err, ErrBadCredentials) {
			t.Errorf("%s: %v", what, err)
		}
		if list := f.entries(from); len(list) == 0 || list[0].Type != chain.AuthenticationFailed {
			t.Errorf("%s: it does not count as a failure: %v", what, list)
		}
		if err := open(app.next()); err != nil { // the count starts again
			t.Fatal(err)
		}
	}
	ada = f.with(app, "ada", adaPass)
	if _, err := f.sign(ada, Proof{UserName: "ada", Password: adaPass}, manifest.AuthorizationPassword); !errors.Is(err, ErrCredentialsMissing) {
		t.Errorf("a signature without: %v", err)
	}
	if err := f.d.ProveAct(t.Context(), ada, Proof{UserName: "ada", Password: adaPass}, PurposeKey, "k"); !errors.Is(err, ErrCredentialsMissing) {
		t.Errorf("an act without: %v", err)
	}
	code = app.next()
	proven, err := f.sign(ada, Proof{UserName: "ada", Password: adaPass, TOTP: code}, manifest.AuthorizationPassword)
	if err != nil || proven.Authorization.Kind != manifest.AuthorizationPasswordTOTP || !slices.Equal(proven.Components, []string{"user name", "password", "one-time password"}) {
		t.Errorf("%+v, %v", proven, err)
	}
	if err := f.d.ProveAct(t.Context(), ada, Proof{UserName: "ada", Password: adaPass, TOTP: code}, PurposeKey, "k"); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("the code of a signature serves an act, too: %v", err)
	}
	f.clock.Add(time.Minute)
	f.restart() // a spent step stays spent
	if err := open(code); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("replayed after a restart: %v", err)
	}
	if _, err := f.d.StartTOTP(t.Context(), f.with(app, "ada", adaPass), Proof{UserName: "ada", Password: adaPass, TOTP: app.next()}); !errors.Is(err, ErrTOTPPresent) {
		t.Errorf("set up a second time: %v", err)
	}
}

// with logs in with a one-time password.
func (f *fixture) with(a *authenticator, userName string, password Secret) Caller {
	f.t.Helper()
	token, _, _, err := f.d.Login(f.t.Context(), desk, Proof{UserName: userName, Password: password, TOTP: a.next()})
	if err != nil {
		f.t.Fatal(err)
	}
	return must(f.d.Authenticate(f.t.Context(), token, nil, desk))
}

// TestClockOff: one step to each side holds, whatever the phase; an hour never does.
func TestClockOff(t *testing.T) {
	t.Attr("requirement", "11.200(a)(1)")
	f := newFixture(t)
	_, ada, _ := f.ada()
	app := f.totp(ada, "ada", adaPass)
	for phase := range totpStep {
		for _, off := range []time.Duration{29 * time.Second, 31 * time.Second, -31 * time.Second, time.Hour, -time.Hour} {
			now := f.clock.Now()
			f.clock.Add(5*time.Minute + time.Duration(phase-int(now.Unix()%totpStep))*time.Second)
			at := f.clock.Now()
			steps := at.Add(off).Unix()/totpStep - at.Unix()/totpStep
			app.off = off
			_, _, _, err := f.d.Login(t.Context(), desk, Proof{UserName: "ada", Password: adaPass, TOTP: app.code()})
			if want := steps >= -1 && steps <= 1; (err == nil) != want || err != nil && !errors.Is(err, ErrBadCredentials) {
				t.Errorf("a clock that is %v off, %d s into a step: %v", off, phase, err)
			}
			if err == nil {
				continue
			}
			f.clock.Add(5 * time.Minute)
			app.off = 0
			if _, _, _, err := f.d.Login(t.Context(), desk, Proof{UserName: "ada", Password: adaPass, TOTP: app.code()}); err != nil {
				t.Fatal(err) // the count starts again
			}
		}
	}
}

// TestSameStepAtOnce: of two calls with one code, one counts.
func TestSameStepAtOnce(t *testing.T) {
	f := newFixture(t)
	_, ada, _ := f.ada()
	app := f.totp(ada, "ada", adaPass)
	code := app.next()
	results := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := f.sign(ada, Proof{UserName: "ada", Password: adaPass, TOTP: code}, manifest.AuthorizationPasswordTOTP)
			results <- err
		}()
	}
	one, two := <-results, <-results
	if (one == nil) == (two == nil) || !errors.Is(errors.Join(one, two), ErrBadCredentials) {
		t.Errorf("%v, %v", one, two)
	}
}

// TestTOTPFailuresLock: guesses at a one-time password are counted like those at a password.
func TestTOTPFailuresLock(t *testing.T) {
	t.Attr("requirement", "11.300(d)")
	f := newFixture(t)
	_, ada, _ := f.ada()
	f.totp(ada, "ada", adaPass)
	for range 5 {
		f.clock.Add(20 * time.Second)
		if _, err := f.sign(ada, Proof{UserName: "ada", Password: adaPass, TOTP: "000000"}, manifest.AuthorizationPasswordTOTP); !errors.Is(err, ErrBadCredentials) {
			t.Fatal(err)
		}
	}
	f.clock.Add(20 * time.Second)
	if _, err := f.sign(ada, Proof{UserName: "ada", Password: adaPass, TOTP: "000000"}, manifest.AuthorizationPasswordTOTP); !errors.Is(err, ErrLocked) {
		t.Errorf("after five: %v", err)
	}
}

// TestStartTOTP: a seed waits in its session, for its owner, for a while.
func TestStartTOTP(t *testing.T) {
	f := newFixture(t)
	admin, ada, _ := f.ada()
	if _, err := f.d.StartTOTP(t.Context(), ada, Proof{UserName: "ada", Password: wrongPass}); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("a session alone: %v", err)
	}
	if err := f.d.ConfirmTOTP(t.Context(), ada, "123456"); !errors.Is(err, ErrTOTPNotStarted) {
		t.Errorf("not started: %v", err)
	}
	started := must(f.d.StartTOTP(t.Context(), ada, Proof{UserName: "ada", Password: adaPass}))
	app := &authenticator{f: f, seed: must(base32NoPad.DecodeString(started.Secret.Reveal()))}
	if err := f.d.ConfirmTOTP(t.Context(), admin, app.code()); !errors.Is(err, ErrTOTPNotStarted) {
		t.Errorf("in another session: %v", err)
	}
	f.clock.Add(totpPending)
	if err := f.d.ConfirmTOTP(t.Context(), ada, app.code()); !errors.Is(err, ErrTOTPNotStarted) {
		t.Errorf("lapsed: %v", err)
	}
	if err := f.d.RemoveTOTP(t.Context(), ada, "", Proof{UserName: "ada", Password: adaPass}, "none"); !errors.Is(err, ErrTOTPAbsent) {
		t.Errorf("nothing to remove: %v", err)
	}
}

// TestRemoveTOTP: by their owner with all components, or by an administrator with their own; never by a session alone.
func TestRemoveTOTP(t *testing.T) {
	f := newFixture(t)
	admin, ada, signer := f.ada()
	alan := f.enrol(admin, "alan", "Alan Turing", secondPass, RoleSigner)
	app := f.totp(ada, "ada", adaPass)
	if err := f.d.RemoveTOTP(t.Context(), ada, "", Proof{UserName: "ada", Password: adaPass}, "a new telephone"); !errors.Is(err, ErrCredentialsMissing) {
		t.Errorf("without a code: %v", err)
	}
	if err := f.d.RemoveTOTP(t.Context(), f.login("alan", secondPass), signer.ID, Proof{UserName: "alan", Password: secondPass}, "mischief"); !errors.Is(err, ErrForbidden) {
		t.Errorf("by another signer: %v", err)
	}
	if err := f.d.RemoveTOTP(t.Context(), admin, alan.ID, Proof{UserName: "root", Password: adminPass}, "nothing there"); !errors.Is(err, ErrTOTPAbsent) {
		t.Errorf("nothing to remove: %v", err)
	}
	if err := f.d.RemoveTOTP(t.Context(), ada, "", Proof{UserName: "ada", Password: adaPass, TOTP: app.next()}, "a new telephone"); err != nil {
		t.Fatal(err)
	}
	f.login("ada", adaPass)

	app = f.totp(f.login("ada", adaPass), "ada", adaPass)
	other := f.with(app, "ada", adaPass)
	if err := f.d.RemoveTOTP(t.Context(), admin, signer.ID, Proof{UserName: "root", Password: wrongPass}, "lost"); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("an administrator without a password: %v", err)
	}
	if err := f.d.RemoveTOTP(t.Context(), admin, signer.ID, Proof{UserName: "root", Password: adminPass}, "lost, seen in person"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.sign(other, Proof{UserName: "ada", Password: adaPass}, manifest.AuthorizationPassword); !errors.Is(err, ErrSession) {
		t.Errorf("a session of hers outlives it: %v", err)
	}
	f.login("ada", adaPass)
}

// TestShortPassword: 8 characters are enough with a second factor, and end with it.
func TestShortPassword(t *testing.T) {
	t.Attr("requirement", "11.300(b)")
	f := newFixture(t)
	admin, ada, signer := f.ada()
	const short = Secret("vK7#pq2w")
	if err := f.d.ChangePassword(t.Context(), ada, Proof{UserName: "ada", Password: adaPass}, short); !errors.Is(err, ErrWeakPassword) {
		t.Errorf("8 characters alone: %v", err)
	}
	app := f.totp(ada, "ada", adaPass)
	if err := f.d.ChangePassword(t.Context(), ada, Proof{UserName: "ada", Password: adaPass, TOTP: app.next()}, "vK7#pq2"); !errors.Is(err, ErrWeakPassword) {
		t.Errorf("7 characters: %v", err)
	}
	if err := f.d.ChangePassword(t.Context(), ada, Proof{UserName: "ada", Password: adaPass, TOTP: app.next()}, short); err != nil {
		t.Fatal(err)
	}
	if err := f.d.RemoveTOTP(t.Context(), ada, "", Proof{UserName: "ada", Password: short, TOTP: app.next()}, "a new telephone"); !errors.Is(err, ErrWeakPassword) {
		t.Errorf("the second factor goes, the short password stays: %v", err)
	}
	if err := f.d.RemoveTOTP(t.Context(), admin, signer.ID, Proof{UserName: "root", Password: adminPass}, "lost"); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := f.d.OpenSession(t.Context(), desk, "ada", short); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("the short password alone: %v", err)
	}
}

// TestSeedAtRest: the seed lies nowhere in clear; one that was swapped, or the row that says there is none, lets nobody in.
func TestSeedAtRest(t *testing.T) {
	t.Attr("requirement", "A-15")
	f := prepareFixture(t)
	reopen := func() {
		f.ledger = must(ledger.Open(t.Context(), f.options))
		f.open()
	}
	reopen()
	t.Cleanup(func() { f.ledger.Close() })
	admin, ada, signer := f.ada()
	alan := f.enrol(admin, "alan", "Alan Turing", secondPass, RoleSigner)
	app, his := f.totp(ada, "ada", adaPass), f.totp(f.login("alan", secondPass), "alan", secondPass)
	f.ledger.Close()
	file := must(os.ReadFile(f.options.Path))
	for _, secret := range [][]byte{app.seed, []byte(base32NoPad.EncodeToString(app.seed)), []byte(hex.EncodeToString(app.seed))} {
		if bytes.Contains(file, secret) {
			t.Error("the seed lies in the file")
		}
	}
	if !bytes.Contains(file, []byte("$totp$v=1,k=")) {
		t.Error("no sealed seed in the file")
	}
	edit(t, f.options.Path, "private", privateTOTP, func(rows map[string][]byte) { rows[signer.ID] = rows[alan.ID] })
	reopen()
	f.clock.Add(time.Minute)
	if _, _, _, err := f.d.Login(t.Context(), desk, Proof{UserName: "ada", Password: adaPass, TOTP: his.code()}); !errors.Is(err, ErrTampered) {
		t.Errorf("a swapped seed: %v", err)
	}
	f.ledger.Close()
	report, err := ledger.Check(t.Context(), f.options.Path, f.options, nil)
	if err == nil && len(report.Faults) == 0 {
		t.Error("the ledger check finds nothing")
	}
	// With the projection's word that the commitment is his, too: the entry says otherwise. Even sealed text that the ledger names
	// is bound to its signer.
	editRow(t, f.options.Path, bucketSigners, func(rows map[string][]byte) {
		var a, b signerRow
		unmarshal(t, rows[signer.ID], &a)
		unmarshal(t, rows[alan.ID], &b)
		a.TOTP, a.TOTPEntry = b.TOTP, b.TOTPEntry
		rows[signer.ID] = marshal(t, a)
	})
	reopen()
	if _, _, _, err := f.d.Login(t.Context(), desk, Proof{UserName: "ada", Password: adaPass, TOTP: his.code()}); !errors.Is(err, ErrTampered) && !errors.Is(err, ledger.ErrCorrupt) {
		t.Errorf("a swapped seed and its row: %v", err)
	}
	sealed := string(must(f.private(privateTOTP, alan.ID)))
	key := must(f.d.macKey(t.Context()))
	if _, err := f.d.unseal(t.Context(), key, signer.ID, sealed); !errors.Is(err, ErrTampered) {
		t.Errorf("somebody else's sealed seed: %v", err)
	}
	for _, bad := range []string{"", "$totp$", sealed + "A", strings.Replace(sealed, "k=", "k=0", 1), sealed[:len(sealed)-4]} {
		if _, err := f.d.unseal(t.Context(), key, alan.ID, bad); !errors.Is(err, ErrTampered) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestEarlierSeed: a seed that its owner has removed does not count again, whoever puts it back into the file: it is sealed for her, and not what
// the entry says.
func TestEarlierSeed(t *testing.T) {
	t.Attr("requirement", "A-15")
	f := prepareFixture(t)
	reopen := func() {
		f.ledger = must(ledger.Open(t.Context(), f.options))
		f.open()
	}
	reopen()
	t.Cleanup(func() { f.ledger.Close() })
	_, ada, signer := f.ada()
	lost := f.totp(ada, "ada", adaPass)
	earlier := must(f.private(privateTOTP, signer.ID))
	if err := f.d.RemoveTOTP(t.Context(), ada, "", Proof{UserName: "ada", Password: adaPass, TOTP: lost.next()}, "another device"); err != nil {
		t.Fatal(err)
	}
	f.totp(ada, "ada", adaPass)
	f.ledger.Close()
	edit(t, f.options.Path, "private", privateTOTP, func(rows map[string][]byte) { rows[signer.ID] = earlier })
	reopen()
	if _, _, _, err := f.d.Login(t.Context(), desk, Proof{UserName: "ada", Password: adaPass, TOTP: lost.next()}); !errors.Is(err, ErrTampered) {
		t.Errorf("a code of the device that she has lost: %v", err)
	}
}

// private reads a private row.
func (f *fixture) private(bucket, key string) (value []byte, err error) {
	err = f.ledger.View(func(r *ledger.Read) error {
		value = slices.Clone(r.GetPrivate(bucket, []byte(key)))
		return nil
	})
	return value, err
}

// TestRequires: what a statement demands is what is proven, at least.
func TestRequires(t *testing.T) {
	t.Attr("requirement", "A-15")
	f := newFixture(t)
	_, ada, _ := f.ada()
	right := Proof{UserName: "ada", Password: adaPass}
	for _, requires := range []manifest.AuthorizationKind{
		manifest.AuthorizationPasswordTOTP, manifest.AuthorizationPasskey, manifest.AuthorizationPasswordPasskey,
	} {
		from, runs := f.ledger.Size(), f.d.hasher.runs.Load()
		if _, err := f.sign(ada, right, requires); !errors.Is(err, ErrCredentialsMissing) {
			t.Errorf("%s with a password: %v", requires, err)
		}
		if f.ledger.Size() != from || f.d.hasher.runs.Load() != runs {
			t.Errorf("%s: something was checked", requires)
		}
	}
	for _, requires := range []manifest.AuthorizationKind{"", "nothing", manifest.AuthorizationService} {
		if _, err := f.sign(ada, right, requires); !errors.Is(err, ErrForbidden) {
			t.Errorf("%q: %v", requires, err)
		}
	}
	demands := func(policy, asked manifest.AuthorizationKind) (kind manifest.AuthorizationKind, err error) {
		err = f.ledger.View(func(r *ledger.Read) error {
			kind, err = f.d.Demands(r, ada, policy, asked)
			return err
		})
		return kind, err
	}
	const (
		p, pt, k, pk = manifest.AuthorizationPassword, manifest.AuthorizationPasswordTOTP, manifest.AuthorizationPasskey, manifest.AuthorizationPasswordPasskey
		refused      = manifest.AuthorizationKind("refused")
	)
	check := func(what string, policy, asked, want manifest.AuthorizationKind) {
		t.Helper()
		got, err := demands(policy, asked)
		if want == refused && !errors.Is(err, ErrRequires) || want != refused && (err != nil || got != want) {
			t.Errorf("%s: policy %q, asked for %q: %q, %v; want %q", what, policy, asked, got, err, want)
		}
	}
	check("no second factor", p, "", p)
	check("no second factor", p, pt, refused)
	check("no second factor", p, pk, pk)
	check("no second factor", pk, p, refused)
	check("no second factor", k, "", pk) // the preset asks for user name and password
	check("no second factor", p, k, refused)
	check("no second factor", p, manifest.AuthorizationService, refused)
	app := f.totp(ada, "ada", adaPass)
	check("one-time passwords", p, "", pt)
	check("one-time passwords", p, pt, pt)
	check("one-time passwords", p, pk, pk)
	f.d.cfg.Requires = pt
	check("a default of two factors", p, "", pt)
	check("a default of two factors", pk, "", pk)
	f.d.cfg.Requires, f.d.cfg.PasskeyAlone = k, true
	check("a default of a passkey", k, "", k)
	check("a default of a passkey", p, "", pk)
	if _, err := f.sign(ada, Proof{UserName: "ada", Password: adaPass, TOTP: app.next()}, pt); err != nil {
		t.Error(err)
	}
}

// TestTOTPWithoutTheHSM: nothing is known, and nothing counted.
func TestTOTPWithoutTheHSM(t *testing.T) {
	f := newFixture(t)
	_, ada, _ := f.ada()
	app := f.totp(ada, "ada", adaPass)
	code := app.next()
	f.hsmDown(func() {
		from := f.ledger.Size()
		_, err := f.sign(ada, Proof{UserName: "ada", Password: adaPass, TOTP: code}, manifest.AuthorizationPasswordTOTP)
		if !errors.Is(err, errDown) || f.ledger.Size() != from {
			t.Errorf("%v, %d entries", err, f.ledger.Size()-from)
		}
	})
	if _, err := f.sign(ada, Proof{UserName: "ada", Password: adaPass, TOTP: code}, manifest.AuthorizationPasswordTOTP); err != nil {
		t.Errorf("the code was not spent: %v", err)
	}
}
