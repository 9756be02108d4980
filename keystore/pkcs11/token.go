package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signetd/signet/keystore"
)

// A Config says which token to open and how to use it. Module, PIN and one of TokenLabel and Serial are needed; the rest
// has defaults.
type Config struct {
	Module     string // absolute path of the PKCS#11 module; see FindSoftHSM
	TokenLabel string // exactly one token must match the label and
	Serial     string // the serial number, of which either can be left out

	// URI names the token, and the module if it is not named above, by a PKCS#11 URI (RFC 7512) with token, serial,
	// manufacturer, model, slot-id and module-path. What is named twice must be the same.
	URI string
	uri URI

	// PIN is asked at opening, and again whenever the token has to be logged in to once more. A PIN that was refused is not tried
	// again, so one that is changed while the program runs is changed in the token first, and then where it comes from.
	PIN keystore.PINSource

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

	// Grace is how long after a failure callers wait for the token to be set up anew, if their deadline lets them; after
	// that they are sent away at once until it is. 0 means 250 ms, negative sends them away from the beginning.
	Grace time.Duration
}

const (
	defaultQueue = 1024
	defaultHang  = 10 * time.Second
	defaultGrace = 250 * time.Millisecond
	maxSessions  = 1024
	closeWait    = 10 * time.Second
)

// A Token is one token, logged in, with its sessions. It implements keystore.Token, keystore.Reporter, keystore.Resetter and
// keystore.KnownAnswerTester.
type Token struct {
	config Config
	module *module
	serial string // of the token that was opened; there is no other for this Token
	id     string // its identity in the module: see TokenInfo.id
	info   atomic.Pointer[TokenInfo]
	folder string // to sync, or ""

	queue     queue
	tasks     chan *task
	closing   chan struct{} // closed first
	life      context.Context
	stopped   chan struct{} // closed when no worker runs any more
	close     func() error
	workers   []*worker
	closeWait time.Duration
	desk      busy         // what the control session does
	slow      atomic.Int64 // how much longer than Hang that may rightly take
	watched   atomic.Bool

	epoch   atomic.Uint64
	handles sync.Map // keystore.ID → *handle

	// How the token is, and what is done about it: see recovery.go.
	condition  atomic.Pointer[condition]
	setup      atomic.Uint64 // how often it was set up, with all its sessions
	recoveries atomic.Uint64
	doubt      atomic.Int32 // doubtful failures since anything worked
	unproven   atomic.Bool  // it was set up anew and has not signed since
	patient    atomic.Int32 // callers who wait for it to be ready

	// Guarded by the lock of the module.
	barred    bool // no call may enter the module
	deskIn    bool // the control session is in the module
	sick      bool // it is to be set up anew,
	anew      bool // with the whole module,
	next      time.Time
	delay     time.Duration // after the last attempt
	outage    time.Time     // when the present or last one began
	recovered time.Time
	stuck     bool // it is closed, but for a call that hangs
	departed  bool

	stats         *stats
	sessions      atomic.Int64
	wait, service keystore.Meter

	control control // used by its own goroutine, or by the keeper
}

// Open loads the module, finds the token, logs in and starts the workers. One process opens a token once. Close it.
func Open(ctx context.Context, c Config) (*Token, error) {
	if c.Sessions < 0 || c.Sessions > maxSessions || c.Queue < 0 || c.Hang < 0 {
		return nil, fmt.Errorf("%w: sessions must be 0 to %d, queue and hang not negative", keystore.ErrInvalid, maxSessions)
	}
	if err := c.named(); err != nil {
		return nil, err
	}
	if c.TokenLabel == "" && c.Serial == "" && c.URI == "" {
		return nil, fmt.Errorf("%w: name the token by its label or serial number, or by a URI", keystore.ErrInvalid)
	}
	if c.Queue == 0 {
		c.Queue = defaultQueue
	}
	if c.Hang == 0 {
		c.Hang = defaultHang
	}
	if c.Grace == 0 {
		c.Grace = defaultGrace
	}
	if ctx.Err() != nil {
		return nil, expired(ctx)
	}
	folder, err := tokenFolder(c.SoftHSMConf)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", keystore.ErrUnavailable, err)
	}
	m, err := load(ctx, c.Module)
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		t, err := m.tryOpen(ctx, c, folder)
		var passing *passingError
		if err == nil || try == openTries || !errors.As(err, &passing) {
			return t, err
		}
		select {
		case <-time.After(openPause):
		case <-ctx.Done():
			return nil, expired(ctx)
		}
	}
}

// openTries and openPause are for what soon passes: see passingError.
const (
	openTries = 5
	openPause = 25 * time.Millisecond
)

// tryOpen lets the keeper open a token. No call of PKCS#11 takes a deadline, so that goes on when the caller has left, and then is undone.
func (m *module) tryOpen(ctx context.Context, c Config, folder string) (*Token, error) {
	opened := make(chan *Token)
	err := m.ask(ctx, c.Hang, func() error {
		t, err := m.openToken(ctx, c, folder)
		if err != nil {
			return err
		}
		go func() {
			select {
			case opened <- t:
			case <-ctx.Done():
				t.Close()
			}
		}()
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open the token: %w", err)
	}
	select {
	case t := <-opened:
		return t, nil
	case <-ctx.Done():
		return nil, expired(ctx)
	}
}

// openToken is for the keeper.
func (m *module) openToken(ctx context.Context, c Config, folder string) (_ *Token, err error) {
	if err := m.acquire(c.SoftHSMConf); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.release())
		}
	}()
	tokens, err := m.tokens()
	if err != nil {
		return nil, err
	}
	info, err := c.pick(tokens)
	if err != nil {
		return nil, err
	}
	// In one process all sessions of a token share one login, so a second user could neither check its PIN nor log out.
	if m.isOpen(info.id()) {
		return nil, fmt.Errorf("%w: the token with label %q and serial number %s is open in this process already",
			keystore.ErrInvalid, info.Label, info.Serial)
	}
	sessions, err := sessionCount(c.Sessions, runtime.NumCPU(), info.MaxSessions)
	if err != nil {
		return nil, err
	}
	t := &Token{
		config: c, module: m, serial: info.Serial, id: info.id(), folder: folder,
		queue: queue{limit: c.Queue}, tasks: make(chan *task),
		closing: make(chan struct{}), stopped: make(chan struct{}), closeWait: closeWait, stats: newStats(),
	}
	t.info.Store(&info)
	t.control = newControl(t)
	if err := t.control.connect(ctx); err != nil {
		return nil, errors.Join(err, t.control.disconnect())
	}
	for range sessions {
		t.workers = append(t.workers, newWorker(t))
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

func (m *module) isOpen(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.open[id] != nil
}

func (t *Token) start() {
	var endLife context.CancelFunc
	t.life, endLife = context.WithCancel(context.Background())
	t.module.mu.Lock()
	t.module.open[t.id] = t
	t.setCondition(keystore.Working, nil, time.Time{})
	t.module.mu.Unlock()

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
		endLife()
		for _, j := range t.queue.drain() {
			j.finish(nil, errClosed)
		}
		return t.shut()
	})
}

// shut waits for what runs and gives everything back, or lets that happen later if something hangs.
func (t *Token) shut() error {
	ctx, cancel := context.WithTimeout(context.Background(), t.closeWait)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		<-t.stopped
		done <- t.module.ask(context.Background(), forEver, t.depart)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	if err := t.module.hangs(t); err != nil {
		return err // it departs later, and nobody is there to hear what it says then
	}
	return <-done
}

const forEver = time.Duration(1 << 62)

// depart gives everything back once no worker runs. It is for the keeper.
func (t *Token) depart() error {
	m := t.module
	m.mu.Lock()
	sick := t.sick
	delete(m.open, t.id)
	t.sick, t.barred = false, true
	t.setCondition(keystore.Closed, nil, time.Time{})
	m.mu.Unlock()
	defer m.returned(t)
	for _, w := range t.workers {
		w.disconnect()
	}
	err := t.control.disconnect()
	err = errors.Join(err, m.release())
	if sick {
		return nil // that a device which failed does not say goodbye is no news
	}
	return err
}

// Close implements [keystore.Token]. If a call hangs for longer than 10 seconds it gives up; then the module cannot be used
// by anybody new in this process until the call returns.
func (t *Token) Close() error { return t.close() }

// Info says what token it is.
func (t *Token) Info() TokenInfo { return *t.info.Load() }

// Sessions returns how many signatures are made at the same time.
func (t *Token) Sessions() int { return len(t.workers) }

// Epoch implements [keystore.Token].
func (t *Token) Epoch() uint64 { return t.epoch.Load() }

var (
	errClosed    = fmt.Errorf("%w: the token is closed", keystore.ErrUnavailable)
	errFull      = errors.New("too many signatures are waiting for it")
	errHangs     = unavailable(hangRetry, errors.New("its calls do not return"))
	errDeskHangs = unavailable(hangRetry, errors.New("its calls to find, make and destroy keys do not return"))
)

func expired(ctx context.Context) error {
	return fmt.Errorf("%w: no answer in time: %w", keystore.ErrUnavailable, context.Cause(ctx))
}

// busy says since when a call has been running.
type busy struct{ since atomic.Int64 }

var processStart = time.Now()

func now() int64 { return int64(time.Since(processStart)) + 1 } // monotonic, never 0

func (b *busy) begin() int64 {
	n := now()
	b.since.Store(n)
	return n
}

func (b *busy) end() { b.since.Store(0) }

// running says for how long, 0 if nothing runs.
func (b *busy) running() time.Duration {
	since := b.since.Load()
	if since == 0 {
		return 0
	}
	return time.Duration(max(1, now()-since))
}

func (b *busy) hangs(limit time.Duration) bool { return b.running() > limit }

// left says for how long what runs may go on; the whole limit if nothing runs.
func (b *busy) left(limit time.Duration) time.Duration { return limit - b.running() + 1 }
