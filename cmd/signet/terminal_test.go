//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/signetd/signet/api/bundle"
)

// terminalRun is a run of signet at a terminal of its own.
type terminalRun struct {
	t        *testing.T
	terminal *os.File // the person's side
	line     *os.File // the program's side
	cmd      *exec.Cmd
	seen     strings.Builder
}

// atTerminal starts signet with standard input, output and error at a new pseudo-terminal.
func atTerminal(t *testing.T, env []string, args ...string) *terminalRun {
	t.Helper()
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatalf("a pseudo-terminal is needed: %v", err)
	}
	t.Cleanup(func() { terminal.Close() })
	if err := unix.IoctlSetPointerInt(int(terminal.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(terminal.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	line, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { line.Close() })
	cmd := exec.CommandContext(t.Context(), filepath.Join(program(t), "signet"), args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = line, line, line
	cmd.Env = append([]string{"SIGNET_CONFIG_DIR=" + t.TempDir(), "TERM=xterm", "PATH=" + os.Getenv("PATH")}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &terminalRun{t: t, terminal: terminal, line: line, cmd: cmd}
}

// expect reads until a text was shown.
func (r *terminalRun) expect(text string) {
	r.t.Helper()
	from := r.seen.Len()
	b := make([]byte, 1)
	for !strings.Contains(r.seen.String()[from:], text) {
		if _, err := r.terminal.Read(b); err != nil {
			r.t.Fatalf("%q was never shown, only %q: %v", text, r.seen.String(), err)
		}
		r.seen.WriteByte(b[0])
	}
}

// enter types.
func (r *terminalRun) enter(text string) {
	r.t.Helper()
	if _, err := io.WriteString(r.terminal, text); err != nil {
		r.t.Fatal(err)
	}
}

// end waits for the program and returns its exit code and everything that was shown.
func (r *terminalRun) end() (code int, shown string) {
	r.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 4096)
		for { // ends when the program's side is closed
			n, err := r.terminal.Read(b)
			r.seen.Write(b[:n])
			if err != nil {
				return
			}
		}
	}()
	_ = r.cmd.Wait()
	r.line.Close()
	<-done
	return r.cmd.ProcessState.ExitCode(), r.seen.String()
}

// echoes reports whether the terminal shows what is typed.
func (r *terminalRun) echoes() bool {
	r.t.Helper()
	state, err := unix.IoctlGetTermios(int(r.line.Fd()), unix.TCGETS)
	if err != nil {
		r.t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

func TestPasswordIsNotShown(t *testing.T) {
	r := atTerminal(t, nil, "login", "--server", "localhost:1")
	r.expect("User name: ")
	r.enter("ada\n")
	r.expect("Password: ")
	if r.echoes() {
		t.Error("the terminal shows what is typed")
	}
	r.enter("hunter2\n")
	code, shown := r.end()
	if code != exitInternal || !strings.Contains(shown, "UNREACHABLE") {
		t.Errorf("exit code %d after %q", code, shown)
	}
	if !strings.Contains(shown, "ada") || strings.Contains(shown, "hunter2") {
		t.Errorf("shown: %q", shown)
	}
}

func TestInterruptRestoresTheTerminal(t *testing.T) {
	r := atTerminal(t, nil, "login", "--server", "localhost:1", "--user", "ada")
	r.expect("Password: ")
	r.enter("hunt\x03") // Ctrl-C
	if err := r.cmd.Wait(); err == nil {
		t.Error("it went on after Ctrl-C")
	}
	if code := r.cmd.ProcessState.ExitCode(); code != exitInternal {
		t.Errorf("exit code %d", code)
	}
	if !r.echoes() {
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
		code, shown := r.end()
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
	code, shown := atTerminal(t, nil, args...).end()
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
	r.expect("One-time code: ")
	r.enter("ABCD\n")
	r.expect(accountability[:20])
	r.expect(`Type "yes" to acknowledge: `)
	r.enter("yes\n")
	r.expect("New password: ")
	r.enter("one\n")
	r.expect("The same again: ")
	r.enter("two\n")
	if code, shown := r.end(); code != exitUsage || !strings.Contains(shown, "do not match") {
		t.Errorf("exit code %d, shown %q", code, shown)
	}
}

func TestTyped(t *testing.T) {
	for keys, want := range map[string]string{
		"secret\r": "secret", "secret\n": "secret", "sex\x7fcret\r": "secret", "se\u00e4\bcret\r": "secret", "wrong\x15right\r": "right", "\x7f\x7fa\r": "a",
		"a\x04b\r": "ab", "abc\x03": "context canceled", "\x04": "unexpected EOF", "abc": "EOF", "12345678901\r": "longer than 10 bytes",
	} {
		line, err := typed(strings.NewReader(keys), 10)
		got := string(line)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q gives %q, want %q", keys, got, want)
		}
	}
}
