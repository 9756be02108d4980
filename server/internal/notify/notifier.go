package notify

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
)

// Config is what a [Notifier] works with.
type Config struct {
	Ledger *ledger.Ledger // opened with [Projection]
	Clock  func() time.Time
	Log    *slog.Logger

	Organisation, Environment, Issuer string // as messages name them

	Repeat        time.Duration  // an alert is repeated after this long
	EscalateAfter time.Duration  // and escalated after this long
	Zone          *time.Location // of messages to the security unit and to management; nil: UTC

	Mail     *Mail // nil: none
	Webhooks []Webhook

	// ZoneOf returns the time zone of a signer, or "".
	ZoneOf func(r *ledger.Read, signer string) string
}

// Bounds of delivery.
const (
	tick         = 500 * time.Millisecond // how often new alerts are looked for
	firstPause   = 5 * time.Second        // after a failure; it doubles each time
	longestAlert = 5 * time.Minute        // between two tries of an alert
	longestNews  = 4 * time.Hour          // and of news to a signer
	firstHold    = time.Second            // after a channel was found to be down; it doubles each time
	longestHold  = 5 * time.Minute
	giveUp       = 72 * time.Hour // news that a mail server goes on refusing
	atOnce       = 32             // messages of a channel in one go
	recordLimit  = 15 * time.Second
)

// Notifier delivers what waits in the ledger. It is safe for concurrent use.
type Notifier struct {
	cfg   Config
	lanes []*lane

	escalating sync.Mutex
	nextUp     time.Time // when an alert is escalated next, as far as is known
	seenUp     uint64
	changed    atomic.Uint64 // counts what lanes must look at anew
}

// lane is a channel with what this process remembers of it.
type lane struct {
	channel
	mu   sync.Mutex // one pass at a time
	seen uint64     // entries that were looked at
	next time.Time  // when something that is known becomes due
	last uint64     // value of changed when it was looked at
	more bool       // there is more than fits a pass

	hold  time.Time // not before
	pause time.Duration

	delivered, failed atomic.Uint64
	down              atomic.Bool
}

// New checks that the parts fit together. It sends nothing yet.
func New(c Config) (*Notifier, error) {
	if c.Ledger == nil || c.Clock == nil || c.Repeat <= 0 || c.EscalateAfter <= 0 {
		return nil, errors.New("notify: ledger, clock, repeat and escalation are all needed")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Zone == nil {
		c.Zone = time.UTC
	}
	if c.ZoneOf == nil {
		c.ZoneOf = func(*ledger.Read, string) string { return "" }
	}
	n := &Notifier{cfg: c}
	t := texts{Organisation: c.Organisation, Environment: c.Environment, Issuer: c.Issuer, Repeat: c.Repeat, EscalateAfter: c.EscalateAfter}
	if c.Mail != nil {
		m, err := newMailer(*c.Mail, t)
		if err != nil {
			return nil, err
		}
		n.lanes = append(n.lanes, &lane{channel: m})
	}
	names := map[string]bool{}
	for _, w := range c.Webhooks {
		h, err := newWebhook(w, t)
		if err != nil {
			return nil, err
		}
		if names[w.Name] {
			return nil, fmt.Errorf("webhook %s: two have this name", w.Name)
		}
		names[w.Name] = true
		n.lanes = append(n.lanes, &lane{channel: h})
	}
	return n, nil
}

// Serves reports whether any channel reaches an audience.
func (n *Notifier) Serves(a Audience) bool {
	for _, l := range n.lanes {
		if l.serves(a) {
			return true
		}
	}
	return false
}

// Run delivers until ctx ends. Each channel has a goroutine of its own: one that hangs keeps nothing from the others.
func (n *Notifier) Run(ctx context.Context) {
	var all sync.WaitGroup
	loop := func(fn func(ctx context.Context) (again bool)) {
		all.Go(func() {
			t := time.NewTicker(tick)
			defer t.Stop()
			for {
				for fn(ctx) && ctx.Err() == nil {
				}
				select {
				case <-ctx.Done():
					return
				case <-t.C:
				}
			}
		})
	}
	var pause, retry = time.Duration(0), time.Time{}
	loop(func(ctx context.Context) bool {
		if n.cfg.Clock().Before(retry) {
			return false
		}
		err := n.escalate(ctx)
		if err == nil || ctx.Err() != nil {
			pause = 0
			return false
		}
		pause = min(max(2*pause, firstHold), longestHold)
		retry = n.cfg.Clock().Add(pause)
		n.cfg.Log.Error("alerts could not be escalated; trying again", "error", err, "in", pause)
		return false
	})
	for _, l := range n.lanes {
		loop(func(ctx context.Context) bool {
			again, err := n.deliver(ctx, l)
			if err != nil && ctx.Err() == nil {
				n.cfg.Log.Error("what became of an alert could not be recorded; it is sent again", "channel", l.name(), "error", err)
			}
			return again && err == nil
		})
	}
	all.Wait()
}

// Pass does once what [Notifier.Run] does again and again.
func (n *Notifier) Pass(ctx context.Context) error {
	err := n.escalate(ctx)
	for _, l := range n.lanes {
		for again := true; again && err == nil; {
			again, err = n.deliver(ctx, l)
		}
	}
	return err
}

// escalate tells the ledger which alerts nobody has acknowledged in time, and which news no channel will ever take.
func (n *Notifier) escalate(ctx context.Context) error {
	n.escalating.Lock()
	defer n.escalating.Unlock()
	now, size := n.cfg.Clock(), n.cfg.Ledger.Size()
	late, orphans := !now.Before(n.nextUp), !n.Serves(Signer) && size != n.seenUp // what comes now is not late before nextUp
	if !late && !orphans {
		return nil
	}
	next := n.nextUp
	if late {
		next = now.Add(n.cfg.EscalateAfter)
	}
	var due, lost []string
	err := n.cfg.Ledger.View(func(r *ledger.Read) (failed error) {
		view := r.View(projectionName)
		size = r.Size()
		if late {
			view.Ascend(bucketOpen, nil, func(k, _ []byte) bool {
				row, _, err := at(view, binary.BigEndian.Uint64(k))
				if failed = err; err != nil || row.Escalated.Index != 0 {
					return err == nil
				}
				up := row.Time.Time().Add(n.cfg.EscalateAfter)
				if up.After(now) {
					next = earlier(next, up)
					return true
				}
				due = append(due, row.ID)
				return len(due) < maxBatch
			})
		}
		if orphans && failed == nil {
			view.Ascend(bucketOutbox, nil, func(k, _ []byte) bool {
				row, _, err := at(view, binary.BigEndian.Uint64(k))
				failed, lost = err, append(lost, row.ID)
				return err == nil && len(lost) < maxBatch
			})
		}
		return failed
	})
	if err != nil {
		return err
	}
	if len(due) > 0 {
		err = n.emitEscalated(ctx, due)
	}
	if len(lost) > 0 && err == nil {
		err = n.emitLost(ctx, lost)
	}
	if err != nil {
		return err
	}
	n.nextUp = next
	if len(due) == maxBatch {
		n.nextUp = now
	}
	if len(lost) < maxBatch {
		n.seenUp = size
	}
	return nil
}

func (n *Notifier) emitEscalated(ctx context.Context, due []string) error {
	_, err := n.cfg.Ledger.Do(ctx, func(tx *ledger.Tx) error {
		view := tx.View(projectionName)
		for _, id := range due {
			row, ok, err := find(view, id)
			if err != nil {
				return err
			}
			if ok && row.state() == Open {
				tx.Emit(ledger.Event{Type: chain.AlertEscalated, Actor: actor, Body: alertEscalated{Alert: id}})
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	n.changed.Add(1)
	n.cfg.Log.Error("nobody has acknowledged alerts in time", "alerts", len(due), "management", n.Serves(Management))
	return nil
}

// emitLost records that there is no mail server which could take news.
func (n *Notifier) emitLost(ctx context.Context, lost []string) error {
	_, err := n.cfg.Ledger.Do(ctx, func(tx *ledger.Tx) error {
		body := alertDelivered{Audience: Signer, Channel: "none", Outcome: "no mail server is configured"}
		view := tx.View(projectionName)
		for _, id := range lost {
			row, ok, err := find(view, id)
			if err != nil {
				return err
			}
			if ok && !row.Done {
				body.Alerts = append(body.Alerts, alertTry{Alert: id, Attempt: 1, Done: true})
				forget(tx, row)
			}
		}
		if len(body.Alerts) > 0 {
			tx.Emit(ledger.Event{Type: chain.AlertDelivered, Actor: actor, Body: body})
		}
		return nil
	})
	return err
}

// forget erases an address that an alert was the last one to need.
func forget(tx *ledger.Tx, row alertRow) {
	if row.Contact != "" && ContactOf(tx.Read, row.Subject) != row.Contact {
		EraseContact(tx, row.Subject, row.Contact)
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// deliver sends what is due on a channel, and records what came of it. After a crash what was sent and is not recorded is sent
// again, with the same id.
func (n *Notifier) deliver(ctx context.Context, l *lane) (again bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := n.cfg.Clock()
	if now.Before(l.hold) || !n.anything(l, now) {
		return false, nil
	}
	changed := n.changed.Load()
	d := gathering{n: n, l: l, now: now, next: now.Add(time.Hour), limit: atOnce}
	if l.pause > 0 { // one message finds out whether it works again
		d.limit = 1
	}
	if err := n.cfg.Ledger.View(d.gather); err != nil {
		l.wait(now)
		return false, err
	}
	l.last = changed
	if len(d.messages) == 0 && len(d.unreachable) == 0 {
		l.seen, l.next, l.more = d.size, d.next, false
		return false, nil
	}
	results := []result{}
	if len(d.messages) > 0 {
		results = l.send(ctx, d.messages)
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordLimit) // what was sent is recorded, even while the service stops
	defer cancel()
	if err := n.record(limited, l, d, results); err != nil { // a full disk must not become a flood of mail
		l.wait(now)
		return false, err
	}
	n.judge(l, now, results)
	l.seen, l.next, l.more = d.size, now, d.full // look at once at what came meanwhile
	return d.full && l.pause == 0, nil
}

// wait leaves the channel alone for a while, the longer the more often.
func (l *lane) wait(now time.Time) {
	l.pause = min(max(2*l.pause, firstHold), longestHold)
	l.hold = now.Add(l.pause)
}

// judge notes whether the channel works.
func (n *Notifier) judge(l *lane, now time.Time, results []result) {
	for _, r := range results {
		if r.delivered {
			l.delivered.Add(1)
		} else {
			l.failed.Add(1)
		}
	}
	if len(results) == 0 {
		return
	}
	last := results[len(results)-1]
	if last.down || last.broke && !last.delivered {
		l.wait(now)
		if !l.down.Swap(true) {
			n.cfg.Log.Error("alerts cannot be delivered; trying again", "channel", l.name(), "cause", last.outcome)
		}
		return
	}
	l.pause, l.hold = 0, time.Time{}
	if l.down.Swap(false) {
		n.cfg.Log.Info("alerts are delivered again", "channel", l.name())
	}
}

// anything reports, cheaply, whether something may be due.
func (n *Notifier) anything(l *lane, now time.Time) bool {
	if l.more || n.changed.Load() != l.last || !now.Before(l.next) {
		return true
	}
	size := n.cfg.Ledger.Size()
	if size == l.seen {
		return false
	}
	found := false
	err := n.cfg.Ledger.View(func(r *ledger.Read) error {
		for _, bucket := range []string{bucketOpen, bucketOutbox} {
			r.View(projectionName).Descend(bucket, nil, func(k, _ []byte) bool {
				found = found || binary.BigEndian.Uint64(k) >= l.seen
				return false
			})
		}
		size = r.Size()
		return nil
	})
	if err == nil && !found {
		l.seen = size
	}
	return found || err != nil
}

// gathering collects what is due on a channel.
type gathering struct {
	n     *Notifier
	l     *lane
	now   time.Time
	limit int // of messages

	messages    []message
	unreachable []unreached
	next        time.Time // when more becomes due
	size        uint64
	full        bool // there is more
}

// unreached is news for somebody whose address is not there.
type unreached struct{ id, outcome string }

func (d *gathering) gather(r *ledger.Read) error {
	view := r.View(projectionName)
	d.size = r.Size()
	for _, a := range []Audience{Security, Management} {
		if !d.l.serves(a) {
			continue
		}
		if err := d.alerts(view, a); err != nil {
			return err
		}
	}
	if !d.l.serves(Signer) {
		return nil
	}
	return d.news(r, view)
}

// alerts collects those that somebody must acknowledge.
func (d *gathering) alerts(view *ledger.State, a Audience) (failed error) {
	var open *message
	view.Ascend(bucketOpen, nil, func(k, _ []byte) bool {
		row, _, err := at(view, binary.BigEndian.Uint64(k))
		if err != nil {
			failed = err
			return false
		}
		begin := row.Time
		if a == Management {
			if row.Escalated.Index == 0 && row.Kind != KindTest { // a test shows that this channel delivers, too
				return true
			}
			if row.Escalated.Index != 0 {
				begin = row.Escalated.Time
			}
		}
		try, err := readTry(view, tryKey(row.Index, a, d.l.name()))
		if err != nil {
			failed = err
			return false
		}
		if a == Management && row.Escalated.Index == 0 && try.Arrived > 0 {
			return true // once is enough for a test
		}
		if due := dueAt(begin, try, d.n.cfg.Repeat, min(d.n.cfg.Repeat, longestAlert)); due.After(d.now) {
			d.next = earlier(d.next, due)
			return true
		}
		if open == nil || len(open.alerts) == d.l.most() {
			if open = d.message(a, "", d.n.cfg.Zone); open == nil {
				return false
			}
		}
		open.add(item{Status: row.status(), attempt: try.Attempts + 1, round: try.Arrived, escalated: row.Escalated.Index != 0})
		return true
	})
	return failed
}

// dueAt is when a channel sends an alert next.
func dueAt(begin chain.Time, try tryRow, repeat, longest time.Duration) time.Time {
	switch {
	case try.Attempts == 0:
		return begin.Time()
	case try.Delivered:
		return try.Last.Time().Add(repeat)
	case try.Failures == 0: // the channel was down: it is held as a whole
		return try.Last.Time()
	}
	pause := longest
	if try.Failures < 20 {
		pause = min(firstPause<<(try.Failures-1), longest)
	}
	return try.Last.Time().Add(pause)
}

// message begins one more, or says that there are enough.
func (d *gathering) message(a Audience, to string, zone *time.Location) *message {
	if len(d.messages) == d.limit {
		d.full = true
		return nil
	}
	if d.messages == nil {
		d.messages = make([]message, 0, d.limit) // pointers into it hold
	}
	d.messages = append(d.messages, message{audience: a, to: to, zone: zone, time: d.now})
	return &d.messages[len(d.messages)-1]
}

func (m *message) add(i item) {
	if len(m.alerts) == 0 {
		m.id = i.ID + "-" + string(m.audience) + "-" + strconv.Itoa(i.round) // no dot: it separates what is signed
	}
	m.alerts = append(m.alerts, i)
}

// maxUnreachable bounds what one pass records without sending.
const maxUnreachable = maxBatch

// news collects what signers have to hear: all that is due for one of them in one message.
func (d *gathering) news(r *ledger.Read, view *ledger.State) (failed error) {
	byAddress := map[string]*message{}
	view.Ascend(bucketOutbox, nil, func(k, _ []byte) bool {
		row, _, err := at(view, binary.BigEndian.Uint64(k))
		if err != nil {
			failed = err
			return false
		}
		try, err := readTry(view, tryKey(row.Index, Signer, d.l.name()))
		if err != nil {
			failed = err
			return false
		}
		if due := dueAt(row.Time, try, 0, longestNews); due.After(d.now) {
			d.next = earlier(d.next, due)
			return true
		}
		contact := row.Contact
		if contact == "" {
			contact = ContactOf(r, row.Subject)
		}
		to, err := email(r, row.Subject, contact)
		if err != nil || to == "" {
			outcome := noContact
			if err != nil {
				outcome = "the stored address is not the one of the ledger; run `signetd ledger check`"
			}
			d.unreachable = append(d.unreachable, unreached{row.ID, outcome})
			d.full = d.full || len(d.unreachable) == maxUnreachable
			return len(d.unreachable) < maxUnreachable
		}
		m := byAddress[row.Subject+"\x00"+to]
		if m == nil || len(m.alerts) == d.l.most() {
			zone, err := time.LoadLocation(d.n.cfg.ZoneOf(r, row.Subject))
			if err != nil {
				zone = time.UTC
			}
			if m = d.message(Signer, to, zone); m == nil {
				return false
			}
			byAddress[row.Subject+"\x00"+to] = m
		}
		m.add(describe(r, view, row, try))
		return true
	})
	return failed
}

// record appends what came of messages: one entry for all those of one audience that went the same way.
func (n *Notifier) record(ctx context.Context, l *lane, d gathering, results []result) error {
	_, err := n.cfg.Ledger.Do(ctx, func(tx *ledger.Tx) error {
		view := tx.View(projectionName)
		var bodies []*alertDelivered
		add := func(id string, a Audience, r result) error {
			row, ok, err := find(view, id)
			if err != nil || !ok || row.Done {
				return err
			}
			try, err := readTry(view, tryKey(row.Index, a, l.name()))
			if err != nil {
				return err
			}
			old := tx.Now().Sub(row.Time) >= giveUp
			done := a == Signer && (r.delivered || r.permanent || old && !r.down)
			if done {
				forget(tx, row)
			}
			t := alertTry{Alert: id, Attempt: try.Attempts + 1, Done: done}
			for _, b := range bodies {
				if b.Audience == a && b.Delivered == r.delivered && b.Down == r.down && b.Outcome == r.outcome && len(b.Alerts) < maxBatch {
					b.Alerts = append(b.Alerts, t)
					return nil
				}
			}
			bodies = append(bodies, &alertDelivered{Alerts: []alertTry{t}, Audience: a, Channel: l.name(), Delivered: r.delivered, Down: r.down, Outcome: r.outcome})
			return nil
		}
		for i, r := range results {
			for _, a := range d.messages[i].alerts {
				if err := add(a.ID, d.messages[i].audience, r); err != nil {
					return err
				}
			}
		}
		for _, u := range d.unreachable {
			if err := add(u.id, Signer, result{permanent: true, outcome: u.outcome}); err != nil {
				return err
			}
		}
		for _, b := range bodies {
			tx.Emit(ledger.Event{Type: chain.AlertDelivered, Actor: actor, Body: *b})
		}
		return nil
	})
	return err
}
