package isolate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signetd/signet/keystore"
)

// A process is one worker, from its start to its death.
type process struct {
	token   *Token
	slot    int
	cmd     *exec.Cmd
	wire    *wire
	log     *lineLog
	started time.Time
	exited  chan struct{} // closed when it was waited for, and exit is set
	exit    error

	epoch    atomic.Uint64 // of the token in it
	open     atomic.Int64  // requests without an answer
	heard    atomic.Int64  // when something last came from it
	leaving  atomic.Bool   // it gets no new calls
	status   atomic.Pointer[keystore.Status]
	retired  chan struct{} // closed when it is to be replaced
	retiring sync.Once
	gone     chan struct{} // closed when no answer comes any more

	mu       sync.Mutex
	requests map[uint64]*request
	last     uint64
	warm     map[keystore.ID]struct{} // keys that it has signed with in this epoch of its token
	newest   int64                    // when the newest signature that was answered was asked for
	answers  int64                    // when the last signature was answered
	dead     error
	lease    *lease
	reaped   bool // its number may be another's
}

// A request waits for its answer.
type request struct {
	kind  kind
	id    keystore.ID
	sent  int64
	place uint64 // in what goes out; guarded by the wire
	open  bool   // it was among the requests of a process
	after func() // is called before the caller is told; also if the caller has left
	body  []byte
	err   error
	done  chan struct{} // has room for one
}

// A lostError says that a process died, or was ended, before it answered.
type lostError struct {
	cause error
	begun bool // the request may have reached it
}

func (e *lostError) Error() string {
	return fmt.Sprintf("%v: the worker process with the call is gone: %v", keystore.ErrUnavailable, e.cause)
}
func (e *lostError) Unwrap() []error { return []error{keystore.ErrUnavailable, e.cause} }

// errCold says that a process has to search for a key first.
var errCold = errors.New("the key is not known to the process")

var processStart = time.Now()

func now() int64 { return int64(time.Since(processStart)) + 1 } // monotonic, never 0

// ask sends a request and waits for the answer as long as the caller does. add appends the frame. A request to sign with a key that the
// process must search for first is sent only if after, which ends a lock, is not nil.
func (p *process) ask(ctx context.Context, r *request, add func(b []byte, number, left uint64) []byte) error {
	left := uint64(0)
	if deadline, ok := ctx.Deadline(); ok {
		left = uint64(max(1, time.Until(deadline)))
	}
	r.sent, r.place, r.done = now(), math.MaxUint64, make(chan struct{}, 1)
	p.mu.Lock()
	if p.dead != nil {
		p.mu.Unlock()
		return &lostError{cause: p.dead}
	}
	if r.kind == sign && r.after == nil {
		if _, known := p.warm[r.id]; !known {
			p.mu.Unlock()
			return errCold
		}
	}
	p.last++
	number := p.last
	p.requests[number] = r
	r.open = true
	p.mu.Unlock()
	p.open.Add(1)
	// If it fails, the reading end fails, too, and ends the request.
	_ = p.wire.send(func(b []byte, place uint64) []byte {
		r.place = place
		return add(b, number, left)
	})
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
	}
	select {
	case <-r.done: // it is here all the same
		return r.err
	default:
	}
	_ = p.wire.send(func(b []byte, _ uint64) []byte { return appendFrame(b, cancel, number, 0) })
	return expired(ctx)
}

// read takes answers until there are no more.
func (p *process) read() {
	var err error
	for err == nil {
		var f frame
		if f, err = p.wire.read(); err == nil {
			err = p.take(f)
		}
	}
	p.lose(fmt.Errorf("it answers no more: %w", err))
}

func (p *process) take(f frame) error {
	p.heard.Store(now())
	switch f.kind {
	case signed, done, failed:
		p.sawEpoch(f.extra)
		return p.answered(f)
	case pong:
		p.sawEpoch(f.extra)
		return p.sawStatus(f.body)
	case wantPIN:
		go p.givePIN(f.request, loginWatch+time.Second)
	case loggedIn:
		p.tried(map[bool]outcome{true: refused, false: accepted}[len(f.body) == 1 && f.body[0] == 1])
	case bye:
		p.leaving.Store(true)
		if len(f.body) > 0 {
			p.token.closedBadly(p, decodeError(f.body))
		}
	default:
		return fmt.Errorf("%w: a frame of kind %d", errProtocol, f.kind)
	}
	return nil
}

func (p *process) answered(f frame) error {
	p.mu.Lock()
	r := p.requests[f.request]
	if r == nil {
		p.mu.Unlock()
		return fmt.Errorf("%w: an answer to request %d, which is not open", errProtocol, f.request)
	}
	delete(p.requests, f.request)
	if r.kind == sign {
		p.newest, p.answers = max(p.newest, r.sent), now()
	}
	if f.kind == signed && r.kind == sign && r.after != nil {
		p.warm[r.id] = struct{}{}
	}
	p.mu.Unlock()
	switch {
	case f.kind == failed:
		r.err = decodeError(f.body)
	case (f.kind == signed) != (r.kind == sign):
		r.err = fmt.Errorf("%w: %w: an answer of kind %d", keystore.ErrUnavailable, errProtocol, f.kind)
	default:
		r.body = append(make([]byte, 0, len(f.body)), f.body...)
	}
	p.finish(r)
	return nil
}

func (p *process) finish(r *request) {
	p.open.Add(-1)
	if r.after != nil {
		r.after()
	}
	r.done <- struct{}{}
}

// lose ends all requests.
func (p *process) lose(cause error) {
	p.mu.Lock()
	if p.dead != nil {
		p.mu.Unlock()
		return
	}
	p.dead = cause
	lost := p.requests
	p.requests = nil
	p.mu.Unlock()
	p.wire.fail(cause) // from now on nothing more is sent
	p.leaving.Store(true)
	p.tried(unknown)
	for _, r := range lost {
		r.err = &lostError{cause: cause, begun: p.wire.handedOver(&r.place)}
		p.finish(r)
	}
	close(p.gone)
}

// sawEpoch forgets what the process knew when its token was set up anew.
func (p *process) sawEpoch(epoch uint64) {
	if p.epoch.Load() == epoch {
		return
	}
	p.mu.Lock()
	p.epoch.Store(epoch)
	p.warm = make(map[keystore.ID]struct{})
	p.mu.Unlock()
	p.token.epoch.Add(1)
}

func (p *process) sawStatus(body []byte) error {
	if len(body) == 0 {
		return nil
	}
	s := new(keystore.Status)
	if err := json.Unmarshal(body, s); err != nil {
		return fmt.Errorf("%w: a status: %w", errProtocol, err)
	}
	p.status.Store(s)
	return nil
}

// givePIN answers a process that logs in.
func (p *process) givePIN(request uint64, limit time.Duration) {
	p.tried(unknown)
	ctx, cancel := context.WithTimeout(p.token.life, p.token.config.Start)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-p.gone:
			cancel()
		case <-stop:
		}
	}()
	pin, l, err := p.token.pins.give(ctx, limit)
	p.mu.Lock()
	if p.dead == nil {
		p.lease = l
	} else {
		defer l.end(unknown)
	}
	p.mu.Unlock()
	_ = p.wire.send(func(b []byte, _ uint64) []byte {
		if err != nil {
			return appendFrame(b, givePIN, request, 0, []byte{1}, encodeError(err))
		}
		return appendFrame(b, givePIN, request, 0, []byte{0}, []byte(pin.Reveal()))
	})
}

// tried says what came of the PIN that the process has.
func (p *process) tried(o outcome) {
	p.mu.Lock()
	l := p.lease
	p.lease = nil
	p.mu.Unlock()
	l.end(o)
}

// retire lets the process be replaced once it has finished what it does.
func (p *process) retire(reason error) {
	p.retiring.Do(func() {
		p.leaving.Store(true)
		p.log.log.Warn("the worker process is replaced", "reason", bounded(reason.Error(), maxText))
		close(p.retired)
	})
}

// works reports whether the process says that its token works.
func (p *process) works() bool {
	s := p.status.Load()
	return s == nil || s.State == keystore.Working
}

// hangs reports why the process must be killed, if it must: it is silent, or a call does not return.
func (p *process) hangs() error {
	limit := int64(p.token.config.Hang)
	at := now()
	if at-p.heard.Load() > limit {
		return fmt.Errorf("it has not answered for %v", p.token.config.Hang)
	}
	if s := p.status.Load(); s != nil && s.Stuck > 0 {
		return fmt.Errorf("%d calls in it have not returned for too long", s.Stuck)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.requests {
		age := at - r.sent
		switch r.kind {
		case sign: // one that only waits for its turn sees others answered, and is not overtaken by later ones
			if age > limit && (at-p.answers > limit || p.newest > r.sent+limit/2) {
				return errors.New("a signature does not return")
			}
		case generate:
			if age > limit*generateFactor {
				return errors.New("making a key does not return")
			}
		default:
			if age > limit {
				return errors.New("looking for keys, or destroying one, does not return")
			}
		}
	}
	return nil
}

// watch looks after the process until it is gone.
func (p *process) watch() {
	t := p.token
	beat := time.NewTicker(t.config.Beat)
	defer beat.Stop()
	for {
		select {
		case <-beat.C:
			_ = p.wire.send(func(b []byte, _ uint64) []byte { return appendFrame(b, ping, 0, 0) })
			if err := p.hangs(); err != nil {
				t.hung(p, err)
				p.drainOthers(err)
				p.end(0)
				return
			}
		case <-p.gone:
			p.end(0)
			return
		case <-p.retired:
			p.drain(drainWait)
			p.end(byeLimit)
			return
		case <-t.closing:
			p.end(closeWait + byeWait)
			return
		}
	}
}

// drainOthers gives the calls beside one that hangs a moment to return, if they do at all.
func (p *process) drainOthers(reason error) {
	p.retire(reason)
	if now()-p.heard.Load() > int64(p.token.config.Hang) {
		return
	}
	p.drain(min(drainWait, p.token.config.Hang/4))
}

// drain waits for the process to have no calls, but not long.
func (p *process) drain(limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for p.open.Load() > 0 {
		select {
		case <-look.C:
		case <-timer.C:
			return
		case <-p.gone:
			return
		}
	}
}

// end lets the process close its token if there is time for that, kills it, and waits until it is gone.
func (p *process) end(patience time.Duration) {
	p.leaving.Store(true)
	if patience > 0 {
		_ = p.wire.send(func(b []byte, _ uint64) []byte { return appendFrame(b, bye, 0, 0) })
		timer := time.NewTimer(patience)
		select {
		case <-p.exited:
		case <-p.gone:
			select {
			case <-p.exited:
			case <-timer.C:
			}
		case <-timer.C:
		}
		timer.Stop()
	}
	p.lose(errors.New("it was ended"))
	p.kill()
	<-p.exited
	p.wire.close()
	p.log.end()
}

func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		kill(p.cmd.Process.Pid)
	}
}

// reap waits for the process to die, and ends what it may have started.
func (p *process) reap() {
	defer close(p.exited)
	awaitDeath(p.cmd.Process.Pid)
	p.mu.Lock()
	kill(p.cmd.Process.Pid)
	p.reaped = true
	p.mu.Unlock()
	p.exit = p.cmd.Wait()
	if p.exit == nil {
		p.exit = errors.New("it ended by itself")
	}
}

// refusedPIN reports whether an error of a process that could not open its token says that the PIN was tried, and refused.
func refusedPIN(err error) bool {
	return errors.Is(err, keystore.ErrPIN) && strings.Contains(err.Error(), "CKR_PIN_")
}
