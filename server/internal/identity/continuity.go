package identity

import (
	"encoding/json/v2"
	"fmt"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
)

// # Continuous sessions
//
// 21 CFR 11.200(a)(1)(i): who executes a series of signings during a single, continuous period of controlled system access executes the first with
// all components and the following ones with at least one that only they can execute. (ii): outside of such a period every signing takes all
// components. Signet has that as a state machine for each session. It is off by default; then every signing takes all components.
//
// In a period the password alone will do: the user name may be left out, and a one-time password unless the statement demands one. What a
// statement demands is never left out.
//
//	state    event                what follows
//	apart    signed with all      running
//	running  signed with all      running
//	running  signed with password running
//	running  proof failed         apart
//	running  idled too long       apart
//	running  lasted too long      apart
//	running  credential changed   apart
//	any      logged out           ended
//	any      restarted            ended
//	any      address changed      ended
//	any      device changed       ended
//
// What is not in the table changes nothing, and ended is never left: a new session begins apart.

// signingState is where a session stands.
type signingState int

const (
	signingApart   signingState = iota // every signing takes all components
	signingRunning                     // a continuous period: the first signing took all of them
	signingEnded                       // the session is over, and signs nothing
	signingStates
)

// signingEvent is what happens to a session.
type signingEvent int

const (
	signedWithAll signingEvent = iota
	signedWithPassword
	proofFailed
	idledTooLong
	lastedTooLong
	credentialChanged
	loggedOut
	restarted
	addressChanged
	deviceChanged
	signingEvents
)

// signingTable is the whole state machine.
var signingTable = [signingStates][signingEvents]signingState{
	signingApart: {
		signedWithAll: signingRunning, signedWithPassword: signingApart, proofFailed: signingApart, idledTooLong: signingApart,
		lastedTooLong: signingApart, credentialChanged: signingApart,
		loggedOut: signingEnded, restarted: signingEnded, addressChanged: signingEnded, deviceChanged: signingEnded,
	},
	signingRunning: {
		signedWithAll: signingRunning, signedWithPassword: signingRunning, proofFailed: signingApart, idledTooLong: signingApart,
		lastedTooLong: signingApart, credentialChanged: signingApart,
		loggedOut: signingEnded, restarted: signingEnded, addressChanged: signingEnded, deviceChanged: signingEnded,
	},
	signingEnded: {
		signedWithAll: signingEnded, signedWithPassword: signingEnded, proofFailed: signingEnded, idledTooLong: signingEnded,
		lastedTooLong: signingEnded, credentialChanged: signingEnded,
		loggedOut: signingEnded, restarted: signingEnded, addressChanged: signingEnded, deviceChanged: signingEnded,
	},
}

// ContinuousSigning turns continuous periods on. The zero value is off.
type ContinuousSigning struct {
	On      bool
	Idle    time.Duration // longest time between two signings of a period; 5 min
	Longest time.Duration // longest period; 1 h
}

func (c ContinuousSigning) withDefaults() (ContinuousSigning, error) {
	if c.Idle < 0 || c.Longest < 0 {
		return c, invalid("a duration of continuous signing is negative")
	}
	if c.Idle == 0 {
		c.Idle = 5 * time.Minute
	}
	if c.Longest == 0 {
		c.Longest = time.Hour
	}
	return c, nil
}

// period is the state of one session, and since when.
type period struct {
	state       signingState
	began, last time.Time
	credentials string // what the signer's credentials were: see credentialsOf
}

// on is one transition.
func (p *period) on(e signingEvent, now time.Time) {
	before := p.state
	p.state = signingTable[p.state][e]
	switch {
	case p.state != signingRunning:
		p.began, p.last, p.credentials = time.Time{}, time.Time{}, ""
	case before != signingRunning || e == signedWithAll:
		p.began, p.last = now, now
	case e == signedWithPassword:
		p.last = now
	}
}

// look lets what has happened since the last signing happen, and returns the state.
func (p *period) look(c ContinuousSigning, credentials string, now time.Time) signingState {
	if p.state != signingRunning {
		return p.state
	}
	switch {
	case now.Before(p.last), now.Sub(p.last) >= c.Idle: // a clock that was set back proves nothing
		p.on(idledTooLong, now)
	case now.Sub(p.began) >= c.Longest:
		p.on(lastedTooLong, now)
	case p.credentials != credentials:
		p.on(credentialChanged, now)
	}
	return p.state
}

// credentialsOf names the credentials that a signer has: with another one it is another name.
func credentialsOf(row signerRow) string {
	return fmt.Sprintf("%d/%t/%d/%t/%d", row.PasswordSet, row.Credential != "", row.TOTPEntry, row.TOTP != "", row.PasskeyEntry)
}

// applyPasskeysChanged notes that a signer has a passkey more or less that signs.
func applyPasskeysChanged(s *ledger.State, e chain.Entry) error {
	var body struct {
		Signer string `json:"signer"`
	}
	if err := json.Unmarshal(e.Body, &body); err != nil {
		return fmt.Errorf("entry %d, %s: %w", e.Index, e.Type, err)
	}
	row, err := mustSigner(s, e, body.Signer)
	if err != nil {
		return err
	}
	row.PasskeyEntry = e.Index
	return putSigner(s, row)
}

// continuing reports whether a session is in a continuous period now.
func (a *activity) continuing(c ContinuousSigning, session, credentials string, now time.Time) bool {
	if !c.On {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	u, ok := a.sessions[session]
	return ok && u.signing.look(c, credentials, now) == signingRunning
}

// signingEvent is one transition of a session.
func (a *activity) signingEvent(session string, e signingEvent, credentials string, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	u, ok := a.sessions[session]
	if !ok { // it has ended
		return
	}
	u.signing.on(e, now)
	if u.signing.state == signingRunning && e == signedWithAll {
		u.signing.credentials = credentials
	}
}

// Signed notes that a signature was made with what was proven: the first one of a session, with all components, begins a continuous period where
// there are such.
func (d *Directory) Signed(caller Caller, p Proven) {
	if !d.cfg.Continuous.On || p.credentials == "" {
		return
	}
	e := signedWithPassword
	if p.all {
		e = signedWithAll
	}
	d.activity.signingEvent(caller.Session, e, p.credentials, d.cfg.Clock())
}
