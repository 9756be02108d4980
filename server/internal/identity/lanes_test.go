package identity

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// check holds a place for as long as a password check takes, and says how long it took with the wait.
func check(ctx context.Context, l *lanes, in lane, place string, takes time.Duration) (time.Duration, error) {
	began := time.Now()
	release, err := l.acquire(ctx, in, place)
	if err != nil {
		return 0, err
	}
	time.Sleep(takes)
	release()
	return time.Since(began), nil
}

// TestLanes: whoever floods the door keeps nobody waiting who is inside.
func TestLanes(t *testing.T) {
	t.Attr("requirement", "11.300(d)")
	const takes = 200 * time.Millisecond
	for _, slots := range []int{1, 2, 4} {
		t.Run(fmt.Sprint(slots, " places"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLanes(slots, 128, 10*time.Second)
				ctx, cancel := context.WithCancel(t.Context())
				var flood sync.WaitGroup
				for i := range 100 {
					flood.Go(func() {
						for ctx.Err() == nil {
							if _, err := check(ctx, l, laneKnock, fmt.Sprint("place", i), takes); err != nil {
								time.Sleep(takes)
							}
						}
					})
				}
				time.Sleep(5 * time.Second)
				for i := range 50 {
					took, err := check(t.Context(), l, laneSession, "", takes)
					// The check that runs, at most one turn of the others, and her own.
					if err != nil || took > 3*takes {
						t.Errorf("she waits %v, %v", took, err)
					}
					if slots > 1 && i > 0 && took > takes {
						t.Errorf("check %d: no place is kept for her: %v", i, took)
					}
					time.Sleep(takes)
				}
				cancel()
				flood.Wait()
			})
		})
	}
	t.Run("who knocks gets a turn while sessions are busy", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			for _, slots := range []int{1, 2, 4} {
				l := newLanes(slots, 128, 10*time.Second)
				ctx, cancel := context.WithCancel(t.Context())
				var busy sync.WaitGroup
				for range 32 {
					busy.Go(func() {
						for ctx.Err() == nil {
							_, _ = check(ctx, l, laneSession, "", takes)
						}
					})
				}
				time.Sleep(time.Second)
				if took, err := check(t.Context(), l, laneKnock, "", takes); err != nil || took > (sessionTurns+3)*takes {
					t.Errorf("%d places: somebody knocks for %v, %v", slots, took, err)
				}
				cancel()
				busy.Wait()
			}
		})
	})
	t.Run("no place stays empty while anybody waits", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			for _, in := range []lane{laneKnock, laneSession} {
				l := newLanes(2, 8, time.Minute)
				began := time.Now()
				var all sync.WaitGroup
				for range 8 {
					all.Go(func() { _, _ = check(t.Context(), l, in, "", time.Second) })
				}
				all.Wait()
				if took := time.Since(began); took != 4*time.Second {
					t.Errorf("8 checks of a second on 2 places took %v", took)
				}
			}
		})
	})
	t.Run("a place that sessions do not use is given up", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLanes(2, 4*keptFor, time.Hour)
			if _, err := check(t.Context(), l, laneSession, "", time.Second); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			var all sync.WaitGroup
			for range 2 * keptFor {
				all.Go(func() {
					if _, err := check(t.Context(), l, laneKnock, "", time.Second); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if took := time.Since(began); took < keptFor*time.Second || took > (keptFor+keptFor/2+1)*time.Second {
				t.Errorf("%d checks took %v", 2*keptFor, took)
			}
		})
	})
	t.Run("one network does not hold the whole queue", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLanes(2, 30, time.Minute)
			ctx, cancel := context.WithCancel(t.Context())
			var all sync.WaitGroup
			var refused int
			var mu sync.Mutex
			for range 100 {
				all.Go(func() {
					if _, err := check(ctx, l, laneKnock, "one", time.Second); errors.Is(err, ErrBusy) {
						mu.Lock()
						refused++
						mu.Unlock()
					}
				})
			}
			synctest.Wait()
			if mu.Lock(); refused != 100-l.atOnce() {
				t.Errorf("%d of 100 were refused, want %d", refused, 100-l.atOnce())
			}
			mu.Unlock()
			all.Go(func() {
				if _, err := check(t.Context(), l, laneKnock, "another", time.Second); err != nil {
					t.Errorf("from another network: %v", err)
				}
			})
			synctest.Wait()
			all.Wait()
			cancel()
			if len(l.held) != 0 {
				t.Errorf("%v is still held", l.held)
			}
		})
	})
}

// TestLanesKeepTheirBounds: whatever comes and goes, there are never more checks than places, and nothing is left behind.
func TestLanesKeepTheirBounds(t *testing.T) {
	type call struct {
		in                   lane
		place                int
		after, takes, hangUp time.Duration
	}
	ms := func(t *rapid.T, most int, what string) time.Duration {
		return time.Duration(rapid.IntRange(0, most).Draw(t, what)) * time.Millisecond
	}
	calls := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) call {
		return call{
			in: lane(rapid.IntRange(0, 1).Draw(t, "lane")), place: rapid.IntRange(0, 2).Draw(t, "place"), after: ms(t, 50, "after"),
			takes: ms(t, 20, "takes"), hangUp: ms(t, 60, "hangUp"),
		}
	}), 1, 60)
	rapid.Check(t, func(rt *rapid.T) {
		slots, queue := rapid.IntRange(1, 4).Draw(rt, "slots"), rapid.IntRange(1, 10).Draw(rt, "queue")
		list := calls.Draw(rt, "calls")
		failed := ""
		synctest.Test(t, func(t *testing.T) {
			l := newLanes(slots, queue, 30*time.Millisecond)
			var all sync.WaitGroup
			var mu sync.Mutex
			running := 0
			for _, c := range list {
				all.Go(func() {
					time.Sleep(c.after)
					ctx, cancel := context.WithTimeout(context.Background(), c.hangUp)
					defer cancel()
					release, err := l.acquire(ctx, c.in, fmt.Sprint(c.place))
					if err != nil {
						return
					}
					mu.Lock()
					if running++; running > slots {
						failed = fmt.Sprintf("%d checks on %d places", running, slots)
					}
					mu.Unlock()
					time.Sleep(c.takes)
					mu.Lock()
					running--
					mu.Unlock()
					release()
					release() // a second time changes nothing
				})
			}
			all.Wait()
			if l.busy() != 0 || len(l.held) != 0 || len(l.waiting[laneKnock])+len(l.waiting[laneSession]) != 0 {
				failed = fmt.Sprintf("left behind: %+v %v %v", l.running, l.held, l.waiting)
			}
		})
		if failed != "" {
			rt.Fatal(failed)
		}
	})
}
