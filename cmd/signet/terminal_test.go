//go:build linux

package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/cmd/internal/terminal/terminaltest"
)

// atTerminal starts signet at a terminal.
func atTerminal(t *testing.T, env []string, args ...string) *terminaltest.Run {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(program(t), "signet"), args...)
	cmd.Env = append([]string{"SIGNET_CONFIG_DIR=" + t.TempDir(), "TERM=xterm", "PATH=" + os.Getenv("PATH")}, env...)
	return terminaltest.Start(t, cmd)
}

func TestPasswordIsNotShown(t *testing.T) {
	r := atTerminal(t, nil, "login", "--server", "localhost:1")
	r.Expect("User name: ")
	r.Enter("ada\n")
	r.Expect("Password: ")
	if r.Echoes() {
		t.Error("the terminal shows what is typed")
	}
	r.Enter("hunter2\n")
	code, shown := r.End()
	if code != exitInternal || !strings.Contains(shown, "UNREACHABLE") {
		t.Errorf("exit code %d after %q", code, shown)
	}
	if !strings.Contains(shown, "ada") || strings.Contains(shown, "hunter2") {
		t.Errorf("shown: %q", shown)
	}
}

func TestInterruptRestoresTheTerminal(t *testing.T) {
	r := atTerminal(t, nil, "login", "--server", "localhost:1", "--user", "ada")
	r.Expect("Password: ")
	r.Enter("hunt\x03")                         // Ctrl-C
	if code := r.Wait(); code != exitInternal { // it does not go on after Ctrl-C
		t.Errorf("exit code %d", code)
	}
	if !r.Echoes() {
		t.Error("the terminal no longer shows what is typed")
	}
}

func TestColour(t *testing.T) {
	const red = "\x1b[31m"
	for _, c := range []struct {
		env  []string
		want bool
	}{{nil, true}, {[]string{"NO_COLOR=1"}, false}, {[]string{"TERM=dumb"}, false}} {
		r := atTerminal(t, c.env, "bogus")
		code, shown := r.End()
		if code != exitUsage || strings.Contains(shown, red) != c.want {
			t.Errorf("%v: exit code %d, shown %q", c.env, code, shown)
		}
	}
}

// A large bundle: how far it has come is shown while it is hashed, and wiped away before the verdict; nothing of it is there without a terminal.
func TestVerifyShowsProgress(t *testing.T) {
	corpus, err := filepath.Abs("../../api/verify/testdata/tampered")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "holes")) // take time to hash, and no space
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(1<<30), f.Close()); err != nil {
		t.Fatal(err)
	}
	args := []string{"verify", "--bundle", dir, "--manifest", filepath.Join(corpus, "manifests", "sound-with-ed25519.json"), "--trust", filepath.Join(corpus, "trust.json")}
	code, shown := atTerminal(t, nil, args...).End()
	progress, verdict, ok := strings.Cut(shown, "NOT VERIFIED (content)")
	if code != exitContent || !ok {
		t.Fatalf("exit code %d, shown %q", code, shown)
	}
	if !regexp.MustCompile(`\r\x1b\[Khashing: 0 of 1 file, [0-9.]+ [KMG]iB of 1.00 GiB \(\d+ %\), [0-9.]+ [MG]iB/s, (less than a second|[0-9hms]+) left`).MatchString(progress) {
		t.Errorf("progress %q", progress)
	}
	if !strings.HasSuffix(progress, "\r\x1b[K\x1b[31m") || strings.Contains(verdict, "hashing") {
		t.Errorf("what is left of it: %q", shown)
	}
	if !strings.Contains(verdict, "├─ \x1b[32m✓\x1b[0m form") || !strings.Contains(verdict, "├─ \x1b[31m✗\x1b[0m content") {
		t.Errorf("the tree has no colour: %q", verdict)
	}
}

func TestHashed(t *testing.T) {
	for _, c := range []struct {
		now  bundle.Progress
		took time.Duration
		want string
	}{
		{bundle.Progress{}, 0, "hashing: 0 files, 0 bytes, 0 bytes/s"},
		{bundle.Progress{Files: 3, TotalFiles: 100, Bytes: 1 << 20, TotalBytes: 4 << 20}, time.Second, "hashing: 3 of 100 files, 1.0 MiB of 4.0 MiB (25 %), 1.0 MiB/s, 6s left"},
		{bundle.Progress{Files: 0, TotalFiles: 1, Bytes: 1 << 20, TotalBytes: 4 << 20}, 2 * time.Second, "hashing: 0 of 1 file, 1.0 MiB of 4.0 MiB (25 %), 512.0 KiB/s, 6s left"},
		{bundle.Progress{Files: 10, Bytes: 3 << 20, TotalBytes: 4 << 20}, time.Second, "hashing: 10 files, 3.0 MiB of 4.0 MiB (75 %), 3.0 MiB/s, less than a second left"},
		{bundle.Progress{Files: 10, TotalFiles: 10, Bytes: 4 << 20, TotalBytes: 4 << 20}, time.Second, "hashing: 10 of 10 files, 4.0 MiB of 4.0 MiB (100 %), 4.0 MiB/s"},
		{bundle.Progress{Files: 1, TotalFiles: 10, Bytes: 4 << 30, TotalBytes: 4 << 40}, time.Second, "hashing: 1 of 10 files, 4.00 GiB of 4096.00 GiB (0 %), 4.00 GiB/s, 17m3s left"},
	} {
		if got := hashed(c.now, c.took); got != c.want {
			t.Errorf("got  %q\nwant %q", got, c.want)
		}
	}
}

func TestNewPasswordIsAskedForTwice(t *testing.T) {
	r := atTerminal(t, nil, "signer", "redeem", "--server", "localhost:1", "--user", "ada")
	r.Expect("One-time code: ")
	r.Enter("ABCD\n")
	r.Expect(accountability[:20])
	r.Expect(`Type "yes" to acknowledge: `)
	r.Enter("yes\n")
	r.Expect("New password: ")
	r.Enter("one\n")
	r.Expect("The same again: ")
	r.Enter("two\n")
	if code, shown := r.End(); code != exitUsage || !strings.Contains(shown, "do not match") {
		t.Errorf("exit code %d, shown %q", code, shown)
	}
}
