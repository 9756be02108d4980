package tsa

import (
	"errors"
	"testing"
	"time"
)

func TestClock(t *testing.T) {
	fault := func(t *testing.T, w *world, a *Authority, want error) {
		t.Helper()
		before := w.signed
		if _, _, err := a.Stamp(t.Context(), signature); !errors.Is(err, want) {
			t.Errorf("Stamp: error %v, expected %v", err, want)
		}
		if err := a.Ready(); !errors.Is(err, want) {
			t.Errorf("Ready: error %v, expected %v", err, want)
		}
		if w.signed != before {
			t.Error("something was signed")
		}
	}
	good := func(t *testing.T, w *world, a *Authority) {
		t.Helper()
		der, genTime, err := a.Stamp(t.Context(), signature)
		if err != nil {
			t.Fatal(err)
		}
		if token := w.verify(t, der, signature); !token.GenTime.Equal(genTime) || !genTime.Equal(w.wall.Truncate(time.Millisecond)) {
			t.Errorf("genTime %v, the clock %v", token.GenTime, w.wall)
		}
		if err := a.Ready(); err != nil {
			t.Errorf("Ready: %v", err)
		}
	}
	row := func(t *testing.T) { t.Helper(); t.Attr("requirement", "A-19") }

	t.Run("behind the ledger's last entry", func(t *testing.T) {
		row(t)
		w := newWorld(t)
		a := w.authority(t)
		w.ledger = start.Add(time.Millisecond)
		fault(t, w, a, ErrClock)
		w.pass(time.Millisecond)
		good(t, w, a)
	})
	t.Run("at the time of the ledger's last entry", func(t *testing.T) {
		w := newWorld(t)
		a := w.authority(t)
		w.ledger = start.Truncate(time.Millisecond)
		good(t, w, a)
	})
	t.Run("set ahead", func(t *testing.T) {
		row(t)
		w := newWorld(t)
		a := w.authority(t)
		good(t, w, a)
		w.set(501 * time.Millisecond)
		fault(t, w, a, ErrClock)
		w.pass(time.Hour)
		fault(t, w, a, ErrClock) // the doubt does not go away by waiting
		w.set(-501 * time.Millisecond)
		good(t, w, a)
	})
	t.Run("set back", func(t *testing.T) {
		row(t)
		w := newWorld(t)
		a := w.authority(t)
		good(t, w, a)
		w.pass(time.Hour)
		w.set(-501 * time.Millisecond)
		fault(t, w, a, ErrClock)
	})
	t.Run("set by little, many times", func(t *testing.T) {
		row(t)
		w := newWorld(t)
		a := w.authority(t)
		for range 5 {
			w.pass(time.Second)
			w.set(100 * time.Millisecond)
			good(t, w, a)
		}
		w.set(100 * time.Millisecond)
		fault(t, w, a, ErrClock)
	})
	t.Run("set back by little, behind the newest token", func(t *testing.T) {
		row(t)
		w := newWorld(t)
		a := w.authority(t)
		good(t, w, a)
		w.set(-10 * time.Millisecond)
		fault(t, w, a, ErrClock)
		w.pass(10 * time.Millisecond)
		good(t, w, a)
	})
	t.Run("the machine slept", func(t *testing.T) {
		row(t)
		w := newWorld(t)
		a := w.authority(t)
		w.set(time.Hour)
		fault(t, w, a, ErrClock)
		good(t, w, w.authority(t)) // started anew
	})
	t.Run("a wider step that the operator allows", func(t *testing.T) {
		w := newWorld(t)
		c := w.config()
		c.MaxStep = time.Minute
		a, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		w.set(time.Minute)
		good(t, w, a)
		w.set(time.Millisecond)
		fault(t, w, a, ErrClock)
	})
	t.Run("readings without a monotonic part", func(t *testing.T) {
		w := newWorld(t)
		c := w.config()
		c.Monotonic = nil
		a, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		w.set(time.Hour)
		good(t, w, a)
		w.set(-time.Second)
		fault(t, w, a, ErrClock)
	})
	t.Run("the real clock", func(t *testing.T) {
		w := newWorld(t)
		c := w.config()
		c.Monotonic, c.Clock = nil, time.Now
		a, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.clock.now(); err != nil {
			t.Error(err)
		}
	})
	t.Run("certificate lapsed", func(t *testing.T) {
		row(t)
		w := newWorld(t)
		a := w.authority(t)
		w.pass(24*time.Hour - time.Second)
		good(t, w, a)
		w.pass(time.Hour)
		fault(t, w, a, ErrCertificate)
	})
	t.Run("certificate not yet valid", func(t *testing.T) {
		w := newWorld(t)
		w.wall = start.Add(-2 * time.Hour)
		fault(t, w, w.authority(t), ErrCertificate)
	})
}
