//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// terminalRun is a run of signetd at a terminal of its own.
type terminalRun struct {
	t        *testing.T
	terminal *os.File // the person's side
	line     *os.File // the program's side
	cmd      *exec.Cmd
	seen     strings.Builder
}

func atTerminal(t *testing.T, args ...string) *terminalRun {
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
	c := signetd(t.Context(), args...)
	c.Stdin, c.Stdout, c.Stderr = line, line, line
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return &terminalRun{t: t, terminal: terminal, line: line, cmd: c}
}

// expect reads until a text is shown that was not shown before.
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

// answer types a line where it is asked for.
func (r *terminalRun) answer(prompt, text string) {
	r.t.Helper()
	r.expect(prompt)
	if _, err := io.WriteString(r.terminal, text+"\n"); err != nil {
		r.t.Fatal(err)
	}
}

// end waits for the program and returns its exit code and all that was shown.
func (r *terminalRun) end() (code int, shown string) {
	r.t.Helper()
	r.line.Close()
	rest, _ := io.ReadAll(r.terminal) // ends with an error when nobody has the line open any more
	err := r.cmd.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		r.t.Fatal(err)
	}
	return r.cmd.ProcessState.ExitCode(), r.seen.String() + string(rest)
}

// TestLedgerRestoreAtATerminal: two people type user names, passwords and reasons; a slip can be corrected, no password is shown, and nothing
// happens before both have agreed and it was confirmed.
func TestLedgerRestoreAtATerminal(t *testing.T) {
	t.Attr("requirement", "11.10(e)")
	s := initService(t)
	c := s.serve()
	s.enrol()
	s.secondAdministrator()
	s.stop(c)
	path := filepath.Join(s.data, "ledger.db")
	yesterday, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c = s.serve()
	s.login(s.dial(), "ada")
	s.stop(c)
	if err := os.WriteFile(path, yesterday, 0o600); err != nil {
		t.Fatal(err)
	}
	both := func() *terminalRun {
		r := atTerminal(t, "ledger", "restore", "--accept-loss", "--config", s.config())
		r.expect("Missing: ")
		r.expect("Administrator 1 of 2")
		r.answer("User name: ", "grace")
		r.answer("Password: ", "not the password of grace")
		r.answer("Why is the loss accepted? ", "the disk is lost")
		r.expect("Once more.")
		r.answer("User name: ", "grace")
		r.answer("Password: ", password)
		r.answer("Why is the loss accepted? ", "the disk is lost")
		r.expect("Grace Hopper agrees.")
		r.expect("Administrator 2 of 2")
		r.answer("User name: ", "eve")
		r.answer("Password: ", password)
		r.answer("Why is the loss accepted? ", "no newer backup is readable")
		r.expect("Eve Security agrees.")
		return r
	}
	r := atTerminal(t, "ledger", "restore", "--accept-loss", "--config", s.config())
	r.answer("User name: ", "grace")
	r.expect("Password: ")
	if _, err := io.WriteString(r.terminal, "half a pass\x03"); err != nil { // Ctrl-C
		t.Fatal(err)
	}
	if code, shown := r.end(); code != 1 || !strings.Contains(shown, "nothing was entered") || strings.Contains(shown, "half") {
		t.Fatalf("%d: %s", code, shown)
	}
	r = both()
	r.answer("to go on: ", "yes")
	if code, shown := r.end(); code != 5 || !strings.Contains(shown, "nothing was changed") {
		t.Fatalf("%d: %s", code, shown)
	}
	r = both()
	r.answer("to go on: ", "accept the loss")
	code, shown := r.end()
	if code != 0 || !strings.Contains(shown, "The loss is accepted: entry ") {
		t.Fatalf("%d: %s", code, shown)
	}
	if strings.Contains(shown, password) || strings.Contains(shown, "not the password") {
		t.Errorf("a password is shown: %s", shown)
	}
	c = s.serve()
	s.stop(c)
}
