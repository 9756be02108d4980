package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
)

// maxReadTokens bounds the read tokens of a session; one more takes the place of the oldest.
const maxReadTokens = 16

// readToken lets programs that know nothing of sessions (curl, a tiles client) read in the name of a person for as long as
// their session lasts. It lives in memory alone, opens nothing but reading, holds from the session's address with any
// device, and using it does not keep the session from ending when idle.
type readToken struct {
	signer, session, address string
	issued                   uint64 // the order
}

// IssueReadToken returns a read token of the caller's session, and when it ends at the latest.
func (d *Directory) IssueReadToken(c Caller, src Source) (Secret, time.Time, error) {
	if c.Session == "" || c.Method != MethodPassword {
		return "", time.Time{}, fmt.Errorf("%w: only a person's session has read tokens; a service shows its certificate", ErrState)
	}
	random := make([]byte, 32)
	rand.Read(random)
	token := Secret(base64.RawURLEncoding.EncodeToString(random))
	a := d.activity
	a.mu.Lock()
	defer a.mu.Unlock()
	u, ok := a.sessions[c.Session]
	if !ok {
		return "", time.Time{}, ErrSession
	}
	a.issued++
	if len(u.reads) >= maxReadTokens {
		oldest := 0
		for i, key := range u.reads {
			if a.readers[key].issued < a.readers[u.reads[oldest]].issued {
				oldest = i
			}
		}
		delete(a.readers, u.reads[oldest])
		u.reads = append(u.reads[:oldest], u.reads[oldest+1:]...)
	}
	key := sha256.Sum256([]byte(token))
	a.readers[key] = readToken{signer: c.ID, session: c.Session, address: place(src).Address, issued: a.issued}
	u.reads = append(u.reads, key)
	return token, c.Expires, nil
}

// reader says whose read token it is, if its session still holds.
func (a *activity) reader(token Secret, src Source, now time.Time) (readToken, bool) {
	if len(token) > maxToken {
		return readToken{}, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	t, ok := a.readers[sha256.Sum256([]byte(token))]
	if !ok || t.address != place(src).Address {
		return readToken{}, false
	}
	u, ok := a.sessions[t.session]
	return t, ok && now.Sub(u.last) < a.idle
}

// AuthenticateReader says in whose name a read token reads. Errors: [ErrSession].
func (d *Directory) AuthenticateReader(token Secret, src Source) (Caller, error) {
	now := d.cfg.Clock()
	t, ok := d.activity.reader(token, src, now)
	if !ok {
		return Caller{}, ErrSession
	}
	return d.ofSession(t.signer, t.session, now)
}

// ofSession is the caller of a session that is open. It is not noted as a use of it.
func (d *Directory) ofSession(signer, id string, now time.Time) (c Caller, err error) {
	err = d.ledger.View(func(r *ledger.Read) error {
		view := r.View(projectionName)
		hash := view.Get(bucketOpen, openKey(signer, id))
		var session sessionRow
		ok, err := get(view, bucketSessions, hash, &session)
		if err != nil || !ok || !now.Before(session.Expires.Time()) {
			return errors.Join(err, ErrSession)
		}
		row, ok, err := d.rows.get(view, session.Signer)
		if err != nil || !ok || row.State != StateActive {
			return errors.Join(err, ErrSession)
		}
		roles, err := d.callerRoles(r, row)
		if err != nil {
			return err
		}
		c = Caller{
			ID: row.ID, Kind: chain.Person, Method: MethodPassword, Session: session.ID, Expires: session.Expires.Time(), Roles: roles,
			Source: session.Source,
		}
		return nil
	})
	return c, err
}

// Again says who a caller is now, for calls that last: roles may have changed. It does not keep a session from ending when idle.
// Errors: [ErrSession] if the session is over, those of Authenticate for a service that may no longer call.
func (d *Directory) Again(c Caller) (Caller, error) {
	if c.Kind == chain.Service {
		return d.serviceAgain(c)
	}
	now := d.cfg.Clock()
	if !d.activity.lasts(c.Session, now) {
		return Caller{}, ErrSession
	}
	return d.ofSession(c.ID, c.Session, now)
}

// lasts reports whether a session is known and was used of late.
func (a *activity) lasts(session string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	u, ok := a.sessions[session]
	return ok && now.Sub(u.last) < a.idle
}
