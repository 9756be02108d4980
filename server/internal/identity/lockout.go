package identity

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/notify"
)

// # Failures
//
// Failures are counted by the person and by where they come from, so that whoever guesses from elsewhere locks out themselves and not the
// person whose name they use:
//
//   - by name and network: a name is locked for the networks from which it was guessed, and each lock in a row lasts longer;
//   - by name: after many more failures it is locked for all networks from which nobody has ever logged in, and, counted apart, for those
//     from which somebody has;
//   - by network, whatever the names are: one that tries many names is refused;
//   - by session: who is in a session proves themselves again in a lane of their own, which the failures of others do not touch. Where too
//     many fail in it, it may be stolen: then the name is locked for its network, too;
//   - everything together: while a flood of failures goes on, people log in from networks only from which somebody has logged in before;
//   - by client certificate of a service, and for unknown ones by network and in all.
//
// What is refused is not looked at, and leaves no entry: so the ledger grows by a bounded number of entries in a lock's time, whatever is
// sent. Names that exist and names that do not are counted alike, and a network is known or not whoever has logged in from there: neither a
// lock nor a delay says anything of a name. Networks and names stand in the ledger blinded.

// LockoutConfig bounds guesses beyond [Config].LockAfter. Zero values mean the defaults.
type LockoutConfig struct {
	Name    int           // failures of one name from all networks together until it is locked for all; 50
	Network int           // failures from one network, whatever the names, of which one is forgotten each minute; 100
	Flood   int           // failures in all, of which one is forgotten each second; 500
	Delay   time.Duration // after the third failure in a row; twice as long after each further one; 1 s
}

func (c LockoutConfig) withDefaults() (LockoutConfig, error) {
	if c.Name < 0 || c.Network < 0 || c.Flood < 0 || c.Delay < 0 {
		return c, invalid("the lockout's numbers must not be negative")
	}
	for _, n := range []struct {
		value     *int
		otherwise int
	}{{&c.Name, 50}, {&c.Network, 100}, {&c.Flood, 500}} {
		if *n.value == 0 {
			*n.value = n.otherwise
		}
	}
	if c.Delay == 0 {
		c.Delay = time.Second
	}
	return c, nil
}

// standingFor is how long a network is known after somebody has logged in from it.
const standingFor = 90 * 24 * time.Hour

// counterKind is what a counter counts.
type counterKind string

// The kinds of counters, as keys and entries name them.
const (
	countPlace       counterKind = "place"       // failures of a name from a network
	countCode        counterKind = "code"        // one-time codes of a name from a network
	countSession     counterKind = "session"     // failures in a session
	countStrangers   counterKind = "strangers"   // failures of a name from networks that are not known
	countKnown       counterKind = "known"       // failures of a name from networks that are
	countNetwork     counterKind = "network"     // failures from a network, whatever the name
	countFlood       counterKind = "flood"       // failures in all
	countCertificate counterKind = "certificate" // calls with a client certificate that did not hold
	countUnknown     counterKind = "unknown"     // calls from a network with client certificates that are nobody's
	countUnknowns    counterKind = "unknowns"    // such calls in all
	countAlerts      counterKind = "alerts"      // alerts about locks of somebody's name
	shownLock        counterKind = "shown"       // no counter: until when a name is locked anywhere
)

// leaks are the counters that forget one failure after the other. The others forget all, on success or after forgetAfter.
var leaks = map[counterKind]time.Duration{
	countNetwork: time.Minute, countFlood: time.Second, countUnknown: time.Minute, countUnknowns: time.Second, countAlerts: 20 * time.Minute,
}

// mostAlerts is how many locks of one name, or of names that are nobody's together, raise an alert of their own before it gets quiet.
const mostAlerts = 3

// counter is one counter.
type counter struct {
	kind counterKind
	of   string // the blinded name, the id of a signer, or empty
	at   string // the blinded network, the session, the digest of a certificate, or empty
	gate bool   // whether it refuses the attempt, or only counts it
}

func (c counter) key() []byte { return []byte(c.of + "/" + string(c.kind) + "/" + c.at) }

// ofName is where the keys of all counters of a name begin.
func ofName(blinded string) []byte { return []byte(blinded + "/") }

// aboutName reports whether a lock is one of a name; otherwise it is one of a source.
func (k counterKind) aboutName() bool {
	switch k {
	case countPlace, countCode, countSession, countStrangers, countKnown, countCertificate:
		return true
	}
	return false
}

// counters lists where an attempt counts. It is a function of the entry, so that replay counts alike.
func (b authenticationFailed) counters(session string) []counter {
	var out []counter
	add := func(kind counterKind, of, at string, gate bool) {
		out = append(out, counter{kind: kind, of: of, at: at, gate: gate})
	}
	if b.Purpose == purposeService {
		if b.ID != "" {
			add(countCertificate, b.ID, b.Counter, true)
		} else {
			add(countUnknown, "", b.Place, true)
			add(countUnknowns, "", "", true)
		}
		return out
	}
	switch {
	case b.Counter == "":
	case b.Purpose == purposeCode:
		add(countCode, b.Counter, b.Place, true)
	case session != "":
		add(countSession, b.Counter, session, true)
	default:
		add(countPlace, b.Counter, b.Place, true)
		if b.Known {
			add(countKnown, b.Counter, "", true)
		} else {
			add(countStrangers, b.Counter, "", true)
		}
	}
	if b.Place != "" {
		add(countNetwork, "", b.Place, session == "")
	}
	if session == "" {
		add(countFlood, "", "", !b.Known)
	}
	return out
}

// rule says what a counter makes of its failures.
func (d *Directory) rule(kind counterKind) rule {
	r := rule{lock: d.cfg.LockFor, grows: true}
	switch kind {
	case countPlace, countCode, countSession:
		r.after, r.delay = d.cfg.LockAfter, d.cfg.Lockout.Delay
	case countStrangers, countKnown:
		r.after = d.cfg.Lockout.Name
	case countNetwork:
		r.after = d.cfg.Lockout.Network
	case countFlood, countUnknowns:
		r.after, r.grows = d.cfg.Lockout.Flood, false
	case countCertificate, countUnknown:
		r.after = d.cfg.LockAfter
	}
	return r
}

// network is the network of an address for which failures are counted: the address itself, or what one customer has of IPv6.
func network(address string) string {
	a, err := netip.ParseAddr(clip(address))
	if err != nil {
		return clip(address)
	}
	if a = a.Unmap().WithZone(""); a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// placeOf returns the network of a source, blinded as names are; empty where the address is not known.
func (d *Directory) placeOf(ctx context.Context, src Source) (string, error) {
	if src.Address == "" {
		return "", nil
	}
	if _, err := d.blinder(ctx); err != nil {
		return "", err
	}
	d.namesMu.Lock()
	key := d.names
	d.namesMu.Unlock()
	h := hmac.New(sha256.New, key)
	h.Write([]byte("signet network\x00" + network(src.Address)))
	return hex.EncodeToString(h.Sum(nil)), nil
}

// failure is the entry of an attempt, if it fails, without the counts.
func (a attempt) failure(view reader, now chain.Time) (authenticationFailed, error) {
	b := authenticationFailed{Counter: a.counter, Name: a.blinded, Place: a.place, Purpose: a.purpose, Subject: a.subject}
	if a.actor.Session != "" { // where it was opened: it is over as soon as it is used from elsewhere
		var err error
		if b.Place, err = placeOfSession(view, a.actor); err != nil {
			return b, err
		}
	}
	var seen standingRow
	if b.Place != "" {
		if _, err := get(view, bucketPlaces, []byte(b.Place), &seen); err != nil {
			return b, err
		}
		b.Known = now.Before(seen.Last.Add(standingFor))
	}
	return b, nil
}

// placeOfSession is the network from which a session was opened.
func placeOfSession(view reader, actor chain.Actor) (string, error) {
	token := view.Get(bucketOpen, openKey(actor.ID, actor.Session))
	if token == nil {
		return "", nil
	}
	var row sessionRow
	_, err := get(view, bucketSessions, token, &row)
	return row.Place, err
}

// checkLock says whether an attempt is refused unseen.
func (d *Directory) checkLock(view reader, a attempt) error {
	return d.refused(view, a, chain.NewTime(d.cfg.Clock()))
}

// refused says whether an attempt is refused unseen: with [LockedError] or [TooSoonError].
func (d *Directory) refused(view reader, a attempt, now chain.Time) error {
	b, err := a.failure(view, now)
	if err != nil {
		return err
	}
	return d.refusedBy(view, b.counters(a.actor.Session), now)
}

func (d *Directory) refusedBy(view reader, counters []counter, now chain.Time) error {
	var locked, wait chain.Time
	for _, c := range counters {
		if !c.gate {
			continue
		}
		t, err := getTally(view, c.key())
		if err != nil {
			return err
		}
		until, isLock := d.rule(c.kind).wait(t, now, leaks[c.kind])
		switch {
		case isLock && locked.Before(until):
			locked = until
		case !isLock && wait.Before(until):
			wait = until
		}
	}
	switch {
	case !locked.IsZero() && now.Before(locked):
		return &LockedError{Until: locked.Time(), now: now.Time()}
	case now.Before(wait):
		return &TooSoonError{Until: wait.Time(), now: now.Time()}
	}
	return nil
}

// lockError says whether a name is locked for anybody.
func lockError(view reader, blinded string, now time.Time) error {
	shown, err := lockedUntil(view, blinded)
	if until := shown.Time(); err == nil && now.Before(until) {
		return &LockedError{Until: until, now: now}
	}
	return err
}

// recordFailure counts a failure, and locks what has failed too often. Attempts while it is locked leave no entry of their own: the entry
// of the lock says that they are refused unseen, and nobody fills the disk with them.
func (d *Directory) recordFailure(ctx context.Context, a attempt, id string) error {
	_, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		b, err := a.failure(tx.View(projectionName), tx.Now())
		if err != nil {
			return err
		}
		b.ID = id
		about := id
		if a.owner != "" {
			about = a.owner
		}
		a.source.put(tx)
		return d.count(tx, a.actor, b, about)
	})
	if err != nil {
		return err
	}
	if a.purpose == purposeCode {
		return ErrCodeInvalid
	}
	return ErrBadCredentials
}

// count appends a failure, and the locks that follow from it.
func (d *Directory) count(tx *ledger.Tx, actor chain.Actor, b authenticationFailed, about string) error {
	view, now := tx.View(projectionName), tx.Now()
	counters := b.counters(actor.Session)
	if err := d.refusedBy(view, counters, now); err != nil {
		return err // another failure was faster
	}
	after := make([]tally, len(counters))
	for i, c := range counters {
		t, err := getTally(view, c.key())
		if err != nil {
			return err
		}
		after[i] = t.fail(now, leaks[c.kind])
		switch c.kind {
		case countNetwork, countUnknown:
			b.OfNetwork = after[i].Count
		case countStrangers, countKnown:
			b.OfName = after[i].Count
		case countFlood:
			b.OfAll = after[i].Count
		}
		if c.gate && (c.kind.aboutName() && c.kind != countStrangers && c.kind != countKnown || c.kind == countUnknown) {
			b.Failures = after[i].Count
		}
	}
	tx.Emit(ledger.Event{Type: chain.AuthenticationFailed, Actor: actor, Body: b})
	alerted := false
	for i, c := range counters {
		until, ok := d.rule(c.kind).lockUntil(after[i], now)
		if !ok {
			continue
		}
		ev := ledger.Event{Type: chain.SourceLocked, Actor: System("lockout").Actor(), Body: sourceLocked{
			Failures: after[i].Count, Place: c.at, Scope: c.kind, Until: until,
		}}
		if c.kind.aboutName() {
			lock := signerLocked{Counter: c.of, Failures: after[i].Count, ID: about, Place: b.Place, Scope: c.kind, Until: until}
			switch c.kind {
			case countSession:
				lock.Session = c.at
			case countCertificate:
				lock.Counter, lock.Certificate = "", c.at
			}
			ev.Type, ev.Body = chain.SignerLocked, lock
		}
		entry := tx.Emit(ev)
		if alerted && c.kind != countFlood {
			continue
		}
		raised, err := d.alert(tx, c, entry, about, after[i].Count, until)
		if err != nil {
			return err
		}
		alerted = alerted || raised
	}
	return nil
}

// alert tells the security unit of a lock. Locks of one name, and those of names that are nobody's, raise a few alerts in a row and not
// one each: whoever provokes a thousand does not hide anything behind them.
func (d *Directory) alert(tx *ledger.Tx, c counter, entry uint64, about string, failures int, until chain.Time) (raised bool, err error) {
	if c.kind != countFlood {
		t, err := getTally(tx.View(projectionName), alertsOf(c.kind, about).key())
		if err != nil || t.at(tx.Now(), leaks[countAlerts]).Count >= mostAlerts {
			return false, err
		}
	}
	who := "a name that is nobody's"
	if row, ok, err := getSigner(tx.View(projectionName), about); err != nil {
		return false, err
	} else if ok {
		who = row.shown()
	}
	kind, subject, what := "signer.locked", about, ""
	switch c.kind {
	case countPlace:
		what = fmt.Sprintf("%d wrong credentials in a row for %s from one address. The name is locked for that address", failures, who)
	case countCode:
		what = fmt.Sprintf("%d wrong enrolment codes in a row for %s from one address. The name is locked for that address", failures, who)
	case countSession:
		what = fmt.Sprintf("%d wrong credentials in a row in an open session of %s. The session may be stolen. It signs nothing", failures, who)
	case countStrangers, countKnown:
		what = fmt.Sprintf("%d wrong credentials for %s from several addresses. The name is locked everywhere but in open sessions%s", failures, who,
			map[bool]string{true: " and at known addresses"}[c.kind == countStrangers])
	case countCertificate:
		what = fmt.Sprintf("%d calls in a row with a client certificate of %s that is not let in. It is refused unseen", failures, who)
	default:
		kind, subject = "source.locked", ""
		switch c.kind {
		case countUnknown:
			what = fmt.Sprintf("%d calls from one address with client certificates that are nobody's. They are refused unseen", failures)
		case countUnknowns:
			what = fmt.Sprintf("%d calls within minutes, from everywhere, with client certificates that are nobody's. They are refused unseen", failures)
		case countFlood:
			what = fmt.Sprintf("%d failed logins within minutes, from everywhere. Only known addresses and open sessions are let in", failures)
		default:
			what = fmt.Sprintf("%d failed logins from one address, under several names. It is locked", failures)
		}
	}
	notify.Raise(tx, notify.Alert{
		Kind: kind, Subject: subject, Entry: entry, Audience: notify.Security, Summary: what + " until " + until.Time().Format("2006-01-02 15:04:05 UTC") + ".",
	})
	return true, nil
}

// alertsOf is the counter of the alerts about a lock.
func alertsOf(kind counterKind, about string) counter {
	if !kind.aboutName() {
		about = string(kind)
	}
	return counter{kind: countAlerts, of: "alerts", at: about}
}

// countCertificate counts a call whose client certificate lets nobody in, and returns why it does not. Who calls hears the same each time; the
// ledger hears of the first few, of the lock, and then nothing for a while.
func (d *Directory) countCertificate(ctx context.Context, src Source, peer *x509.Certificate, cause error) error {
	counted := false
	for _, err := range []error{ErrSession, ErrCertificateExpired, ErrCertificateInvalid, ErrSuspended, ErrRevoked} {
		counted = counted || errors.Is(cause, err)
	}
	if !counted {
		return cause
	}
	place, err := d.placeOf(ctx, src)
	if err != nil {
		return errJoin(cause, err)
	}
	source, err := d.sources.of(src)
	if err != nil {
		return errJoin(cause, err)
	}
	b := authenticationFailed{Place: place, Purpose: purposeService, Subject: hexSum(peer.Raw)}
	refused := false
	err = d.ledger.View(func(r *ledger.Read) error {
		view := r.View(projectionName)
		id := view.Get(bucketPins, []byte("cert:"+b.Subject))
		if id != nil {
			b.Counter = b.Subject
		} else { // whoever has the key makes as many certificates as they like: they count together
			id = view.Get(bucketPins, []byte("spki:"+hexSum(peer.RawSubjectPublicKeyInfo)))
		}
		b.ID = string(id)
		err := d.refusedBy(view, b.counters(""), chain.NewTime(d.cfg.Clock()))
		refused = errors.Is(err, ErrLocked)
		return unless(refused, err)
	})
	if err != nil || refused {
		return errJoin(cause, err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	actor := System("anonymous").Actor()
	actor.Source = source.commitment
	_, err = d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		source.put(tx)
		return d.count(tx, actor, b, b.ID)
	})
	if errors.Is(err, ErrLocked) { // another call was faster
		err = nil
	}
	return errJoin(cause, err)
}
