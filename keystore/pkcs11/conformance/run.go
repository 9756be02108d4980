package conformance

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
)

// A run tries one token. Its steps run one after the other, each in a goroutine that is given up if it hangs; what that
// finds out later no longer reaches the report.
type run struct {
	config   Config
	progress func(Event)
	step     Event
	name     string // of this run, part of each label

	mu     sync.Mutex // guards report until it is over, and over
	over   bool
	report Report

	// Used by one step at a time.
	module      *pkcs11.Ctx
	initialized bool
	slot        uint
	session     pkcs11.SessionHandle // open for writing and logged in
	open        bool
	pin         keystore.Secret
	refused     bool  // the PIN: it is not tried again
	failure     error // of the device
	keys        []*testKey
	clean       bool // no half-made keys were in the token at the beginning
	copies      bool // the token makes copies that are as protected as the key
}

// A step is one part of a run. An error of it ends the run: the token is not there, or the PIN is refused. What is merely
// different from what Signet wants is a check.
type step struct {
	name  string
	do    func(ctx context.Context) error
	extra time.Duration // on top of Config.Hang
	skip  bool
}

// Run tries a token. The report says what was found up to there, also with an error, which says why the run ended early:
// the token cannot be reached, the PIN was refused, the context has ended, or a call to the module does not return. After
// the latter the module must not be used any more in this process. Progress is called by one goroutine at a time; it may be nil.
func Run(ctx context.Context, c Config, progress func(Event)) (Report, error) {
	c, err := c.withDefaults()
	if err != nil {
		return Report{}, err
	}
	if progress == nil {
		progress = func(Event) {}
	}
	r := &run{
		config: c, progress: progress, name: strings.ToLower(rand.Text()[:8]),
		report: Report{Format: Format, Began: time.Now().UTC().Truncate(time.Second), Needs: slices.Clone(requirements)},
	}
	for i := range r.report.Needs {
		r.report.Needs[i].Verdict = NotTried
	}
	began := time.Now()
	err = r.all(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	report := r.report // a step that hangs may still read the other
	report.Complete = err == nil
	report.Took = Duration(time.Since(began).Round(time.Millisecond))
	report.conclude()
	return report, err
}

// all runs the steps, and cleans up.
func (r *run) all(ctx context.Context) error {
	if info, err := os.Stat(r.config.Module); err != nil {
		return fmt.Errorf("%w: the PKCS#11 module cannot be loaded: %w", keystore.ErrUnavailable, err)
	} else if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: the PKCS#11 module %s is not a file", keystore.ErrInvalid, r.config.Module)
	}
	steps := r.steps()
	for i, s := range steps {
		if s.skip {
			continue
		}
		r.step = Event{Step: s.name, Index: i + 1, Steps: len(steps)}
		r.progress(r.step)
		err := r.bounded(ctx, s)
		if err == nil {
			continue
		}
		err = fmt.Errorf("%s: %w", s.name, err)
		if errors.Is(err, errHangs) {
			return err
		}
		return errors.Join(err, r.end(ctx))
	}
	return r.end(ctx)
}

func (r *run) steps() []step {
	measuring := time.Duration(len(r.config.Sessions)*len(r.config.Algorithms)+4) * 2 * r.config.Duration
	return []step{
		{name: "load the module, find the token, log in", do: r.begin},
		{name: "remove what an earlier run left", do: r.sweep},
		{name: "make a key of each algorithm and sign with it", do: r.algorithms, extra: 2 * r.config.Hang},
		{name: "read the attributes back", do: r.attributes},
		{name: "try to get the keys out", do: r.escapes},
		{name: "try to use the keys for something else", do: r.misuse},
		{name: "try copies in the session", do: r.tryCopies},
		{name: "names of keys", do: r.names},
		{name: "odd digests and failed signatures", do: r.oddities},
		{name: "random numbers", do: r.random},
		{name: "sessions", do: r.sessions},
		{name: "make, find and sign at the same time", do: r.sideBySide, extra: r.config.Duration},
		{name: "leave a session alone", do: r.idle, extra: r.config.Idle, skip: r.config.Idle == 0},
		{name: "the login", do: r.logins},
		{name: "set the module up anew", do: r.restart},
		{name: "Signet's own way with the token", do: r.ownWay, extra: 2 * r.config.Hang},
		{name: "speed", do: r.speed, extra: measuring, skip: r.config.NoSpeed},
	}
}

// end removes what the run made, whatever happened before, and leaves the module. The caller's context may have ended.
func (r *run) end(ctx context.Context) error {
	return r.bounded(context.WithoutCancel(ctx), step{name: "clean up", do: r.cleanUp})
}

// bounded runs a step, and gives up on it when it hangs.
func (r *run) bounded(ctx context.Context, s step) error {
	if ctx.Err() != nil {
		return expired(ctx)
	}
	done := make(chan error, 1)
	go func() {
		err := s.do(ctx)
		if r.failure != nil && err == nil {
			r.note(needModule, Check{Name: "the device does not fail: " + s.name, Verdict: Limits, Saw: said(r.failure),
				Do: "run it again. If it says so each time, that is its way to refuse: Signet takes it for a device that is gone and sets it up anew"})
		}
		r.failure = nil
		done <- err
	}()
	limit := time.NewTimer(r.config.Hang + s.extra)
	defer limit.Stop()
	select {
	case err := <-done:
		return err
	case <-limit.C:
		r.mu.Lock()
		defer r.mu.Unlock()
		r.over = true
		return fmt.Errorf("%w: %w", keystore.ErrUnavailable, errHangs)
	}
}

func expired(ctx context.Context) error {
	return fmt.Errorf("%w: ended before it was done: %w", keystore.ErrUnavailable, context.Cause(ctx))
}

// update changes the report, unless the run is over.
func (r *run) update(change func(*Report)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over {
		change(&r.report)
	}
}

// note records a check.
func (r *run) note(requirement string, c Check) {
	told := false
	r.update(func(report *Report) {
		report.add(requirement, c)
		told = true
	})
	if told {
		e := r.step
		e.Check = &c
		r.progress(e)
	}
}
