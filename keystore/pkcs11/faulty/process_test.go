package faulty_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore/pkcs11/faulty"
)

// Other processes get the rules as they are, and can be killed.
func TestProcesses(t *testing.T) {
	const variable = "SIGNET_FAULTY_CHILD"
	if path := os.Getenv(variable); path != "" {
		p := pkcs11.New(path)
		if p == nil {
			os.Exit(10)
		}
		err := p.Initialize()
		if code(err) == pkcs11.CKR_DEVICE_MEMORY {
			err = p.Initialize()
		}
		if err != nil {
			os.Exit(11)
		}
		for {
			if _, err := p.GetInfo(); err != nil {
				os.Exit(0) // as it was told
			}
		}
	}
	m := faulty.New(t)
	conf := m.Config(t).SoftHSMConf
	m.Fail(faulty.Initialize, 1, pkcs11.CKR_DEVICE_MEMORY)
	start := func() (*exec.Cmd, int) {
		t.Helper()
		c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProcesses$")
		c.Env = append(os.Environ(), variable+"="+m.Path, "SOFTHSM2_CONF="+conf)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		return c, c.Process.Pid
	}
	first, a := start()
	second, b := start()
	until(t, "two processes", func() bool { return m.Calls(faulty.GetInfo) > 0 && len(m.Processes()) == 2 })
	if all := m.Processes(); !slices.Contains(all, a) || !slices.Contains(all, b) {
		t.Errorf("processes %v, want %d and %d", all, a, b)
	}
	until(t, "both to be initialised", func() bool { return m.Calls(faulty.Initialize) == 3 })
	m.Kill(faulty.GetInfo, 100, syscall.SIGSEGV)
	until(t, "one to be gone", func() bool { return len(m.Processes()) == 1 })
	if m.Inside(faulty.Any) > 1 {
		t.Error("a dead process is inside")
	}
	if m.Processes()[0] == a {
		first, second = second, first
	}
	if err := first.Wait(); err == nil || !strings.Contains(err.Error(), "segmentation fault") {
		t.Errorf("got %v", err)
	}
	m.Fail(faulty.GetInfo, 1, pkcs11.CKR_DEVICE_ERROR)
	if err := second.Wait(); err != nil {
		t.Error(err)
	}
	until(t, "both to be gone", func() bool { return len(m.Processes()) == 0 })
}
