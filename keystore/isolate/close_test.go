package isolate_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/isolate/worker"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/keystore/pkcs11/faulty"
)

// Close answers everyone: what runs is finished, what waits is refused. No process stays.
func TestCloseAnswersEveryone(t *testing.T) {
	m := faulty.New(t)
	log, book := newLog(t)
	c := processes(t, 2)
	c.Log = log
	token, err := worker.Open(t.Context(), m.Config(t), c)
	if err != nil {
		t.Fatal(err)
	}
	defer token.Close()
	key := generate(t, token, "k", keystore.ECDSAP256)
	warm(t, token, key)
	var good, refused atomic.Int64
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			for {
				err := trySign(t.Context(), token, key, "message")
				if errors.Is(err, keystore.ErrUnavailable) {
					refused.Add(1)
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				good.Add(1)
			}
		})
	}
	until(t, "signatures", func() bool { return good.Load() > 100 })
	began := time.Now()
	if err := token.Close(); err != nil {
		t.Error(err)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("closing took %v", d)
	}
	all.Wait()
	if refused.Load() != 32 {
		t.Errorf("%d callers were refused", refused.Load())
	}
	until(t, "the end of all processes, of which the module hears a moment later", func() bool { return len(children(m)) == 0 })
	if s := status(token); s.State != keystore.Closed {
		t.Errorf("state %s", s.State)
	}
	if text := book.String(); strings.Contains(text, "WARN") {
		t.Errorf("closing was no smooth thing:\n%s", text)
	}
}

// A signal that means the service does not end its processes before it does.
func TestSignalsAreTheServices(t *testing.T) {
	m := faulty.New(t)
	token := open(t, m.Config(t), processes(t, 2))
	key := generate(t, token, "k", keystore.ECDSAP256)
	for _, pid := range children(m) {
		for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
			if err := syscall.Kill(pid, signal); err != nil {
				t.Fatal(err)
			}
		}
	}
	warm(t, token, key)
	if s := status(token); s.Respawns != 0 {
		t.Errorf("%d processes were replaced", s.Respawns)
	}
}

// Callers who leave while the lock is held by a slow call do not wait for it, and the slow call still ends well.
func TestSlowChange(t *testing.T) {
	m := faulty.New(t)
	token := open(t, m.Config(t), processes(t, 2))
	m.Hang(faulty.GenerateKeyPair, 1, 0)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	left := make(chan error, 1)
	go func() {
		_, err := token.Generate(ctx, keystore.Spec{ID: "k", Algorithm: keystore.ECDSAP256})
		left <- err
	}()
	until(t, "the key being made", func() bool { return m.Hung(faulty.GenerateKeyPair) == 1 })
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("who left was told %v", err)
	}
	if m.Hung(faulty.GenerateKeyPair) != 1 {
		t.Error("who left had to wait for the key")
	}
	m.Heal()
	key, err := token.Find(t.Context(), "k") // waits for it
	if err != nil {
		t.Fatal(err)
	}
	sign(t, token, key)
}

// Processes that come and go leave nothing behind.
func TestNothingLeaks(t *testing.T) {
	m := faulty.New(t)
	c := processes(t, 2)
	c.Grace = 10 * time.Second
	token := open(t, m.Config(t), c)
	key := generate(t, token, "k", keystore.ECDSAP256)
	warm(t, token, key)
	count := func() (int, int, int) {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		return runtime.NumGoroutine(), len(fds), len(threads)
	}
	cycle := func(n int) {
		for range n {
			before := status(token).Respawns
			if err := syscall.Kill(children(m)[0], syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			until(t, "another process", func() bool { return status(token).Respawns > before && len(children(m)) == 2 })
			sign(t, token, key)
		}
	}
	cycle(3)
	goroutines, fds, threads := count()
	cycle(12)
	until(t, "what was used to be given back", func() bool {
		g, f, _ := count()
		return g <= goroutines+2 && f <= fds+2
	})
	if _, _, now := count(); now > threads+4 {
		t.Errorf("%d threads, then %d", threads, now)
	}
}

// A store on worker processes is as one on a token: what it refuses, it refuses.
func TestStoreOnProcesses(t *testing.T) {
	t.Attr("requirement", "B-31")
	m := faulty.New(t)
	store := keystore.New(open(t, m.Config(t), processes(t, 2)), keystore.Options{})
	keystoretest.Generate(t, store, keystore.CanaryID, keystore.ECDSAP256)
	key := keystoretest.Generate(t, store, "k", keystore.ECDSAP256)
	keystoretest.Generate(t, store, "other", keystore.ECDSAP256)
	for _, wrong := range []faulty.Wrong{faulty.ByOtherKey, faulty.Corrupted, faulty.Truncated} {
		m.WrongSignature(1, wrong)
		message := fmt.Append(nil, "message", wrong)
		signature, err := store.Sign(t.Context(), key.ID, key.Public, message)
		if err != nil {
			t.Errorf("%d: %v", wrong, err) // tried again after the processes were replaced
			continue
		}
		if err := keystore.Verify(key.Algorithm, key.Public, message, signature); err != nil {
			t.Errorf("%d: %v", wrong, err)
		}
	}
	if err := store.Health(t.Context()); err != nil {
		t.Error(err)
	}
	if names, err := store.SelfTest(t.Context()); err != nil || len(names) < 5 {
		t.Errorf("%v, %v", names, err)
	}
}
