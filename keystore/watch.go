package keystore

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	watchEvery    = 5 * time.Second
	selfTestLimit = time.Minute
)

// Watch looks after the devices until the context ends: every so often, give or take a tenth, each signs with its canary
// key, and every [Options].SelfTestEvery the known-answer tests are run, at once if they never were. That ends refusals and
// brings calls back to the first of replicas. 0 means every 5 s.
//
// changed is told of each device at the beginning, and from then on when its state changes, when calls begin or cease
// to go to it, and when the number of keys that it misses changes: as it is noticed, not only after a canary. It is called
// from the goroutine that called Watch. A device that does not answer holds up nothing but its own canary.
func (s *Store) Watch(ctx context.Context, every time.Duration, changed func(Status)) {
	if every <= 0 {
		every = watchEvery
	}
	w := watch{store: s, tell: changed}
	w.report()

	done := make(chan struct{}, 2)
	canary, test := time.NewTimer(0), time.NewTimer(s.untilSelfTest())
	defer canary.Stop()
	defer test.Stop()
	running := 0
	for {
		select {
		case <-ctx.Done():
			for ; running > 0; running-- {
				<-done
			}
			return
		case <-canary.C:
			running++
			go func() {
				limited, cancel := context.WithTimeout(ctx, s.options.CanaryLimit)
				defer cancel()
				_ = s.node.health(limited) // the status tells
				canary.Reset(every - every/10 + rand.N(every/5+1))
				done <- struct{}{}
			}()
		case <-test.C:
			running++
			go func() {
				limited, cancel := context.WithTimeout(ctx, selfTestLimit)
				defer cancel()
				_, _ = s.SelfTest(limited) // the status tells
				test.Reset(s.untilSelfTest())
				done <- struct{}{}
			}()
		case <-done:
			running--
			w.report()
		case <-s.changed:
			w.report()
		}
	}
}

// untilSelfTest is at least a minute once a test has run, however it ended.
func (s *Store) untilSelfTest() time.Duration {
	last := s.selfTested.Load()
	if last == nil {
		return 0
	}
	wait := s.options.SelfTestEvery
	if last.err != nil {
		wait = min(wait, time.Minute)
	}
	return max(time.Until(last.at.Add(wait)), 0)
}

// A watch remembers what was told.
type watch struct {
	store *Store
	tell  func(Status)
	told  []Status
}

func (w *watch) report() {
	now := w.store.Status()
	for i, s := range now {
		if i < len(w.told) {
			t := w.told[i]
			if t.Token == s.Token && t.State == s.State && t.Active == s.Active && t.Missing == s.Missing {
				continue
			}
		}
		w.tell(s)
	}
	w.told = now
}
