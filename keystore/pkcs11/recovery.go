package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/signetd/signet/keystore"
)

// What the setting up anew of a token waits for. A device that comes back is used again after at most maxDelay, with its
// jitter, and the attempt itself.
const (
	minDelay    = 25 * time.Millisecond
	maxDelay    = 250 * time.Millisecond
	pinDelay    = time.Second            // until a PIN source is asked again
	drainLimit  = time.Second            // for calls of others to end before the module is finalised
	longCall    = 250 * time.Millisecond // others are not held up at all for a call that has been running this long
	proofLimit  = 10 * time.Second       // for a token that was set up anew to fail again in the same outage
	pinPatience = 30 * time.Second       // for a PIN source
	hangRetry   = time.Second            // what callers are told while calls hang

	// Setting up anew may take a tenth of the time of a module that otherwise works, after a few at once.
	share    = 10
	ahead    = 2 * time.Second
	maxPause = 500 * time.Millisecond
)

// A condition is what a token's callers see of it.
type condition struct {
	state   keystore.State
	since   time.Time
	reason  error         // why it does not work
	grace   time.Time     // until then callers wait for it to work again
	failed  bool          // an attempt to set it up anew was made, and did not help
	changed chan struct{} // closed when there is another condition
}

// setCondition replaces the condition. mu of the module is held.
func (t *Token) setCondition(state keystore.State, reason error, grace time.Time) {
	t.setConditionTo(condition{state: state, reason: reason, grace: grace})
}

func (t *Token) setConditionTo(c condition) {
	old := t.condition.Load()
	c.since, c.changed = time.Now(), make(chan struct{})
	if old != nil && old.state == c.state {
		c.since = old.since
	}
	t.condition.Store(&c)
	if old != nil {
		close(old.changed)
	}
}

// ready returns when the token can be used, or why it cannot. After a failure callers wait for a moment, since most devices are
// back after milliseconds; then they are sent away at once.
func (t *Token) ready(ctx context.Context) error {
	if t.condition.Load().state == keystore.Working {
		return nil
	}
	return t.becomeReady(ctx)
}

func (t *Token) becomeReady(ctx context.Context) error {
	if int(t.patient.Add(1)) > t.config.Queue {
		t.patient.Add(-1)
		return t.full()
	}
	defer t.patient.Add(-1)
	for {
		c := t.condition.Load()
		switch c.state {
		case keystore.Working:
			return nil
		case keystore.Closed:
			return errClosed
		}
		t.poke()
		wait := time.Until(c.grace)
		if wait <= 0 {
			return unavailable(t.retryAfter(), c.reason)
		}
		timer := time.NewTimer(wait)
		select {
		case <-c.changed:
		case <-timer.C:
		case <-t.closing:
		case <-ctx.Done():
			timer.Stop()
			return expired(ctx)
		}
		timer.Stop()
		select {
		case <-t.closing:
			return errClosed
		default:
		}
	}
}

// retryAfter says when trying again makes sense.
func (t *Token) retryAfter() time.Duration {
	m := t.module
	m.mu.Lock()
	defer m.mu.Unlock()
	return min(max(time.Until(t.next)+m.cost, minDelay), hangRetry)
}

// poke brings the next attempt forward, as far as that is allowed.
func (t *Token) poke() {
	m := t.module
	m.mu.Lock()
	defer m.mu.Unlock()
	if !t.sick {
		return
	}
	if t.state() == keystore.Refusing {
		return // a person has to act first
	}
	if earliest := m.earliestLocked(t); earliest.Before(t.next) {
		t.next = earliest
		m.keepLocked()
	}
}

// earliestLocked is when an attempt for a token may be made at the earliest.
func (m *module) earliestLocked(t *Token) time.Time {
	pause := max(minDelay, m.cost, t.delay/4)
	if !t.outage.IsZero() && m.ended.Before(t.outage) {
		pause = 0 // the first of this outage
	}
	earliest := m.ended.Add(pause)
	if credit := m.credit.Add(-ahead); credit.After(earliest) {
		earliest = credit
	}
	return earliest
}

// Reset implements [keystore.Resetter].
func (t *Token) Reset(ctx context.Context, suspect uint64, reason error) error {
	_ = t.fail(suspect, reason)
	for {
		c := t.condition.Load()
		switch {
		case c.state == keystore.Working && t.epoch.Load() != suspect:
			return nil
		case c.state == keystore.Closed:
			return errClosed
		case c.failed:
			return unavailable(t.retryAfter(), c.reason)
		}
		select {
		case <-c.changed:
		case <-ctx.Done():
			return expired(ctx)
		case <-t.closing:
			return errClosed
		}
	}
}

// judge says what an error means for the token, in which epoch the call was made, and begins to set it up anew if it
// must be. What it returns is for the caller.
func (t *Token) judge(epoch uint64, err error) error {
	if err == nil {
		return nil
	}
	rv := code(err)
	if rv != 0 {
		t.stats.failed(rv)
	}
	if errors.Is(err, keystore.ErrPIN) {
		return t.refuse(epoch, err)
	}
	if rv == 0 {
		return err
	}
	switch meaningOf(rv) {
	case deviceGone:
		return t.fail(epoch, err)
	case doubtful:
		return t.suspect(epoch, err)
	}
	return err
}

// suspect notes a failure that can be the device's.
func (t *Token) suspect(epoch uint64, err error) error {
	if t.doubt.Add(1) >= enoughDoubt {
		return t.fail(epoch, err)
	}
	return err
}

// worked says that a call came back with what it should: whatever failed before was not the device.
func (t *Token) worked() {
	if t.doubt.Load() != 0 {
		t.doubt.Store(0)
	}
}

// signed says that the token made a signature, so that it is not only set up, but works.
func (t *Token) signed() {
	t.worked()
	if t.unproven.Load() {
		t.unproven.Store(false)
	}
}

// fail begins to set the token up anew, with its whole module, because of a failure in that epoch, unless that has been done
// since.
func (t *Token) fail(epoch uint64, cause error) error {
	m := t.module
	m.mu.Lock()
	defer m.mu.Unlock()
	if t.epoch.Load() == epoch && !t.sick && m.open[t.id] == t {
		t.sickenLocked(true, cause)
		t.next = time.Now()
		if t.delay > 0 {
			t.next = t.next.Add(jitter(t.delay))
		}
		if earliest := m.earliestLocked(t); t.next.Before(earliest) {
			t.next = earliest
		}
		m.keepLocked()
	}
	return &goneError{unavailable(minDelay, cause)}
}

// sickenLocked bars the token. An outage lasts from the first failure to the next signature: what fails again as soon as it was
// set up was not set up at all.
func (t *Token) sickenLocked(full bool, cause error) {
	if t.unproven.Load() && time.Since(t.recovered) < proofLimit {
		t.delay = longer(t.delay)
	} else {
		t.outage, t.delay = time.Now(), 0
	}
	t.sick, t.barred, t.anew = true, true, t.anew || full
	t.setCondition(keystore.Recovering, cause, t.outage.Add(t.config.Grace))
}

// refuse keeps the token from being used until its PIN source has another PIN, or the token takes it again.
func (t *Token) refuse(epoch uint64, cause error) error {
	m := t.module
	m.mu.Lock()
	defer m.mu.Unlock()
	if t.epoch.Load() == epoch && !t.sick && m.open[t.id] == t {
		t.sick, t.barred = true, true
		t.next = time.Now().Add(pinDelay)
		t.setCondition(keystore.Refusing, cause, time.Time{})
		m.keepLocked()
	}
	return unavailable(pinDelay, cause)
}

func (t *Token) state() keystore.State { return t.condition.Load().state }

func longer(d time.Duration) time.Duration { return min(max(2*d, minDelay), maxDelay) }

func jitter(d time.Duration) time.Duration { return d - d/8 + rand.N(d/4+1) }

// attempt tries to set up anew the tokens whose turn it is.
func (m *module) attempt() {
	began := time.Now()
	m.mu.Lock()
	var due, others []*Token
	anew := false
	for _, t := range m.open {
		switch {
		case t.sick && !t.next.After(began):
			due = append(due, t)
			anew = anew || t.anew
		default:
			others = append(others, t)
		}
	}
	m.mu.Unlock()
	switch {
	case len(due) == 0:
		return
	case !anew:
		m.reconnect(due)
	case m.drain(due, others):
		m.restart(append(due, others...))
	default:
		m.reconnect(due) // calls that hang keep the module from being finalised, and the rest may work
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = time.Now()
	m.cost = m.ended.Sub(began)
	m.spendLocked(due)
}

// spendLocked notes what an attempt cost. Where other tokens of the module work, which it holds up, attempts may take a share of the
// time only. No pause is much longer than the attempt before it: a device that is back is to be found soon.
func (m *module) spendLocked(due []*Token) {
	factor := time.Duration(1)
	for _, t := range m.open {
		if !t.sick && !slices.Contains(due, t) {
			factor = share
		}
	}
	if m.credit.Before(m.ended) {
		m.credit = m.ended
	}
	m.credit = m.credit.Add(factor * m.cost)
	if most := m.ended.Add(ahead + max(maxPause, 4*m.cost)); m.credit.After(most) {
		m.credit = most
	}
}

// drain bars all tokens of the module and waits until no call is in it. It gives up, and lets the others go on, if that takes too
// long.
func (m *module) drain(due, others []*Token) bool {
	m.mu.Lock()
	if m.calls > 0 && m.lingersLocked(due, others) {
		m.mu.Unlock()
		return false
	}
	m.barLocked(due, others)
	m.keeper.end() // it waits, but for no call of its own
	defer m.keeper.begin()
	limit := time.NewTimer(drainLimit)
	defer limit.Stop()
	for m.calls > 0 {
		m.mu.Unlock()
		select {
		case <-m.empty:
		case <-limit.C:
			m.mu.Lock()
			if m.calls == 0 {
				continue
			}
			for _, t := range others {
				if t.sick {
					continue
				}
				t.barred = false
				t.setCondition(keystore.Working, nil, time.Time{})
			}
			m.mu.Unlock()
			return false
		}
		m.mu.Lock()
	}
	m.mu.Unlock()
	return true
}

// lingersLocked says that waiting is not worth it: a call has been running for long, and other tokens work.
func (m *module) lingersLocked(due, others []*Token) bool {
	if !slices.ContainsFunc(others, func(t *Token) bool { return !t.sick }) {
		return false
	}
	return slices.ContainsFunc(append(due[:len(due):len(due)], others...), func(t *Token) bool {
		return t.desk.hangs(longCall) || slices.ContainsFunc(t.workers, func(w *worker) bool { return w.busy.hangs(longCall) })
	})
}

var errOthersFailed = errors.New("its PKCS#11 module is being set up anew, since another token of it failed")

func (m *module) barLocked(due, others []*Token) {
	for _, t := range due {
		t.barred = true
	}
	for _, t := range others {
		if t.sick {
			continue
		}
		t.barred = true
		t.setCondition(keystore.Recovering, errOthersFailed, time.Now().Add(t.config.Grace))
	}
}

// restart finalises and initialises the module, in which no call runs, and sets up all its tokens.
func (m *module) restart(all []*Token) {
	var err error
	if m.initialized {
		if err = m.finalize(); err != nil { // which matters only if it cannot be initialised then, either
			for _, t := range all {
				_ = m.ctx.CloseAllSessions(t.info.Load().Slot)
			}
		}
	}
	if ierr := m.initialize(m.conf); ierr != nil {
		err = errors.Join(ierr, err)
		for _, t := range all {
			t.attempted(err)
		}
		return
	}
	tokens, err := m.tokens()
	for _, t := range all {
		t.sessions.Store(0) // they went with the module
		if err != nil {
			t.attempted(err)
			continue
		}
		t.attempted(t.setUp(tokens))
	}
}

// reconnect sets up tokens without finalising the module: new sessions, a new login, new handles. What a token failed with
// may need more; then it has healed only if it has a key that it had.
func (m *module) reconnect(tokens []*Token) {
	m.mu.Lock()
	var free []*Token
	for _, t := range tokens {
		t.barred = true
		if t.deskIn {
			t.next = time.Now().Add(jitter(maxDelay)) // its control session is in a call
		} else {
			free = append(free, t)
		}
	}
	m.mu.Unlock()
	if len(free) == 0 {
		return
	}
	list, err := []TokenInfo(nil), fmt.Errorf("%w: its PKCS#11 module could not be initialised", keystore.ErrUnavailable)
	if m.initialized {
		list, err = m.tokens()
	}
	for _, t := range free {
		err := err
		if err == nil {
			err = t.setUp(list)
		}
		if err == nil && t.needsAll() {
			err = t.control.hasKeys()
		}
		t.attempted(err)
	}
}

func (t *Token) needsAll() bool {
	t.module.mu.Lock()
	defer t.module.mu.Unlock()
	return t.anew
}

// attempted notes how the setting up of a token ended.
func (t *Token) attempted(err error) {
	if rv := code(err); err != nil && rv != 0 {
		t.stats.failed(rv)
	}
	m := t.module
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open[t.id] != t {
		return // closed meanwhile
	}
	if err == nil {
		failed := t.sick
		t.sick, t.anew, t.barred = false, false, false
		t.doubt.Store(0)
		if failed {
			t.recoveries.Add(1)
			t.unproven.Store(true)
			t.recovered = time.Now()
		}
		t.setCondition(keystore.Working, nil, time.Time{})
		return
	}
	refused, other := errors.Is(err, keystore.ErrPIN), errors.Is(err, errOther)
	if !t.sick {
		t.sickenLocked(true, err)
	}
	t.barred = true
	t.anew = !refused // with another PIN it needs no more than a login
	t.delay = longer(t.delay)
	delay := t.delay
	if refused {
		delay = pinDelay
	}
	t.next = time.Now().Add(jitter(delay))
	c := condition{state: keystore.Recovering, reason: err, grace: t.outage.Add(t.config.Grace), failed: true}
	if refused || other {
		c.state, c.grace = keystore.Refusing, time.Time{}
	}
	t.setConditionTo(c)
}

var errOther = errors.New("another token is in its place")

// setUp finds the token among those that are there, and opens its control session. The keeper does it while no task of the
// token runs.
func (t *Token) setUp(tokens []TokenInfo) error {
	info, err := t.recognise(tokens)
	if err != nil {
		return err
	}
	t.info.Store(&info)
	t.control.drop()
	t.setup.Add(1) // the workers' sessions are of the past
	ctx, cancel := context.WithTimeout(t.life, pinPatience)
	defer cancel()
	return t.control.connect(ctx)
}

// recognise finds the token that was opened: by its serial number. One that has its label and another number is not it.
func (t *Token) recognise(tokens []TokenInfo) (TokenInfo, error) {
	if t.serial == "" {
		info, err := pick(tokens, t.config.TokenLabel, "")
		if err == nil && info.Serial != "" {
			err = fmt.Errorf("%w: %w: the token with the label %q had no serial number and has %s now", keystore.ErrUnavailable,
				errOther, t.config.TokenLabel, info.Serial)
		}
		return info, err
	}
	if t.config.TokenLabel != "" {
		if info, err := pick(tokens, t.config.TokenLabel, t.serial); err == nil {
			return info, nil // tokens of some modules share one serial number
		}
	}
	info, err := pick(tokens, "", t.serial)
	if err == nil && t.config.TokenLabel != "" && info.Label != t.config.TokenLabel {
		return TokenInfo{}, fmt.Errorf("%w: %w: the token with serial number %s had the label %q and has %q now; it was initialised "+
			"anew, and its keys are gone", keystore.ErrUnavailable, errOther, t.serial, t.config.TokenLabel, info.Label)
	}
	if err == nil || t.config.TokenLabel == "" {
		return info, err
	}
	if other, oerr := pick(tokens, t.config.TokenLabel, ""); oerr == nil {
		return TokenInfo{}, fmt.Errorf("%w: %w: a token with the label %q is there, but with serial number %s instead of %s; "+
			"if the keys were moved to it, restart this program with its serial number", keystore.ErrUnavailable, errOther,
			other.Label, other.Serial, t.serial)
	}
	return TokenInfo{}, err
}
