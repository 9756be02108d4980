package identity

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/jcs"
	"github.com/signetd/signet/api/passkey"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/notify"
)

// Tests of credentials (21 CFR 11.300(e)). A credential is tested when it is set, and again by each proof that was right: then it works, and
// what is stored of it is what the ledger committed to. When that was last is a function of the entries ([TestsProjection]):
//
//   - a password, and a one-time password, by each login, signature and act;
//   - a passkey by its registration, by each signature, by vouching, and by `credential.tested`: its owner has it answer a challenge that
//     serves nothing else, on the signing pages.
//
// What was not tested for [Config].TestEvery is overdue. A passkey then neither signs nor vouches until its owner has tested it. A password
// cannot be overdue where it counts: whoever signs has logged in. But the security unit hears of those whom it would otherwise forget, once a
// period ([Directory.TellOfUntested], `credential.untested`), and the owner of a passkey before it is overdue.

// ErrTestDue: the passkey was not used for too long. Its owner tests it on the signing pages.
var ErrTestDue = errors.New("the passkey was not used for too long, and signs once you have tested it")

// TestKind is a kind of credentials.
type TestKind string

// The kinds.
const (
	TestedPassword TestKind = "password"
	TestedTOTP     TestKind = "totp"
	TestedPasskey  TestKind = "passkey"
)

// testNotice is how long before its test is due the owner of a passkey is told.
const testNotice = 14 * 24 * time.Hour

// maxUntested is how many credentials one entry names. The rest follows with the next look.
const maxUntested = 200

// AlertUntested is the kind of the alerts about credentials that were not tested.
const AlertUntested = "credential.untested"

// testPayloadType keeps the answer to a test from ever being a signature or a voucher.
const testPayloadType = "application/vnd.signet.passkey-test.v1+json"

// passkeyTest is what a passkey signs in a test, in canonical JSON.
type passkeyTest struct {
	Format  string `json:"format"` // signet-passkey-test/v1
	Ledger  string `json:"ledger"` // its origin
	Nonce   string `json:"nonce"`
	Passkey string `json:"passkey"`
	Signer  string `json:"signer"`
}

// Bodies.
type (
	// credentialTested: a passkey has answered a test.
	credentialTested struct {
		ID      string     `json:"id"` // of the signer
		Kind    TestKind   `json:"kind"`
		Last    chain.Time `json:"last"` // when it was tested before
		Passkey string     `json:"passkey"`
	}
	// credentialUntested: credentials whose test is due, of which somebody was told.
	credentialUntested struct {
		Credentials []untested `json:"credentials"`
	}
	untested struct {
		Due     chain.Time `json:"due"`
		ID      string     `json:"id"` // of the signer
		Kind    TestKind   `json:"kind"`
		Last    chain.Time `json:"last"`
		Passkey string     `json:"passkey"` // empty: none
	}
)

// CredentialTest says when a credential was last tested.
type CredentialTest struct {
	Signer  string
	Kind    TestKind
	Passkey string // id; empty: none
	Label   string // of a passkey
	Last    time.Time
	Due     time.Time // zero: never
	Overdue bool
	Index   uint64 // of the entry that shows it
}

// due is when a credential must be tested again; zero: never.
func (d *Directory) due(row testedRow) time.Time {
	if d.cfg.TestEvery == 0 {
		return time.Time{}
	}
	return row.Last.Time().Add(d.cfg.TestEvery)
}

func (d *Directory) overdue(row testedRow, now time.Time) bool {
	due := d.due(row)
	return !due.IsZero() && !now.Before(due)
}

// relyOn refuses a passkey that was not tested for too long.
func (d *Directory) relyOn(r Reader, signer string, credentialID []byte) error {
	view := r.View(testsProjectionName)
	key := view.Get(bucketTestPasskeys, credentialKey(credentialID))
	row, ok, err := getTested(view, key)
	switch {
	case err != nil:
		return err
	case !ok || row.Signer != signer:
		return &assertionError{errors.New("it is not bound to you")}
	case d.overdue(row, d.cfg.Clock()):
		return fmt.Errorf("%w: the last time was %s; open it under “Your account” on the signing pages, and choose “Test it”", ErrTestDue, row.Last)
	}
	return nil
}

// StartPasskeyTest returns the options with which a passkey of the caller's answers a test, and until when.
func (d *Directory) StartPasskeyTest(ctx context.Context, caller Caller, id string) (options []byte, expires time.Time, err error) {
	if _, err := d.relyingParty(); err != nil {
		return nil, expires, err
	}
	nonce := make([]byte, 16)
	rand.Read(nonce)
	test := passkeyTest{
		Format: "signet-passkey-test/v1", Ledger: d.ledger.Head().Checkpoint.Origin, Nonce: hex.EncodeToString(nonce), Passkey: id, Signer: caller.ID,
	}
	payload, err := jcs.Marshal(test)
	if err != nil {
		return nil, expires, err
	}
	challenge := passkey.Challenge(testPayloadType, payload)
	err = d.settled(ctx, func(r *ledger.Read) error {
		row, err := d.ownPasskey(r, caller, id)
		if err != nil {
			return err
		}
		b, err := d.bound(r, row)
		if err != nil {
			return err
		}
		options, err = jcs.Marshal(requestOptions{
			AllowCredentials: []credentialDescriptor{{b.Binding.CredentialID, "public-key"}}, Challenge: challenge[:], RPID: b.Binding.RPID,
			Timeout: d.cfg.Passkeys.Lifetime.Milliseconds(), UserVerification: "required",
		})
		return err
	})
	if err != nil {
		return nil, expires, err
	}
	expires = d.cfg.Clock().Add(d.cfg.Passkeys.Lifetime)
	d.passkeys.startTest(caller.ID+"/"+id, startedTest{challenge, expires}, d.cfg.Clock())
	return options, expires, nil
}

// FinishPasskeyTest takes the answer. A wrong one counts like a wrong password.
func (d *Directory) FinishPasskeyTest(ctx context.Context, caller Caller, id string, assertion *passkey.Assertion) (CredentialTest, error) {
	own, err := d.ownRow(caller)
	if err != nil {
		return CredentialTest{}, err
	}
	challenge, err := d.passkeys.takeTest(caller.ID+"/"+id, d.cfg.Clock())
	if err != nil {
		return CredentialTest{}, err
	}
	a := attempt{purpose: purposeTest, subject: "passkeys/" + id, name: own.UserName, blinded: own.Login, counter: own.Login, owner: own.ID, actor: caller.Actor()}
	err = d.settled(ctx, func(r *ledger.Read) error {
		if err := d.checkLock(r.View(projectionName), a); err != nil {
			return err
		}
		row, err := d.ownPasskey(r, caller, id)
		if err != nil {
			return err
		}
		if string(credentialKey(assertion.CredentialID)) != row.Credential {
			return &assertionError{errors.New("it is another one than the one that is tested")}
		}
		b, err := d.bound(r, row)
		if err != nil {
			return err
		}
		if err := passkey.Verify(b.Binding.Key(), challenge, *assertion); err != nil {
			return &assertionError{err}
		}
		return nil
	})
	if errors.Is(err, ErrBadCredentials) {
		return CredentialTest{}, d.failed(ctx, a, own.ID)
	}
	if err != nil {
		return CredentialTest{}, err
	}
	_, err = d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		if _, err := d.ownPasskey(tx, caller, id); err != nil { // it, or the session, may have ended meanwhile
			return err
		}
		row, _, err := getTested(tx.View(testsProjectionName), testKey(caller.ID, TestedPasskey, id))
		if err != nil {
			return err
		}
		tx.Emit(ledger.Event{Type: chain.CredentialTested, Actor: caller.Actor(), Body: credentialTested{ID: caller.ID, Kind: TestedPasskey, Last: row.Last, Passkey: id}})
		return nil
	})
	if err != nil {
		return CredentialTest{}, err
	}
	var out CredentialTest
	err = d.ledger.View(func(r *ledger.Read) error {
		row, _, err := getTested(r.View(testsProjectionName), testKey(caller.ID, TestedPasskey, id))
		if err == nil {
			out, err = d.shownTest(r, row)
		}
		return err
	})
	return out, err
}

// ownPasskey is one of the caller's that is bound.
func (d *Directory) ownPasskey(r Reader, caller Caller, id string) (passkeyRow, error) {
	if _, err := d.inSession(r, caller); err != nil {
		return passkeyRow{}, err
	}
	row, err := mustPasskey(r.View(projectionName), caller.ID, id)
	if err == nil && row.State != PasskeyBound {
		err = fmt.Errorf("%w: it is %s, and there is nothing to test", ErrPasskeyState, row.State)
	}
	return row, err
}

// startedTest waits for the answer of a device. It ends with the process.
type startedTest struct {
	challenge [32]byte
	expires   time.Time
}

func (p *passkeys) startTest(key string, t startedTest, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tests == nil {
		p.tests = map[string]startedTest{}
	}
	if len(p.tests) >= maxStarted {
		for key, old := range p.tests {
			if !now.Before(old.expires) {
				delete(p.tests, key)
			}
		}
	}
	p.tests[key] = t
}

// takeTest ends a test: its challenge works once.
func (p *passkeys) takeTest(key string, now time.Time) ([32]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t, ok := p.tests[key]
	if !ok || !now.Before(t.expires) {
		return t.challenge, fmt.Errorf("%w (a test of a passkey)", ErrRegistrationLapsed)
	}
	delete(p.tests, key)
	return t.challenge, nil
}

// shownTest is for people to see.
func (d *Directory) shownTest(r *ledger.Read, row testedRow) (CredentialTest, error) {
	out := CredentialTest{
		Signer: row.Signer, Kind: row.Kind, Passkey: row.Passkey, Last: row.Last.Time(), Due: d.due(row), Overdue: d.overdue(row, d.cfg.Clock()), Index: row.Index,
	}
	if row.Passkey == "" {
		return out, nil
	}
	k, err := mustPasskey(r.View(projectionName), row.Signer, row.Passkey)
	if err != nil {
		return out, err
	}
	body, err := d.binding(unproved{r}, k)
	out.Label = body.Label
	return out, err
}

// CredentialTests returns when the credentials of a signer were last tested.
func (d *Directory) CredentialTests(_ context.Context, signer string) (out []CredentialTest, err error) {
	err = d.ledger.View(func(r *ledger.Read) error {
		rows, err := testsOf(r.View(testsProjectionName), signer)
		for _, row := range rows {
			if err != nil {
				return err
			}
			var one CredentialTest
			one, err = d.shownTest(r, row)
			out = append(out, one)
		}
		return err
	})
	return out, err
}

func testsOf(view *ledger.State, signer string) (rows []testedRow, err error) {
	view.Prefix(bucketTested, []byte(signer+"/"), func(_, v []byte) bool {
		var row testedRow
		err = decode(bucketTested, v, &row)
		rows = append(rows, row)
		return err == nil
	})
	return rows, err
}

// OverdueTests returns the credentials of active signers that are overdue, those that were not tested for the longest time first, from an index
// on: limit of them and what the same entry has shown, and the index to go on with; 0: there are no more.
func (d *Directory) OverdueTests(_ context.Context, from uint64, limit int) (out []CredentialTest, next uint64, err error) {
	err = d.ledger.View(func(r *ledger.Read) error {
		return d.oldestTests(r, from, func(row testedRow) (bool, error) {
			if !d.overdue(row, d.cfg.Clock()) {
				return false, nil
			}
			if len(out) >= limit && row.Index != out[len(out)-1].Index {
				next = row.Index
				return false, nil
			}
			one, err := d.shownTest(r, row)
			out = append(out, one)
			return err == nil, err
		})
	})
	return out, next, err
}

// oldestTests calls fn with the credentials of active signers that can be tested, those that were not for the longest time first.
func (d *Directory) oldestTests(r Reader, from uint64, fn func(row testedRow) (more bool, err error)) error {
	view, signers := r.View(testsProjectionName), r.View(projectionName)
	var failed error
	view.Ascend(bucketTestOrder, indexKey(from), func(k, _ []byte) bool {
		row, ok, err := getTested(view, k[8:])
		if err == nil && !ok {
			err = fmt.Errorf("credential tests: %q has an order and no row", k)
		}
		var signer signerRow
		if err == nil {
			signer, _, err = getSigner(signers, row.Signer)
		}
		if failed = err; err != nil || signer.State != StateActive {
			return err == nil
		}
		if row.Passkey != "" { // one that waits to be vouched for has nothing to test
			k, err := mustPasskey(signers, row.Signer, row.Passkey)
			if failed = err; err != nil || k.State != PasskeyBound {
				return err == nil
			}
		}
		more, err := fn(row)
		failed = err
		return more && err == nil
	})
	return failed
}

// TellOfUntested tells the security unit of credentials that are overdue, and owners of their passkeys before. It looks at those alone that were
// not tested for nearly a period.
func (d *Directory) TellOfUntested(ctx context.Context) error {
	if d.cfg.TestEvery == 0 {
		return nil
	}
	var found []untested
	err := d.ledger.View(func(r *ledger.Read) (err error) {
		found, err = d.toTell(r, d.cfg.Clock())
		return err
	})
	if err != nil || len(found) == 0 {
		return err
	}
	_, err = d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		found, err := d.toTell(tx, tx.Now().Time())
		if err != nil || len(found) == 0 {
			return err
		}
		at := tx.Emit(ledger.Event{Type: chain.CredentialUntested, Actor: System("credentials").Actor(), Body: credentialUntested{found}})
		var late []untested
		for _, u := range found {
			if !tx.Now().Before(u.Due) {
				late = append(late, u)
			}
			if u.Kind != TestedPasskey {
				continue
			}
			what := fmt.Sprintf("A passkey of yours was last used on %s. Test it before %s, on “Your account” of the signing pages; from then on it signs only once you have.",
				u.Last.Time().Format(time.DateOnly), u.Due.Time().Format(time.DateOnly))
			if !tx.Now().Before(u.Due) {
				what = fmt.Sprintf("A passkey of yours was last used on %s. It signs nothing until you have tested it on “Your account” of the signing pages; revoke it there if you no longer have it.",
					u.Last.Time().Format(time.DateOnly))
			}
			notify.Raise(tx, notify.Alert{Kind: AlertUntested, Audience: notify.Signer, Subject: u.ID, Entry: at, Summary: what})
		}
		if len(late) > 0 {
			notify.Raise(tx, notify.Alert{Kind: AlertUntested, Audience: notify.Security, Entry: at, Summary: d.untestedSummary(late)})
		}
		return nil
	})
	return err
}

func (d *Directory) untestedSummary(late []untested) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Credentials were not used or tested for %d days (%d): ", int(d.cfg.TestEvery/(24*time.Hour)), len(late))
	for i, u := range late {
		if i == 4 {
			fmt.Fprintf(&b, " and %d more", len(late)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s of %s since %s", u.Kind, u.ID, u.Last.Time().Format(time.DateOnly))
	}
	b.WriteString(". `signet credential list --overdue` shows them. Have their owners test them, or suspend who no longer needs them.")
	return b.String()
}

// toTell finds the credentials of which somebody must be told now.
func (d *Directory) toTell(r Reader, now time.Time) (out []untested, err error) {
	notice := min(testNotice, d.cfg.TestEvery/2)
	err = d.oldestTests(r, 0, func(row testedRow) (bool, error) {
		due := d.due(row)
		if now.Before(due.Add(-notice)) {
			return false, nil
		}
		told, late := row.Told.Time(), !now.Before(due)
		switch {
		case !late && (row.Kind != TestedPasskey || !row.Told.IsZero()):
		case late && !row.Told.IsZero() && !told.Before(due) && now.Sub(told) < d.cfg.TestEvery:
		default:
			out = append(out, untested{Due: chain.NewTime(due), ID: row.Signer, Kind: row.Kind, Last: row.Last, Passkey: row.Passkey})
		}
		return len(out) < maxUntested, nil
	})
	return out, err
}
