//go:build linux

// Package terminaltest runs a program at a pseudo-terminal, as a person does.
package terminaltest

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Run is a run of a program at a terminal of its own.
type Run struct {
	t        testing.TB
	terminal *os.File // the person's side
	line     *os.File // the program's side
	cmd      *exec.Cmd
	seen     strings.Builder
}

// Start starts a program with standard input, output and error at a new pseudo-terminal.
func Start(t testing.TB, cmd *exec.Cmd) *Run {
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
	cmd.Stdin, cmd.Stdout, cmd.Stderr = line, line, line
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &Run{t: t, terminal: terminal, line: line, cmd: cmd}
}

// Expect reads until a text is shown that was not shown before.
func (r *Run) Expect(text string) {
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

// Enter types.
func (r *Run) Enter(text string) {
	r.t.Helper()
	if _, err := io.WriteString(r.terminal, text); err != nil {
		r.t.Fatal(err)
	}
}

// Answer types a line where it is asked for.
func (r *Run) Answer(prompt, text string) {
	r.t.Helper()
	r.Expect(prompt)
	r.Enter(text + "\n")
}

// Echoes reports whether the terminal shows what is typed.
func (r *Run) Echoes() bool {
	r.t.Helper()
	state, err := unix.IoctlGetTermios(int(r.line.Fd()), unix.TCGETS)
	if err != nil {
		r.t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// Wait waits for the program and returns its exit code.
func (r *Run) Wait() int {
	_ = r.cmd.Wait()
	return r.cmd.ProcessState.ExitCode()
}

// End waits for the program and returns its exit code and everything that was shown.
func (r *Run) End() (code int, shown string) {
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
	code = r.Wait()
	r.line.Close()
	<-done
	return code, r.seen.String()
}
