package identity

import (
	"context"
	"slices"
	"sync"
	"time"
)

// lane is who waits for a password check with whom.
type lane int

const (
	laneKnock   lane = iota // whoever knocks: to log in, to redeem a code
	laneSession             // who is in a session
	laneCount
)

// sessionTurns is how many checks in a row sessions get while somebody knocks, where there is one place for all.
const sessionTurns = 3

// keptFor is for how many checks at the door a place is kept for sessions after the last check of one.
const keptFor = 64

// lanes hands out the places for password checks. There are never more than so many at the same time, whoever asks. Each lane has a
// queue of its own, bounded and with a deadline, and is served in turn, so whoever floods the one does not keep the other waiting for
// longer than the check takes that runs. Where there are two places or more, each lane gets at least one of them as soon as it needs
// it; the others go to sessions first. While people in sessions prove themselves one place is kept for them, so that they need not wait at
// all; else no place stays empty while anybody waits.
//
// In the lane of those who knock, one network may hold a part of the queue only.
type lanes struct {
	slots, queue int
	timeout      time.Duration

	mu      sync.Mutex
	running [laneCount]int
	waiting [laneCount][]*ticket
	held    map[string]int // what knocks, by blinded place: running and waiting
	turns   int            // checks in a row for sessions while somebody knocked
	kept    int            // checks at the door until the place that is kept for sessions is given up
}

// ticket is a place in a queue.
type ticket struct {
	lane    lane
	place   string
	granted chan struct{} // closed when its turn has come
}

func newLanes(slots, queue int, timeout time.Duration) *lanes {
	return &lanes{slots: slots, queue: queue, timeout: timeout, held: map[string]int{}}
}

// atOnce is how many checks one network may have running or waiting: half of all, and more than run at the same time.
func (l *lanes) atOnce() int { return max(l.slots+1, (l.slots+l.queue)/2) }

// acquire waits for a place to compute. The caller holds it until release. The place is where the call comes from; empty: it is not
// bounded.
func (l *lanes) acquire(ctx context.Context, in lane, place string) (release func(), err error) {
	t := &ticket{lane: in, place: place, granted: make(chan struct{})}
	if in != laneKnock {
		t.place = ""
	}
	if err := l.enqueue(t); err != nil {
		return nil, err
	}
	timer := time.NewTimer(l.timeout)
	defer timer.Stop()
	select {
	case <-t.granted:
	case <-timer.C:
		err = ErrBusy
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil && l.withdraw(t) {
		return nil, err
	}
	return sync.OnceFunc(func() { l.release(t) }), nil
}

func (l *lanes) enqueue(t *ticket) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	full := l.busy() >= l.slots && len(l.waiting[t.lane]) >= l.queue
	if full || t.place != "" && l.held[t.place] >= l.atOnce() {
		return ErrBusy
	}
	if t.place != "" {
		l.held[t.place]++
	}
	l.waiting[t.lane] = append(l.waiting[t.lane], t)
	l.grant()
	return nil
}

// withdraw leaves the queue. It reports false where the turn has come in the same moment: then the place is held.
func (l *lanes) withdraw(t *ticket) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.waiting[t.lane], t)
	if i < 0 {
		return false
	}
	l.waiting[t.lane] = slices.Delete(l.waiting[t.lane], i, i+1)
	l.letGo(t)
	return true
}

func (l *lanes) release(t *ticket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running[t.lane]--
	l.letGo(t)
	l.grant()
}

// letGo takes a ticket off the account of its place. The caller holds mu.
func (l *lanes) letGo(t *ticket) {
	if t.place == "" {
		return
	}
	if l.held[t.place]--; l.held[t.place] == 0 {
		delete(l.held, t.place)
	}
}

func (l *lanes) busy() int { return l.running[laneKnock] + l.running[laneSession] }

// grant gives free places to those whose turn it is. The caller holds mu.
func (l *lanes) grant() {
	for l.busy() < l.slots {
		next := l.next()
		if next == laneCount {
			return
		}
		t := l.waiting[next][0]
		l.waiting[next] = slices.Delete(l.waiting[next], 0, 1)
		l.running[next]++
		if next == laneSession {
			l.kept = keptFor
		} else if l.kept > 0 {
			l.kept--
		}
		close(t.granted)
	}
}

// next is the lane whose turn it is; laneCount: nobody waits.
func (l *lanes) next() lane {
	knocks, sessions := len(l.waiting[laneKnock]) > 0, len(l.waiting[laneSession]) > 0
	switch {
	case !knocks && !sessions:
		return laneCount
	case !sessions && l.kept > 0 && l.running[laneKnock] > 0 && l.running[laneKnock] >= l.slots-1:
		return laneCount
	case !sessions:
		return laneKnock
	case !knocks:
		return laneSession
	case l.slots > 1 && l.running[laneKnock] == 0 && l.running[laneSession] > 0:
		return laneKnock
	case l.slots == 1 && l.turns >= sessionTurns:
		l.turns = 0
		return laneKnock
	}
	l.turns++
	return laneSession
}

// acquire waits for a place in the lane of those who knock. The caller holds it until release.
func (h *hasher) acquire(ctx context.Context) (release func(), err error) {
	return h.lanes.acquire(ctx, laneKnock, "")
}

// acquireFor waits in the lane of an attempt.
func (h *hasher) acquireFor(ctx context.Context, a attempt) (release func(), err error) {
	return h.lanes.acquire(ctx, a.lane(), a.place)
}

// lane says where an attempt waits: who proves themselves again has a session.
func (a attempt) lane() lane {
	if a.actor.Session != "" {
		return laneSession
	}
	return laneKnock
}
