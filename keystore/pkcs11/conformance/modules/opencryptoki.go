//go:build linux

package modules

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	wrapper "github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/pkcs11"
)

const (
	inside     = "SIGNET_TEST_OPENCRYPTOKI" // set in the process that has the module
	slots      = 40                         // tokens that one test can use
	factorySO  = "87654321"                 // what openCryptoki has for a new token
	cryptokiSO = "officer1"
	cryptoki   = "user-123" // at most 8 bytes
)

// OpenCryptoki runs a test on the soft token of openCryptoki, in a process of its own: the module wants its daemon and its
// files in fixed places of the machine, so that process has namespaces in which those places are empty and nobody else's.
// config makes a new token and returns how to open it. The test is left out where the system allows no namespaces, which
// no package can mend.
func OpenCryptoki(t *testing.T, run func(t *testing.T, config func(t testing.TB) pkcs11.Config)) {
	t.Helper()
	if os.Getenv(inside) == "" {
		again(t)
		return
	}
	module, err := openCryptokiModule()
	if err != nil {
		t.Fatal(err)
	}
	if err := furnish(); err != nil {
		t.Fatal(err)
	}
	startSlotDaemon(t)
	made := 0
	run(t, func(t testing.TB) pkcs11.Config {
		t.Helper()
		label := fmt.Sprintf("token-%d", made)
		if made++; made > slots {
			t.Fatalf("more than %d tokens", slots)
		}
		if err := initCryptoki(module, uint(made-1), label); err != nil {
			t.Fatalf("openCryptoki: %v", err)
		}
		return pkcs11.Config{Module: module, TokenLabel: label, PIN: keystore.PINFixed(keystore.NewSecret(cryptoki))}
	})
}

// again runs the test once more in a process with namespaces of its own.
func again(t *testing.T) {
	t.Helper()
	if _, err := openCryptokiModule(); err != nil {
		t.Fatal(err)
	}
	group, err := user.LookupGroup("pkcs11")
	if err != nil {
		t.Fatalf("openCryptoki is not set up: %v; `make deps-test` installs it", err)
	}
	gid, err := strconv.Atoi(group.Gid)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), program, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=5m")
	c.Env = append(os.Environ(), inside+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWPID}
	if os.Getuid() != 0 {
		// Who is not root is in a user namespace, where the group of openCryptoki is our own.
		c.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		c.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: os.Getgid(), Size: 1}}
	}
	out, err := c.CombinedOutput()
	switch {
	case errors.Is(err, fs.ErrPermission):
		t.Skipf("the system lets us make no namespaces, and openCryptoki works with fixed places only: %v", err)
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	case !strings.Contains(string(out), "--- PASS: "+t.Name()):
		t.Errorf("the test did not run:\n%s", out)
	default:
		t.Logf("%s", out)
	}
}

func openCryptokiModule() (string, error) {
	for _, pattern := range []string{"/usr/lib/*/pkcs11/libopencryptoki.so", "/usr/lib64/pkcs11/libopencryptoki.so", "/usr/lib/pkcs11/libopencryptoki.so"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		if len(found) == 1 {
			return filepath.EvalSymlinks(found[0])
		}
	}
	return "", errors.New("openCryptoki is not installed (Debian: opencryptoki); `make deps-test` installs it")
}

// furnish puts an empty file system over each place that openCryptoki uses, and fills in what its package would.
func furnish() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	for _, place := range []string{"/run", "/dev/shm", "/var/lib/opencryptoki", "/etc/opencryptoki", "/var/log/opencryptoki"} {
		err := syscall.Mount("tmpfs", place, "tmpfs", 0, "")
		if err != nil && !(errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(place, "/var/log/")) {
			return fmt.Errorf("mount over %s: %w", place, err)
		}
	}
	group, err := user.LookupGroup("pkcs11")
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(group.Gid)
	if err != nil {
		return err
	}
	var conf strings.Builder
	conf.WriteString("version opencryptoki-3.1\n")
	folders := []string{"/run/lock", "/run/lock/opencryptoki"}
	for i := range slots {
		name := fmt.Sprintf("t%d", i)
		fmt.Fprintf(&conf, "slot %d\n{\nstdll = libpkcs11_sw.so\ntokname = %s\n}\n", i, name)
		folders = append(folders, "/run/lock/opencryptoki/"+name, "/var/lib/opencryptoki/"+name, "/var/lib/opencryptoki/"+name+"/TOK_OBJ")
	}
	for _, folder := range folders {
		if err := os.MkdirAll(folder, 0o770); err != nil {
			return err
		}
		if err := errors.Join(os.Chmod(folder, 0o770), os.Chown(folder, -1, gid)); err != nil {
			return err
		}
	}
	return os.WriteFile("/etc/opencryptoki/opencryptoki.conf", []byte(conf.String()), 0o644)
}

// startSlotDaemon starts the daemon that the module talks to. It ends with the process namespace.
func startSlotDaemon(t *testing.T) {
	t.Helper()
	program, err := exec.LookPath("pkcsslotd")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/pkcsslotd"); err != nil {
			t.Fatalf("openCryptoki's daemon is not installed (Debian: opencryptoki): %v", err)
		}
	}
	if out, err := exec.Command(program).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", program, err, out)
	}
	limit := time.NewTimer(10 * time.Second)
	defer limit.Stop()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		if _, err := os.Stat("/run/pkcsslotd.socket"); err == nil {
			return
		}
		select {
		case <-look.C:
		case <-limit.C:
			t.Fatalf("%s did not open its socket", program)
		}
	}
}

// initCryptoki makes a token: both PINs that it comes with have to be changed.
func initCryptoki(module string, slot uint, label string) error {
	ctx := wrapper.New(module)
	if ctx == nil {
		return fmt.Errorf("%s cannot be loaded", module)
	}
	initialized := ctx.Initialize()
	if initialized != nil && !errors.Is(initialized, wrapper.Error(wrapper.CKR_CRYPTOKI_ALREADY_INITIALIZED)) {
		return fmt.Errorf("C_Initialize: %w", initialized)
	}
	err := func() error {
		if err := ctx.InitToken(slot, factorySO, label); err != nil {
			return fmt.Errorf("C_InitToken: %w", err)
		}
		session, err := ctx.OpenSession(slot, wrapper.CKF_SERIAL_SESSION|wrapper.CKF_RW_SESSION)
		if err != nil {
			return fmt.Errorf("C_OpenSession: %w", err)
		}
		defer ctx.CloseSession(session)
		for _, step := range []struct {
			call string
			do   func() error
		}{
			{"C_Login", func() error { return ctx.Login(session, wrapper.CKU_SO, factorySO) }},
			{"C_SetPIN of the officer", func() error { return ctx.SetPIN(session, factorySO, cryptokiSO) }},
			{"C_InitPIN", func() error { return ctx.InitPIN(session, "first-12") }},
			{"C_Logout", func() error { return ctx.Logout(session) }},
			{"C_Login", func() error { return ctx.Login(session, wrapper.CKU_USER, "first-12") }},
			{"C_SetPIN of the user", func() error { return ctx.SetPIN(session, "first-12", cryptoki) }},
			{"C_Logout", func() error { return ctx.Logout(session) }},
		} {
			if err := step.do(); err != nil {
				return fmt.Errorf("%s: %w", step.call, err)
			}
		}
		return nil
	}()
	if initialized == nil {
		err = errors.Join(err, ctx.Finalize())
	}
	return err
}
