package server

import (
	"container/list"
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"
)

// errBusy: there are too many requests, and nothing was done. It can be sent again.
var errBusy = errors.New("too many requests at once; try again in a second")

// turnLimits bound the requests that are answered at the same time, and those that wait.
type turnLimits struct {
	running, runningEach int // at the same time: of all, and of one source
	waiting, waitingEach int // for a turn; more are refused
	patience             time.Duration
}

// turns let so many requests in at a time. The others wait, no more and no longer than a bound, and the sources that they come from take turns: who
// sends many at once waits behind himself, and nobody else waits for more than one of his.
type turns struct {
	limits turnLimits

	mu      sync.Mutex
	running int
	waiting int
	sources map[netip.Prefix]*queuer
	ready   list.List // of *queuer: those with a request that waits and room of their own, the one that waits longest first
}

// queuer is where requests come from.
type queuer struct {
	key     netip.Prefix
	running int
	waiting list.List     // of *turn, in the order in which they came
	place   *list.Element // in ready; nil if it is not
}

// turn is a request that waits.
type turn struct {
	place *list.Element // in the source's list; nil when it was let in
	in    chan struct{} // closed when it is
}

func newTurns(l turnLimits) *turns {
	return &turns{limits: l, sources: map[netip.Prefix]*queuer{}}
}

// take lets a request in when it is its turn. Who is in must call leave. Without an error it is in.
func (t *turns) take(ctx context.Context, key netip.Prefix) (leave func(), err error) {
	t.mu.Lock()
	s := t.sources[key]
	if s == nil {
		s = &queuer{key: key}
		t.sources[key] = s
	}
	leave = func() { t.leave(s) }
	if t.running < t.limits.running && s.running < t.limits.runningEach && s.waiting.Len() == 0 {
		t.running++
		s.running++
		t.mu.Unlock()
		return leave, nil
	}
	if t.waiting >= t.limits.waiting || s.waiting.Len() >= t.limits.waitingEach {
		t.tidy(s)
		t.mu.Unlock()
		return nil, errBusy
	}
	own := &turn{in: make(chan struct{})}
	own.place = s.waiting.PushBack(own)
	t.waiting++
	t.line(s)
	t.mu.Unlock()

	patience := time.NewTimer(t.limits.patience)
	defer patience.Stop()
	select {
	case <-own.in:
		return leave, nil
	case <-patience.C:
		err = errBusy
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if own.place == nil { // it was let in meanwhile
		return leave, nil
	}
	s.waiting.Remove(own.place)
	t.waiting--
	if s.waiting.Len() == 0 && s.place != nil {
		t.ready.Remove(s.place)
		s.place = nil
	}
	t.tidy(s)
	return nil, err
}

// line lets a source wait for its turn, if it has something that waits and room of its own. The caller holds mu.
func (t *turns) line(s *queuer) {
	if s.place == nil && s.waiting.Len() > 0 && s.running < t.limits.runningEach {
		s.place = t.ready.PushBack(s)
	}
}

// leave ends a request, and lets in whose turn it is.
func (t *turns) leave(s *queuer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running--
	s.running--
	t.line(s)
	t.tidy(s)
	for t.running < t.limits.running && t.ready.Len() > 0 {
		next := t.ready.Remove(t.ready.Front()).(*queuer)
		next.place = nil
		one := next.waiting.Remove(next.waiting.Front()).(*turn)
		one.place = nil
		t.waiting--
		t.running++
		next.running++
		close(one.in)
		t.line(next) // behind the others
	}
}

// tidy forgets a source of which nothing is there. The caller holds mu.
func (t *turns) tidy(s *queuer) {
	if s.running == 0 && s.waiting.Len() == 0 {
		delete(t.sources, s.key)
	}
}
