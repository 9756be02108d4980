package server

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/signetd/signet/server/internal/identity"
)

// errRateLimited: too many calls in too short a time. Nothing was done.
var errRateLimited = errors.New("too many calls in too short a time")

// rateError says when to call again. It is an errRateLimited.
type rateError struct {
	whose string
	wait  time.Duration
}

func (e *rateError) Error() string {
	return fmt.Sprintf("%v: %s; call again in %v", errRateLimited, e.whose, e.wait)
}

func (e *rateError) Unwrap() error { return errRateLimited }

// RetryAfter is how long to wait.
func (e *rateError) RetryAfter() time.Duration { return e.wait }

// bucket lets through a rate of calls, and a burst beyond it: a token bucket.
type bucket struct {
	rate  float64 // tokens a second
	burst float64

	mu     sync.Mutex
	tokens float64
	last   time.Time
}

// newBucket makes a bucket that is full. Without a burst it holds the calls of one second, and one at the least.
func newBucket(rate float64, burst int, now time.Time) *bucket {
	b := &bucket{rate: rate, burst: float64(burst), last: now}
	if burst == 0 {
		b.burst = max(rate, 1)
	}
	b.tokens = b.burst
	return b
}

// take takes a token, or says how long it is until there is one.
func (b *bucket) take(now time.Time) (wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if since := now.Sub(b.last); since > 0 { // a clock that went back gives nothing
		b.tokens = min(b.burst, b.tokens+since.Seconds()*b.rate)
	}
	b.last = now
	if b.tokens >= 1 {
		b.tokens--
		return 0
	}
	return max(time.Duration((1-b.tokens)/b.rate*float64(time.Second)).Round(time.Millisecond), leastRetry)
}

// rates bounds the calls of all, and of each service.
type rates struct {
	clock func() time.Time
	all   *bucket // nil: not bounded
	rate  float64 // of services that have none of their own
	burst int

	mu       sync.RWMutex
	services map[string]serviceBucket
}

// serviceBucket is the bucket of a service's terms: other terms, another bucket.
type serviceBucket struct {
	terms *identity.Terms
	*bucket
}

func newRates(c Config, clock func() time.Time) *rates {
	r := &rates{clock: clock, rate: float64(c.Services.CallsPerSecond), burst: c.Services.Burst, services: map[string]serviceBucket{}}
	if c.Network.CallsPerSecond > 0 {
		r.all = newBucket(float64(c.Network.CallsPerSecond), c.Network.Burst, clock())
	}
	return r
}

// takeAny counts a call against what all callers may.
func (r *rates) takeAny() error {
	if r.all == nil {
		return nil
	}
	if wait := r.all.take(r.clock()); wait > 0 {
		return &rateError{"all callers together make more calls than the server is set to answer", wait}
	}
	return nil
}

// takeService counts a call against what a service may.
func (r *rates) takeService(c identity.Caller) error {
	rate, burst := r.rate, r.burst
	if c.Terms.Rate > 0 {
		rate, burst = c.Terms.Rate, c.Terms.Burst
	}
	if rate == 0 {
		return nil
	}
	r.mu.RLock()
	b, ok := r.services[c.ID]
	r.mu.RUnlock()
	if !ok || b.terms != c.Terms {
		b = r.make(c, rate, burst)
	}
	if wait := b.take(r.clock()); wait > 0 {
		return &rateError{fmt.Sprintf("this service may make %v a second", rate), wait}
	}
	return nil
}

const maxServiceBuckets = 10000

func (r *rates) make(c identity.Caller, rate float64, burst int) serviceBucket {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b, ok := r.services[c.ID]; ok && b.terms == c.Terms {
		return b
	}
	if len(r.services) >= maxServiceBuckets {
		clear(r.services)
	}
	b := serviceBucket{c.Terms, newBucket(rate, burst, r.clock())}
	r.services[c.ID] = b
	return b
}
