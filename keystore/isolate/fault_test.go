package isolate_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/isolate"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/keystore/pkcs11/faulty"
)

// children returns the worker processes of the module: all that have loaded it but this one.
func children(m *faulty.Module) []int {
	return slices.DeleteFunc(m.Processes(), func(pid int) bool { return pid == os.Getpid() })
}

func status(token *isolate.Token) keystore.Status { return token.Status()[0] }

// A library that crashes in a signature costs nobody anything: the call is made once more, by another process or a new one.
func TestCrashInSign(t *testing.T) {
	t.Attr("requirement", "B-31")
	for _, n := range []int{1, 2} {
		t.Run(fmt.Sprint(n, " processes"), func(t *testing.T) {
			m := faulty.New(t)
			c := processes(t, n)
			c.Grace = 10 * time.Second // the machine may be slow
			token := open(t, m.Config(t), c)
			key := generate(t, token, "k", keystore.ECDSAP256)
			warm(t, token, key)
			epoch := token.Epoch()
			for i, signal := range []syscall.Signal{syscall.SIGSEGV, syscall.SIGKILL, syscall.SIGABRT} {
				rule := m.Kill(faulty.Sign, 0, signal)
				sign(t, token, key)
				if rule.Fired() != 1 {
					t.Fatal("nothing crashed")
				}
				until(t, "the next process", func() bool { return status(token).Respawns == uint64(i+1) && len(children(m)) == n })
			}
			if token.Epoch() == epoch {
				t.Error("the epoch is the same after processes were replaced")
			}
			sign(t, token, key)
		})
	}
}

// A call that kills each process it comes to kills two.
func TestPoisonousCall(t *testing.T) {
	m := faulty.New(t)
	c := processes(t, 1)
	c.Grace = 10 * time.Second
	token := open(t, m.Config(t), c)
	key := generate(t, token, "k", keystore.ECDSAP256)
	sign(t, token, key)
	rule := m.Add(faulty.Fault{Function: faulty.Sign, Signal: syscall.SIGSEGV, Times: faulty.Always})
	err := trySign(t.Context(), token, key, "poison")
	if !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if n := rule.Fired(); n != 2 {
		t.Errorf("%d processes died of one call", n)
	}
	rule.Heal()
	sign(t, token, key)
}

// What changes keys is not repeated; what does not is.
func TestCrashAtTheDesk(t *testing.T) {
	m := faulty.New(t)
	c := processes(t, 2)
	c.Grace = 10 * time.Second
	token := open(t, m.Config(t), c)
	key := generate(t, token, "k", keystore.ECDSAP256)

	made := m.Calls(faulty.GenerateKeyPair)
	m.Kill(faulty.GenerateKeyPair, 0, syscall.SIGSEGV)
	_, err := token.Generate(t.Context(), keystore.Spec{ID: "l", Algorithm: keystore.ECDSAP256})
	if !errors.Is(err, keystore.ErrUnavailable) || m.Calls(faulty.GenerateKeyPair) != made+1 {
		t.Errorf("got %v after %d calls", err, m.Calls(faulty.GenerateKeyPair)-made)
	}
	if _, err := token.Find(t.Context(), "l"); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	rule := m.Kill(faulty.FindObjectsInit, 0, syscall.SIGSEGV)
	if _, err := token.Find(t.Context(), "unknown"); !errors.Is(err, keystore.ErrNotFound) || rule.Fired() != 1 {
		t.Errorf("got %v", err)
	}
	sign(t, token, key)

	warm(t, token, key)
	rule = m.Kill(faulty.DestroyObject, 0, syscall.SIGKILL)
	if err := token.Destroy(t.Context(), key.ID); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if rule.Fired() != 1 {
		t.Error("nothing crashed")
	}
	if err := token.Destroy(t.Context(), key.ID); err != nil && !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if err := trySign(t.Context(), token, key, "gone"); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// No process signs with a key that another has destroyed, not with a copy of it either, nor with its handle when the id is another key's.
func TestDestroyedEverywhere(t *testing.T) {
	for _, copies := range []bool{false, true} {
		t.Run(fmt.Sprint("copies ", copies), func(t *testing.T) {
			conf := keystoretest.Config(t)
			conf.SessionCopies = copies
			token := open(t, conf, processes(t, 3))
			for range 5 {
				old := generate(t, token, "k", keystore.ECDSAP256)
				warm(t, token, old)
				epoch := token.Epoch()
				if err := token.Destroy(t.Context(), old.ID); err != nil {
					t.Fatal(err)
				}
				var all sync.WaitGroup
				for range 16 {
					all.Go(func() {
						if err := trySign(t.Context(), token, old, "gone"); !errors.Is(err, keystore.ErrNotFound) {
							t.Errorf("signing with a key that was destroyed: %v", err)
						}
					})
				}
				all.Wait()
				made := generate(t, token, "k", keystore.ECDSAP256)
				warm(t, token, made)
				if err := token.Destroy(t.Context(), "k"); err != nil {
					t.Fatal(err)
				}
				if token.Epoch() != epoch {
					t.Error("a process was set up anew because a key was destroyed")
				}
			}
		})
	}
}

// A call that hangs costs its process; its caller, and the others, get an answer.
func TestHang(t *testing.T) {
	t.Attr("requirement", "B-31")
	m := faulty.New(t)
	c := processes(t, 2)
	c.Hang, c.Beat, c.Grace = time.Second, 20*time.Millisecond, 10*time.Second
	conf := m.Config(t)
	conf.Sessions = 2
	token := open(t, conf, c)
	key := generate(t, token, "k", keystore.ECDSAP256)
	warm(t, token, key)

	rule := m.Hang(faulty.Sign, 1, 0)
	hung := make(chan error, 1)
	go func() { hung <- trySign(t.Context(), token, key, "hangs") }()
	until(t, "the hang", func() bool { return m.Hung(faulty.Sign) == 1 })
	for range 50 { // the others go on meanwhile
		if err := trySign(t.Context(), token, key, "beside"); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-hung; err != nil { // once more, by another
		t.Errorf("the call that hung: %v", err)
	}
	until(t, "the process to be replaced", func() bool { return status(token).Respawns == 1 && m.Hung(faulty.Sign) == 0 })
	rule.Heal()

	// A deadline is kept although the library knows none.
	m.Hang(faulty.Sign, 1, 0)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	err := trySign(ctx, token, key, "late")
	if !errors.Is(err, keystore.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > time.Second {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
	until(t, "the process to be replaced", func() bool { return status(token).Respawns == 2 })
	sign(t, token, key)
}

// When all hang, new calls are sent away at once.
func TestAllHang(t *testing.T) {
	m := faulty.New(t)
	c := processes(t, 1)
	c.Hang, c.Beat, c.Grace = 500*time.Millisecond, 10*time.Millisecond, -1
	conf := m.Config(t)
	conf.Sessions = 1
	maker := open(t, conf, processes(t, 1)) // which may take its time
	key := generate(t, maker, "k", keystore.ECDSAP256)
	if err := maker.Close(); err != nil {
		t.Fatal(err)
	}
	token := open(t, conf, c)
	sign(t, token, key)

	m.Hang(faulty.Sign, faulty.Always, 0)
	m.Hang(faulty.Initialize, faulty.Always, 0) // so that the process stays away
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	go func() { _ = trySign(ctx, token, key, "hangs") }()
	until(t, "the breaker", func() bool { return status(token).State != keystore.Working })
	err := trySign(ctx, token, key, "sent away")
	var u *keystore.UnavailableError
	if !errors.As(err, &u) || u.RetryAfter <= 0 || ctx.Err() != nil {
		t.Errorf("who came: %v", err)
	}
	m.Heal()
	until(t, "signatures", func() bool { return trySign(t.Context(), token, key, "again") == nil })
	if s := status(token); s.State != keystore.Working || s.Reason != "" {
		t.Errorf("state %s: %s", s.State, s.Reason)
	}
}

// No more calls are open in a process than the queue has room for: who comes then is told when to come again.
func TestQueueIsBounded(t *testing.T) {
	m := faulty.New(t)
	c := processes(t, 1)
	c.Queue = 2
	conf := m.Config(t)
	conf.Sessions = 1
	token := open(t, conf, c)
	key := generate(t, token, "k", keystore.ECDSAP256)
	sign(t, token, key)
	hang := m.Hang(faulty.Sign, 1, 0)
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() { _ = trySign(t.Context(), token, key, "waits") }) // or comes after one of those below
	}
	until(t, "a full queue", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		var u *keystore.UnavailableError
		err := trySign(ctx, token, key, "too many")
		return errors.As(err, &u) && u.RetryAfter > 0 && strings.Contains(err.Error(), "too many")
	})
	hang.Heal()
	all.Wait()
	sign(t, token, key)
}

// No more callers wait for a process to come up than the queue has room for.
func TestPatienceIsBounded(t *testing.T) {
	m := faulty.New(t)
	c := processes(t, 1)
	c.Queue, c.Grace = 2, time.Minute
	token := open(t, m.Config(t), c)
	key := generate(t, token, "k", keystore.ECDSAP256)
	sign(t, token, key)
	m.Hang(faulty.Initialize, faulty.Always, 0) // so that the next process stays away
	m.Kill(faulty.Sign, 0, syscall.SIGKILL)
	var all sync.WaitGroup
	for range c.Queue {
		all.Go(func() {
			if err := trySign(t.Context(), token, key, "waits"); err != nil {
				t.Errorf("who waited: %v", err)
			}
		})
	}
	until(t, "callers who wait", func() bool { return status(token).Waiting == c.Queue })
	var u *keystore.UnavailableError
	if err := trySign(t.Context(), token, key, "one more"); !errors.As(err, &u) || u.RetryAfter <= 0 || !strings.Contains(err.Error(), "too many") {
		t.Errorf("one more: %v", err)
	}
	m.Heal()
	all.Wait()
}

// A process that cannot even say that it is alive is killed.
func TestStopped(t *testing.T) {
	m := faulty.New(t)
	c := processes(t, 2)
	c.Hang, c.Beat = time.Second, 20*time.Millisecond
	token := open(t, m.Config(t), c)
	key := generate(t, token, "k", keystore.ECDSAP256)
	warm(t, token, key)
	pid := children(m)[0]
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			if err := trySign(t.Context(), token, key, "beside"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	until(t, "another process", func() bool { return !slices.Contains(children(m), pid) && status(token).Respawns == 1 })
}

// 64 callers while processes are killed at random: each signature verifies, each caller has an answer in its time.
func TestStorm(t *testing.T) {
	t.Attr("requirement", "B-31")
	const callers, kills, limit = 64, 12, 10 * time.Second
	m := faulty.New(t)
	c := processes(t, 2)
	c.Grace = limit
	token := open(t, m.Config(t), c)
	keys := []keystore.Key{
		generate(t, token, "a", keystore.ECDSAP256), generate(t, token, "b", keystore.Ed25519), generate(t, token, "c", keystore.ECDSAP384),
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var good, lost atomic.Int64
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				own, cancel := context.WithTimeout(t.Context(), limit)
				began := time.Now()
				err := trySign(own, token, keys[(i+n)%len(keys)], fmt.Sprint(i, "/", n))
				cancel()
				switch {
				case err == nil:
					good.Add(1)
				case errors.Is(err, keystore.ErrUnavailable):
					lost.Add(1)
				default:
					t.Errorf("caller %d: %v", i, err)
					return
				}
				if d := time.Since(began); d > limit+time.Second {
					t.Errorf("caller %d had to wait for %v", i, d)
				}
			}
		})
	}
	for i := range kills {
		before := good.Load()
		until(t, "more signatures", func() bool { return good.Load() > before+100 || t.Failed() })
		if pids := children(m); len(pids) > 0 {
			_ = syscall.Kill(pids[rand.N(len(pids))], syscall.SIGKILL)
		}
		if i%4 == 3 {
			made := generateAnyhow(t, token, keystore.ID(fmt.Sprint("new-", i)))
			if err := trySign(t.Context(), token, made, "new"); err != nil && !errors.Is(err, keystore.ErrUnavailable) {
				t.Error(err)
			}
		}
	}
	stop()
	all.Wait()
	if n := lost.Load(); n > callers {
		t.Errorf("%d calls failed of %d", n, good.Load()+n)
	}
	t.Logf("%d signatures, %d calls failed, %d processes replaced", good.Load(), lost.Load(), status(token).Respawns)
	until(t, "all processes", func() bool { return len(children(m)) == 2 })
}

// generateAnyhow makes a key although processes die.
func generateAnyhow(t *testing.T, token keystore.Token, id keystore.ID) (key keystore.Key) {
	t.Helper()
	until(t, "a new key", func() bool {
		var err error
		if key, err = token.Generate(t.Context(), keystore.Spec{ID: id, Algorithm: keystore.ECDSAP256}); err == nil {
			return true
		}
		if errors.Is(err, keystore.ErrExists) {
			key, err = token.Find(t.Context(), id)
		}
		return err == nil
	})
	return key
}

// A library that crashes whenever it is initialised is not started in a busy loop, and is used again when it does not.
func TestCrashLoop(t *testing.T) {
	m := faulty.New(t)
	token := open(t, m.Config(t), processes(t, 1))
	key := generate(t, token, "k", keystore.ECDSAP256)
	rule := m.Add(faulty.Fault{Function: faulty.Initialize, Signal: syscall.SIGSEGV, Times: faulty.Always})
	began := time.Now()
	for _, pid := range children(m) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "some attempts", func() bool { return rule.Fired() >= 6 })
	if d := time.Since(began); d < 300*time.Millisecond {
		t.Errorf("6 attempts within %v", d)
	}
	err := trySign(t.Context(), token, key, "sent away")
	var u *keystore.UnavailableError
	if !errors.As(err, &u) || u.RetryAfter <= 0 || u.RetryAfter > 5*time.Second {
		t.Errorf("got %v", err)
	}
	if s := status(token); s.State != keystore.Recovering || !strings.Contains(s.Reason, "segmentation fault") {
		t.Errorf("state %s: %s", s.State, s.Reason)
	}
	rule.Heal()
	until(t, "signatures", func() bool { return trySign(t.Context(), token, key, "again") == nil })
}

// Errors keep what they are and when to try again.
func TestErrorsOfTheDevice(t *testing.T) {
	m := faulty.New(t)
	conf := m.Config(t)
	conf.Grace = -1
	token := open(t, conf, processes(t, 1))
	key := generate(t, token, "k", keystore.ECDSAP256)
	sign(t, token, key)
	m.Lose(faulty.Removed)
	until(t, "the device to be gone", func() bool { return trySign(t.Context(), token, key, "gone") != nil })
	err := trySign(t.Context(), token, key, "gone")
	var u *keystore.UnavailableError
	if !errors.Is(err, keystore.ErrUnavailable) || !errors.As(err, &u) || u.RetryAfter <= 0 {
		t.Errorf("got %v", err)
	}
	until(t, "the status", func() bool { s := status(token); return s.State == keystore.Recovering && len(s.Errors) > 0 })
	m.Restore()
	until(t, "signatures", func() bool { return trySign(t.Context(), token, key, "again") == nil })
	_ = m.Fail(faulty.Sign, 1, 0x200) // CKR_FUNCTION_REJECTED
	if err := trySign(t.Context(), token, key, "refused"); !errors.Is(err, keystore.ErrUnavailable) || !strings.Contains(err.Error(), "REJECTED") {
		t.Errorf("got %v", err)
	}
}

// Reset replaces every process, once for all who saw the same epoch.
func TestReset(t *testing.T) {
	m := faulty.New(t)
	token := open(t, m.Config(t), processes(t, 2))
	key := generate(t, token, "k", keystore.ECDSAP256)
	warm(t, token, key)
	before, suspect := children(m), token.Epoch()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if err := token.Reset(t.Context(), suspect, keystore.ErrWrongSignature); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	until(t, "both to be replaced", func() bool {
		now := children(m)
		return len(now) == 2 && !slices.ContainsFunc(now, func(pid int) bool { return slices.Contains(before, pid) })
	})
	if token.Epoch() == suspect {
		t.Error("the epoch is the same")
	}
	if err := token.Reset(t.Context(), suspect, keystore.ErrWrongSignature); err != nil {
		t.Error(err)
	}
	if n := status(token).Respawns; n != 2 {
		t.Errorf("%d processes were started", n)
	}
	sign(t, token, key)
}

// What a library says to its standard error comes into the log, by lines, without the PIN, and not without end.
func TestStandardError(t *testing.T) {
	log, book := newLog(t)
	script := `for i in $(seq 5000); do echo "noise $i"; done >&2; printf 'the end\n' >&2; exit 3`
	_, err := isolate.Open(t.Context(), isolate.Config{Command: []string{"/bin/sh", "-c", script}, Log: log})
	if !errors.Is(err, keystore.ErrUnavailable) || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v", err)
	}
	text := book.String()
	if !strings.Contains(text, "noise 1") || strings.Count(text, "\n") > 400 || !strings.Contains(text, "left out") {
		t.Errorf("%d lines", bytes.Count([]byte(text), []byte("\n")))
	}
}
