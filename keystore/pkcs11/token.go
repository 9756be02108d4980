package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
)

// A Config says which token to open and how to use it. Module, PIN and one of TokenLabel and Serial are needed; the rest
// has defaults.
type Config struct {
	Module     string             // absolute path of the PKCS#11 module; see FindSoftHSM
	TokenLabel string             // exactly one token must match the label and
	Serial     string             // the serial number, of which either can be left out
	PIN        keystore.PINSource // asked at opening, and again after the device lost the login

	// Sessions is the number of sessions that sign at the same time, each with a worker of its own. 0 means as many as
	// the machine has CPUs, at least 2, at most what the token allows. More than the number of CPUs makes SoftHSM slower;
	// network HSMs want more. One more session is used for everything else.
	Sessions int

	// SessionCopies signs with a copy of each key in the memory of the session instead of the token's object, with the
	// same attributes, which are checked. It makes SoftHSM a sixth faster. A token that does not allow it, or whose copies
	// are less protected, is used without. The key of keystore.CanaryID is never copied.
	SessionCopies bool

	// SoftHSMConf is the path of SoftHSM's configuration; the environment's SOFTHSM2_CONF is set to it. Empty leaves the
	// environment alone. With it, the token's folder is synced after a key was made.
	SoftHSMConf string

	Queue int           // signatures that may wait for a session; more are refused. 0 means 1024
	Hang  time.Duration // a call this long hangs: when all sessions hang, callers are sent away at once. 0 means 10 s
}

const (
	defaultQueue = 1024
	defaultHang  = 10 * time.Second
	maxSessions  = 1024
	closeWait    = 10 * time.Second
)

// A Token is one token, logged in, with its sessions. It implements keystore.Token.
type Token struct {
	config Config
	module *module
	info   TokenInfo
	folder string // to sync, or ""

	queue     chan *signJob
	tasks     chan *task
	closing   chan struct{} // closed first
	stopped   chan struct{} // closed when no worker runs any more
	close     func() error
	workers   []*worker
	closeWait time.Duration
	desk      busy // what the control session does

	epoch   atomic.Uint64
	handles sync.Map // keystore.ID → *handle

	control control // used by its own goroutine only
}

// Open loads the module, finds the token, logs in and starts the workers. One process opens a token once. Close it.
func Open(ctx context.Context, c Config) (*Token, error) {
	if c.Sessions < 0 || c.Sessions > maxSessions || c.Queue < 0 || c.Hang < 0 {
		return nil, fmt.Errorf("%w: sessions must be 0 to %d, queue and hang not negative", keystore.ErrInvalid, maxSessions)
	}
	if c.TokenLabel == "" && c.Serial == "" {
		return nil, fmt.Errorf("%w: name the token by its label or serial number", keystore.ErrInvalid)
	}
	if c.Queue == 0 {
		c.Queue = defaultQueue
	}
	if c.Hang == 0 {
		c.Hang = defaultHang
	}

	if ctx.Err() != nil {
		return nil, expired(ctx)
	}

	// No call of PKCS#11 takes a deadline, so the whole opening runs beside the caller, who may leave.
	type result struct {
		token *Token
		err   error
	}
	done := make(chan result)
	go func() {
		t, err := open(ctx, c)
		select {
		case done <- result{t, err}:
		case <-ctx.Done():
			if err == nil {
				t.Close()
			}
		}
	}()
	select {
	case r := <-done:
		return r.token, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: opening the token: %w", keystore.ErrUnavailable, context.Cause(ctx))
	}
}

func open(ctx context.Context, c Config) (_ *Token, err error) {
	folder, err := tokenFolder(c.SoftHSMConf)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", keystore.ErrUnavailable, err)
	}
	m, err := acquire(c.Module, c.SoftHSMConf)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.release())
		}
	}()
	info, err := m.find(c.TokenLabel, c.Serial)
	if err != nil {
		return nil, err
	}
	if err := m.claim(info.Serial); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			m.unclaim(info.Serial)
		}
	}()
	sessions, err := sessionCount(c.Sessions, runtime.NumCPU(), info.MaxSessions)
	if err != nil {
		return nil, err
	}

	t := &Token{
		config: c, module: m, info: info, folder: folder,
		queue: make(chan *signJob, c.Queue), tasks: make(chan *task),
		closing: make(chan struct{}), stopped: make(chan struct{}), closeWait: closeWait,
	}
	t.control = newControl(t)
	if err := t.control.connect(ctx); err != nil {
		return nil, errors.Join(err, t.control.disconnect())
	}
	for range sessions {
		t.workers = append(t.workers, &worker{token: t, room: make([]byte, maxRaw)})
	}
	for _, w := range t.workers {
		if err := w.connect(); err != nil {
			for _, w := range t.workers {
				w.disconnect()
			}
			return nil, errors.Join(err, t.control.disconnect())
		}
	}
	t.start()
	return t, nil
}

// sessionCount decides how many sessions sign, beside the one for everything else.
func sessionCount(asked, cpus int, allowed uint) (int, error) {
	if allowed == 1 {
		return 0, fmt.Errorf("%w: the token allows one session, at least two are needed", keystore.ErrInvalid)
	}
	if asked == 0 {
		asked = min(max(2, cpus), maxSessions)
		if allowed != 0 {
			asked = int(min(uint(asked), allowed-1))
		}
	}
	if allowed != 0 && uint(asked) > allowed-1 {
		return 0, fmt.Errorf("%w: %d sessions to sign and one more are wanted, the token allows %d; set fewer",
			keystore.ErrInvalid, asked, allowed)
	}
	return asked, nil
}

func (t *Token) start() {
	var running sync.WaitGroup
	running.Go(t.serveTasks)
	for _, w := range t.workers {
		running.Go(w.serve)
	}
	go func() {
		running.Wait()
		close(t.stopped)
	}()
	t.close = sync.OnceValue(func() error {
		close(t.closing)
		timeout := time.NewTimer(t.closeWait)
		defer timeout.Stop()
		select {
		case <-t.stopped:
			return t.leave()
		case <-timeout.C:
			err := t.module.hangs()
			go func() {
				<-t.stopped
				t.module.returned()
				_ = t.leave() // nobody is there to hear what it says
			}()
			return err
		}
	})
}

// leave gives everything back once no worker runs.
func (t *Token) leave() error {
	for _, w := range t.workers {
		w.disconnect()
	}
	err := t.control.disconnect()
	t.module.unclaim(t.info.Serial)
	return errors.Join(err, t.module.release())
}

// Close implements [keystore.Token]. If a call hangs for longer than 10 seconds it gives up; then the module cannot be used
// by anybody new in this process until the call returns.
func (t *Token) Close() error { return t.close() }

// Info says what token it is.
func (t *Token) Info() TokenInfo { return t.info }

// Sessions returns how many signatures are made at the same time.
func (t *Token) Sessions() int { return len(t.workers) }

// Epoch implements [keystore.Token].
func (t *Token) Epoch() uint64 { return t.epoch.Load() }

var (
	errClosed = fmt.Errorf("%w: the token is closed", keystore.ErrUnavailable)
	errFull   = fmt.Errorf("%w: too many signatures are waiting for it", keystore.ErrUnavailable)
	errHangs  = fmt.Errorf("%w: its calls do not return", keystore.ErrUnavailable)
)

func expired(ctx context.Context) error {
	return fmt.Errorf("%w: no answer in time: %w", keystore.ErrUnavailable, context.Cause(ctx))
}

// busy says since when a call has been running.
type busy struct{ since atomic.Int64 }

var processStart = time.Now()

func now() int64 { return int64(time.Since(processStart)) + 1 } // monotonic, never 0

func (b *busy) begin() { b.since.Store(now()) }
func (b *busy) end()   { b.since.Store(0) }

func (b *busy) hangs(limit time.Duration) bool {
	since := b.since.Load()
	return since != 0 && now()-since > int64(limit)
}

// connectSession opens a session and reports its state.
func (t *Token) connectSession(flags uint) (pkcs11.SessionHandle, uint, error) {
	session, err := t.module.ctx.OpenSession(t.info.Slot, pkcs11.CKF_SERIAL_SESSION|flags)
	if err != nil {
		return 0, 0, failed("C_OpenSession", err)
	}
	info, err := t.module.ctx.GetSessionInfo(session)
	if err != nil {
		t.module.ctx.CloseSession(session)
		return 0, 0, failed("C_GetSessionInfo", err)
	}
	return session, info.State, nil
}
