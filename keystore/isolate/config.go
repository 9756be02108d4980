package isolate

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/signetd/signet/keystore"
)

// A Config says how to run worker processes. Command or the way this program starts itself ([Self]), PIN and Settings are needed;
// the rest has defaults.
type Config struct {
	// Command starts a worker, which calls Inherited and Serve. The PIN is not in it, nor are Settings.
	Command []string

	// Env is the environment of the worker; nil is this process's.
	Env []string

	// Settings say to the worker which token to open, in a form of its own. They are no secret.
	Settings []byte

	// PIN is asked whenever a worker has to log in. A PIN that was refused is not tried again, by any of them.
	PIN keystore.PINSource

	// Refusals remembers the PINs that were refused for longer than this token is open: whoever opens it again and again, as one that is plugged in
	// when it is needed, gives the same each time. Nil: it is forgotten when the token is closed.
	Refusals *Refusals

	// Processes is how many there are side by side. 0 means 1.
	Processes int

	Queue int           // calls that may be open in each process; more are refused. 0 means 1024
	Hang  time.Duration // a process with a call that takes this long is killed. 0 means 10 s
	Start time.Duration // what a process may take until its token is open. 0 means 30 s
	Beat  time.Duration // how often each process is asked how it is. 0 means 250 ms, but no more than a quarter of Hang

	// Grace is how long after the last process died callers wait for a new one, if their deadline lets them; after that they
	// are sent away at once until there is one. 0 means 250 ms, negative sends them away from the beginning.
	Grace time.Duration

	Log *slog.Logger // nil: slog.Default
}

// Self is a Command that runs this program again, the very file that runs now although another may have taken its place.
func Self(arguments ...string) []string { return append([]string{self}, arguments...) }

const (
	maxProcesses   = 64
	defaultQueue   = 1024
	maxQueue       = maxServed / 2 // those whose callers have left are still open for a moment
	defaultHang    = 10 * time.Second
	defaultStart   = 30 * time.Second
	defaultBeat    = 250 * time.Millisecond
	defaultGrace   = 250 * time.Millisecond
	closeWait      = 10 * time.Second       // for what runs when the token is closed
	drainWait      = time.Second            // for what runs in a process that is to be replaced
	byeLimit       = 500 * time.Millisecond // for a process that is to be replaced to log out
	killWait       = time.Second            // for the rest of standard error of a process that has died
	hangRetry      = time.Second            // what callers are told while calls hang
	minDelay       = 25 * time.Millisecond  // between the starts of a process that does not come up
	maxDelay       = 500 * time.Millisecond
	crashDelay     = 5 * time.Second // where it dies at the start again and again
	crashes        = 10              // so often
	provenAfter    = time.Second     // a process that lived this long had not been crashing
	pinDelay       = time.Second     // until the PIN source is asked again
	generateFactor = 6               // making an RSA key takes seconds
)

func (c *Config) defaults() error {
	if len(c.Command) == 0 || c.Command[0] == "" {
		return fmt.Errorf("%w: no command for the worker processes", keystore.ErrInvalid)
	}
	if c.Processes < 0 || c.Processes > maxProcesses || c.Queue < 0 || c.Queue > maxQueue || c.Hang < 0 || c.Start < 0 || c.Beat < 0 {
		return fmt.Errorf("%w: worker processes must be 0 to %d, the queue 0 to %d, times not negative",
			keystore.ErrInvalid, maxProcesses, maxQueue)
	}
	if len(c.Settings) > maxFrame/4 {
		return fmt.Errorf("%w: the settings of a worker process have more than %d bytes", keystore.ErrInvalid, maxFrame/4)
	}
	if c.Refusals == nil {
		c.Refusals = NewRefusals()
	}
	setDefault(&c.Processes, 1)
	setDefault(&c.Queue, defaultQueue)
	setDefault(&c.Hang, defaultHang)
	setDefault(&c.Start, defaultStart)
	setDefault(&c.Grace, defaultGrace)
	setDefault(&c.Beat, min(defaultBeat, c.Hang/4))
	c.Command, c.Env, c.Settings = slices.Clone(c.Command), slices.Clone(c.Env), slices.Clone(c.Settings)
	if c.Env == nil {
		c.Env = os.Environ()
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return nil
}

func setDefault[T comparable](value *T, d T) {
	if zero := *new(T); *value == zero {
		*value = d
	}
}

// Open starts the worker processes, one after the other, and returns when the token is open in each of them. So the first proves the PIN
// before the others start, and none reads what the token is while another logs in, which SoftHSM does not keep apart. Close it.
func Open(ctx context.Context, c Config) (*Token, error) {
	if err := c.defaults(); err != nil {
		return nil, err
	}
	build, err := Build()
	if err != nil {
		return nil, fmt.Errorf("%w: this program cannot be told from others: %w", keystore.ErrInvalid, err)
	}
	spawner, err := newSpawner()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", keystore.ErrUnavailable, err)
	}
	t := &Token{
		config: c, build: build, spawner: spawner, pins: newPINs(c), slots: make([]slot, c.Processes),
		objects: make(chan struct{}, 1), closing: make(chan struct{}), changed: make(chan struct{}), since: time.Now(),
	}
	t.processes.Store(new([]*process))
	t.life, t.endLife = context.WithCancel(context.Background())
	t.close = sync.OnceValue(t.shut)
	for i := range c.Processes {
		if err := t.first(ctx, i); err != nil {
			_ = t.Close()
			return nil, fmt.Errorf("open the token in worker process %d: %w", i, err)
		}
	}
	return t, nil
}

// first starts a process for the first time.
func (t *Token) first(ctx context.Context, i int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.life, cancel)()
	p, err := t.spawn(ctx, i)
	if err != nil {
		return err
	}
	t.up(p)
	t.running.Go(func() { t.keep(p) })
	return nil
}
