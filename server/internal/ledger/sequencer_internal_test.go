package ledger

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestGather: a batch waits for more commands while they keep coming, and not at all once there are as many as in the batch before.
func TestGather(t *testing.T) {
	for name, c := range map[string]struct {
		queued, coming, enough int
		every                  time.Duration
		waits                  time.Duration
		batch                  int
	}{
		"as many as before":           {queued: 5, enough: 5, waits: 0, batch: 5},
		"more than before":            {queued: 9, enough: 5, waits: 0, batch: 9},
		"nobody comes":                {queued: 3, enough: 5, waits: gatherStep, batch: 3},
		"until there are as many":     {queued: 3, coming: 4, every: gatherStep / 2, enough: 5, waits: gatherStep, batch: 5},
		"never longer than the limit": {queued: 1, coming: 90, every: gatherStep, enough: 99, waits: gatherMost, batch: 9},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &Ledger{queue: make([]*job, c.queued)}
				l.mu.Lock()
				defer l.mu.Unlock()
				stop := make(chan struct{})
				defer close(stop)
				go func() {
					time.Sleep(c.every - time.Microsecond) // never at the same instant as gather looks
					for range c.coming {
						l.mu.Lock()
						l.queue = append(l.queue, nil)
						l.mu.Unlock()
						select {
						case <-stop:
							return
						case <-time.After(c.every):
						}
					}
				}()
				began := time.Now()
				l.gather(c.enough)
				if waited := time.Since(began); waited != c.waits || len(l.queue) != c.batch {
					t.Errorf("it waited for %v and has %d commands; want %v and %d", waited, len(l.queue), c.waits, c.batch)
				}
			})
		})
	}
}
