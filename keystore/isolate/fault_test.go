package isolate_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	wrapper "github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/isolate"
	"github.com/signetd/signet/keystore/isolate/worker"
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
	token := open(t, conf, c)
	key := generate(t, token, "k", keystore.ECDSAP256)
	sign(t, token, key)

	m.Hang(faulty.Sign, faulty.Always, 0)
	slow := m.Delay(faulty.Initialize, faulty.Always, 300*time.Millisecond) // so that the process is away for a while
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	go func() { _ = trySign(ctx, token, key, "hangs") }()
	until(t, "the breaker", func() bool { return status(token).State != keystore.Working })
	began := time.Now()
	err := trySign(t.Context(), token, key, "sent away")
	var u *keystore.UnavailableError
	if !errors.As(err, &u) || u.RetryAfter <= 0 || time.Since(began) > 100*time.Millisecond {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
	m.HealRules()
	slow.Heal()
	until(t, "signatures", func() bool { return trySign(t.Context(), token, key, "again") == nil })
	if s := status(token); s.State != keystore.Working || s.Reason != "" {
		t.Errorf("state %s: %s", s.State, s.Reason)
	}
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

// When the service is killed its processes go with it, also those that hang or are stopped.
func TestOrphans(t *testing.T) {
	t.Attr("requirement", "B-31")
	m := faulty.New(t)
	conf := m.Config(t)
	settings, err := json.Marshal(parentSettings{&conf.Module, &conf.SoftHSMConf, &conf.TokenLabel})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], parentCommand, string(settings))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	pids := children(m)
	if len(pids) != 2 {
		t.Fatalf("processes %v", pids)
	}
	m.Hang(faulty.Sign, faulty.Always, 0)
	until(t, "calls that hang", func() bool { return m.Hung(faulty.Sign) >= 2 })
	if err := syscall.Kill(pids[0], syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	began := time.Now()
	for _, pid := range pids {
		until(t, "a process to be gone", func() bool { return !runs(pid) })
	}
	if d := time.Since(began); d > 1500*time.Millisecond { // they do not first try to log out
		t.Errorf("it took %v", d)
	}
}

// runs reports whether a process runs, rather than waits to be buried.
func runs(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	return err == nil && !strings.HasPrefix(rest, "Z")
}

// What can be seen of a worker from outside: no PIN, no descriptor of ours, no core dumps, nothing to trace.
func TestHardened(t *testing.T) {
	t.Attr("requirement", "B-36")
	leak, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer leak.Close()
	inherited, err := syscall.Dup(int(leak.Fd())) // does not close on exec, as those of C libraries
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(inherited)
	m := faulty.New(t)
	log, book := newLog(t)
	c := processes(t, 2)
	c.Log = log
	token := open(t, m.Config(t), c)
	sign(t, token, generate(t, token, "k", keystore.ECDSAP256))
	for _, pid := range children(m) {
		dir := filepath.Join("/proc", strconv.Itoa(pid))
		read := func(name string) string {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil && !(os.Geteuid() != 0 && errors.Is(err, os.ErrPermission)) { // nobody else may
				t.Error(err)
			}
			return string(b)
		}
		for _, name := range []string{"cmdline", "environ"} {
			if strings.Contains(read(name), keystoretest.PIN) {
				t.Errorf("the PIN stands in %s", name)
			}
		}
		if s := read("limits"); s != "" && !strings.Contains(strings.Join(strings.Fields(s), " "), "Max core file size 0 0") {
			t.Error("core dumps are possible")
		}
		s := read("status")
		if !strings.Contains(s, "NoNewPrivs:\t1") {
			t.Error("new privileges are possible")
		}
		if group, err := syscall.Getpgid(pid); err != nil || group != pid {
			t.Errorf("process %d is in group %d: %v", pid, group, err)
		}
		entries, err := os.ReadDir(filepath.Join(dir, "fd"))
		if os.Geteuid() == 0 && err != nil {
			t.Error(err)
		}
		for _, e := range entries {
			name, _ := os.Readlink(filepath.Join(dir, "fd", e.Name()))
			if fd, _ := strconv.Atoi(e.Name()); fd > 2 && strings.HasPrefix(name, "/dev/zero") {
				t.Errorf("descriptor %d was inherited: %s", fd, name)
			}
		}
		if info, err := os.Stat(filepath.Join(dir, "mem")); err == nil && os.Geteuid() != 0 && info.Sys().(*syscall.Stat_t).Uid != 0 {
			t.Error("it can be traced")
		}
	}
	if strings.Contains(book.String(), keystoretest.PIN) {
		t.Error("the PIN is in the log")
	}
}

// A wrong PIN is tried once, by whatever number of processes; a right one heals.
func TestWrongPIN(t *testing.T) {
	t.Attr("requirement", "P 11.300(e)")
	m := faulty.New(t)
	conf := m.Config(t)
	var pin atomic.Pointer[keystore.Secret]
	set := func(text string) { s := keystore.NewSecret(text); pin.Store(&s) }
	var asked atomic.Int64
	conf.PIN = func(context.Context) (keystore.Secret, error) {
		asked.Add(1)
		return *pin.Load(), nil
	}
	set("wrong-1234")
	logins := m.Calls(faulty.Login)
	_, err := worker.Open(t.Context(), conf, processes(t, 3))
	if !errors.Is(err, keystore.ErrPIN) {
		t.Fatalf("got %v", err)
	}
	if n := m.Calls(faulty.Login) - logins; n != 1 {
		t.Errorf("%d logins", n)
	}
	if strings.Contains(err.Error(), "wrong-1234") {
		t.Error("the error has the PIN")
	}

	set(keystoretest.PIN)
	token := open(t, conf, processes(t, 3))
	key := generate(t, token, "k", keystore.ECDSAP256)
	warm(t, token, key)
	set("wrong-5678")
	logins = m.Calls(faulty.Login)
	m.DropLogin() // all have to log in again
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() { _ = trySign(t.Context(), token, key, "refused") })
	}
	all.Wait()
	before := asked.Load()
	until(t, "the PIN to be asked for", func() bool { return asked.Load() > before+6 })
	if n := m.Calls(faulty.Login) - logins; n != 1 {
		t.Errorf("%d logins with a wrong PIN", n)
	}
	for _, pid := range children(m) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	before = asked.Load()
	until(t, "the refusal", func() bool { return status(token).State == keystore.Refusing && asked.Load() > before+6 })
	if err := trySign(t.Context(), token, key, "refused"); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if n := m.Calls(faulty.Login) - logins; n != 1 {
		t.Errorf("%d logins with a wrong PIN", n)
	}
	set(keystoretest.PIN)
	until(t, "signatures", func() bool { return trySign(t.Context(), token, key, "again") == nil })
}

// A login that is lost while the processes run is made again by each, with a PIN that all get one after the other.
func TestLostLogin(t *testing.T) {
	m := faulty.New(t)
	token := open(t, m.Config(t), processes(t, 2))
	key := generate(t, token, "k", keystore.ECDSAP256)
	warm(t, token, key)
	epoch := token.Epoch()
	m.DropLogin()
	warm(t, token, key)
	if token.Epoch() == epoch {
		t.Error("no epoch began")
	}
	if s := status(token); s.Respawns != 0 {
		t.Errorf("%d processes were replaced", s.Respawns)
	}
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
	_ = m.Fail(faulty.Sign, 1, wrapper.CKR_FUNCTION_REJECTED)
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
