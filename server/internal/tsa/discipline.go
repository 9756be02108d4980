package tsa

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Measurement is how far the clock was from the true time, as one source has it.
type Measurement struct {
	Source string
	Offset time.Duration // of the clock: positive, it is ahead
	Error  time.Duration // how wrong the offset itself can be
	At     time.Time
	Err    error // why there is no offset
}

// Worst is how far the clock can be off.
func (m Measurement) Worst() time.Duration { return m.Offset.Abs() + m.Error }

// String says it in a few words.
func (m Measurement) String() string {
	if m.Err != nil {
		return m.Source + ": " + m.Err.Error()
	}
	side := "ahead"
	if m.Offset < 0 {
		side = "behind"
	}
	return fmt.Sprintf("%s: %v %s, ±%v", m.Source, m.Offset.Abs().Round(10*time.Microsecond), side, m.Error.Round(10*time.Microsecond))
}

// Source measures the clock. A measurement is asked for now and then, from one goroutine at a time, and ends with its context.
type Source interface {
	Name() string
	Measure(ctx context.Context) (offset, err time.Duration, failed error)
}

// DisciplineConfig says who measures the clock, and when it is believed.
type DisciplineConfig struct {
	Sources  []Source
	Accuracy time.Duration // that tokens state: the clock is believed while it is not further off
	Every    time.Duration // 1 min
	Timeout  time.Duration // of one measurement; 5 s
	Clock    func() time.Time
}

// Discipline holds the clock against sources that know the time. The clock is believed while more than half of them have said, a short while ago,
// that it is no further off than tokens say: one of three that lies, or is away, does no harm.
type Discipline struct {
	c DisciplineConfig

	mu       sync.Mutex
	measured []Measurement // the newest of each source
	wrong    error         // why the clock is known to be wrong
	doubt    error         // why it is not believed
}

var errNotMeasured = errors.New("it was not measured yet")

// NewDiscipline measures nothing yet. Until it does, the clock is not believed.
func NewDiscipline(c DisciplineConfig) *Discipline {
	if c.Every <= 0 {
		c.Every = time.Minute
	}
	if c.Timeout <= 0 {
		c.Timeout = 5 * time.Second
	}
	return &Discipline{c: c, doubt: fmt.Errorf("%w: %w", ErrClock, errNotMeasured)}
}

// Every is how often it wants to measure.
func (d *Discipline) Every() time.Duration { return d.c.Every }

// Measure asks all sources at the same time, and judges.
func (d *Discipline) Measure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.c.Timeout)
	defer cancel()
	fresh := make([]Measurement, len(d.c.Sources))
	var wg sync.WaitGroup
	for i, s := range d.c.Sources {
		wg.Go(func() {
			m := Measurement{Source: s.Name()}
			m.Offset, m.Error, m.Err = s.Measure(ctx)
			m.At = d.c.Clock()
			fresh[i] = m
		})
	}
	wg.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.measured = fresh
	d.doubt, d.wrong = d.judge(d.c.Clock())
	return d.doubt
}

// judge says why the clock is not believed, and why it is known to be wrong. The caller holds mu.
func (d *Discipline) judge(now time.Time) (doubt, wrong error) {
	good, off := 0, 0
	for _, m := range d.measured {
		switch {
		case m.Err != nil, now.Sub(m.At) > 3*d.c.Every+d.c.Timeout:
		case m.Worst() <= d.c.Accuracy:
			good++
		case m.Offset.Abs()-m.Error > d.c.Accuracy: // further off than the source itself can be wrong
			off++
		}
	}
	if off > 0 && off >= good {
		wrong = fmt.Errorf("%w: it is further off than the %v that time-stamps state (%s); set it right", ErrClock, d.c.Accuracy, d.said())
	}
	if 2*good <= len(d.c.Sources) {
		doubt = wrong
		if doubt == nil {
			doubt = fmt.Errorf("%w: %d of %d sources vouch that it is within %v, and more than half must (%s); look at the synchronisation",
				ErrClock, good, len(d.c.Sources), d.c.Accuracy, d.said())
		}
	}
	return doubt, wrong
}

// said is what was measured, in words.
func (d *Discipline) said() string {
	all := make([]string, len(d.measured))
	for i, m := range d.measured {
		all[i] = m.String()
	}
	return strings.Join(all, "; ")
}

// Doubt says why the clock is not believed now; nil if it is. What was measured too long ago counts no more.
func (d *Discipline) Doubt() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.doubt != nil {
		return d.doubt
	}
	doubt, _ := d.judge(d.c.Clock())
	return doubt
}

// Wrong says why the clock is known to be wrong, which is more than a doubt.
func (d *Discipline) Wrong() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.wrong
}

// Measured is the newest measurement of each source.
func (d *Discipline) Measured() []Measurement {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.measured)
}
