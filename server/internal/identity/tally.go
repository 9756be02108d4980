package identity

import (
	"time"

	"github.com/signetd/signet/api/chain"
)

// forgetAfter is how long a failure counts at most: who has been quiet for so long starts again.
const forgetAfter = 24 * time.Hour

// longestLock bounds how far locks in a row grow.
const longestLock = 24 * time.Hour

// longestDelay bounds how far delays grow.
const longestDelay = time.Minute

// freeFailures is how many failures in a row cost no time.
const freeFailures = 2

// mostDoublings bounds how often a lock is doubled.
const mostDoublings = 4

// tally is what is remembered of the failures in one counter. What it says at a time is a pure function of the failures, the locks and
// that time.
type tally struct {
	Count int        `json:"count"` // failures since the last lock
	Last  chain.Time `json:"last"`  // of the newest; where failures leak away, until when they have
	Until chain.Time `json:"until"` // locked until; zero: never was
	Locks int        `json:"locks"` // so far, without a pause of forgetAfter between them
}

// rule says what a counter makes of its failures.
type rule struct {
	after int           // failures until it locks; 0: it never does
	lock  time.Duration // how long
	grows bool          // each further lock lasts twice as long
	delay time.Duration // after the third failure; twice as long after each further one; 0: none
}

// expires is when nothing of a tally is left.
func (t tally) expires() chain.Time {
	newest := t.Last
	if newest.Before(t.Until) {
		newest = t.Until
	}
	return newest.Add(forgetAfter)
}

// locked reports whether it is locked at a time.
func (t tally) locked(now chain.Time) bool { return now.Before(t.Until) }

// at is what is left of a tally at a time. leak is how long it takes to forget one failure; 0: they are forgotten together.
func (t tally) at(now chain.Time, leak time.Duration) tally {
	if !now.Before(t.expires()) {
		return tally{}
	}
	if leak > 0 && t.Count > 0 && now.After(t.Last) {
		n := min(int64(now.Sub(t.Last)/leak), int64(t.Count))
		t.Count -= int(n)
		t.Last = t.Last.Add(time.Duration(n) * leak)
	}
	return t
}

// fail counts a failure. While it is locked nothing is counted: what is refused unseen is no failure.
func (t tally) fail(now chain.Time, leak time.Duration) tally {
	if t = t.at(now, leak); t.locked(now) {
		return t
	}
	if leak == 0 || t.Count == 0 {
		t.Last = now
	}
	t.Count++
	return t
}

// lock is the tally after it was locked.
func (t tally) lock(now, until chain.Time) tally {
	t = t.at(now, 0)
	return tally{Last: now, Until: until, Locks: t.Locks + 1}
}

// lockUntil says until when a tally that has just counted a failure is to be locked.
func (r rule) lockUntil(t tally, now chain.Time) (until chain.Time, ok bool) {
	if r.after == 0 || t.Count < r.after || t.locked(now) {
		return chain.Time{}, false
	}
	d := r.lock
	if r.grows {
		d = min(d<<min(t.Locks, mostDoublings), max(d, longestLock))
	}
	return now.Add(d), true
}

// wait says until when the next attempt is refused, and whether that is a lock; zero: it is not.
func (r rule) wait(t tally, now chain.Time, leak time.Duration) (until chain.Time, locked bool) {
	t = t.at(now, leak)
	if t.locked(now) {
		return t.Until, true
	}
	if r.delay > 0 && t.Count > freeFailures {
		d := longestDelay
		if n := t.Count - freeFailures - 1; n < 16 {
			d = min(r.delay<<n, max(r.delay, longestDelay))
		}
		if until = t.Last.Add(d); now.Before(until) {
			return until, false
		}
	}
	return chain.Time{}, false
}
