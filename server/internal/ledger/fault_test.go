package ledger_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

func TestSecondOpenerIsRefused(t *testing.T) {
	o := ledgertest.Options(t, statuses{})
	l := ledgertest.Open(t, o)
	do(t, l, set("a", "1"))
	if _, err := ledger.Open(t.Context(), o); !errors.Is(err, ledger.ErrLocked) {
		t.Errorf("a second server: %v", err)
	}
	reading := o
	reading.ReadOnly = true
	if _, err := ledger.Open(t.Context(), reading); !errors.Is(err, ledger.ErrLocked) {
		t.Errorf("a reader beside the server: %v", err)
	}
	if _, err := ledger.Check(t.Context(), o.Path, o, nil); !errors.Is(err, ledger.ErrLocked) {
		t.Errorf("a check beside the server: %v", err)
	}
	do(t, l, set("a", "2")) // the first one did not suffer
}

func TestReadOnly(t *testing.T) {
	o := filled(t)
	o.ReadOnly, o.Signer.Sign, o.Clock = true, nil, nil
	l := ledgertest.Open(t, o)
	if s := status(t, l, "r1"); s != "prepared" {
		t.Errorf("status %q", s)
	}
	if _, err := l.Do(t.Context(), set("a", "1")); !errors.Is(err, ledger.ErrInvalid) {
		t.Errorf("appending: %v", err)
	}
	if got, err := l.Checkpointed(t.Context(), 12); err != nil || got.Checkpoint.Size != 12 {
		t.Errorf("head %+v, %v", got.Checkpoint, err)
	}
	ledgertest.Open(t, o) // two readers at once
}

func TestVersions(t *testing.T) {
	o := filled(t)
	for name, c := range map[string]struct {
		format string
		want   error
	}{
		"newer": {"signet-ledger/v2", ledger.ErrNewerVersion}, "much newer": {"signet-ledger/v10", ledger.ErrNewerVersion},
		"other": {"something", ledger.ErrCorrupt}, "zero": {"signet-ledger/v0", ledger.ErrCorrupt}, "none": {"", ledger.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			o := copyOf(t, o)
			edit(t, o, func(tx *bolt.Tx) error { return bucket(tx, "meta").Put([]byte("format"), []byte(c.format)) })
			if _, err := ledger.Open(t.Context(), o); !errors.Is(err, c.want) {
				t.Errorf("open: %v", err)
			}
			if _, err := ledger.Check(t.Context(), o.Path, o, nil); !errors.Is(err, c.want) {
				t.Errorf("check: %v", err)
			}
		})
	}
	t.Run("another ledger", func(t *testing.T) {
		o := copyOf(t, o)
		o.Origin, o.Signer.Name = "other.example/ledger", ""
		if _, err := ledger.Open(t.Context(), o); !errors.Is(err, ledger.ErrInvalid) {
			t.Errorf("open: %v", err)
		}
	})
	t.Run("another key", func(t *testing.T) {
		o := copyOf(t, o)
		o.Signer = ledgertest.Signer(t)
		if _, err := ledger.Open(t.Context(), o); !errors.Is(err, ledger.ErrCorrupt) {
			t.Errorf("open: %v", err)
		}
	})
	t.Run("no ledger", func(t *testing.T) {
		o := o
		o.Path = filepath.Join(t.TempDir(), "x.db")
		if err := os.WriteFile(o.Path, []byte(strings.Repeat("not a ledger ", 2000)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ledger.Open(t.Context(), o); !errors.Is(err, ledger.ErrCorrupt) {
			t.Errorf("open: %v", err)
		}
	})
	t.Run("open to others", func(t *testing.T) {
		o := copyOf(t, o)
		if err := os.Chmod(o.Path, 0o644); err != nil {
			t.Fatal(err)
		}
		ledgertest.Open(t, o)
		if info, err := os.Stat(o.Path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	})
	t.Run("wrong options", func(t *testing.T) {
		for name, change := range map[string]func(o *ledger.Options){
			"no path": func(o *ledger.Options) { o.Path = "" }, "no clock": func(o *ledger.Options) { o.Clock = nil }, "no origin": func(o *ledger.Options) { o.Origin = "" },
			"no key": func(o *ledger.Options) { o.Signer.Public = nil }, "no signer": func(o *ledger.Options) { o.Signer.Sign = nil },
			"wrong key": func(o *ledger.Options) { o.Signer.Public = ed25519.PublicKey{1} }, "name": func(o *ledger.Options) { o.Signer.Name = "x" },
			"projection twice": func(o *ledger.Options) { o.Projections = []ledger.Projection{statuses{}, statuses{}} },
		} {
			o := ledgertest.Options(t)
			change(&o)
			if l, err := ledger.Open(t.Context(), o); err == nil {
				l.Close()
				t.Errorf("%s: opened", name)
			}
		}
	})
}

func TestProjectionsAreRebuilt(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	o := copyOf(t, filled(t))
	history := func(l *ledger.Ledger) (s string) {
		l.View(func(r *ledger.Read) error {
			r.View("statuses").Prefix("history", []byte("r0\x00"), func(_, v []byte) bool { s = string(v); return true })
			return nil
		})
		return s
	}
	newer := o
	newer.Projections = []ledger.Projection{statuses{version: 2}}
	l := reopen(t, newer)
	if s := history(l); s != "v2 prepared 1" {
		t.Errorf("history %q", s)
	}
	do(t, l, set("r0", "next"))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.Open(t.Context(), o); !errors.Is(err, ledger.ErrNewerVersion) {
		t.Errorf("with the older program: %v", err)
	}
	if _, err := ledger.Check(t.Context(), o.Path, o, nil); !errors.Is(err, ledger.ErrCorrupt) || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("checking with the older program: %v", err)
	}
	// A program without the projection drops it, and with it again, it is whole again.
	none := newer
	none.Projections = nil
	l = reopen(t, none)
	do(t, l, set("r0", "meanwhile"))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = reopen(t, newer)
	if s := status(t, l, "r0"); s != "meanwhile" {
		t.Errorf("status %q", s)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	// What a crash has left half-built is begun again.
	edit(t, o, func(tx *bolt.Tx) error {
		b, err := bucket(tx, "projections", "statuses").CreateBucket([]byte("3"))
		if err != nil {
			return err
		}
		if b, err = b.CreateBucket([]byte("status")); err != nil {
			return err
		}
		return b.Put([]byte("half"), []byte("built"))
	})
	newest := o
	newest.Projections = []ledger.Projection{statuses{version: 3}}
	l = reopen(t, newest)
	if s := status(t, l, "half"); s != "" {
		t.Errorf("what was half built is still there: %q", s)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	newest.Projections = []ledger.Projection{statuses{version: 4}}
	if _, err := ledger.Open(ctx, newest); !errors.Is(err, context.Canceled) {
		t.Errorf("building was not cancelled: %v", err)
	}
	newest.Projections = []ledger.Projection{statuses{version: 3}}
	ledgertest.Check(t, newest)
}

// reopen opens a ledger that is checked later, with other options.
func reopen(t *testing.T, o ledger.Options) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestClockBehind(t *testing.T) {
	clock := ledgertest.NewClock(time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC))
	o := ledgertest.Options(t, statuses{})
	o.Clock = clock.Now
	l := ledgertest.Open(t, o)
	last := do(t, l, set("a", "1")).Time
	clock.Add(-time.Second)
	if got := do(t, l, set("a", "2")).Time; got != last {
		t.Errorf("within the drift the last time is used again: %v, want %v", got, last)
	}
	clock.Add(-time.Millisecond)
	if _, err := l.Do(t.Context(), set("a", "3")); !errors.Is(err, ledger.ErrClockBehind) {
		t.Errorf("beyond the drift: %v", err)
	}
	if _, err := l.Do(t.Context(), func(tx *ledger.Tx) error {
		if tx.Now() != last {
			return fmt.Errorf("now is %v", tx.Now())
		}
		return nil
	}); err != nil {
		t.Errorf("a command that emits nothing: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = ledgertest.Open(t, o)
	if _, err := l.Do(t.Context(), set("a", "3")); !errors.Is(err, ledger.ErrClockBehind) {
		t.Errorf("after opening again: %v", err)
	}
	clock.Add(2 * time.Second)
	do(t, l, set("a", "4"))
	if l.Size() != 3 {
		t.Errorf("%d entries", l.Size())
	}
}

// flaky wraps a signer that can be made to fail, hang or lie.
type flaky struct {
	ledger.CheckpointSigner
	mode  atomic.Value // string
	calls atomic.Int64
}

func newFlaky(t *testing.T) *flaky {
	f := &flaky{CheckpointSigner: ledgertest.Signer(t)}
	f.mode.Store("")
	sign := f.Sign
	f.Sign = func(ctx context.Context, msg []byte) ([]byte, error) {
		f.calls.Add(1)
		switch f.mode.Load() {
		case "down":
			return nil, errors.New("HSM gone")
		case "hang":
			<-ctx.Done()
			return nil, ctx.Err()
		case "lie":
			return make([]byte, ed25519.SignatureSize), nil
		case "panic":
			panic("HSM panics")
		}
		return sign(ctx, msg)
	}
	return f
}

func TestSignerFailureDoesNotBlockAppends(t *testing.T) {
	for _, mode := range []string{"down", "lie", "panic"} {
		t.Run(mode, func(t *testing.T) {
			f := newFlaky(t)
			o := ledgertest.Options(t, statuses{})
			o.Signer = f.CheckpointSigner
			l := ledgertest.Open(t, o)
			do(t, l, set("a", "1"))
			if _, err := l.Checkpointed(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			f.mode.Store(mode)
			for i := range 5 {
				do(t, l, set("a", fmt.Sprint(i)))
			}
			if _, err := l.Checkpointed(t.Context(), 6); !errors.Is(err, ledger.ErrUnavailable) {
				t.Errorf("waiting for a checkpoint: %v", err)
			}
			if err := l.Err(); !errors.Is(err, ledger.ErrUnavailable) {
				t.Errorf("health: %v", err)
			}
			if h := l.Head(); h.Checkpoint.Size != 1 {
				t.Errorf("head %d", h.Checkpoint.Size)
			}
			err := l.View(func(r *ledger.Read) error { _, err := r.ProvedEntry(5); return err })
			if !errors.Is(err, ledger.ErrNotCheckpointed) {
				t.Errorf("an entry that no checkpoint covers: %v", err)
			}
			f.mode.Store("")
			got, err := l.Checkpointed(t.Context(), 6) // asking makes it try again at once
			if err != nil || got.Checkpoint.Size != 6 || l.Err() != nil {
				t.Errorf("after recovery: %+v, %v, %v", got.Checkpoint, err, l.Err())
			}
			if err := l.View(func(r *ledger.Read) error { _, err := r.ProvedEntry(5); return err }); err != nil {
				t.Error(err)
			}
			if _, err := l.Checkpointed(t.Context(), 7); !errors.Is(err, ledger.ErrNotFound) {
				t.Errorf("a checkpoint of entries that do not exist: %v", err)
			}
		})
	}
}

func TestWaitingForACheckpointEndsWithTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlaky(t)
		o := ledgertest.Options(t, statuses{})
		o.Signer = f.CheckpointSigner
		l := ledgertest.Open(t, o)
		f.mode.Store("hang")
		do(t, l, set("a", "1"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := l.Checkpointed(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		do(t, l, set("a", "2"))
		f.mode.Store("")
		if err := l.Close(); err != nil { // ends the hanging signer too
			t.Error(err)
		}
		if _, err := l.Checkpointed(t.Context(), 2); !errors.Is(err, ledger.ErrClosed) {
			t.Errorf("after closing: %v", err)
		}
	})
}

// A failed signer is tried again by itself, less and less often, and one checkpoint covers all that came meanwhile.
func TestSignerIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlaky(t)
		f.mode.Store("down")
		o := ledgertest.Options(t, statuses{})
		o.Signer = f.CheckpointSigner
		l := ledgertest.Open(t, o)
		do(t, l, set("a", "1"))
		time.Sleep(time.Hour) // of the bubble's own clock
		if n := f.calls.Load(); n < 10 || n > 150 {
			t.Errorf("%d attempts in an hour", n)
		}
		f.mode.Store("")
		time.Sleep(time.Minute)
		if h := l.Head(); h.Checkpoint.Size != 1 {
			t.Errorf("head %+v", h.Checkpoint)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

// The last checkpoint gets into the file without another batch; start-up signs a missing one.
func TestCheckpointsReachTheFile(t *testing.T) {
	stored := func(t *testing.T, o ledger.Options) (sizes []uint64) {
		db, err := bolt.Open(o.Path, 0o600, &bolt.Options{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		db.View(func(tx *bolt.Tx) error {
			return bucket(tx, "checkpoints").ForEach(func(k, v []byte) error {
				sizes = append(sizes, uint64(k[7]))
				return nil
			})
		})
		return sizes
	}
	t.Run("after a while", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			o := ledgertest.Options(t, statuses{})
			l := ledgertest.Open(t, o)
			do(t, l, set("a", "1"))
			if _, err := l.Checkpointed(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
			synctest.Wait()
			killed := copyOf(t, o) // as a crash would leave it
			if got := stored(t, killed); len(got) != 1 || got[0] != 1 {
				t.Errorf("checkpoints %v", got)
			}
		})
	})
	t.Run("at start-up", func(t *testing.T) {
		f := newFlaky(t)
		o := ledgertest.Options(t, statuses{})
		o.Signer = f.CheckpointSigner
		l := ledgertest.Open(t, o)
		f.mode.Store("down")
		do(t, l, set("a", "1"))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if got := stored(t, o); len(got) != 0 {
			t.Errorf("checkpoints %v", got)
		}
		l = ledgertest.Open(t, o) // the signer is still down: opens all the same
		if l.Head().Note != nil || l.Err() == nil {
			t.Error("there is a checkpoint, or nothing is said about the signer")
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		f.mode.Store("")
		l = ledgertest.Open(t, o)
		if l.Head().Checkpoint.Size != 1 {
			t.Errorf("head %+v", l.Head().Checkpoint)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if got := stored(t, o); len(got) != 1 {
			t.Errorf("checkpoints %v", got)
		}
	})
}

// A caller that gives up before its turn gets the error of its context, and nothing is written.
func TestCallerGivesUp(t *testing.T) {
	l := ledgertest.New(t, statuses{})
	running, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	first := make(chan error, 1)
	go func() {
		_, err := l.Do(context.Background(), func(tx *ledger.Tx) error {
			once.Do(func() { close(running); <-goOn })
			return set("a", "first")(tx)
		})
		first <- err
	}()
	<-running
	ctx, cancel := context.WithCancel(t.Context())
	second := make(chan error, 1)
	go func() {
		_, err := l.Do(ctx, set("a", "second"))
		second <- err
	}()
	cancel()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := l.Do(ctx, set("a", "third")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(goOn)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if l.Size() != 1 || status(t, l, "a") != "first" {
		t.Errorf("%d entries, %q", l.Size(), status(t, l, "a"))
	}
}

// Closing finishes what was accepted.
func TestCloseFinishes(t *testing.T) {
	o := ledgertest.Options(t, statuses{})
	l := ledgertest.Open(t, o)
	var wg sync.WaitGroup
	var done atomic.Int64
	for range 200 {
		wg.Go(func() {
			if _, err := l.Do(t.Context(), set("a", "x")); err == nil {
				done.Add(1)
			} else if !errors.Is(err, ledger.ErrClosed) {
				t.Error(err)
			}
		})
	}
	wg.Go(func() { l.Close() })
	l.Close()
	wg.Wait()
	if r := ledgertest.Check(t, o); r.Size != uint64(done.Load()) {
		t.Errorf("%d acknowledged, %d in the file", done.Load(), r.Size)
	}
}

// fixedSigner always has the same key, so that several processes can share a ledger.
func fixedSigner() ledger.CheckpointSigner {
	priv := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	return ledger.CheckpointSigner{Public: priv.Public(), Sign: func(_ context.Context, msg []byte) ([]byte, error) { return ed25519.Sign(priv, msg), nil }}
}

// TestClockAhead sets the clock ahead against the monotonic one: an entry from the future would block the ledger until it has come.
func TestClockAhead(t *testing.T) {
	t.Attr("requirement", "A-19")
	clock := ledgertest.NewClock(time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC))
	var ran time.Duration
	var doubt error
	o := ledgertest.Options(t, statuses{})
	o.Clock, o.Monotonic, o.ClockDoubt = clock.Now, func() time.Duration { return ran }, func() error { return doubt }
	l := ledgertest.Open(t, o)
	do(t, l, set("a", "1"))
	pass := func(d time.Duration) { clock.Add(d); ran += d }
	pass(time.Hour)
	do(t, l, set("a", "2"))
	clock.Add(4 * time.Second) // a correction
	do(t, l, set("a", "3"))
	clock.Add(365 * 24 * time.Hour)
	if _, err := l.Do(t.Context(), set("a", "4")); !errors.Is(err, ledger.ErrClockAhead) {
		t.Errorf("a year ahead: %v", err)
	}
	clock.Add(-365 * 24 * time.Hour)
	pass(time.Minute)
	do(t, l, set("a", "4")) // and nothing is blocked
	doubt = errors.New("it is 31s ahead")
	if _, err := l.Do(t.Context(), set("a", "5")); !errors.Is(err, ledger.ErrClockAhead) || !strings.Contains(err.Error(), "31s") {
		t.Errorf("a clock that is known to be wrong: %v", err)
	}
	doubt = nil
	do(t, l, set("a", "5"))
	if l.Size() != 5 {
		t.Errorf("%d entries", l.Size())
	}
}
