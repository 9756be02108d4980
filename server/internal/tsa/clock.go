package tsa

import (
	"fmt"
	"sync"
	"time"
)

// clock reads the time and refuses to when it is in doubt.
type clock struct {
	read      func() time.Time
	monotonic func() time.Duration // nil: the monotonic part of what read returns
	lastEntry func() time.Time
	doubt     func() error // nil: nobody measures
	maxStep   time.Duration

	mu      sync.Mutex
	anchor  time.Time // the first reading, with its monotonic part
	elapsed time.Duration
	last    time.Time // the newest time that was given out
}

func newClock(c Config) *clock {
	k := &clock{read: c.Clock, monotonic: c.Monotonic, lastEntry: c.LastEntry, doubt: c.Doubt, maxStep: c.MaxStep}
	k.anchor = k.read()
	if k.monotonic != nil {
		k.elapsed = k.monotonic()
	}
	return k
}

// believed reads the clock, and says why it is not believed: what those say who measure it, and what was done to it since the start.
func (k *clock) believed() (time.Time, error) {
	if k.doubt != nil {
		if err := k.doubt(); err != nil {
			return time.Time{}, err
		}
	}
	reading := k.read()
	var ran time.Duration // since the anchor, by the monotonic clock
	if k.monotonic != nil {
		ran = k.monotonic() - k.elapsed
	} else {
		ran = reading.Sub(k.anchor)
	}
	wall := reading.Round(0).UTC()
	if step := wall.Sub(k.anchor.Round(0)) - ran; step > k.maxStep || step < -k.maxStep {
		return time.Time{}, fmt.Errorf("%w: it has moved by %v against the monotonic clock since the start, and %v is allowed; set it right and start again",
			ErrClock, step.Round(time.Millisecond), k.maxStep)
	}
	return wall, nil
}

// now returns the time in UTC, in milliseconds, never earlier than the time before.
func (k *clock) now() (time.Time, error) {
	// Read before the clock is: an entry written in between would be later than the reading.
	floor := k.lastEntry()

	k.mu.Lock()
	defer k.mu.Unlock()
	wall, err := k.believed()
	if err != nil {
		return time.Time{}, err
	}
	genTime := wall.Truncate(time.Millisecond)
	if genTime.Before(floor.Truncate(time.Millisecond)) {
		return time.Time{}, fmt.Errorf("%w: it says %s, and the ledger's last entry is of %s", ErrClock,
			genTime.Format(time.RFC3339Nano), floor.UTC().Format(time.RFC3339Nano))
	}
	if genTime.Before(k.last) {
		return time.Time{}, fmt.Errorf("%w: it says %s, and the newest time-stamp is of %s", ErrClock,
			genTime.Format(time.RFC3339Nano), k.last.Format(time.RFC3339Nano))
	}
	k.last = genTime
	return genTime, nil
}
