package main

import (
	"encoding/json/v2"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/keystore/pkcs11/conformance"
	"github.com/signetd/signet/keystore/pkcs11/faulty"
	"github.com/signetd/signet/server"
)

// initOn makes a service on tokens that are there, as the settings say.
func initOn(t *testing.T, hsm string) service {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := service{t: t, data: filepath.Join(t.TempDir(), "var"), address: l.Addr().String()}
	l.Close()
	settings := filepath.Join(t.TempDir(), "settings.yaml")
	if err := os.WriteFile(settings, []byte("environment: demo\norganisation: Several Tokens Inc\n"+hsm), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := run(t, "init", "--data", s.data, "--settings", settings, "--listen", s.address, "--admin-user", "grace", "--admin-name", "Grace Hopper")
	if code != 0 {
		t.Fatalf("init ended with %d: %s", code, stderr)
	}
	return s
}

// pinFile writes the PIN of the tests' tokens.
func pinFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(path, []byte(keystoretest.PIN+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// token writes one of hsm.tokens.
func token(t *testing.T, name string, m *faulty.Module, more string) string {
	t.Helper()
	c := m.Config(t)
	return fmt.Sprintf("    - name: %s\n      module: %s\n      token: \"pkcs11:token=%s;serial=%s\"\n      pinFile: %s\n      softhsmConf: %s\n%s",
		name, c.Module, c.TokenLabel, c.Serial, pinFile(t), c.SoftHSMConf, more)
}

// hsm asks for the status.
func (s service) hsm() (server.HSMStatus, int) {
	s.t.Helper()
	stdout, stderr, code := run(s.t, "hsm", "status", "--config", s.config(), "--json")
	var status server.HSMStatus
	if err := json.Unmarshal([]byte(stdout), &status); err != nil {
		s.t.Fatalf("%d: %v: %s%s", code, err, stdout, stderr)
	}
	return status, code
}

// until waits until it is so.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); !so(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not after 30 s: %s", what)
		}
	}
}

func TestHSMStatus(t *testing.T) {
	s := initService(t)
	c := s.serve()
	t.Run("of a running service", func(t *testing.T) {
		t.Attr("requirement", "11.300(e)")
		status, code := s.hsm()
		if code != 0 || !status.Running || !status.Ready || len(status.Tokens) != 1 {
			t.Fatalf("%d: %+v", code, status)
		}
		token := status.Tokens[0]
		if token.Name != "signet" || len(token.Roles) != 6 || token.State != keystore.Working || !token.Active || token.Proved.IsZero() || token.Tested.IsZero() || token.Workers == 0 {
			t.Errorf("%+v", token)
		}
	})
	t.Run("for people", func(t *testing.T) {
		stdout, stderr, code := run(t, "hsm", "status", "--config", s.config())
		if code != 0 || stderr != "" {
			t.Fatalf("%d: %s", code, stderr)
		}
		for _, want := range []string{"is running: signatures can be made", "signet  working", "ca, tsa, ledger, closing, sealing, signers", "known answers", " ago", "workers busy"} {
			if !strings.Contains(stdout, want) {
				t.Errorf("%q is missing in\n%s", want, stdout)
			}
		}
		if strings.Contains(stdout, "\x1b") {
			t.Error("colour without a terminal")
		}
	})
	t.Run("the socket is its owner's alone", func(t *testing.T) {
		info, err := os.Stat(filepath.Join(s.data, server.StatusSocket))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
	})
	t.Run("of one that was killed", func(t *testing.T) {
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = c.Wait()
		status, code := s.hsm()
		if code != 0 || status.Running || !status.Ready || status.Tokens[0].State != keystore.Working || status.Tokens[0].Tested.IsZero() {
			t.Fatalf("%d: %+v", code, status)
		}
		s.serve() // over the socket that is left
		if status, _ := s.hsm(); !status.Running {
			t.Errorf("%+v", status)
		}
	})
}

func TestHSMStatusWithoutTheToken(t *testing.T) {
	s := initService(t)
	if err := os.Rename(filepath.Join(s.data, "token", "tokens"), filepath.Join(s.data, "token", "elsewhere")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(s.data, "token", "tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := run(t, "hsm", "status", "--config", s.config())
	if code != 1 || !strings.Contains(stderr, "no token with label") || !strings.Contains(stderr, "not running") {
		t.Fatalf("%d: %s", code, stderr)
	}
}

func TestHSMTest(t *testing.T) {
	quick := []string{"--no-speed", "--algorithm", string(keystore.ECDSAP256)}
	s := initService(t)
	t.Run("the token of the configuration", func(t *testing.T) {
		stdout, stderr, code := run(t, append([]string{"hsm", "test", "--config", s.config(), "--json"}, quick...)...)
		var report conformance.Report
		if err := json.Unmarshal([]byte(stdout), &report); err != nil || code != 0 || report.Verdict == conformance.Unfit || !report.Complete {
			t.Fatalf("%d: %v: %s%s", code, err, stdout, stderr)
		}
	})
	t.Run("a token that does not keep keys", func(t *testing.T) {
		module := faulty.New(t)
		c := module.Config(t)
		const extractable = 0x162
		module.Lie(extractable)
		stdout, stderr, code := run(t, append([]string{"hsm", "test", "--module", module.Path, "--token", c.TokenLabel, "--serial", c.Serial,
			"--softhsm-conf", c.SoftHSMConf, "--pin-file", pinFile(t)}, quick...)...)
		if code != 3 || !strings.Contains(stdout, "UNFIT") || !strings.Contains(stderr, "unfit") {
			t.Fatalf("%d: %s%s", code, stdout, stderr)
		}
	})
	t.Run("wrong usage", func(t *testing.T) {
		for _, args := range [][]string{
			{"--module", "/x.so"}, {"--module", "/x.so", "--config", s.config(), "--token", "x"}, {"--config", s.config(), "--name", "other"},
			{"--config", filepath.Join(s.data, "none.yaml")}, {"--module", "/x.so", "--token", "pkcs11:token=x?pin-value=s3cr3t"},
		} {
			_, stderr, code := run(t, append([]string{"hsm", "test"}, args...)...)
			if code != 2 || strings.Contains(stderr, "s3cr3t") {
				t.Errorf("%v: %d: %s", args, code, stderr)
			}
		}
	})
	t.Run("a URI", func(t *testing.T) {
		module := faulty.New(t)
		c := module.Config(t)
		test := func(uri string) (stderr string, code int) {
			_, stderr, code = run(t, append([]string{"hsm", "test", "--module", module.Path, "--token", uri, "--softhsm-conf", c.SoftHSMConf, "--pin-file", pinFile(t)}, quick...)...)
			return stderr, code
		}
		if stderr, code := test("pkcs11:token=" + c.TokenLabel + ";manufacturer=SoftHSM%20project;model=SoftHSM%20v2"); code != 0 {
			t.Errorf("the token: %d: %s", code, stderr)
		}
		for other, want := range map[string]int{";manufacturer=Another": 1, ";model=Another": 1, ";slot-id=1": 1, ";serial=1": 1, ";slot-description=Another": 2, ";object=key": 2} {
			says := map[int]string{1: "no token with", 2: "leave out the rest"}[want]
			if strings.Contains(other, "object") {
				says = "name a key"
			}
			if stderr, code := test("pkcs11:token=" + c.TokenLabel + other); code != want || !strings.Contains(stderr, says) {
				t.Errorf("%s: %d: %s", other, code, stderr)
			}
		}
		const model = "model=SoftHSM%20v2" // which the slot for a new token says of itself, too
		if stderr, code := test("pkcs11:" + model); code != 0 {
			t.Errorf("without a label: %d: %s", code, stderr)
		}
	})
	t.Run("a module that is not there", func(t *testing.T) {
		_, stderr, code := run(t, "hsm", "test", "--module", "/nowhere/x.so", "--token", "x", "--pin-file", pinFile(t))
		if code != 1 || !strings.Contains(stderr, "cannot be loaded") {
			t.Errorf("%d: %s", code, stderr)
		}
	})
}

// The module of a vendor crashes in its worker process: the service goes on.
func TestTheModuleCrashes(t *testing.T) {
	module := faulty.New(t)
	s := initOn(t, "hsm:\n  tokens:\n"+token(t, "main", module, "      processes: 2\n"))
	c := s.serve()
	e := s.enrol()
	if status, _ := s.hsm(); status.Tokens[0].Processes != 2 || status.Tokens[0].Name != "main" {
		t.Fatalf("%+v", status)
	}
	workers := module.Processes()
	if len(workers) != 2 || workers[0] == c.Process.Pid || workers[1] == c.Process.Pid {
		t.Fatalf("the module runs in the processes %v, the service in %d", workers, c.Process.Pid)
	}
	seal := func() error {
		_, err := e.sealing.Seal(t.Context(), &signetv1.SealRequest{Record: e.record, Meaning: "evidence-seal"})
		return err
	}
	for range 3 {
		module.Kill(faulty.Sign, 0, syscall.SIGSEGV)
		if err := seal(); err != nil && status.Code(err) != codes.Unavailable {
			t.Errorf("a seal at the crash: %v", err)
		}
		until(t, "the worker was started again, and seals", func() bool { return len(module.Processes()) == 2 && seal() == nil })
	}
	status, code := s.hsm()
	if code != 0 || !status.Running || status.Tokens[0].Respawns < 3 || status.Tokens[0].State != keystore.Working {
		t.Errorf("%d: %+v", code, status)
	}
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait()
	if code := c.ProcessState.ExitCode(); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	until(t, "no worker is left", func() bool { return len(module.Processes()) == 0 })
	if stdout, stderr, code := run(t, "ledger", "check", "--config", s.config()); code != 0 {
		t.Fatalf("%d: %s%s", code, stdout, stderr)
	}
}

// A service on three tokens: the CA's is not there when it starts, nor is the replica.
func TestStartWithoutEveryToken(t *testing.T) {
	main, twin, root := faulty.New(t), faulty.New(t), faulty.New(t)
	s := initOn(t, "metrics:\n  address: 127.0.0.1:0\nhsm:\n  tokens:\n"+token(t, "main", main, "")+token(t, "twin", twin, "      replicaOf: main\n")+token(t, "root", root, "      offline: true\n")+
		"  roles: {ca: root, tsa: main, ledger: main, closing: main, sealing: main, signers: main}\n")
	root.Lose(faulty.Removed)
	twin.Lose(faulty.Removed)
	s.serve()
	status, code := s.hsm()
	if code != 0 || len(status.Tokens) != 3 {
		t.Fatalf("%d: %+v", code, status)
	}
	for i, want := range []struct {
		name  string
		state keystore.State
	}{{"main", keystore.Working}, {"twin", keystore.Recovering}, {"root", keystore.Offline}} {
		if got := status.Tokens[i]; got.Name != want.name || got.State != want.state || got.Replica != i%2 {
			t.Errorf("%s is %s, want %s %s: %+v", got.Name, got.State, want.name, want.state, got)
		}
	}
	twin.Restore()
	root.Restore()
	until(t, "the replica came", func() bool {
		status, _ = s.hsm()
		return status.Tokens[1].State == keystore.Working
	})
	s.enrol() // takes the CA

	t.Run("not without the ledger's", func(t *testing.T) {
		other := initOn(t, "hsm:\n  tokens:\n"+token(t, "main", faulty.New(t), ""))
		text, err := os.ReadFile(other.config())
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(string(text), "pkcs11:token=faulty", "pkcs11:token=away", 1)
		if err := os.WriteFile(other.config(), []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		_, stderr, code := run(t, "serve", "--config", other.config())
		if code != 1 || !strings.Contains(stderr, `token "main"`) || !strings.Contains(stderr, "away") {
			t.Fatalf("%d: %s", code, stderr)
		}
	})
}

// The unit for systemd does not start the service again with a PIN that was refused.
func TestARefusedPINHasItsOwnExitCode(t *testing.T) {
	s := initService(t)
	if err := os.WriteFile(filepath.Join(s.data, "token", "user.pin"), []byte("not-the-pin\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, processes := range []string{"0", "1"} {
		text, err := os.ReadFile(s.config())
		if err != nil {
			t.Fatal(err)
		}
		changed := regexp.MustCompile(`processes: \d`).ReplaceAllString(string(text), "processes: "+processes)
		if err := os.WriteFile(s.config(), []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, command := range [][]string{{"serve"}, {"hsm", "status"}, {"ledger", "check"}} {
			_, stderr, code := run(t, append(command, "--config", s.config())...)
			if code != 4 || !strings.Contains(stderr, "refused the PIN") || strings.Contains(stderr, "not-the-pin") {
				t.Errorf("%s with %s processes: %d: %s", command, processes, code, stderr)
			}
		}
	}
	unit, err := os.ReadFile("../../deploy/systemd/signetd.service")
	if err != nil || !strings.Contains(string(unit), "\nRestartPreventExitStatus=2 4 5\n") {
		t.Error("the unit starts it again", err)
	}
}

func TestHSMWorkerIsNoCommandForPeople(t *testing.T) {
	stdout, _, _ := run(t, "--help")
	if strings.Contains(stdout, hsmWorker) {
		t.Error("it is shown")
	}
	if _, stderr, code := run(t, hsmWorker); code == 0 || stderr == "" {
		t.Errorf("%d: %s", code, stderr)
	}
}

func TestMetricsAreServed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	s := initService(t, "--metrics", address)
	s.serve()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := new(http.Client).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusOK {
		t.Error(r.Status)
	}
	if _, stderr, code := run(t, "config", "print", "--config", s.config()); code != 0 {
		t.Error(stderr)
	}
}
