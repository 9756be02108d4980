package isolate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/signetd/signet/keystore"
)

// A slot is the place of one process. Its fields are guarded by the lock of the token, but for process.
type slot struct {
	process  *process // nil while there is none
	failures int      // in a row, to come up or to stay
	refused  bool     // the PIN, at the last start
	next     time.Time
	past     keystore.Status // counters of the processes that were here
	starts   uint64
	attempts uint64 // to start one
}

// spawn starts a process and returns when its token is open.
func (t *Token) spawn(ctx context.Context, i int) (*process, error) {
	ctx, cancel := context.WithTimeout(ctx, t.config.Start)
	defer cancel()
	log := &lineLog{log: t.config.Log.With("process", i), redact: t.pins.redact}
	cmd, conn, err := t.spawner.start(t.config.Command, t.config.Env, log)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", keystore.ErrUnavailable, err)
	}
	log.of(cmd.Process.Pid)
	p := &process{
		token: t, slot: i, cmd: cmd, wire: newWire(conn), log: log, started: time.Now(), exited: make(chan struct{}),
		retired: make(chan struct{}), gone: make(chan struct{}), requests: make(map[uint64]*request), warm: make(map[keystore.ID]struct{}),
	}
	p.wire.crowd = &p.open
	go p.reap()
	stop := context.AfterFunc(ctx, func() { p.wire.close() })
	err = t.greet(p)
	if !stop() && err == nil {
		err = expired(ctx)
	}
	if err == nil {
		p.tried(accepted)
		p.heard.Store(now())
		go p.read()
		return p, nil
	}
	o := unknown
	if refusedPIN(err) {
		o = refused
	}
	p.tried(o)
	if ctx.Err() != nil {
		err = expired(ctx)
	}
	return nil, p.stillborn(err)
}

// stillborn ends a process that did not come up, and says why.
func (p *process) stillborn(err error) error {
	p.wire.close()
	var told *remoteError
	var mismatch *mismatchError
	if !errors.As(err, &told) && !errors.As(err, &mismatch) {
		timer := time.NewTimer(killWait) // to learn how it ended, if it did
		select {
		case <-p.exited:
			err = fmt.Errorf("%w; the process: %w", err, p.exit)
		case <-timer.C:
		}
		timer.Stop()
		err = fmt.Errorf("%w: %w", keystore.ErrUnavailable, err)
	}
	p.lose(err)
	p.kill()
	<-p.exited
	p.log.end()
	return err
}

// greet says hello and waits for the token in the process to be open.
func (t *Token) greet(p *process) error {
	f, err := p.wire.read()
	if err != nil {
		return fmt.Errorf("the worker process does not say hello: %w", err)
	}
	if f.kind != hello {
		return fmt.Errorf("%w: it begins with a frame of kind %d", errProtocol, f.kind)
	}
	if err := checkHello(f.body, t.build); err != nil {
		return fmt.Errorf("%w: %w", keystore.ErrInvalid, err)
	}
	settings, err := json.Marshal(wireSettings{Process: p.slot, Settings: t.config.Settings})
	if err != nil {
		return err
	}
	err = p.wire.send(func(b []byte, _ uint64) []byte {
		b = appendFrame(b, hello, 0, 0, appendHello(nil, t.build))
		return appendFrame(b, setup, 0, 0, settings)
	})
	if err != nil {
		return err
	}
	for {
		f, err := p.wire.read()
		if err != nil {
			return fmt.Errorf("the worker process did not open the token: %w", err)
		}
		switch f.kind {
		case wantPIN:
			go p.givePIN(f.request, 0)
		case ready:
			p.epoch.Store(f.extra)
			return p.sawStatus(f.body)
		case failed:
			return decodeError(f.body)
		default:
			return fmt.Errorf("%w: a frame of kind %d before the token is open", errProtocol, f.kind)
		}
	}
}

// keep sees to it that there is a process in a slot, beginning with one that is there, until the token is closed.
func (t *Token) keep(p *process) {
	i := p.slot
	for {
		if p != nil {
			p.watch()
			t.down(p)
		}
		if !t.pause(i) {
			return
		}
		var err error
		p, err = t.spawn(t.life, i)
		if err != nil {
			p = nil
			t.notUp(i, err)
			continue
		}
		t.up(p)
	}
}

// up lets calls go to a process.
func (t *Token) up(p *process) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &t.slots[p.slot]
	s.process, s.refused = p, false
	s.starts++
	s.attempts++
	if s.starts > 1 {
		p.log.log.Info("a worker process took the place of one that was gone")
	}
	t.epoch.Add(1)
	t.processes.Store(t.listLocked())
	t.setLocked(keystore.Working, nil)
}

// down takes a process out of use that is gone.
func (t *Token) down(p *process) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &t.slots[p.slot]
	s.process = nil
	if last := p.status.Load(); last != nil {
		addCounters(&s.past, last)
	}
	wanted := false
	select {
	case <-p.retired:
		wanted = true
	default:
	}
	switch {
	case time.Since(p.started) > provenAfter:
		s.failures = 0
	case !wanted:
		s.failures++
	}
	s.next = time.Now().Add(delay(s.failures, false))
	t.processes.Store(t.listLocked())
	reason := fmt.Errorf("a worker process ended: %w", p.exit)
	select {
	case <-t.closing:
		return
	default:
	}
	p.log.log.Warn("a worker process ended", "reason", bounded(p.exit.Error(), maxText), "next", time.Until(s.next))
	if len(*t.processes.Load()) == 0 {
		t.setLocked(keystore.Recovering, reason)
	}
}

// notUp notes that a process did not come up.
func (t *Token) notUp(i int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-t.closing:
		return
	default:
	}
	s := &t.slots[i]
	s.failures++
	s.attempts++
	s.refused = errors.Is(err, keystore.ErrPIN)
	var told *remoteError
	wait := delay(s.failures, !errors.As(err, &told))
	if s.refused {
		wait = pinDelay
	}
	s.next = time.Now().Add(wait)
	if s.failures == 1 || s.failures%crashes == 0 {
		t.config.Log.Warn("a worker process did not come up", "process", i, "failures", s.failures, "reason", bounded(err.Error(), maxText))
	}
	if len(*t.processes.Load()) == 0 {
		state := keystore.Recovering
		if s.refused {
			state = keystore.Refusing
		}
		t.setLocked(state, err)
	}
}

// delay is how long to wait after so many failures in a row. The first time there is no need to. A process that dies before it is up, again and
// again, is left alone for longer.
func delay(failures int, crash bool) time.Duration {
	if failures <= 1 {
		return 0
	}
	limit := maxDelay
	if crash && failures > crashes {
		limit = crashDelay
	}
	d := min(minDelay<<min(failures-2, 16), limit)
	return d - d/4 + rand.N(d/4+1)
}

// pause waits for the time of the next start. It reports whether there is one.
func (t *Token) pause(i int) bool {
	for {
		t.mu.Lock()
		s := &t.slots[i]
		wait, refused := time.Until(s.next), s.refused
		t.mu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-t.closing:
			timer.Stop()
			return false
		}
		if !refused {
			return t.life.Err() == nil
		}
		// A process for each try of the same PIN would be a waste.
		if _, _, err := t.pins.get(t.life); !errors.Is(err, errRefusedPIN) {
			return t.life.Err() == nil
		}
		t.mu.Lock()
		s.next = time.Now().Add(pinDelay)
		t.mu.Unlock()
	}
}

// hung notes that a process hangs: if it is the only one, callers are sent away at once.
func (t *Token) hung(p *process, reason error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p.leaving.Store(true)
	for _, other := range *t.processes.Load() {
		if other != p && !other.leaving.Load() {
			return
		}
	}
	t.setLocked(keystore.Hanging, fmt.Errorf("all worker processes hang: %w", reason))
}

// listLocked returns the processes that are up.
func (t *Token) listLocked() *[]*process {
	list := make([]*process, 0, len(t.slots))
	for i := range t.slots {
		if p := t.slots[i].process; p != nil {
			list = append(list, p)
		}
	}
	return &list
}

// setLocked notes how the token is, and wakes who waits for a change.
func (t *Token) setLocked(state keystore.State, reason error) {
	if t.state != state {
		t.since = time.Now()
	}
	if t.state == keystore.Working || t.state == "" {
		t.outage = time.Now()
	}
	t.state, t.reason = state, reason
	close(t.changed)
	t.changed = make(chan struct{})
}

// closedBadly notes what a process says of closing its token.
func (t *Token) closedBadly(p *process, err error) {
	p.log.log.Warn("the worker process did not close its token well", "reason", bounded(err.Error(), maxText))
	select {
	case <-t.closing:
		t.mu.Lock()
		t.closeErrs = append(t.closeErrs, err)
		t.mu.Unlock()
	default:
	}
}
