package server

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func sourceOf(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// crowdOf lets requests wait, each in a goroutine of its own, in this order. It returns what tells who was let in, in the order in which they were.
func crowdOf(t *testing.T, turns *turns, order *[]string, key string, names ...string) {
	t.Helper()
	for _, name := range names {
		go func() {
			leave, err := turns.take(t.Context(), sourceOf(key))
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			*order = append(*order, name)
			leave()
		}()
		synctest.Wait()
	}
}

// Whoever sends many requests at once is not served before those who send few.
func TestTurnsAreFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(turnLimits{running: 1, runningEach: 1, waiting: 10, waitingEach: 5, patience: time.Minute})
		first, err := turns.take(t.Context(), sourceOf("10.0.0.1/32"))
		if err != nil {
			t.Fatal(err)
		}
		var order []string
		crowdOf(t, turns, &order, "10.0.0.1/32", "a1", "a2", "a3")
		crowdOf(t, turns, &order, "10.0.0.2/32", "b1", "b2")
		crowdOf(t, turns, &order, "2001:db8::/64", "c1")
		first()
		synctest.Wait()
		// The first source waits again only when it has left: those who came meanwhile are before it.
		if want := []string{"b1", "c1", "a1", "b2", "a2", "a3"}; !slices.Equal(order, want) {
			t.Errorf("let in as %v, want %v", order, want)
		}
		if len(turns.sources) != 0 || turns.running != 0 || turns.waiting != 0 || turns.ready.Len() != 0 {
			t.Errorf("something is left: %+v", turns)
		}
	})
}

func TestTurnsAreBounded(t *testing.T) {
	a, b := sourceOf("10.0.0.1/32"), sourceOf("10.0.0.2/32")
	t.Run("one source does not take all places", func(t *testing.T) {
		turns := newTurns(turnLimits{running: 3, runningEach: 2, patience: time.Minute})
		for range 2 {
			if _, err := turns.take(t.Context(), a); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := turns.take(t.Context(), a); !errors.Is(err, errBusy) {
			t.Errorf("a third one: %v", err)
		}
		if _, err := turns.take(t.Context(), b); err != nil {
			t.Errorf("another source: %v", err)
		}
	})
	t.Run("no more wait than there is room for", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			turns := newTurns(turnLimits{running: 1, runningEach: 1, waiting: 3, waitingEach: 2, patience: time.Minute})
			leave, err := turns.take(t.Context(), a)
			if err != nil {
				t.Fatal(err)
			}
			var order []string
			crowdOf(t, turns, &order, "10.0.0.1/32", "a1", "a2")
			if _, err := turns.take(t.Context(), a); !errors.Is(err, errBusy) {
				t.Errorf("a third one of a source: %v", err)
			}
			crowdOf(t, turns, &order, "10.0.0.2/32", "b1")
			if _, err := turns.take(t.Context(), b); !errors.Is(err, errBusy) {
				t.Errorf("a fourth one of all: %v", err)
			}
			leave()
			synctest.Wait()
			if len(order) != 3 || len(turns.sources) != 0 {
				t.Errorf("let in %v, and %d sources are known", order, len(turns.sources))
			}
		})
	})
	t.Run("nobody waits for ever", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			turns := newTurns(turnLimits{running: 1, runningEach: 1, waiting: 3, waitingEach: 3, patience: 5 * time.Second})
			leave, err := turns.take(t.Context(), a)
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if _, err := turns.take(t.Context(), b); !errors.Is(err, errBusy) || time.Since(start) != 5*time.Second {
				t.Errorf("after %v: %v", time.Since(start), err)
			}
			gone, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := turns.take(gone, b); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a client that has gone: %v", err)
			}
			leave()
			if leave, err := turns.take(t.Context(), b); err != nil {
				t.Error(err)
			} else {
				leave()
			}
			if len(turns.sources) != 0 || turns.running != 0 || turns.waiting != 0 || turns.ready.Len() != 0 {
				t.Errorf("something is left: %+v", turns)
			}
		})
	})
}
