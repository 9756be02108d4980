package keystore

import (
	"fmt"
	"math/bits"
	"sync/atomic"
	"time"
)

// A State says whether a token can be used.
type State string

// The states of a token.
const (
	Working    State = "working"    // it signs
	Recovering State = "recovering" // it failed and is being set up anew: calls are refused, or go to another token
	Hanging    State = "hanging"    // calls to it do not return
	Refusing   State = "refusing"   // it is not used until it proves itself, which may need a person: the PIN, a key or signatures were wrong
	Offline    State = "offline"    // it is not meant to be there: a key that is plugged in when needed
	Closed     State = "closed"
)

// A Status is what a token is doing. The counters only grow while the program runs.
type Status struct {
	Token    string    // label
	Serial   string    // serial number
	Module   string    // path of the PKCS#11 module
	Model    string    // manufacturer and model, as the token says
	State    State     //
	Since    time.Time // when the state began
	Reason   string    // what failed last; empty while it works
	Active   bool      // calls go to it: of replicas, one is active
	Replica  int       // 0 for the first of the tokens that hold the same keys
	Missing  int       // keys of the other replicas that it is known not to have
	Proved   time.Time // when it last signed with the canary key; zero if never
	Tested   time.Time // when it last passed the known-answer tests; zero if never
	Epoch    uint64    // how often it was set up
	Sessions uint64    // sessions that are open now, as far as we opened them

	Processes int // worker processes that run its module; 0: this process does
	Workers   int // signatures it can make at the same time
	Busy      int // workers in a call
	Stuck     int // of them, in a call that has not returned for too long
	Waiting   int // calls that wait for a worker
	Queue     int // how many may

	Recoveries uint64               // times it was set up again after a failure
	Respawns   uint64               // worker processes started again
	Signatures map[Algorithm]uint64 // made
	Errors     map[string]uint64    // failed PKCS#11 calls by CKR name, for example "CKR_DEVICE_ERROR"
	Wait       Durations            // from a call's arrival to its worker
	Service    Durations            // in the worker
}

// A Reporter is a [Token] that says what it is doing. A token made of several reports each.
type Reporter interface{ Status() []Status }

// Buckets is the number of buckets of [Durations].
const Buckets = 24

// Durations is a histogram: bucket i counts durations of at most 2^i µs, the last one all longer ones, too.
type Durations struct {
	Count  [Buckets]uint64
	Sum    time.Duration
	Number uint64
}

// Quantile returns an upper bound of the q-th quantile, 0 if nothing was counted.
func (d Durations) Quantile(q float64) time.Duration {
	rank, seen := uint64(q*float64(d.Number)), uint64(0)
	for i, n := range d.Count {
		if seen += n; n > 0 && seen > rank || seen == d.Number && seen > 0 {
			return Bound(i)
		}
	}
	return 0
}

// Bound is the longest duration of a bucket.
func Bound(bucket int) time.Duration { return time.Microsecond << bucket }

// A Meter counts durations, eight times as finely as [Durations] has them. It is used by several goroutines.
type Meter struct {
	count [Buckets * fine]atomic.Uint64
	sum   atomic.Int64
}

// Buckets of Durations are divided into so many.
const (
	fine     = 8
	fineBits = 3
)

// Add counts a duration.
func (m *Meter) Add(d time.Duration) {
	d = max(d, 0)
	n := uint64(max(0, (d+time.Microsecond/fine-1)/(time.Microsecond/fine)-1)) // in eighths of a microsecond, from 0
	i := n
	if n >= fine {
		octave := bits.Len64(n) - fineBits
		i = uint64(octave)*fine + n>>(octave-1)&(fine-1)
	}
	m.count[min(i, uint64(len(m.count)-1))].Add(1)
	m.sum.Add(int64(d))
}

// Durations returns what was counted.
func (m *Meter) Durations() Durations {
	d := Durations{Sum: time.Duration(m.sum.Load())}
	for i := range m.count {
		n := m.count[i].Load()
		d.Count[i/fine] += n
		d.Number += n
	}
	return d
}

// Quantile returns an upper bound of the q-th quantile that is an eighth too high at most, 0 if nothing was counted.
func (m *Meter) Quantile(q float64) time.Duration {
	var counts [len(m.count)]uint64
	number := uint64(0)
	for i := range m.count {
		counts[i] = m.count[i].Load()
		number += counts[i]
	}
	rank, seen := uint64(q*float64(number)), uint64(0)
	for i, n := range counts {
		if seen += n; n > 0 && (seen > rank || seen == number) {
			octave, part := i/fine, i%fine
			if octave == 0 {
				return time.Duration(part+1) * time.Microsecond / fine
			}
			return time.Duration(fine+part+1) * (Bound(octave-1) / fine)
		}
	}
	return 0
}

// An UnavailableError is an [ErrUnavailable] that says when trying again makes sense.
type UnavailableError struct {
	RetryAfter time.Duration
	Cause      error
}

// Error implements error.
func (e *UnavailableError) Error() string { return fmt.Sprintf("%v: %v", ErrUnavailable, e.Cause) }

// Unwrap implements errors.Unwrap.
func (e *UnavailableError) Unwrap() []error { return []error{ErrUnavailable, e.Cause} }
