package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/tsa"
)

// ClockConfig says who measures the clock.
type ClockConfig struct {
	Sources []string `json:"sources" doc:"who measures the clock: kernel (what chrony, ntpd or timesyncd tell it), chrony, or ntp:host:port; nothing is signed unless more than half of them vouch that it is as accurate as timestamp.accuracy says; empty: nobody is asked"`
	Every   Duration `json:"every" doc:"how often"`
}

func defaultClock() ClockConfig {
	return ClockConfig{Sources: []string{}, Every: Duration(time.Minute)}
}

const maxClockSources = 16

func (c ClockConfig) validate(bad func(key, format string, args ...any) error) error {
	if len(c.Sources) > maxClockSources {
		return bad("timestamp.clock.sources", "%d sources; at most %d", len(c.Sources), maxClockSources)
	}
	for i, s := range c.Sources {
		if _, err := clockSource(s, nil); err != nil {
			return bad(fmt.Sprintf("timestamp.clock.sources[%d]", i), "%w", err)
		}
	}
	if every := time.Duration(c.Every); len(c.Sources) > 0 && (every < time.Second || every > time.Hour) {
		return bad("timestamp.clock.every", "%v; use 1s to 1h", every)
	}
	return nil
}

func clockSource(s string, clock func() time.Time) (tsa.Source, error) {
	switch {
	case s == "kernel":
		return tsa.Kernel{}, nil
	case s == "chrony":
		return tsa.Chrony{}, nil
	}
	address, ok := strings.CutPrefix(s, "ntp:")
	if host, port, err := net.SplitHostPort(address); !ok || err != nil || host == "" || port == "" {
		return nil, fmt.Errorf("%.80q; use kernel, chrony or ntp:host:port, for example ntp:time.example:123", s)
	}
	return tsa.NTP{Address: address, Clock: clock}, nil
}

// clockChanged is the body of clock.changed.
type clockChanged struct {
	Measured []clockMeasured `json:"measured"`
	Reason   string          `json:"reason"` // why it is not believed; empty where it is
	Trusted  bool            `json:"trusted"`
}

type clockMeasured struct {
	Error  string `json:"error"`  // how wrong the offset itself can be, or why there is none
	Offset string `json:"offset"` // of the clock: positive, it is ahead; empty: it was not measured
	Source string `json:"source"`
}

var clockActor = chain.Actor{ID: "clock", Kind: chain.System}

// openClock measures the clock for the first time, before anything leans on it. A clock that is known to be wrong ends the start: an entry from the
// future would block the ledger until it has come. One that nobody vouches for does not: what needs no time-stamp works, and is healthy when it does.
func openClock(ctx context.Context, o Options) (*tsa.Discipline, error) {
	c := o.Config.Timestamp.Clock
	if len(c.Sources) == 0 {
		if o.Config.Environment == Production {
			o.Log.Warn("nobody vouches for the clock: name those that measure it in timestamp.clock.sources")
		}
		return nil, nil
	}
	dc := tsa.DisciplineConfig{Accuracy: time.Duration(o.Config.Timestamp.Accuracy), Every: time.Duration(c.Every), Clock: o.Clock}
	for _, s := range c.Sources {
		one, err := clockSource(s, o.Clock)
		if err != nil {
			return nil, err
		}
		dc.Sources = append(dc.Sources, one)
	}
	d := tsa.NewDiscipline(dc)
	if err := d.Measure(ctx); err != nil {
		o.Log.Error("clock", "error", err)
	}
	return d, d.Wrong()
}

// keepTime measures the clock again and again, and looks whether somebody has set it. Whether it is believed is an entry whenever it changes, and
// where somebody measures it at the start.
func (s *Server) keepTime(ctx context.Context) {
	every := time.Duration(s.config.Timestamp.Clock.Every)
	if every <= 0 {
		every = time.Duration(defaultClock().Every)
	}
	if s.discipline != nil {
		s.beliefs.begin(s.clockState(s.tsa.Load().ClockDoubt()))
	}
	s.background.Go(func() {
		var unwritten []clockChanged
		for {
			unwritten = s.writeClock(ctx, append(unwritten, s.beliefs.take(maxUnwritten-len(unwritten))...))
			select {
			case <-ctx.Done():
				return
			case <-s.beliefs.changed():
			case <-time.After(every):
				if s.discipline != nil {
					_ = s.discipline.Measure(ctx) // what it found is asked for below, and by whoever needs the time
				}
			}
			s.noteClock()
		}
	})
}

// noteClock notes that the clock is believed no more, or again. Whoever looks at it calls this, so that nothing that was seen goes without an entry.
func (s *Server) noteClock() {
	doubt := s.tsa.Load().ClockDoubt()
	if s.beliefs.note(doubt == nil, func() clockChanged { return s.clockState(doubt) }) {
		s.pokeHealth()
	}
}

// beliefs are the changes of whether the clock is believed that are not in the ledger yet.
type beliefs struct {
	mu      sync.Mutex
	doubted bool
	queue   []clockChanged
	poke    chan struct{}
}

func (b *beliefs) changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.channel()
}

// channel is made when it is first needed. The caller holds mu.
func (b *beliefs) channel() chan struct{} {
	if b.poke == nil {
		b.poke = make(chan struct{}, 1)
	}
	return b.poke
}

// begin notes the first state.
func (b *beliefs) begin(state clockChanged) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.doubted, b.queue = !state.Trusted, []clockChanged{state}
}

// note notes a state if it is another one than before, and reports whether it is.
func (b *beliefs) note(trusted bool, state func() clockChanged) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if trusted != b.doubted {
		return false
	}
	b.doubted = !trusted
	if len(b.queue) < maxUnwritten {
		b.queue = append(b.queue, state())
	}
	select {
	case b.channel() <- struct{}{}:
	default:
	}
	return true
}

// take returns up to n changes, in their order.
func (b *beliefs) take(n int) []clockChanged {
	b.mu.Lock()
	defer b.mu.Unlock()
	n = min(n, len(b.queue))
	out := b.queue[:n:n]
	b.queue = b.queue[n:]
	return out
}

// maxUnwritten is how many changes wait for a clock with which an entry can be appended.
const maxUnwritten = 16

// clockState is what is known of the clock now.
func (s *Server) clockState(doubt error) clockChanged {
	body := clockChanged{Measured: []clockMeasured{}, Trusted: doubt == nil}
	if doubt != nil {
		body.Reason = doubt.Error()
		s.log.Error("clock", "error", doubt)
	} else {
		s.log.Info("clock", "trusted", true)
	}
	if s.discipline == nil {
		return body
	}
	for _, m := range s.discipline.Measured() {
		one := clockMeasured{Source: m.Source}
		if m.Err != nil {
			one.Error = m.Err.Error()
		} else {
			one.Offset, one.Error = m.Offset.String(), m.Error.String()
		}
		body.Measured = append(body.Measured, one)
	}
	return body
}

// writeClock appends clock.changed for each change, and returns those that could not be: while the clock is known to be wrong nothing is appended.
func (s *Server) writeClock(ctx context.Context, changes []clockChanged) []clockChanged {
	if len(changes) == 0 {
		return nil
	}
	_, err := s.ledger.Do(ctx, func(tx *ledger.Tx) error {
		for _, c := range changes {
			tx.Emit(ledger.Event{Type: chain.ClockChanged, Actor: clockActor, Body: c})
		}
		return nil
	})
	if err == nil {
		return nil
	}
	if !errors.Is(err, context.Canceled) && !errors.Is(err, ledger.ErrClosed) {
		s.log.Error("the change of the clock's state is not in the ledger yet", "error", err)
	}
	return changes
}
