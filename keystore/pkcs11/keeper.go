package pkcs11

import (
	"context"
	"slices"
	"time"
)

// A keeper is the goroutine that does what concerns a module as a whole, one thing after the other: it initialises and
// finalises it, lists and makes tokens, opens and leaves them, and sets up anew what failed. A module that hangs in any of
// it costs one thread. The keeper runs while there is something to do.

// A job is one thing for the keeper.
type job struct {
	run  func() error
	err  error
	done chan struct{}
}

// ask lets the keeper run a function and waits for it as long as the caller does. A keeper that has been hanging for longer than
// limit is not waited for. The function does not run if the caller leaves before its turn; it ends beside the caller otherwise.
func (m *module) ask(ctx context.Context, limit time.Duration, run func() error) error {
	j := &job{run: run, done: make(chan struct{})}
	m.mu.Lock()
	m.jobs = append(m.jobs, j)
	m.keepLocked()
	m.mu.Unlock()
	for {
		left := m.keeper.left(limit)
		if left <= 0 {
			if m.withdraw(j) {
				return m.notReturning()
			}
			left = limit // it is this job that takes so long
		}
		look := time.NewTimer(left)
		select {
		case <-j.done:
			look.Stop()
			return j.err
		case <-ctx.Done():
			look.Stop()
			m.withdraw(j)
			return expired(ctx)
		case <-look.C:
		}
	}
}

// withdraw takes a job back that was not begun.
func (m *module) withdraw(j *job) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.Index(m.jobs, j)
	if i >= 0 {
		m.jobs = slices.Delete(m.jobs, i, i+1)
	}
	return i >= 0
}

// keepLocked sees to it that the keeper runs and looks at what there is to do. mu is held.
func (m *module) keepLocked() {
	if !m.keeping {
		m.keeping = true
		go m.keep()
	}
	tell(m.wake)
}

// tell sends on a channel with room for one, if there is room.
func tell(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (m *module) keep() {
	for {
		m.mu.Lock()
		var j *job
		if len(m.jobs) > 0 {
			j = m.jobs[0]
			m.jobs = m.jobs[1:]
		}
		due, sick := m.nextLocked()
		if j == nil && !sick {
			m.keeping = false
			m.mu.Unlock()
			return
		}
		m.mu.Unlock()

		if j != nil {
			m.keeper.begin()
			j.err = j.run()
			m.keeper.end()
			close(j.done)
			continue
		}
		if wait := time.Until(due); wait > 0 {
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-m.wake:
			}
			timer.Stop()
			continue
		}
		m.keeper.begin()
		m.attempt()
		m.keeper.end()
	}
}

// nextLocked says whether a token is to be set up anew, and when.
func (m *module) nextLocked() (next time.Time, sick bool) {
	for _, t := range m.open {
		if t.sick && (!sick || t.next.Before(next)) {
			next, sick = t.next, true
		}
	}
	return next, sick
}
