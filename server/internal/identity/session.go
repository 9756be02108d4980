package identity

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
)

const (
	maxToken    = 128  // bytes of a bearer token that is looked at
	maxServices = 4096 // pairs of service and source that are remembered
	sweepAtOnce = 32   // lapsed sessions that a new session cleans up
)

// activity remembers when each session of this process was used last, and from where. What it does not know is over: a
// session does not outlive the process that opened it.
type activity struct {
	idle, lifetime time.Duration

	mu       sync.Mutex
	sessions map[string]*use
	prune    int                             // at this number of sessions, those that have lapsed are forgotten
	readers  map[[sha256.Size]byte]readToken // SHA-256 of a read token → whose
	issued   uint64                          // read tokens, so far

	opening  sync.Mutex // one first call of a service at a time
	services map[serviceUse]string
}

type use struct {
	last   time.Time
	source Source
	reads  [][sha256.Size]byte // the read tokens of the session

	signing period // see continuity.go
}

type serviceUse struct {
	id          string
	certificate string
	source      Source
}

func newActivity(idle, lifetime time.Duration) *activity {
	return &activity{idle: idle, lifetime: lifetime, sessions: map[string]*use{}, services: map[serviceUse]string{}, readers: map[[sha256.Size]byte]readToken{}}
}

func (a *activity) open(session string, s Source, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.sessions) >= a.prune {
		for id, u := range a.sessions {
			if now.Sub(u.last) >= a.lifetime {
				a.drop(id, u)
			}
		}
		a.prune = 2*len(a.sessions) + 64
	}
	a.sessions[session] = &use{last: now, source: s}
}

// touch says why a session is over, or notes that it was used.
func (a *activity) touch(session string, s Source, now time.Time) (cause string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	u, ok := a.sessions[session]
	switch {
	case !ok:
		return closedRestarted
	case now.Sub(u.last) >= a.idle:
		return closedIdle
	case u.source.Address != s.Address:
		u.signing.on(addressChanged, now)
		return closedMoved
	case u.source != s:
		u.signing.on(deviceChanged, now)
		return closedMoved
	}
	if now.After(u.last) {
		u.last = now
	}
	return ""
}

// forget reports whether the session was known.
func (a *activity) forget(session string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	u, ok := a.sessions[session]
	if ok {
		a.drop(session, u)
	}
	return ok
}

// drop forgets a session and its read tokens. The caller holds mu.
func (a *activity) drop(session string, u *use) {
	for _, key := range u.reads {
		delete(a.readers, key)
	}
	delete(a.sessions, session)
}

func (a *activity) service(u serviceUse) (session string, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	session, ok = a.services[u]
	return session, ok
}

func (a *activity) setService(u serviceUse, session string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.services) >= maxServices {
		clear(a.services)
	}
	a.services[u] = session
}

// sweep closes sessions that have lapsed and were never used again.
func (d *Directory) sweep(tx *ledger.Tx) error {
	view := tx.View(projectionName)
	var failed error
	n := 0
	view.Ascend(bucketEnds, nil, func(k, token []byte) bool {
		var row sessionRow
		if _, failed = get(view, bucketSessions, token, &row); failed != nil {
			return false
		}
		if tx.Now().Before(row.Expires) || n == sweepAtOnce {
			return false
		}
		n++
		tx.Emit(ledger.Event{Type: chain.SessionClosed, Actor: System("sessions").Actor(), Body: sessionClosed{
			Cause: closedLapsed, ID: row.Signer, Session: row.ID,
		}})
		return true
	})
	return failed
}

// Recover closes the sessions that another process has left open. They are refused in any case; call it at the start to
// have it on record.
func (d *Directory) Recover(ctx context.Context) error {
	if err := d.noteConfiguration(ctx); err != nil {
		return err
	}
	for {
		n := 0
		_, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
			n = 0
			view := tx.View(projectionName)
			var failed error
			view.Ascend(bucketSessions, nil, func(_, v []byte) bool {
				var row sessionRow
				if failed = decode(bucketSessions, v, &row); failed != nil {
					return false
				}
				d.activity.mu.Lock()
				_, known := d.activity.sessions[row.ID]
				d.activity.mu.Unlock()
				if known {
					return true
				}
				n++
				tx.Emit(ledger.Event{Type: chain.SessionClosed, Actor: System("sessions").Actor(), Body: sessionClosed{
					Cause: closedRestarted, ID: row.Signer, Session: row.ID,
				}})
				return n < 256
			})
			return failed
		})
		if err != nil || n < 256 {
			return err
		}
	}
}

// CloseSession ends the caller's session.
func (d *Directory) CloseSession(ctx context.Context, caller Caller) error {
	if caller.Session == "" || caller.Method != MethodPassword {
		return fmt.Errorf("%w: a client certificate opens no session that could be closed", ErrState)
	}
	_, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		if tx.View(projectionName).Get(bucketOpen, openKey(caller.ID, caller.Session)) == nil {
			return ErrSession
		}
		tx.Emit(ledger.Event{Type: chain.SessionClosed, Actor: caller.Actor(), Body: sessionClosed{
			Cause: closedByCaller, ID: caller.ID, Session: caller.Session,
		}})
		return nil
	})
	if err == nil {
		d.activity.forget(caller.Session)
	}
	return err
}

// Authenticate says who makes a call: the person whose session the bearer token opened, or the service whose client
// certificate TLS has verified the possession of. A token that leads nowhere is refused even where a certificate is
// there too.
//
// above are the certificates that came with that of the peer: the organisation's CA may have issued it through them.
func (d *Directory) Authenticate(ctx context.Context, bearer Secret, peer *x509.Certificate, src Source, above ...*x509.Certificate) (Caller, error) {
	switch {
	case bearer != "":
		return d.bySession(ctx, bearer, src)
	case peer != nil:
		c, err := d.byCertificate(ctx, peer, above, src)
		return c, d.countCertificate(ctx, src, peer, err)
	}
	return Caller{}, ErrSession
}

func (d *Directory) bySession(ctx context.Context, bearer Secret, src Source) (Caller, error) {
	if len(bearer) > maxToken {
		return Caller{}, ErrSession
	}
	var session sessionRow
	var row signerRow
	var roles []Role
	err := d.settled(ctx, func(r *ledger.Read) error {
		view := r.View(projectionName)
		ok, err := get(view, bucketSessions, []byte(hexSum([]byte(bearer))), &session)
		if err != nil || !ok {
			return errors.Join(err, unless(ok, ErrSession))
		}
		row, ok, err = d.rows.get(view, session.Signer)
		if err != nil || !ok || row.State != StateActive {
			return errors.Join(err, ErrSession)
		}
		roles, err = d.callerRoles(r, row)
		return err
	})
	if err != nil {
		return Caller{}, err
	}
	now := d.cfg.Clock()
	cause := closedLapsed
	if now.Before(session.Expires.Time()) {
		cause = d.activity.touch(session.ID, place(src), now)
	}
	if cause != "" {
		d.end(ctx, session, cause, src)
		return Caller{}, fmt.Errorf("%w (%s)", ErrSession, cause)
	}
	return Caller{
		ID: row.ID, Kind: chain.Person, Method: MethodPassword, Session: session.ID, Expires: session.Expires.Time(), Roles: roles,
		Source: session.Source, PasswordExpired: d.passwordExpired(row, now),
	}, nil
}

func unless(ok bool, err error) error {
	if ok {
		return nil
	}
	return err
}

// end records, once, that a session is over. If that fails the session is over all the same: nobody remembers it any
// more.
func (d *Directory) end(ctx context.Context, session sessionRow, cause string, src Source) {
	if !d.activity.forget(session.ID) && cause != closedRestarted {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	actor := System("sessions").Actor()
	source, err := d.sources.of(src)
	if err == nil {
		actor.Source = source.commitment
		_, err = d.ledger.Do(ctx, func(tx *ledger.Tx) error {
			if tx.View(projectionName).Get(bucketOpen, openKey(session.Signer, session.ID)) == nil {
				return nil
			}
			source.put(tx)
			tx.Emit(ledger.Event{Type: chain.SessionClosed, Actor: actor, Body: sessionClosed{
				Cause: cause, ID: session.Signer, Session: session.ID,
			}})
			return nil
		})
	}
	if err != nil {
		d.cfg.Log.ErrorContext(ctx, "the end of a session was not recorded", "session", session.ID, "cause", cause, "error", err)
	}
}

// place is what has to stay the same while a session lasts: the address, whichever way it is written, and the device.
func place(s Source) Source {
	s = Source{Address: clip(s.Address), Device: clip(s.Device)}
	if a, err := netip.ParseAddr(s.Address); err == nil {
		if a = a.Unmap(); a.IsLoopback() {
			a = netip.IPv6Loopback() // localhost is one place
		}
		s.Address = a.String()
	}
	return s
}
