package isolate_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/isolate"
	"github.com/signetd/signet/keystore/isolate/worker"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/keystore/pkcs11/faulty"
)

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

const someGroup = 65534

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
	if os.Geteuid() == 0 { // of a process that can be traced, what is in /proc belongs to its user and group: as root, the group tells
		if err := syscall.Setregid(someGroup, someGroup); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = syscall.Setregid(0, 0) }()
	}
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
		info, err := os.Stat(filepath.Join(dir, "mem"))
		if err != nil {
			t.Fatal(err)
		}
		if owner := info.Sys().(*syscall.Stat_t); owner.Uid != 0 || owner.Gid != 0 {
			t.Error("it can be traced")
		}
	}
	if strings.Contains(book.String(), keystoretest.PIN) {
		t.Error("the PIN is in the log")
	}
}

// A wrong PIN is tried once, by whatever number of processes; a right one heals.
func TestWrongPIN(t *testing.T) {
	t.Attr("requirement", "11.300(e)")
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
	remembers := processes(t, 3)
	remembers.Refusals = isolate.NewRefusals()
	for range 3 { // as a token that is opened at each use
		_, err := worker.Open(t.Context(), conf, remembers)
		if !errors.Is(err, keystore.ErrPIN) {
			t.Fatalf("got %v", err)
		}
		if n := m.Calls(faulty.Login) - logins; n != 1 {
			t.Errorf("%d logins", n)
		}
		if strings.Contains(err.Error(), "wrong-1234") {
			t.Error("the error has the PIN")
		}
	}
	other := faulty.New(t) // another token has not refused it
	conf2 := other.Config(t)
	conf2.PIN = conf.PIN
	if _, err := worker.Open(t.Context(), conf2, remembers); !errors.Is(err, keystore.ErrPIN) || other.Calls(faulty.Login) != 1 {
		t.Errorf("got %v after %d logins", err, other.Calls(faulty.Login))
	}

	set(keystoretest.PIN)
	token := open(t, conf, remembers)
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

// SoftHSM writes a token's file anew at each login, and who reads it meanwhile finds no token, an error, or one without a PIN. Neither
// the processes of one service nor those of two programs that start at the same time fail by that.
func TestOpenBesideLogins(t *testing.T) {
	m := faulty.New(t)
	var programs sync.WaitGroup
	for range 2 {
		programs.Go(func() {
			for range 8 {
				token, err := worker.Open(t.Context(), m.Config(t), processes(t, 4))
				if err != nil {
					t.Error(err)
					return
				}
				if err := token.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	programs.Wait()
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
