package server

import (
	"context"
	"errors"
	"sync"
)

// places bound the calls that hold a whole document or manifest in memory: so many at the same time, the others wait; and so many of one
// caller, who is refused beyond that, so that a slow caller keeps nobody else waiting.
type places struct {
	all       chan struct{}
	perCaller int

	mu   sync.Mutex
	used map[string]int
}

func newPlaces(all, perCaller int) *places {
	return &places{all: make(chan struct{}, all), perCaller: perCaller, used: map[string]int{}}
}

var errTooManyCalls = errors.New("you have too many large calls in progress: wait for one to end")

// take takes a place for the caller of a call.
func (p *places) take(ctx context.Context) (release func(), err error) {
	id := caller(ctx).ID
	if !p.enter(id) {
		return nil, errTooManyCalls
	}
	select {
	case p.all <- struct{}{}:
		return func() { <-p.all; p.leave(id) }, nil
	case <-ctx.Done():
		p.leave(id)
		return nil, context.Cause(ctx)
	}
}

func (p *places) enter(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used[id] >= p.perCaller {
		return false
	}
	p.used[id]++
	return true
}

func (p *places) leave(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used[id]--; p.used[id] == 0 {
		delete(p.used, id)
	}
}
